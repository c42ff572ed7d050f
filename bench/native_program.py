"""The comparison: native/ingest.c, what a C programmer would write, built with gcc -O2 when it is wanted."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.sink import set_up

SOURCE = Path(__file__).parent / "native" / "ingest.c"
STOP_TIMEOUT_S = 60


def build(folder: Path) -> Path:
    """The compiled program in `folder`. Raises RuntimeError if there is no gcc, or it refuses."""
    program = folder / "ingest"
    compiler = shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("the C program for comparison wants gcc")
    done = subprocess.run([compiler, "-O2", "-Wall", "-o", str(program), str(SOURCE), "-lpthread"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"gcc: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return program


class NativeProgram:
    """`with NativeProgram(port, cameras, folder) as program:` records the first track of simulated cameras until the block ends.

    The files' bytes are the AUs one after the other, from the start again after `file_bytes` (whole MiB). `result` is what it counted, after
    the block: `aus`, `bytes`, `lost_packets`, `malformed`, `ended` (cameras).
    """

    def __init__(self, port: int, cameras: Sequence[int], folder: Path, *, codec: str = "h264", file_bytes: int = 16 << 20,
                 core: int | None = None) -> None:
        self._port = port
        self._cameras = cameras
        self._folder = folder
        self._codec = codec
        self._file_bytes = file_bytes
        self._core = core
        self.result: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        prefix = [] if self._core is None else ["taskset", "-c", str(self._core)]
        files = self._folder / "files"
        files.mkdir()
        found = [set_up(self._port, camera) for camera in self._cameras]
        for sock, _, _ in found:
            os.set_blocking(sock.fileno(), False)
        command = [*prefix, str(build(self._folder)), str(files), self._codec, str(self._file_bytes)]
        descriptors = [sock.fileno() for sock, _, _ in found]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=descriptors)
        assert self._process.stdin
        self._process.stdin.write("".join(f"{sock.fileno()} {session} {url}\n" for sock, session, url in found).encode())
        self._process.stdin.close()
        self._sockets: list[socket.socket] = [sock for sock, _, _ in found]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        try:
            output = self._process.stdout.read() if self._process.stdout else b""
            self._process.wait(STOP_TIMEOUT_S)
            self.result = json.loads(output or b"{}")
        finally:
            self._process.kill()
            self._process.wait()
            if self._process.stdout:
                self._process.stdout.close()
            for sock in self._sockets:
                sock.close()

    def file(self, number: int) -> Path:
        """What it records of the camera that was named as number `number`."""
        return self._folder / "files" / f"{number:04}"

    def pids(self) -> list[int]:
        """The process, if it lives."""
        return [self._process.pid] if self._process.poll() is None else []

    def check_alive(self) -> None:
        """Raises RuntimeError if it has stopped."""
        if not self.pids():
            raise RuntimeError("the C program has ended")
