"""The commit: one journal record, one syncfs, then the durable marks. Its thread lets the writer go on meanwhile."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from recorder._ext.writerpass import WriterPass
from recorder.base.clock import Clock
from storage.disk import syncfs
from storage.events import SlotEvent, SlowCommit
from storage.journal import Journal, pack_record
from storage.livefile import LiveWriter
from storage.steps import Step, step
from storage.tapework import TapeWork
from storage.volume import Volume

SLOW_MS = 500.0


@dataclass(slots=True)
class Commit:
    """What one commit makes durable. `rows`: per tape the number after the highest row it names; `sealed`: what footers hold from then."""

    items: bytes
    checkpoint: bool
    rows: dict[int, int] = field(default_factory=dict)
    sealed: list[tuple[TapeWork, int]] = field(default_factory=list)


class Committer:
    """Runs commits one after another, on its thread if started, else in `submit`. An OSError ends it: `failed` is called once.

    The volume's own descriptor was opened before anything was written: errors of writeback are reported to it.
    """

    def __init__(self, volume: Volume, slot: int, journal: Journal, writer: WriterPass, live: LiveWriter, clock: Clock, epoch: int,
                 on_event: Callable[[SlotEvent], None], failed: Callable[[Exception], None]) -> None:
        self._volume, self._slot, self._journal, self._writer, self._live = volume, slot, journal, writer, live
        self._clock, self._on_event, self._failed = clock, on_event, failed
        self.epoch = epoch              # of the last acknowledged record
        self.last_ms = 0.0
        self.since_ns = 0               # CLOCK_MONOTONIC of the start of the commit under way; 0: none is
        self._sync_fd = os.open(volume.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._work: Commit | None = None
        self._sealed: list[tuple[TapeWork, int]] = []       # by the newest record
        self._ready = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stop = False

    def start(self) -> None:
        """Commit on a thread from now on."""
        self._thread = threading.Thread(target=self._loop, name=f"commit-{self._slot}", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """True while a commit is under way."""
        return self._work is not None

    @property
    def owes(self) -> bool:
        """True while chunks wait for one more record, which may be empty, until their seals are believed."""
        return bool(self._sealed)

    def submit(self, commit: Commit) -> None:
        """Begin a commit; none may be under way."""
        if self._thread is None:
            self._run(commit)
            return
        with self._ready:
            self._work = commit
            self._ready.notify_all()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until no commit is under way, or for that long; True if none is."""
        with self._ready:
            return self._ready.wait_for(lambda: self._work is None, timeout_s)

    def close(self) -> None:
        """Stop the thread; a commit under way ends first."""
        with self._ready:
            self._stop = True
            self._ready.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        os.close(self._sync_fd)

    def _loop(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._work is not None or self._stop)
                commit = self._work
            if commit is None:
                return
            self._run(commit)
            with self._ready:
                self._work = None
                self._ready.notify_all()

    def _run(self, commit: Commit) -> None:
        self.since_ns = self._clock.mono_ns()
        try:
            self._commit(commit)
        except Exception as error:      # a commit that died silently would be waited for for ever
            self._failed(error)
        finally:
            self.since_ns = 0

    def _commit(self, commit: Commit) -> None:
        start_ns, wall_ns = self._clock.mono_ns(), self._clock.wall_ns()
        if commit.checkpoint:
            self._journal.begin_segment()
        rows = self._journal.segments[-1].rows
        for tape, number in commit.rows.items():
            rows[tape] = max(rows.get(tape, 0), number)
        self._journal.append(pack_record(self._slot, self.epoch + 1, wall_ns, commit.items))
        step(Step.JOURNAL_WRITTEN)
        syncfs(self._sync_fd)
        self._journal.flush()
        step(Step.SYNCED)
        self._writer.mark_live()
        self.epoch += 1
        self._live.commit(self.epoch, wall_ns)
        step(Step.MARKED_LIVE)
        failed = self._writer.mark_index()
        if failed:
            raise OSError(failed, os.strerror(failed))
        step(Step.MARKED_INDEX)
        for work, end_row in self._sealed:      # a seal that the last record says is not believed: the record before must still have the rows
            work.safe_row = max(work.safe_row, end_row)
        self._sealed = commit.sealed
        self.last_ms = (self._clock.mono_ns() - start_ns) / 1e6
        if self.last_ms > SLOW_MS:
            self._on_event(SlowCommit(self._volume.path, self.last_ms))
