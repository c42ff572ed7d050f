"""One TCP connection to a camera on our own non-blocking socket; every byte from the first goes through the framing kernel.

During the handshake `request` itself receives. After `hand_over` the drain receives, and `deliver` (called on EVENT_MESSAGE) brings
answers to those who wait. Answers are matched by CSeq; one without CSeq goes to the oldest request, unrelated ones are skipped.
"""

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import Callable, Sequence

from recorder._ext import framing, rtp
from recorder.base.clock import Clock
from recorder.base.errors import HungUp, SourceError
from recorder.base.media import NS, GapCause
from recorder.rtsp.address import AddressBook
from recorder.rtsp.auth import Authenticator, wrong_password
from recorder.rtsp.message import Response, ServerRequest, build_answer, build_request, parse_message
from recorder.rtsp.tls import BY_SYSTEM, TlsLine, TlsTrust, open_tls
from recorder.rtsp.udp import UdpSockets
from recorder.rtsp.url import RtspUrl

CONNECT_S = 5.0
ANSWER_S = 10.0
RECEIVE_BYTES = 64 << 10
UNSENT_MAX = 64 << 10
UNASKED_MAX = 16 << 20    # bytes that come while an answer is awaited: media that begins early, or a flood
MESSAGES_MAX = 600        # that nobody asked for, in a minute: each may hold 600 KiB of headers, which take milliseconds to read
USER_TIMEOUT_MS = 15_000
SOCKET_BYTES = 1 << 20   # as far as net.core.rmem_max allows: the drain leaves a quiet camera's socket unread for some ticks
LOGINS_MAX = 3           # tries of one request: without login, with it, once more if the camera says `stale`
ENDED = rtp.EVENT_EOF | rtp.EVENT_ERROR | rtp.EVENT_DAMAGED_STREAM


