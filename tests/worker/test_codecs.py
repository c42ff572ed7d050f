"""Every codec of a camera made by somebody else (gst-rtsp-server): recorded, each AU decoded, and a clip that ffmpeg plays without a word."""

import asyncio
import itertools
import time
from pathlib import Path
from typing import Any

import av
import pytest

from api.clipplan import ClipQuery, plan
from recorder.base.config import CameraConfig, SiteConfig, StreamConfig
from recorder.base.media import NS, AuFlag, GapCause, RowFlag
from storage.store import TapeStore
from tests.ffmpeg import complaints
from tests.worker.recorded import ALL, decoded, gaps, packets, track, until, worker
from tests.worker.servers import gst_camera

pytestmark = pytest.mark.live
TONE_ENTRIES = {"aac": "mp4a", "latm": "mp4a", "opus": "Opus", "pcma": "alaw", "pcmu": "ulaw", "g726": "g726", "aal2-g726": "g726",
                "l16": "twos"}


def clip_of(site: SiteConfig, file: Path) -> None:
    """A clip of 3 s of camera 1, as the API would send it."""
    store = TapeStore([site.volumes[0].path], site.live_dir)
    try:
        rows = store.track(1, "main").rows(*ALL).rows
        start_ns = int(rows["t_ns"][0]) + NS // 2
        made = plan(store, ClipQuery(1, "main", start_ns, start_ns + 3 * NS), time.time_ns())
        readers = made.readers(store)
        with file.open("wb") as out:
            out.write(made.movie.head)
            extents = made.movie.extents
            for index, offset, size in zip(extents.track.tolist(), extents.offset.tolist(), extents.size.tolist(), strict=True):
                out.write(read(readers[index], offset, size))
    finally:
        store.close()


