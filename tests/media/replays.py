"""A replay's session without a network: what it hands out, with its header extensions read by code of its own."""

import asyncio
import struct
from dataclasses import dataclass, field

from api.replay.ask import read_ask
from api.replay.described import described
from api.replay.session import Session
from recorder.base.media import NS

NTP_EPOCH_S = 2_208_988_800


@dataclass(frozen=True)
class Unit:
    """One AU as it was sent."""

    track: str
    data: bytes
    stamp: int
    wall_ns: int
    clean: bool
    end: bool
    jump: bool
    last: bool
    cseq: int


def read_extension(data):
    """ONVIF Streaming 6.3: UTC in ns, C, E, D, T, low byte of CSeq."""
    profile, words, seconds, fraction, bits, cseq, padding = struct.unpack(">HHIIBBH", data)
    assert (profile, words, padding, bits & 0x0F) == (0xABAC, 3, 0, 0)
    wall_ns = (seconds - NTP_EPOCH_S) * NS + (fraction * NS >> 32)
    return wall_ns, *(bool(bits & bit) for bit in (0x80, 0x40, 0x20, 0x10)), cseq


@dataclass
class Client:
    """Takes everything; `full` makes it stop reading."""

    units: list[Unit] = field(default_factory=list)
    full: bool = False
    asked: int = 0

    def send(self, track, unit, timestamp, extension, now):
        self.units.append(Unit(track, bytes(unit), timestamp, *read_extension(extension)))

    async def room(self):
        self.asked += 1
        while self.full:
            await asyncio.sleep(0.005)

    def of(self, track="main"):
        return [unit for unit in self.units if unit.track == track]


async def open_session(media, camera, names=("main",), time_ns=None):
    tracks = await media.look_up(lambda store: described(store, camera, names, time_ns, media.clock.wall_ns()))
    return Session(media, camera, tracks, time_ns or min(track.first_ns for track in tracks))


async def start(session, client, headers, cseq=7, names=("main", "sub", "audio")):
    begun = await session.play(read_ask(headers.get), cseq, client, names)
    session.go()
    return begun


async def ended(session, seconds=20):
    async with asyncio.timeout(seconds):
        while not session.done:
            await asyncio.sleep(0.002)


async def played(media, camera, headers, names=("main",)):
    """All units of a PLAY that ends by itself."""
    session, client = await open_session(media, camera, names), Client()
    try:
        await start(session, client, headers)
        await ended(session)
        return client
    finally:
        session.close()
