"""The demo's processes and files: two camera simulations, a configuration, a volume, a server."""

import functools
import json
import os
import secrets
import select
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from recorder.base.config_file import read_config
from recorder.base.errors import Conflict, WatchroomError
from recorder.cli.control import slot_status
from recorder.orphan import end_with_parent
from storage.volume import Volume

PORTS = range(8080, 8100)
CONTENT_S = 300.0       # making pictures, once
READY_S = 30.0
END_S = 12.0
ANSWER_S = 10.0
VOLUME_BYTES_MAX = 8 << 30
FREE_SHARE = 0.5
# Codecs and sounds are dealt in turn: even cameras are H.264 with AAC, odd ones H.265 with G.711 and a small H.264 stream.
CAMERA_OPTIONS = ("--codec", "h264,h265", "--audio", "aac,pcma", "--sub", "h265", "--size", "1280x720", "--bitrate", "2000", "--fps", "25",
                  "--gop", "50", "--port", "0", "--quiet")
OPEN_CAMERAS = 6
LOCKED_CAMERAS = 2      # these want digest authentication
TRACKS = {"h264": ("main", "audio"), "h265": ("main", "audio", "sub")}


@dataclass(frozen=True, slots=True)
class DemoCamera:
    """One camera of the demo; `sim` counts within its simulation."""

    id: str
    sim: int
    port: int
    locked: bool

    @property
    def codec(self) -> str:
        """The main stream's codec."""
        return "h265" if self.sim % 2 else "h264"

    @property
    def tracks(self) -> tuple[str, ...]:
        """The tracks that must have been recorded."""
        return TRACKS[self.codec]

    def toml(self) -> str:
        """Its table in the configuration."""
        base = f"rtsp://127.0.0.1:{self.port}/cam{self.sim}"
        lines = ["[[camera]]", f'id = "{self.id}"', f'name = "{self.codec.upper()}{" with password" if self.locked else ""}"',
                 f'main = {{ url = "{base}", kbps = 2000 }}']
        if "sub" in self.tracks:
            lines.append(f'sub = {{ url = "{base}/sub", kbps = 512 }}')
        if self.locked:
            lines += ['user = "watchroom"', 'password_file = "camera.password"']
        return "\n".join(lines)


