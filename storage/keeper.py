"""The slot's housekeeper: chunks ahead of the tapes, sealing behind them, retention, quarantine, pool, journal segments, rings that grow.

One thread (or `keep_once` in tests). It never touches what the writer owns: it prepares, and hands over through `call`, which runs on the
writer's thread before its next pass.
"""

import errno
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Concatenate, ParamSpec

from recorder.base.clock import Clock
from recorder.base.errors import FormatError
from recorder.base.media import DeletionCause
from storage import seal
from storage.disk import PastCache
from storage.erasure import Deleted, Erasure
from storage.events import NotSealed, SlotEvent, Starved
from storage.hold import Hold
from storage.holdkeeper import Kept, SlotHolds
from storage.items import ChunkSealed, encode
from storage.journal import Journal
from storage.layout import CLASSES, LARGE, PAGE, ROWS_PER_PAGE, ChunkClass, track_path
from storage.ledger import Ledger
from storage.minutebook import MinuteBook
from storage.minutes import ODD
from storage.pool import STALE_NS, Pool
from storage.retainer import Retainer, RetainerDesk, Rules
from storage.rings import IndexWriter, is_full
from storage.steps import Step, step
from storage.tapebook import ClosedChunk
from storage.tapework import TapeWork
from storage.volume import Volume
from storage.zarrmeta import extend_shape

P = ParamSpec("P")

RETENTION_NS = 20_000_000_000
ZERO_NS = 200_000_000
SEAL_NS = 400_000_000   # of a round of KEEP_S: twice what 125 MB/s need
RATE_NS = 120_000_000_000
AHEAD_S = 30.0
RETIRED_AT_ONCE = 32    # in a round of KEEP_S: 500 cameras of 4 Mbit/s take 16 chunks a second
GROW_ROWS = 8192        # rows and entry bytes that may come before the next look
GROW_FRAMES = 512 << 10
LOOK_ROWS = 64          # rows and entry bytes that must have come before another look is worth it
LOOK_FRAMES = 32 << 10


@dataclass(frozen=True, slots=True)
class Desk:
    """What the keeper needs of its slot."""

    volume: Volume
    clock: Clock
    journal: Journal
    pool: Pool
    works: Callable[[], list[TapeWork]]
    call: Callable[[Callable[[], None]], None]
    next_epoch: Callable[[], int]       # the writer's thread: number of the record that it builds next
    acknowledged: Callable[[], int]
    sealed: Callable[[TapeWork, int], None]     # the writer's thread
    on_event: Callable[[SlotEvent], None]
    rules: Rules
    holds: SlotHolds
    ledger: Ledger
    erasure: Erasure
    free_min: float
    sharers: Callable[[], int]
    last_ns: int


