"""The recording disk as its user has it: a process that serves it, and file systems mounted from it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAKE = {"ext4": ("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"), "xfs": ("mkfs.xfs", "-q", "-K")}
OPTIONS = {"ext4": "loop,nodiscard", "xfs": "loop,nouuid,nodiscard"}
IMAGE_BYTES = {"ext4": 400 << 20, "xfs": 420 << 20}


class PowerDisk:
    """A disk of `kind` (a file system) in `folder`, which holds nothing else. Needs root, /dev/fuse and loop devices.

    With `plain_bytes` it is a sparse file of that size and logs nothing: power cuts cannot be asked for.
    """

    def __init__(self, folder: Path, kind: str, *, plain_bytes: int = 0) -> None:
        self.kind, self.files, self.point = kind, folder / "files", folder / "mounted"
        image = folder / "image"
        with image.open("wb") as file:
            file.truncate(plain_bytes or IMAGE_BYTES[kind])
        subprocess.run([*MAKE[kind], image], check=True)
        self.files.mkdir()
        self.point.mkdir()
        self._server = subprocess.Popen([sys.executable, "-m", "bench.powercut.server", self.files, image,
                                         *(["plain"] if plain_bytes else [])], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)
        if self._answer() != "ready":
            raise RuntimeError("the disk's process did not start: /dev/fuse and root are needed")
        image.unlink()

    def _answer(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline().strip()

    def ask(self, command: str) -> str:
        """A command of bench/powercut/server.py; its answer."""
        assert self._server.stdin is not None
        self._server.stdin.write(command + "\n")
        return self._answer()

    @contextmanager
    def mounted(self, name: str = "disk") -> Iterator[Path]:
        """The file system on file `name`, mounted. CalledProcessError if it cannot be."""
        subprocess.run(["mount", "-t", self.kind, "-o", OPTIONS[self.kind], self.files / name, self.point], check=True)
        try:
            yield self.point
        finally:
            subprocess.run(["umount", self.point], check=True)

    def close(self) -> None:
        """Unmount the disk's folder; its process ends."""
        if subprocess.run(["umount", self.files], check=False, capture_output=True).returncode:
            subprocess.run(["umount", "-l", self.files], check=False)       # a file system on it is still let go of somewhere
        assert self._server.stdin is not None
        self._server.stdin.close()
        try:
            self._server.wait(20)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        assert self._server.stdout is not None
        self._server.stdout.close()
