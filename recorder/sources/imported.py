"""Files that are imported: found below one folder only, and placed in time by their start instead of their arrival."""

import os
import stat
from contextlib import ExitStack
from pathlib import Path

from recorder.base.errors import SourceError
from recorder.base.media import GapCause
from recorder.timeline import SessionTimeline


class ImportTimeline(SessionTimeline):
    """The line has been laid before the first AU and stays: the file's ticks are its time, however fast it is read."""

    OFFSET_S = 10                    # seconds on the tracks' clocks at which a file begins (recorder.sources.libav.media)

    def tick(self, mono_ns: int) -> None:
        """Nothing bends."""

    def finish(self) -> None:
        """Nothing was provisional."""

    def step(self, wall_ns: int, step_ns: int) -> None:
        """Our clock has no part in it."""


def open_below(folder: Path | None, path: str) -> int:
    """A descriptor of the regular file `path` below `folder`; no link on the way is followed. Raises SourceError (`refused`, `offline`)."""
    if folder is None:
        raise _refused("files are imported from import_dir only, and none is set", "set recording.import_dir")
    *folders, name = path.split("/")
    try:
        with ExitStack() as held:
            at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            held.callback(os.close, at)
            for part in folders:
                at = _step(at, part, os.O_PATH | os.O_DIRECTORY)
                held.callback(os.close, at)
            file = _step(at, name, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise SourceError(f"the file cannot be opened ({error.strerror})", cause=GapCause.OFFLINE, retry_s=10.0,
                          remedy="check its name and permissions, and that no link is on the way") from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _refused("it is no regular file", "name a file")
    return file


def _step(at: int, name: str, flags: int) -> int:
    if name in {"", ".", ".."}:
        raise _refused("its path leads elsewhere", "name a file below import_dir")
    return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)


def _refused(what: str, remedy: str) -> SourceError:
    return SourceError(what, cause=GapCause.REFUSED, retry_s=60.0, remedy=remedy)
