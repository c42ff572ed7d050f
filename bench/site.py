"""A Watchroom under test: a folder with a volume and a configuration, a worker alone or `watchroom serve` in it, pinned to a core."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import bench
from bench.machine import process_tree
from recorder.base.clock import SystemClock
from storage.catalogue import Catalogue
from storage.store import TapeStore
from storage.volume import Volume

STOP_TIMEOUT_S = 60
WORKER_WORD = "_worker"
API_WORD = "_api"
PORTS = range(20_000, 32_768)
SESSIONS = 2000         # of WebRTC: nobody has a token here


def free_port() -> int:
    """A TCP port of loopback that nobody listens on, below those that the system gives to connections going out (it may be taken later)."""
    while True:
        try:
            with socket.create_server(("127.0.0.1", secrets.choice(PORTS))) as probe:
                return int(probe.getsockname()[1])
        except OSError:
            continue


class Site:
    """`with Site(folder, cameras) as site:` records until the block ends. `cameras`: TOML lines of each `[[camera]]` table, by id.

    `core`: the CPU all its processes are pinned to. `server`, `recording`, `webrtc`: more lines of these tables. `whole`: `watchroom serve` (of
    `module`) instead of a worker alone; it serves RTSP on `rtsp_port`. The folder must be empty and stays.
    """

    def __init__(self, folder: Path, cameras: Mapping[str, Sequence[str]], *, core: int | None = None, bytes_max: int = 0,
                 whole: bool = False, module: str = "recorder",
                 server: Sequence[str] = (), recording: Sequence[str] = (), webrtc: Sequence[str] = ()) -> None:
        self.folder = folder
        self.cameras = tuple(cameras)
        self._whole = whole
        self._module = module
        self.volume = folder / "volume"
        self.state_dir = folder / "state"
        self.port, self.rtsp_port, self.webrtc_port = free_port(), free_port(), free_port()
        self.live_dir = Path(tempfile.mkdtemp(prefix="watchroom-bench-", dir="/dev/shm"))
        self._clean = weakref.finalize(self, shutil.rmtree, self.live_dir, ignore_errors=True)
        self._core = core
        self._server = server
        self._recording, self._webrtc = recording, webrtc
        Volume.init(self.volume, bytes_max=bytes_max, on_root=True).close()
        self.notes = folder / "notes.json"      # of a worker alone, after its end (bench/probe.py)
        self.config = folder / "watchroom.toml"
        self.config.touch(mode=0o600)
        self.config.write_text(self._toml(cameras))

    def _toml(self, cameras: Mapping[str, Sequence[str]]) -> str:
        lines = ['name = "bench"', f'state_dir = "{self.state_dir}"', f'live_dir = "{self.live_dir}"', "[server]", f"port = {self.port}",
                 *self._server, "[rtsp_out]", f"port = {self.rtsp_port}",
                 "[webrtc]", f"port = {self.webrtc_port}", f"per_token = {SESSIONS}", *self._webrtc, "[recording]",
                 'camera_networks = ["127.0.0.0/8"]', *self._recording, "[[volume]]", f'path = "{self.volume}"', "on_root = true"]
        for name, options in cameras.items():
            lines += ["[[camera]]", f'id = "{name}"', *options]
        return "\n".join([*lines, ""])

    def __enter__(self) -> Self:
        program = [self._module, "serve", "--config"] if self._whole else ["bench.worker"]
        command = [sys.executable, "-m", *program, str(self.config), *([] if self._whole else [str(self.notes)])]
        if self._core is not None:
            command = ["taskset", "-c", str(self._core), *command]
        self.log = self.folder / "serve.log"
        with self.log.open("wb") as log:
            root = str(Path(bench.__file__).parent.parent)
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, env={**os.environ, "PYTHONPATH": root})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> int:
        """End it (SIGTERM, later SIGKILL); returns the exit code. May be called twice."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                for pid in process_tree(self._process.pid):
                    os.kill(pid, signal.SIGKILL)
        return self._process.wait()

    def pids(self) -> list[int]:
        """All its processes."""
        return process_tree(self._process.pid)

    def worker_pids(self) -> list[int]:
        """The recording workers."""
        return [pid for pid in self.pids() if WORKER_WORD in _command_line(pid)] if self._whole else [self._process.pid]

    def api_pids(self) -> list[int]:
        """The API process, if `whole`."""
        return [pid for pid in self.pids() if API_WORD in _command_line(pid)]

    def check_alive(self) -> None:
        """Raises RuntimeError with the log's end if it has stopped."""
        if (code := self._process.poll()) is not None:
            raise RuntimeError(f"the recorder ended with exit code {code}: {self.tail()}")

    def tail(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no message"

    def numbers(self) -> dict[str, int]:
        """Camera numbers by id."""
        if not self._whole:
            return {name: number for number, name in enumerate(self.cameras, 1)}
        with Catalogue.open(self.state_dir / "catalogue.sqlite", SystemClock()) as catalogue:
            return {camera.id: camera.number for camera in catalogue.cameras()}

    def slot_socket(self, slot: int) -> Path:
        """The control socket of a slot's worker."""
        return self.state_dir / "run" / f"slot-{slot}.sock"

    def store(self) -> TapeStore:
        """The footage, for reading; the caller closes it."""
        return TapeStore([self.volume], self.live_dir)

    def clean(self) -> None:
        """Remove the live files (after `stop`). Happens by itself when the object goes or the interpreter ends."""
        self._clean()


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def wait_until(ready: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Poll ten times a second. Raises TimeoutError that names `what`."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.1)
