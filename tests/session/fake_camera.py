"""A scripted camera: answers RTSP on loopback as told, sends a real H.264 clip and G.711, and notes what it was asked.

    async with FakeCamera() as camera:
        camera.answers["DESCRIBE"] = lambda request: reply(request, 404)
"""

import asyncio
import contextlib
import functools
import hashlib
import inspect
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import av
import numpy as np

USER, PASSWORD = "admin", "p@ss:w/ord?#1"
FPS = 25
SDP = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=fake
t=0 0
a=control:*
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=control:trackID=1
m=audio 0 RTP/AVP 8
a=control:trackID=2
"""


@dataclass(frozen=True)
class Request:
    """What came in; header names are lower case."""

    method: str
    url: str
    headers: dict[str, str]
    link: "Link"


Answer = Callable[[Request], bytes | Awaitable[bytes | None] | None]


def reply(request: Request, status: int = 200, *headers: str, body: str = "", cseq: str | None = None) -> bytes:
    """An answer; header lines as they go out."""
    lines = [f"RTSP/1.0 {status} Said", f"CSeq: {cseq or request.headers.get('cseq', '0')}", *headers]
    if body:
        lines.append(f"Content-Length: {len(body.encode())}")
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


@functools.cache
def clip() -> tuple[tuple[bytes, ...], ...]:
    """One second of H.264, 64x48, as NALs per AU; the first AU holds SPS, PPS and an IDR."""
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = 64, 48, "yuv420p"
    context.framerate, context.options = FPS, {"bf": "0", "g": str(FPS), "tune": "zerolatency", "x264-params": "annexb=1:slices=1"}
    packets = []
    for index in range(FPS):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), index * 8, np.uint8), "rgb24")
        frame.pts = index
        packets += context.encode(frame)
    packets += context.encode(None)
    return tuple(tuple(nal for nal in bytes(p).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if nal) for p in packets)


@dataclass
class Link:
    """One connection."""

    camera: "FakeCamera"
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    requests: list[Request] = field(default_factory=list)
    playing: asyncio.Task[None] | None = None
    sequences: dict[int, int] = field(default_factory=lambda: {0: 1000, 2: 2000})
    silent: bool = False
    expiry: asyncio.TimerHandle | None = None
    rtcp: list[bytes] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(data)

    def reset(self) -> None:
        """End the connection with RST: what was not yet sent or read is gone."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def rtp(self, channel: int, payload_type: int, timestamp: int, payload: bytes, *, marker: bool = True, ssrc: int = 0x1234) -> bytes:
        """An interleaved RTP packet."""
        self.sequences[channel] += 1
        head = struct.pack(">BBHII", 0x80, payload_type | marker << 7, self.sequences[channel] & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc + channel)
        return struct.pack(">cBH", b"$", channel, len(head) + len(payload)) + head + payload

    def picture(self, index: int) -> bytes:
        """AU number `index` of the looped clip as packets."""
        nals = clip()[index % FPS]
        return b"".join(self.rtp(0, 96, index * 3600, nal, marker=nal is nals[-1]) for nal in nals)

    def key_picture(self, timestamp: int) -> bytes:
        """The clip's first picture, which needs no other."""
        nals = clip()[0]
        return b"".join(self.rtp(0, 96, timestamp, nal, marker=nal is nals[-1]) for nal in nals)

    async def play(self) -> None:
        """Send pictures and sound in real time."""
        loop = asyncio.get_running_loop()
        began, index = loop.time(), 0
        while True:
            if not self.silent and self.camera.video:
                self.send(self.picture(index))
            if not self.silent and self.camera.audio:
                self.send(self.rtp(2, 8, index * 320, bytes(320)))
            index += 1
            await asyncio.sleep(max(0.0, began + index / FPS - loop.time()))


