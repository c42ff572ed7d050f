"""Weeks of recording, rules that change, restarts, crashes, a week switched off: what may be read is what the rules leave, to the second."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from rig import Camera, Rig
from test_ledger import deletions, erasures
from test_rules import Book

from recorder.base.config import RetentionRule
from recorder.base.media import NS
from recorder.base.rulebook import Member
from storage.store import TapeStore
from storage.tape import TapeWriter

DAY = 86_400
HOUR = 3_600
SIZE = 40_000


class RetentionMachine(RuleBasedStateMachine):
    """`sent`: (start, AU) of all that was recorded, a row of a second each. `mark`: what ended before it was past its days at some look."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
        (self.folder / "volume").mkdir()
        self.sent: list[tuple[int, bytes]] = []
        self.mark = 0
        self.last: set[int] = set()         # of each session: nobody knows how long its picture lasted
        self.lodgers: set[int] = set()      # expired, in a chunk with rows that a longer rule has kept since: out of sight, not yet gone
        self.au = 0

    @initialize()
    def begin(self) -> None:
        self.rules = Book(Member(1, "gate", rule=RetentionRule(days=7.0)))
        self.days = 7.0
        self._open(None)

    def _open(self, clock: object) -> None:
        self.rig = Rig(self.folder / "volume", self.folder / "live", bytes_max=40 * (16 << 20), journal_bytes=256 << 10, rules=self.rules,
                       clock=clock)  # type: ignore[arg-type]
        self.writer: TapeWriter
        self.camera: Camera
        self.writer, self.camera = self.rig.track(size=SIZE, fps=1, gop=1)
        self.camera.au = self.au
        self._end_session()
        self._look()

    def _end_session(self) -> None:
        self.writer.end_session(self.camera.session, self.rig.clock.wall_ns(), "over")
        self.rig.turn()

    def _look(self) -> None:
        """Three looks of retention within a minute."""
        for _ in range(3):
            self.rig.clock.advance(20)
            self.mark = max(self.mark, self.rig.clock.wall_ns() - round(self.days * DAY * NS))
            self.rig.turn()
        self.rig.turn()

    @rule(seconds=st.integers(5, 900))
    def record(self, seconds: int) -> None:
        self.camera.session = self.writer.next_session
        self.camera.start_ns = max(self.rig.clock.wall_ns(), self.writer.end_ns) - self.camera.au * NS
        self.writer.begin_session(self.camera.session, self.camera.start_ns + self.camera.au * NS, "test")
        while seconds > 0:
            first = self.camera.au
            self.camera.put(min(20, seconds))
            self.sent += [(self.camera.start_ns + n * NS, self.camera.sent[n - self.camera.au]) for n in range(first, self.camera.au)]
            self.mark = max(self.mark, self.rig.clock.wall_ns() - round(self.days * DAY * NS))
            self.rig.turn()
            self.rig.clock.advance(min(20, seconds))
            seconds -= 20
        self.au = self.camera.au
        self.last.add(self.sent[-1][0])
        self._end_session()
        self._look()

    @rule(seconds=st.sampled_from([60, HOUR, DAY // 2, 2 * DAY, 6 * DAY]))
    def time_passes(self, seconds: int) -> None:
        self.rig.clock.advance(seconds)
        self._look()

    @rule(share=st.floats(0, 1))
    def some_of_it_expires(self, share: float) -> None:
        """Time passes until the rule's edge lies amid the footage."""
        kept = [start for start, _ in self.sent if start + NS > self.mark]
        if kept:
            edge_ns = kept[round(share * (len(kept) - 1))] + round(self.days * DAY * NS)
            self.rig.clock.advance(max(0, edge_ns - self.rig.clock.wall_ns()) / NS)
            self._look()

    @rule(days=st.sampled_from([0.01, 1.0, 6.9, 7.0, 20.0]))
    def another_rule(self, days: float) -> None:
        self._say(days)
        self._look()

    def _say(self, days: float) -> None:
        if days > self.days:
            kept = [start for start, _ in self.sent if start + NS > self.mark]
            self.lodgers |= {start for start, _ in self.sent if start + NS <= self.mark and kept and kept[0] - start <= 1000 * NS}
        self.days = days
        self.rules.say(Member(1, "gate", rule=RetentionRule(days=days)))

    @rule(off_s=st.sampled_from([1, HOUR, 7 * DAY]), how=st.sampled_from(["closed", "killed", "power cut"]),
          days=st.sampled_from([None, 7.0, 10.0]))
    def switched_off(self, off_s: int, how: str, days: float | None) -> None:
        """Switched off, perhaps with another rule in the file when it is started again."""
        if how == "closed":
            self.rig.close()
        else:
            self.rig.crash()
        if how == "power cut":
            shutil.rmtree(self.folder / "live")
        self._say(days or self.days)
        self.rig.clock.step_wall(off_s)
        self._open(self.rig.clock)

    @precondition(lambda self: any(start + 2 * NS < self.mark for start, _ in self.sent))
    @rule()
    def an_hour_later_nothing_expired_is_on_the_disk(self) -> None:
        expired = [data for start, data in self.sent if start + 2 * NS < self.mark and start not in self.lodgers]
        for _ in range(HOUR // 20):
            self.rig.clock.advance(20)
            self.mark = max(self.mark, self.rig.clock.wall_ns() - round(self.days * DAY * NS))
            self.rig.turn()
        files = [path.read_bytes() for path in (self.folder / "volume").rglob("*") if path.is_file()]
        for data in expired[::31]:
            assert not any(data[:48] in file for file in files), "expired footage is on the disk"
        assert set(erasures(self.rig)) <= set(deletions(self.rig))

    @invariant()
    def what_is_read_is_what_the_rules_leave(self) -> None:
        if not hasattr(self, "rig"):
            return
        store = TapeStore([self.folder / "volume"], self.folder / "live")
        try:
            times = store.track(1, "main").rows(0, 1 << 62).rows["t_ns"].tolist()
        finally:
            store.close()
        times = [start for start in times if start not in self.last]
        kept = [start for start, _ in self.sent if start + NS > self.mark and start not in self.last]
        assert not kept or times[-len(kept):] == kept, "something went early"
        assert len(times) <= len(kept) + 1, "something stayed beyond its days"

    def teardown(self) -> None:
        if hasattr(self, "rig") and self.rig.slot._lock_fd >= 0:
            self.rig.close()
        shutil.rmtree(self.folder)


TestRetentionMachine = RetentionMachine.TestCase
TestRetentionMachine.settings = settings(max_examples=10, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck),
                                         derandomize=True, phases=[Phase.generate])     # each step is dear: no shrinking
