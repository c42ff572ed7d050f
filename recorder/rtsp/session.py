"""A playing session: the drain receives, keep-alives and receiver reports go out, the server's wishes are met, TEARDOWN at the end."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from recorder._ext import rtp
from recorder.base.clock import Clock
from recorder.base.errors import SourceError
from recorder.base.media import NS, GapCause
from recorder.drainer import Drainer
from recorder.rtsp.connection import ENDED
from recorder.rtsp.handshake import Played
from recorder.rtsp.rtcp import LossWindow, interleaved, receiver_report

KEEPALIVE_MAX_S = 30.0
REPORT_S = 4.5
TEARDOWN_S = 1.5
SILENCE_S = 3.0          # after PLAY, over UDP
REFUSES_METHOD = {400, 404, 405, 451, 454, 501, 551}


@dataclass(slots=True)
class KeepaliveMemory:
    """What a camera's keep-alives have taught us; outlives its sessions. `redirect` is where it asked us to go next."""

    method: str = ""             # "" = not yet known
    redirect: str = ""


class RtspSession:
    """One session from PLAY to its end. `on_events` is told EVENT_* bits of its tracks; all on the loop's thread.

    `on_silence` is called when nothing has come over UDP at all and the session ends for it.
    """

    def __init__(self, played: Played, drainer: Drainer, clock: Clock, memory: KeepaliveMemory, on_events: Callable[[int], None],
                 on_silence: Callable[[], None] = lambda: None) -> None:
        self._played = played
        self._drainer = drainer
        self._clock = clock
        self._memory = memory
        self._on_events = on_events
        self._on_silence = on_silence
        self._ended: asyncio.Future[SourceError] = asyncio.get_running_loop().create_future()
        self._ssrc = random.getrandbits(32)
        self._windows = [LossWindow() for _ in played.tracks]
        self._report_due_ns = 0
        self._udp = [playing.udp for playing in played.tracks if playing.udp is not None]
        self._play_ns = 0
        self._open = True

    async def run(self) -> None:
        """Hand the socket to the drain and keep the session alive until it ends, which raises SourceError with the cause."""
        connection = self._played.connection
        connection.hand_over()
        self._play_ns = self._clock.mono_ns()
        self._drainer.add(connection.framing, connection.sock.fileno(), self.take_events, [udp.media for udp in self._udp])
        self.take_events(connection.events)
        keepalive = asyncio.create_task(self._keep_alive(), name=f"keep-alive {connection.where}")
        try:
            raise await asyncio.shield(self._ended)
        finally:
            keepalive.cancel()
            await asyncio.gather(keepalive, return_exceptions=True)

    def take_events(self, events: int) -> None:
        """What the drain has to tell about this connection."""
        connection = self._played.connection
        try:
            if events & rtp.EVENT_MESSAGE:
                connection.deliver()
            self._heed_requests()
        except SourceError as error:
            self.end(error)
        self._on_events(events)
        if events & ENDED:
            self.end(self._end_of(events))
        elif events & rtp.EVENT_BYE:
            self.end(SourceError("the camera said goodbye (BYE)", cause=GapCause.SENDER_RESTART, where=connection.where))

    def end(self, error: SourceError) -> None:
        """The session is over because of `error`; the first reason counts."""
        if not self._ended.done():
            self._ended.set_result(error)
            self._played.connection.fail(error)

    def sweep(self, mono_ns: int) -> None:
        """Once a second: send what waits, and a receiver report for each track when due (RFC 3550; ONVIF counts it as life)."""
        if self._ended.done() or not self._open:
            return
        if self._udp and not any(playing.track.stats()["packets"] for playing in self._played.tracks):
            self._await_udp(mono_ns)
        try:
            self._played.connection.send(self._reports(mono_ns) if mono_ns >= self._report_due_ns else b"")
        except SourceError as error:
            self.end(error)

    def _await_udp(self, mono_ns: int) -> None:
        """Nothing has come yet: the hole may have to be punched once more, or the network between lets no UDP through."""
        for sockets in self._udp:
            sockets.punch()
        if mono_ns - self._play_ns > SILENCE_S * NS:
            self._on_silence()
            self.end(SourceError(f"no packet came over UDP within {SILENCE_S:.0f} s", cause=GapCause.STALL,
                                 where=self._played.connection.where, remedy="check firewalls between, or set transport = \"tcp\""))

    async def close(self) -> bool:
        """TEARDOWN on the live connection, at most 1.5 s, then FIN. True if the camera confirmed (or had closed by itself)."""
        if not self._open:
            return True
        self._open = False
        connection = self._played.connection
        try:
            confirmed = await self._tear_down()
        finally:
            self._drainer.remove(connection.framing)
            connection.close()
        return confirmed

    async def _tear_down(self) -> bool:
        connection = self._played.connection
        if self._ended.done() and self._ended.result().cause == GapCause.OFFLINE:
            return True
        try:
            await connection.request("TEARDOWN", self._played.base, self._played.state.headers, timeout_s=TEARDOWN_S)
        except SourceError:
            return False
        return True

    async def _keep_alive(self) -> None:
        """GET_PARAMETER if the camera knows it, else OPTIONS; a missing answer never ends a session whose media flow."""
        while True:
            period_s = min(self._played.state.timeout_s, 2 * KEEPALIVE_MAX_S) / 2
            await asyncio.sleep(period_s * random.uniform(0.8, 1.0))  # noqa: S311
            try:
                await self._touch(period_s)
            except SourceError as error:
                if error.cause == GapCause.AUTH:
                    return                       # asking on with a wrong password would lock the account
                self._memory.method = "OPTIONS"

    async def _touch(self, period_s: float) -> None:
        state = self._played.state
        if not self._memory.method:
            self._memory.method = "GET_PARAMETER" if "GET_PARAMETER" in state.public else "OPTIONS"
        method = self._memory.method
        answer = await self._played.connection.request(method, self._played.base, state.headers, timeout_s=min(10.0, period_s))
        state.learn(answer)
        if answer.status in REFUSES_METHOD:
            self._memory.method = "OPTIONS"

    def _heed_requests(self) -> None:
        connection = self._played.connection
        asked, connection.requests_seen = connection.requests_seen, []
        for request in asked:
            if request.method == "REDIRECT":
                self._memory.redirect = request.headers.get("location")
                self.end(SourceError("the camera asks us to connect elsewhere", cause=GapCause.SENDER_RESTART, where=connection.where))

    def _reports(self, mono_ns: int) -> bytes:
        self._report_due_ns = mono_ns + round(REPORT_S * NS * random.uniform(0.8, 1.0))  # noqa: S311
        packets = []
        for playing, window in zip(self._played.tracks, self._windows, strict=True):
            track = playing.track
            packet = receiver_report(self._ssrc, track.stats(), window, track.sender_report, mono_ns)
            if playing.udp is not None:
                playing.udp.report(packet)
            else:
                packets.append(interleaved(playing.rtcp_channel, packet))
        return b"".join(packets)

    def _end_of(self, events: int) -> SourceError:
        connection = self._played.connection
        if events & rtp.EVENT_DAMAGED_STREAM:
            return SourceError(f"what the camera sends cannot be understood any more ({connection.framing.error})", cause=GapCause.LOSS,
                               where=connection.where)
        what = f"failed (errno {connection.framing.errno})" if events & rtp.EVENT_ERROR else "was closed by the camera"
        return SourceError(f"the connection {what}", cause=GapCause.OFFLINE, where=connection.where)
