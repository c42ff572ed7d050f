"""What a repair takes out of its place: moved within the volume, into aside/<day>/, under the path that it had. Nothing is deleted."""

import datetime
from dataclasses import dataclass

from recorder.base.errors import VolumeError
from storage.volume import Volume, fsync_dir

ASIDE = "aside"


@dataclass(frozen=True, slots=True)
class Moved:
    """A file's old and new path, relative to the volume, and why it was moved."""

    where: str
    to: str
    why: str


class Aside:
    """Moves files aside; `moved` says which, as soon as they are. The volume's one writer only. OSError."""

    def __init__(self, volume: Volume, wall_ns: int, moved: list[Moved]) -> None:
        self._volume, self.moved = volume, moved
        self._day = datetime.datetime.fromtimestamp(wall_ns / 1e9, datetime.UTC).strftime("%Y-%m-%d")

    def move(self, path: str, why: str) -> str:
        """Move the file; returns its new path. No other is ever replaced."""
        to, again = f"{ASIDE}/{self._day}/{path}", 1
        while self._volume.exists(to if again == 1 else f"{to}.{again}"):
            again += 1
        return self._rename(path, to if again == 1 else f"{to}.{again}", why)

    def put(self, path: str, home: str, why: str) -> bool:
        """Move a file to where it belongs; False if something lies there."""
        if self._volume.exists(home):
            return False
        self._rename(path, home, why)
        return True

    def _inside(self, folder: str) -> None:
        """VolumeError if a symlink or a file stands where a folder is to be: nothing leaves the volume."""
        parts = folder.split("/")
        for depth in range(1, len(parts) + 1):
            part = "/".join(parts[:depth])
            if self._volume.exists(part) and not self._volume.is_folder(part):
                raise VolumeError("is no folder", where=str(self._volume.path / part), remedy="move it away, then repair again")

    def _rename(self, path: str, to: str, why: str) -> str:
        folder = to.rpartition("/")[0]
        self._inside(folder)
        self._volume.make_dirs(folder)
        self._volume.rename(path, to)
        self.moved.append(Moved(path, to, why))
        fsync_dir(self._volume.dir_fd, folder)
        return to
