"""Live HLS: parts hold every picture once and keep their bytes, a playlist waits for what is asked of it, and says what players must know."""

import asyncio
import re

import pytest

from api import livehls
from recorder.base.media import NS, TrackKind
from tests.media.growing import Growing

ROOT = "/api/v1/cameras/yard/hls"


@pytest.fixture
async def api(maker, volume, tmp_path):
    async with maker.Api(volume, tmp_path, maker.T0 + 3600 * NS) as made:
        made.main = volume.track(1, "main", start_ns=maker.T0)
        yield made


async def fetch(api, address):
    async with api.client.get(address) as answer:
        return answer, await answer.read()


async def playlist(api, track="main", **query):
    answer, body = await api.get("hls/live.m3u8", track=track, **query)
    assert answer.status == 200, body
    return body.decode()


def addresses(text, tag):
    return re.findall(rf'{tag}[^\n]*URI="([^"]+)"', text)


def segments(text):
    return [line for line in text.splitlines() if line.endswith(".m4s")]


def growing(api, maker, stream):
    return Growing(api.main, maker, stream, maker.T0)


async def joined(api, text, names):
    """The init segment and what the addresses hold."""
    files = [await fetch(api, address) for address in (addresses(text, "#EXT-X-MAP")[0], *names)]
    assert {answer.status for answer, _ in files} == {200}
    return b"".join(body for _, body in files)


@pytest.mark.parametrize("content", [{"gop": 50}, {"bframes": 2, "gop": 30}, {"codec": "hevc", "bframes": 2, "open_gop": True, "gop": 27}])
async def test_parts_hold_every_picture_once_and_keep_their_bytes(content, api, maker, save):
    """While rows grow, after they have been closed, and put together they are what the segments are."""
    camera, first = growing(api, maker, maker.video(frames=160, **content)), {}
    for _ in range(32):
        camera.send(5)
        if camera.track.rows or camera.sent > 25:
            for address in addresses(text := await playlist(api), "#EXT-X-PART:"):
                first[address] = first.get(address) or (await fetch(api, address))[1]
    camera.track.close_row()
    text = await playlist(api)
    for address, body in first.items():
        answer, again = await fetch(api, address)
        assert (answer.status, again) == (200, body), address
    whole = maker.decode(save(await joined(api, text, segments(text))))
    shown = maker.decode(save(await joined(api, text, dict.fromkeys([*first, *addresses(text, "#EXT-X-PART:")])), "parts.mp4"))
    assert whole.messages == shown.messages == ""
    assert whole.numbers == shown.numbers == list(range(160))
    assert whole.times == pytest.approx(shown.times, abs=1e-4)


async def test_what_a_playlist_says_of_parts_is_what_they_are(api, maker):
    camera = growing(api, maker, maker.video(frames=200, gop=50))
    camera.send(190)
    text = await playlist(api)
    target = float(re.search(r"PART-TARGET=([\d.]+)", text)[1])
    lasts = [float(found) for found in re.findall(r"#EXT-X-PART:DURATION=([\d.]+)", text)]
    assert max(lasts) <= target <= 0.6
    assert float(re.search(r"PART-HOLD-BACK=([\d.]+)", text)[1]) >= 2 * target
    assert float(re.search(r"CAN-SKIP-UNTIL=([\d.]+)", text)[1]) >= 6 * int(re.search(r"TARGETDURATION:(\d+)", text)[1])
    assert text.count("INDEPENDENT=YES") == 4
    hint = addresses(text, "#EXT-X-PRELOAD-HINT:")[0]
    assert hint not in addresses(text, "#EXT-X-PART:")
    camera.send(10)
    camera.track.close_row()
    assert hint in addresses(await playlist(api), "#EXT-X-PART:")


async def test_a_playlist_waits_for_the_part_that_is_asked_of_it(api, maker):
    camera = growing(api, maker, maker.video(frames=200, gop=50))
    camera.send(110)
    before = await playlist(api)
    sequence = int(re.search(r"MEDIA-SEQUENCE:(\d+)", before)[1])
    assert await playlist(api, _HLS_msn=sequence + 1) == before, "it is there"
    asked = asyncio.create_task(playlist(api, _HLS_msn=sequence + 2, _HLS_part=0))
    hinted = asyncio.create_task(fetch(api, addresses(before, "#EXT-X-PRELOAD-HINT:")[0]))
    for _ in range(3):
        await asyncio.sleep(livehls.POLL_S * 2)
        assert not asked.done()
        assert not hinted.done()
    camera.send(5)
    after = await asked
    assert addresses(after, "#EXT-X-PART:")[-1] == addresses(before, "#EXT-X-PRELOAD-HINT:")[0]
    answer, body = await hinted
    assert (answer.status, body) == (200, (await fetch(api, addresses(before, "#EXT-X-PRELOAD-HINT:")[0]))[1])
    behind = asyncio.create_task(playlist(api, _HLS_msn=sequence + 1, _HLS_part=99))
    assert (await behind) == after, "a part behind a segment's last is the next one's first"


