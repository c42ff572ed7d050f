"""Readers beside a recording: playbacks and exports over HTTP, whose bytes are counted and thrown away (on the load generator's core)."""

import http.client
import itertools
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

from recorder.base.media import NS

PIECE = 256 << 10
PLAYBACK_BEHIND_S = 20
EXPORT_S = 30
CALM_S = 1.0


class Readers:
    """`with Readers(port, cameras, ...) as readers:` keeps `playbacks` streams, `wall` live ones and `exports` downloads going.

    An export is a clip of 30 s that ended 10 s ago; with `cold`, one from the oldest footage on. Its client takes `export_bytes_s`. Each
    reader goes from camera to camera.
    """

    def __init__(self, port: int, cameras: int, *, playbacks: int, exports: int, export_bytes_s: float, cold: bool,
                 oldest_ns: Callable[[int], int], wall: int = 0) -> None:
        self._port = port
        self._cameras = cameras
        self._export_bytes_s = export_bytes_s
        self._cold = cold
        self._oldest_ns = oldest_ns
        self._stop = threading.Event()
        self.bytes = {"playbacks": 0, "exports": 0, "wall": 0}
        self.refused: dict[int, int] = {}
        counts = {"playbacks": playbacks, "exports": exports, "wall": wall}
        self._threads = [threading.Thread(target=self._run, args=(kind, number)) for kind, count in counts.items() for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, kind: str, number: int) -> None:
        for turn in itertools.count():
            if self._stop.is_set():
                return
            camera = (number * 29 + turn * 7) % self._cameras
            try:
                status = self._read(kind, self._address(kind, camera))
            except (OSError, http.client.HTTPException):
                status = 0
            if status != 200:
                self.refused[status] = self.refused.get(status, 0) + 1
                self._stop.wait(CALM_S)

    def _address(self, kind: str, camera: int) -> str:
        now_ns = time.time_ns()
        if kind == "wall":
            return f"/api/v1/cameras/cam-{camera}/stream.mp4"
        if kind == "playbacks":
            return f"/api/v1/cameras/cam-{camera}/stream.mp4?{urlencode({'start': now_ns - PLAYBACK_BEHIND_S * NS})}"
        start_ns = self._oldest_ns(camera) if self._cold else now_ns - (EXPORT_S + 10) * NS
        return f"/api/v1/cameras/cam-{camera}/clip.mp4?{urlencode({'start': start_ns, 'end': start_ns + EXPORT_S * NS})}"

    def _read(self, kind: str, address: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", address)
            answer = connection.getresponse()
            began, taken = time.monotonic(), 0
            while not self._stop.is_set() and (piece := answer.read1(PIECE)):
                if answer.status == 200:
                    self.bytes[kind] += len(piece)
                taken += len(piece)
                if kind == "exports":
                    self._stop.wait(max(0.0, began + taken / self._export_bytes_s - time.monotonic()))
            return answer.status
        finally:
            connection.close()