class RtspConnection:
    """Requests and answers on one socket. One loop owns it; `close` leaves nothing behind.

    `on_events` is told EVENT_* bits that came while the handshake received; `wall_offset` gives wall minus monotonic ns.
    """

    def __init__(self, sock: socket.socket, where: str, login: Authenticator, clock: Clock, wall_offset: Callable[[], int],
                 tls: TlsLine | None = None) -> None:
        self.sock = sock
        self.tls = tls                                   # None: the camera speaks in the clear
        self.where = where
        self.framing = framing.Connection()
        self.requests_seen: list[ServerRequest] = []     # what the server asked of us and nobody has looked at yet
        self.events = 0                                  # EVENT_* bits of tracks that came during the handshake
        self._udp: list[UdpSockets] = []
        self._login = login
        self._clock = clock
        self._wall_offset = wall_offset
        self._cseq = self._received = self._unasked = self._minute_ns = 0
        self._waiting: dict[int, asyncio.Future[Response]] = {}
        self._unsent = b""
        self._draining = False
        self._answered = False

    @classmethod
    async def open(cls, url: RtspUrl, book: AddressBook, login: Authenticator, clock: Clock,
                   wall_offset: Callable[[], int], trust: TlsTrust = BY_SYSTEM) -> "RtspConnection":
        """Connect to the first address of the host that answers, within 5 s each; with TLS for rtsps. Raises SourceError (`refused`,
        `offline`)."""
        addresses = await book.resolve(url.host, url.port)
        error: SourceError | None = None
        for family, address in addresses[:3]:
            try:
                if not url.encrypted:
                    return cls(await _connect(family, address), url.host, login, clock, wall_offset)
                tls = await open_tls(functools.partial(_connect, family, address), url.host, trust)
                return cls(tls.sock, url.host, login, clock, wall_offset, tls)
            except OSError as failed:                    # TimeoutError is an OSError
                error = _unreachable(url, failed)
        raise error or SourceError("the name has no address", cause=GapCause.OFFLINE, where=url.host)

    @property
    def local(self) -> str:
        """Our address on the way to the camera."""
        return str(self.sock.getsockname()[0])

    @property
    def peer(self) -> str:
        """The camera's address."""
        return str(self.sock.getpeername()[0])

    def keep(self, sockets: UdpSockets) -> UdpSockets:
        """Sockets of a medium that are closed with the connection."""
        self._udp.append(sockets)
        return sockets

    async def request(self, method: str, url: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"",
                      *, timeout_s: float = 0.0) -> Response:
        """Ask and return the answer, logged in as the camera wants it: a fresh challenge is answered once.

        Raises SourceError: `auth` for a refused login, `offline` if the connection ends or no answer comes in `timeout_s` (0: 10 s).
        """
        timeout_s = timeout_s or ANSWER_S
        for attempt in range(LOGINS_MAX):
            nonce, authorization = self._login.nonce, self._login.header(method, url, body)
            extra = [*headers, ("Authorization", authorization)] if authorization else list(headers)
            answer = await self._ask(method, url, extra, body, timeout_s)
            if answer.status != 401:
                return answer
            offered = self._login.accept(answer.headers.all("www-authenticate"))
            if attempt and not (offered.stale and offered.nonce != nonce):
                break              # a login with a fresh challenge was refused
        raise wrong_password(self.where)

    async def _ask(self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes, timeout_s: float) -> Response:
        self._cseq += 1
        number = self._cseq
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        enough = self._received + UNASKED_MAX
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(build_request(method, url, number, headers, body))
                while not answer.done() and not self._draining:
                    await self._receive()
                    if self._received > enough:
                        raise self._lost(f"the camera sent {UNASKED_MAX >> 20} MiB instead of an answer to {method}")
                return await answer
        except TimeoutError as error:
            remedy = "restart the camera if that stays so" if self._answered else "check that the address is the camera's RTSP service"
            raise self._lost(f"no answer to {method} within {timeout_s:.0f} s", remedy) from error
        except OSError as error:
            raise self._lost(f"the connection failed during {method} ({error.strerror or error})") from error
        finally:
            self._waiting.pop(number, None)

    async def _send(self, data: bytes) -> None:
        if self._draining:
            self.send(data)
        elif self.tls is not None:
            await self.tls.send_all(data)
        else:
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def _receive(self) -> None:
        buffer = bytearray(RECEIVE_BYTES)       # not kept: once it plays, the drain receives into one buffer for all
        if self.tls is not None:
            count = await self.tls.receive(buffer)
        else:
            count = await asyncio.get_running_loop().sock_recv_into(self.sock, buffer)
        self._received += count
        if not count:
            raise self._lost("the camera closed the connection")
        events = self.framing.feed(buffer, count, self._clock.mono_ns(), self._wall_offset())
        self.events |= events
        if events & rtp.EVENT_DAMAGED_STREAM:
            raise self._lost(f"what the camera sends is no RTSP ({self.framing.error})")
        self.deliver()

    def deliver(self) -> None:
        """Bring the messages that have come to those who wait; answer the server's requests. Raises SourceError for no RTSP."""
        for raw in self.framing.take_messages():
            message = parse_message(raw)
            if isinstance(message, Response):
                if self._resolve(message):
                    continue
            else:
                self.send(build_answer(message))
                self.requests_seen = [*self.requests_seen[-7:], message]
            self._count_unasked()

    def _count_unasked(self) -> None:
        now_ns = self._clock.mono_ns()
        if now_ns - self._minute_ns > 60 * NS:
            self._minute_ns, self._unasked = now_ns, 0
        self._unasked += 1
        if self._unasked > MESSAGES_MAX:
            raise SourceError(f"the camera sent more than {MESSAGES_MAX} messages in a minute that nobody asked for", cause=GapCause.LOSS,
                              where=self.where, remedy="restart the camera")

    def _resolve(self, message: Response) -> bool:
        """True if somebody has waited for it."""
        self._answered = True
        number = message.cseq
        if number is None and self._waiting:
            number = min(self._waiting)
        waiting = self._waiting.get(number) if number is not None else None
        if waiting is None or waiting.done() or message.status < 200:
            return False
        waiting.set_result(message)
        return True

    def send(self, data: bytes) -> None:
        """Send without waiting; what the socket does not take now goes first next time. Raises SourceError when it takes nothing for long."""
        self._unsent += data
        if not self._unsent:
            return
        try:
            self._unsent = self._unsent[(self.tls or self.sock).send(self._unsent):]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            raise self._lost(f"the connection failed ({error.strerror or error})") from error
        if len(self._unsent) > UNSENT_MAX:
            raise self._lost("the camera takes nothing any more")

    def take_leave(self, url: str, headers: Sequence[tuple[str, str]]) -> None:
        """TEARDOWN without waiting for its answer; nothing is said when even that fails."""
        self._cseq += 1
        authorization = self._login.header("TEARDOWN", url)
        extra = [("Authorization", authorization)] if authorization else []
        with contextlib.suppress(SourceError):
            self.send(build_request("TEARDOWN", url, self._cseq, [*headers, *extra]))

    def hand_over(self) -> None:
        """From now on the drain receives."""
        self._draining = True

    def fail(self, error: SourceError) -> None:
        """The connection has ended: whoever waits for an answer is told."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)

    def close(self) -> None:
        """Close the socket with FIN, and those of media. May be called twice."""
        self.fail(self._lost("the connection was closed"))
        if self.tls is not None:
            self.tls.leave()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for sockets in self._udp:
            sockets.close()

    def _lost(self, what: str, remedy: str = "") -> SourceError:
        return (HungUp if self._answered else SourceError)(what, cause=GapCause.OFFLINE, where=self.where, remedy=remedy)


async def _connect(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        async with asyncio.timeout(CONNECT_S):
            await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _unreachable(url: RtspUrl, error: OSError) -> SourceError:
    said = os.strerror(error.errno) if error.errno else str(error)         # asyncio's own words hold a tuple
    why = "no answer within 5 s" if isinstance(error, TimeoutError) else said
    return SourceError(f"cannot connect to port {url.port}: {why}", cause=GapCause.OFFLINE, where=url.host,
                       remedy="check power, network and address of the camera")
