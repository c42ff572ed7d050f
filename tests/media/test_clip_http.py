"""clip.mp4 over the real application and a real volume: conditions, ranges, ends, retirement."""

import asyncio
import random

import aiohttp
import pytest

from recorder.base.media import NS, GapCause, TrackKind
from storage import items

FRAME_NS = NS // 25


@pytest.fixture
async def yard(maker, volume, tmp_path):
    """10 s of H.264 with B-frames and AAC, written and committed; the clock stands 60 s after."""
    main = volume.track(1, "main", start_ns=maker.T0)
    sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=48_000, start_ns=maker.T0)
    maker.write(main, maker.video(frames=250, bframes=2))
    maker.write(sound, maker.audio(10.0))
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as api:
        api.main, api.sound = main, sound
        yield api


async def test_random_ranges_are_exact(yard, maker, save):
    dice = random.Random(5)
    for _ in range(12):
        first, last = sorted(dice.sample(range(248), 2))
        answer, body = await yard.get("clip.mp4", start=maker.T0 + first * FRAME_NS, end=maker.T0 + last * FRAME_NS)
        assert (answer.status, answer.headers["Watchroom-Complete"]) == (200, "yes")
        got = maker.decode(save(body))
        assert got.messages == ""
        assert got.numbers == list(range(first, last))
        assert abs(len(got.sound) / 48_000 - (last - first) / 25) < 1024 / 48_000


async def test_ranges_put_together_are_the_file(yard, maker):
    query = {"start": maker.T0 + 3 * NS + 1, "end": maker.T0 + 8 * NS}
    whole, body = await yard.get("clip.mp4", **query)
    assert int(whole.headers["Content-Length"]) == len(body)
    dice, at, parts = random.Random(2), 0, []
    while at < len(body):
        stop = min(len(body), at + dice.randrange(1, 60_000))
        answer, part = await yard.get("clip.mp4", {"Range": f"bytes={at}-{stop - 1}", "If-Range": whole.headers["ETag"]}, **query)
        assert (answer.status, answer.headers["Content-Range"]) == (206, f"bytes {at}-{stop - 1}/{len(body)}")
        parts.append(part)
        at = stop
    assert b"".join(parts) == body
    tail, last = await yard.get("clip.mp4", {"Range": "bytes=-1000"}, **query)
    assert (tail.status, last) == (206, body[-1000:])
    several, first = await yard.get("clip.mp4", {"Range": "bytes=5-9,20-30"}, **query)
    assert (several.status, first) == (206, body[5:10])


@pytest.mark.parametrize(("header", "status"), [("bytes=99999999-", 416), ("bytes=9-5", 200), ("lines=1-2", 200), ("bytes=-0", 416),
                                                ("bytes=x", 200), ("bytes=١-٢", 200), ("bytes=" + "9" * 40 + "-", 200), ("bytes=0-", 206)])
async def test_odd_ranges(header, status, yard, maker):
    answer, _ = await yard.get("clip.mp4", {"Range": header}, start=maker.T0, end=maker.T0 + NS)
    assert answer.status == status
    if status == 416:
        assert answer.headers["Content-Range"].startswith("bytes */")


async def test_head_says_what_get_sends(yard, maker):
    query = {"start": maker.T0, "end": maker.T0 + NS}
    head, nothing = await yard.get("clip.mp4", method="HEAD", **query)
    answer, body = await yard.get("clip.mp4", **query)
    assert (head.status, nothing) == (200, b"")
    for name in ("Content-Length", "ETag", "Content-Type", "Accept-Ranges", "Watchroom-Start"):
        assert head.headers[name] == answer.headers[name]
    assert int(head.headers["Content-Length"]) == len(body)


async def test_etag_stays_while_recording_goes_on(yard, maker):
    """The same footage has the same tag, although the cache forgets and the row it ends in grows and closes."""
    more = maker.video(frames=100, first=250)
    maker.write(yard.main, more, close=False, stop=40)
    query = {"start": maker.T0 + 9 * NS, "end": maker.T0 + 10 * NS + 20 * FRAME_NS, "audio": "none"}
    first, body = await yard.get("clip.mp4", **query)
    assert first.headers["ETag"].startswith('"')
    yard.main.close_row()
    maker.write(yard.main, more, first=50)
    yard.media.clips.drop(next(iter(yard.media.clips._held)))
    second, again = await yard.get("clip.mp4", **query)
    assert second.headers["ETag"] == first.headers["ETag"]
    assert again == body
    same, nothing = await yard.get("clip.mp4", {"If-None-Match": first.headers["ETag"]}, **query)
    assert (same.status, nothing) == (304, b"")
    other, all_of_it = await yard.get("clip.mp4", {"If-Range": '"other"', "Range": "bytes=0-9"}, **query)
    assert (other.status, all_of_it) == (200, body)


async def test_end_that_is_not_recorded_yet_is_said(yard, maker, save):
    answer, body = await yard.get("clip.mp4", start=maker.T0 + 9 * NS, end=maker.T0 + 11 * NS)
    assert (answer.status, answer.headers["Watchroom-Complete"]) == (200, "no")
    assert answer.headers["ETag"].startswith('W/"')
    assert maker.decode(save(body)).numbers == list(range(225, 250))
    ranged, _ = await yard.get("clip.mp4", {"Range": "bytes=0-9", "If-Range": answer.headers["ETag"]}, start=maker.T0 + 9 * NS,
                               end=maker.T0 + 11 * NS)
    assert ranged.status == 200