def read(reader: Any, offset: int, size: int) -> bytes:
    tape_bytes = (31 * (512 << 10)) if reader.kind == "video" else (15 * (64 << 10))
    buffer = bytearray(size)
    with reader.open_chunk(offset // tape_bytes) as lease:
        assert lease.read(memoryview(buffer), offset, nowait=False) == size
    return bytes(buffer)


def plays(file: Path) -> tuple[int, int]:
    """Pictures and sound samples that ffmpeg decodes; it may not say anything."""
    assert complaints(file) == ""
    pictures = samples = 0
    with av.open(str(file)) as opened:
        for frame in opened.decode():
            pictures += isinstance(frame, av.VideoFrame)
            samples += frame.samples if isinstance(frame, av.AudioFrame) else 0
    return pictures, samples


@pytest.mark.parametrize(("video", "audio", "rate"), [
    ("mjpeg", "opus", 48_000), ("h264", "latm", 16_000), ("h265", "l16", 16_000), ("h264", "g726", 8000), ("mjpeg", "aal2-g726", 8000),
    ("h265-ap", "pcmu", 8000), ("h264", "aac", 16_000),
])
async def test_each_codec_is_recorded_decoded_and_played(site: SiteConfig, video: str, audio: str, rate: int, tmp_path: Path) -> None:
    async with gst_camera("--video", video, "--audio", audio) as url, worker(site, {1: CameraConfig("gst", StreamConfig(url))}) as client:
        await until(client, "gst", "main", 75)
        status = await until(client, "gst", "audio", 12)
    assert (status["tracks"]["main"]["width"], status["tracks"]["main"]["height"]) == (640, 360)
    main, sound = track(site, 1, "main"), track(site, 1, "audio")
    for reader in (main, sound):
        assert [gap.cause for gap in gaps(reader)] == [GapCause.STOPPED]
        assert len(reader.spans(*ALL)) == 1 and reader.spans(*ALL)[0].damaged == ()
    frames = decoded(main, {"mjpeg": "mjpeg", "h264": "h264"}.get(video, "hevc"))
    assert len(frames) >= 75 and {(frame.width, frame.height) for frame in frames} == {(640, 360)}
    entry = sound.sample_entry(int(sound.rows(*ALL).rows["sample_entry"][0]))
    assert (entry.codec, entry.sample_rate) == (TONE_ENTRIES[audio], rate)
    assert all(0 < b[0] - a[0] < entry.clock_rate for a, b in itertools.pairwise(packets(sound)))
    await asyncio.to_thread(clip_of, site, tmp_path / "clip.mp4")
    pictures, samples = await asyncio.to_thread(plays, tmp_path / "clip.mp4")
    assert 43 <= pictures <= 47                       # 3 s at 15 a second
    assert abs(samples - 3 * rate) < rate // 5


async def test_sequence_and_timestamps_that_wrap_within_a_second_leave_no_trace(site: SiteConfig) -> None:
    async with gst_camera("--audio", "pcma", "--seq", "65500", "--ts", "4294900000") as url, \
            worker(site, {1: CameraConfig("gst", StreamConfig(url))}) as client:
        await until(client, "gst", "main", 60)
        await until(client, "gst", "audio", 60)
    for name, step in (("main", 6000), ("audio", 160)):
        reader = track(site, 1, name)
        dts = [found[0] for found in packets(reader)]
        assert dts[0] < 1 << 32 < dts[-1] or name == "audio"
        assert all(0 < b - a < 20 * step for a, b in itertools.pairwise(dts))
        assert len(reader.spans(*ALL)) == 1 and [gap.cause for gap in gaps(reader)] == [GapCause.STOPPED]


@pytest.mark.parametrize("options", [("--slices", "4"), ("--aggregate", "max-stap"), ("--slices", "3", "--aggregate", "zero-latency")])
async def test_slices_and_aggregation_packets_give_whole_pictures(site: SiteConfig, options: tuple[str, ...]) -> None:
    async with gst_camera(*options) as url, worker(site, {1: CameraConfig("gst", StreamConfig(url))}) as client:
        await until(client, "gst", "main", 60)
    reader = track(site, 1, "main")
    found = packets(reader)
    assert len(decoded(reader, "h264")) == len(found) >= 60
    assert {b[0] - a[0] for a, b in itertools.pairwise(found)} <= {6000, 5999, 6001}


async def test_loss_is_marked_where_it_was_and_clean_stretches_are_clean(site: SiteConfig) -> None:
    async with gst_camera("--loss", "0.03", "--gop", "15") as url, worker(site, {1: CameraConfig("gst", StreamConfig(url))}) as client:
        await until(client, "gst", "main", 120)
        status = await until(client, "gst", "main", 130)
    counted = status["tracks"]["main"]
    assert counted["lost_packets"] > 0 and 0 < counted["damaged_aus"] < counted["aus"]
    reader = track(site, 1, "main")
    run = reader.rows(*ALL)
    entries = reader.entries(run)
    damaged = (entries.flags & AuFlag.DAMAGED) != 0
    assert 0 < damaged.sum() < len(damaged)
    flagged = (run.rows["flags"] & RowFlag.DAMAGED) != 0
    assert all(flagged[row] for row in set(entries.row[damaged].tolist()))
    assert not any(flagged[row] for row in set(range(len(run))) - set(entries.row[damaged].tolist()))
    context = av.CodecContext.create("h264", "r")
    whole = 0
    for key, (_, _, data), bad in zip((entries.flags & AuFlag.KEY) != 0, packets(reader), damaged, strict=True):
        if key and not bad:                          # a group that begins whole decodes up to its first damage
            context = av.CodecContext.create("h264", "r")
            context.extradata = reader.sample_entry(int(run.rows["sample_entry"][0])).config
            whole += 1
        if whole and not bad:
            assert all(not frame.is_corrupt for frame in context.decode(av.Packet(data)))
    assert whole


async def test_metadata_is_recorded_beside_the_pictures(site: SiteConfig) -> None:
    async with gst_camera("--metadata") as url, worker(site, {1: CameraConfig("gst", StreamConfig(url), metadata=True)}) as client:
        await until(client, "gst", "main", 45)
        await until(client, "gst", "metadata", 4)
    reader = track(site, 1, "metadata")
    documents = [data for _, _, data in packets(reader)]
    numbers = [int(data.split(b">")[2][:8]) for data in documents]
    assert all(data.startswith(b"<?xml") and data.endswith(b"</tt:MetadataStream>") for data in documents)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    entry = reader.sample_entry(int(reader.rows(*ALL).rows["sample_entry"][0]))
    assert (entry.codec, entry.config) == ("metx", b"vnd.onvif.metadata")
