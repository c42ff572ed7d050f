"""One AU of a replay, and the queue in which it waits until it is known what follows it."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from api.replay.extension import CLEAN
from api.replay.index import Aus
from recorder.base.media import SampleEntry


@dataclass(slots=True)
class Shot:
    """An AU to be sent: where it lies, its coding, UTC, native ticks, when it is wanted, and the extension's `flags`.

    `anew`: what came before on the wire does not lead up to it.
    """

    place: int
    offset: int
    size: int
    entry: SampleEntry
    wall_ns: int
    due_ns: int
    pts: int
    key: bool
    flags: int
    anew: bool = False


def shots(aus: Aus) -> Iterator[Shot]:
    """The AUs one by one."""
    columns = (aus.offset, aus.size, aus.coded, aus.wall_ns, aus.due_ns, aus.pts, aus.key)
    for offset, size, coded, wall_ns, due_ns, pts, key in zip(*(column.tolist() for column in columns), strict=True):
        yield Shot(aus.place, offset, size, aus.entries[coded], wall_ns, due_ns, pts, key, CLEAN if key else 0)


@dataclass(slots=True)
class Line:
    """Shots in order. The last one is held back until there is another, or nothing comes that belongs to the same section: only then are its
    flags known."""

    ready: deque[Shot] = field(default_factory=deque)
    held: Shot | None = None

    def push(self, shot: Shot) -> None:
        """One more."""
        if self.held is not None:
            self.ready.append(self.held)
        self.held = shot

    def close(self, flags: int) -> None:
        """The last one, if it has not gone yet, gets these flags, and goes."""
        if self.held is not None:
            self.held.flags |= flags
            self.ready.append(self.held)
            self.held = None

    def clear(self) -> None:
        """Forget what has not gone."""
        self.ready.clear()
        self.held = None
