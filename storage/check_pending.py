"""What a recorder had under way when it ended, as far as the check must know: chunks being closed, files being taken from the pool.

The journal decides, read as a start reads it: its last record is not believed, since what it speaks of may not have reached the disk.
"""

from pathlib import Path

from recorder.base.errors import FormatError, VolumeError
from storage.chunkfile import parse_head
from storage.finding import Finding, warning
from storage.journal import Journal
from storage.numbered import slot_number
from storage.replay import Found, Replay
from storage.volume import Volume

CLOSING = "its recorder ended while it closed the chunk: not all of that reached the disk, and the journal does not count it as closed"
CLOSE_AGAIN = "start the recorder once, it closes the chunk again"
TAKING = "its recorder ended while it took this file from the pool: nothing was recorded in it"
TAKE_BACK = "start the recorder once, it takes the file back"


class Pending:
    """The journals of the volume at `path`; they are read when something is asked for the first time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tapes: dict[tuple[int, str], Found] | None = None

    def closing(self, camera: int, track: str, chunk: int, where: str) -> list[Finding]:
        """The finding that stands for all that is wrong with the end of this chunk; none if its close was durable."""
        found = self._found(camera, track)
        return [warning(where, CLOSING, CLOSE_AGAIN)] if found is not None and chunk in found.chunks else []

    def taking(self, camera: int, track: str, chunk: int, page: bytes, where: str) -> list[Finding]:
        """The finding about a file of the pool in this chunk's place, of which `page` is the first page; none if the journal counts on it."""
        found = self._found(camera, track)
        return [] if found is None or chunk <= _newest(found) or not _free(page) else [warning(where, TAKING, TAKE_BACK)]

    def footage(self) -> list[tuple[int, str]]:
        """Camera and name of every tape that has rows in sight."""
        tapes = self._all()
        return sorted(key for key, found in tapes.items() if found.state.next_row > found.state.tail_row)

    def _found(self, camera: int, track: str) -> Found | None:
        return self._all().get((camera, track))

    def _all(self) -> dict[tuple[int, str], Found]:
        if self._tapes is None:
            self._tapes = _tapes(self._path)
        return self._tapes


def _newest(found: Found) -> int:
    """The newest chunk that a start would give the tape."""
    return max(-(-found.state.tape_end // found.chunk_class.tape_bytes) - 1, *found.chunks, -1)


def _free(page: bytes) -> bool:
    """True if the page is that of a file of the pool, or of one that nothing has been written to."""
    try:
        return not any(page) or parse_head(page, "pool").camera == 0
    except FormatError:
        return False


def _tapes(path: Path) -> dict[tuple[int, str], Found]:
    """What a start would make of the journals; tapes of a journal that it refuses are not there."""
    found: dict[tuple[int, str], Found] = {}
    try:
        volume = Volume.open(path, on_root=True, lock=False)
    except VolumeError:
        return found
    try:
        for name in volume.list_dir("."):
            number = slot_number(name)
            if number is not None:
                found |= {(tape.ident.camera, tape.ident.name): tape for tape in _replayed(volume, number)}
    finally:
        volume.close()
    return found


def _replayed(volume: Volume, slot: int) -> list[Found]:
    replay, last = Replay(), None
    try:
        for record in Journal(volume, slot).records():
            if last is not None:
                replay.apply(last.segment, last.items)
            last = record
        replay.settle()
    except FormatError:
        return []
    return list(replay.tapes.values())
