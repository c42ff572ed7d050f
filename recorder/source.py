"""Where a stream's AUs come from, as recorder/stream.py sees it: open, play until it ends, close. An RTSP camera is one kind of source."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from recorder._ext.rtp import RtpTrack
from recorder.base.clock import Clock
from recorder.base.config import CameraConfig, RecordingConfig, StreamConfig
from recorder.base.errors import HungUp, NoRoom, SourceError, TransportRefused
from recorder.base.media import GapCause
from recorder.drainer import Drainer
from recorder.gate import HandshakeGate, Knock
from recorder.rtsp.address import AddressBook
from recorder.rtsp.choice import TransportChoice
from recorder.rtsp.handshake import Credentials, Handshake, MakeTrack, Played, Target
from recorder.rtsp.memory import CameraMemory
from recorder.rtsp.session import RtspSession
from recorder.rtsp.tls import TlsTrust
from recorder.rtsp.url import parse_url
from recorder.timeline import SessionTimeline, TrackTimeline, WallOffset

OnEvents = Callable[[int], None]
PAUSE_S = 1.0            # a camera needs a moment to let go of the connection before, or it has no place for the next (gst-rtsp-server: 503)
HANDSHAKE_S = 45.0       # a camera that answers each request in its last second must not keep a place from the others


class SourceEnded(SourceError):
    """All that there was has been recorded: no gap, no next try."""


class Playing(Protocol):
    """A medium that plays: its kind and its depacketiser."""

    @property
    def kind(self) -> str:
        """video or audio."""

    @property
    def track(self) -> RtpTrack:
        """What fills the queue."""


class Opened(Protocol):
    """An open source. `lost` says by kind which media could not be had, and why."""

    @property
    def tracks(self) -> Sequence[Playing]:
        """The first leads."""

    @property
    def lost(self) -> dict[str, SourceError]:
        """By kind."""


class Session(Protocol):
    """An open source that plays; all on the loop's thread."""

    async def run(self) -> None:
        """Plays until it ends, which raises SourceError (SourceEnded where nothing more is to come)."""

    def end(self, error: SourceError) -> None:
        """Ends it because of `error`; the first reason counts."""

    def sweep(self, mono_ns: int) -> None:
        """Once a second."""

    async def close(self) -> object:
        """Nothing of it is left on return."""


class Source(Protocol):
    """One stream of a camera, over all its sessions."""

    @property
    def transport(self) -> str:
        """As a session's record names it: rtsp/tcp, srt, ..."""

    @property
    def live(self) -> bool:
        """False: what comes is as old as the source says, and silence is no stall."""

    async def open(self, make_track: MakeTrack, held_ns: int) -> Opened:
        """A new session, as far as tracks that are ready; the tape ends at `held_ns` (UTC). Raises SourceError; nothing stays open then."""

    def session(self, on_events: OnEvents) -> Session:
        """The session just opened, ready to `run`. `on_events` is told EVENT_* bits of its tracks."""

    def timeline(self, tracks: Sequence[TrackTimeline]) -> SessionTimeline:
        """The rules for the session's times."""


class RtspSource:
    """A camera asked over RTSP."""

    live = True

    def __init__(self, camera: CameraConfig, stream: StreamConfig, kinds: tuple[str, ...], recording: RecordingConfig, book: AddressBook,
                 gate: HandshakeGate, drainer: Drainer, clock: Clock, wall: WallOffset, complain: Callable[[str], None]) -> None:
        self._target = Target(stream.url, Credentials(camera.user, camera.password, camera.basic_without_tls), kinds,
                              udp_ports=(recording.udp_port_first, recording.udp_port_last),
                              trust=TlsTrust(recording.tls_ca, camera.tls_fingerprint, camera.tls_insecure))
        self._choice = TransportChoice(stream.transport)
        self._book = book
        self._gate = gate
        self._drainer = drainer
        self._clock = clock
        self._wall = wall
        self._memory = CameraMemory()
        self._complain = complain
        self._played: Played | None = None
        self._silent = False                 # there was no answer the last time

    @property
    def transport(self) -> str:
        """What is asked for now."""
        if self._target.url.lower().startswith("rtsps:"):
            return "rtsp/tls"
        return f"rtsp/{self._choice.current}"

    async def open(self, make_track: MakeTrack, held_ns: int) -> Played:
        """From OPTIONS to PLAY, when the gate lets us; once more from the beginning where another transport is called for."""
        while True:
            try:
                return await self._open(make_track)
            except TransportRefused as error:
                if error.rather_tcp:
                    self._choice.prefer_tcp()
                elif not self._choice.refused():
                    raise
            await asyncio.sleep(PAUSE_S)

    async def _open(self, make_track: MakeTrack) -> Played:
        led, self._memory.redirect = self._memory.redirect, ""
        url = led or self._target.url
        home = parse_url(self._target.url)[0].host if led else ""
        target = replace(self._target, url=url, home=home, transport=self._choice.current, may_be_tcp=self._choice.may_be_tcp)
        address = parse_url(url)[0]
        if address.encrypted and target.trust.insecure:
            self._complain("TLS without proof of who answers (tls_insecure): set tls_fingerprint instead")
        handshake = Handshake(target, self._book, self._clock, lambda: self._wall.offset_ns, make_track, self._memory)
        knock = Knock(self, f"{address.host}:{address.port}", (target.credentials.user, target.credentials.password))
        self._gate.hosts.check(knock)
        async with self._gate.hosts.alone(knock), self._gate.enter(knock.address, silent=self._silent):
            self._gate.hosts.check(knock)            # who was inside may have met silence
            self._played = await self._shake(handshake, knock)
        return self._played

    async def _shake(self, handshake: Handshake, knock: Knock) -> Played:
        """The handshake in its time, and what it says about the host."""
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                played = await handshake.run()
        except (TimeoutError, SourceError) as error:
            failed = error if isinstance(error, SourceError) else HungUp(
                f"the camera has not begun to play after {HANDSHAKE_S:.0f} s", cause=GapCause.OFFLINE, where=knock.address)
            self._memory.few_slots |= isinstance(failed, NoRoom)
            self._silent = failed.cause == GapCause.OFFLINE and not isinstance(failed, HungUp)
            self._gate.hosts.failed(knock, failed)
            raise failed from None
        self._silent = False
        self._gate.hosts.reached(knock)
        return played

    def session(self, on_events: OnEvents) -> RtspSession:
        """The session that PLAY has begun."""
        assert self._played is not None
        return RtspSession(self._played, self._drainer, self._clock, self._memory, on_events, self._complain, self._choice.silent)

    def timeline(self, tracks: Sequence[TrackTimeline]) -> SessionTimeline:
        """By arrival, bent towards our clock."""
        return SessionTimeline(tracks)
