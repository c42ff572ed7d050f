"""Frames, pace, pauses, the live edge and what may go wrong while a replay plays, without a network."""

import asyncio
from itertools import pairwise
from types import SimpleNamespace

import pytest

from api.footage import load
from api.replay import player as player_module
from api.replay.ask import range_text
from api.replay.reading import Reading
from api.ts.elementary import avc_sets
from recorder.base.errors import Unreadable
from recorder.base.media import NS, GapCause, TrackKind
from storage import items
from tests.media.growing import Growing
from tests.media.replays import Client, ended, open_session, played, start

POLL_S = 0.00317              # like no other sleep
FRAME = 3600                  # ticks of 90 kHz at 25 pictures a second


@pytest.fixture
async def api(maker, volume, tmp_path):
    async with maker.Api(volume, tmp_path, maker.T0 + 600 * NS) as made:
        made.main = volume.track(1, "main", start_ns=maker.T0)
        yield made


def unpaced(start_ns, end_ns=None, **more):
    return {"range": range_text(start_ns, end_ns), "rate-control": "no", **more}


def recorded(track):
    """UTC of its pictures in decode order, and which are access points."""
    footage = load(track, track.rows_from(0, 1000))
    return footage.wall_ns.tolist(), footage.key.tolist()


async def until(true, seconds=10):
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.002)


# -- frames --


async def test_intra_sends_access_points_alone_also_backwards(api, maker):
    maker.write(api.main, maker.video(frames=200, gop=25, bframes=2))
    wall, key = recorded(api.store.track(1, "main"))
    keys = [time_ns for time_ns, one in zip(wall, key, strict=True) if one]
    begin, end = wall[0], wall[-1] + NS
    client = await played(api.media, 1, unpaced(begin, end, frames="intra"))
    assert [unit.wall_ns for unit in client.units] == keys
    assert [unit.jump for unit in client.units] == [True] + [False] * (len(keys) - 1)
    assert client.units[-1].last
    client = await played(api.media, 1, unpaced(end, begin, frames="intra", scale="-1.0"))
    assert [unit.wall_ns for unit in client.units] == keys[::-1]
    assert all(unit.jump and unit.clean for unit in client.units)
    assert [unit.end and unit.last for unit in client.units] == [False] * (len(keys) - 1) + [True]


@pytest.mark.parametrize(("interval", "step"), [(1000, 1), (1001, 2), (4000, 4), (4001, 5)])
async def test_intra_keeps_its_distance_in_the_time_of_the_footage(api, maker, interval, step):
    maker.write(api.main, maker.video(frames=400, gop=25))
    wall, key = recorded(api.store.track(1, "main"))
    keys = [time_ns for time_ns, one in zip(wall, key, strict=True) if one]
    client = await played(api.media, 1, unpaced(wall[0], wall[-1] + NS, frames=f"intra/{interval}"))
    assert [unit.wall_ns for unit in client.units] == keys[::step]
    client = await played(api.media, 1, unpaced(wall[-1] + NS, wall[0], frames=f"intra/{interval}", scale="-1.0"))
    assert [unit.wall_ns for unit in client.units] == keys[::-1][::step]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
async def test_predicted_leaves_out_b_pictures_and_nothing_else(api, maker, codec):
    stream = maker.video(codec=codec, frames=100, gop=25, bframes=2)
    maker.write(api.main, stream)
    wall, _ = recorded(api.store.track(1, "main"))
    top, expected = -1, []
    for au, time_ns in zip(stream.aus, wall, strict=True):
        plain = _plain(au.data, codec)
        if au.key or au.pts > top or not plain:
            top = max(au.pts, top)
            expected.append(time_ns)
    client = await played(api.media, 1, unpaced(wall[0], wall[-1] + NS, frames="predicted"))
    assert [unit.wall_ns for unit in client.units] == expected
    assert 30 < len(expected) < 75
    assert client.units[-1].last


