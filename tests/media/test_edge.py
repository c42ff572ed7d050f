"""The edge of a track: every AU once and in order to all who have joined, whatever becomes of the live block meanwhile."""

import asyncio
import errno

import pytest

from api import edge as edge_module
from api.edge import BOARD
from api.edgeread import EdgeReader
from recorder._ext.newest import Newest
from recorder.base.errors import NotFound
from recorder.base.media import NS, TrackKind
from tests.media.growing import Growing

WAIT_S = 60


class Viewer:
    """What one who joined was given."""

    def __init__(self, board, camera=1, track="main"):
        self.units, self.silences, self.calls = [], [], 0
        self.seat = board.join(camera, track, self.take, self.silences.append)

    def take(self, units):
        self.calls += 1
        self.units += units

    async def has(self, count):
        async with asyncio.timeout(WAIT_S):
            while len(self.units) < count:
                await asyncio.sleep(0.002)
        return self.units

    def is_of(self, stream, first=0):
        """The units are the stream's AUs from `first` on, each once."""
        aus = stream.aus[first:first + len(self.units)]
        assert [unit.data for unit in self.units] == [au.data for au in aus]
        assert [unit.key for unit in self.units] == [au.key for au in aus]
        assert [unit.pts - self.units[0].pts for unit in self.units] == [au.pts - aus[0].pts for au in aus]
        assert [unit.dts - self.units[0].dts for unit in self.units] == [au.dts - aus[0].dts for au in aus]
        assert [unit.number for unit in self.units] == list(range(self.units[0].number, self.units[0].number + len(aus)))


@pytest.fixture
async def api(maker, volume, tmp_path):
    async with maker.Api(volume, tmp_path, maker.T0 + 3600 * NS) as made:
        made.main = volume.track(1, "main", start_ns=maker.T0)
        yield made


@pytest.mark.parametrize("content", [{"gop": 20}, {"gop": 50, "bframes": 2}, {"codec": "hevc", "gop": 24, "bframes": 2}])
async def test_every_picture_comes_once_from_the_newest_access_point_on(content, api, maker):
    stream = maker.video(frames=160, **content)
    camera = Growing(api.main, maker, stream, maker.T0)
    camera.send(35)
    viewer = Viewer(api.app[BOARD])
    await viewer.has(5)
    for _ in range(25):
        camera.send(5)
        await asyncio.sleep(0.01)
    first = max(at for at in range(35) if stream.aus[at].key)
    await viewer.has(160 - first)
    viewer.is_of(stream, first)
    assert [unit.breaks for unit in viewer.units] == [True] + [False] * (159 - first)
    assert viewer.units[-1].wall_ns == maker.T0 + (stream.aus[159].pts - stream.aus[0].pts) * NS // 90_000


async def test_who_joins_late_gets_the_window_and_then_the_same_objects(api, maker):
    stream = maker.video(frames=120, gop=40)
    camera = Growing(api.main, maker, stream, maker.T0)
    camera.send(50)
    early = Viewer(api.app[BOARD])
    await early.has(10)
    camera.send(20)
    await early.has(30)
    late = Viewer(api.app[BOARD])
    await late.has(30)
    camera.send(50)
    await early.has(80)
    await late.has(80)
    late.is_of(stream, 40)
    assert all(one is other for one, other in zip(early.units, late.units, strict=True))
    assert len(api.app[BOARD].edges) == 1


async def test_the_last_to_leave_ends_the_edge_and_a_board_without_edges_rests(api, maker):
    camera = Growing(api.main, maker, maker.video(frames=60), maker.T0)
    camera.send(30)
    board = api.app[BOARD]
    viewers = [Viewer(board), Viewer(board)]
    await viewers[0].has(5)
    for viewer in viewers:
        viewer.seat.leave()
        viewer.seat.leave()
    assert not board.edges
    counts = [viewer.calls for viewer in viewers]
    camera.send(10)
    await asyncio.sleep(0.1)
    assert [viewer.calls for viewer in viewers] == counts
    assert board._timer is None


async def test_a_new_live_file_and_one_without_the_block_lose_nothing(api, maker, volume):
    """A worker that starts again renames a new file into place."""
    stream = maker.video(frames=120, gop=20)
    camera = Growing(api.main, maker, stream, maker.T0)
    camera.send(22)
    viewer = Viewer(api.app[BOARD])
    await viewer.has(2)
    volume.new_live_file()
    for _ in range(20):
        camera.send(2)
        await asyncio.sleep(0.01)
    await viewer.has(42)
    viewer.is_of(stream, 20)


