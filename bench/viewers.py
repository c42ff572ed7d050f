"""Who watches live: tiles of a WebSocket, players of low-latency HLS, viewers over RTSP. They note how old a picture is when its bytes come."""

import asyncio
import json
import re
import struct
import time
from itertools import count

import aiohttp

from api.live import HEAD
from api.liveparts import WEEK_NS
from api.tilefeed import EVENT, FRAGMENT, STATE
from bench.late import Ages
from recorder.base.media import NS

HZ = 90_000
ACK_BYTES = 1 << 20           # a quarter of the usual credit, as the page
API = "http://127.0.0.1:{port}/api/v1"


def newest_ticks(fragment: bytes) -> int:
    """DTS of the last sample of a fragment of one track of pictures (ISO 14496-12 8.8.8, 8.8.12, as the server writes them)."""
    at = fragment.index(b"tfdt")
    first = int.from_bytes(fragment[at + 8:at + 16], "big")
    at = fragment.index(b"trun", at)
    samples = int.from_bytes(fragment[at + 8:at + 12], "big")
    durations = (int.from_bytes(fragment[at + 16 + 16 * n:at + 20 + 16 * n], "big") for n in range(samples - 1))
    return first + sum(durations)


def _age_ms(zero_ns: int, fragment: bytes) -> float:
    return (time.time_ns() - zero_ns - newest_ticks(fragment) * NS // HZ) / 1e6


async def tile_viewer(port: int, tiles: int, ages_ms: Ages, camera: str = "cam-{}") -> None:
    """That many tiles on one WebSocket, until cancelled; acknowledges what it gets as the page does. RuntimeError if the server ends it.

    `camera`: what each shows, its number in place of {}.
    """
    zero_ns: dict[int, int] = {}
    owed: dict[int, int] = {}
    ours = {"Origin": f"http://127.0.0.1:{port}"}
    async with (aiohttp.ClientSession(headers=ours) as client,
                client.ws_connect(API.format(port=port) + "/live", max_msg_size=0) as socket):
        for tile in range(tiles):
            await socket.send_str(json.dumps({"op": "subscribe", "tile": tile, "camera": camera.format(tile), "track": "main"}))
        async for message in socket:
            tile, kind = HEAD.unpack_from(message.data)
            if kind == FRAGMENT:
                ages_ms.came(camera.format(tile), _age_ms(zero_ns[tile], message.data))
                owed[tile] = owed.get(tile, 0) + len(message.data) - HEAD.size
                if owed[tile] >= ACK_BYTES:
                    await socket.send_str(json.dumps({"op": "ack", "tile": tile, "bytes": owed.pop(tile)}))
            elif kind in {STATE, EVENT}:
                told = json.loads(message.data[HEAD.size:])
                zero_ns[tile] = int(told.get("wall_ns", zero_ns.get(tile, 0)))
    raise RuntimeError("the server closed the WebSocket")


async def rtsp_viewer(port: int, viewers: int, ages_ms: Ages) -> None:
    """That many viewers over RTSP (TCP), all of one camera, until cancelled. RuntimeError if one is refused."""
    await asyncio.gather(*(_interleaved(port, "cam-0", ages_ms) for _ in range(viewers)))


async def _interleaved(port: int, camera: str, ages_ms: Ages) -> None:
    """One viewer: a picture's UTC is what sender reports make of its timestamp; its age is taken at its last packet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    address, session = f"rtsp://127.0.0.1:{port}/{camera}", ""
    steps = ("SETUP", "/track-main", "Transport: RTP/AVP/TCP;interleaved=0-1\r\n"), ("PLAY", "", "")
    try:
        for number, (method, path, header) in enumerate(steps):
            writer.write(f"{method} {address}{path} RTSP/1.0\r\nCSeq: {number}\r\n{header}{session}\r\n".encode())
            answer = (await reader.readuntil(b"\r\n\r\n")).decode()
            if " 200 " not in answer.partition("\r\n")[0]:
                raise RuntimeError(f"{address}: {answer}")
            session = f"{re.findall(r'Session: [^;]*', answer)[0]}\r\n"
        report_ns, report_ticks = 0, 0
        while True:
            head = await reader.readexactly(4)
            packet = await reader.readexactly(int.from_bytes(head[2:]))
            if head[1] == 1 and packet[1] == 200:
                ntp, report_ticks = struct.unpack_from(">QI", packet, 8)
                report_ns = (ntp - (2_208_988_800 << 32)) * NS >> 32
            elif head[1] == 0 and packet[1] & 0x80 and report_ns:
                ticks = (int.from_bytes(packet[4:8]) - report_ticks + (1 << 31)) % (1 << 32) - (1 << 31)
                ages_ms.came(camera, (time.time_ns() - report_ns - ticks * NS // HZ) / 1e6)
    finally:
        writer.close()


async def hls_viewer(port: int, players: int, ages_ms: Ages) -> None:
    """That many players, each of another camera, until cancelled. RuntimeError if one is refused."""
    async with aiohttp.ClientSession() as client:
        await asyncio.gather(*(_player(client, port, f"cam-{player}", ages_ms) for player in range(players)))


async def _player(client: aiohttp.ClientSession, port: int, camera: str, ages_ms: Ages) -> None:
    """Asks for the next part again and again, and takes each."""
    asked = ""
    for _ in count():
        text = (await _get(client, f"{API.format(port=port)}/cameras/{camera}/hls/live.m3u8?track=main{asked}")).decode()
        address = re.findall(r'#EXT-X-PART:[^\n]*URI="([^"]+)"', text)[-1]
        part = await _get(client, f"http://127.0.0.1:{port}{address}")
        found = re.search(r"/(\d+)-(\d+)-[^/]*-p(\d+)", address)
        if found is None:
            raise RuntimeError(f"{camera}: {address} is no part")
        ages_ms.came(camera, _age_ms(int(found[1]) * WEEK_NS, part))
        asked = f"&_HLS_msn={found[2]}&_HLS_part={int(found[3]) + 1}"


async def _get(client: aiohttp.ClientSession, address: str) -> bytes:
    async with client.get(address) as answer:
        body = await answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{address}: {answer.status} {body[:200].decode(errors='replace')}")
        return body