def _plain(data, codec):
    """True if no picture refers to this one: looked up in its slices."""
    at, said = 0, []
    while at < len(data):
        kind = data[at + 4] & 31 if codec == "h264" else data[at + 4] >> 1 & 63
        if kind in (1, 5) if codec == "h264" else kind < 32:
            said.append(not data[at + 4] & 0x60 if codec == "h264" else kind < 16 and not kind & 1)
        at += 4 + int.from_bytes(data[at:at + 4])
    return all(said)


# -- sound --


async def test_sound_and_pictures_come_in_the_order_of_their_time(api, maker, volume):
    maker.write(api.main, maker.video(frames=250))
    sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=48_000, start_ns=maker.T0)
    maker.write(sound, maker.audio(10.0))
    client = await played(api.media, 1, unpaced(maker.T0 + 3 * NS + 1, maker.T0 + 7 * NS), ("main", "audio"))
    pictures, heard = client.of(), client.of("audio")
    times = [unit.wall_ns for unit in client.units]
    assert times == sorted(times)
    assert pictures[0].wall_ns == maker.T0 + 3 * NS
    assert pictures[0].wall_ns <= heard[0].wall_ns < pictures[0].wall_ns + NS // 40
    assert heard[0].jump
    assert heard[-1].last
    assert maker.T0 + 7 * NS - NS // 40 < heard[-1].wall_ns < maker.T0 + 7 * NS
    assert {after.stamp - before.stamp & 0xFFFFFFFF for before, after in pairwise(heard)} == {1024}


async def test_sound_alone_is_replayed_and_its_gaps_take_no_time(maker, api, volume, hurried):
    sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=8000, start_ns=maker.T0)
    maker.write(sound, maker.audio(2.0, "alaw"))
    sound.gap(300.0)
    sound.session = 2
    maker.write(sound, maker.audio(2.0, "alaw"))
    client = await played(api.media, 1, {"range": range_text(maker.T0, maker.T0 + 400 * NS)}, ("audio",))
    assert len(client.units) == 200
    assert [number for number, unit in enumerate(client.units) if unit.jump] == [0, 100]
    assert client.units[99].end
    steps = [after.stamp - before.stamp & 0xFFFFFFFF for before, after in pairwise(client.units)]
    assert set(steps[:99] + steps[100:]) == {160}
    assert steps[99] == 8000 // 25
    assert hurried.slept == pytest.approx(4.0, abs=0.1)


async def test_paced_sound_inside_a_gap_of_the_pictures_is_left_out(api, maker, volume, hurried):
    maker.write(api.main, maker.video(frames=100))
    api.main.gap(20.0)
    api.main.session = 2
    maker.write(api.main, maker.video(frames=100))
    sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=8000, start_ns=maker.T0)
    maker.write(sound, maker.audio(28.0, "alaw"))
    headers = {"range": range_text(maker.T0, maker.T0 + 400 * NS)}
    paced = await played(api.media, 1, headers, ("main", "audio"))
    free = await played(api.media, 1, headers | {"rate-control": "no"}, ("main", "audio"))
    heard = [unit.wall_ns - maker.T0 for unit in paced.of("audio")]
    assert not any(5 * NS < time_ns < 24 * NS for time_ns in heard)
    assert sum(time_ns < 4 * NS for time_ns in heard) == 200
    assert sum(time_ns >= 24 * NS for time_ns in heard) == 200
    assert hurried.slept < 12
    assert len(free.of("audio")) == 1400


async def test_another_scale_takes_effect_where_it_stands(api, maker):
    maker.write(api.main, maker.video(frames=400))
    session, client = await open_session(api.media, 1), Client(full=True)
    await start(session, client, unpaced(maker.T0))
    client.full = False
    await until(lambda: len(client.units) > 200)
    client.full = True
    await asyncio.sleep(0.02)
    here_ns = client.units[-1].wall_ns
    begun = await start(session, client, {"scale": "-1.0", "rate-control": "no"}, cseq=9)
    client.full = False
    await ended(session)
    session.close()
    mine = [unit for unit in client.units if unit.cseq == 9]
    assert abs(begun.start_ns - here_ns) <= NS
    assert mine[0].wall_ns <= here_ns + 2 * NS // 25
    assert mine[0].jump
    assert min(unit.wall_ns for unit in mine) == maker.T0