async def test_units_are_the_same_by_the_slow_way(api, maker, monkeypatch):
    stream = maker.video(frames=100, gop=20)
    camera = Growing(api.main, maker, stream, maker.T0)
    camera.send(30)
    monkeypatch.setattr(EdgeReader, "poll", lambda self: None)
    viewer = Viewer(api.app[BOARD])
    for _ in range(14):
        await asyncio.sleep(0.02)
        camera.send(5)
    await viewer.has(80)
    viewer.is_of(stream, 20)
    assert sum(unit.breaks for unit in viewer.units) == 1


async def test_a_reader_that_is_lapped_goes_on_by_the_slow_way(api, maker, monkeypatch):
    """The block holds 128 rows: one who comes late after more of them reads the rings."""
    stream = maker.video(frames=600, gop=2)
    camera = Growing(api.main, maker, stream, maker.T0)
    camera.send(2)
    reader = EdgeReader(api.media, 1, "main")
    units = await reader.step()
    camera.send(500)
    api.main.commit()
    assert reader.poll() is None
    async with asyncio.timeout(WAIT_S):
        while len(units) < 502:
            units += await reader.step() if (polled := reader.poll()) is None else polled
    reader.close()
    assert [unit.data for unit in units] == [au.data for au in stream.aus[:502]]


async def test_another_coding_breaks(api, maker):
    one, other = maker.video(frames=20, gop=20), maker.video(frames=20, gop=20, width=160, height=120)
    maker.write(api.main, one)
    viewer = Viewer(api.app[BOARD])
    await viewer.has(20)
    maker.write(api.main, other)
    await viewer.has(40)
    assert [at for at, unit in enumerate(viewer.units) if unit.breaks] == [0, 20]
    assert (viewer.units[19].entry.width, viewer.units[20].entry.width) == (320, 160)


async def test_sound_comes_with_its_last_seconds(api, maker, volume):
    sound = maker.audio(6.0)
    track = volume.track(1, "audio", TrackKind.AUDIO, start_ns=maker.T0)
    maker.write(track, sound)
    viewer = Viewer(api.app[BOARD], track="audio")
    await viewer.has(len(sound.aus))
    viewer.is_of(sound)


async def test_a_track_that_is_not_there_is_not_found(api):
    with pytest.raises(NotFound):
        api.app[BOARD].join(1, "sub", print)


async def test_a_viewer_with_a_defect_ends_alone(api, maker):
    camera = Growing(api.main, maker, maker.video(frames=60), maker.T0)
    camera.send(30)
    board, calls = api.app[BOARD], []

    def broken(units):
        calls.append(units)
        raise RuntimeError("broken")

    seat = board.join(1, "main", broken)
    viewer = Viewer(board)
    await viewer.has(5)
    camera.send(10)
    await viewer.has(15)
    assert (len(calls), seat.left) == (1, True)


async def test_who_leaves_twice_ends_nobody_elses_edge(api, maker):
    camera = Growing(api.main, maker, maker.video(frames=150, gop=25), maker.T0)
    camera.send(30)
    gone = Viewer(api.app[BOARD])
    gone.seat.leave()
    viewer = Viewer(api.app[BOARD])
    await viewer.has(5)
    gone.seat.leave()
    count = len(viewer.units)
    camera.send(25)
    await viewer.has(count + 20)


async def test_a_picture_group_beyond_the_window_is_not_kept(api, maker, monkeypatch):
    """Who joins then waits for the next access point; who was there already gets all."""
    monkeypatch.setattr(edge_module, "WINDOW_BYTES", 20_000)
    stream = maker.video(frames=130, gop=60)
    camera = Growing(api.main, maker, stream, maker.T0)
    camera.send(1)
    early = Viewer(api.app[BOARD])
    await early.has(1)
    camera.send(50)
    await early.has(51)
    late = Viewer(api.app[BOARD])
    camera.send(29)
    await early.has(80)
    early.is_of(stream)
    await late.has(20)
    assert late.units[0].key and late.units[0].number >= 60


def test_a_block_that_does_not_lie_in_its_file_is_refused():
    for live, at, track in ((bytes(100), 0, b"main"), (bytes(1 << 16), 3, b"main"), (bytes(1 << 16), 0, b""), (bytes(1 << 16), 0, bytes(48))):
        with pytest.raises(ValueError):
            Newest(live, at, 1, track)


