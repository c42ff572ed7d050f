"""The writing side against a model that fits on a page: whatever is done in whatever order, the tape is what was kept."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from held import NS, held_rows, hold
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from rig import Camera, Rig, tape

from recorder.base.clock import SimulatedClock
from recorder.base.config import RetentionRule
from recorder.base.media import GapCause, RowFlag
from storage import heldfile
from storage.footage import row_ends
from storage.tape import TapeWriter

FILES = 5       # of the volume
TRIES = 20


class TapeMachine(RuleBasedStateMachine):
    """`sent` is every AU that a clean access point had been seen before; `acked` how many of them a commit had acknowledged.

    `holds`: the time of each hold that stands; `promised`: acknowledged AUs that were on the tape while it was held.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
        (self.folder / "volume").mkdir()
        self.sent: list[bytes] = []
        self.acked = 0
        self.au = 0
        self.times: dict[bytes, int] = {}
        self.holds: dict[int, tuple[int, int]] = {}
        self.promised: dict[int, set[bytes]] = {}
        self.taken = 0

    @initialize()
    def begin(self) -> None:
        self._open()

    def _open(self) -> None:
        self.rig = self._rig()
        self._track()

    def _rig(self, clock: SimulatedClock | None = None) -> Rig:
        rig = Rig(self.folder / "volume", self.folder / "live", clock=clock, bytes_max=FILES * (16 << 20), quarantine_s=0.0,
                  journal_bytes=64 << 10)
        rig.slot.whole_pages = True
        return rig

    def _track(self) -> None:
        self.writer: TapeWriter
        self.camera: Camera
        self.writer, self.camera = self.rig.track(size=60_000, gop=20, rule=RetentionRule(days=1.0))
        self.camera.au = self.au = -(-(self.au + 1) // 20) * 20
        self.camera.start_ns -= self.camera.au * 1_000_000_000 // self.camera.fps

    def _put(self, count: int) -> None:
        before = len(self.camera.sent)
        self.camera.recv_ns = self.rig.clock.mono_ns() if count % 2 else 1     # young: it may stay behind in the queue
        self.camera.put(count)
        self.au = self.camera.au
        self.sent += self.camera.sent[before:]
        first = self.camera.au - (len(self.camera.sent) - before)
        for at, data in enumerate(self.camera.sent[before:], first):
            self.times[data] = self.camera.start_ns + at * NS // self.camera.fps

    @rule(count=st.integers(1, 40))
    def append(self, count: int) -> None:
        self._put(count)
        self.rig.turn(commit=False)

    @rule(count=st.integers(1, 40))
    def append_and_commit(self, count: int) -> None:
        self._put(count)
        self.rig.turn()
        self.rig.turn()
        self.acked = len(self.sent) - self.camera.queue.waiting_aus
        self._promise()

    def _promise(self) -> None:
        """Everything on the tape that is acknowledged and lies in the time of a hold is promised from now on."""
        there = set(self.sent[:self.acked]) & set(self._tape())
        for number, (start_ns, end_ns) in self.holds.items():
            self.promised[number] |= {au for au in there if start_ns <= self.times[au] < end_ns}

    @rule(back=st.integers(0, 200), seconds=st.integers(1, 6))
    def hold(self, back: int, seconds: int) -> None:
        self.append_and_commit(5)
        start_ns = self.times[self.sent[-1]] - back * NS // self.camera.fps
        self.taken += 1
        self.holds[self.taken] = (start_ns, start_ns + seconds * NS)
        self.promised[self.taken] = set()
        self.rig.slot.hold(hold(self.taken, *self.holds[self.taken]))
        self._promise()

    @rule(pick=st.integers(0, 10))
    def release(self, pick: int) -> None:
        if self.holds:
            number = sorted(self.holds)[pick % len(self.holds)]
            assert self.rig.slot.release(hold(number, 1, 2).id, self.rig.clock.wall_ns(), "model")
            del self.holds[number], self.promised[number]

    @rule()
    def settle(self) -> None:
        """Nothing but what a standing hold keeps, and what its rows continue, stays beyond its days."""
        for _ in range(20):     # a release clears a few chunks at each look
            self.rig.clock.advance(21)
            self.rig.turn()
        self.acked = len(self.sent) - self.camera.queue.waiting_aus
        for path in self.folder.glob("volume/tape.zarr/*/*.held/c/*"):
            with path.open("rb") as file:
                chunk = heldfile.read(file.fileno(), path.name)
            ends = row_ends(chunk.rows)
            for index in np.flatnonzero(chunk.there).tolist():
                row = chunk.rows[index]
                held = any(row["t_ns"] < end and (ends[index] > start or row["t_ns"] >= start) for start, end in self.holds.values())
                last = index + 1 == len(chunk.rows)
                assert held or last or (chunk.there[index + 1] and chunk.rows[index + 1]["flags"] & RowFlag.CONTINUED)

    @rule()
    def gap(self) -> None:
        self.writer.open_gap(GapCause.STALL)
        self.rig.turn(commit=False)
        self.camera.au = self.au = -(-(self.au + 1) // 20) * 20

    @rule()
    def fill(self) -> None:
        """So much that the oldest must go for room after a few times."""
        for _ in range(5):
            self.append_and_commit(40)

    @rule()
    def remove_and_come_back(self) -> None:
        """The camera is removed, its footage stays; then it is recorded again."""
        self.writer.detach()
        for _ in range(TRIES):
            self.rig.turn()
            if not self.rig.slot._works[1, "main"].busy:
                break
        assert not self.rig.slot._works[1, "main"].attached
        self.acked = len(self.sent) - self.camera.queue.waiting_aus
        self._track()

    @rule(seconds=st.sampled_from([1.0, 100.0, 1000.0, 90_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.rig.clock.advance(seconds)
        self.rig.turn(commit=False)

    @rule()
    def stop_and_start(self) -> None:
        self.rig.close()
        self.acked = len(self.sent)
        self._restart()

    @rule(power=st.booleans())
    def crash(self, power: bool) -> None:
        self.rig.crash()
        if power:
            shutil.rmtree(self.folder / "live")
        self._restart()

    def _restart(self) -> None:
        clock = self.rig.clock
        clock.advance(10)
        self.rig = self._rig(clock)
        self._compare(self._tape())
        self.rig.crash()
        self._open_again()

    def _open_again(self) -> None:
        clock = self.rig.clock
        self.rig = self._rig(clock)
        kept = self._tape()
        self.sent = kept
        self.acked = len(kept)
        self._track()

    def _tape(self) -> list[bytes]:
        return tape(self.rig.path, self.rig) if (1, "main") in self.rig.slot._works else []

    def _compare(self, found: list[bytes]) -> None:
        """What is left is a piece of what was sent that reaches at least to the last acknowledged AU."""
        if not found:
            return
        start = self.sent.index(found[0])
        assert found == self.sent[start:start + len(found)]
        assert start + len(found) >= self.acked, "an acknowledged AU is gone"

    @invariant()
    def the_tape_is_what_was_sent(self) -> None:
        if hasattr(self, "rig"):
            found = self._tape()
            waiting = self.camera.queue.waiting_aus
            self._compare(found)
            if found:
                assert found[-1] == self.sent[len(self.sent) - waiting - 1]

    @invariant()
    def what_is_held_is_there(self) -> None:
        if any(self.promised.values()):
            there = set(self._tape()) | {au for row in held_rows(self.rig.path).values() for au in row}
            assert all(aus <= there for aus in self.promised.values())

    def teardown(self) -> None:
        if hasattr(self, "rig") and self.rig.slot._lock_fd >= 0:
            self.rig.close()
        shutil.rmtree(self.folder)


TestTapeMachine = TapeMachine.TestCase
TestTapeMachine.settings = settings(max_examples=16, stateful_step_count=25, deadline=None,
                                    suppress_health_check=list(HealthCheck), derandomize=True, phases=[Phase.generate])