async def test_no_sound_backwards_nor_beside_access_points_alone(api, maker, volume):
    maker.write(api.main, maker.video(frames=100))
    maker.write(volume.track(1, "audio", TrackKind.AUDIO, clock_rate=48_000, start_ns=maker.T0), maker.audio(4.0))
    for more in ({"scale": "-1.0", "range": range_text(maker.T0 + 4 * NS, maker.T0)}, {"frames": "intra"}):
        client = await played(api.media, 1, unpaced(maker.T0, maker.T0 + 4 * NS) | more, ("main", "audio"))
        assert client.of()
        assert not client.of("audio")


# -- timestamps and pace --


async def test_without_rate_control_timestamps_are_the_footages_in_both_directions(api, maker):
    maker.write(api.main, maker.video(frames=100, bframes=2))
    api.main.gap(100.0)
    api.main.session = 2
    maker.write(api.main, maker.video(frames=100, bframes=2))
    session = await open_session(api.media, 1)
    stamps = []
    for headers in (unpaced(maker.T0, maker.T0 + 200 * NS), unpaced(maker.T0 + 200 * NS, maker.T0, scale="-1.0")):
        client = Client()
        await start(session, client, headers)
        await ended(session)
        stamps.append({unit.wall_ns: unit.stamp for unit in client.units})
    session.close()
    assert stamps[0] == stamps[1]
    zero = stamps[0][maker.T0]
    assert all((stamp - zero & 0xFFFFFFFF) == round((wall - maker.T0) * 90_000 / NS) for wall, stamp in stamps[0].items())


