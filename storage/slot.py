"""The writing side of one slot on one volume: its tapes, and the three threads that write, commit and keep house.

The writer owns every tape's state. The committer has one record at a time. The keeper prepares and hands over. A failed write or syncfs
ends all three: the volume is out, AUs overflow their queues, nothing is tried again.
"""

import fcntl
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from recorder._ext.auqueue import AuQueue
from recorder._ext.writerpass import WriterPass
from recorder.base.clock import Clock
from recorder.base.config import RecordingConfig, RetentionRule
from recorder.base.errors import Conflict, OtherKind, VolumeError
from recorder.base.media import SampleEntry, TrackKind
from storage.commit import Commit, Committer
from storage.disk import flush_disk, syncfs, write_at
from storage.erasure import Deleted, Erasure
from storage.events import SlotBroken, SlotEvent, VolumeFailed, Watched
from storage.heldstore import HeldStore
from storage.hold import Hold
from storage.holdkeeper import HoldUsage, Kept, SlotHolds
from storage.items import Checkpoint, CheckpointEnd, On, SessionStart, Tape, encode
from storage.journal import SEGMENT_BYTES, Journal
from storage.keeper import Desk, Keeper
from storage.layout import track_path
from storage.ledger import Ledger
from storage.livefile import LiveWriter
from storage.numbered import chunk_number
from storage.pool import Pool
from storage.rebuild import Rebuilder
from storage.recovery import Recovered, recover
from storage.retainer import OwnRules, Rules
from storage.salvage import from_footers
from storage.siteholds import SiteHolds
from storage.steps import Step, step
from storage.tape import Come, TapeWriter
from storage.tapework import TapeWork
from storage.volume import Volume
from storage.zarrmeta import create_track

T = TypeVar("T")

