"""Cursors and stream.mp4: every picture once, in order, at the time it belongs to, over breaks, shifts and the tape's end."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import aiohttp
import pytest

from api import cursor as cursor_module
from api import rewind as rewind_module
from api.cursor import ClockMoved, Cursor, CursorQuery, GapHere, Init, Part
from api.feed import Feed
from api.rewind import Rewind
from recorder.base.errors import Gone
from recorder.base.media import NS, GapCause, TrackKind
from storage import items

AAC = frozenset({"mp4a"})


@pytest.fixture
async def api(maker, volume, tmp_path):
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as made:
        made.main = volume.track(1, "main", start_ns=maker.T0)
        made.sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=48_000, start_ns=maker.T0)
        yield made


@pytest.fixture
def unpaced(monkeypatch):
    """Playback as fast as it can be read."""
    monkeypatch.setattr(cursor_module, "LEAD_S", 1e6)


async def collect(cursor, until, within_s=10.0):
    """Events up to the one of which `until` is true."""
    got = []
    async with asyncio.timeout(within_s), aclosing(cursor.events()) as events:
        async for event in events:
            got.append(event)
            if until(event):
                return got
    return got


def reaches(time_ns):
    return lambda event: isinstance(event, Part) and event.newest_ns >= time_ns


def file_of(events):
    return b"".join(event.data for event in events if isinstance(event, Init | Part))


async def test_playback_has_every_picture_and_its_sound(api, maker, save, unpaced):
    maker.write(api.main, maker.video(frames=250, bframes=2, gop=30))
    maker.write(api.sound, maker.audio(10.0))
    cursor = Cursor(api.media, CursorQuery(1, audio=AAC, start_ns=maker.T0 + 3 * NS))
    got = await collect(cursor, reaches(maker.T0 + 9 * NS + 960_000_000))
    assert isinstance(got[0], Init)
    assert got[0].codecs.startswith("avc1.") and got[0].codecs.endswith(",mp4a.40.2")
    assert got[0].wall_ns == maker.T0 + 60 * NS // 25       # of the first picture, not of its decoding, which was a frame earlier
    shown = maker.decode(save(file_of(got)))
    assert shown.messages == ""
    assert shown.numbers == list(range(60, 250))
    assert shown.times == pytest.approx([n / 25 for n in range(190)], abs=1e-3)
    assert abs(len(shown.sound) / 48_000 - 7.6) < 0.2
    assert shown.sound_start < 0.03


async def test_live_starts_at_the_newest_access_point_and_follows(api, maker, save):
    stream = maker.video(frames=250, bframes=2, gop=30)
    maker.write(api.main, stream, stop=100, close=False, durable=False)
    cursor = Cursor(api.media, CursorQuery(1, audio=AAC))
    grown = [100]

    def more(event):
        if isinstance(event, Part) and grown[0] < 250:
            grow(maker, api.main, stream, grown[0], grown[0] + 5)
            grown[0] += 5
        return isinstance(event, Part) and event.newest_ns >= maker.T0 + 249 * NS // 25
    got = await collect(cursor, more)
    shown = maker.decode(save(file_of(got)))
    assert shown.messages == ""
    assert shown.numbers == list(range(90, 250))
    assert len([event for event in got if isinstance(event, Part)]) >= 30


def grow(maker, track, stream, first, stop):
    """AUs [first, stop) one by one, rows cut at their access points."""
    for index in range(first, stop):
        au = stream.aus[index]
        if au.key and track.open is not None:
            track.close_row()
        track.volume.data[:] = [au.data]
        following = stream.aus[index + 1].dts if index + 1 < len(stream.aus) else au.dts + stream.dur
        track.grow([maker.RefAu(len(au.data), following - au.dts, au.pts - au.dts, int(au.key))], t_ns=maker.T0 + au.pts * NS // 90_000)


async def test_break_begins_a_new_stretch_and_tells_the_gap(api, maker, save, unpaced):
    maker.write(api.main, maker.video(frames=75))
    start, end = api.main.gap(20.0, GapCause.STALL)
    api.main.session = 2
    maker.write(api.main, maker.video(frames=75, first=500))
    got = await collect(Cursor(api.media, CursorQuery(1, start_ns=maker.T0)), reaches(end + 74 * NS // 25))
    gaps = [event for event in got if isinstance(event, GapHere)]
    assert gaps == [GapHere(start, end, GapCause.STALL)]
    second = [n for n, event in enumerate(got) if isinstance(event, Init)][1]
    assert got[second].wall_ns == end
    assert maker.decode(save(file_of(got[:second]))).numbers == list(range(75))
    assert maker.decode(save(file_of(got[second:]))).numbers == list(range(500, 575))


async def test_scaled_stream_runs_on_over_a_gap(api, maker, save, unpaced):
    maker.write(api.main, maker.video(frames=75))
    _, end = api.main.gap(20.0)
    api.main.session = 2
    maker.write(api.main, maker.video(frames=75, first=500))
    cursor = Cursor(api.media, CursorQuery(1, start_ns=maker.T0, scaled=True, speed=2.0))
    got = await collect(cursor, reaches(end + 74 * NS // 25))
    shown = maker.decode(save(file_of(got)))
    assert shown.messages == ""
    assert shown.numbers == [*range(75), *range(500, 575)]
    assert shown.times == pytest.approx([n / 50 for n in range(150)], abs=2e-3)


async def test_scaled_stream_ends_where_the_coding_changes(api, maker, save, unpaced):
    maker.write(api.main, maker.video(frames=50))
    api.main.session = 2
    maker.write(api.main, maker.video(frames=50, width=480, height=360))
    got = await collect(Cursor(api.media, CursorQuery(1, start_ns=maker.T0, scaled=True)), lambda event: False)
    assert maker.decode(save(file_of(got))).numbers == list(range(50))


async def test_fast_playback_shows_access_points_only(api, maker, save, unpaced):
    maker.write(api.main, maker.video(frames=250, bframes=2, gop=10))
    got = await collect(Cursor(api.media, CursorQuery(1, start_ns=maker.T0, speed=8.0, scaled=True)), reaches(maker.T0 + 240 * NS // 25))
    shown = maker.decode(save(file_of(got)))
    assert shown.messages == ""
    assert shown.numbers == list(range(0, 250, 10))
    assert shown.times == pytest.approx([n / 25 / 8 for n in range(0, 250, 10)], abs=2e-3)


async def test_playback_keeps_its_pace(api, maker, monkeypatch):
    """Not more than the lead is out before its time."""
    naps = []

    async def nap(seconds):
        naps.append(seconds)
        raise cursor_module._ViewerGone
    monkeypatch.setattr(cursor_module, "LEAD_S", 2.0)
    maker.write(api.main, maker.video(frames=250))
    cursor = Cursor(api.media, CursorQuery(1, start_ns=maker.T0))
    monkeypatch.setattr(cursor, "_nap", nap)
    got = await collect(cursor, lambda event: False)
    newest_ns = max(event.newest_ns for event in got if isinstance(event, Part))
    assert maker.T0 + 2 * NS < newest_ns <= maker.T0 + 4 * NS
    assert naps


async def test_young_sessions_time_is_settled_without_a_jump(api, maker, save):
    """The rows' UTC moves by 700 ms: media time runs on, its zero moves."""
    stream = maker.video(frames=100)
    maker.write(api.main, stream, stop=30, close=False, durable=False)
    moved = []

    def publish(event):
        if isinstance(event, Part) and not moved:
            api.main.publish(-700_000_000)
            moved.append(True)
            for index in range(30, 50):
                api.main.volume.data[:] = [stream.aus[index].data]
                api.main.grow([maker.RefAu(len(stream.aus[index].data), 3600, 0, 0)])
        return isinstance(event, Part) and event.newest_ns >= maker.T0 + 49 * NS // 25 - 700_000_000 and len(moved) > 1
    monitor = Cursor(api.media, CursorQuery(1))

    def until(event):
        if isinstance(event, ClockMoved):
            moved.append(event.wall_ns)
        return publish(event)
    got = await collect(monitor, until)
    assert [event.wall_ns for event in got if isinstance(event, ClockMoved)] == [got[0].wall_ns - 700_000_000]
    shown = maker.decode(save(file_of(got)))
    assert shown.numbers == list(range(25, 50))
    assert shown.times == pytest.approx([n / 25 for n in range(25)], abs=1e-3)