@pytest.fixture
def hurried(monkeypatch):
    """A monotonic clock that runs on by what is slept: pace without waiting. Answers what was slept."""
    clock, real = SimpleNamespace(now=1000.0, slept=0.0), asyncio.sleep

    async def sleep(seconds):
        if seconds != POLL_S:
            clock.now, clock.slept = clock.now + seconds, clock.slept + seconds
            seconds = 0
        await real(seconds)

    monkeypatch.setattr(player_module, "POLL_S", POLL_S)
    monkeypatch.setattr(player_module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(player_module, "asyncio", SimpleNamespace(sleep=sleep, Event=asyncio.Event))
    return clock


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
async def test_paced_forwards_takes_its_time_and_gaps_none(api, maker, hurried, scale):
    maker.write(api.main, maker.video(frames=100))
    api.main.gap(300.0)
    api.main.session = 2
    maker.write(api.main, maker.video(frames=100))
    client = await played(api.media, 1, {"range": range_text(maker.T0, maker.T0 + 400 * NS), "scale": str(scale)})
    assert len(client.units) == 200
    steps = [after.stamp - before.stamp & 0xFFFFFFFF for before, after in pairwise(client.units)]
    assert set(steps[:99] + steps[100:]) == {FRAME / scale}
    assert steps[99] == FRAME
    assert hurried.slept == pytest.approx((198 / 25) / scale + 1 / 25, abs=0.1)


async def test_paced_backwards_timestamps_say_when_each_picture_is_shown(api, maker, hurried):
    maker.write(api.main, maker.video(frames=100))
    client = await played(api.media, 1, {"range": range_text(maker.T0 + 4 * NS, maker.T0), "scale": "-2.0"})
    assert len(client.units) == 100
    first = client.units[24]                                  # the newest picture, last of the group that comes first
    for unit in client.units:
        shown = unit.stamp - first.stamp & 0xFFFFFFFF
        assert shown == (first.wall_ns - unit.wall_ns) * 90_000 // NS // 2
    assert hurried.slept == pytest.approx(75 / 25 / 2, abs=0.1)       # a group is sent when its newest picture is due


@pytest.mark.parametrize(("scale", "wanted"), [("8.0", 1), ("64.0", 1), ("-8.0", -1), ("1000000", 1)])
async def test_fast_play_is_of_access_points(api, maker, hurried, scale, wanted):
    maker.write(api.main, maker.video(frames=200, gop=25))
    span = (maker.T0, maker.T0 + 8 * NS)[::wanted]
    client = await played(api.media, 1, {"range": range_text(*span), "scale": scale})
    assert [unit.clean for unit in client.units] == [True] * 8
    assert hurried.slept == pytest.approx(7 / min(abs(float(scale)), 64), abs=0.1)


# -- PAUSE, PLAY, Immediate --


async def test_pause_stops_and_play_goes_on_with_the_next_picture(api, maker):
    maker.write(api.main, maker.video(frames=200))
    wall, _ = recorded(api.store.track(1, "main"))
    session, client = await open_session(api.media, 1), Client(full=True)
    await start(session, client, unpaced(wall[0], wall[-1] + NS), cseq=3)
    client.full = False
    await until(lambda: len(client.units) > 20)
    session.pause()
    await asyncio.sleep(0.05)
    sent = len(client.units)
    await asyncio.sleep(0.05)
    assert len(client.units) == sent < 200
    begun = await start(session, client, {}, cseq=260)
    await ended(session)
    session.close()
    assert [unit.wall_ns for unit in client.units] == wall
    assert [unit.cseq for unit in client.units] == [3] * sent + [260 & 0xFF] * (200 - sent)
    assert [unit.jump for unit in client.units] == [True] + [False] * 199
    assert begun.start_ns in wall[sent - 1:sent + 2]


async def test_a_new_play_takes_effect_at_once(api, maker):
    maker.write(api.main, maker.video(frames=400))
    session, client = await open_session(api.media, 1), Client(full=True)
    await start(session, client, unpaced(maker.T0), cseq=1)
    await until(lambda: client.asked)
    await start(session, client, unpaced(maker.T0 + 10 * NS, maker.T0 + 12 * NS, immediate="yes"), cseq=2)
    client.full = False
    await ended(session)
    session.close()
    assert {unit.cseq for unit in client.units} == {2}
    assert client.units[0].wall_ns == maker.T0 + 10 * NS
    assert client.units[0].jump


async def test_thousands_of_plays_leave_one_task_and_no_chunk(api, maker):
    maker.write(api.main, maker.video(frames=400))
    session, client = await open_session(api.media, 1), Client(full=True)
    tasks = len(asyncio.all_tasks())
    for number in range(2000):
        await start(session, client, unpaced(maker.T0 + number * NS // 200), cseq=number)
    assert len(asyncio.all_tasks()) <= tasks + 1
    session.close()
    await asyncio.sleep(0.01)
    assert len(asyncio.all_tasks()) == tasks
    assert len(client.units) <= 2000


async def test_a_client_that_does_not_read_holds_one_au(api, maker):
    maker.write(api.main, maker.video(frames=400))
    session, client = await open_session(api.media, 1), Client(full=True)
    await start(session, client, unpaced(maker.T0))
    await asyncio.sleep(0.2)
    assert client.units == []
    assert client.asked == 1
    session.close()


# -- the live edge --


@pytest.fixture
async def growing(api, maker):
    return Growing(api.main, maker, maker.video(frames=500, gop=25), maker.T0)


async def test_the_live_edge_goes_on_without_a_flag_and_ends_with_one_when_recording_stops(api, maker, growing):
    growing.send(60)
    session, client = await open_session(api.media, 1), Client()
    await start(session, client, unpaced(maker.T0 + NS))
    await until(lambda: len(client.units) == 60 - 25 - 1)             # the newest waits for what follows it
    for more in range(1, 20):
        growing.send(1)
        await until(lambda: len(client.units) == 34 + more)           # noqa: B023
    assert not any(unit.end or unit.last for unit in client.units)
    api.main.log(items.GapOpen(api.main.next_ns, GapCause.OFFLINE))
    await until(lambda: len(client.units) == 54)
    assert [unit.end and unit.last for unit in client.units] == [False] * 53 + [True]
    stopped_ns = api.main.next_ns
    api.main.log(items.GapClose(stopped_ns, stopped_ns + 5 * NS))
    api.main.close_row()
    api.main.session = 2
    maker.write(api.main, maker.video(frames=50), t_ns=stopped_ns + 5 * NS)
    await until(lambda: len(client.units) == 54 + 49)
    assert client.units[54].jump
    assert client.units[54].wall_ns == stopped_ns + 5 * NS
    session.close()


async def test_the_end_is_told_too_where_several_gaps_follow_each_other(api, maker, growing):
    growing.send(60)
    session, client = await open_session(api.media, 1), Client()
    await start(session, client, unpaced(maker.T0 + NS))
    await until(lambda: len(client.units) == 34)
    stopped_ns = api.main.next_ns
    api.main.log(items.GapOpen(stopped_ns, GapCause.SENDER_RESTART), items.GapClose(stopped_ns, stopped_ns + 2 * NS),
                 items.GapOpen(stopped_ns + 2 * NS, GapCause.OFFLINE))
    await until(lambda: len(client.units) == 35)
    assert client.units[-1].end
    assert client.units[-1].last
    session.close()


async def test_play_of_now_begins_with_the_newest_access_point(api, maker, growing):
    growing.send(110)
    session, client = await open_session(api.media, 1), Client()
    begun = await start(session, client, unpaced(maker.T0 + 110 * NS // 25 + NS // 2))
    assert begun.start_ns == maker.T0 + 4 * NS
    await until(lambda: len(client.units) == 9)
    session.close()


async def test_play_of_npt_now_is_live(maker, volume, tmp_path):
    main = volume.track(1, "main", start_ns=maker.T0)
    async with maker.Api(volume, tmp_path, maker.T0 + 110 * NS // 25 + NS // 2) as near:
        camera = Growing(main, maker, maker.video(frames=200, gop=25), maker.T0)
        camera.send(110)
        session, client = await open_session(near.media, 1), Client()
        begun = await start(session, client, {"range": "npt=now-"})
        assert begun.start_ns == maker.T0 + 4 * NS
        await until(lambda: len(client.units) == 9)
        camera.send(20)
        await until(lambda: len(client.units) == 29)
        session.close()


async def test_faster_than_life_falls_in_step_at_the_edge(api, maker, growing, hurried):
    growing.send(110)
    session, client = await open_session(api.media, 1), Client()
    await start(session, client, {"range": range_text(maker.T0, None), "scale": "2.0"})
    await until(lambda: len(client.units) == 109)
    await asyncio.sleep(0.1)
    growing.send(50)
    await until(lambda: len(client.units) == 159)
    session.close()
    steps = [after.stamp - before.stamp & 0xFFFFFFFF for before, after in pairwise(client.units)]
    assert set(steps[:108]) == {FRAME // 2}
    assert set(steps[110:]) == {FRAME}


# -- what may go wrong --


async def test_retention_that_overtakes_a_replay_costs_what_is_gone(api, maker):
    aus = tuple(maker.Au(bytes(300_000), n * 3600, n * 3600, n % 5 == 0) for n in range(150))
    maker.write(api.main, maker.Stream(maker.video().entry, aus, 3600))
    session, client = await open_session(api.media, 1), Client(full=True)
    await start(session, client, unpaced(maker.T0, maker.T0 + 60 * NS))
    await until(lambda: client.asked)
    assert len(api.main.chunks) > 1, "the footage lies in one chunk: nothing can be retired"
    api.main.retire()
    client.full = False
    await ended(session)
    session.close()
    wall, _ = recorded(api.store.track(1, "main"))
    assert [unit.wall_ns for unit in client.units][-len(wall):] == wall
    assert client.units[-len(wall)].jump


async def test_a_camera_that_moved_between_volumes_is_replayed_as_one(maker, volume, second, tmp_path):
    """Pictures 0-99 on the first volume, 100-199 on the second a second later, 200-299 on the first again."""
    stream, wall = maker.video(frames=300, gop=25), []
    tapes = [each.track(1, "main", start_ns=maker.T0) for each in (volume, second)]
    for part, place in enumerate((0, 1, 0)):
        begin_ns = maker.T0 + 4 * NS * part + (NS if part else 0)
        tapes[place].session = part + 1
        maker.write(tapes[place], stream, first=100 * part, stop=100 * part + 100, t_ns=begin_ns)
        wall += [begin_ns + n * NS // 25 for n in range(100)]
    async with maker.Api(volume, tmp_path, maker.T0 + 3600 * NS, second) as api:
        forward = (await played(api.media, 1, unpaced(maker.T0, maker.T0 + 60 * NS))).units
        backward = (await played(api.media, 1, unpaced(maker.T0 + 60 * NS, maker.T0, scale="-1.0"))).units
        seek = (await played(api.media, 1, unpaced(maker.T0 + 6 * NS + 1, maker.T0 + 7 * NS))).units
    assert [unit.wall_ns for unit in forward] == wall
    assert [number for number, unit in enumerate(forward) if unit.jump] == [0, 100, 200]
    assert [number for number, unit in enumerate(forward) if unit.end] == [99]
    assert sorted(unit.wall_ns for unit in backward) == wall
    assert [unit.wall_ns for unit in backward if unit.jump] == [wall[n] for n in range(275, -1, -25)]
    assert [unit.wall_ns for unit in backward if unit.end] == [wall[124], wall[24]]
    assert [unit.wall_ns for unit in seek] == wall[125:150]


async def test_what_a_disk_cannot_read_is_passed_over(api, maker, monkeypatch):
    maker.write(api.main, maker.video(frames=400))
    real = Reading.part

    async def part(self, view, shot, skip):
        if maker.T0 + 3 * NS <= shot.wall_ns < maker.T0 + 7 * NS:
            raise Unreadable(0, "cam-1/main")
        await real(self, view, shot, skip)

    monkeypatch.setattr(Reading, "part", part)
    client = await played(api.media, 1, unpaced(maker.T0, maker.T0 + 12 * NS))
    wall = [unit.wall_ns for unit in client.units]
    assert wall[:75] == [maker.T0 + n * NS // 25 for n in range(75)]
    assert maker.T0 + 7 * NS <= wall[75] <= maker.T0 + 11 * NS
    assert client.units[75].jump
    assert client.units[75].clean
    assert client.units[-1].last
    client = await played(api.media, 1, unpaced(maker.T0 + 12 * NS, maker.T0, scale="-1.0"))
    assert {unit.wall_ns for unit in client.units} & set(wall[:25])
    assert not any(maker.T0 + 3 * NS <= unit.wall_ns < maker.T0 + 7 * NS for unit in client.units)


async def test_a_disk_that_reads_nothing_ends_a_replay(api, maker, monkeypatch):
    maker.write(api.main, maker.video(frames=400))

    async def part(self, view, shot, skip):
        raise Unreadable(0, "cam-1/main")

    monkeypatch.setattr(Reading, "part", part)
    for headers in (unpaced(maker.T0, maker.T0 + 60 * NS), unpaced(maker.T0 + 12 * NS, scale="-1.0")):
        session, client = await open_session(api.media, 1), Client()
        await start(session, client, headers)
        await ended(session)
        session.close()
        assert client.units == []


async def test_other_parameter_sets_are_sent_before_their_first_access_point(api, maker):
    """Two codings of H.264 without sets in band: each access point brings those of its own."""
    parts = [maker.video(frames=50), maker.video(frames=50, width=480, height=360)]
    for session, part in enumerate(parts, 1):
        api.main.session = session
        maker.write(api.main, part)
    client = await played(api.media, 1, unpaced(maker.T0, maker.T0 + 10 * NS))
    for number, unit in enumerate(client.units):
        entry = parts[number // 50].entry
        if unit.clean:
            assert unit.data.startswith(b"".join(len(nal).to_bytes(4) + nal for nal in avc_sets(entry.config)))
        else:
            assert unit.data == parts[number // 50].aus[number % 50].data


async def test_another_codec_than_was_described_is_left_out_like_a_gap(api, maker):
    maker.write(api.main, maker.video(frames=50))
    api.main.session = 2
    maker.write(api.main, maker.video(codec="hevc", frames=50))
    session = await open_session(api.media, 1, time_ns=maker.T0)
    client = Client()
    await start(session, client, unpaced(maker.T0, maker.T0 + 10 * NS))
    await ended(session)
    session.close()
    assert len(client.units) == 50
    assert client.units[-1].last
