"""What the API knows of cameras and tokens: a snapshot of the catalogue, replaced whole when the catalogue changes."""

import time
from collections.abc import Awaitable, Callable, Iterable

from recorder.base.config import SiteConfig
from recorder.base.rulebook import Member, RuleBook, rule_book
from storage.camera_record import CameraRecord, TokenRecord

STALE_S = 0.25


class Registry:
    """The newest snapshot; lookups never touch a disk. Only the event loop's thread uses it, unless a method says otherwise."""

    def __init__(self) -> None:
        self.loaded = False  # True once the catalogue has been read
        self._asked_s = 0.0
        self._refresh: Callable[[], Awaitable[None]] | None = None
        self._cameras: dict[str, CameraRecord] = {}
        self._numbers: dict[int, CameraRecord] = {}
        self._ever: tuple[CameraRecord, ...] = ()
        self._rules: tuple[tuple[CameraRecord, ...], RuleBook] | None = None
        self._tokens: dict[int, TokenRecord] = {}
        self._digests: dict[bytes, TokenRecord] = {}

    def source(self, refresh: Callable[[], Awaitable[None]]) -> None:
        """Say how to read the catalogue anew."""
        self._refresh = refresh

    async def refresh(self) -> None:
        """Read the catalogue now instead of within a second: after a change of one's own."""
        if self._refresh is not None:
            await self._refresh()

    async def refresh_if_stale(self) -> bool:
        """Read the catalogue unless that was done a moment ago: for a token that is not known, but may have been made just now."""
        now_s = time.monotonic()
        if self._refresh is None or now_s - self._asked_s < STALE_S:
            return False
        self._asked_s = now_s
        await self._refresh()
        return True

    def replace(self, cameras: Iterable[CameraRecord], tokens: Iterable[TokenRecord]) -> None:
        """Everything at once: a reader never sees half a change."""
        self.loaded = True
        self._ever = tuple(sorted(cameras, key=lambda camera: (camera.id, camera.number)))
        self._cameras = {camera.id: camera for camera in self._ever if camera.removed_ns is None}
        self._numbers = {camera.number: camera for camera in self._cameras.values()}
        self._tokens = {token.number: token for token in tokens}
        self._digests = {token.sha256: token for token in self._tokens.values()}

    def cameras(self) -> tuple[CameraRecord, ...]:
        """All cameras by id."""
        return tuple(self._cameras.values())

    def ever(self) -> tuple[CameraRecord, ...]:
        """All cameras by id, removed ones too: some of their footage may be there, or in the ledger."""
        return self._ever

    def rules(self, site: SiteConfig) -> RuleBook:
        """The rules of all cameras; the same object until the catalogue changes. Any thread."""
        ever, made = self._ever, self._rules
        if made is None or made[0] is not ever:
            made = self._rules = (ever, rule_book(site, [Member.of(camera.number, camera.config) for camera in ever]))
        return made[1]

    def camera(self, camera_id: str) -> CameraRecord | None:
        """The camera that bears the id now."""
        return self._cameras.get(camera_id)

    def camera_by_number(self, number: int) -> CameraRecord | None:
        """The camera of this number, unless it has been removed."""
        return self._numbers.get(number)

    def tokens(self) -> tuple[TokenRecord, ...]:
        """All tokens, expired and revoked ones as well."""
        return tuple(self._tokens.values())

    def token(self, number: int) -> TokenRecord | None:
        """The token of this number."""
        return self._tokens.get(number)

    def token_by_digest(self, digest: bytes) -> TokenRecord | None:
        """The token with this SHA-256."""
        return self._digests.get(digest)
