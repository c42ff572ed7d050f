"""A playing session: the drain receives, keep-alives and receiver reports go out, the server's wishes are met, TEARDOWN at the end."""

import asyncio
import errno
import random
from collections.abc import Callable

from recorder._ext import rtp
from recorder.base.clock import Clock
from recorder.base.errors import SourceError
from recorder.base.media import NS, GapCause
from recorder.drainer import Drainer
from recorder.rtsp.connection import ENDED
from recorder.rtsp.handshake import Played
from recorder.rtsp.keepalive import KeepAlive
from recorder.rtsp.memory import CameraMemory, Leftover
from recorder.rtsp.rtcp import LossWindow, interleaved, receiver_report

REPORT_S = 4.5
TEARDOWN_S = 1.5
SILENCE_S = 3.0          # after PLAY, over UDP
LEFTOVER_S = 5.0         # beyond the session's timeout: cameras look at theirs every few seconds
LEFTOVER_MAX_S = 300.0   # a timeout of a day must not keep us away for a day
RESETS = {errno.ECONNRESET, errno.EPIPE}


class RtspSession:
    """One session from PLAY to its end. `on_events` is told EVENT_* bits of its tracks; all on the loop's thread.

    `on_silence` is called when nothing has come over UDP at all and the session ends for it.
    """

    def __init__(self, played: Played, drainer: Drainer, clock: Clock, memory: CameraMemory, on_events: Callable[[int], None],
                 complain: Callable[[str], None], on_silence: Callable[[], None] = lambda: None) -> None:
        self._played = played
        self._drainer = drainer
        self._clock = clock
        self._memory = memory
        self._on_events = on_events
        self._on_silence = on_silence
        self._complain = complain
        self._ended: asyncio.Future[SourceError] = asyncio.get_running_loop().create_future()
        self._ssrc = random.getrandbits(32)
        self._windows = [LossWindow() for _ in played.tracks]
        self._report_due_ns = 0
        self._udp = [playing.udp for playing in played.tracks if playing.udp is not None]
        self._play_ns = 0
        self._open = True
        self._hung_up = False

    async def run(self) -> None:
        """Hand the socket to the drain and keep the session alive until it ends, which raises SourceError with the cause."""
        connection = self._played.connection
        connection.hand_over()
        self._play_ns = self._clock.mono_ns()
        self._drainer.add(connection.framing, connection.sock.fileno(), self.take_events, [udp.media for udp in self._udp], connection.tls)
        self.take_events(connection.events)
        played = self._played
        touches = KeepAlive(connection, played.state, played.base, self._memory, self._forgotten)
        keepalive = asyncio.create_task(touches.run(), name=f"keep-alive {connection.where}")
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
            self._hung_up = bool(events & rtp.EVENT_EOF) or connection.framing.errno in RESETS
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
        self._look_for_oddities()

    def _await_udp(self, mono_ns: int) -> None:
        """Nothing has come yet: the hole may have to be punched once more, or the network between lets no UDP through."""
        for sockets in self._udp:
            sockets.punch()
        if mono_ns - self._play_ns > SILENCE_S * NS:
            self._on_silence()
            self.end(SourceError(f"no packet came over UDP within {SILENCE_S:.0f} s", cause=GapCause.STALL,
                                 where=self._played.connection.where, remedy="check firewalls between, or set transport = \"tcp\""))

    def _look_for_oddities(self) -> None:
        """What is strange about what comes and yet no reason to end it."""
        stats = self._played.connection.framing.stats()
        if stats["unbound_frames"]:
            self._complain(f"sends on channels that were never set up: ignored ({stats['unbound_frames']} frames so far)")
        if stats["resyncs"]:
            self._complain(f"garbage between frames: {stats['skipped_bytes']} bytes skipped in {stats['resyncs']} places so far")
        foreign = sum(sockets.media.stats()["foreign"] for sockets in self._udp)
        if foreign:
            self._complain(f"others send to its UDP ports: dropped ({foreign} packets so far)")

    async def close(self) -> None:
        """TEARDOWN on the live connection, at most 1.5 s, then FIN. A session whose end is not confirmed is left to the memory."""
        if not self._open:
            return
        self._open = False
        connection = self._played.connection
        try:
            if not await self._tear_down():
                self._leave_over()
        finally:
            self._drainer.remove(connection.framing)
            connection.close()

    async def _tear_down(self) -> bool:
        """True if the camera has answered anything at all, or has closed the connection itself."""
        connection = self._played.connection
        if self._ended.done() and self._ended.result().cause == GapCause.OFFLINE:
            return self._hung_up
        try:
            async with asyncio.timeout(TEARDOWN_S):      # its logins included
                await connection.request("TEARDOWN", self._played.base, self._played.state.headers)
        except (SourceError, TimeoutError):
            return False
        return True

    def _leave_over(self) -> None:
        state = self._played.state
        if state.id:
            until_ns = self._clock.mono_ns() + round(min(state.timeout_s + LEFTOVER_S, LEFTOVER_MAX_S) * NS)
            self._memory.leftover = Leftover(state.id, self._played.base, until_ns)

    def _forgotten(self) -> None:
        self.end(SourceError("the camera no longer knows our session (454) and sends nothing", cause=GapCause.SENDER_RESTART,
                             where=self._played.connection.where))

    def _heed_requests(self) -> None:
        connection = self._played.connection
        asked, connection.requests_seen = connection.requests_seen, []
        for request in asked:
            if request.method == "REDIRECT":
                self._memory.redirect = self._where_to(request.headers.get("location"))
                self.end(SourceError("the camera asks us to connect elsewhere", cause=GapCause.SENDER_RESTART, where=connection.where))

    def _where_to(self, location: str) -> str:
        """The address to connect to next, "" for our own: a REDIRECT may name none, and may not lead out of TLS."""
        if self._played.connection.tls is not None and not location.lower().startswith("rtsps:"):
            return ""
        return location

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
        why = connection.tls.error if connection.tls is not None else f"errno {connection.framing.errno}"
        what = f"failed ({why})" if events & rtp.EVENT_ERROR else "was closed by the camera"
        return SourceError(f"the connection {what}", cause=GapCause.OFFLINE, where=connection.where)
