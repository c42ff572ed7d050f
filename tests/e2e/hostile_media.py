"""Viewers over WebRTC and RTSP that mean harm, or whose machines do; as in hostile.py."""

import asyncio
import random
import re
import socket
import struct
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

from bench.webrtc_viewer import WebrtcViewer
from bench.whep import watch
from recorder.webrtc.dtls import DtlsError
from tests.e2e.hostile import Attack, Target, connection


def _feedback(viewer: WebrtcViewer, rng: random.Random) -> bytes:
    """PLI, FIR, a NACK of 272 packets, a report of what was never sent (RFC 4585 6, RFC 5104 4.3.1, RFC 3550 6.4.2)."""
    says: list[Callable[[], bytes]] = [
        lambda: struct.pack(">BBHII", 0x81, 206, 2, 1, viewer.ssrc),
        lambda: struct.pack(">BBHIIIB3x", 0x84, 206, 4, 1, 0, viewer.ssrc, rng.randrange(256)),
        lambda: struct.pack(">BBHII", 0x81, 205, 18, 1, viewer.ssrc) + b"".join(
            struct.pack(">HH", rng.randrange(65536), 0xFFFF) for _ in range(16)),
        lambda: struct.pack(">BBHIIIIIII", 0x81, 201, 7, 1, viewer.ssrc, rng.randrange(1 << 32), rng.randrange(1 << 32), 0, 0, 0),
    ]
    return rng.choice(says)()


async def wishes(target: Target, address: str, rng: random.Random) -> None:
    """Watches by WHEP, asks for key pictures and lost packets as fast as it can, in between sends what is none of its, and is gone."""
    async with AsyncExitStack() as stack:
        with suppress(RuntimeError, TimeoutError, DtlsError):
            (viewer,) = await watch(target.port, [rng.choice(target.cameras)], stack)
            for _ in range(rng.randrange(400)):
                viewer.say(_feedback(viewer, rng))
                viewer.send(bytes([rng.randrange(256)]) + rng.randbytes(rng.randrange(1200)))
                await asyncio.sleep(0.005)
            viewer.close()
            await asyncio.sleep(rng.choice([0, 5]))     # for so long without a word


async def datagrams(target: Target, address: str, rng: random.Random) -> None:
    """What is no STUN, DTLS or SRTP of anybody, to the port of all WebRTC viewers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        for _ in range(2000):
            first = rng.choice([0, 1, 20, 22, 63, 128, 144, 191, 255])
            sock.sendto(bytes([first]) + rng.randbytes(rng.choice([0, 19, 60, 1200])), ("127.0.0.1", target.webrtc_port))
            await asyncio.sleep(0.001)


def _setup(target: Target, rng: random.Random) -> bytes:
    """SETUP of a camera, live or what has been recorded, over the connection itself."""
    address = f"rtsp://127.0.0.1:{target.rtsp_port}/{rng.choice(['', 'replay/'])}{rng.choice(target.cameras)}"
    return f"SETUP {address}/track-main RTSP/1.0\r\nCSeq: 1\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\n\r\n".encode()


async def _play(target: Target, rng: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Begin to play; the PLAY that did it."""
    setup = _setup(target, rng)
    writer.write(setup)
    async with asyncio.timeout(10.0):
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    session = re.search(r"^Session: ([^;\r]+)", answer, re.MULTILINE)
    if session is None:
        raise ConnectionError(answer)
    play = (f"PLAY {setup.split()[1].decode().removesuffix('/track-main')} RTSP/1.0\r\nCSeq: 2\r\nSession: {session[1]}\r\n"
            f"Rate-Control: {rng.choice(['yes', 'no'])}\r\n\r\n").encode()
    writer.write(play)
    return play


async def deaf(target: Target, address: str, rng: random.Random) -> None:
    """Plays over RTSP and never reads, but goes on asking."""
    async with connection(target, address, 4096, target.rtsp_port) as (reader, writer):
        await _play(target, rng, reader, writer)
        for number in range(3, 60):
            await asyncio.sleep(1)
            writer.write(b"OPTIONS * RTSP/1.0\r\nCSeq: %d\r\n\r\n" % number)


async def flees(target: Target, address: str, rng: random.Random) -> None:
    """Plays over RTSP, takes some of it, and is gone."""
    async with connection(target, address, port=target.rtsp_port) as (reader, writer):
        writer.write(await _play(target, rng, reader, writer) * rng.choice([0, 0, 50]))
        for _ in range(rng.randrange(6)):
            async with asyncio.timeout(2.0):
                await reader.read(1 << 16)


async def mumbles(target: Target, address: str, rng: random.Random) -> None:
    """Says what is no RTSP, or half of it."""
    good = _setup(target, rng)
    async with connection(target, address, port=target.rtsp_port) as (reader, writer):
        writer.write(rng.choice([rng.randbytes(rng.randrange(1, 4000)), good[:rng.randrange(len(good))], b"$\0\xff\xff" * 5000,
                                 b"DESCRIBE " + b"a" * 70_000, b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 99999999\r\n\r\n"]))
        with suppress(TimeoutError):
            async with asyncio.timeout(rng.choice([0.1, 0.5, 5.0])):
                await reader.read(1 << 16)


# How many of each at once.
MEDIA_CREW: dict[Attack, int] = {wishes: 12, datagrams: 2, deaf: 24, flees: 6, mumbles: 8}
