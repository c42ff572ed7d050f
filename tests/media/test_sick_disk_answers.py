"""A disk that fails after an answer was planned: the answer says so or is broken off, without a traceback, and others are answered on."""

import asyncio
import json
import logging
import os
import struct
import subprocess
from pathlib import Path

import aiohttp
import pytest

from api.cursor import Cursor, CursorQuery, GapHere, Init, Part
from bench.powercut.disk import PowerDisk
from recorder.base.errors import Unreadable
from recorder.base.media import NS, GapCause
from tests.storage_read import reference_writer

pytestmark = pytest.mark.disk
GENEROUS_S = 120
FRAMES = 1500           # some MB: more than is read ahead


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "disk").mkdir()
    made = PowerDisk(tmp_path / "disk", "ext4", plain_bytes=400 << 20)
    yield made
    made.ask("heal")
    made.close()


class Sick:
    """The camera `yard` on a disk that can fail, `gate` on another volume. Nothing of the disk is in the page cache yet."""

    def __init__(self, disk, point, api):
        self.disk, self.point, self.api = disk, point, api

    def fails(self, warm: int = 0):
        """The disk fails; of the chunks only the first `warm` bytes are in the page cache, indexes stay there."""
        for path in self.chunks():
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)        # nothing is read ahead
            os.pread(fd, warm, 0)
            os.close(fd)
        below = os.open(self.disk.files / "disk", os.O_RDONLY)
        os.posix_fadvise(below, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(below)
        self.disk.ask("fail")

    def chunks(self):
        return sorted((self.point / "a/tape.zarr/cam-1/main/c").glob("[0-9]*"))

    def open_chunks(self):
        """How many descriptors of chunks on the disk are open."""
        names = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{fd}")]
        return sum(str(self.point) in name and Path(name).parent.name == "c" for name in names)

    async def gives_back(self):
        """Wait until no chunk is open any more."""
        async with asyncio.timeout(GENEROUS_S):
            while self.open_chunks():
                await asyncio.sleep(0.02)


@pytest.fixture
async def sick(maker, volume, second, disk, tmp_path, caplog):
    stream = maker.video(frames=FRAMES, width=640, height=480)
    maker.write(volume.track(1, "main", start_ns=maker.T0), stream)
    maker.write(second.track(2, "main", start_ns=maker.T0), maker.video(frames=100))
    with disk.mounted() as point:
        subprocess.run(["cp", "-a", volume.path, point / "a"], check=True)
    with disk.mounted() as point:
        moved = reference_writer.RefVolume.__new__(reference_writer.RefVolume)
        moved.path, moved.live_dir = point / "a", volume.live_dir
        async with maker.Api(moved, tmp_path, maker.T0 + 600 * NS, second) as api:
            caplog.set_level(logging.WARNING)
            made = Sick(disk, point, api)
            yield made
            disk.ask("heal")
            await made.gives_back()
    assert [record for record in caplog.records if record.exc_info] == [], "no traceback"


async def ok(api, maker, of="gate"):
    """Another camera is answered."""
    answer, body = await api.get("clip.mp4", of=of, start=maker.T0, end=maker.T0 + 3 * NS)
    assert answer.status == 200 and len(body) == int(answer.headers["Content-Length"])


async def test_bytes_that_cannot_be_read_are_a_503_that_names_the_volume(sick, maker):
    api, asked = sick.api, {"start": maker.T0, "end": maker.T0 + 50 * NS}
    whole, body = await api.get("clip.mp4", **asked)
    assert whole.status == 200
    sick.fails()
    for _ in range(3):
        answer, told = await api.get("clip.mp4", {"Range": f"bytes={len(body) - 1000}-"}, **asked)
        problem = json.loads(told)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert "disk of volume 0" in problem["detail"] and "/" not in problem["detail"] and "incident" not in problem
        await ok(api, maker)
    await sick.gives_back()
    assert api.store.sickness.now() == {0: 1}
    sick.disk.ask("heal")
    answer, again = await api.get("clip.mp4", **asked)
    assert (answer.status, again) == (200, body)


async def test_a_body_that_a_disk_breaks_off_is_not_taken_for_whole(sick, maker):
    api, asked = sick.api, {"start": maker.T0, "end": maker.T0 + 50 * NS}
    _, body = await api.get("clip.mp4", **asked)
    sick.fails(warm=1 << 20)
    with pytest.raises(aiohttp.ClientPayloadError):
        async with api.client.get("/api/v1/cameras/yard/clip.mp4", params={k: str(v) for k, v in asked.items()}) as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(body)))
            await answer.read()
    assert api.media.counts.unreadable_while_sending == 1
    await ok(api, maker)
    await sick.gives_back()


async def shown(cursor, enough):
    """Events up to the first for which `enough` is true."""
    found = []
    async with asyncio.timeout(GENEROUS_S):
        events = cursor.events()
        async for event in events:
            found.append(event)
            if enough(event):
                break
        await events.aclose()
    return found


