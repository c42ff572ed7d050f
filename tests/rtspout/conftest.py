"""An RTSP server on loopback whose tracks are sent unit by unit, and a client that says exactly what a test wants."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web

from api import keys
from api.authorise import Authority
from api.credentials import AUTHORITY
from api.registry import Registry
from api.rtspout import server as server_module
from api.rtspout.live import LiveOpener
from api.rtspout.relay import Relays
from api.rtspout.server import RtspServer
from api.unit import Silence, Unit
from recorder.base.clock import SimulatedClock
from recorder.base.config import CameraConfig, RtspOutConfig, StreamConfig
from recorder.base.errors import NotFound
from recorder.base.media import NS, SampleEntry
from storage.camera_record import CameraRecord, TokenRecord
from storage.digest_login import logins
from tests.media.conftest import video

MAIN = (1, "main")

T0 = 1_800_000_000 * NS
SECRET = "wr_" + "s" * 43
UDP = (42000, 42999)


@dataclass
class Seat:
    """As the edge's."""

    board: "Board"
    key: tuple[int, str]
    take: Callable[[list[Unit]], None]
    silent: Callable[[Silence | None], None]
    entry: SampleEntry | None = None

    def leave(self) -> None:
        self.board.seats[self.key].remove(self)


@dataclass
class Board:
    """Stands in for api/edge.py: units come when a test sends them."""

    tracks: dict[tuple[int, str], SampleEntry]
    seats: dict[tuple[int, str], list[Seat]] = field(default_factory=dict)
    groups: dict[tuple[int, str], list[Unit]] = field(default_factory=dict)
    numbers: int = 0

    def join(self, camera: int, track: str, take: Any, silent: Any = None) -> Seat:
        key = camera, track
        if key not in self.tracks:
            raise NotFound("no such track")
        seat = Seat(self, key, take, silent, self.tracks[key])
        self.seats.setdefault(key, []).append(seat)
        if self.groups.get(key):
            asyncio.get_running_loop().call_soon(lambda: seat.take(list(self.groups[key])))
        return seat

    def send(self, key: tuple[int, str], *units: Unit) -> None:
        group = self.groups.setdefault(key, [])
        for unit in units:
            if unit.key and unit.entry.kind == "video":
                group.clear()
            group.append(unit)
        for seat in tuple(self.seats.get(key, ())):
            seat.take(list(units))

    def silence(self, key: tuple[int, str], silence: Silence | None) -> None:
        for seat in tuple(self.seats.get(key, ())):
            seat.silent(silence)


class Sender:
    """Sends a stream of tests/media/conftest.py over a board, AU after AU, in a loop with rising times."""

    def __init__(self, board: Board, key: tuple[int, str], stream: Any, start_ns: int = T0) -> None:
        self.board, self.key, self.stream, self.start_ns = board, key, stream, start_ns
        self.sent = 0

    def unit(self, number: int) -> Unit:
        aus, rate = self.stream.aus, self.stream.entry.clock_rate
        lap, at = divmod(number, len(aus))
        au, shift = aus[at], lap * len(aus) * self.stream.dur
        wall_ns = self.start_ns + (au.pts + shift) * NS // rate
        return Unit(number, au.data, self.stream.entry, au.dts + shift, au.pts - au.dts, wall_ns, au.key, au.leading, False, number == 0, 0)

    def send(self, count: int = 1, **changed: Any) -> None:
        for _ in range(count):
            self.board.send(self.key, replace(self.unit(self.sent), **changed))
            self.sent += 1

    async def run(self, ahead: int = 0) -> None:
        """At the pace of the stream."""
        self.send(ahead)
        loop = asyncio.get_running_loop()
        start_s = loop.time()
        for number in range(10**9):
            await asyncio.sleep(max(0.0, start_s + number * self.stream.dur / self.stream.entry.clock_rate - loop.time()))
            self.send()


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name.lower()), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]


