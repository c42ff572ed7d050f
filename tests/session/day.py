"""A simulated camera recorded for hours in seconds: RTP packets into the real kernels, times by the real timeline, rows on a real volume."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from recorder._ext.auqueue import AuQueue
from recorder._ext.rtp import RtpTrack
from recorder.base.clock import SimulatedClock
from recorder.base.config import RetentionRule
from recorder.base.media import NS, GapCause, TrackKind
from recorder.timeline import RESTART_STEP_NS, SessionTimeline, TrackTimeline, WallOffset
from storage.reader import TrackReader
from storage.store import TapeStore
from storage.tape import TapeWriter
from tests.kernels.rtpkit import pps264, rtp, sender_report, slice264, sps264
from tests.storage_write.rig import ENTRY, Rig

RATE = 90_000
KEY = (sps264(), pps264(), slice264(5))
INTER = (slice264(1),)
TURN_S = 20.0
NTP_UNIX_S = 2_208_988_800
ALL = (0, 1 << 62)


@dataclass
class Day:
    """One H.264 camera at `fps` with a key frame each `gop`; `ppm`: how much its clock is too fast. `run` lets time pass.

    `true_ns` holds, per AU put into the queue, when it was sampled by a clock that nobody sets.
    """

    folder: Path
    fps: float = 1.0
    gop: int = 1
    ppm: float = 0.0
    seq: int = 1000
    ts: int = 5000                       # the RTP timestamp of the camera's time 0
    delay_s: Callable[[int], float] = lambda _: 0.02
    report: Callable[[int], int] | None = None           # NTP of a sender report after frame n; 0: none
    tweak: Callable[[int, int], int] = lambda _, ts: ts  # the timestamp that frame n really bears
    restart: bool = True                                 # a session ends at a long step forward, as in recorder/stream.py
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    frames: int = 0
    restarts: int = 0

    def __post_init__(self) -> None:
        (self.folder / "volume").mkdir(parents=True)
        self.rig = Rig(self.folder / "volume", self.folder / "live", clock=self.clock, chunk_close_s=1e6)
        self.wall = WallOffset(self.clock)
        self.began_ns = self.clock.mono_ns()
        self.queue = AuQueue(4 << 20)
        self.tape: TapeWriter = self.rig.slot.open_track(1, "main", TrackKind.VIDEO, clock_rate=RATE, queue=self.queue,
                                                         rule=RetentionRule(days=365), describe=lambda _: ENTRY)
        self.begin()

    def begin(self) -> None:
        """A session plays from now on."""
        session, floor_ns = self.tape.next_session, self.tape.end_ns
        self.tape.begin_session(session, self.wall.wall_ns(), "test")
        self.track = RtpTrack(self.queue, "h264", RATE, [96], session, floor_wall_ns=floor_ns)
        self.line = TrackTimeline(self.track, self.tape, session, floor_ns)
        self.timeline = SessionTimeline([self.line])

    def end(self, cause: GapCause | None = None) -> None:
        """The session ends, as recorder/stream.py ends it."""
        self.track.flush()
        self.timeline.finish()
        self.tape.end_session(self.line.session, self.wall.wall_ns(), "test")
        if cause is not None:
            self.tape.open_gap(cause)
        self.turn()

    def run(self, seconds: float) -> None:
        """Frames for so long; the worker looks once a second, the slot turns every TURN_S."""
        ends_ns, look_ns, turn_ns = self.clock.mono_ns() + round(seconds * NS), self.clock.mono_ns(), self.clock.mono_ns()
        while self.clock.mono_ns() < ends_ns:
            self.clock.advance(1 / self.fps)
            self.frame()
            if self.clock.mono_ns() - look_ns >= NS:
                look_ns = self.clock.mono_ns()
                self.look()
            if self.clock.mono_ns() - turn_ns >= TURN_S * NS:
                turn_ns = self.clock.mono_ns()
                self.turn()

    def frame(self) -> None:
        """One picture: sampled now, here after its delay."""
        ticks = round((self.clock.mono_ns() - self.began_ns) * (1 + self.ppm * 1e-6) * RATE / NS)
        ts = self.tweak(self.frames, self.ts + ticks)
        arrival_ns = self.clock.mono_ns() + round(self.delay_s(self.frames) * NS)
        nals = KEY if self.frames % self.gop == 0 else INTER
        for nal in nals:
            self.track.packet(rtp(self.seq, ts, nal, marker=nal is nals[-1]), arrival_ns, self.wall.offset_ns)
            self.seq += 1
        ntp = self.report(self.frames) if self.report is not None else 0
        if ntp:
            self.track.packet(sender_report(ntp, ts), arrival_ns, self.wall.offset_ns)
        self.frames += 1

    def look(self) -> None:
        """The worker's second."""
        step_ns = self.wall.measure()
        if step_ns:
            self.timeline.step(self.wall.wall_ns(), step_ns)
            if step_ns > RESTART_STEP_NS and self.restart:
                self.restarts += 1
                self.end(GapCause.CLOCK_STEP)
                self.begin()
        self.timeline.tick(self.clock.mono_ns())

    def turn(self) -> None:
        """The slot's threads."""
        for _ in range(2):
            self.rig.turn()

    def close(self) -> TrackReader:
        """End in order; what a reader finds."""
        self.end()
        self.rig.close()
        self.store = TapeStore([self.folder / "volume"], self.folder / "live")
        return self.store.track(1, "main")

    def ntp(self, ahead_s: float = 0.0) -> int:
        """Now by the camera's clock as NTP."""
        unix = self.clock.wall_ns() + round(ahead_s * NS)
        return (unix // NS + NTP_UNIX_S << 32) + (unix % NS << 32) // NS


def rows_of(track: TrackReader) -> np.ndarray:
    """All rows, none of them before the end of the one before."""
    rows = track.rows(*ALL).rows
    ends = rows["t_ns"] + rows["wall_dur_us"].astype(np.int64) * 1000
    late = ends[:-1] - rows["t_ns"][1:]
    assert (late <= 0).all(), f"rows overlap by {late.max()} ns"
    return rows


def aus_of(track: TrackReader) -> Iterator[np.ndarray]:
    """UTC of every AU, in runs of an hour's rows."""
    edges = track.edges()
    for first in range(edges.first_row, edges.next_row, 3600):
        yield track.entries(track.rows_from(first, 3600)).wall_ns

