"""Many cameras at once, some of them dead, one of them mad: the others do not notice."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from recorder.base.media import GapCause
from recorder.gate import HandshakeGate
from tests.session.fake_camera import FakeCamera, Link, Request, reply
from tests.session.rig import Rig

GOOD, MUTE, HOLES = 180, 10, 10


class CountingGate(HandshakeGate):
    """The gate, and how many were inside at once."""

    def __init__(self, at_once: int) -> None:
        super().__init__(at_once, place_s=3600)
        self.inside = self.most = 0

    @asynccontextmanager
    async def enter(self, address: str, *, keeps: bool = False, silent: bool = False) -> AsyncIterator[None]:
        async with super().enter(address, keeps=keeps, silent=silent):
            self.inside += 1
            self.most = max(self.most, self.inside)
            try:
                yield
            finally:
                self.inside -= 1


def slow_pictures(camera: FakeCamera) -> None:
    """A key picture twice a second: this process plays all the cameras."""
    async def send(link: Link) -> None:
        index = 0
        while True:
            link.send(link.key_picture(index * 45_000))
            index += 1
            await asyncio.sleep(0.5)

    def play(request: Request) -> bytes:
        request.link.playing = asyncio.create_task(send(request.link))
        return reply(request, 200)
    camera.answers["PLAY"] = play


@contextmanager
def black_hole(host: str) -> Iterator[str]:
    """An address where nobody answers a SYN: its queue of connections is full."""
    with contextlib.ExitStack() as held:
        server = held.enter_context(socket.socket())
        server.bind((host, 0))
        server.listen(0)
        for _ in range(4):
            filler = held.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield f"rtsp://{host}:{server.getsockname()[1]}/x"


async def test_two_hundred_cameras_at_once_of_which_twenty_are_dead(record_property: Callable[[str, object], None]) -> None:
    gate = CountingGate(16)
    async with contextlib.AsyncExitStack() as held:
        urls = []
        for number in range(GOOD + MUTE):
            camera = await held.enter_async_context(FakeCamera(host=f"127.1.{number // 200}.{number % 200 + 1}"))
            slow_pictures(camera)
            if number >= GOOD:
                camera.answers["OPTIONS"] = lambda r: None
            urls.append(camera.url)
        urls[20:20] = [held.enter_context(black_hole(f"127.2.0.{number + 1}")) for number in range(HOLES)]
        rig = await held.enter_async_context(Rig(gate=gate))
        began = asyncio.get_running_loop().time()
        for number, url in enumerate(urls, 1):
            rig.record(url, number, audio=False)
        good = [n for n in range(1, len(urls) + 1) if not 20 < n <= 20 + HOLES and n <= GOOD + HOLES]
        assert len(good) == GOOD
        await rig.until(lambda: all(rig.stream(n).state == "recording" for n in good))
        record_property("all good ones record after, s", round(asyncio.get_running_loop().time() - began, 1))
        record_property("loop lag, buckets of 1 2 5 10 20 50 100 200 500 1000 ms", rig.drainer.lag.counts)
        dead = [n for n in range(1, len(urls) + 1) if n not in good]
        await rig.until(lambda: all(rig.stream(n).failures.get(GapCause.OFFLINE) for n in dead))
        assert gate.most <= 16
        assert all(rig.tape(number=n).gaps == [] for n in good)
        assert {rig.stream(n).error.cause for n in dead} == {GapCause.OFFLINE}  # type: ignore[union-attr]


async def test_forty_cameras_that_answer_a_byte_at_a_time_do_not_keep_a_good_one_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.rtsp.connection.ANSWER_S", 3600)       # none of them is ever given up
    monkeypatch.setattr("recorder.source.HANDSHAKE_S", 3600)

    def drip(request: Request) -> None:
        async def send() -> None:
            for byte in reply(request, 200, "X: " + "y" * 1000):
                request.link.send(bytes([byte]))
                await asyncio.sleep(1)
        request.link.playing = asyncio.create_task(send())
    async with contextlib.AsyncExitStack() as held:
        slow = [await held.enter_async_context(FakeCamera(host=f"127.3.0.{number + 1}")) for number in range(40)]
        good = await held.enter_async_context(FakeCamera())
        rig = await held.enter_async_context(Rig())
        for number, camera in enumerate(slow, 2):
            camera.answers["OPTIONS"] = drip
            rig.record(camera.url, number)
        await rig.until(lambda: sum(len(camera.links) for camera in slow) >= 16)
        rig.record(good.url, 1)
        await rig.recorded()
        assert {rig.stream(number).state for number in range(2, 42)} == {"connecting"}


async def test_a_camera_that_comes_back_does_not_queue_behind_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.rtsp.connection.ANSWER_S", 0.2)
    async with FakeCamera() as one, FakeCamera() as two, FakeCamera() as good, Rig(gate=HandshakeGate(2, place_s=3600)) as rig:
        rig.record(good.url)
        await rig.recorded()
        for number, camera in enumerate((one, two), 2):
            camera.answers["OPTIONS"] = lambda r: None
            rig.record(camera.url, number)
        await rig.until(lambda: all(rig.stream(number).failures for number in (2, 3)))
        monkeypatch.setattr("recorder.rtsp.connection.ANSWER_S", 3600)       # from now on they stay where they are
        await rig.until(lambda: all(rig.stream(number).state == "connecting" for number in (2, 3)))
        good.links[0].reset()
        await rig.until(lambda: any(au["session"] == 2 for au, _ in rig.tape().aus))


async def test_dead_cameras_behind_a_router_do_not_keep_its_good_one_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.rtsp.connection.ANSWER_S", 3600)
    monkeypatch.setattr("recorder.source.HANDSHAKE_S", 3600)
    async with FakeCamera() as one, FakeCamera() as two, FakeCamera() as three, FakeCamera() as good, Rig() as rig:
        for number, camera in enumerate((one, two, three), 2):
            camera.answers["OPTIONS"] = lambda r: None
            rig.record(camera.url, number)
        await rig.until(lambda: one.links and two.links)
        rig.record(good.url)
        await rig.recorded()


async def test_camera_that_sends_a_hundred_times_its_rate_is_cut_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.feed.CEILING_MIN_BPS", 0)

    def play(request: Request) -> bytes:
        async def flood() -> None:
            index = 0
            while True:
                request.link.send(request.link.key_picture(index * 3600))
                index += 1
                await asyncio.sleep(0.01)
        request.link.playing = asyncio.create_task(flood())
        return reply(request, 200)
    async with FakeCamera() as mad, FakeCamera() as sane, Rig() as rig:
        mad.answers["PLAY"] = play
        rig.record(mad.url, kbps=1, audio=False)
        rig.record(sane.url, 2)
        await rig.until(lambda: any(au["gap"] == GapCause.OVERLOAD for au, _ in rig.tape().aus))
        await rig.recorded(50, number=2)
        assert rig.tape(number=2).gaps == [] and not any(au["gap"] or au["flags"] & 4 for au, _ in rig.tape(number=2).aus)
        assert len(rig.tape().aus) < mad.links[0].sequences[0] / 4
        assert rig.stream().state == "recording" and len(mad.links) == 1