async def test_open_gap_is_told_to_live_viewers(api, maker, monkeypatch):
    monkeypatch.setattr(cursor_module, "LOOK_AGAIN_S", 0.05)
    maker.write(api.main, maker.video(frames=50))
    api.main.log(items.GapOpen(maker.T0 + 2 * NS, GapCause.AUTH))
    got = await collect(Cursor(api.media, CursorQuery(1)), lambda event: isinstance(event, GapHere))
    assert got[-1] == GapHere(maker.T0 + 2 * NS, None, GapCause.AUTH)


async def test_silent_sound_does_not_hold_the_picture(api, maker, monkeypatch):
    """Sound that stops is given up: a new stretch without it begins."""
    monkeypatch.setattr(cursor_module, "LOOK_AGAIN_S", 0.0)
    stream = maker.video(frames=250)
    maker.write(api.main, stream, stop=30, close=False, durable=False)
    maker.write(api.sound, maker.audio(1.2))
    grown = [30]

    def more(event):
        if isinstance(event, Part) and grown[0] < 200:
            grow(maker, api.main, stream, grown[0], grown[0] + 10)
            grown[0] += 10
        return isinstance(event, Init) and event.audio is None
    got = await collect(Cursor(api.media, CursorQuery(1, audio=AAC)), more)
    assert [event.audio is None for event in got if isinstance(event, Init)] == [False, True]


