"""Errors that are the disk's: what was asked for may be there, but it cannot be read. Which tapes gave such errors, for those who tell."""

import errno
import logging
import threading
import time
from collections import Counter
from pathlib import Path

# ENOTCONN is a FUSE file system whose server has gone, EUCLEAN and EBADMSG what ext4 and XFS say of their own damaged structures
DISK_ERRORS = frozenset((errno.EIO, errno.ENXIO, errno.ENODEV, errno.ENOTCONN, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.EUCLEAN,
                         errno.EBADMSG))
WELL_NS = 60_000_000_000        # without an error since then a tape counts as well again
Tape = tuple[int, int, str]     # the place of its volume, its camera, its track

log = logging.getLogger(__name__)


def sick(error: BaseException | None) -> bool:
    """True if the error tells of a disk that cannot be read, not of a file that is not there or not ours."""
    return isinstance(error, OSError) and error.errno in DISK_ERRORS


class SickTapes:
    """The tapes that could not be read lately, of all stores of a process; any thread. Each is in the log once until it is well again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_ns: dict[Tape, int] = {}
        self._told: set[int] = set()
        self.errors: Counter[int] = Counter()       # by place, since the start

    def add(self, tape: Tape, volume: Path, error: OSError) -> None:
        """The disk could not read the tape."""
        now_ns = time.monotonic_ns()
        with self._lock:
            known = now_ns - self._last_ns.get(tape, -WELL_NS) < WELL_NS
            self._last_ns[tape] = now_ns
            self.errors[tape[0]] += 1
        if not known:
            log.warning("cam-%d/%s: its tape on the volume %s cannot be read: %s", tape[1], tape[2], volume, error.strerror or error)

    def now(self) -> Counter[int]:
        """How many tapes of each place could not be read within the last minute."""
        now_ns = time.monotonic_ns()
        with self._lock:
            self._last_ns = {tape: at_ns for tape, at_ns in self._last_ns.items() if now_ns - at_ns < WELL_NS}
            return Counter(place for place, _, _ in self._last_ns)

    def of(self, camera: int, name: str) -> tuple[int, ...]:
        """The places where the track could not be read within the last minute."""
        self.now()
        with self._lock:
            return tuple(sorted(place for place, number, track in self._last_ns if (number, track) == (camera, name)))

    def news(self) -> list[tuple[int, int]]:
        """(place, tapes) of volumes on which tapes have become unreadable since the last call, or (0 tapes) none is any more."""
        found = self.now()
        changed = [(place, found[place]) for place in sorted(found.keys() ^ self._told)]
        self._told = set(found)
        return changed
