"""The whole server records simulated cameras and replays them over RTSP, up to what is being recorded and on."""

import asyncio
import time
from itertools import pairwise

import pytest

from api.replay.ask import range_text
from recorder.base.media import NS
from tests.cli.conftest import free_port, until
from tests.cli.test_serve_live import camera, frames, simulated
from tests.media.replayclient import ReplayClient

pytestmark = pytest.mark.live


def test_a_recorder_replays_what_it_records_and_goes_on_at_the_edge(site):
    site.init()
    port = free_port()
    with simulated("--audio", "aac") as source:
        site.write(camera("good", f"rtsp://127.0.0.1:{source}/cam0"), "[rtsp_out]", f"port = {port}")
        begun_ns = time.time_ns()
        site.start("serve", "--config", site.file, log="serve")
        until(lambda: "serve: Test: 1 slots" in site.log() and frames(site, "good") > 60, "some seconds of footage")
        asyncio.run(follows(port, begun_ns))
    asyncio.run(ends(port, begun_ns))
    assert "Traceback" not in site.log()


async def follows(port, begun_ns):
    """From the beginning as fast as it goes, then as it is recorded."""
    async with ReplayClient(port, "/replay/good") as client:
        assert (await client.ask("DESCRIBE", Require="onvif-replay"))[0] == 200
        assert await client.set_up("main", "audio") == 200
        asked_ns = time.time_ns()
        status, said = await client.play(Range=range_text(begun_ns - 60 * NS, None), Rate_Control="no")
        assert (status, said["rate-control"]) == (200, "no")
        await client.until(lambda: client.units and client.units[-1].wall_ns > asked_ns + 3 * NS, seconds=60)
        pictures, sound = ([unit for unit in client.units if unit.stream == stream] for stream in (0, 1))
        assert pictures[0].clean
        assert pictures[0].jump
        assert not any(unit.jump for unit in pictures[1:])
        assert not any(unit.end or unit.last for unit in client.units)
        steps = {round((after.wall_ns - before.wall_ns) / NS, 2) for before, after in pairwise(pictures)}
        assert steps <= {0.09, 0.1, 0.11}
        assert [unit.clean for unit in pictures[:21]] == [number % 10 == 0 for number in range(21)]
        assert len(sound) > 50


async def ends(port, begun_ns):
    """The camera has gone: its last picture says so; backwards its first."""
    async with ReplayClient(port, "/replay/good") as client:
        await client.set_up("main")
        await client.play(Range=range_text(begun_ns, None), Rate_Control="no")
        await client.until(lambda: any(unit.last for unit in client.units), seconds=120)
        flagged = [unit for unit in client.units if unit.end]
        assert flagged == [client.units[-1]]
        walls = [unit.wall_ns for unit in client.units]
        client.units.clear()
        await client.play(Range=range_text(time.time_ns(), None), Rate_Control="no", Scale="-1.0")
        await client.until(lambda: any(unit.last for unit in client.units), seconds=60)
        assert sorted(unit.wall_ns for unit in client.units) == walls
        assert [unit.wall_ns for unit in client.units if unit.jump] == [wall for number, wall in enumerate(walls) if number % 10 == 0][::-1]
        assert [unit.end for unit in client.units].index(True) == len(client.units) - 1
