"""Replay where a disk of several cannot be read, where the clock was set back, and where streams are set up again."""

import errno

import pytest

from api.replay.ask import range_text
from api.rtspout import server as server_module
from recorder.base.media import NS, TrackKind
from storage.reader import TrackReader
from tests.media.replayclient import ReplayClient
from tests.media.replays import played
from tests.media.test_replay_play import unpaced
from tests.media.test_replay_rtsp import serving


@pytest.fixture
async def moved(maker, volume, second, tmp_path):
    """Pictures 0-99 on the first volume, 100-199 on the second right behind them."""
    stream = maker.video(frames=200, gop=25)
    for part, place in enumerate((volume, second)):
        track = place.track(1, "main", start_ns=maker.T0)
        track.session = part + 1
        maker.write(track, stream, first=100 * part, stop=100 * part + 100, t_ns=maker.T0 + 4 * NS * part)
    async with maker.Api(volume, tmp_path, maker.T0 + 3600 * NS, second) as api:
        yield api


@pytest.fixture
def sick(monkeypatch):
    """Makes the index of a volume's tapes unreadable."""
    def fail(place):
        for name in ("row_at", "row_from", "rows_from", "rows", "entries"):
            real = getattr(TrackReader, name)

            def call(self, *args, real=real, **more):
                if self.place == place:
                    raise OSError(errno.EIO, "Input/output error")
                return real(self, *args, **more)

            monkeypatch.setattr(TrackReader, name, call)
    return fail


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("place", [0, 1])
async def test_what_another_disk_has_is_replayed_in_both_directions(moved, maker, sick, place, backwards):
    sick(place)
    wall = [maker.T0 + n * NS // 25 for n in (range(100, 200) if place == 0 else range(100))]
    ask = unpaced(maker.T0 + 60 * NS, maker.T0 - NS, scale="-1.0") if backwards else unpaced(maker.T0, maker.T0 + 60 * NS)
    client = await played(moved.media, 1, ask)
    assert sorted(unit.wall_ns for unit in client.units) == wall


async def test_footage_of_before_a_clock_was_set_back_is_replayed(maker, volume, tmp_path):
    async with maker.Api(volume, tmp_path, maker.T0 - 3600 * NS) as api:
        maker.write(volume.track(1, "main", start_ns=maker.T0), maker.video(frames=100))
        client = await played(api.media, 1, unpaced(maker.T0 + NS, maker.T0 + 3 * NS))
        assert [unit.wall_ns for unit in client.units] == [maker.T0 + n * NS // 25 for n in range(25, 75)]


async def test_a_stream_that_is_set_up_again_is_sent_again(maker, volume, tmp_path):
    async with maker.Api(volume, tmp_path, maker.T0 + 600 * NS) as api, serving(api) as port:
        maker.write(volume.track(1, "main", start_ns=maker.T0), maker.video(frames=100))
        maker.write(volume.track(1, "audio", TrackKind.AUDIO, clock_rate=48_000, start_ns=maker.T0), maker.audio(4))
        async with ReplayClient(port) as client:
            await client.set_up("main", "audio")
            await client.play(Range=range_text(maker.T0, maker.T0 + NS), Rate_Control="no")
            await client.ended()
            await client.ask("PAUSE")
            assert (await client.ask("TEARDOWN", f"{client.address}/track-audio"))[0] == 200
            status, _headers, _ = await client.ask("SETUP", f"{client.address}/track-audio", Transport="RTP/AVP/TCP;unicast;interleaved=4-5")
            assert status == 200
            assert (await client.play(Range=range_text(maker.T0, maker.T0 + NS), Rate_Control="no"))[0] == 200
            await client.until(lambda: sum(unit.stream == 2 for unit in client.units) > 10)


async def test_each_range_of_a_client_without_onvif_ends_with_goodbye(maker, volume, tmp_path, monkeypatch):
    monkeypatch.setattr(server_module, "LOOK_S", 0.02)
    async with maker.Api(volume, tmp_path, maker.T0 + 600 * NS) as api, serving(api) as port:
        maker.write(volume.track(1, "main", start_ns=maker.T0), maker.video(frames=100))
        async with ReplayClient(port) as client:
            await client.set_up("main")
            for number in range(1, 4):
                assert (await client.ask("PLAY", Range=range_text(maker.T0, maker.T0 + NS // 10)))[0] == 200
                await client.until(lambda: sum(packet[1] == 201 for packet in client.reports) == number)       # noqa: B023
