"""The comparison: one `ffmpeg -c copy` per camera, as recorders without a data path of their own run it."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

STOP_TIMEOUT_S = 20
START_PAUSE_S = 0.02


def command(url: str, pattern: Path) -> list[str]:
    """What Frigate starts for a recording, without its hardware and log options."""
    return ["ffmpeg", "-nostdin", "-hide_banner", "-v", "error", "-rtsp_transport", "tcp", "-i", url, "-c", "copy", "-an", "-f", "segment",
            "-segment_time", "10", "-segment_format", "mp4", "-reset_timestamps", "1", str(pattern)]


class Fleet:
    """`with Fleet(urls, folder) as fleet:` records each URL into `folder/<n>-<segment>.mp4` until the block ends."""

    def __init__(self, urls: Sequence[str], folder: Path, *, core: int | None = None) -> None:
        self._urls = urls
        self._folder = folder
        self._core = core
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        prefix = [] if self._core is None else ["taskset", "-c", str(self._core)]
        for number, url in enumerate(self._urls):
            self._processes.append(subprocess.Popen([*prefix, *command(url, self._folder / f"{number:03}-%04d.mp4")],
                                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            time.sleep(START_PAUSE_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            if process.poll() is None:
                process.kill()
                process.wait()

    def pids(self) -> list[int]:
        """The processes that live."""
        return [p.pid for p in self._processes if p.poll() is None]

    def check_alive(self) -> None:
        """Raises RuntimeError if one has stopped."""
        if len(self.pids()) < len(self._urls):
            raise RuntimeError(f"{len(self._urls) - len(self.pids())} of {len(self._urls)} ffmpeg processes have ended")