class Keeper:
    """See the module. OSError means that the volume has failed."""

    def __init__(self, desk: Desk, *, close_s: float) -> None:
        self._desk = desk
        self._close_ns = round(close_s * 1e9)
        self._retainer = Retainer(RetainerDesk(desk.volume, desk.clock, desk.pool, desk.call, desk.next_epoch, desk.acknowledged, desk.on_event,
                                               desk.rules, desk.holds, desk.ledger, desk.erasure, desk.last_ns))
        self._sealing: set[int] = set()
        self._seal_first = 0        # the track that the next round looks at first
        self._takes: dict[int, deque[int]] = {c.number: deque() for c in CLASSES}
        self._starved: set[int] = set()
        self._reader = PastCache()
        self._minutes = MinuteBook(desk.volume)
        self._retention_ns = 0
        self._growing: set[int] = set()
        self._looked: dict[int, tuple[int, int]] = {}   # by tape: next row and end of entries when its rings were looked at last
        self._cached: list[tuple[int, int]] = []    # sealed chunks' descriptors, and the record after which their pages may go

    def keep_once(self) -> None:
        """Everything that is due now."""
        mono_ns = self._desk.clock.mono_ns()
        works = self._desk.works()
        self._desk.holds.sync(works, self._retainer.tail_row)
        self._by_time(works, mono_ns)
        self._seal(works)
        self._let_go()
        self._desk.ledger.settle()
        self._retainer.finish(mono_ns)
        self._desk.pool.clear_due(mono_ns)
        if mono_ns - self._retention_ns >= RETENTION_NS or self._retention_ns == 0:
            self._desk.pool.look(self._desk.free_min, self._desk.sharers())
            self._retention_ns = mono_ns if self._retainer.by_rule(works) else 0
            for work in works:
                self._figures(self._minutes.forget, work)
            self._desk.holds.look(works)
        self._retainer.collect(works)
        self._desk.holds.tidy(works, self._retainer.busy())
        self._shrink(works)
        for work in works:
            self._serve(work, works, mono_ns)
        for kind in CLASSES:
            self._top_up(kind, works, mono_ns)
        self._desk.journal.prepare()
        if not self._desk.ledger.behind:
            self._desk.journal.recycle({work.ident.tape: work.safe_row for work in works})
        self._grow(works)
        self._zero()

    # Ahead

    def _serve(self, work: TapeWork, works: list[TapeWork], mono_ns: int) -> None:
        """Put a chunk ready for the tape if it will need one soon."""
        if work.detached:
            self._take_back(work, mono_ns)
            return
        kind = work.chunk_class
        half = work.core.used * 2 >= kind.tape_bytes
        if work.next_chunk is not None:
            self._clean(work, mono_ns)
        if not work.attached or work.next_chunk is not None or not (work.chunk is None or half or work.starved):
            return
        number = work.next_number
        extend_shape(self._desk.volume.dir_fd, work.ident.camera, work.ident.name, number + 1)
        pool = self._desk.pool
        if not pool.free(kind) and pool.room(kind):
            pool.make(kind, mono_ns, filled=False)
        prepared = pool.take(kind, work.ident.camera, work.ident.name, number, mono_ns, slow=_slow(work, mono_ns))
        if prepared is not None:
            work.next_chunk = prepared
            self._takes[kind.number].append(mono_ns)
            self._starved.discard(work.ident.tape)
        else:
            self._make_room(kind, works)
            if work.starved and work.ident.tape not in self._starved:
                self._starved.add(work.ident.tape)
                self._desk.on_event(Starved(work.ident.camera, work.ident.name))

    def _take_back(self, work: TapeWork, mono_ns: int) -> None:
        """A detached tape needs no chunk any more."""
        with work.handing:      # a tape that is attached again since may be about to write into it
            if not work.detached:
                return
            prepared, work.next_chunk = work.next_chunk, None
        if prepared is not None:
            os.close(prepared.fd)
            path = f"{track_path(work.ident.camera, work.ident.name)}/c/{prepared.number}"
            self._desk.pool.retire(path, work.chunk_class, mono_ns, prepared.past)

    def _clean(self, work: TapeWork, mono_ns: int) -> None:
        """Footage that should be gone lies in a chunk that its track does not come to, since the camera fell silent: overwrite it now."""
        prepared = work.next_chunk
        if prepared is None or prepared.past is None or mono_ns - prepared.since_ns < STALE_NS:
            return
        with work.handing:
            if work.next_chunk is not prepared:
                return          # the writer has begun it
            work.next_chunk = None
        work.next_chunk = self._desk.pool.clean(prepared, work.chunk_class)

    def _make_room(self, kind: ChunkClass, works: list[TapeWork]) -> None:
        """See that at least as many files of the class are on their way to the pool as tapes wait for one."""
        waiting = sum(w.chunk_class is kind and w.attached and w.next_chunk is None for w in works)
        if self._coming(kind) < max(1, waiting) and not self._retainer.retire_oldest(kind, works, DeletionCause.ROOM):
            other = CLASSES[1 - kind.number]
            if not self._desk.pool.unlink_one(other) and not self._coming(other):
                self._retainer.retire_oldest(other, works, DeletionCause.ROOM)

    def _coming(self, kind: ChunkClass) -> int:
        return self._desk.pool.coming(kind) + self._retainer.coming(kind)

    def _top_up(self, kind: ChunkClass, works: list[TapeWork], mono_ns: int) -> None:
        """Keep the supply of the time that a file needs to come round (quarantine and a reserve): made while there is room, else retired."""
        takes = self._takes[kind.number]
        while takes and mono_ns - takes[0] > RATE_NS:
            takes.popleft()
        pool = self._desk.pool
        seconds = min(pool.quarantine_ns / 1e9 + AHEAD_S, 600.0)
        wanted = -(-len(takes) * round(seconds * 1e9) // RATE_NS)
        missing = wanted - pool.free(kind) - self._coming(kind)
        if missing <= 0:
            return
        if pool.room(kind):
            if pool.free(kind) * RATE_NS < len(takes) * round(AHEAD_S * 1e9):
                pool.make(kind, mono_ns, filled=True)
            return
        self._retainer.retire_oldest(kind, works, DeletionCause.ROOM, min(missing, RETIRED_AT_ONCE))

    def _shrink(self, works: list[TapeWork]) -> None:
        """One file less while the slot has more than it may; what a tape waits for is not taken."""
        pool = self._desk.pool
        for kind in CLASSES if pool.surplus else ():
            waiting = sum(w.chunk_class is kind and w.attached and w.next_chunk is None for w in works)
            if pool.free(kind) > waiting and pool.unlink_one(kind):
                return
            cause = DeletionCause.FREE if pool.crowded else DeletionCause.ROOM
            if self._coming(kind) == 0 and self._retainer.retire_oldest(kind, works, cause):
                return

    def _zero(self) -> None:
        """Overwrite stale files, for a part of the time only: recording needs the disk too."""
        start_ns = self._desk.clock.mono_ns()
        while self._desk.clock.mono_ns() - start_ns < ZERO_NS and self._desk.pool.zero_stale(start_ns):
            pass

    # Behind

    def _by_time(self, works: list[TapeWork], mono_ns: int) -> None:
        due = [w for w in works if w.chunk is not None and mono_ns - w.chunk.opened_ns >= self._close_ns]
        for work in due:
            self._desk.call(lambda work=work: work.close_by_time(mono_ns, self._close_ns))  # type: ignore[misc]

    def _seal(self, works: list[TapeWork]) -> None:
        """Closed chunks, track by track, for a part of the time only: after a start hundreds may wait, and tracks need their next chunks."""
        start_ns, first = self._desk.clock.mono_ns(), self._seal_first
        for number, work in enumerate([*works[first:], *works[:first]], first + 1):
            if work.closed and work.ident.tape not in self._sealing and seal.ready(work, work.closed[0]):
                self._seal_one(work, work.closed[0])
                if self._desk.clock.mono_ns() - start_ns > SEAL_NS:
                    self._seal_first = number % len(works)
                    return

    def _seal_one(self, work: TapeWork, chunk: ClosedChunk) -> None:
        try:
            seal.seal(work, chunk, self._reader)
            self._figures(self._minutes.sealed, work, chunk)
        except FormatError as error:
            self._desk.on_event(NotSealed(work.ident.camera, work.ident.name, chunk.number, str(error)))
        self._desk.erasure.overwritten(chunk.past)
        self._sealing.add(work.ident.tape)
        self._desk.call(lambda: self._sealed(work, chunk))

    def _figures(self, call: Callable[Concatenate[TapeWork, P], None], work: TapeWork, *args: P.args, **kwargs: P.kwargs) -> None:
        """Figures by the minute, unless the disk has no room for them or something else lies there: readers compute what they do not find."""
        try:
            call(work, *args, **kwargs)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT, *ODD}:
                raise

    def _sealed(self, work: TapeWork, chunk: ClosedChunk) -> None:
        """The writer's thread: the rings hold every row, the next record says that the footer does too."""
        failed = work.core.flush_rings()
        if failed:
            raise OSError(failed, os.strerror(failed))
        work.pending.append(encode(ChunkSealed(chunk.number, chunk.end_row)))
        self._desk.sealed(work, chunk.end_row)
        work.closed.popleft()
        self._cached.append((chunk.fd, self._desk.next_epoch()))
        self._sealing.discard(work.ident.tape)

    def _let_go(self, *, at_once: bool = False) -> None:
        """Sealed chunks that are durable leave the page cache: reclaiming their pages later costs more, and what is read is read again."""
        for entry in list(self._cached):
            fd, epoch = entry
            if at_once or epoch <= self._desk.acknowledged():
                seal.drop_cache(fd)
                os.close(fd)
                self._cached.remove(entry)

    def hold_room(self, hold: Hold) -> None:
        """Conflict if the budget does not bear the hold."""
        self._desk.holds.room(hold, self._desk.works())

    def hold(self, hold: Hold) -> list[Kept]:
        """Hold from now on, durably; what was found of each track."""
        works = self._desk.works()
        found = self._desk.holds.take(hold, works, self._retainer.tail_row)
        self._desk.holds.look(works)
        return found

    def erased(self, chunks: list[Deleted]) -> None:
        """Nothing is left of these deleted chunks."""
        self._retainer.erased(self._desk.works(), chunks)

    def close(self) -> None:
        """Close what is open."""
        self._let_go(at_once=True)

    # Rings

    def _grow(self, works: list[TapeWork]) -> None:
        """Begin to enlarge a ring that is nearly full."""
        for work in works:
            if work.ident.tape in self._growing:
                continue
            work.ring.let_go()
            work.frames.let_go()
            core = work.core
            rows, entries = self._looked.get(work.ident.tape, (-LOOK_ROWS, 0))
            if core.next_row - rows < LOOK_ROWS and core.entries_end - entries < LOOK_FRAMES:
                continue        # where its entries begin takes a row to read
            self._looked[work.ident.tape] = core.next_row, core.entries_end
            if is_full(core.next_row - core.tail_row + GROW_ROWS, work.ring.capacity):
                self._enlarge(work, work.ring, core.tail_row // ROWS_PER_PAGE * ROWS_PER_PAGE)
            elif is_full(core.entries_end - _first_entry(work) + GROW_FRAMES, work.frames.capacity):
                self._enlarge(work, work.frames, _first_entry(work) // PAGE * PAGE)

    def _enlarge(self, work: TapeWork, ring: IndexWriter, start: int) -> None:
        """Enlarge the file itself while nothing has gone round; else copy what begins at `start` into a larger one."""
        capacity = ring.larger()
        if ring.extends(_end(work, ring)):
            ring.allocate(capacity)
            change = partial(self._extend, work, ring, capacity)
        else:
            stop = work.core.frames_end if ring.frames else work.core.ring_rows
            first_row = work.core.tail_row
            fd = ring.make(f"{ring.path}.new", first_row, capacity)
            ring.copy_to(fd, capacity, start, stop)
            os.fsync(fd)        # before the name changes over: what the disk has under it is then always a ring
            change = partial(self._replace, work, ring, fd, capacity, first_row, stop)
        step(Step.RING_GROWN)
        self._growing.add(work.ident.tape)
        self._desk.call(change)

    def _extend(self, work: TapeWork, ring: IndexWriter, capacity: int) -> None:
        """The writer's thread: the ring is larger from now on, unless it has gone round meanwhile."""
        if ring.extends(_end(work, ring)):
            ring.extend(capacity)
            self._changed(work)
        self._growing.discard(work.ident.tape)

    def _replace(self, work: TapeWork, ring: IndexWriter, fd: int, capacity: int, first_row: int, stop: int) -> None:
        """The writer's thread: add what has come since the copy ended at `stop`, and change over."""
        end = work.core.frames_end if ring.frames else work.core.ring_rows
        ring.copy_to(fd, capacity, stop, end)
        ring.adopt(fd, capacity, first_row)
        self._changed(work)
        self._growing.discard(work.ident.tape)

    def _changed(self, work: TapeWork) -> None:
        work.core.set_rings(work.ring.fd, work.ring.capacity, work.frames.fd, work.frames.capacity)
        work.core.flush_rings()


def _slow(work: TapeWork, mono_ns: int) -> bool:
    """Whether footage that is to be gone would lie for too long in the chunk that the tape takes next.

    Video that waits for it never is: its sessions end when it falls silent, and a chunk ends by time.
    """
    chunk, waits = work.chunk, work.chunk is None or work.starved
    if waits and work.chunk_class is LARGE:
        return False
    return not (work.quick or (chunk is not None and 2 * (mono_ns - chunk.opened_ns) < STALE_NS))


def _end(work: TapeWork, ring: IndexWriter) -> int:
    """Position after everything that the ring holds, or will once what is in the live file has come to it."""
    return work.core.entries_end if ring.frames else work.core.next_row + work.core.has_open_row


def _first_entry(work: TapeWork) -> int:
    """Position of the oldest entry that may be read."""
    row = work.row(work.core.tail_row) if work.core.tail_row < work.core.next_row else None
    return int.from_bytes(row[48:56], "little") if row is not None else work.core.frames_end
