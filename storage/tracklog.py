"""A track's .log, read side: sample entries, sessions and gaps, kept parsed and read on from where the last look ended."""

import os
import threading
from dataclasses import dataclass, field

from recorder.base.errors import FormatError
from recorder.base.media import Gap, GapCause, SampleEntry, Session
from storage import evidence
from storage.items import ITEM_HEAD, GapClose, GapOpen, Item, Kind, SampleEntryItem, SessionEnd, SessionStart, TailMove, decode

_WANTED = frozenset({Kind.SAMPLE_ENTRY, Kind.SESSION_START, Kind.SESSION_END, Kind.GAP_OPEN, Kind.GAP_CLOSE,
                     Kind.TAIL_MOVE})
READ_BYTES = 1 << 20
LOG_MAX_BYTES = 1 << 30


@dataclass(slots=True)
class Facts:
    """What items of a track add up to; `add` takes them in order, a repeated one changes nothing."""

    sample_entries: dict[int, SampleEntry] = field(default_factory=dict)
    sessions: dict[int, Session] = field(default_factory=dict)
    gaps: dict[int, Gap] = field(default_factory=dict)       # by start_ns
    tail: tuple[int, int] = (0, 0)                           # row and tape offset below which nothing may be read

    def add(self, item: Item) -> None:
        """Take one item in."""
        if isinstance(item, SampleEntryItem):
            self.sample_entries[item.number] = item.entry
        elif isinstance(item, SessionStart):
            self.sessions.setdefault(item.session, Session(item.session, item.start_ns, None, item.transport))
        elif isinstance(item, SessionEnd):
            start = self.sessions.get(item.session, Session(item.session, item.end_ns, None))
            self.sessions[item.session] = Session(item.session, start.start_ns, item.end_ns, start.transport, item.reason)
        elif isinstance(item, GapOpen):
            have = self.gaps.get(item.start_ns)
            self.gaps[item.start_ns] = Gap(item.start_ns, have.end_ns if have else None, item.cause, item.detail)
        elif isinstance(item, GapClose):
            have = self.gaps.get(item.start_ns, Gap(item.start_ns, None, GapCause.CRASH))
            self.gaps[item.start_ns] = Gap(have.start_ns, item.end_ns, have.cause, have.detail)
        elif isinstance(item, TailMove):
            self.tail = max(self.tail, (item.row, item.offset))

    def gap_list(self) -> list[Gap]:
        """Gaps by start; one that was never closed ends where the next begins."""
        found = [gap for start, gap in sorted(self.gaps.items()) if gap.end_ns != start]      # a gap may have ended where it began
        return [gap if gap.end_ns is not None or after is None else Gap(gap.start_ns, after.start_ns, gap.cause, gap.detail)
                for gap, after in zip(found, [*found[1:], None], strict=False)]


class TrackLog:
    """Follows one .log. `facts(size)` returns what its first `size` bytes say; the file may be replaced by a shorter one meanwhile."""

    def __init__(self, volume_fd: int, path: str) -> None:
        self._volume_fd, self._path = volume_fd, path
        self._identity: tuple[int, int] | None = None
        self._parsed = 0
        self._facts = Facts()
        self._lock = threading.Lock()       # a lease asks from another thread

    @property
    def parsed(self) -> int:
        """Bytes of the log that have been read and hold together."""
        return self._parsed

    @property
    def so_far(self) -> Facts:
        """What those say."""
        return self._facts

    def close(self) -> None:
        """Follow it no more: its volume's descriptor is closed."""
        self._volume_fd = -1

    def facts(self, size: int | None) -> Facts:
        """Everything up to `size` bytes (None: up to the end of the valid items). Empty if there is no log. Raises FormatError."""
        with self._lock:
            return self._follow(size)

    def _follow(self, size: int | None) -> Facts:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._volume_fd)
        except FileNotFoundError:
            return self._facts
        try:
            stat = os.fstat(fd)
            identity = (stat.st_dev, stat.st_ino)
            limit = min(stat.st_size if size is None else size, stat.st_size, LOG_MAX_BYTES)
            if identity != self._identity or limit < self._parsed:
                self._identity, self._parsed, self._facts = identity, 0, Facts()
            while self._parsed < limit and self._take(fd, limit):
                pass
        finally:
            os.close(fd)
        return self._facts

    def evidence(self, size: int | None, start_ns: int, end_ns: int) -> evidence.Evidence:
        """Sender reports and steps of our clock in [start, end): read anew each time, since nobody needs them often."""
        return evidence.read(self._volume_fd, self._path, size, start_ns, end_ns)

    def _take(self, fd: int, limit: int) -> bool:
        """Parse one block; False where the valid items end."""
        block = os.pread(fd, min(READ_BYTES, limit - self._parsed), self._parsed)
        wanted, used = split_items(block)
        if used == 0 and len(block) == READ_BYTES and any(block[:ITEM_HEAD.size]):
            raise FormatError("an item is longer than a log's may be", where=f"{self._path} at {self._parsed}", remedy="run watchroom check")
        for item in decode(wanted, where=self._path):
            self._facts.add(item)
        self._parsed += used
        return used > 0


def split_items(block: bytes) -> tuple[bytes, int]:
    """The whole items of the kinds that `Facts` takes, joined, and the bytes that all whole items before the first zero one take."""
    return evidence.items_of(block, _WANTED)
