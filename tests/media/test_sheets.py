"""Contact sheets and strips show the right picture in each cell, say so in their indexes, and stand a poisoned picture."""

import asyncio
import io
import json
import os
import signal
from dataclasses import replace

import av
import numpy as np
import pytest

from api.clips import PICTURES, PICTURES_PER_HOLDER
from api.making import Making
from api.media import PICTURES_AT_ONCE, SWEEP_S
from api.picture import TRIES
from api.problems import Problem
from api.times import rfc3339
from api.wanted import nearest_key
from bench.camsim import pattern
from recorder.base.media import NS, GapCause
from storage import items

FRAME_NS = NS // 25
HOUR_NS = 3600 * NS


def gray(jpeg: bytes):
    with av.open(io.BytesIO(jpeg)) as file:
        return next(file.decode(video=0)).to_ndarray(format="gray")


def numbers(jpeg: bytes, columns: int, rows: int):
    """The pattern's number in each cell, None where there is none."""
    picture = gray(jpeg)
    high, wide = picture.shape[0] // rows, picture.shape[1] // columns
    cells = (picture[y * high:(y + 1) * high, x * wide:(x + 1) * wide] for y in range(rows) for x in range(columns))
    return [pattern.read(np.ascontiguousarray(cell)) for cell in cells]


@pytest.fixture(params=["h264-b", "hevc-open"])
async def yard(request, maker, volume, tmp_path):
    """150 pictures from T0 on, access points every 30 or 27; then 4 s of nothing, then 50 more."""
    main = volume.track(1, "main", start_ns=maker.T0)
    content = {"h264-b": {"bframes": 2, "gop": 30}, "hevc-open": {"codec": "hevc", "bframes": 3, "open_gop": True, "gop": 27}}[request.param]
    maker.write(main, maker.video(frames=150, **content))
    main.log(items.GapOpen(maker.T0 + 6 * NS, GapCause.AUTH), items.GapClose(maker.T0 + 6 * NS, maker.T0 + 30 * NS))
    maker.write(main, maker.video(frames=50, first=500, **content), t_ns=maker.T0 + 30 * NS)
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as api:
        api.main, api.gop = main, content["gop"]
        yield api


async def test_each_cell_shows_the_access_point_nearest_to_its_time(yard, maker):
    query = {"start": maker.T0, "end": maker.T0 + 6 * NS, "columns": 3, "rows": 2, "width": 320}
    answer, body = await yard.get("sheet.jpg", **query)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/jpeg")
    keys = [number for number in range(150) if number % yard.gop == 0]
    nearest = [min(keys, key=lambda key, frame=frame: abs(key - frame)) for frame in (0, 25, 50, 75, 100, 125)]
    assert numbers(body, 3, 2) == nearest
    _, text = await yard.get("sheet.json", **query)
    index = json.loads(text)
    assert [one["shown"][20:29] for one in index["items"]] == [f"{n * FRAME_NS % NS:09d}" for n in nearest]
    assert (index["width"], index["height"], index["items"][4]["x"], index["items"][4]["y"]) == (320, 240, 320, 240)


async def test_exact_cells_show_the_picture_of_their_time(yard, maker):
    """B-frames, open groups: as frame.jpg, not the access point."""
    query = {"start": maker.T0 + 3, "end": maker.T0 + 6 * NS + 3, "columns": 5, "rows": 3, "width": 320, "frames": "exact"}
    _, body = await yard.get("sheet.jpg", **query)
    assert numbers(body, 5, 3) == [number * 10 for number in range(15)]


async def test_a_cell_in_a_gap_is_black_and_says_why(yard, maker):
    query = {"start": maker.T0 + 12 * NS, "end": maker.T0 + 32 * NS, "columns": 2, "rows": 1, "width": 320}
    _, body = await yard.get("sheet.jpg", **query)
    picture = gray(body)
    assert picture[:, :320].max() < 20
    index = await (await yard.get("sheet.json", **query))[0].json()
    assert (index["items"][0]["shown"], index["items"][0]["cause"]) == (None, "auth")


async def test_strip_and_its_index_agree(yard, maker):
    hour = maker.T0 // HOUR_NS * HOUR_NS
    _, body = await yard.get("strip.jpg", hour=maker.T0, step=10, width=320)
    _, text = await yard.get("strip.vtt", hour=maker.T0, step=10, width=320)
    lines = text.decode().split("\n")
    assert lines[0] == "WEBVTT"
    found = numbers(body, 10, 36)
    cues = [(lines[at], lines[at + 1]) for at in range(len(lines) - 1) if "-->" in lines[at]]
    first = (maker.T0 - hour + 5 * NS) // (10 * NS)
    shown = [number for number, what in enumerate(found) if what is not None]
    assert len(cues) == len(shown)
    assert first in shown
    for (times, address), cell in zip(cues, shown, strict=True):
        assert times.startswith(f"00:{cell // 6:02d}:{cell % 6}0.000 --> ")
        assert address == (f"/api/v1/cameras/yard/strip.jpg?hour={maker.T0}&step=10&width=320"
                           f"#xywh={cell % 10 * 320},{cell // 10 * 240},320,240")


async def test_a_sheet_is_made_once_and_known_by_its_etag(yard, maker):
    query = {"start": maker.T0, "end": maker.T0 + 6 * NS, "columns": 3, "rows": 2, "width": 64}
    got = await asyncio.gather(*(yard.get("sheet.jpg", **query) for _ in range(4)))
    assert len({(answer.headers["ETag"], body) for answer, body in got}) == 1
    assert yard.media.counts.sheets == 1
    again, nothing = await yard.get("sheet.jpg", {"If-None-Match": got[0][0].headers["ETag"]}, **query)
    assert (again.status, nothing) == (304, b"")


