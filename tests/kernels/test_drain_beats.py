"""The drain's timer: what somebody watches is received in between, for as long as somebody does."""

import asyncio
import logging
import socket

import pytest
from test_drain import Camera

from recorder.base.clock import SystemClock
from recorder.drainer import Drainer
from recorder.timeline import WallOffset


@pytest.fixture
def drainer() -> Drainer:
    clock = SystemClock()
    return Drainer(clock, WallOffset(clock), 3_600_000, logging.getLogger("drainer"), watched_ms=1)


class Listed:
    """What Camera wants of a drain."""

    def __init__(self, drainer: Drainer) -> None:
        self._drainer = drainer

    def add(self, connection: object, fd: int) -> None:
        self._drainer.add(connection, fd, lambda events: None)      # type: ignore[arg-type]

    def remove(self, connection: object) -> None:
        self._drainer.remove(connection)                            # type: ignore[arg-type]


async def received(camera: Camera, count: int) -> None:
    while camera.track.queue.waiting_aus < count:
        await asyncio.sleep(0.001)


async def test_what_is_watched_does_not_wait_for_the_tick(drainer: Drainer) -> None:
    """The tick comes once an hour here."""
    watched, other = Camera(Listed(drainer)), Camera(Listed(drainer))
    drainer.quicken()       # not begun: nothing to do
    drainer.start()
    watched.track.queue.watched = True
    drainer.quicken()
    for count in range(1, 4):
        for camera in (watched, other):
            camera.theirs.sendall(camera.sound())
        async with asyncio.timeout(60):
            await received(watched, count)
    assert other.track.queue.waiting_aus == 0
    drainer.stop()
    for camera in (watched, other):
        camera.close()


async def test_beats_end_with_the_last_watcher(drainer: Drainer) -> None:
    camera = Camera(Listed(drainer))
    drainer.start()
    camera.track.queue.watched = True
    drainer.quicken()
    camera.track.queue.watched = False
    async with asyncio.timeout(60):
        while drainer.quick:
            await asyncio.sleep(0.001)
    camera.theirs.sendall(camera.sound())
    await asyncio.sleep(0.01)
    assert camera.track.queue.waiting_aus == 0
    drainer.stop()
    camera.close()


async def test_a_tls_connection_is_pumped_when_it_is_watched(drainer: Drainer) -> None:
    ours, theirs = socket.socketpair()
    pumped: list[bool] = []

    class Pump:
        def pump(self, framing: object, buffer: memoryview, mono_ns: int, wall_offset_ns: int) -> int:
            pumped.append(True)
            return 0

    camera = Camera(Listed(drainer))
    drainer.remove(camera.connection)
    drainer.add(camera.connection, ours.fileno(), lambda events: None, pump=Pump())
    drainer.start()
    drainer.quicken()
    assert pumped == []
    camera.track.queue.watched = True
    drainer.quicken()
    assert pumped == [True]
    drainer.stop()
    drainer.remove(camera.connection)
    camera.close()
    for end in (ours, theirs):
        end.close()
