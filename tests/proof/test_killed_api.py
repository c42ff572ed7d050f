"""kill -9 of the API under playback: the recorder does not notice, and the API comes back by itself."""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from bench.camsim.process import SimProcess
from bench.site import Site, wait_until
from recorder.base.media import NS
from tests.proof.kit import SMALL, answers, check_clean, compared, recording

CAMERAS = 3
BACK_S = 300
BROKEN = (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError)


class Players:
    """Clients that play as long as they are let: whatever breaks, they come again. `got` counts what each has received."""

    def __init__(self, site: Site, began_ns: int) -> None:
        self.root = f"http://127.0.0.1:{site.port}/api/v1"
        self.got: Counter[str] = Counter()
        self._began_ns = began_ns

    async def run(self) -> None:
        """Until cancelled."""
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
            for n in range(CAMERAS):
                for play in (self._clips, self._stream, self._live):
                    tasks.create_task(self._again(session, f"cam-{n}", play))

    async def _again(self, session: aiohttp.ClientSession, camera: str, play: Callable[..., Awaitable[None]]) -> None:
        while True:
            with contextlib.suppress(*BROKEN):
                await play(session, camera)
            await asyncio.sleep(0.05)

    async def _clips(self, session: aiohttp.ClientSession, camera: str) -> None:
        query = {"start": str(self._began_ns), "end": str(time.time_ns() - NS)}
        async with session.get(f"{self.root}/cameras/{camera}/clip.mp4", params=query) as answer:
            answer.raise_for_status()
            async for piece in answer.content.iter_any():
                self.got["clip"] += len(piece)

    async def _stream(self, session: aiohttp.ClientSession, camera: str) -> None:
        async with session.get(f"{self.root}/cameras/{camera}/stream.mp4") as answer:
            answer.raise_for_status()
            async for piece in answer.content.iter_any():
                self.got["stream"] += len(piece)

    async def _live(self, session: aiohttp.ClientSession, camera: str) -> None:
        async with session.ws_connect(f"{self.root}/live", headers={"Origin": self.root.removesuffix("/api/v1")}) as socket:
            await socket.send_json({"op": "subscribe", "tile": 1, "camera": camera, "track": "main", "start": None, "credit": 4 << 20})
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    self.got["live"] += len(message.data)
                    await socket.send_json({"op": "ack", "tile": 1, "bytes": len(message.data)})


async def until_played(players: Players, nbytes: int) -> None:
    """Wait until each kind of client has received `nbytes` more."""
    before = players.got.copy()
    async with asyncio.timeout(BACK_S):
        while any(players.got[kind] < before[kind] + nbytes for kind in ("clip", "stream", "live")):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kills", [pytest.param(3, marks=pytest.mark.live), pytest.param(20, marks=pytest.mark.soak)])
async def test_killed_api_costs_no_frame(kills: int, simulate: Callable[..., SimProcess], make_site: Callable[..., Site],
                                         record_property: Callable[[str, object], None]) -> None:
    sim = simulate("--count", str(CAMERAS), "--audio", "aac,none", *SMALL)
    site = make_site({f"cam-{i}": [f'main = {{ url = "{sim.url(i)}", kbps = 400 }}'] for i in range(CAMERAS)})
    with site:
        await asyncio.to_thread(wait_until, lambda: recording(site), 30, "all cameras recording")
        players, workers = Players(site, time.time_ns()), site.worker_pids()
        await asyncio.sleep(3)
        playing = asyncio.create_task(players.run())
        for _ in range(kills):
            await until_played(players, 20_000)
            (victim,) = site.api_pids()
            os.kill(victim, signal.SIGKILL)
            await asyncio.to_thread(wait_until, lambda dead=victim: dead not in site.api_pids() and answers(site), BACK_S, "the API is back")
        await until_played(players, 20_000)
        playing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await playing
        assert site.worker_pids() == workers
    assert site.stop() == 0, site.tail()
    record_property("MB played", round(players.got.total() / 1e6, 1))
    for name, found, sessions in compared(site, sim, end_s=0.5):
        record_property(f"{name} AUs", found.recorded)
        assert found.whole, f"{name}: {found}"
        assert sessions == 1
    check_clean(site)