def test_a_block_of_another_track_tells_nothing():
    assert Newest(bytes(1 << 16), 0, 1, b"main").take(90_000) is None


async def test_after_an_error_numbers_go_on(api, maker, monkeypatch):
    """Who was told number 40 must not wait for it again: the edge begins anew at the newest access point, with the next number."""
    stream = maker.video(frames=100, gop=20)
    camera = Growing(api.main, maker, stream, maker.T0)
    camera.send(30)
    viewer = Viewer(api.app[BOARD])
    await viewer.has(10)

    async def failing(self):
        monkeypatch.undo()
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(EdgeReader, "step", failing)
    monkeypatch.setattr(EdgeReader, "poll", lambda self: None)
    camera.send(35)
    await viewer.has(15)
    again = viewer.units[10]
    assert (again.data, again.number, again.breaks) == (stream.aus[60].data, 10, True)


@pytest.mark.parametrize("kept", [0, 4])
async def test_rows_that_a_killed_worker_loses_are_not_taken_for_those_that_come_after(kept, api, maker, volume):
    """What it had not written is gone, and the row numbers are given again: the new rows begin with a picture that needs no other."""
    stream, after = maker.video(frames=60, gop=20), maker.video(frames=60, gop=20, first=500)
    camera, track = Growing(api.main, maker, stream, maker.T0), api.main
    camera.send(20)
    track.close_row()
    before = track.offset, track.dts, track.next_ns, bytes(track.entries)
    camera.send(10)
    viewer = Viewer(api.app[BOARD])
    await viewer.has(10)
    track.open, (track.offset, track.dts, track.next_ns) = None, before[:3]
    track.entries[:] = before[3]
    if kept:
        maker.write(track, stream, first=20, stop=20 + kept)
    track.session, track.dts = 2, 7_000_000
    volume.new_live_file()
    maker.write(track, after, stop=40, t_ns=track.next_ns + NS)
    maker.write(track, after, first=40, close=False, t_ns=track.next_ns)
    await viewer.has(30)
    again = viewer.units[10:]
    assert [unit.data for unit in again] == [au.data for au in after.aus[60 - len(again):]]
    assert [unit.breaks for unit in again] == [True] + [False] * (len(again) - 1)


async def test_a_track_that_cannot_be_found_for_a_while_holds_up_no_other_and_comes_back(api, maker, volume, monkeypatch):
    """Its volume is taken out: what is asked then is NotFound, on every tick."""
    stream = maker.video(frames=100, gop=20)
    camera, other = Growing(api.main, maker, stream, maker.T0), Growing(volume.track(2, "main", start_ns=maker.T0), maker, stream, maker.T0)
    camera.send(30)
    other.send(30)
    viewer, beside = Viewer(api.app[BOARD]), Viewer(api.app[BOARD], 2)
    await viewer.has(10)
    await beside.has(10)
    whole, polled = api.media.store.whole, EdgeReader.poll

    def gone(number, name):
        if number == 1:
            raise NotFound("no such track")
        return whole(number, name)

    def poll(self):
        if self.track.camera == 1:
            raise OSError(errno.EIO, "broken")
        return polled(self)

    with monkeypatch.context() as broken:
        broken.setattr(api.media.store, "whole", gone)
        broken.setattr(EdgeReader, "poll", poll)
        for _ in range(6):
            await asyncio.sleep(0.1)
            other.send(5)
        await beside.has(40)
    camera.send(30)
    await viewer.has(30)
    assert viewer.units[-20].breaks
    assert [unit.data for unit in viewer.units[-20:]] == [au.data for au in stream.aus[40:60]]


async def test_sound_of_before_our_clock_went_back_is_not_kept(api, maker, volume):
    """It would pass for newer than what comes, for as long as the clock was wrong."""
    sound = maker.audio(6.0)
    track = volume.track(1, "audio", TrackKind.AUDIO, start_ns=maker.T0)
    maker.write(track, sound, stop=100, t_ns=maker.T0 + 3600 * NS)
    early = Viewer(api.app[BOARD], track="audio")
    await early.has(100)
    track.session = 2
    maker.write(track, sound, first=100, stop=150, t_ns=maker.T0)
    await early.has(150)
    late = Viewer(api.app[BOARD], track="audio")
    await late.has(50)
    assert [unit.data for unit in late.units] == [au.data for au in sound.aus[100:150]]
