"""The disk's process: `python -m bench.powercut.server MOUNTPOINT IMAGE [plain]`. Commands on standard input, an answer of one line to each.

`mark N`: everything so far has been acknowledged as number N. `recorded`: the recording is over; says how many entries there are.
`cut AT SEED`: there is a file `cut-<n>` as the power cut before entry AT may have left the disk; says its name and the last mark before.
`forget NAME`: it is needed no more.
`plain`: nothing is logged, so that the disk may be large; of the commands only the following are of use then.
`fail`: from now on reads, writes and flushes end with EIO. `stall`: they do not end at all. `heal`: they do as before.
"""

import errno
import os
import random
import select
import sys
from collections.abc import Callable
from pathlib import Path

from bench.powercut.disklog import DiskLog, Flush, Mark, Write, get, put
from bench.powercut.fuse import Folder


class Recorded:
    """The disk while it is recorded: what it holds now, and the log of how it came to that."""

    def __init__(self, image: Path) -> None:
        self.log = DiskLog(bytearray(image.read_bytes()))
        self.size = len(self.log.base)
        self._now: dict[int, bytes] = {}
        self.failing = False

    def _check(self) -> None:
        if self.failing:
            raise OSError(errno.EIO, "the disk fails")

    def read(self, at: int, size: int) -> bytes:
        """As written last, durable or not."""
        self._check()
        return get(self.log.base, self._now, at, size)

    def write(self, at: int, data: bytes) -> None:
        """Logged."""
        self._check()
        self.log.entries.append(Write(at, data))
        put(self.log.base, self._now, at, data)

    def flush(self) -> None:
        """Logged."""
        self._check()
        self.log.entries.append(Flush())

    def forget_now(self) -> None:
        """The recording is over."""
        self._now.clear()


class Plain:
    """A disk in a file, which may be sparse; it keeps no log."""

    def __init__(self, image: Path) -> None:
        self.size = image.stat().st_size
        self.failing = False
        self._fd = os.open(image, os.O_RDWR | os.O_CLOEXEC)

    def _check(self) -> None:
        if self.failing:
            raise OSError(errno.EIO, "the disk fails")

    def read(self, at: int, size: int) -> bytes:
        """As written last."""
        self._check()
        return os.pread(self._fd, size, at)

    def write(self, at: int, data: bytes) -> None:
        """Kept."""
        self._check()
        os.pwrite(self._fd, data, at)

    def flush(self) -> None:
        """Nothing here can be lost but with the machine."""
        self._check()


class Cut:
    """A disk after a power cut. What is written to it goes with it."""

    def __init__(self, base: bytearray, blocks: dict[int, bytes]) -> None:
        self.size, self._base, self._blocks = len(base), base, blocks

    def read(self, at: int, size: int) -> bytes:
        """As the cut left it, or as written since."""
        return get(self._base, self._blocks, at, size)

    def write(self, at: int, data: bytes) -> None:
        """Kept until the cut is forgotten."""
        put(self._base, self._blocks, at, data)

    def flush(self) -> None:
        """Nothing is lost any more."""


class Server:
    """See the module."""

    def __init__(self, point: Path, image: Path, *, plain: bool = False) -> None:
        self._folder = Folder(point)
        self._film = Recorded(image) if not plain else None
        self._disk: Recorded | Plain = self._film or Plain(image)
        self._folder.add("disk", self._disk)
        self._cuts, self._stalled = 0, False
        self._commands: dict[str, Callable[..., str]] = {
            "fail": self._fail, "stall": self._stall, "heal": self._heal, "mark": self._mark, "recorded": self._recorded, "cut": self._cut,
            "forget": self._forget}

    def run(self) -> None:
        """Serve until standard input ends and the folder is unmounted."""
        print("ready", flush=True)
        waiting = [self._folder.fileno(), sys.stdin.fileno()]
        while True:
            readable, _, _ = select.select(waiting[self._stalled:], [], [])
            if self._folder.fileno() in readable and not self._folder.answer():
                return
            if sys.stdin.fileno() in readable:
                line = sys.stdin.readline()
                if not line:
                    waiting.remove(sys.stdin.fileno())
                    continue
                name, *args = line.split()
                print(self._commands[name](*args), flush=True)

    def _fail(self) -> str:
        self._disk.failing = True
        return "ok"

    def _stall(self) -> str:
        self._stalled = True
        return "ok"

    def _heal(self) -> str:
        self._disk.failing = self._stalled = False
        return "ok"

    @property
    def _log(self) -> Recorded:
        if self._film is None:
            raise RuntimeError("a plain disk keeps no log")
        return self._film

    def _mark(self, number: str) -> str:
        self._log.log.entries.append(Mark(int(number)))
        return "ok"

    def _recorded(self) -> str:
        self._log.forget_now()
        self._folder.drop("disk")
        return str(len(self._log.log.entries))

    def _cut(self, at: str, seed: str) -> str:
        blocks, mark = self._log.log.cut(int(at), random.Random(int(seed)))  # noqa: S311
        self._cuts += 1
        name = f"cut-{self._cuts}"
        self._folder.add(name, Cut(self._log.log.base, blocks))
        return f"{name} {mark}"

    def _forget(self, name: str) -> str:
        self._folder.drop(name)
        return "ok"


if __name__ == "__main__":
    Server(Path(sys.argv[1]), Path(sys.argv[2]), plain="plain" in sys.argv[3:]).run()
