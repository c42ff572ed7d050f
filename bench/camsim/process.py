"""The simulation as a process of its own, so that its CPU time is not its user's."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import bench
from bench.camsim.truth import Truth, fetch_status

START_TIMEOUT_S = 600   # content may have to be encoded
STOP_TIMEOUT_S = 60


class SimProcess:
    """`with SimProcess(["--count", "8"]) as sim:`; options as of `watchroom camsim` (the port is a free one unless given).

    `core`: the CPU it is pinned to. Blocks while it starts. Raises RuntimeError with its last line if it does not.
    """

    def __init__(self, options: Sequence[str] = (), *, core: int | None = None) -> None:
        self._options = list(options)
        self._core = core
        self.port = 0

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "bench.camsim.server", "--port", "0", "--quiet", *self._options]
        if self._core is not None:
            command = ["taskset", "-c", str(self._core), *command]
        root = str(Path(bench.__file__).parent.parent)
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root})
        try:
            self.port = self._read_port()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _read_port(self) -> int:
        assert self._process.stdout
        deadline = time.monotonic() + START_TIMEOUT_S
        ready, _, _ = select.select([self._process.stdout], [], [], deadline - time.monotonic())
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self._process.kill()
            last = self._process.communicate()[1].decode(errors="replace").strip().splitlines()
            raise RuntimeError(f"camsim did not start: {last[-1] if last else 'no message'}")
        return int(json.loads(line)["port"])

    def url(self, number: int, *, sub: bool = False) -> str:
        """The address of a camera."""
        return f"rtsp://127.0.0.1:{self.port}/cam{number}{'/sub' if sub else ''}"

    def status(self) -> dict[str, Any]:
        """Its report so far (see bench/camsim/report.py). Blocks."""
        return fetch_status(self.port)

    def truth(self, number: int, track: str = "main") -> Truth:
        """What a recorder must store of a camera's track."""
        return Truth.of(self.status(), f"cam{number}", track)

    def close(self) -> None:
        """End it (SIGTERM, then SIGKILL)."""
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=STOP_TIMEOUT_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