@pytest.mark.parametrize("index", ["warm", "cold"])
async def test_playback_goes_on_where_footage_can_be_read_again(sick, maker, second, index):
    maker.write(second.track(1, "main", start_ns=maker.T0 + 100 * NS), maker.video(frames=100))
    api, begin_ns = sick.api, maker.T0 + 57 * NS
    if index == "warm":
        await api.get("clip.json", start=maker.T0, end=maker.T0 + 110 * NS)
        await shown(Cursor(api.media, CursorQuery(1, start_ns=begin_ns)), lambda event: isinstance(event, Part))
        sick.fails()
    else:
        Path("/proc/sys/vm/drop_caches").write_text("3")
        sick.disk.ask("fail")
    second_ns = maker.T0 + 100 * NS
    events = await shown(Cursor(api.media, CursorQuery(1, start_ns=begin_ns)), lambda event: isinstance(event, Part))
    assert isinstance(events[-1], Part) and events[-1].newest_ns >= second_ns
    assert [event for event in events if isinstance(event, Init)][-1].wall_ns == pytest.approx(second_ns, abs=NS)
    gaps = [event for event in events if isinstance(event, GapHere)]
    assert {gap.cause for gap in gaps} <= {GapCause.DISK} and (index == "cold" or gaps[-1].end_ns >= second_ns)
    await sick.gives_back()


async def test_a_stream_that_cannot_go_on_is_broken_off(sick, maker):
    """The client can tell it from one that has ended: the last chunk of the body does not come."""
    api = sick.api
    await api.get("clip.json", start=maker.T0, end=maker.T0 + 60 * NS)
    async with api.client.get("/api/v1/cameras/yard/stream.mp4", params={"start": str(maker.T0), "speed": "16"}) as answer:
        assert answer.status == 200
        await answer.content.readexactly(1000)
        sick.fails()
        with pytest.raises(aiohttp.ClientPayloadError):
            async with asyncio.timeout(GENEROUS_S):
                await answer.content.read()
    assert api.media.counts.unreadable_while_sending == 1
    await ok(api, maker)
    await sick.gives_back()


async def test_backwards_what_a_disk_cannot_read_is_passed_over(sick, maker):
    from api.rewind import Rewind
    api, query = sick.api, CursorQuery(1, start_ns=maker.T0 + 104 * NS, speed=-64.0, scaled=True)
    await shown(Rewind(api.media, query), lambda event: False)
    sick.fails()
    with pytest.raises(Unreadable):
        await shown(Rewind(api.media, CursorQuery(1, start_ns=maker.T0 + 104 * NS, speed=-1.0, scaled=True)), lambda event: False)
    await sick.gives_back()


async def test_a_live_view_goes_on_when_the_camera_is_recorded_elsewhere(sick, maker, tmp_path, volume, second):
    """The newest rows lie on the sick disk; the camera goes to the other volume while the viewer waits."""
    other = second.track(1, "main")
    api = sick.api
    maker.write(other, maker.video(frames=50), t_ns=maker.T0 - 100 * NS)
    assert api.store.whole(1, "main").newest.place == 0
    await shown(Cursor(api.media, CursorQuery(1)), lambda event: isinstance(event, Part))
    sick.fails()
    viewer = asyncio.create_task(shown(Cursor(api.media, CursorQuery(1)), lambda event: isinstance(event, Part)))
    async with asyncio.timeout(GENEROUS_S):
        while not api.store.sickness.errors[0]:
            await asyncio.sleep(0.02)
    assert not viewer.done()
    maker.write(other, maker.video(frames=100), t_ns=maker.T0 + 100 * NS)
    events = await viewer
    assert events[-1].newest_ns >= maker.T0 + 100 * NS
    assert [event.cause for event in events if isinstance(event, GapHere)] == [GapCause.DISK]


async def live_tile(api, **wish):
    """What a tile is told until it ends."""
    origin = str(api.client.make_url("/")).rstrip("/")
    told = []
    async with api.client.ws_connect("/api/v1/live", headers={"Origin": origin}) as socket, asyncio.timeout(GENEROUS_S):
        await socket.send_json({"op": "subscribe", "tile": 1, "camera": "yard", **wish})
        while True:
            message = await socket.receive()
            _, kind = struct.unpack_from(">IB", message.data)
            told.append((kind, message.data[8:]))
            if kind == 3 and json.loads(message.data[8:]).get("state") == "ended":
                return told


async def test_a_tile_of_which_nothing_can_be_read_ends_with_words(maker, volume, disk, tmp_path, caplog):
    maker.write(volume.track(1, "main", start_ns=maker.T0), maker.video(frames=100))
    with disk.mounted() as point:
        subprocess.run(["cp", "-a", volume.path, point / "a"], check=True)
    with disk.mounted() as point:
        moved = reference_writer.RefVolume.__new__(reference_writer.RefVolume)
        moved.path, moved.live_dir = point / "a", volume.live_dir
        async with maker.Api(moved, tmp_path, maker.T0 + 600 * NS) as api:
            disk.ask("fail")
            told = await live_tile(api, start=str(maker.T0))
            assert "disk" in json.loads(told[-1][1])["cause"]
            for path in ("stream.mp4", "clip.mp4", "clip.json", "frame.jpg", "sheet.jpg", "hls/vod.m3u8"):
                query = {"time": maker.T0} if path == "frame.jpg" else {"start": maker.T0} if path == "stream.mp4" else {
                    "start": maker.T0, "end": maker.T0 + 2 * NS}
                answer, body = await api.get(path, **query)
                assert (answer.status, answer.headers.get("Retry-After")) == (503, "5"), (path, body)
            disk.ask("heal")
    assert [record for record in caplog.records if record.exc_info] == [], "no traceback"