QUARANTINE_S = 60.0
KEEP_S = 0.5            # nothing of the keeper's is more urgent; whoever waits for a chunk wakes it
HOLD_SHARE = 0.5
HOLD_S = 30.0           # what the keeper is at may take some seconds
DRAIN_TRIES = 20        # passes without an AU taken, before what waits at the end is given up
ATTACH_S = 2.0
HUNG_S = 2.0            # for a call to the disk that does not come back, once the volume has failed


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What opening a slot found. `clean`: it had been closed in order."""

    clean: bool
    tapes: int
    records: int            # journal records read
    rows_adopted: int       # visible, not yet acknowledged, whole: kept
    tapes_fallen_back: int  # the last record's bytes were not all there
    chunks_returned: int    # half-taken or retired files put on their way to the pool
    seconds: float


class Slot:
    """One slot: `open`, `start`, `open_track`s in any order after that; `close` at the end.

    `sharers` says how many slots lie on the volume, this one among them: each may take an equal part of its bytes. `rules` say how long
    footage stays (default: each track's own), `holds` what the site wants held (default: what `hold` is told), of which `hold_share` of
    its bytes is the budget.
    Without `start` nothing runs by itself: `pass_once`, `commit_once` and `keep_once` do what the threads would (tests, tools).
    """

    def __init__(self, volume: Volume, number: int, *, config: RecordingConfig, live_dir: Path, clock: Clock,
                 on_event: Callable[[SlotEvent], None], quarantine_s: float = QUARANTINE_S, journal_bytes: int = SEGMENT_BYTES,
                 sharers: Callable[[], int] = lambda: 1, rules: Rules | None = None, holds: SiteHolds | None = None, free_min: float = 0.0,
                 hold_share: float = HOLD_SHARE) -> None:
        self.volume, self.number = volume, number
        self._config, self._live_dir, self._clock, self._on_event = config, live_dir, clock, on_event
        self._rules = rules or OwnRules()
        self._dir = f"slot-{number}"
        self._journal = Journal(volume, number, journal_bytes)
        self._erasure = Erasure(self._erased)
        self._pool = Pool(volume, number, volume.bytes_max, quarantine_s, self._erasure)
        self._pool.look(0.0, sharers())
        self._ledger = Ledger(volume, number, next_epoch=lambda: self._built + 1, acknowledged=lambda: self._committer.epoch,
                              wall_ns=clock.wall_ns)
        store = HeldStore(volume, clock, self._pool, self._ledger, self._erasure)
        self._holds = SlotHolds(volume, number, clock, store, site=holds, on_event=on_event,
                                budget=lambda: round(volume.bytes_max // sharers() * hold_share))
        self._keeper_calls: deque[Callable[[], None]] = deque()
        self._free_min, self._sharers = free_min, sharers
        self._works: dict[tuple[int, str], TapeWork] = {}
        self._writer = WriterPass()
        self._calls: deque[Callable[[], None]] = deque()
        self._sealed: list[tuple[TapeWork, int]] = []
        self._built = 0                 # number of the newest record that was built
        self._cores_changed = True
        self._stop = threading.Event()
        self._wake_keeper = threading.Event()
        self._threads: list[threading.Thread] = []
        self.whole_pages = False        # the newest AU may wait for the next pass, so that no page is written twice; so while the threads run
        self._lock_fd = -1
        self._pass_ns = 0               # CLOCK_MONOTONIC of the start of the writer's pass under way; 0: none is
        self._commit: Committer | None = None
        self._keep: Keeper | None = None
        self._open_lock = threading.Lock()
        self.failed = False

    # Opening

    def open(self) -> RecoveryReport:
        """Recover; then tracks may be opened. VolumeError if another process has the slot, or the volume fails."""
        start_ns = self._clock.mono_ns()
        try:
            return self._open(start_ns)
        except BaseException as error:
            self._release()
            if not isinstance(error, OSError):
                raise
            raise VolumeError(f"recovery of slot {self.number}: {error.strerror or error}", where=str(self.volume.path),
                              remedy="check the disk, its space and the system log") from error

    def _open(self, start_ns: int) -> RecoveryReport:
        for folder in ("journal", "pool", "quarantine"):
            self.volume.make_dirs(f"{self._dir}/{folder}")
        self._lock()
        found = recover(self.volume, self.number, self._journal, self._live_dir)
        self._built = found.epoch
        self._live = LiveWriter(self._live_dir, self.volume.uuid, self.number)
        self._gather = max(1, self._config.gather_ms // self._config.drain_ms)
        self._rebuilder = Rebuilder(self.volume, self._live, self._on_event, lambda: (self._clock.wall_ns(), self._clock.mono_ns()),
                                    self._erasure)
        said = [(tape.ident, entry) for tape in found.tapes.values() for entry in tape.ledger]
        self._erasure.begin(self._ledger.open(said))
        for tape in found.tapes.values():
            self._works[tape.ident.camera, tape.ident.name] = self._rebuilder.make(tape)
        returned = self._scan()
        self._holds.open(self._works.values())
        self._commit = Committer(self.volume, self.number, self._journal, self._writer, self._live, self._clock, found.epoch,
                                    self._on_event, self._fail)
        self._keep = Keeper(
            Desk(self.volume, self._clock, self._journal, self._pool, lambda: list(self._works.values()), self._calls.append,
                 lambda: self._built + 1, lambda: self._committer.epoch, lambda work, row: self._sealed.append((work, row)),
                 self._on_event, self._rules, self._holds, self._ledger, self._erasure, self._free_min, self._sharers,
                 found.wall_ns),
            close_s=self._config.chunk_close_s)
        self._erasure.settle()
        self._close_old()
        self._settle(found)
        self._live.publish()
        seconds = (self._clock.mono_ns() - start_ns) / 1e9
        return RecoveryReport(found.clean, len(found.tapes), found.records, found.rows_adopted, found.fallen_back, returned, seconds)

    def _close_old(self) -> None:
        """A chunk that was begun long ago takes no more: what it holds could not go before what came."""
        for work in self._works.values():
            work.close_by_time(self._clock.mono_ns(), round(self._config.chunk_close_s * 1e9))

    def _settle(self, found: Recovered) -> None:
        """Make what recovery did durable, then mark the open chunks' indexes, then say it all in a checkpoint."""
        syncfs(self.volume.dir_fd)
        flush_disk(self._lock_fd)
        for work in self._works.values():
            if work.to_mark is not None:
                write_at(work.to_mark[0], work.to_mark[1], 0)
                work.to_mark = None
        self._writer.set_cores([work.core for work in self._works.values()])
        self._cores_changed = False
        if found.tapes:
            self.commit_once()
            if self.failed:
                raise OSError(5, "the first commit failed")

    def _lock(self) -> None:
        fd = self.volume.open_file(f"{self._dir}/lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise VolumeError(f"slot {self.number} is in use by another process", where=str(self.volume.path),
                              remedy="stop the other worker first") from None
        self._lock_fd = fd

    def _scan(self) -> int:
        """Put every chunk file where it belongs; how many were on their way somewhere else. The journal decides, then the head."""
        mono_ns = self._clock.mono_ns()
        returned = 0
        for path, head in self._pool.scan(mono_ns):
            work = self._works.get((head.camera, head.track))
            home = f"{track_path(head.camera, head.track)}/c/{head.chunk}"
            if work is not None and work.holds(head.chunk) and not self.volume.exists(home):
                self.volume.rename(path, home)
                self._pool.total_bytes -= head.chunk_class.file_bytes
            else:
                self._pool.retire(path, head.chunk_class, mono_ns, self._erasure.found((head.camera, head.track, head.chunk)))
                returned += 1
        for work in self._works.values():
            returned += self._scan_track(work, mono_ns)
        step(Step.RECOVERED_FILES)
        return returned

    def _scan_track(self, work: TapeWork, mono_ns: int) -> int:
        folder = f"{track_path(work.ident.camera, work.ident.name)}/c"
        returned = 0
        for name in self.volume.list_files(folder):
            number = chunk_number(name)
            if self.volume.names(f"{folder}/{name}") == 1:      # else its held name counts it
                self._pool.total_bytes += work.chunk_class.file_bytes
            if number is None or not work.holds(number):
                past = self._erasure.found((work.ident.camera, work.ident.name, number if number is not None else -1))
                self._pool.retire(f"{folder}/{name}", work.chunk_class, mono_ns, past)
                returned += 1
        return returned

    def open_track(self, camera: int, name: str, kind: TrackKind, *, clock_rate: int, queue: AuQueue, rule: RetentionRule,
                   describe: Callable[[int], SampleEntry | None], come: Come | None = None) -> TapeWriter:
        """The tape of a track, made if new; its AUs are taken from `queue`. Blocks on the disk for a new track. Any thread.

        `come`: it comes from another tape; the session goes on under the tape's `next_session` - 1, and what the queue holds belongs to it.

        Conflict if it is open already, OtherKind if it exists with another kind or clock. VolumeError if the volume has failed, another
        StorageError if the slot has no room for one more track.
        """
        if self.failed:
            raise VolumeError("the volume has failed", where=str(self.volume.path), remedy="see the first error in the log")
        with self._open_lock:
            work = self._works.get((camera, name))
            made = work is None
            if work is None:
                work = self._made(Tape(self._next_tape(), camera, clock_rate, kind, name), rule)
            elif (work.ident.kind, work.ident.clock_rate) != (kind, clock_rate):
                raise OtherKind(f"the track is {work.ident.kind.value} at {work.ident.clock_rate} Hz", where=f"cam-{camera}/{name}",
                                remedy="give the new stream another track name")
            elif not self._free(work):
                raise Conflict("the track is open already", where=f"cam-{camera}/{name}")
            work.attached, work.queue = True, queue
            session = work.next_session
            work.next_session += come is not None
        attached = threading.Event()

        def attach() -> None:
            work.attach(queue, rule, describe)
            if come is not None:
                work.come(SessionStart(session, come.start_ns, come.transport), come.au_session, come.kept_ns, come.cause, come.detail)
            attached.set()

        self._on_writer(attach)
        if not made:
            attached.wait(ATTACH_S)      # commands given before the queue is bound would count another queue's AUs
        self._wake_keeper.set()
        return TapeWriter(work, self._detach)

    def tracks(self) -> set[tuple[int, str]]:
        """Camera and name of every track that the slot has."""
        return set(self._works)

    def _free(self, work: TapeWork) -> bool:
        """True if nobody has the track open; one who has just let go of it is waited for."""
        for _ in range(round(ATTACH_S / 0.01)):
            if not work.attached or not self._threads:
                break
            time.sleep(0.01)
        return not work.attached

    def _made(self, ident: Tape, rule: RetentionRule) -> TapeWork:
        try:
            return self._create(ident, rule)
        except OSError as error:
            where = f"{self.volume.path} cam-{ident.camera}/{ident.name}"
            raise VolumeError(f"cannot make the track: {error.strerror or error}", where=where,
                              remedy="see that the file system has room for the indexes beside the chunks") from error

    def _create(self, ident: Tape, rule: RetentionRule) -> TapeWork:
        self.volume.make_dirs(f"idx/cam-{ident.camera}", durable=False)
        found = from_footers(self.volume, ident)
        work = self._rebuilder.make(found)
        if work.next_number > work.first_chunk:     # never + 0: the keeper's thread counts too, and what it adds meanwhile would be lost
            self._pool.total_bytes += work.chunk_class.file_bytes * (work.next_number - work.first_chunk)
        self._holds.adopt(work)
        create_track(self.volume.dir_fd, ident.camera, ident.name, ident.kind)  # last: readers find a track by its zarr.json
        work.set_rule(rule)
        step(Step.TRACK_CREATED)
        self._works[ident.camera, ident.name] = work
        self._cores_changed = True
        return work

    def _next_tape(self) -> int:
        return max((work.ident.tape for work in self._works.values()), default=0) + 1

    def _on_writer(self, call: Callable[[], None]) -> None:
        if self._threads:
            self._calls.append(call)
        else:
            call()

    def _detach(self, work: TapeWork) -> None:
        work.detach()
        self._wake_keeper.set()

    def _erased(self, chunks: list[Deleted]) -> None:
        self._keeper.erased(chunks)

    @property
    def _committer(self) -> Committer:
        assert self._commit is not None, "open the slot first"
        return self._commit

    @property
    def _keeper(self) -> Keeper:
        assert self._keep is not None, "open the slot first"
        return self._keep

    @property
    def last_commit_ms(self) -> float:
        """How long the newest commit took."""
        return self._committer.last_ms

    # Holds

    def hold(self, hold: Hold) -> list[Kept]:
        """Hold from now on; durable on return. What was found of each track. Blocks; any thread. VolumeError if the volume has failed."""
        return self._by_keeper(lambda: self._keeper.hold(hold))

    def hold_room(self, hold: Hold) -> None:
        """Conflict if the budget does not bear the hold. Blocks; any thread. VolumeError if the volume has failed."""
        self._by_keeper(lambda: self._keeper.hold_room(hold))

    def release(self, hold_id: str, time_ns: int, by: str) -> bool:
        """Hold no more; durable on return. False if no such hold stands here. Blocks; any thread. VolumeError."""
        return self._by_keeper(lambda: self._holds.release(hold_id, time_ns, by))

    def holds(self) -> list[Hold]:
        """The holds that stand here. Any thread."""
        return self._holds.standing()

    @property
    def hold_usage(self) -> HoldUsage:
        """What holds take, as of the keeper's last look."""
        return self._holds.usage

    def _by_keeper(self, call: Callable[[], T]) -> T:
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(call())
            except BaseException as error:
                done.set_exception(error)
                if isinstance(error, OSError):
                    self._fail(error)

        if self._threads:
            self._keeper_calls.append(run)
            self._wake_keeper.set()
        elif not self.failed:
            run()
        try:
            return done.result(HOLD_S if not self.failed else 0)
        except (OSError, TimeoutError) as error:
            raise VolumeError("the volume has failed, or does not answer", where=str(self.volume.path), remedy="see the log") from error

    # The rhythm

    def start(self) -> None:
        """Start the writer's, the commit's and the keeper's threads."""
        self.whole_pages = True
        self._committer.start()
        for target, name in ((self._write_loop, "writer"), (self._keep_loop, "keeper")):
            thread = threading.Thread(target=self._guarded, args=(target,), name=f"{name}-{self.number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _guarded(self, loop: Callable[[], None]) -> None:
        """A thread: a defect in it must end the recording loudly, not leave the process without a writer."""
        try:
            loop()
        except Exception as error:
            self._fail(error)

    def _write_loop(self) -> None:
        gap_s, commit_s = self._config.drain_ms / 1000, self._config.commit_ms / 1000
        ticks = max(1, round(commit_s / gap_s))
        tick = 0
        while not self._quick_passes(gap_s) and not self.failed:
            tick += 1
            due = tick >= ticks and not self._committer.busy
            self.pass_once(all_tracks=due)
            if due:
                tick = 0
                self.commit_once()

    def _quick_passes(self, gap_s: float) -> bool:
        """For `gap_s` passes over what is watched, if anything is; True once the slot is to end."""
        due_s = time.monotonic() + gap_s
        quick_s = min(self._config.watched_ms / 1000, gap_s)
        while (left_s := due_s - time.monotonic()) > quick_s and self._writer.watched:
            if self._stop.wait(quick_s) or self.failed:
                return True
            self.pass_once(all_tracks=False, only_watched=True)
        return self._stop.wait(max(0.0, left_s))

    def pass_once(self, *, all_tracks: bool = True, only_watched: bool = False) -> None:
        """One pass of the writer."""
        self._pass_ns = self._clock.mono_ns()
        try:
            self._pass(all_tracks, only_watched)
        except OSError as error:
            self._fail(error)
        finally:
            self._pass_ns = 0

    def _pass(self, all_tracks: bool, only_watched: bool) -> None:
        if self.failed:
            return
        while self._calls:
            self._calls.popleft()()
        if self._cores_changed and not self._committer.busy:
            self._cores_changed = False
            self._writer.set_cores([work.core for work in list(self._works.values())])
        starved, watched = False, self._writer.watched
        for core, code in self._writer.run(self._clock.mono_ns(), self._gather, all_tracks, self.whole_pages, only_watched):
            work = core.owner
            assert isinstance(work, TapeWork)
            starved |= work.attend(code)
        if starved:
            self._wake_keeper.set()
        if self._writer.watched > watched:
            self._on_event(Watched(self.volume.path))
        step(Step.PASS)

    def commit_once(self) -> None:
        """Make a record of everything that is visible, and commit it (in the background when started)."""
        if self.failed or self._committer.busy:
            return
        try:
            commit = self._build()
        except OSError as error:
            self._fail(error)
            return
        if commit is not None:
            self._built += 1
            step(Step.RECORD_BUILT)
            self._committer.submit(commit)

    def _build(self, *, checkpoint: bool = False) -> Commit | None:
        works = list(self._works.values())
        grown = {id(core) for core in self._writer.grown()}
        changed = [work for work in works if id(work.core) in grown or work.pending]
        if not changed and not checkpoint and not self._committer.owes:
            return None
        parts: list[tuple[TapeWork, bytes, int]] = []
        for work in changed:
            pending, before = work.take_pending()
            parts.append((work, pending + self._writer.record(work.core), before))
        size = sum(len(data) for _, data, _ in parts) + 128 * len(parts)
        if not checkpoint and self._journal.fits(size):
            return self._commit_of(parts, b"", False)
        return self._commit_of(*self._with_checkpoint(works, parts), True)

    def _with_checkpoint(self, works: list[TapeWork], parts: list[tuple[TapeWork, bytes, int]]) -> tuple[
            list[tuple[TapeWork, bytes, int]], bytes]:
        done = {id(work): before for work, _, before in parts}
        out = [encode(Checkpoint(len(works)))]
        for work in works:
            out.append(work.checkpoint(done.get(id(work), work.log_bytes)))
            work.declared = True
            if id(work) not in done and work.core.has_open_row:
                parts.append((work, self._writer.record(work.core), 0))
        out.append(encode(CheckpointEnd()))
        return parts, b"".join(out)

    def _commit_of(self, parts: list[tuple[TapeWork, bytes, int]], lead: bytes, checkpoint: bool) -> Commit:
        blob, rows = [lead], {}
        for work, data, _ in parts:
            blob += [encode(On(work.ident.tape)) if work.declared else encode(work.ident), data]
            work.declared = True
            rows[work.ident.tape] = work.core.next_row + work.core.has_open_row
        sealed, self._sealed = self._sealed, []
        return Commit(b"".join(blob), checkpoint, rows, sealed)

    def _keep_loop(self) -> None:
        while not self._stop.is_set() and not self.failed:
            self.keep_once()
            self._wake_keeper.wait(KEEP_S)
            self._wake_keeper.clear()

    def keep_once(self) -> None:
        """One round of the keeper."""
        if self.failed:
            return
        try:
            self.volume.check_mounted()
            while self._keeper_calls:
                self._keeper_calls.popleft()()
            self._keeper.keep_once()
        except OSError as error:
            self._fail(error)

    def silent_s(self) -> float:
        """How long the disk has not answered a write or a commit that is under way. Any thread."""
        began = [since for since in (self._pass_ns, self._committer.since_ns) if since]
        return (self._clock.mono_ns() - min(began)) / 1e9 if began else 0.0

    def give_up(self, error: OSError) -> None:
        """The volume has failed for a reason that this slot has not met itself. Any thread."""
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.failed:
            return
        self.failed = True
        self._wake_keeper.set()
        if isinstance(error, OSError):
            self._on_event(VolumeFailed(self.volume.path, error.strerror or str(error), error.errno or 0))
        else:
            self._on_event(SlotBroken(self.volume.path, "".join(traceback.format_exception(error))))

    # The end

    def close(self) -> None:
        """Last commit; every track without an open gap gets one of cause `stopped`. The volume stays open. Safe to call twice.

        Of a volume that has failed a call may never come back: then its threads and descriptors stay (`closed` is False), to be tried again.
        """
        if self.closed:
            return
        self._stop.set()
        self._wake_keeper.set()
        for thread in self._threads:
            thread.join(HUNG_S if self.failed else None)
        if not self._committer.wait(HUNG_S if self.failed else None) or any(thread.is_alive() for thread in self._threads):
            return
        self._threads.clear()
        self.whole_pages = False
        try:
            if not self.failed:
                self._finish()
        except OSError as error:
            self._fail(error)
        self._release()

    @property
    def closed(self) -> bool:
        """True when nothing of it is open."""
        return self._lock_fd < 0

    def _release(self) -> None:
        """Close every descriptor."""
        if self._commit is not None:
            self._commit.close()
        if self._keep is not None:
            self._keep.close()
        self._ledger.close()
        self._rules.close()
        self._journal.close()
        for work in self._works.values():
            work.close_files()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
        self._lock_fd = -1

    def _finish(self) -> None:
        stuck, before = 0, -1
        while stuck < DRAIN_TRIES and not self.failed and any(work.busy for work in self._works.values()):
            self.pass_once()
            self.keep_once()
            taken = sum(work.core.taken for work in self._works.values())
            stuck, before = (stuck + 1 if taken == before else 0), taken
        now_ns = self._clock.wall_ns()
        for work in self._works.values():
            work.stop(now_ns)
        self._committer.wait()
        commit = self._build(checkpoint=True)
        if commit is not None and not self.failed:
            self._built += 1
            self._committer.submit(commit)
            self._committer.wait()
