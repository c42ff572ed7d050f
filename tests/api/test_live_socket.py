"""The live WebSocket over real tapes: tiles, credit, tokens, and clients that talk nonsense."""

import asyncio
import json
import struct
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from recorder.base.media import TrackKind
from storage import items
from tests.storage_read.reference_writer import BASE_NS, ENTRY_H264, RefTrack, RefVolume, gop

INIT, FRAGMENT, STATE, EVENT = 1, 2, 3, 4


class Viewer:
    """One connection: what has come, by tile and kind."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, **message: Any) -> None:
        await self.socket.send_str(json.dumps(message))

    async def next(self) -> tuple[int, int, bytes]:
        frame = await self.socket.receive(timeout=120)
        assert frame.type is aiohttp.WSMsgType.BINARY, frame
        tile, kind = struct.unpack_from(">IB", frame.data)
        return tile, kind, frame.data[8:]

    async def until(self, tile: int, kind: int) -> bytes:
        """The next message of a kind for a tile."""
        while True:
            found = await self.next()
            if found[:2] == (tile, kind):
                return found[2]

    async def quiet(self, seconds: float = 0.5) -> bool:
        """True if nothing comes for a while."""
        try:
            await self.socket.receive(timeout=seconds)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def viewing(api: Any, token: str = "", **headers: str) -> Any:
    bearer = {"Authorization": f"Bearer {token}"} if token else {"Origin": api.origin}
    async with api.client.ws_connect(f"{api.origin}/api/v1/live", headers={**bearer, **headers}) as socket:
        yield Viewer(socket)


@pytest.fixture
def track(volume: RefVolume) -> RefTrack:
    """Thirty seconds of camera 1."""
    made = volume.track(1, "main", TrackKind.VIDEO)
    made.log(items.SampleEntryItem(1, ENTRY_H264), items.SessionStart(1, BASE_NS, "rtsp-tcp"))
    for _ in range(30):
        made.write_row(gop(25))
    made.commit()
    return made


async def test_a_tile_gets_state_init_and_fragments(api: Any, track: RefTrack) -> None:
    async with viewing(api) as viewer:
        await viewer.say(op="subscribe", tile=7, camera="north", start=BASE_NS + 10**10)
        state = json.loads(await viewer.until(7, STATE))
        assert (state["state"], state["track"], state["audio"]) == ("playback", "main", "none")
        assert state["codecs"].startswith("avc1.")
        assert (await viewer.until(7, INIT))[4:8] == b"ftyp"
        assert b"moof" in (await viewer.until(7, FRAGMENT))[:64]


async def test_two_tiles_share_one_connection(api: Any, track: RefTrack) -> None:
    async with viewing(api) as viewer:
        for tile in (1, 2):
            await viewer.say(op="subscribe", tile=tile, camera="north", start=BASE_NS)
        await viewer.until(1, FRAGMENT)
        await viewer.until(2, FRAGMENT)


async def test_a_tile_without_credit_waits_for_an_acknowledgement(api: Any, track: RefTrack) -> None:
    async with viewing(api) as viewer:
        await viewer.say(op="subscribe", tile=1, camera="north", start=BASE_NS, speed=64, credit=65536)
        sent = 0
        while sent < 65536:
            tile, kind, data = await viewer.next()
            sent += len(data) if kind in {INIT, FRAGMENT} else 0
            assert tile == 1
        assert await viewer.quiet()
        await viewer.say(op="ack", tile=1, bytes=sent)
        await viewer.until(1, FRAGMENT)


async def test_a_seek_starts_the_tile_anew(api: Any, track: RefTrack) -> None:
    async with viewing(api) as viewer:
        await viewer.say(op="subscribe", tile=1, camera="north", start=BASE_NS)
        first = json.loads(await viewer.until(1, STATE))
        await viewer.until(1, FRAGMENT)
        await viewer.say(op="seek", tile=1, start=BASE_NS + 20 * 10**9)
        second = json.loads(await viewer.until(1, STATE))
        assert int(second["wall_ns"]) - int(first["wall_ns"]) == 20 * 10**9


async def test_a_camera_without_a_playable_track_says_so(api: Any, track: RefTrack) -> None:
    async with viewing(api) as viewer:
        await viewer.say(op="subscribe", tile=1, camera="north", play=["hvc1"])
        assert json.loads(await viewer.until(1, STATE)) == {"state": "unsupported", "codec": "avc1", "track": "main"}


async def test_a_camera_without_footage_says_so(api: Any) -> None:
    async with viewing(api) as viewer:
        await viewer.say(op="subscribe", tile=1, camera="yard")
        assert json.loads(await viewer.until(1, STATE))["state"] == "waiting for the first picture"


async def test_another_tokens_camera_does_not_exist(api: Any, track: RefTrack) -> None:
    token = await api.token("view", cameras=["yard"])
    async with viewing(api, token) as viewer:
        await viewer.say(op="subscribe", tile=1, camera="north")
        state = json.loads(await viewer.until(1, STATE))
        assert (state["state"], state["cause"]) == ("ended", "there is no such camera")


async def test_a_revoked_token_ends_the_connection(api: Any, track: RefTrack) -> None:
    record, token = api.catalogue.add_token("test", ["view"])
    await api.refresh()
    async with viewing(api, token) as viewer:
        await viewer.say(op="subscribe", tile=1, camera="north", start=BASE_NS)
        await viewer.until(1, FRAGMENT)
        api.catalogue.revoke_token(record.number)
        await api.refresh()
        async with asyncio.timeout(120):
            async for frame in viewer.socket:
                assert frame.type is aiohttp.WSMsgType.BINARY
        assert viewer.socket.close_code == 4001


async def test_nonsense_is_answered_and_the_other_tiles_go_on(api: Any, track: RefTrack) -> None:
    async with viewing(api) as viewer:
        await viewer.say(op="subscribe", tile=1, camera="north", start=BASE_NS)
        await viewer.say(op="subscribe", tile=2, camera="../../etc/passwd")
        assert "error" in json.loads(await viewer.until(2, EVENT))
        await viewer.until(1, FRAGMENT)


async def test_binary_messages_and_long_ones_end_the_connection(api: Any) -> None:
    async with viewing(api) as viewer:
        await viewer.socket.send_bytes(b"\0" * 10)
        assert (await viewer.socket.receive(timeout=120)).type is aiohttp.WSMsgType.CLOSE
    async with viewing(api) as viewer:
        await viewer.socket.send_str(" " * 100_000)
        assert (await viewer.socket.receive(timeout=120)).type is aiohttp.WSMsgType.CLOSE


async def test_a_page_of_another_origin_gets_no_socket(api: Any) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await api.client.ws_connect(f"{api.origin}/api/v1/live", headers={"Origin": "https://evil.example"})
    assert refused.value.status == 403
