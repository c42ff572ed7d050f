"""A worker's rule book, as each of its slots sees it; and what tracks have in other slots, for rules that count bytes over several."""

import contextlib
from collections.abc import Collection, Sequence
from pathlib import Path

from recorder.base.errors import NotFound, WatchroomError
from recorder.base.rulebook import RuleBook
from storage.reader import TrackReader
from storage.retention import Usage
from storage.store import TapeStore


class SiteRules:
    """The book that `tell` was given last; until then nothing goes by rule: an old journal's rule may be shorter than today's."""

    def __init__(self, volumes: Sequence[Path], live_dir: Path) -> None:
        self.volumes, self.live_dir = tuple(volumes), live_dir
        self.book: RuleBook | None = None

    def follow(self, volumes: Sequence[Path]) -> None:
        """The site's volumes are these now. Any thread."""
        self.volumes = tuple(volumes)

    def tell(self, book: RuleBook) -> None:
        """Go by this book from now on. Any thread."""
        self.book = book

    def of_slot(self, volume: Path) -> "SlotRules":
        """The rules of a slot that lies on `volume`."""
        return SlotRules(self, volume)


class SlotRules:
    """One slot's view (storage.retainer.Rules). For the slot's keeper; `close` when that has ended."""

    def __init__(self, site: SiteRules, volume: Path) -> None:
        self._site, self._volume = site, volume
        self._store: TapeStore | None = None

    def book(self) -> RuleBook | None:
        """The site's rules, None while they are not known."""
        return self._site.book

    def elsewhere(self, cameras: Collection[int], own: Collection[tuple[int, str]]) -> list[Usage] | None:
        """What tracks of these cameras have besides the slot's `own` tapes; None if a volume does not answer. Reads files."""
        asked = set(cameras) - {camera for camera, _ in own} if len(self._site.volumes) == 1 else set(cameras)
        try:
            return [usage for camera in sorted(asked) for usage in self._of(camera, own)]
        except (WatchroomError, OSError):
            self.close()
            return None

    def _of(self, camera: int, own: Collection[tuple[int, str]]) -> list[Usage]:
        store = self._opened()
        found: list[Usage] = []
        for name in store.tracks(camera):
            with contextlib.suppress(NotFound):
                tapes = store.tapes(camera, name)
                found += [usage_of(tape) for tape in tapes if (camera, name) not in own or tape.volume != self._volume]
        return found

    def _opened(self) -> TapeStore:
        if self._store is not None and self._store.volumes() != self._site.volumes:
            self.close()
        if self._store is None:
            self._store = TapeStore(self._site.volumes, self._site.live_dir)
        return self._store

    def close(self) -> None:
        """Close what was opened for reading."""
        if self._store is not None:
            self._store.close()
            self._store = None


def usage_of(tape: TrackReader) -> Usage:
    """What a tape has on its volume."""
    edges, size = tape.edges(), tape.chunk_class.tape_bytes
    count = -(-edges.visible_offset // size) - edges.tail_offset // size
    return Usage(tape.camera, tape.name, max(0, count) * tape.chunk_class.file_bytes, edges.first_ns)
