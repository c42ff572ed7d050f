"""Questions to a server as a player asks them, and how long its first byte takes."""

import http.client
import itertools
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

from recorder.base.media import NS

TIMEOUT_S = 60
PAUSE_S = 0.1
TAKE_BYTES = 1 << 20


def first_byte_ms(port: int, address: str, method: str = "GET", status: int = 200) -> float:
    """Milliseconds from the connection's start to the first byte of the answer's body (HEAD: of its end). RuntimeError for another status."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request(method, address)
        answer = connection.getresponse()
        answer.read(1)
        if answer.status != status:
            raise RuntimeError(f"{address}: {answer.status}")
        return (time.perf_counter() - began) * 1000
    finally:
        connection.close()


def take_all(port: int, address: str, into: Callable[[memoryview], object] = lambda _: None) -> int:
    """Bytes of the answer, head and body, taken as fast as they come."""
    buffer, total = memoryview(bytearray(TAKE_BYTES)), 0
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as sock:
        sock.sendall(f"GET {address} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        while got := sock.recv_into(buffer):
            into(buffer[:got])
            total += got
    return total


def address_of(camera: str, what: str, **query: object) -> str:
    """A camera's address."""
    return f"/api/v1/cameras/{camera}/{what}?{urlencode(query)}"


class Scrubber:
    """`with Scrubber(port, cameras, since_ns) as scrubber:` asks for clips, pictures, sheets and timelines in turn, ten a second at most.

    `times_ms` are the latencies by kind; `refused` counts answers other than 200.
    """

    def __init__(self, port: int, cameras: int, since_ns: int) -> None:
        self._port, self._cameras, self._since_ns = port, cameras, since_ns
        self._dice = random.Random(3)  # noqa: S311
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scrubber")
        self.times_ms: dict[str, list[float]] = {"clip": [], "picture": [], "sheet": [], "timeline": []}
        self.refused: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        for kind in itertools.cycle(("clip", "picture", "clip", "picture", "clip", "timeline", "clip", "picture", "clip", "sheet")):
            if self._stop.wait(PAUSE_S):
                return
            try:
                self.times_ms[kind].append(first_byte_ms(self._port, self._address(kind)))
            except (RuntimeError, OSError, http.client.HTTPException) as error:
                self.refused[f"{kind} {str(error)[-3:]}"] = self.refused.get(f"{kind} {str(error)[-3:]}", 0) + 1

    def _address(self, kind: str) -> str:
        camera, now_ns = f"cam-{self._dice.randrange(self._cameras)}", time.time_ns()
        start_ns = self._dice.randrange(self._since_ns, max(now_ns - 12 * NS, self._since_ns + 1))
        what: Mapping[str, tuple[str, Mapping[str, object]]] = {
            "clip": ("clip.mp4", {"start": start_ns, "end": start_ns + 10 * NS}), "picture": ("frame.jpg", {"time": start_ns, "width": 320}),
            "sheet": ("sheet.jpg", {"start": self._since_ns, "end": start_ns + 10 * NS, "columns": 5, "rows": 4, "width": 160}),
            "timeline": ("timeline", {"start": self._since_ns, "end": now_ns})}
        name, query = what[kind]
        return address_of(camera, name, **query)
