"""The comparison: libav in one process of Python, a thread per camera, each remuxing RTSP over TCP into a fragmented MP4.

`python -m bench.pyav_threads FOLDER` reads URLs, one a line, and records until SIGTERM; `PyavThreads` runs that as a process of its own.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import av

import bench

STOP_TIMEOUT_S = 30
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


def record(url: str, path: Path, stop: threading.Event) -> None:
    """Remux the video of `url` into `path` until `stop`. Raises av.FFmpegError."""
    with (av.open(url, options={"rtsp_transport": "tcp"}, timeout=30) as source,
          av.open(str(path), "w", format="mp4", options=FRAGMENTED) as out):
        video = source.streams.video[0]
        target = out.add_stream_from_template(video)
        for packet in source.demux(video):
            if stop.is_set():
                break
            if packet.dts is not None:
                packet.stream = target
                out.mux(packet)


def main(folder: Path, urls: Sequence[str]) -> int:
    """Record all until SIGTERM; exit code 1 if a thread has ended before."""
    stop, failed = threading.Event(), []

    def run(number: int, url: str) -> None:
        try:
            record(url, folder / f"{number:03}.mp4", stop)
        except Exception as error:      # the thread's end: whoever waits for the process is told
            failed.append(f"{url}: {error}")

    threads = [threading.Thread(target=run, args=(number, url)) for number, url in enumerate(urls)]
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    for thread in threads:
        thread.start()
    stop.wait()
    for thread in threads:
        thread.join()
    print("\n".join(failed), file=sys.stderr)
    return int(bool(failed))


class PyavThreads:
    """`with PyavThreads(urls, folder) as threads:` records each URL into `folder` until the block ends."""

    def __init__(self, urls: Sequence[str], folder: Path, *, core: int | None = None) -> None:
        self._urls = urls
        self._folder = folder
        self._core = core

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        prefix = [] if self._core is None else ["taskset", "-c", str(self._core)]
        environment = {**os.environ, "PYTHONPATH": str(Path(bench.__file__).parent.parent)}
        command = [*prefix, sys.executable, "-m", "bench.pyav_threads", str(self._folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        assert self._process.stdin
        self._process.stdin.write("\n".join(self._urls).encode())
        self._process.stdin.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def pids(self) -> list[int]:
        """The process, if it lives."""
        return [self._process.pid] if self._process.poll() is None else []

    def check_alive(self) -> None:
        """Raises RuntimeError if it has stopped."""
        if not self.pids():
            raise RuntimeError("the process of PyAV threads has ended")


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.stdin.read().split()))