async def test_viewer_overtaken_by_retention_is_told(api, maker, monkeypatch):
    aus = tuple(maker.Au(bytes(300_000), n * 3600, n * 3600, n % 5 == 0) for n in range(150))
    maker.write(api.main, maker.Stream(maker.video().entry, aus, 3600))
    cursor = Cursor(api.media, CursorQuery(1, start_ns=maker.T0))
    with pytest.raises(Gone):
        await collect(cursor, lambda event: isinstance(event, Part) and api.main.retire() and False)


async def test_stream_over_http_ends_with_its_viewer(api, maker, save, unpaced):
    maker.write(api.main, maker.video(frames=100))
    query = {"start": str(maker.T0 + NS), "audio": "none"}
    async with api.client.get("/api/v1/cameras/yard/stream.mp4", params=query) as answer:
        assert answer.headers["Watchroom-Start"].endswith(f"{(maker.T0 + NS) % NS:09d}Z")
        body = b""
        while body.count(b"moof") < 2:
            body += await answer.content.readany()
        assert api.media.counts.streams_open == 1
        answer.close()
    async with asyncio.timeout(120):
        while api.media.counts.streams_open:
            await asyncio.sleep(0.02)
    assert maker.decode(save(body)).numbers[:25] == list(range(25, 50))


async def test_wrong_parameters_are_refused(api, maker):
    for query in ({"speed": 0}, {"speed": 65}, {"speed": -65}, {"speed": -0.05}, {"speed": "-"},
                  {"frames": "some"}, {"start": "yesterday"}, {"track": "../x"}):
        answer, _ = await api.get("stream.mp4", **query)
        assert answer.status == 400, query
    missing, _ = await api.get("stream.mp4", track="sub")
    assert missing.status == 404
    assert isinstance(missing, aiohttp.ClientResponse)