class FakeCamera:
    """Serves until the block ends. `answers` replaces what a method is answered; None as an answer says nothing."""

    def __init__(self, *, sdp: str = SDP, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.sdp = sdp
        self.answers: dict[str, Answer] = {}
        self.requests: list[Request] = []
        self.links: list[Link] = []
        self.heard: list[str] = []           # answers to what the camera asked
        self.port = 0
        self.video = self.audio = True
        self.session = "12345678"
        self.timeout_s = 60
        self.alive_by: set[str] | None = None    # methods that keep a session alive; it ends `timeout_s` after the last. None: nothing does
        self.host = host
        self.tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for link in self.links:
            if link.playing:
                link.playing.cancel()
            if link.expiry:
                link.expiry.cancel()
            link.writer.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, *(link.playing for link in self.links if link.playing), return_exceptions=True)

    @property
    def url(self) -> str:
        """Its address."""
        return f"{'rtsps' if self.tls else 'rtsp'}://{self.host}:{self.port}/live"

    def methods(self) -> list[str]:
        """What was asked, in order."""
        return [r.method for r in self.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        link = Link(self, reader, writer)
        self.links.append(link)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                await self._turn(link)
        if link.playing:
            link.playing.cancel()
        writer.close()
        self._tasks.discard(task)

    async def _turn(self, link: Link) -> None:
        first = await link.reader.readexactly(1)
        if first == b"$":
            channel, size = struct.unpack(">BH", await link.reader.readexactly(3))
            link.rtcp.append(bytes([channel]) + await link.reader.readexactly(size))
            return
        head = (first + await link.reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        if lines[0].startswith("RTSP/"):
            self.heard.append(head)
            return
        method, url, _ = lines[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:]) if name}
        request = Request(method, url, headers, link)
        link.requests.append(request)
        self.requests.append(request)
        self._live_on(request)
        answer = self.answers.get(method, self.answer)(request)
        data = await answer if inspect.isawaitable(answer) else answer
        if data is not None:
            link.send(data)

    def _live_on(self, request: Request) -> None:
        """Enforce the session's timeout, as few servers do and all say."""
        if self.alive_by is None or request.method not in self.alive_by | {"PLAY"}:
            return
        if request.link.expiry:
            request.link.expiry.cancel()
        request.link.expiry = asyncio.get_running_loop().call_later(self.timeout_s, request.link.writer.close)

    def answer(self, request: Request) -> bytes | None:
        """What a well-behaved camera says."""
        session = f"Session: {self.session};timeout={self.timeout_s}"
        match request.method:
            case "OPTIONS":
                return reply(request, 200, "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER")
            case "DESCRIBE":
                return reply(request, 200, f"Content-Base: {request.url}/", "Content-Type: application/sdp", body=self.sdp)
            case "SETUP":
                return reply(request, 200, f"Transport: {request.headers['transport']}", session)
            case "PLAY":
                self.start(request.link)
                return reply(request, 200, session)
        return reply(request, 200, session)

    def start(self, link: Link) -> None:
        """Begin to send on this connection."""
        link.playing = link.playing or asyncio.create_task(link.play())


class Guard:
    """Digest as a camera checks it: `algorithm` and `qop` as offered; `stale_at` counts requests after which the nonce goes stale."""

    def __init__(self, camera: FakeCamera, *, algorithm: str = "", qop: str = "", password: str = PASSWORD, fresh_each: bool = False) -> None:
        self.camera = camera
        self.algorithm = algorithm
        self.qop = qop
        self.password = password
        self.fresh_each = fresh_each
        self.nonce = 0
        self.refused: list[str] = []
        for method in ("OPTIONS", "DESCRIBE", "SETUP", "PLAY", "GET_PARAMETER", "TEARDOWN"):
            camera.answers[method] = self.check

    def expire(self) -> None:
        """The nonce is stale from now on."""
        self.nonce += 1

    def check(self, request: Request) -> bytes | None:
        sent = request.headers.get("authorization", "")
        fields = {k.strip(): v.strip().strip('"') for k, _, v in (p.partition("=") for p in sent.removeprefix("Digest ").split(", "))}
        if sent and fields.get("nonce") == f"n{self.nonce}" and fields["response"] == self.expected(request, fields):
            assert fields["uri"] == request.url
            return self.camera.answer(request)
        self.refused.append(sent)
        stale = bool(sent) and fields.get("nonce") != f"n{self.nonce}"
        self.nonce += self.fresh_each
        parts = ['realm="fake"', f'nonce="n{self.nonce}"', *([f"algorithm={self.algorithm}"] if self.algorithm else []),
                 *([f'qop="{self.qop}"'] if self.qop else []), *(["stale=true"] if stale else [])]
        return reply(request, 401, "WWW-Authenticate: Digest " + ", ".join(parts))

    def expected(self, request: Request, fields: dict[str, str]) -> str:
        def h(text: str) -> str:
            return (hashlib.sha256 if "256" in self.algorithm else hashlib.md5)(text.encode()).hexdigest()
        ha1, ha2 = h(f"{USER}:fake:{self.password}"), h(f"{request.method}:{request.url}")
        middle = f"{fields['nonce']}:{fields['nc']}:{fields['cnonce']}:{fields['qop']}" if self.qop else fields["nonce"]
        return h(f"{ha1}:{middle}:{ha2}")