class Client:
    """One connection; interleaved packets are kept by channel."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.port, self.reader, self.writer = port, reader, writer
        self.packets: dict[int, list[bytes]] = {}
        self.cseq = 0
        self.session = ""

    def url(self, path: str) -> str:
        return f"rtsp://127.0.0.1:{self.port}/{path}"

    def write(self, method: str, path: str, **headers: str) -> None:
        self.cseq += 1
        lines = [f"{method} {path if path == '*' else self.url(path)} RTSP/1.0", f"CSeq: {self.cseq}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if self.session and "Session" not in headers:
            lines.append(f"Session: {self.session}")
        self.writer.write("\r\n".join([*lines, "", ""]).encode())

    async def ask(self, method: str, path: str, **headers: str) -> Answer:
        self.write(method, path, **headers)
        found = await self.answer()
        assert found["cseq"] == str(self.cseq)
        return found

    async def answer(self) -> Answer:
        """The next answer; packets before it are kept."""
        async with asyncio.timeout(20):
            while (one := await self._one()) is None:
                pass
        return one

    async def packet(self, channel: int) -> bytes:
        """The next packet of a channel."""
        async with asyncio.timeout(20):
            while not self.packets.get(channel):
                assert await self._one() is None, "an answer nobody asked for"
        return self.packets[channel].pop(0)

    async def _one(self) -> Answer | None:
        first = await self.reader.readexactly(1)
        if first == b"$":
            head = await self.reader.readexactly(3)
            self.packets.setdefault(head[0], []).append(await self.reader.readexactly(int.from_bytes(head[1:])))
            return None
        text = (first + await self.reader.readuntil(b"\r\n\r\n")).decode()
        lines = text.split("\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:] if line)]
        length = next((int(value) for name, value in headers if name == "content-length"), 0)
        return Answer(int(lines[0].split()[1]), headers, await self.reader.readexactly(length))

    async def set_up(self, path: str, track: str, transport: str = "RTP/AVP/TCP;unicast;interleaved=0-1") -> Answer:
        found = await self.ask("SETUP", f"{path}/track-{track}", Transport=transport)
        if found.status == 200:
            self.session = found["session"].partition(";")[0]
        return found

    async def closed(self) -> bool:
        """True once the server has ended the connection."""
        async with asyncio.timeout(20):
            try:
                while await self.reader.read(1 << 16):
                    pass
            except ConnectionError:
                pass
        return True


class Lab:
    """A server, its board and its registry."""

    def __init__(self, tracks: dict[tuple[int, str], SampleEntry], stack: AsyncExitStack) -> None:
        self.clock = SimulatedClock()
        self.registry = Registry()
        self.board = Board(tracks)
        self.cameras = [CameraRecord(number, name, "api", 0, CameraConfig(name, StreamConfig("rtsp://10.1.2.3/"), name=f"The {name}"), 0)
                        for number, name in ((1, "yard"), (2, "north"))]
        self.tokens: list[TokenRecord] = []
        self._stack = stack
        self.relays = Relays(self.board.join)
        self.server: RtspServer

    def publish(self) -> None:
        self.registry.replace(self.cameras, self.tokens)

    def token(self, **more: Any) -> str:
        """A token that the server knows; returns its secret."""
        number = len(self.tokens) + 1
        secret = f"wr_{number:043d}"
        md5, sha256 = logins(secret)
        import hashlib

        made = TokenRecord(number, "test", frozenset(more.pop("scopes", {"view"})), more.pop("cameras", ()), "", 0, 0, None,
                           hashlib.sha256(secret.encode()).digest(), md5, sha256)
        self.tokens.append(replace(made, **more))
        self.publish()
        return secret

    async def start(self, *, open_door: bool = True, look_s: float | None = None) -> "Lab":
        app = web.Application()
        app[keys.REGISTRY], app[keys.CLOCK] = self.registry, self.clock
        app[AUTHORITY] = Authority(self.registry, self.clock, bytes(32), open_door=True)
        self.publish()
        config = RtspOutConfig(port=0, udp_port_first=UDP[0], udp_port_last=UDP[1])
        self.server = RtspServer(app, config, {"": LiveOpener(self.relays)}, open_door=open_door)
        await self._stack.enter_async_context(self.server.serving())
        return self

    @property
    def port(self) -> int:
        return self.server.port

    async def client(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._stack.callback(writer.close)
        return Client(self.port, reader, writer)

    async def playing(self, path: str = "yard", tracks: Iterable[str] = ("main",)) -> tuple[Client, Answer]:
        client = await self.client()
        for number, track in enumerate(tracks):
            await client.set_up(path, track, f"RTP/AVP/TCP;unicast;interleaved={2 * number}-{2 * number + 1}")
        return client, await client.ask("PLAY", path)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as made:
        yield made


def rtp_info(answer: Answer) -> dict[str, tuple[int, int]]:
    """Track -> sequence number and timestamp of a PLAY's answer."""
    found = re.findall(r"url=\S+?/track-(\w+);seq=(\d+);rtptime=(\d+)", answer["rtp-info"])
    return {track: (int(seq), int(when)) for track, seq, when in found}


@pytest.fixture
async def lab(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A server that looks after its connections often, with ten pictures of `yard`."""
    monkeypatch.setattr(server_module, "LOOK_S", 0.05)
    made = Lab({MAIN: video().entry}, stack)
    made.main = Sender(made.board, MAIN, video())
    made.main.send(10)
    return await made.start()


async def until(what: Callable[[], object]) -> None:
    """Wait for something, 20 s at most."""
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.01)
