"""Who asks, and what they may: bearer tokens, browser sessions, signed URLs, and nobody at all on loopback.

A token is `wr_` and 256 bits of base64url; the catalogue holds its SHA-256. A session cookie and a signed URL name the token by its
number and are sealed with a key that only this site has, so revoking the token ends them as well: each use, and every second of a long answer
(`Grant.alive`), asks the registry, which follows the catalogue.
"""

import enum
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from api.registry import Registry
from recorder.base.clock import Clock
from recorder.base.errors import NotFound, Refused
from recorder.base.media import NS
from storage.camera_record import CameraRecord, TokenRecord

TOKEN_PATTERN = re.compile(r"wr_[A-Za-z0-9_-]{43}")
SESSION_S = 30 * 86_400
SESSION_PATTERN = re.compile(r"([0-9]{1,18})\.([0-9]{1,12})\.([0-9a-f]{64})")
LINK_S = 7 * 86_400
NUMBER = re.compile(r"[0-9]{1,12}")


class Scope(enum.StrEnum):
    """What a token may do; `admin` includes the others. `publish:<camera>` is a scope as well, for the routes that take pictures in."""

    VIEW = "view"
    EXPORT = "export"
    HOLD = "hold"
    ADMIN = "admin"
    METRICS = "metrics"


def digest(text: str) -> bytes:
    """SHA-256 of a token, as it lies at rest. A fast hash is enough: there are 256 bits to guess."""
    return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True, slots=True)
class Grant:
    """What one request may do. `token` None: nobody in particular, on loopback; may do everything."""

    token: TokenRecord | None
    means: str  # bearer, digest, cookie, signed, local
    until_ns: int = 0
    still: Callable[[], bool] = field(default=lambda: True, repr=False)

    @property
    def holder(self) -> str:
        """The token's number for logs and limits, `local` without one."""
        return f"token {self.token.number}" if self.token else "local"

    def may(self, scopes: frozenset[Scope]) -> bool:
        """True if any of the scopes is granted."""
        return self.token is None or any(self.token.allows(scope) for scope in scopes)

    def require(self, scopes: frozenset[Scope]) -> None:
        """Refused unless any of the scopes is granted."""
        if not self.may(scopes):
            raise Refused("this token may not do that", remedy="it needs the scope " + " or ".join(sorted(scopes)))

    def reaches(self, camera: CameraRecord) -> bool:
        """True if the camera lies within reach; those outside do not exist for the holder."""
        return self.token is None or self.token.sees(camera.id, camera.config.partner)

    def unbounded(self) -> bool:
        """True if every camera is within reach: what adding cameras takes."""
        return self.token is None or not (self.token.cameras or self.token.partner)

    def alive(self) -> bool:
        """False once the token was revoked or has run out: long answers ask at least every few seconds and then end."""
        return self.still()


class Authority:
    """Checks what requests bring against the registry. `key` seals sessions and signed URLs; `open_door`: loopback needs no token."""

    def __init__(self, registry: Registry, clock: Clock, key: bytes, *, open_door: bool) -> None:
        self._registry = registry
        self._clock = clock
        self._key = key
        self.open_door = open_door

    def bearer(self, text: str) -> Grant | None:
        """The grant of a token's text."""
        token = self._registry.token_by_digest(digest(text)) if TOKEN_PATTERN.fullmatch(text) else None
        return self._grant(token, "bearer", 0)

    def token_that(self, holds: Callable[[TokenRecord], bool], *, first: int = 0) -> Grant | None:
        """The grant of the valid token of which `holds` is true; the one of number `first` is asked about first."""
        now_ns = self._clock.wall_ns()
        for token in sorted(self._registry.tokens(), key=lambda token: token.number != first):
            if token.valid(now_ns) and holds(token):
                return self._grant(token, "digest", 0)
        return None

    def nobody(self) -> Grant | None:
        """The grant of a request without credentials."""
        return Grant(None, "local") if self.open_door else None

    def session(self, grant: Grant) -> tuple[str, int]:
        """A cookie's value for the grant's token, and its life in seconds."""
        now_s = self._clock.wall_ns() // NS
        token = _token(grant)
        life_s = SESSION_S if token.expires_ns == 0 else min(SESSION_S, token.expires_ns // NS - now_s)
        head = f"{token.number}.{now_s + life_s}"
        return f"{head}.{self._seal('session', head)}", life_s

    def cookie(self, text: str) -> Grant | None:
        """The grant of a session cookie."""
        found = SESSION_PATTERN.fullmatch(text)
        if found is None or not hmac.compare_digest(self._seal("session", f"{found[1]}.{found[2]}"), found[3]):
            return None
        return self._grant(self._registry.token(int(found[1])), "cookie", int(found[2]) * NS)

    def sign(self, grant: Grant, target: str, until_s: int) -> dict[str, str]:
        """The parameters that make a signed URL of `target` (path and canonical query); never beyond the token's own life."""
        kid = str(_token(grant).number)
        return {"kid": kid, "exp": str(until_s), "sig": self._seal("link", f"{kid}.{until_s}.{target}")}

    def signed(self, target: str, kid: str, exp: str, sig: str) -> Grant | None:
        """The grant of a signed URL."""
        if not (NUMBER.fullmatch(exp) and NUMBER.fullmatch(kid) and sig.isascii()):
            return None
        if not hmac.compare_digest(self._seal("link", f"{kid}.{exp}.{target}"), sig):
            return None
        return self._grant(self._registry.token(int(kid)), "signed", int(exp) * NS)

    def _seal(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"{purpose}\n{text}".encode(), hashlib.sha256).hexdigest()

    def _grant(self, token: TokenRecord | None, means: str, until_ns: int) -> Grant | None:
        if token is None:
            return None
        grant = Grant(token, means, until_ns, lambda: self._alive(token.number, token.sha256, until_ns))
        return grant if grant.alive() else None

    def _alive(self, number: int, sha256: bytes, until_ns: int) -> bool:
        now = self._registry.token(number)
        wall_ns = self._clock.wall_ns()
        return now is not None and now.sha256 == sha256 and now.valid(wall_ns) and (until_ns == 0 or wall_ns < until_ns)


def _token(grant: Grant) -> TokenRecord:
    if grant.token is None:
        raise Refused("there is no token here to act for", remedy="send one with Authorization: Bearer")
    return grant.token


def within_reach(grant: Grant, registry: Registry, camera_id: str) -> CameraRecord:
    """The camera that bears the id, if the grant reaches it; else NotFound, the same in both cases."""
    camera = registry.camera(camera_id)
    if camera is None or not grant.reaches(camera):
        raise NotFound("there is no such camera")
    return camera