@pytest.mark.parametrize("start_s", [None, 0])
@pytest.mark.parametrize("broken", [True, False])
async def test_sound_that_is_ahead_or_has_a_break_does_not_hold_the_loop(broken, start_s, api, maker, monkeypatch, unpaced):
    """Pictures end, sound goes on for long, or has a break behind which nothing is yet: a viewer waits, and takes nothing meanwhile."""
    maker.write(api.main, maker.video(frames=100))
    sound = api.sound
    maker.write(sound, maker.audio(20.0), stop=200 if broken else None)
    if broken:
        sound.session = 2
        maker.write(sound, maker.Stream(replace(maker.audio(3.0).entry, channels=2), maker.audio(3.0).aus, 1024), t_ns=maker.T0 + 12 * NS)
    taken, take = [], Feed.take

    def counted(feed, *args, **named):
        taken.append(feed)
        assert len(taken) < 300, "it spins"
        return take(feed, *args, **named)

    monkeypatch.setattr(Feed, "take", counted)
    query = CursorQuery(1, audio=frozenset({"mp4a"}), start_ns=None if start_s is None else maker.T0, scaled=True)
    watching = asyncio.ensure_future(collect(Cursor(api.media, query), lambda event: False, within_s=60))
    await asyncio.wait([watching], timeout=3)
    assert not watching.done(), watching
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert taken


async def test_no_sound_goes_past_the_last_picture_of_a_stretch(api, maker, save, unpaced):
    """Pictures for 6 s, sound for 10, then pictures again: what was sent past the end would come before what comes next."""
    maker.write(api.main, maker.video(frames=150, bframes=2))
    maker.write(api.sound, maker.audio(10.0))
    api.main.session = 2
    maker.write(api.main, maker.video(frames=75, first=500), t_ns=maker.T0 + 8 * NS)
    query = CursorQuery(1, audio=frozenset({"mp4a"}), start_ns=maker.T0)
    got = await collect(Cursor(api.media, query), lambda event: isinstance(event, Init) and event.wall_ns > maker.T0)
    shown = maker.decode(save(file_of(got[:-1])))
    assert shown.numbers == list(range(150))
    assert abs(len(shown.sound) / 48_000 - 6.0) < 0.05


# -- backwards --


@pytest.fixture
def unpaced_rewind(monkeypatch):
    monkeypatch.setattr(rewind_module, "LEAD_S", 1e6)


async def backwards(api, start_ns, speed, **query):
    cursor = Rewind(api.media, CursorQuery(1, start_ns=start_ns, speed=speed, scaled=True, **query))
    return await collect(cursor, lambda event: False)


@pytest.mark.parametrize("content", [{"gop": 10}, {"bframes": 2, "gop": 30}, {"bframes": 2, "open_gop": True, "gop": 27},
                                     {"codec": "hevc", "bframes": 3, "open_gop": True, "gop": 27}])
