"""A worker records real cameras into a real slot; what it has written is read back and decoded."""

import asyncio
import itertools
import time
from dataclasses import replace
from pathlib import Path

import pytest

from recorder.base.camera_json import camera_to_json
from recorder.base.config import CameraConfig, SiteConfig, StreamConfig, VolumeConfig
from recorder.base.control import ControlClient
from recorder.base.errors import ConfigError, Conflict, NotFound, Refused, VolumeError
from recorder.base.media import NS, GapCause
from recorder.worker import run_worker
from tests.session.fake_camera import PASSWORD, USER, FakeCamera, reply
from tests.worker.recorded import ALL, decoded, gaps, packets, track, until, worker
from tests.worker.servers import gst_camera


@pytest.mark.live
@pytest.mark.parametrize(("video", "audio", "decoders", "entries", "login"), [
    ("h264", "aac", ("h264", "aac"), ("avc1", "mp4a"), False),
    ("h265", "pcma", ("hevc", "pcm_alaw"), ("hvc1", "alaw"), True),
])
async def test_gst_camera_is_recorded_and_every_au_decodes(site: SiteConfig, video: str, audio: str, decoders: tuple[str, str],
                                                           entries: tuple[str, str], login: bool) -> None:
    who = ("--user", USER, "--password", PASSWORD) if login else ()
    async with gst_camera("--video", video, "--audio", audio, *who) as url:
        config = CameraConfig("gst", StreamConfig(url), user=USER, password=PASSWORD)
        async with worker(site, {7: config}) as client:
            status = await until(client, "gst", "main", 75)
            await until(client, "gst", "audio", 30)
    assert (status["state"], status["tracks"]["main"]["codec"], status["tracks"]["main"]["width"]) == ("recording", video, 640)
    for name, decoder, entry in zip(("main", "audio"), decoders, entries, strict=True):
        reader = track(site, 7, name)
        frames = decoded(reader, decoder)
        assert len(frames) >= (75 if name == "main" else 30)
        assert [gap.cause for gap in gaps(reader)] == [GapCause.STOPPED]
        assert len(reader.spans(*ALL)) == 1
        first = reader.sample_entry(int(reader.rows(*ALL).rows["sample_entry"][0]))
        assert first.codec == entry
        if name == "main":
            assert (frames[0].width, frames[0].height, first.width, first.height) == (640, 360, 640, 360)
    main, sound = track(site, 7, "main").edges(), track(site, 7, "audio").edges()
    assert abs(main.visible_end_ns - sound.visible_end_ns) < NS // 2


@pytest.mark.live
async def test_b_frames_are_stored_in_decoding_order_and_play_in_order(site: SiteConfig) -> None:
    async with gst_camera("--video", "h264-b", "--gop", "15") as url, worker(site, {1: CameraConfig("b", StreamConfig(url))}) as client:
        await until(client, "b", "main", 60)
    reader = track(site, 1, "main")
    found = packets(reader)
    assert all(b[0] > a[0] for a, b in itertools.pairwise(found))
    assert len({cts for _, cts, _ in found}) > 1
    frames = decoded(reader, "h264")
    assert len(frames) >= 60
    times = sorted(dts + cts for dts, cts, _ in found)
    assert len(set(times)) == len(times)


async def test_camera_comes_and_goes_by_the_control_socket(site: SiteConfig) -> None:
    async with FakeCamera() as camera:
        config = CameraConfig("fake", StreamConfig(camera.url))
        async with worker(site) as client:
            order = {"number": 3, "camera": camera_to_json(config, secrets=True)}
            await client.call("camera.start", order)
            with pytest.raises(Conflict):
                await client.call("camera.start", order)
            await until(client, "fake", "main", 20)
            await client.call("camera.stop", {"number": 3})
            assert (await client.call("status"))["cameras"] == {}
            with pytest.raises(NotFound):
                await client.call("camera.stop", {"number": 3})
            for bad in ({}, {"number": "3"}, {"number": True}, {"number": 0}, {"number": 4, "camera": []}):
                with pytest.raises(Refused):
                    await client.call("camera.start", bad)
            with pytest.raises(NotFound):
                await client.call("nonsense")
            await client.call("camera.start", order)
            await until(client, "fake", "main", 20)
    for name in ("main", "audio"):
        causes = [gap.cause for gap in gaps(track(site, 3, name))]
        assert causes == [GapCause.OPERATOR, GapCause.STOPPED], name


