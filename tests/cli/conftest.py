"""The real command line in subprocesses, and sites in temporary folders."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from bench.site import free_port

ROOT = Path(__file__).resolve().parents[2]
ANSWER_S = 300.0


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    def says(self, code: int, pattern: str) -> None:
        """It ended with this code and exactly one line, which names the thing, what is wrong with it, and the remedy."""
        assert self.code == code, (self.out, self.err)
        assert re.fullmatch(r"watchroom: [^\n]+; [^\n]+\n", self.err), self.err
        assert re.search(pattern, self.err), self.err
        assert "Traceback" not in self.err


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "recorder", *map(str, words)]


def environment(**more: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("WATCHROOM_")} | more


def watchroom(*words: object, extra_path: Path = ROOT) -> Result:
    """Runs one command to its end; `extra_path` may hold a sitecustomize."""
    done = subprocess.run(command(*words), cwd=ROOT, env=environment(PYTHONPATH=f"{extra_path}:{ROOT}"), capture_output=True, text=True,
                          timeout=ANSWER_S, stdin=subprocess.DEVNULL, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


def until(true: Callable[[], Any], what: str, seconds: float = 300.0) -> Any:
    """What `true` returns once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


class Site:
    """A site's folder: configuration, volume, and processes that end with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.file = folder / "site.toml"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.write()

    def write(self, *more: str, volume: str = 'path = "volume"\non_root = true') -> None:
        lines = ['name = "Test"', 'state_dir = "state"', "[server]", f"port = {self.port}", "[recording]",
                 'camera_networks = ["127.0.0.0/8"]', "[[volume]]", volume, *more]
        self.file.write_text("\n".join(lines) + "\n")

    def init(self) -> None:
        assert watchroom("volume", "init", self.folder / "volume", "--on-root", "--size", "2G").code == 0

    def run(self, *words: object) -> Result:
        return watchroom(*words, "--config", self.file)

    def start(self, *words: object, log: str) -> "subprocess.Popen[bytes]":
        with (self.folder / log).open("ab") as file:
            process = subprocess.Popen(command(*words), cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                       start_new_session=True)
        self._processes.append(process)
        return process

    def log(self, name: str = "serve") -> str:
        return (self.folder / name).read_text()

    def cameras(self) -> dict[str, dict[str, Any]]:
        return {camera["id"]: camera for camera in self.run("camera", "list", "--json").json()}

    def close(self) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)      # its children with it
                    process.wait()
        for file in self.folder.glob("*/volume.json"):
            try:
                uuid = UUID(json.loads(file.read_text())["uuid"])
            except ValueError:
                continue                # a test has damaged it, and nothing ran on it
            for left in Path("/dev/shm").glob(f"watchroom-{uuid.hex}-*"):
                left.unlink()


@pytest.fixture
def site() -> Iterator[Site]:
    # Control sockets' paths must stay below 108 bytes: tmp_path can be too long.
    with tempfile.TemporaryDirectory(prefix="wr-") as name:
        made = Site(Path(name))
        try:
            yield made
        finally:
            made.close()