@pytest.mark.parametrize("speed", [-0.5, -1, -8, -64])
async def test_backwards_shows_access_points_from_the_time_on_down(content, speed, api, maker, save, unpaced_rewind):
    maker.write(api.main, maker.video(frames=250, **content))
    start = 203
    got = await backwards(api, maker.T0 + start * NS // 25, speed)
    shown = maker.decode(save(file_of(got)))
    keys = [number for number in range(0, 250, content["gop"]) if number <= start][::-1]
    assert (shown.messages, shown.numbers) == ("", keys)
    ends = [start, *keys[:-1]]
    assert shown.times == pytest.approx([(start - end) / 25 / -speed for end in ends], abs=2e-3)
    assert got[0].wall_ns == maker.T0 + keys[0] * NS // 25


@pytest.mark.parametrize("speed", [-1, -64])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
async def test_backwards_from_an_access_point_shows_it_for_one_picture(codec, speed, api, maker, save, unpaced_rewind):
    """Asked for to the nanosecond it lasted for no tick: two pictures had one time, and of H.265 decoders dropped the second."""
    maker.write(api.main, maker.video(codec=codec, frames=150, gop=25))
    shown = maker.decode(save(file_of(await backwards(api, maker.T0 + 4 * NS, speed))))
    assert (shown.messages, shown.numbers) == ("", [100, 75, 50, 25, 0])
    assert shown.times == pytest.approx([at / -speed for at in (0.0, 0.04, 1.04, 2.04, 3.04)], abs=2e-3)


async def test_backwards_over_a_gap_takes_no_time(api, maker, save, unpaced_rewind):
    maker.write(api.main, maker.video(frames=75))
    _, end = api.main.gap(20.0)
    api.main.session = 2
    maker.write(api.main, maker.video(frames=75, first=500))
    shown = maker.decode(save(file_of(await backwards(api, end + 2 * NS, -2))))
    assert (shown.messages, shown.numbers) == ("", [550, 525, 500, 50, 25, 0])
    assert shown.times == pytest.approx([0.0, 0.02, 0.52, 1.02, 1.52, 2.02], abs=2e-3)
    inside = maker.decode(save(file_of(await backwards(api, end - 5 * NS, -2))))
    assert inside.numbers == [50, 25, 0]


async def test_backwards_ends_where_the_coding_changes_and_begins_at_the_newest(api, maker, save, unpaced_rewind):
    maker.write(api.main, maker.video(frames=50, width=480, height=360))
    api.main.session = 2
    maker.write(api.main, maker.video(frames=60, first=500))
    assert maker.decode(save(file_of(await backwards(api, None, -4)))).numbers == [550, 525, 500]


async def test_backwards_goes_from_tape_to_tape(maker, volume, second, tmp_path, save, unpaced_rewind):
    tracks = [each.track(1, "main", start_ns=maker.T0) for each in (volume, second)]
    for part, track in enumerate((tracks[0], tracks[1], tracks[0])):
        track.session = part + 1
        maker.write(track, maker.video(frames=300), first=100 * part, stop=100 * part + 100, t_ns=maker.T0 + 5 * NS * part)
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS, second) as api:
        for speed in (-1, -16):
            shown = maker.decode(save(file_of(await backwards(api, maker.T0 + 60 * NS, speed))))
            assert (shown.messages, shown.numbers) == ("", list(range(275, -1, -25)))


async def test_backwards_before_anything_is_answered_so(api, maker):
    maker.write(api.main, maker.video(frames=50))
    answer, _ = await api.get("stream.mp4", start=maker.T0 - NS, speed=-1)
    assert answer.status == 404
    answer, body = await api.get("stream.mp4", start=maker.T0 + NS, speed=-64)
    assert (answer.status, answer.headers["Watchroom-Start"][17:19], body.count(b"moof")) == (200, "01", 1)


async def test_every_seek_answers_at_once(api, maker, save):
    """Wherever playback is begun anew, also in gaps, the first fragment comes without waiting for a clock and shows what belongs there."""
    maker.write(api.main, maker.video(frames=100, bframes=2, gop=30))
    api.main.gap(20.0)
    api.main.session = 2
    maker.write(api.main, maker.video(frames=100, first=500, bframes=2, gop=30))
    for at_s, number in ((0.0, 0), (1.5, 30), (3.9, 90), (4.5, 500), (20.0, 500), (24.1, 500), (26.0, 530)):
        for speed in (1.0, 0.1, -1.0, 4.0, 64.0):
            query = CursorQuery(1, start_ns=maker.T0 + round(at_s * NS), speed=speed, scaled=True)
            got = await collect((Cursor if speed > 0 else Rewind)(api.media, query), lambda event: isinstance(event, Part))
            if speed > 0:
                assert maker.decode(save(file_of(got))).numbers[0] == number, (at_s, speed)


async def test_a_start_far_ahead_is_refused(api, maker):
    """It was waited for, without an answer."""
    maker.write(api.main, maker.video(frames=50))
    for start in ((1 << 63) - 1, "2200-01-01T00:00:00Z"):
        answer, _ = await api.get("stream.mp4", start=start)
        assert answer.status == 416
