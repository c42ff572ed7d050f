"""The standing holds of a volume's slots, for readers: looked at again at most once a second, parsed when a folder has changed."""

import os
import time

from recorder.base.errors import Refused
from storage.disk import read_at
from storage.document import parsed
from storage.hold import Hold, hold_from_json
from storage.holdshelf import FILE_MAX

LOOK_NS = 1_000_000_000
TICK_NS = 100_000_000   # a folder's time stands still for so long at most: what came to it after it was read may bear the same
Stretches = tuple[tuple[int, int], ...]


class ShelfReader:
    """Below the volume's descriptor. A file that cannot be understood says nothing here (`check` and the slot tell of it). Any thread."""

    def __init__(self, volume_fd: int) -> None:
        self._fd = volume_fd
        self._looked_ns = 0
        self._folders: dict[str, tuple[int, tuple[Hold, ...]]] = {}     # by slot: when it was changed, what stands there

    def stretches(self, camera: int, track: str) -> Stretches:
        """The times of a track that are held."""
        now_ns = time.monotonic_ns()
        if now_ns - self._looked_ns >= LOOK_NS:
            self._looked_ns = now_ns
            self._look()
        holds = {hold.id: hold for _, found in list(self._folders.values()) for hold in found}
        return tuple(sorted(stretch for hold in holds.values() for stretch in hold.stretches(camera, track)))

    def _look(self) -> None:
        found = {}
        for name in os.listdir(self._fd):
            if name.startswith("slot-"):
                try:
                    changed_ns = os.stat(f"{name}/holds", dir_fd=self._fd, follow_symlinks=False).st_mtime_ns
                except (FileNotFoundError, NotADirectoryError):
                    continue
                have = self._folders.get(name)
                if have is None or have[0] != changed_ns:
                    settled = time.time_ns() - changed_ns > TICK_NS
                    have = changed_ns if settled else 0, self._read(f"{name}/holds")
                found[name] = have
        self._folders = found

    def _read(self, folder: str) -> tuple[Hold, ...]:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            holds = [_hold(fd, name) for name in sorted(os.listdir(fd)) if name.endswith(".json")]
        finally:
            os.close(fd)
        return tuple(hold for hold in holds if hold is not None and not hold.released_ns)


def _hold(folder_fd: int, name: str) -> Hold | None:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        return hold_from_json(parsed(read_at(fd, FILE_MAX, 0))["hold"])
    except (Refused, ValueError, KeyError, TypeError):
        return None
    finally:
        os.close(fd)
