"""HLS: segments put together are the pictures of the range, each once; breaks and codings are told; addresses hold."""

import re

import pytest

from api import hls, vod
from recorder.base.media import NS, TrackKind


@pytest.fixture
async def api(maker, volume, tmp_path):
    async with maker.Api(volume, tmp_path, maker.T0 + 3600 * NS) as made:
        made.main = volume.track(1, "main", start_ns=maker.T0)
        made.sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=48_000, start_ns=maker.T0)
        yield made


async def playlist(api, **query):
    answer, body = await api.get("hls/vod.m3u8", **query)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/vnd.apple.mpegurl"
    return body.decode()


async def fetch(api, address):
    async with api.client.get(address) as answer:
        return answer, await answer.read()


async def parts(api, text):
    """Files by coding and discontinuity: init + segments."""
    files, init = [], b""
    for line in text.splitlines():
        if line.startswith("#EXT-X-MAP"):
            init = (await fetch(api, re.search('"(.+)"', line)[1]))[1]
            files.append(init)
        elif line == "#EXT-X-DISCONTINUITY":
            files.append(init)
        elif not line.startswith("#"):
            answer, body = await fetch(api, line)
            assert answer.status == 200, line
            files[-1] += body
    return [file for file in files if b"moof" in file]


@pytest.mark.parametrize("content", [{"bframes": 2, "gop": 30}, {"codec": "hevc", "bframes": 3, "open_gop": True, "gop": 27}])
async def test_segments_hold_every_picture_once(content, api, maker, save):
    maker.write(api.main, maker.video(frames=400, **content))
    maker.write(api.sound, maker.audio(16.0))
    text = await playlist(api, start=maker.T0 + 2 * NS, end=maker.T0 + 15 * NS)
    assert text.count("#EXT-X-MAP") == 1
    assert "#EXT-X-ENDLIST" in text
    longest = int(re.search(r"TARGETDURATION:(\d+)", text)[1])
    lasts = [float(found) for found in re.findall(r"#EXTINF:([\d.]+)", text)]
    assert max(lasts) <= longest
    assert len(lasts) >= 3
    (file,) = await parts(api, text)
    got = maker.decode(save(file))
    assert got.messages == ""
    first = got.numbers[0]
    assert first <= 50
    assert got.numbers == list(range(first, first + len(got.numbers)))
    assert got.numbers[-1] >= 15 * 25 - 1
    assert sum(lasts) == pytest.approx(len(got.numbers) / 25, abs=0.2)
    midnight_s = (maker.T0 // NS) % 86_400
    assert got.times[0] == pytest.approx(midnight_s + first / 25, abs=1e-3)
    assert abs(got.sound_start - got.times[0]) < 0.1
    assert abs(len(got.sound) / 48_000 - sum(lasts)) < 0.1


@pytest.mark.parametrize("codec", ["h264", "hevc"])
async def test_leading_pictures_at_the_end_of_the_range_are_in_the_playlist(codec, api, maker, save):
    """Picture 80 is decoded after access point 81, with its row: a range that ends between them needs that row too."""
    maker.write(api.main, maker.video(codec=codec, frames=150, bframes=2, open_gop=True, gop=27))
    frame_ns = NS // 25
    (file,) = await parts(api, await playlist(api, start=maker.T0 + 30 * frame_ns, end=maker.T0 + 81 * frame_ns))
    got = maker.decode(save(file))
    assert got.messages == ""
    assert set(range(30, 81)) <= set(got.numbers)


async def test_breaks_and_codings_are_told(api, maker, save):
    maker.write(api.main, maker.video(frames=75))
    api.main.gap(20.0)
    api.main.session = 2
    maker.write(api.main, maker.video(frames=75, first=500))
    api.main.session = 3
    maker.write(api.main, maker.video(frames=75, first=700, width=480, height=360))
    text = await playlist(api, start=maker.T0, end=maker.T0 + 60 * NS, gaps="close")
    assert text.count("#EXT-X-DISCONTINUITY") == 2
    assert text.count("#EXT-X-MAP") == 2
    times = re.findall(r"DATE-TIME:(\S+)", text)
    assert [time[17:] for time in times] == ["00.000Z", "23.000Z", "26.000Z"]
    files = await parts(api, text)
    assert [maker.decode(save(file)).numbers for file in files] == [
        list(range(75)), list(range(500, 575)), list(range(700, 775))]


async def test_same_rows_have_the_same_address_and_bytes(api, maker):
    maker.write(api.main, maker.video(frames=400))
    one = await playlist(api, start=maker.T0, end=maker.T0 + 8 * NS)
    two = await playlist(api, start=maker.T0, end=maker.T0 + 12 * NS)
    shared = {line for line in one.splitlines() if line.endswith(".m4s")} & {line for line in two.splitlines() if line.endswith(".m4s")}
    assert shared
    address = sorted(shared)[0]
    first, body = await fetch(api, address)
    second, again = await fetch(api, address)
    assert (body, first.headers["ETag"]) == (again, second.headers["ETag"])
    assert "immutable" in first.headers["Cache-Control"]
    async with api.client.get(address, headers={"Range": "bytes=10-19"}) as part:
        assert (part.status, await part.read()) == (206, body[10:20])


async def test_odd_addresses_are_refused(api, maker):
    maker.write(api.main, maker.video(frames=100))
    for name in ("main/rows/0-0-0-1-0.m4s", "main/rows/0-0-99-1-0.m4s", "main/rows/0-900-1-1-0.m4s", "main/rows/x.m4s",
                 "audio/rows/0-0-1-1-0.m4s", "main/rows/0-0-1-9-0.m4s", "main/init/9-0.mp4", "main/init/1-7.mp4", "main/init/a.mp4",
                 "..%2fmain/init/1-0.mp4"):
        answer, _ = await api.get(f"hls/{name}")
        assert answer.status == 404, name
    empty, _ = await api.get("hls/vod.m3u8", start=maker.T0 + 1000 * NS, end=maker.T0 + 1001 * NS)
    assert empty.status == 404


async def test_retired_rows_are_gone(api, maker):
    aus = tuple(maker.Au(bytes(300_000), n * 3600, n * 3600, n % 5 == 0) for n in range(150))
    maker.write(api.main, maker.Stream(maker.video().entry, aus, 3600))
    text = await playlist(api, start=maker.T0, end=maker.T0 + 3 * NS)
    api.main.retire()
    answer, _ = await fetch(api, next(line for line in text.splitlines() if line.endswith(".m4s")))
    assert answer.status == 410
    gone, _ = await api.get("hls/vod.m3u8", start=maker.T0, end=maker.T0 + NS)
    assert gone.status == 410


async def test_ffmpeg_plays_the_playlist(api, maker, save):
    """The command line client, over HTTP, from the playlist alone."""
    import asyncio
    maker.write(api.main, maker.video(frames=250, bframes=2))
    maker.write(api.sound, maker.audio(10.0))
    address = api.client.make_url(f"/api/v1/cameras/yard/hls/vod.m3u8?start={maker.T0}&end={maker.T0 + 10 * NS}")
    process = await asyncio.create_subprocess_exec(
        "ffmpeg", "-v", "warning", "-nostdin", "-i", str(address), "-map", "0:v", "-f", "framecrc", "-", stdout=-1, stderr=-1)
    async with asyncio.timeout(120):
        out, messages = await process.communicate()
    assert messages == b""
    assert len([line for line in out.splitlines() if not line.startswith(b"#")]) == 250


async def test_gaps_take_their_time_as_missing_segments(api, maker, save):
    """Between stretches of one coding media time runs on over them. Asked all the same, nothing comes."""
    maker.write(api.main, maker.video(frames=75))
    api.main.gap(20.0)
    api.main.session = 2
    maker.write(api.main, maker.video(frames=75, first=500))
    text = await playlist(api, start=maker.T0, end=maker.T0 + 60 * NS)
    assert (text.count("#EXT-X-MAP"), text.count("#EXT-X-DISCONTINUITY"), "#EXT-X-VERSION:8" in text) == (1, 0, True)
    assert re.findall(r"DATE-TIME:\S+T(\S+)", text) == ["08:00:00.000Z", "08:00:03.000Z", "08:00:23.000Z"]
    missing = re.findall(r"#EXT-X-GAP\n#EXTINF:([\d.]+),\n(\S+)", text)
    assert sum(float(lasts) for lasts, _ in missing) == pytest.approx(20.0, abs=1e-4)
    assert max(float(lasts) for lasts, _ in missing) <= int(re.search(r"TARGETDURATION:(\d+)", text)[1])
    assert (await fetch(api, missing[0][1]))[0].status == 200
    (file,) = await parts(api, text)
    got = maker.decode(save(file))
    assert (got.messages, got.numbers) == ("", [*range(75), *range(500, 575)])
    assert got.times[75] - got.times[74] == pytest.approx(20.04, abs=1e-3)


async def test_playback_starts_where_it_was_asked_for(api, maker):
    maker.write(api.main, maker.video(frames=100))
    text = await playlist(api, start=maker.T0 + 2 * NS + 480_000_000, end=maker.T0 + 4 * NS)
    assert "#EXT-X-START:TIME-OFFSET=0.480000,PRECISE=YES" in text
    assert "#EXT-X-START" not in await playlist(api, start=maker.T0, end=maker.T0 + 4 * NS)


async def test_sub_track_is_a_choice(api, maker, volume, save):
    """Where no track is named: both, with what they take and need; each leads to a playlist of the same range, with the camera's sound."""
    maker.write(api.main, maker.video(codec="hevc", frames=150))
    maker.write(api.sound, maker.audio(6.0))
    query = {"start": maker.T0, "end": maker.T0 + 5 * NS, "gaps": "close"}
    assert "#EXT-X-STREAM-INF" not in await playlist(api, **query)
    maker.write(volume.track(1, "sub", start_ns=maker.T0), maker.video(frames=150, first=3000, width=160, height=120))
    text = await playlist(api, **query)
    (main, large), (sub, small) = re.findall(r"#EXT-X-STREAM-INF:(\S+)\n(\S+)", text)
    assert "hvc1." in main and "mp4a.40.2" in main and "RESOLUTION=320x240" in main
    assert "avc1." in sub and "RESOLUTION=160x120" in sub
    peak, mean = (int(re.search(rf"{name}=(\d+)", main)[1]) for name in ("^BANDWIDTH", "AVERAGE-BANDWIDTH"))
    assert peak >= mean
    sent = 0
    for address, first in ((large, 0), (small, 3000)):
        answer, body = await fetch(api, address)
        assert answer.status == 200
        (file,) = await parts(api, body.decode())
        got = maker.decode(save(file))
        assert (got.messages, got.numbers[:125], len(got.sound) > 4.5 * 48_000) == ("", list(range(first, first + 125)), True)
        sent = sent or len(file) * 8 / (len(got.numbers) / 25)
    assert sent <= peak
    assert "#EXT-X-STREAM-INF" not in await playlist(api, track="main", **query)
    silent = await playlist(api, audio="none", **query)
    assert "mp4a" not in silent and "audio=none" in silent


async def test_ffmpeg_plays_over_a_gap(api, maker):
    """It knows no EXT-X-GAP: what stands in for missing segments is nothing to it."""
    import asyncio
    for session, first in ((1, 0), (2, 500)):
        api.main.session = session
        maker.write(api.main, maker.video(frames=75, first=first))
        api.main.gap(9.0)
    address = api.client.make_url(f"/api/v1/cameras/yard/hls/vod.m3u8?start={maker.T0}&end={maker.T0 + 30 * NS}")
    process = await asyncio.create_subprocess_exec(
        "ffmpeg", "-v", "warning", "-nostdin", "-i", str(address), "-map", "0:v", "-f", "framecrc", "-", stdout=-1, stderr=-1)
    async with asyncio.timeout(120):
        out, messages = await process.communicate()
    assert messages == b""
    assert len([line for line in out.splitlines() if not line.startswith(b"#")]) == 150


@pytest.mark.parametrize("gaps", ["keep", "close"])
async def test_long_ranges_are_put_together_from_stretches_of_the_index(gaps, api, maker, save, monkeypatch):
    """Where one stretch ends and the next begins no picture is twice or missing, and no break is told that is none."""
    maker.write(api.main, maker.video(codec="hevc", frames=400, bframes=3, open_gop=True, gop=27))
    api.main.gap(7.0)
    api.main.session = 2
    maker.write(api.main, maker.video(frames=200, first=500))
    maker.write(api.sound, maker.audio(16.0))
    query = {"start": maker.T0 + 2 * NS, "end": maker.T0 + 30 * NS, "gaps": gaps}
    whole = await playlist(api, **query)
    monkeypatch.setattr(hls, "STRETCH_NS", 3 * NS)
    text = await playlist(api, **query)
    assert text.count("#EXT-X-DISCONTINUITY") == whole.count("#EXT-X-DISCONTINUITY")
    assert re.findall(r"DATE-TIME:(\S+)", text) == re.findall(r"DATE-TIME:(\S+)", whole)
    assert sum(map(float, re.findall(r"#EXTINF:([\d.]+)", text))) == pytest.approx(sum(map(float, re.findall(r"#EXTINF:([\d.]+)", whole))))
    assert text.count("/rows/") > whole.count("/rows/")
    shown = [[maker.decode(save(file)).numbers for file in await parts(api, one)] for one in (text, whole)]
    assert shown[0] == shown[1]


async def test_a_month_has_longer_segments_and_no_more_of_them_than_a_day(api, maker, save):
    maker.write(api.main, maker.video(frames=400))
    text = await playlist(api, start=maker.T0, end=maker.T0 + 31 * 86_400 * NS)
    assert [float(found) for found in re.findall(r"#EXTINF:([\d.]+)", text)] == [16.0]
    (file,) = await parts(api, text)
    assert maker.decode(save(file)).numbers == list(range(400))
    answer, body = await api.get("hls/vod.m3u8", start=maker.T0, end=maker.T0 + 32 * 86_400 * NS)
    assert (answer.status, b"31 days" in body, b"in parts" in body) == (400, True, True)


async def test_a_playlist_of_too_many_pieces_is_refused_in_words(api, maker, monkeypatch):
    maker.write(api.main, maker.video(frames=400))
    monkeypatch.setattr(vod, "SEGMENTS_MAX", 2)
    answer, body = await api.get("hls/vod.m3u8", start=maker.T0, end=maker.T0 + 16 * NS)
    assert (answer.status, b"more than 2 pieces" in body, b"in parts" in body) == (400, True, True)


@pytest.mark.parametrize("name", ["999999-0-1-1-1", "106752-0-1-1-1", "%D9%A10833-0-1-1-1", "20833-0-65-1-1",
                                  "20833-999999999999-1-1-1", "20833-0-1-1-1%0a"])
async def test_a_segment_that_no_playlist_names_is_not_there(name, api, maker):
    """A midnight past 2262 ended in a 500; digits of other scripts were taken for ours."""
    maker.write(api.main, maker.video(frames=75))
    address = api.client.make_url("/").with_path(f"/api/v1/cameras/yard/hls/main/rows/{name}.m4s", encoded=True)
    answer, _ = await fetch(api, address.relative())
    assert answer.status in {404, 410}
