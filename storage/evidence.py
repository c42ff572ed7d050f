"""What a track's log keeps about clocks: the camera's sender reports and the steps of our own clock. Evidence; footage is placed by neither."""

import os
from bisect import bisect_left
from dataclasses import dataclass

from recorder.base.media import SenderReport
from storage.items import ITEM_HEAD, ClockEpoch, Kind, decode

READ_BYTES = 1 << 20
_KINDS = frozenset({Kind.CLOCK_EPOCH, Kind.SENDER_REPORT})


@dataclass(frozen=True, slots=True)
class Evidence:
    """Sender reports that arrived, and steps of our clock that were seen, in a range; each in the order of the log."""

    reports: tuple[SenderReport, ...] = ()
    epochs: tuple[ClockEpoch, ...] = ()

    def camera_time_ns(self, wall_ns: int) -> int | None:
        """What the camera's own clock showed at `wall_ns`, by the report that arrived nearest to it; None if there is none.

        It is off by the way of that report through the network, and by the drift since.
        """
        found = sorted(self.reports, key=lambda report: report.arrival_ns)
        at = bisect_left(found, wall_ns, key=lambda report: report.arrival_ns)
        near = min(found[max(at - 1, 0):at + 1], key=lambda report: abs(report.arrival_ns - wall_ns), default=None)
        return None if near is None else wall_ns + near.ntp_ns - near.arrival_ns


def read(volume_fd: int, path: str, size: int | None, start_ns: int, end_ns: int) -> Evidence:
    """The evidence of [start, end) in the first `size` bytes of a log (None: all of it); empty if there is no log. Raises FormatError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=volume_fd)
    except FileNotFoundError:
        return Evidence()
    reports: list[SenderReport] = []
    epochs: list[ClockEpoch] = []
    try:
        at, limit = 0, os.fstat(fd).st_size if size is None else size
        while at < limit:
            found, used = items_of(os.pread(fd, min(READ_BYTES, limit - at), at), _KINDS)
            if not used:
                break
            at += used
            for item in decode(found, where=path):
                if isinstance(item, SenderReport) and start_ns <= item.arrival_ns < end_ns:
                    reports.append(item)
                elif isinstance(item, ClockEpoch) and start_ns <= item.wall_ns < end_ns:
                    epochs.append(item)
    finally:
        os.close(fd)
    return Evidence(tuple(reports), tuple(epochs))


def items_of(block: bytes, kinds: frozenset[Kind]) -> tuple[bytes, int]:
    """The whole items of some kinds, joined, and the bytes that all whole items before the first zero one take."""
    wanted, at = [], 0
    while at + ITEM_HEAD.size <= len(block):
        kind, _, size = ITEM_HEAD.unpack_from(block, at)
        after = at + ITEM_HEAD.size + size + (-size % 8)
        if kind == 0 or after > len(block):
            break
        if kind in kinds:
            wanted.append(block[at:after])
        at = after
    return b"".join(wanted), at
