"""A disk that answers nothing any more holds up those who read from it, and nobody else."""

import asyncio
import subprocess

import pytest

from bench.powercut.disk import PowerDisk
from recorder.base.media import NS
from tests.storage_read import reference_writer

GENEROUS_S = 120


@pytest.fixture
def powerdisk(tmp_path):
    (tmp_path / "disk").mkdir()
    made = PowerDisk(tmp_path / "disk", "ext4")
    yield made
    made.ask("heal")
    made.close()


@pytest.mark.disk
async def test_a_cold_clip_on_a_disk_that_hangs_does_not_hold_the_loop(maker, volume, powerdisk, tmp_path):
    """Index, chunk file and bytes are cold: nothing of it may be waited for on the loop, which answers others meanwhile."""
    maker.write(volume.track(1, "main", start_ns=maker.T0), maker.video(frames=150))
    query = {"start": maker.T0 + NS, "end": maker.T0 + 3 * NS}
    with powerdisk.mounted() as point:
        subprocess.run(["cp", "-a", volume.path, point / "volume"], check=True)
    with powerdisk.mounted() as point:
        hanging = reference_writer.RefVolume.__new__(reference_writer.RefVolume)
        hanging.path, hanging.live_dir = point / "volume", volume.live_dir
        async with maker.Api(hanging, tmp_path / "hanging", maker.T0 + 70 * NS) as api, \
                maker.Api(volume, tmp_path / "well", maker.T0 + 70 * NS) as other:
            expected = (await other.get("clip.mp4", **query))[1]
            playlist = (await other.get("hls/vod.m3u8", **query))[1].decode()
            segment = next(line for line in playlist.split("\n") if line.endswith(".m4s")).partition("/yard/")[2]
            rows = (await other.get(segment))[1]
            powerdisk.ask("stall")
            waiting = [asyncio.create_task(api.get(path, **asked)) for path, asked in (
                ("clip.mp4", query), (segment, {}), ("frame.jpg", {"time": maker.T0 + NS}), ("sheet.jpg", {**query, "columns": 2, "rows": 1}))]
            for _ in range(20):
                async with asyncio.timeout(GENEROUS_S), api.client.get("/healthz") as answer:
                    assert answer.status == 200
            assert not any(task.done() for task in waiting)
            powerdisk.ask("heal")
            async with asyncio.timeout(GENEROUS_S):
                clip, part, frame, sheet = await asyncio.gather(*waiting)
            assert (clip[1], part[1]) == (expected, rows)
            assert (frame[0].status, sheet[0].status) in {(200, 200), (503, 200)}
