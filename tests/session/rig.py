"""A worker's inside without a volume: cameras record into memory tapes, the timer is turned by the test."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from recorder.base.clock import SystemClock
from recorder.base.config import CameraConfig, RecordingConfig, RetentionRule, StreamConfig
from recorder.cameras import Cameras
from recorder.drainer import Drainer
from recorder.gate import HandshakeGate
from recorder.rtsp.address import AddressBook, parse_networks
from recorder.stream import Services, Stream
from recorder.timeline import WallOffset
from tests.session.fake_camera import PASSWORD, USER
from tests.session.tapes import MemoryTape, MemoryTapes

LOG = logging.getLogger("rig")


class Rig:
    """`async with Rig() as rig: rig.record(url)`; the block's end ends all cameras as the process's end does."""

    def __init__(self, *, networks: tuple[str, ...] = ("127.0.0.0/8",), sweep_s: float = 0.1, tls_ca: Path | None = None,
                 gate: HandshakeGate | None = None, import_dir: Path | None = None) -> None:
        self.clock = SystemClock()
        self.wall = WallOffset(self.clock)
        self.tapes = MemoryTapes()
        self.drainer = Drainer(self.clock, self.wall, 10, LOG)
        self.recording = RecordingConfig(camera_networks=networks, tls_ca=tls_ca, import_dir=import_dir)
        book = AddressBook(parse_networks(networks))
        self.services = Services(self.clock, self.wall, self.drainer, gate or HandshakeGate(16), book, self.tapes, self.recording, LOG)
        self.cameras = Cameras(self.services, RetentionRule(), LOG)
        self._sweep_s = sweep_s
        self._timer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.drainer.start()
        self._timer = asyncio.create_task(self._turn())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.cameras.close()
        assert self._timer is not None
        self._timer.cancel()
        await asyncio.gather(self._timer, return_exceptions=True)
        self.drainer.stop()
        self.tapes.take()
        assert len(self.drainer) == 0, "a connection was left in the drain"

    async def _turn(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_s)
            self.cameras.sweep()
            self.tapes.take()

    def record(self, url: str, number: int = 1, start: str = "", **options: Any) -> None:
        """Begin a camera; `kbps` is its declared bit rate, `start` an imported file's."""
        stream = StreamConfig(url, options.pop("kbps", 4000), options.pop("transport", "tcp"), start=start)
        login = {"user": USER, "password": PASSWORD} | {k: options.pop(k) for k in ("user", "password") if k in options}
        self.cameras.start(number, CameraConfig(f"cam{number}", stream, **login, **options))

    def stream(self, number: int = 1) -> Stream:
        """Its main stream."""
        return self.cameras._cameras[number].streams[0]

    def tape(self, name: str = "main", number: int = 1) -> MemoryTape:
        """A tape; an empty one if the track has not been opened."""
        return self.tapes.by_name.get((number, name)) or MemoryTape(None, lambda _: None)  # type: ignore[arg-type]

    async def until(self, condition: Callable[[], object], timeout_s: float = 120.0) -> None:
        """Wait for something to become true; the test fails if it does not."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.01)

    async def recorded(self, aus: int = 5, name: str = "main", number: int = 1) -> None:
        """Wait for AUs on the tape."""
        await self.until(lambda: len(self.tape(name, number).aus) >= aus)

    async def failed(self, number: int = 1) -> Any:
        """Wait for the next end of a session; its error."""
        await self.until(lambda: self.stream(number).state == "backoff")
        return self.stream(number).error
