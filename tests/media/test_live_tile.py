"""A live tile over the WebSocket: every picture once and at its time, sound beside it, whoever is late goes on at an access point."""

import asyncio
import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from api import live, livetile
from api.livetile import LiveTile
from api.times import rfc3339
from recorder.base.media import NS, GapCause, TrackKind
from storage import items
from tests.media.growing import Growing

INIT, FRAGMENT, STATE, EVENT = 1, 2, 3, 4
WAIT_S = 6


class Client:
    """One connection; what came, by tile."""

    def __init__(self, socket):
        self.socket = socket
        self.came = []
        self._task = asyncio.create_task(self._read())

    async def _read(self):
        async for frame in self.socket:
            tile, kind = struct.unpack_from(">IB", frame.data)
            self.came.append((tile, kind, frame.data[8:]))

    async def say(self, **message):
        await self.socket.send_str(json.dumps(message))

    def of(self, kind, tile=1):
        return [data for number, what, data in self.came if (number, what) == (tile, kind)]

    def states(self, tile=1):
        return [json.loads(data) for data in self.of(STATE, tile)]

    def media(self, tile=1):
        """Init segments and fragments as they came."""
        return b"".join(data for number, kind, data in self.came if number == tile and kind in {INIT, FRAGMENT})

    async def used_up(self, credit, tile=1):
        """Bytes of media, once there are as many as the credit."""
        async with asyncio.timeout(WAIT_S):
            while (sent := len(self.media(tile))) < credit:
                await asyncio.sleep(0.005)
        return sent

    async def has(self, fragments, tile=1, kind=FRAGMENT):
        async with asyncio.timeout(WAIT_S):
            while len(self.of(kind, tile)) < fragments:
                await asyncio.sleep(0.005)


@pytest.fixture
async def api(maker, volume, tmp_path):
    async with maker.Api(volume, tmp_path, maker.T0 + 3600 * NS) as made:
        made.main = volume.track(1, "main", start_ns=maker.T0)
        yield made


@pytest.fixture
async def client(api):
    async with api.client.ws_connect("/api/v1/live", headers={"Origin": str(api.client.make_url("")).rstrip("/")}) as socket:
        made = Client(socket)
        yield made
        made._task.cancel()


async def send(camera, count, pause_s=0.01):
    for _ in range(count):
        camera.send(1)
        await asyncio.sleep(pause_s)