async def test_only_durable_pictures_are_served(yard, maker, save):
    maker.write(yard.main, maker.video(frames=100, first=250), durable=False)
    _, body = await yard.get("clip.mp4", start=maker.T0 + 9 * NS, end=maker.T0 + 12 * NS, audio="none")
    assert maker.decode(save(body)).numbers == list(range(225, 250))


async def test_waits_for_the_end_when_asked(yard, maker, save):
    async def record() -> None:
        await asyncio.sleep(0.3)
        maker.write(yard.main, maker.video(frames=100, first=250))
    task = asyncio.ensure_future(record())
    answer, body = await yard.get("clip.mp4", start=maker.T0 + 9 * NS, end=maker.T0 + 11 * NS, wait=1, audio="none")
    await task
    assert answer.headers["Watchroom-Complete"] == "yes"
    assert maker.decode(save(body)).numbers == list(range(225, 275))


async def test_open_gap_makes_a_clip_complete(yard, maker):
    """A camera that is offline since: nothing can come any more for the time before now."""
    yard.main.log(items.GapOpen(maker.T0 + 10 * NS, GapCause.OFFLINE))
    query = {"start": maker.T0 + 9 * NS, "audio": "none"}
    answer, _ = await yard.get("clip.mp4", end=maker.T0 + 30 * NS, **query)
    assert answer.headers["Watchroom-Complete"] == "yes"
    future, _ = await yard.get("clip.mp4", end=maker.T0 + 90 * NS, **query)
    assert future.headers["Watchroom-Complete"] == "no"


async def test_gap_is_answered_with_its_cause(yard, maker):
    yard.main.log(items.GapOpen(maker.T0 + 10 * NS, GapCause.STALL))
    answer, _ = await yard.get("clip.mp4", start=maker.T0 + 20 * NS, end=maker.T0 + 30 * NS)
    assert answer.status == 404
    assert [gap["cause"] for gap in (await answer.json())["gaps"]] == ["stall"]


async def test_times_that_cannot_be(yard, maker):
    future, _ = await yard.get("clip.mp4", start=maker.T0 + 100 * NS, end=maker.T0 + 101 * NS)
    assert future.status == 416
    before, _ = await yard.get("clip.mp4", start=maker.T0 - 100 * NS, end=maker.T0 - 90 * NS)
    assert before.status == 404
    backwards, _ = await yard.get("clip.mp4", start=maker.T0 + 2, end=maker.T0 + 1)
    assert backwards.status == 400
    long, _ = await yard.get("clip.mp4", start=maker.T0, end=maker.T0 + 13 * 3600 * NS)
    assert long.status == 400
    track, _ = await yard.get("clip.mp4", start=maker.T0, end=maker.T0 + NS, track="sub")
    assert track.status == 404


async def test_sound_alone(yard, maker, save):
    answer, body = await yard.get("clip.mp4", start=maker.T0 + NS, end=maker.T0 + 3 * NS, track="audio")
    got = maker.decode(save(body))
    assert (answer.status, got.messages, got.numbers) == (200, "", [])
    assert abs(len(got.sound) - 96_000) <= 1024


async def test_inband_names_the_entry_so(yard, maker, save):
    _, body = await yard.get("clip.mp4", start=maker.T0, end=maker.T0 + NS, entry="inband")
    assert b"avc3" in body[:4096]
    assert b"avc1avcC" not in body[:4096]
    assert maker.decode(save(body)).messages == ""


async def test_long_clips_are_planned_beside_the_loop(yard, maker, save):
    answer, body = await yard.get("clip.mp4", start=maker.T0 - 3600 * NS, end=maker.T0 + 60 * NS)
    assert answer.status == 200
    assert maker.decode(save(body)).numbers == list(range(250))


@pytest.fixture
async def retiring(maker, volume, tmp_path):
    """Three chunks of footage made of large pictures (which only ever are bytes here)."""
    main = volume.track(1, "main", start_ns=maker.T0)
    aus = tuple(maker.Au(bytes([n % 251]) * 300_000, n * 3600, n * 3600, n % 5 == 0) for n in range(150))
    big = maker.Stream(maker.video().entry, aus, 3600)
    maker.write(main, big)
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as api:
        api.main, api.big = main, big
        yield api


async def test_retired_footage_is_gone(retiring, maker):
    retiring.main.retire()
    answer, _ = await retiring.get("clip.mp4", start=maker.T0, end=maker.T0 + NS)
    assert answer.status == 410


async def test_cached_clip_ends_with_its_footage(retiring, maker):
    query = {"start": maker.T0, "end": maker.T0 + 4 * NS}
    first, _ = await retiring.get("clip.mp4", method="HEAD", **query)
    retiring.main.retire()
    second, _ = await retiring.get("clip.mp4", method="HEAD", **query)
    assert (first.status, second.status) == (200, 200)
    assert first.headers["ETag"] != second.headers["ETag"]


async def test_retirement_under_a_download_ends_it(retiring, maker):
    """The slow client gets the right bytes or none: the connection is cut, and counted."""
    query = {"start": str(maker.T0), "end": str(maker.T0 + 6 * NS)}
    async with retiring.client.get("/api/v1/cameras/yard/clip.mp4", params=query) as answer:
        whole = int(answer.headers["Content-Length"])
        got = bytearray(await answer.content.readexactly(100_000))
        assert retiring.main.retire(clear=False) is False
        with pytest.raises(aiohttp.ClientError):
            while piece := await answer.content.readany():
                got += piece
    assert len(got) < whole
    media = bytes(got[bytes(got).index(b"mdat") + 4:])
    assert media == b"".join(au.data for au in retiring.big.aus)[:len(media)]
    assert retiring.media.counts.retired_while_sending == 1
