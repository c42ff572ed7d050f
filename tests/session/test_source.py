"""A stream records from any source; one that has given all it had is not asked again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from recorder._ext.rtp import EVENT_FIRST_AU, RtpTrack
from recorder.base.errors import SourceError
from recorder.base.media import GapCause
from recorder.rtp.formats import RtpFormat
from recorder.rtsp.handshake import MakeTrack, PlayingTrack
from recorder.source import SourceEnded
from recorder.stream import Stream
from recorder.timeline import SessionTimeline, TrackTimeline
from tests.session.rig import Rig

TONE = RtpFormat("pcmu", (0,), 8000)


def packet(sequence: int) -> bytes:
    return bytes([0x80, 0]) + sequence.to_bytes(2, "big") + (160 * sequence).to_bytes(4, "big") + bytes(4) + b"\xff" * 160


@dataclass
class Tone:
    """A source of three packets of audio; what ends its sessions is `ends`, one after the other."""

    ends: list[SourceError]
    transport: str = "tone"
    live: bool = True
    opened: int = 0
    lost: dict[str, SourceError] = field(default_factory=dict)
    tracks: list[PlayingTrack] = field(default_factory=list)
    on_events: Callable[[int], None] = print

    async def open(self, make_track: MakeTrack, held_ns: int) -> "Tone":
        self.opened += 1
        self.tracks = [PlayingTrack("audio", TONE, await make_track("audio", TONE, -1), -1)]
        return self

    def session(self, on_events: Callable[[int], None]) -> "Tone":
        self.on_events = on_events
        return self

    def timeline(self, tracks: Sequence[TrackTimeline]) -> SessionTimeline:
        return SessionTimeline(tracks)

    async def run(self) -> None:
        track: RtpTrack = self.tracks[0].track
        for sequence in range(3):
            track.packet(packet(sequence), 1_000_000 * (1 + sequence))
        self.on_events(EVENT_FIRST_AU)
        raise self.ends.pop(0)

    def end(self, error: SourceError) -> None:
        raise AssertionError("nobody ends it")

    def sweep(self, mono_ns: int) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing is open."""


async def test_source_that_ended_is_not_asked_again_and_leaves_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = SourceError("gone", cause=GapCause.OFFLINE)
    tone = Tone([lost, SourceEnded("all of it is recorded", cause=GapCause.STOPPED)])
    monkeypatch.setattr(Stream, "_make_source", lambda self: tone)
    async with Rig() as rig:
        rig.record("rtsp://127.0.0.1/none")
        await rig.until(lambda: rig.stream().state == "ended")
        stream, tape = rig.stream(), rig.tape("audio")
        rig.tapes.take()
        assert (tone.opened, str(stream.error), stream.feeds) == (2, "all of it is recorded", {})
        assert [call[1:] for call in tape.calls if call[0] == "begin_session"] == [(1, "tone"), (2, "tone")]
        assert (tape.gaps, tape.names[-1], len(tape.aus)) == ([GapCause.OFFLINE], "detach", 6)


async def test_silence_of_a_source_that_is_not_live_is_no_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    tone = Tone([], live=False)
    monkeypatch.setattr(Stream, "_make_source", lambda self: tone)
    monkeypatch.setattr(Tone, "run", lambda self: rig.until(lambda: False))
    async with Rig() as rig:
        rig.record("rtsp://127.0.0.1/none", stall_s=1)
        await rig.until(lambda: rig.stream()._liveness is not None)
        stream = rig.stream()
        stream.sweep(rig.clock.mono_ns() + 60 * 10**9)
        assert (stream.state, rig.tape("audio").gaps) == ("connecting", [])