@pytest.mark.parametrize("content", [{"gop": 20}, {"gop": 30, "bframes": 2}, {"codec": "hevc", "gop": 25, "bframes": 2, "open_gop": True}])
async def test_a_tile_shows_every_picture_once_and_at_its_time(content, api, client, maker, save):
    camera = Growing(api.main, maker, maker.video(frames=110, **content), maker.T0)
    camera.send(65)
    await client.say(op="subscribe", tile=1, camera="yard", play=["avc1", "hvc1"])
    first = max(at for at in range(65) if camera._stream.aus[at].key)
    lost = sum(au.leading for au in camera._stream.aus[first:first + 20])
    await client.has(65 - first - lost)
    await send(camera, 45)
    await client.has(110 - first - lost)
    decoded = maker.decode(save(client.media()))
    assert decoded.messages == ""
    assert len(decoded.numbers) == 110 - first - lost and decoded.numbers[-1] == 109
    assert decoded.numbers == list(range(decoded.numbers[0], 110))
    assert [round((at - decoded.times[0]) * 25) for at in decoded.times] == list(range(len(decoded.times)))
    state = client.states()[0]
    shown_ns = int(state["wall_ns"]) + round(decoded.times[0] * NS)
    assert abs(shown_ns - (maker.T0 + decoded.numbers[0] * NS // 25)) < 10 ** 6
    assert (state["state"], state["track"], len(client.states())) == ("live", "main", 1)


async def test_tiles_of_one_camera_are_sent_the_same_bytes(api, client, maker):
    camera = Growing(api.main, maker, maker.video(frames=60, gop=20), maker.T0)
    camera.send(30)
    await client.say(op="subscribe", tile=1, camera="yard")
    await client.has(10)
    await client.say(op="subscribe", tile=2, camera="yard")
    await client.has(10, 2)
    await send(camera, 30)
    await client.has(40)
    await client.has(40, 2)
    assert client.of(FRAGMENT, 1) == client.of(FRAGMENT, 2)


async def test_sound_goes_beside_the_pictures(api, client, maker, volume, save):
    track, tone = volume.track(1, "audio", TrackKind.AUDIO, start_ns=maker.T0), maker.audio(6.0)
    hz = tone.entry.clock_rate
    camera = Growing(api.main, maker, maker.video(frames=140, gop=25), maker.T0)

    def hear(first, stop):
        maker.write(track, tone, first=first, stop=stop, t_ns=maker.T0 + tone.aus[first].pts * NS // hz)

    heard = hz * 30 // 25 // 1024
    hear(0, heard)
    camera.send(30)
    await client.say(op="subscribe", tile=1, camera="yard")
    await client.has(5)
    for number in range(31, 141):
        until = hz * number // 25 // 1024
        if until > heard:
            hear(heard, until)
            heard = until
        await send(camera, 1, 0.02)
    await client.has(140 - 25 + 50)
    await asyncio.sleep(0.1)
    decoded = maker.decode(save(client.media()))
    assert client.states()[0]["audio"] == "aac" and len(client.states()) == 1
    assert decoded.messages == "" and decoded.numbers == list(range(25, 140))
    assert abs(decoded.sound_start - decoded.times[0]) < 0.05
    assert len(decoded.sound) / hz > 4.4
    at = round((3.5 - decoded.sound_start) * hz)
    piece = decoded.sound[at - 4096:at + 4096] * np.hanning(8192)
    pitch = np.argmax(np.abs(np.fft.rfft(piece))) * hz / 8192
    assert abs(pitch - (400 + 100 * int(3.5 + _first_s(client, maker)))) < 12


def _first_s(client, maker):
    """How long after the camera's first picture media time 0 is."""
    return (int(client.states()[0]["wall_ns"]) - maker.T0) / NS


async def test_a_tile_without_credit_goes_on_where_it_was_while_the_group_is_at_hand(api, client, maker, save):
    camera = Growing(api.main, maker, maker.video(frames=200, gop=100), maker.T0)
    camera.send(105)
    await client.say(op="subscribe", tile=1, camera="yard", credit=65536)
    await client.has(1)
    await send(camera, 80, 0.002)
    sent = await client.used_up(65536)
    assert len(client.of(FRAGMENT)) < 85, "the content is too small to use up the credit"
    await client.say(op="ack", tile=1, bytes=sent)
    await client.has(85)
    assert maker.decode(save(client.media())).numbers == list(range(100, 185))


async def test_who_was_away_for_longer_goes_on_at_the_newest_access_point(api, client, maker, save):
    camera = Growing(api.main, maker, maker.video(frames=300, gop=50), maker.T0)
    camera.send(51)
    await client.say(op="subscribe", tile=1, camera="yard", credit=65536)
    await client.has(1)
    await send(camera, 200, 0.002)
    sent = await client.used_up(65536)
    shown = len(client.of(FRAGMENT))
    await client.say(op="ack", tile=1, bytes=sent)
    await client.has(shown + 1)
    numbers = maker.decode(save(client.media())).numbers
    assert numbers[:shown] == list(range(50, 50 + shown))
    assert numbers[shown] >= 200 and numbers[shown] % 50 == 0
    assert api.media.counts.viewers_late == 1


async def test_a_client_that_takes_nothing_holds_up_nobody_and_no_memory(api, client, maker, monkeypatch):
    stopped = []
    monkeypatch.setattr(live.LiveSocket, "full", property(lambda self: bool(stopped)))
    camera = Growing(api.main, maker, maker.video(frames=150, gop=25), maker.T0)
    camera.send(30)
    await client.say(op="subscribe", tile=1, camera="yard")
    await client.has(5)
    stopped.append(1)
    await send(camera, 60, 0.005)
    await asyncio.sleep(0.1)
    assert len(client.of(FRAGMENT)) == 5
    stopped.clear()
    await send(camera, 30, 0.005)
    await client.has(20)


async def test_another_coding_begins_another_stream(api, client, maker):
    maker.write(api.main, maker.video(frames=25))
    await client.say(op="subscribe", tile=1, camera="yard")
    await client.has(25)
    maker.write(api.main, maker.video(frames=25, width=160, height=120))
    await client.has(50)
    assert [(state["width"], state["height"]) for state in client.states()] == [(320, 240), (160, 120)]
    assert len(client.of(INIT)) == 2


async def test_a_camera_that_is_offline_says_since_when_and_shows_its_last_pictures(api, client, maker, volume):
    maker.write(api.main, maker.video(frames=50, gop=25))
    api.main.log(items.GapOpen(api.main.next_ns, GapCause.OFFLINE))
    await client.say(op="subscribe", tile=1, camera="yard")
    await client.has(25)
    async with asyncio.timeout(WAIT_S):
        while len(client.states()) < 2:
            await asyncio.sleep(0.01)
    state = client.states()[1]
    assert (state["state"], state["cause"], state["last"]) == ("offline", "offline", rfc3339(maker.T0 + 49 * NS // 25))


async def test_a_tile_with_a_defect_ends_alone(api, client, maker, monkeypatch):
    """All tiles of a track sit on one seat at its edge: one that fails must not take it from the others, nor from who comes later."""
    camera = Growing(api.main, maker, maker.video(frames=80, gop=20), maker.T0)
    camera.send(30)
    for tile in (1, 2):
        await client.say(op="subscribe", tile=tile, camera="yard")
        await client.has(10, tile)
    came = LiveTile._came

    def broken(self, hub, units):
        if self._account.number == 1:
            raise RuntimeError("broken")
        came(self, hub, units)

    monkeypatch.setattr(LiveTile, "_came", broken)
    await send(camera, 5)
    await client.has(15, 2)
    await client.has(2, 1, STATE)
    assert client.states()[-1]["state"] == "ended"
    await client.say(op="subscribe", tile=3, camera="yard")
    await client.has(15, 3)
    await send(camera, 5)
    await client.has(20, 2)
    await client.has(20, 3)


async def test_sound_that_jumps_far_between_two_pictures_is_sent(api, client, maker, volume):
    """A camera that comes back begins its clock anew: between two units of sound there may be any number of ticks."""
    track, tone = volume.track(1, "audio", TrackKind.AUDIO, start_ns=maker.T0), maker.audio(3.0)
    camera = Growing(api.main, maker, maker.video(frames=80, gop=60), maker.T0)
    maker.write(track, tone, stop=46, t_ns=maker.T0)
    camera.send(25)
    await client.say(op="subscribe", tile=1, camera="yard")
    await client.has(26)
    maker.write(track, tone, first=46, stop=70, t_ns=maker.T0 + NS)
    track.dts += 1 << 40
    track.session = 2
    maker.write(track, tone, first=70, stop=90, t_ns=maker.T0 + NS * 3 // 2)
    await asyncio.sleep(0.1)
    await send(camera, 10)
    await client.has(26 + 11)
    assert len(client.states()) == 1


async def test_a_coding_that_the_client_cannot_play_is_said_and_the_other_track_is_shown(api, client, maker, volume):
    track = api.main
    maker.write(track, maker.video(frames=20, gop=20), t_ns=maker.T0)
    await client.say(op="subscribe", tile=1, camera="yard", play=["avc1"])
    await client.has(20)
    maker.write(track, maker.video(codec="hevc", frames=20, gop=20))
    await client.has(2, kind=STATE)
    assert client.states()[1] == {"state": "unsupported", "codec": "hvc1", "track": "main"}
    assert (len(client.of(INIT)), len(client.of(FRAGMENT))) == (1, 20)
    sub = volume.track(1, "sub", start_ns=track.next_ns)
    maker.write(sub, maker.video(frames=20, gop=20))
    await client.has(40)
    assert client.states()[2]["track"] == "sub"


async def test_a_track_that_the_camera_no_longer_sends_gives_way(api, client, maker, volume, monkeypatch):
    sub = volume.track(1, "sub", start_ns=maker.T0)
    maker.write(api.main, maker.video(frames=20, gop=20), t_ns=maker.T0)
    maker.write(sub, maker.video(frames=20, gop=20), t_ns=maker.T0)
    monkeypatch.setattr(livetile, "CHOOSE_S", 0.05)
    monkeypatch.setattr(livetile, "STALE_NS", NS // 10)
    await client.say(op="subscribe", tile=1, camera="yard", small=True)
    await client.has(20)
    await asyncio.sleep(0.3)
    assert [state["track"] for state in client.states() if "track" in state] == ["sub"]
    maker.write(api.main, maker.video(frames=20, gop=20), t_ns=maker.T0 + 60 * NS)
    await client.has(40)
    assert [state["track"] for state in client.states() if "track" in state] == ["sub", "main"]


async def test_a_camera_that_is_removed_ends_its_tiles(api, client, maker):
    """Also one that is given to a partner whom the token does not reach: the registry tells both in the same way."""
    camera = Growing(api.main, maker, maker.video(frames=60, gop=20), maker.T0)
    camera.send(20)
    await client.say(op="subscribe", tile=1, camera="yard")
    await client.say(op="subscribe", tile=2, camera="gate")
    await client.has(20)
    api.registry.replace([camera for camera in api.registry.cameras() if camera.id != "yard"], [])
    await client.has(2, kind=STATE)
    assert client.states()[-1] == {"state": "ended", "cause": "there is no such camera"}
    camera.send(20)
    await asyncio.sleep(0.1)
    assert len(client.of(FRAGMENT)) == 20
    assert [state["state"] for state in client.states(2)] == ["waiting for the first picture"]


async def test_states_that_nobody_takes_end_the_connection():
    """Each wish for a camera without footage is answered; who wishes and wishes and reads nothing would fill the memory with answers."""
    gone = []
    transport = SimpleNamespace(get_write_buffer_size=lambda: live.CUT_BYTES + 1, is_closing=lambda: False, abort=lambda: gone.append(True),
                                writelines=lambda data: pytest.fail("more was written"))
    request = SimpleNamespace(transport=transport, __getitem__=None)
    socket = live.LiveSocket.__new__(live.LiveSocket)
    socket._request, socket._socket = request, SimpleNamespace(closed=False)
    socket._say(1, STATE, {"state": "offline"})
    assert gone == [True]
