"""Viewers that mean harm, or whose machines do: each a coroutine that goes on until it is cancelled. Raw sockets, from addresses of its own."""

import asyncio
import json
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count

from bench.crowd import text_frame

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Target:
    """The server and its cameras."""

    port: int
    cameras: tuple[str, ...]
    rtsp_port: int = 0
    webrtc_port: int = 0


Attack = Callable[[Target, str, random.Random], Awaitable[None]]


@asynccontextmanager
async def connection(target: Target, address: str, receive_bytes: int = 0, port: int = 0) -> AsyncIterator[Streams]:
    """A TCP connection from an address, cut without a word at the end (RST). `port` 0: HTTP's."""
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.bind((address, 0))
    sock.setblocking(False)
    try:
        async with asyncio.timeout(PATIENCE_S):         # wait_for of Python 3.11 loses a cancellation that comes with the result
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port or target.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 12 if receive_bytes else 1 << 18)
    except BaseException:
        sock.close()
        raise
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@asynccontextmanager
async def socket_of(target: Target, address: str, receive_bytes: int = 0) -> AsyncIterator[Streams]:
    """An open WebSocket to `/live`."""
    async with connection(target, address, receive_bytes) as (reader, writer):
        writer.write(f"GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\nOrigin: http://127.0.0.1:{target.port}\r\n"
                     "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(answer.decode(errors="replace"))
        yield reader, writer


def subscribe(target: Target, tile: int, **wish: object) -> bytes:
    """A tile of one of the cameras."""
    return text_frame({"op": "subscribe", "tile": tile, "camera": target.cameras[tile % len(target.cameras)], "credit": 64 << 20, **wish})


async def again(attack: Callable[[], Awaitable[None]]) -> None:
    """The attack for ever, however it ends."""
    while True:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await attack()
        await asyncio.sleep(0.05)


async def vanishes(target: Target, address: str, rng: random.Random) -> None:
    """Sixteen tiles, some bytes of them, and gone."""
    async with socket_of(target, address) as (reader, writer):
        writer.write(b"".join(subscribe(target, tile) for tile in range(16)))
        for _ in range(rng.randrange(4)):
            await reader.read(1 << 16)


async def stalls(target: Target, address: str, rng: random.Random) -> None:
    """Never reads, and says all the time that it has."""
    async with socket_of(target, address, 4096) as (_, writer):
        writer.write(b"".join(subscribe(target, tile, start=None if tile % 2 else 1) for tile in range(16)))
        while True:
            await asyncio.sleep(1)
            writer.write(b"".join(text_frame({"op": "ack", "tile": tile, "bytes": 64 << 20}) for tile in range(16)))


async def drips(target: Target, address: str, rng: random.Random) -> None:
    """Reads a byte a second."""
    async with socket_of(target, address, 4096) as (reader, writer):
        writer.write(subscribe(target, rng.randrange(16)))
        while await reader.read(1):
            await asyncio.sleep(1)


async def floods(target: Target, address: str, rng: random.Random) -> None:
    """Subscribes, seeks, unsubscribes and lies as fast as the server reads."""
    async with socket_of(target, address) as (reader, writer):
        async def throw_away() -> None:
            while await reader.read(1 << 18):
                pass

        reading = asyncio.create_task(throw_away())
        try:
            while not reading.done():
                writer.write(b"".join(_message(target, rng) for _ in range(200)))
                await writer.drain()
        finally:
            reading.cancel()


def _message(target: Target, rng: random.Random) -> bytes:
    tile = rng.choice([0, 1, 2, 999, 1 << 30])
    lie = rng.choice([-1, 0, 1 << 26, 1 << 62, 1.5, "1", None, [], 10**400])
    return rng.choice([
        lambda: subscribe(target, tile, start=rng.choice([None, 1, "2030-01-01T00:00:00Z"]), speed=rng.choice([0.1, 64])),
        lambda: subscribe(target, tile, width=rng.randrange(1, 9999), height=rng.randrange(1, 9999), max_kbps=rng.randrange(1, 9999)),
        lambda: text_frame({"op": "unsubscribe", "tile": tile}),
        lambda: text_frame({"op": "seek", "tile": tile, "start": rng.choice([1, None, 10**18])}),
        lambda: text_frame({"op": "ack", "tile": tile, "bytes": lie}),
        lambda: text_frame({"op": "ack", "tile": lie, "bytes": 5}),
        lambda: text_frame({"op": lie}),
    ])()


async def crowds(target: Target, address: str, rng: random.Random) -> None:
    """A thousand tiles, taken as they come, and another thousand that are refused."""
    async with socket_of(target, address) as (reader, writer):
        writer.write(b"".join(subscribe(target, tile) for tile in range(2000)))
        for turn in count():
            await reader.read(1 << 20)
            if turn % 100 == 0:
                writer.write(text_frame({"op": "ack", "tile": rng.randrange(1000), "bytes": 1 << 20}))


async def garbles(target: Target, address: str, rng: random.Random) -> None:
    """Frames that are none, parts of frames, and frames that go on for ever."""
    async with socket_of(target, address) as (reader, writer):
        good = subscribe(target, 0)
        writer.write(rng.choice([
            lambda: rng.randbytes(rng.randrange(1, 4000)),
            lambda: good[:rng.randrange(1, len(good))],                                # half a frame
            lambda: b"\x81\xff" + b"\x7f" + b"\xff" * 7 + bytes(4) + b"x" * 1000,       # of 2^63 bytes
            lambda: b"\x81\xfe\xff\xff" + bytes(4) + b" " * 65_535,                     # larger than a message may be
            lambda: b"\x01\x84" + bytes(4) + b"abcd" + b"\x00\x84\0\0\0\0efgh" * 2000,  # fragments without end
            lambda: b"\x81\x05hello",                                                   # not masked
            lambda: b"\x89\xfe\x01\x00" + bytes(4) + b"p" * 256,                        # a ping that is too long
            lambda: (b"\x89\xfd" + bytes(4) + b"p" * 125) * 500,                        # pings
            lambda: b"\xc1\x85" + bytes(4) + b"abcde",                                  # compressed, which was not agreed
            lambda: b"\x82\x84" + bytes(4) + b"abcd",
            lambda: text_frame({"op": "subscribe", "tile": 1, "camera": "\ud800"}),
            lambda: b"\x81\x84" + bytes(4) + b"\xff\xfe\xfd\xfc",                       # no UTF-8
            lambda: b"\x81\xfe\x0f\xa0" + bytes(4) + b"[" * 4000,
        ])())
        with suppress(TimeoutError):
            async with asyncio.timeout(rng.choice([0.1, 0.5, 5.0])):
                await reader.read(1 << 16)


async def playlists(target: Target, address: str, rng: random.Random) -> None:
    """Asks for what is live as HLS: for what is far ahead, in pieces, and goes before the answer, or takes it a byte at a time."""
    query = rng.choice(["", "?_HLS_msn=999999999999", "?_HLS_msn=-1", "?_HLS_msn=1&_HLS_part=99", "?_HLS_msn=x", "?_HLS_skip=YES",
                        "?_HLS_part=1", "?track=%00", "?track=main&track=sub", f"?_HLS_msn={rng.randrange(10**6)}"])
    async with connection(target, address, rng.choice([0, 4096])) as (reader, writer):
        path = f"/api/v1/cameras/{rng.choice(target.cameras)}/hls/live.m3u8{query}"
        asked = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\n\r\n".encode()
        writer.write(asked[:rng.choice([len(asked), len(asked), rng.randrange(len(asked))])] * rng.choice([1, 1, 1, 40]))
        with suppress(TimeoutError):
            for _ in range(rng.randrange(5)):
                async with asyncio.timeout(1.0):
                    await reader.read(rng.choice([1, 1 << 16]))


# How many of each at once.
CREW: dict[Attack, int] = {vanishes: 6, stalls: 24, drips: 24, floods: 3, crowds: 2, garbles: 12, playlists: 24}


async def attack(target: Target, seconds: float, seed: int, crew: dict[Attack, int]) -> None:
    """All of them at once for so long."""
    tasks = []
    for place, (kind, number) in enumerate(crew.items()):
        for one in range(number):
            rng, address = random.Random(f"{seed} {kind.__name__} {one}"), f"127.0.1.{1 + place}"
            tasks.append(asyncio.create_task(again(partial(kind, target, address, rng)), name=kind.__name__))
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def first_fragment_s(target: Target, address: str) -> float:
    """How long who means well waits for the first picture of a camera."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with socket_of(target, address) as (reader, writer):
        writer.write(text_frame({"op": "subscribe", "tile": 0, "camera": target.cameras[0], "play": ["avc1"]}))
        while True:
            async with asyncio.timeout(PATIENCE_S):
                head = await reader.readexactly(2)
            size = head[1]
            if size >= 126:
                size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8))
            body = await reader.readexactly(size)
            if head[0] == 0x82 and body[4] == 2:
                return loop.time() - begun
            if head[0] == 0x82 and body[4] == 3 and json.loads(body[8:])["state"] == "ended":
                raise ConnectionError(body[8:].decode())