async def test_widths_and_counts_are_bounded(yard, maker):
    query = {"start": maker.T0, "end": maker.T0 + 6 * NS}
    for wrong in ({"width": 641}, {"width": 31}, {"columns": 21}, {"columns": 20, "rows": 21}, {"columns": 0}, {"frames": "some"},
                  {"columns": 20, "rows": 20, "width": 640}, {"end": maker.T0 + 32 * 86_400 * NS}):
        answer, _ = await yard.get("sheet.jpg", **{**query, **wrong})
        assert answer.status == 400, wrong
    for wrong in ({"step": 5}, {"width": 400}, {"hour": "soon"}, {"hour": (1 << 63) - 1}, {"hour": -1}):
        answer, _ = await yard.get("strip.jpg", **{"hour": maker.T0, **wrong})
        assert answer.status == 400, wrong


async def test_the_last_moments_that_can_be_said_are_no_error(yard):
    """Sums with them left 64 bits: a 500."""
    most = (1 << 63) - 1
    frame, _ = await yard.get("frame.jpg", time=most)
    sheet, _ = await yard.get("sheet.json", start=most - 10, end=most)
    assert (frame.status, sheet.status) == (404, 200)


async def test_who_asks_for_many_pictures_at_once_leaves_room_for_others(yard, maker, monkeypatch):
    held = asyncio.Event()

    async def wait(_job):
        await held.wait()
        return b"jpeg"

    monkeypatch.setattr(yard.media.decoders, "work", wait)
    asked = [asyncio.create_task(yard.get("frame.jpg", time=maker.T0 + n * FRAME_NS)) for n in range(PICTURES_PER_HOLDER + 5)]
    async with asyncio.timeout(120):
        while yard.app[PICTURES].refused < 5:
            await asyncio.sleep(0.01)
    held.set()
    answers = [answer for answer, _ in await asyncio.gather(*asked)]
    assert sorted(answer.status for answer in answers) == [200] * PICTURES_PER_HOLDER + [429] * 5
    assert yard.app[PICTURES].running == 0


async def test_an_odd_width_is_made_even(yard, maker):
    _, body = await yard.get("sheet.jpg", start=maker.T0, end=maker.T0 + NS, columns=1, rows=1, width=161)
    assert gray(body).shape == (120, 160)


async def test_a_poisoned_picture_costs_its_decoder_and_its_cell_only(yard, maker, monkeypatch):
    """Every decoder that meets the second access point is killed, as a codec's defect would."""
    work, killed = yard.media.decoders.work, []

    async def meet(job):
        if getattr(job, "target_pts", None) == poisoned.target_pts and job.kind == "picture":
            decoder = yard.media.decoders
            await work(replace(job, pts=job.pts))
            os.kill(decoder._free[-1].pid, signal.SIGKILL)
            killed.append(1)
        return await work(job)

    poisoned = nearest_key(yard.store.whole(1, "main"), maker.T0 + yard.gop * FRAME_NS, NS)
    monkeypatch.setattr(yard.media.decoders, "work", meet)
    query = {"start": maker.T0, "end": maker.T0 + 6 * NS, "columns": 3, "rows": 2, "width": 320}
    for _ in range(TRIES + 2):
        answer, body = await yard.get("sheet.jpg", **query)
        assert answer.status == 200
        found = numbers(body, 3, 2)
        assert found[0] == 0
        assert found[4] is not None
        assert found[1] is None
    assert len(killed) == TRIES
    frame, _ = await yard.get("frame.jpg", time=poisoned.time_ns)
    other, _ = await yard.get("frame.jpg", time=maker.T0 + 4 * NS)
    assert (frame.status, other.status) == (404, 200)


async def test_expired_footage_leaves_the_cache(maker, volume, tmp_path):
    """Pictures of a retired chunk are not answered, nor kept in memory."""
    main = volume.track(1, "main", start_ns=maker.T0)
    real = maker.video(frames=25)
    heavy = [maker.Au(bytes([n]) * 300_000, n * 3600, n * 3600, n % 5 == 0) for n in range(25, 110)]
    maker.write(main, maker.Stream(real.entry, (*real.aus, *heavy), 3600))
    async with maker.Api(volume, tmp_path, main.next_ns + 5 * NS) as api:
        query = {"start": maker.T0, "end": maker.T0 + 2 * NS, "columns": 2, "rows": 1, "width": 64}
        before, shown = await api.get("sheet.jpg", **query)
        held = set(api.media.pictures._held)
        assert (before.status, len(held) >= 2, gray(shown).max() > 100) == (200, True, True)
        main.retire()
        after, black = await api.get("sheet.jpg", **query)
        assert (after.status, gray(black).max() < 20) == (200, True)      # the next chunk's first pictures are none
        index = await (await api.get("sheet.json", **query))[0].json()
        assert all(one["shown"] is None or one["shown"] > rfc3339(maker.T0 + NS) for one in index["items"])
        api.media._swept_s = -SWEEP_S
        await api.media.look()
        assert not held & set(api.media.pictures._held)
        assert api.media.pictures._bytes == sum(size for _, size, _ in api.media.pictures._held.values())


async def test_too_much_in_hand_is_refused_and_told(yard):
    making, held = Making(2), asyncio.Event()

    async def slow():
        await held.wait()
        return b"made"

    waiting = [asyncio.create_task(making.once(key, slow)) for key in (1, 2, 2)]
    await asyncio.sleep(0)
    with pytest.raises(Problem) as caught:
        await making.once(3, slow)
    assert (caught.value.status, caught.value.headers["Retry-After"], making.refused) == (503, "1", 1)
    held.set()
    assert await asyncio.gather(*waiting) == [b"made"] * 3
    assert await making.once(3, slow) == b"made"
    assert PICTURES_AT_ONCE > 0