@dataclass(slots=True)
class Demo:
    """Everything that runs; leaving the block ends it."""

    folder: Path
    port: int = 0
    address: str = ""
    began_ns: int = 0
    sims: list[DemoCamera] = field(default_factory=list)
    _processes: list[tuple[str, "subprocess.Popen[bytes]"]] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """What the server and the cameras say."""
        return self.folder / "demo.log"

    @property
    def config(self) -> Path:
        """The configuration that the demo writes."""
        return self.folder / "watchroom.toml"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")
        if not (self.folder / "volume" / "volume.json").exists():
            fs = os.statvfs(self.folder)
            room = min(VOLUME_BYTES_MAX, int(fs.f_bavail * fs.f_frsize * FREE_SHARE))
            Volume.init(self.folder / "volume", bytes_max=room, on_root=True).close()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for name, process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                print(f"demo: {name} did not end and is killed", file=sys.stderr)
                process.kill()
                process.wait()

    # --- starting

    def start_cameras(self, stop: list[int]) -> None:
        """Starts the simulations and waits until they serve."""
        password = secrets.token_urlsafe(12) + " @:/?#%"      # as awkward as real ones are
        file = self.folder / "camera.password"
        file.unlink(missing_ok=True)
        file.touch(0o600)
        file.write_text(password)
        for count, auth in ((OPEN_CAMERAS, ()), (LOCKED_CAMERAS, ("--auth", "digest", "--user", "watchroom", "--password", password))):
            process = self._start("camsim", "--count", str(count), *CAMERA_OPTIONS, *auth, pipe=True)
            port = int(json.loads(self._first_line(process, stop))["port"])
            known = len(self.sims)
            self.sims += [DemoCamera(f"camera-{known + number + 1}", number, port, bool(auth)) for number in range(count)]

    def start_server(self, stop: list[int]) -> None:
        """Writes the configuration, starts `watchroom serve` and waits until it is ready."""
        self.port = self.port or free_port()
        self.address = f"http://127.0.0.1:{self.port}/"
        self.config.write_text("\n".join([
            "# Written by `watchroom demo`, anew at each start.", 'name = "Demo"', 'state_dir = "state"', "[server]", f"port = {self.port}",
            "[recording]", 'camera_networks = ["127.0.0.0/8"]', "[[volume]]", 'path = "volume"', "on_root = true",
            *(camera.toml() for camera in self.sims), ""]))
        self.began_ns = time.time_ns()
        self._start("serve", "--config", str(self.config))
        until = time.monotonic() + READY_S
        while not stop:
            self.check()
            try:
                self.get("readyz")
            except OSError:
                if time.monotonic() > until:
                    raise WatchroomError("is not ready", where="serve", remedy=f"see {self.log}") from None
                time.sleep(0.1)
            else:
                return
        raise KeyboardInterrupt

    def _start(self, *arguments: str, pipe: bool = False) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "recorder", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if pipe else log, stderr=log,
                start_new_session=True, preexec_fn=functools.partial(end_with_parent, os.getpid()))  # noqa: PLW1509 (one thread only)
        self._processes.append((arguments[0], process))
        return process

    def _first_line(self, process: "subprocess.Popen[bytes]", stop: list[int]) -> bytes:
        assert process.stdout is not None
        until = time.monotonic() + CONTENT_S
        while not stop and time.monotonic() < until:
            self.check()
            if select.select([process.stdout], [], [], 0.2)[0] and (line := process.stdout.readline()):
                return line
        raise KeyboardInterrupt if stop else WatchroomError("is not ready", where="camsim", remedy=f"see {self.log}")

    def check(self) -> None:
        """Raises WatchroomError if a process has ended, with the last line it wrote."""
        for name, process in self._processes:
            if process.poll() is not None:
                lines = self.log.read_text(errors="replace").strip().splitlines()
                last = next((line for line in reversed(lines) if line.startswith("watchroom:") or " error " in line), "it did not say why")
                raise WatchroomError(f"ended with exit code {process.returncode}: {last}", where=name, remedy=f"see {self.log}")

    # --- asking the server

    def get(self, path: str) -> Any:
        """A JSON answer of the server. Raises OSError."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.address + path, timeout=ANSWER_S) as answer:
            return json.load(answer)

    def cameras(self) -> dict[str, dict[str, Any]]:
        """What the worker says of each camera; nothing of one that it does not know yet."""
        said = slot_status(read_config(self.config), 0).get("cameras", {})
        return {camera.id: said.get(camera.id, {}) for camera in self.sims}

    def timelines(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Per camera and track the timeline from its first footage of this run on; a track without footage has its gaps."""
        return {camera.id: {track: self._timeline(camera.id, track) for track in camera.tracks} for camera in self.sims}

    def _timeline(self, camera: str, track: str) -> dict[str, Any]:
        path, now_ns = f"api/v1/cameras/{camera}/timeline?track={track}", time.time_ns()
        whole: dict[str, Any] = self.get(f"{path}&start={self.began_ns}&end={now_ns}")
        spans = whole["spans"]
        if not spans:
            return whole
        part: dict[str, Any] = self.get(f"{path}&start={spans[0]['start_ns']}&end={now_ns}")
        return part

    def free_bytes(self) -> int:
        """Free space where the demo records."""
        fs = os.statvfs(self.folder)
        return fs.f_bavail * fs.f_frsize


def free_port() -> int:
    """The first port of PORTS that nobody uses."""
    for port in PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Conflict(f"are all in use: {PORTS[0]} to {PORTS[-1]}", where="ports", remedy="name a free one with --port")