async def test_a_worker_with_all_its_cameras_refuses_another_and_says_of_its_own_that_they_are_there(
        site: SiteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.cameras.CAMERAS_MAX", 1)
    async with FakeCamera() as camera, worker(site) as client:
        order = {"number": 1, "camera": camera_to_json(CameraConfig("fake", StreamConfig(camera.url)), secrets=True)}
        await client.call("camera.start", order)
        with pytest.raises(Conflict, match="recorded already"):
            await client.call("camera.start", order)
        with pytest.raises(Refused, match="a slot takes at most 1 cameras"):
            await client.call("camera.start", {**order, "number": 2})
        await until(client, "fake", "main", 20)


async def test_a_camera_that_is_changed_before_its_track_is_open_is_recorded_in_that_track(site: SiteConfig) -> None:
    """A new track takes two flushes: who stops meanwhile must not leave it to nobody, and no other takes its place."""
    async with FakeCamera() as camera, worker(site) as client:
        for number, order in enumerate([("start", "stop", "start"), ("start", "stop", "start", "stop", "start")], 1):
            config = camera_to_json(CameraConfig(f"fake{number}", StreamConfig(camera.url)), secrets=True)
            for call in order:
                await client.call(f"camera.{call}", {"number": number, "camera": config})
        for number in (1, 2):
            status = await until(client, f"fake{number}", "main", 20)
            assert set(status["tracks"]) <= {"main", "audio"}


async def test_lost_camera_is_a_gap_that_closes_when_it_returns(site: SiteConfig) -> None:
    async with FakeCamera() as camera, worker(site, {1: CameraConfig("fake", StreamConfig(camera.url))}) as client:
        await until(client, "fake", "main", 20)
        camera.links[0].writer.close()
        async with asyncio.timeout(120):
            while [gap.end_ns is None for gap in gaps(track(site, 1, "main"))] != [False]:     # published 2 s after its return
                await asyncio.sleep(0.1)
        (gap,) = gaps(track(site, 1, "main"))
    assert gap.cause is GapCause.OFFLINE
    assert gap.end_ns is not None and 0 < gap.end_ns - gap.start_ns < 10 * NS
    rows = track(site, 1, "main").rows(*ALL).rows
    assert all(rows["t_ns"][1:] >= rows["t_ns"][:-1])


async def test_each_stretch_of_an_outage_keeps_its_own_cause(site: SiteConfig) -> None:
    async with FakeCamera() as camera:
        config = {1: CameraConfig("fake", StreamConfig(camera.url))}
        async with worker(site, config) as client:
            await until(client, "fake", "main", 60)
            camera.answers["DESCRIBE"] = lambda r: reply(r, 404)
            camera.links[0].writer.close()
            await state(client, "refused")
    async with worker(site, config) as client:
        await state(client, "offline")
    found = gaps(track(site, 1, "main"))
    assert [gap.cause for gap in found] == [GapCause.OFFLINE, GapCause.REFUSED, GapCause.OFFLINE]
    assert all(a.end_ns == b.start_ns for a, b in itertools.pairwise(found)) and found[-1].end_ns is None


async def test_the_time_before_the_first_picture_is_a_gap_with_the_reason(site: SiteConfig) -> None:
    """A new camera is expected from the moment it is begun, whether it answers or not."""
    began_ns = time.time_ns()
    async with FakeCamera() as camera:
        camera.answers["DESCRIBE"] = lambda r: reply(r, 404)
        async with worker(site, {1: CameraConfig("fake", StreamConfig(camera.url))}) as client:
            await state(client, "refused")
            (gap,) = track(site, 1, "main").gaps(*ALL)
            assert (gap.cause, gap.end_ns) == (GapCause.REFUSED, None) and began_ns <= gap.start_ns < time.time_ns()
            del camera.answers["DESCRIBE"]
            await until(client, "fake", "main", 60)
    first, last = track(site, 1, "main").gaps(*ALL)
    assert (first.start_ns, first.cause, last.cause) == (gap.start_ns, GapCause.REFUSED, GapCause.STOPPED)
    found = track(site, 1, "main").timeline(began_ns, last.start_ns)
    assert found.spans[0].start_ns == first.end_ns and abs(found.expected_ns - (last.start_ns - gap.start_ns)) < NS // 10


async def state(client: ControlClient, cause: str) -> None:
    """Wait for the camera's gap to have this cause."""
    async with asyncio.timeout(120):
        while (await client.call("status"))["cameras"].get("fake", {}).get("cause") != cause:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)           # the tape's writer takes the command at its next pass, 40 ms later at most


async def test_worker_without_a_volume_says_so_and_starts_nothing(site: SiteConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="volume init"):
        await run_worker(replace(site, volumes=()), 0)
    with pytest.raises(VolumeError):
        await run_worker(replace(site, volumes=(VolumeConfig(tmp_path / "none", on_root=True),)), 0)
