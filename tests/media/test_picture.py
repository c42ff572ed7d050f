"""frame.jpg is the right picture, and a decoder that dies takes nobody with it."""

import asyncio
import io
import os
import signal
from pathlib import Path

import av
import pytest

from api.decoder.pool import DecoderPool
from api.decoder.wire import Job, SoundJob
from api.problems import Problem
from bench.camsim import pattern
from recorder.base.media import NS, GapCause
from storage import items

FRAME_NS = NS // 25


def number_in(jpeg: bytes):
    with av.open(io.BytesIO(jpeg)) as file:
        frame = next(file.decode(video=0))
        return pattern.read(frame.to_ndarray(format="gray")), frame.width, frame.height


@pytest.fixture(params=["h264-b", "hevc-open"])
async def yard(request, maker, volume, tmp_path):
    main = volume.track(1, "main", start_ns=maker.T0)
    content = {"h264-b": {"bframes": 2, "gop": 30}, "hevc-open": {"codec": "hevc", "bframes": 3, "open_gop": True, "gop": 27}}
    maker.write(main, maker.video(frames=150, **content[request.param]))
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as api:
        api.main = main
        yield api


async def test_picture_is_the_one_shown_then(yard, maker):
    for frame, late_ns in ((0, 0), (1, 7), (26, FRAME_NS - 1), (27, 0), (54, 0), (53, 1), (80, 100), (149, 0), (149, NS)):
        answer, body = await yard.get("frame.jpg", time=maker.T0 + frame * FRAME_NS + late_ns)
        assert answer.status == 200
        assert number_in(body) == (frame, 320, 240), frame
        assert answer.headers["Watchroom-Time"].endswith(f"{frame * FRAME_NS % NS:09d}Z")
    assert yard.media.decoders.started == 1


async def test_newest_picture_without_a_time(yard, maker):
    _, body = await yard.get("frame.jpg", width=160)
    assert number_in(body) == (149, 160, 120)


async def test_times_without_pictures(yard, maker):
    before, _ = await yard.get("frame.jpg", time=maker.T0 - 1)
    assert before.status == 404
    yard.main.log(items.GapOpen(maker.T0 + 6 * NS, GapCause.AUTH))
    after, _ = await yard.get("frame.jpg", time=maker.T0 + 60 * NS)
    assert after.status == 404
    assert (await after.json())["gaps"][0]["cause"] == "auth"


async def test_same_picture_is_not_decoded_twice(yard, maker):
    first, body = await yard.get("frame.jpg", time=maker.T0 + NS)
    second, again = await yard.get("frame.jpg", time=maker.T0 + NS + 5)
    assert (body, first.headers["ETag"]) == (again, second.headers["ETag"])
    assert yard.media.counts.pictures == 1
    third, nothing = await yard.get("frame.jpg", {"If-None-Match": first.headers["ETag"]}, time=maker.T0 + NS)
    assert (third.status, nothing) == (304, b"")


def job_of(maker, frames: int = 3) -> Job:
    stream = maker.video(frames=150, gop=30)
    aus = stream.aus[:frames]
    return Job("avc1", stream.entry.config, tuple(len(au.data) for au in aus), tuple(au.pts for au in aus), aus[-1].pts, 0,
               b"".join(au.data for au in aus))


@pytest.fixture
async def pool():
    made = DecoderPool(1)
    yield made
    await made.close()


async def test_dead_decoder_is_a_503_and_the_next_one_works(pool, maker):
    await pool.work(job_of(maker))
    os.kill(pool._free[0].pid, signal.SIGKILL)
    with pytest.raises(Problem) as caught:
        await pool.work(job_of(maker))
    assert caught.value.status == 503
    assert number_in(await pool.work(job_of(maker)))[0] == 2
    assert pool.started == 2


async def test_stuck_decoder_is_ended(maker):
    pool = DecoderPool(1, job_s=5.0)
    await pool.work(job_of(maker))
    pid = pool._free[0].pid
    pool._job_s = 0.2
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(Problem) as caught:
        await pool.work(job_of(maker))
    assert caught.value.status == 503
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    await pool.close()


async def test_garbage_is_answered_in_words(pool, maker):
    good = job_of(maker)
    bad = Job("avc1", b"\x01\x64", (500,), (0,), 0, 0, os.urandom(500))
    with pytest.raises(Problem) as caught:
        await pool.work(bad)
    assert caught.value.status == 404
    wrong = Job("avc1", good.config, (10**6,), (0,), 0, 0, b"short")
    with pytest.raises(Problem, match="add up"):
        await pool.work(wrong)
    assert number_in(await pool.work(good))[0] == 2
    assert pool.started == 1


async def test_decoder_cannot_open_anything(pool, maker):
    """No file, no socket: the process has given up the right to open anything, and is limited in memory and time."""
    await pool.work(job_of(maker))
    pid = pool._free[0].pid
    limits = {line[:25].strip(): line[26:].split()[:2] for line in Path(f"/proc/{pid}/limits").read_text().splitlines()}
    assert limits["Max open files"] == ["0", "0"]
    assert limits["Max file size"] == ["0", "0"]
    assert limits["Max address space"][0] != "unlimited"
    assert limits["Max cpu time"][0] != "unlimited"
    inside = {os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{pid}/fd")}
    assert inside <= {"/dev/null", "socket"}


async def test_many_pictures_share_few_processes(maker):
    pool = DecoderPool(2)
    made = await asyncio.gather(*(pool.work(job_of(maker, frames)) for frames in range(1, 13)))
    assert [number_in(one)[0] for one in made] == list(range(12))
    assert pool.started <= 2
    await pool.close()


async def test_a_decoder_whose_start_nobody_waits_for_is_ended():
    """A client that goes while its decoder starts leaves neither process nor socket: both would be warned about at the end."""
    pool = DecoderPool(1)
    asking = asyncio.ensure_future(pool.work(SoundJob("alaw", b"", 8000, 1, (160,), (0,), 0, 2, bytes([0xD5]) * 160)))
    while not pool.started:
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert pool._unwanted
    await pool.close()
    assert not pool._unwanted
