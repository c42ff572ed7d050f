"""Every second of a track is in a span or in a gap with a cause, whatever happens in whatever order."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from rig import Camera, Rig

from recorder._ext.auqueue import AuQueue
from recorder.base.clock import SimulatedClock
from recorder.base.config import RetentionRule
from recorder.base.media import NS, AuFlag, GapCause, TrackKind
from storage.store import TapeStore
from storage.tape import TapeWriter
from storage.timeline import HOLE_NS, UNEXPLAINED
from tests.storage_write.rig import ENTRY

CAUSES = (GapCause.OFFLINE, GapCause.AUTH, GapCause.STALL, GapCause.REFUSED, GapCause.SENDER_RESTART)


class TruthMachine(RuleBasedStateMachine):
    """One camera, its sessions, failures, restarts; the times are the worker's, the AUs arrive as they are sampled."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
        (self.folder / "volume").mkdir()
        self.clock = SimulatedClock()
        self.session: Camera | None = None
        self.stopped = False

    @initialize()
    def begin(self) -> None:
        self.began_ns = self.clock.wall_ns()
        self._open()

    def _open(self) -> None:
        self.rig = Rig(self.folder / "volume", self.folder / "live", clock=self.clock)
        self.queue = AuQueue(1 << 20)
        self.tape: TapeWriter = self.rig.slot.open_track(1, "main", TrackKind.VIDEO, clock_rate=90_000, queue=self.queue,
                                                         rule=RetentionRule(days=365), describe=lambda _: ENTRY)
        self.session = None
        self.rig.turn()

    def _turn(self) -> None:
        self.rig.turn()
        self.rig.turn()

    @rule(seconds=st.floats(0.1, 100.0))
    def time_passes(self, seconds: float) -> None:
        if self.session is None:
            self.clock.advance(seconds)
            self._turn()

    @rule(cause=st.sampled_from(CAUSES), later=st.booleans())
    def a_try_fails(self, cause: GapCause, later: bool) -> None:
        """As recorder/feed.py tells it: an open gap has this cause from now on, a new one begins where footage ended."""
        if self.session is None:
            self.tape.open_gap(cause, self.clock.wall_ns() if later else None, cause.word)
            self._turn()

    @rule(key=st.integers(0, 40), wait=st.floats(0.0, 3.0))
    def a_session_begins(self, key: int, wait: float) -> None:
        """Its first AU comes after `wait` s; the first key frame is AU `key`."""
        if self.session is not None:
            return
        number = self.tape.next_session
        self.tape.begin_session(number, self.clock.wall_ns(), "test")
        self.clock.advance(wait)
        self.session = Camera(1, self.queue, size=1_000, gop=25, session=number, au=0, start_ns=self.clock.wall_ns())
        self.session.au = -key % 25
        self.session.start_ns -= self.session.au * NS // 25
        self._turn()

    @rule(count=st.integers(1, 80), loss=st.sampled_from([0, 0, 0, 1, 30]), cause=st.sampled_from([GapCause.LOSS, GapCause.OVERLOAD]))
    def pictures_come(self, count: int, loss: int, cause: GapCause) -> None:
        """`loss` of them are missing first: the next one says so."""
        if self.session is None:
            return
        self.clock.advance((count + loss) / 25)
        self.session.au += loss
        self.session.put(count, gap=cause if loss else 0, flags=AuFlag.DAMAGED if loss else 0)
        self._turn()

    @rule(cause=st.sampled_from(CAUSES))
    def a_session_ends(self, cause: GapCause) -> None:
        if self.session is not None:
            self.tape.end_session(self.session.session, self.clock.wall_ns(), "test")
            self.tape.open_gap(cause, None, cause.word)
            self.session = None
            self._turn()

    @rule(away=st.floats(0.5, 50.0), crash=st.booleans())
    def we_restart(self, away: float, crash: bool) -> None:
        self._turn()
        self.rig.crash() if crash else self.rig.close()
        self.clock.advance(away)
        self._open()

    @invariant()
    def every_second_is_told(self) -> None:
        if not hasattr(self, "rig"):
            return
        store = TapeStore([self.folder / "volume"], self.folder / "live")
        try:
            found = store.track(1, "main").timeline(self.began_ns - 10 * NS, self.clock.wall_ns())
        finally:
            store.close()
        end_ns = found.begin_ns + found.expected_ns
        parts = sorted([(span.start_ns, span.end_ns) for span in found.spans]
                       + [(gap.start_ns, end_ns if gap.end_ns is None else gap.end_ns) for gap in found.gaps])
        assert UNEXPLAINED not in {gap.detail for gap in found.gaps}, found.gaps
        assert all(gap.end_ns is not None for gap in found.gaps[:-1])
        assert abs(found.begin_ns - self.began_ns) <= HOLE_NS, "the time before the first picture is told too"
        at_ns = self.began_ns
        for start_ns, stop_ns in parts:
            assert abs(start_ns - at_ns) <= HOLE_NS, (parts, at_ns)
            at_ns = stop_ns
        late_ns = self.clock.wall_ns() - at_ns
        assert late_ns <= NS // 10 if self.session is None else late_ns <= 4 * NS, "time has passed that nothing tells of"

    def teardown(self) -> None:
        if hasattr(self, "rig"):
            self.rig.close()
        shutil.rmtree(self.folder)


TestTruthMachine = TruthMachine.TestCase
TestTruthMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