async def test_a_request_that_waits_in_vain_gets_what_there_is(api, maker, monkeypatch):
    monkeypatch.setattr(livehls, "WAIT_S", 0.1)
    growing(api, maker, maker.video(frames=100, gop=50)).send(70)
    text = await playlist(api)
    sequence = int(re.search(r"MEDIA-SEQUENCE:(\d+)", text)[1])
    assert await playlist(api, _HLS_msn=sequence + 2) == text
    answer, _ = await fetch(api, addresses(text, "#EXT-X-PRELOAD-HINT:")[0])
    assert answer.status == 404
    for query in ({"_HLS_msn": sequence + 9}, {"_HLS_part": 1}, {"_HLS_skip": "NO"}, {"_HLS_msn": -1}):
        answer, _ = await api.get("hls/live.m3u8", track="main", **query)
        assert answer.status == 400, query


async def test_an_update_leaves_out_what_is_known(api, maker):
    for n in range(16):
        maker.write(api.main, maker.video(frames=100, gop=50, first=100 * n))
    full, update = await playlist(api), await playlist(api, _HLS_skip="YES")
    skipped = int(re.search(r"SKIPPED-SEGMENTS=(\d+)", update)[1])
    assert skipped > 10
    assert segments(full)[skipped:] == segments(update)
    assert "#EXT-X-MEDIA-SEQUENCE:" + str(int(re.search(r"MEDIA-SEQUENCE:(\d+)", full)[1])) in update


async def test_long_picture_groups_have_no_parts_and_the_reason(api, maker):
    maker.write(api.main, maker.video(frames=600, gop=200))
    text = await playlist(api)
    assert "#EXT-X-PART" not in text
    assert "key frames 8.0 s apart" in text
    assert int(re.search(r"TARGETDURATION:(\d+)", text)[1]) >= 8
    assert len(segments(text)) == 3


async def test_breaks_count_on_when_they_leave_the_playlist(api, maker):
    counts, last = [], None
    for session in range(1, 30):
        api.main.session = session
        maker.write(api.main, maker.video(frames=100, gop=50, first=session * 100), t_ns=maker.T0 + session * 5 * NS)
        text = await playlist(api)
        base, at, found = int(re.search(r"DISCONTINUITY-SEQUENCE:(\d+)", text)[1]), 0, {}
        for line in text.splitlines():
            at += line == "#EXT-X-DISCONTINUITY"
            if line.endswith(".m4s"):
                found[line] = base + at
        if last is not None:
            assert {name: number for name, number in found.items() if name in last} == {name: last[name] for name in found if name in last}
        last = found
        counts.append(base)
    assert counts[-1] > counts[0], "some have left it"


async def test_a_track_that_is_recorded_on_another_volume_goes_on_counting(maker, volume, second, tmp_path):
    first, again = volume.track(1, "main", start_ns=maker.T0), second.track(1, "main", start_ns=maker.T0)
    maker.write(first, maker.video(frames=100, gop=50))
    async with maker.Api(volume, tmp_path, maker.T0 + 3600 * NS, second) as api:
        before = await playlist(api)
        maker.write(again, maker.video(frames=100, gop=50, first=500), t_ns=maker.T0 + 5 * NS)
        api.store.look()
        await api.media.look()
        after = await playlist(api)
        numbers = [int(re.search(r"MEDIA-SEQUENCE:(\d+)", text)[1]) for text in (before, after)]
        assert numbers[1] == numbers[0] + len(segments(before))
        assert all("-v1" in name for name in segments(after))
        assert (await fetch(api, segments(after)[0]))[0].status == 200


async def test_sound_has_a_playlist_beside_the_pictures(api, maker, volume, save):
    sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=48_000, start_ns=maker.T0)
    maker.write(api.main, maker.video(frames=150))
    maker.write(sound, maker.audio(6.0))
    api.clock.step_wall((maker.T0 + 6 * NS - api.clock.wall_ns()) / 1e9)
    answer, body = await api.get("hls/live.m3u8")
    text = body.decode()
    assert answer.status == 200
    assert "mp4a.40.2" in text
    heard, seen = addresses(text, "#EXT-X-MEDIA:TYPE=AUDIO")[0], text.splitlines()[-1]
    files = []
    for address in (seen, heard):
        listed = (await fetch(api, address))[1].decode()
        assert addresses(listed, "#EXT-X-RENDITION-REPORT:") == [heard if address == seen else seen]
        files.append(maker.decode(save(await joined(api, listed, segments(listed)), f"{len(files)}.mp4")))
    pictures, tone = files
    assert pictures.messages == tone.messages == ""
    assert len(pictures.numbers) == 150
    assert abs(len(tone.sound) / 48_000 - 6.0) < 0.1
    assert abs(tone.sound_start - pictures.times[0]) < 0.05


async def test_odd_addresses_are_refused(api, maker):
    maker.write(api.main, maker.video(frames=100))
    week, row, entry = re.search(r"/(\d+)-(\d+)-(\d+)\.m4s", await playlist(api)).groups()
    for name in (f"{week}-{row}-9", f"{int(week) + 1}-{row}-{entry}", f"{week}-999999-{entry}", f"{week}-{row}-{entry}-p99",
                 f"{week}-{row}-{entry}-v7", f"99999-{row}-{entry}", "x", f"{week}-{row}"):
        answer, _ = await fetch(api, f"{ROOT}/main/live/{name}.m4s")
        assert answer.status == 404, name
    for name in ("init-9", "init-x", "init-1-v9"):
        assert (await fetch(api, f"{ROOT}/main/live/{name}.mp4"))[0].status == 404, name
    assert (await api.get("hls/live.m3u8", track="nothing"))[0].status == 404
