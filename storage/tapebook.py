"""A tape's books: its chunks, what is written down about it, and how it is read back while it grows."""

import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from recorder._ext.tapewriter import TapeCore
from recorder.base.config import DAYS, RetentionRule
from recorder.base.media import SampleEntry
from recorder.base.rulebook import Keep
from storage.chunkfile import ChunkHead
from storage.disk import close_all, open_direct, write_at
from storage.erasure import Past
from storage.items import (
    ChunkTaken,
    Deletion,
    GapOpen,
    Item,
    SampleEntryItem,
    SessionStart,
    TailMove,
    Tape,
    TapeFlag,
    TapeState,
    encode,
)
from storage.layout import FOOTER_HEAD, LARGE, ROW, class_of
from storage.lostrows import LostRows
from storage.pool import Prepared
from storage.rings import IndexWriter, row_is
from storage.steps import Step, step

MOVES_KEPT = 4096       # a tail moves each 20 s at most, a chunk lasts 15 min
QUICK_NS = 600_000_000_000
FOOTER_START = FOOTER_HEAD.itemsize


@dataclass(slots=True)
class OpenChunk:
    """The chunk a tape writes into. `items`: what its footer will hold besides rows and entries."""

    number: int
    fd: int
    direct_fd: int                  # past the page cache, -1: none
    generation: int
    first_row: int
    frames_off: int
    opened_ns: int                  # CLOCK_MONOTONIC
    items: list[bytes] = field(default_factory=list)
    entries: set[int] = field(default_factory=set)      # sample entries among the items
    past: Past | None = None        # what its file still holds of deleted chunks beyond what has been written


@dataclass(frozen=True, slots=True)
class ClosedChunk:
    """A chunk that waits to be sealed: [first_row, end_row), entries [frames_off, frames_end), `used` bytes of tape."""

    number: int
    fd: int
    generation: int
    first_row: int
    end_row: int
    frames_off: int
    frames_end: int
    used: int
    items: bytes
    past: Past | None = None


@dataclass(frozen=True, slots=True)
class StandIn:
    """For the heads of chunks [first, after) that have none; `asked`: the chunk before which all are closed, and the tape's safe row."""

    asked: tuple[int, int]
    first: int
    after: int
    head: ChunkHead | None


class TapeBook:
    """Books of one tape. All methods: the writer's thread, unless they say otherwise; OSError means that the volume has failed."""

    def __init__(self, ident: Tape, core: TapeCore, ring: IndexWriter, frames: IndexWriter, log_fd: int, state: TapeState,
                 now: Callable[[], tuple[int, int]], lost: LostRows) -> None:
        self.ident, self.core, self.ring, self.frames, self._log_fd, self.lost = ident, core, ring, frames, log_fd, lost
        self.chunk_class = class_of(ident.kind)
        self._now = now                     # (UTC, CLOCK_MONOTONIC)
        self.keep = Keep(state.rule_days, "recorded")   # how long its rows stay
        self.bytes_max = state.rule_bytes               # of this track alone, where no rule book says more; 0: no limit
        self.moves: deque[TailMove] = deque(maxlen=MOVES_KEPT)    # by which chunks that still lie here went out of sight
        self.detached = bool(state.flags & TapeFlag.DETACHED)
        self.stopped = False
        self.log_bytes = self._recorded_log_bytes = state.log_bytes
        self.sample_entries: dict[SampleEntry, int] = {}
        self.gap: GapOpen | None = None
        self.session: SessionStart | None = None
        self.next_session = state.session + 1
        self._current = 0                   # sample entry of the AUs at hand
        self.pending: list[bytes] = []      # items for the next record
        self.chunk: OpenChunk | None = None
        self.next_chunk: Prepared | None = None     # the keeper puts one here
        self.handing = threading.Lock()     # one of the two takes it away: the writer, or the keeper from a detached tape
        self.closed: deque[ClosedChunk] = deque()
        self.first_chunk = state.first_chunk
        self.first_head: ChunkHead | None = None    # the keeper's: what it has read of the oldest chunk, once that is sealed
        self.stand_in: StandIn | None = None        # the keeper's: what damaged chunks' heads would say
        self.next_number = -(-state.tape_end // self.chunk_class.tape_bytes)
        self.safe_row = state.next_row      # rows below are in sealed, durable chunks
        self.declared = False               # the journal knows its name
        self.to_mark: tuple[int, bytes] | None = None   # recovery: the open chunk's head page, once all below is durable
        self.quick = False                  # its last chunk filled within the time that stale footage may lie in the pool

    # Chunks

    def switch(self) -> bool:
        """Go on in the chunk that the keeper has prepared; False if there is none."""
        with self.handing:
            if self.next_chunk is None:
                return False
            self._go_to(self.next_chunk)
            self.next_chunk = None      # last: the keeper prepares another once it is gone, and that must be the one after it
        step(Step.SWITCHED)
        return True

    def _go_to(self, prepared: Prepared) -> None:
        if self.chunk is not None:
            self._retire_chunk(self.chunk)
        first_row = self.core.next_row + self.core.has_open_row
        head, kind = prepared.head, self.chunk_class
        direct_fd = self._open_direct(prepared.fd)
        self.chunk = OpenChunk(prepared.number, prepared.fd, direct_fd, head.generation, first_row, self.core.entries_end, self._now()[1],
                               past=prepared.past)
        self.next_number = prepared.number + 1
        self.core.set_chunk(prepared.fd, prepared.number * kind.tape_bytes, 0, b"", kind.inner_bytes, kind.inner_count, kind.footer_bytes,
                            FOOTER_START, 0)
        self.core.set_direct(direct_fd)
        self.pending.append(encode(ChunkTaken(prepared.number, head.generation, first_row, self.core.entries_end)))
        self._begin_footer(self.chunk)

    def _open_direct(self, fd: int) -> int:
        """The open chunk past the page cache; -1 for a class whose pieces are too small to gain by it."""
        return open_direct(fd) if self.chunk_class is LARGE else -1

    def go_on(self, chunk: OpenChunk) -> None:
        """Recovery: write on in this chunk, which the core has been set to."""
        chunk.direct_fd = self._open_direct(chunk.fd)
        self.chunk = chunk
        self.core.set_direct(chunk.direct_fd)

    def _begin_footer(self, chunk: OpenChunk) -> None:
        for entry, number in self.sample_entries.items():
            if number == self._current:
                self._footer_entry(chunk, number, entry)
        for item in (self.session, self.gap):
            if item is not None:
                self._footer(encode(item))

    def _footer_entry(self, chunk: OpenChunk, number: int, entry: SampleEntry) -> None:
        if number not in chunk.entries:
            chunk.entries.add(number)
            self._footer(encode(SampleEntryItem(number, entry)))

    def _footer(self, data: bytes) -> None:
        if self.chunk is not None:
            self.chunk.items.append(data)
            self.core.add_items_bytes(len(data))

    def _retire_chunk(self, chunk: OpenChunk) -> None:
        end_row = self.core.next_row + self.core.has_open_row
        self.quick = self._now()[1] - chunk.opened_ns < QUICK_NS
        self.closed.append(ClosedChunk(chunk.number, chunk.fd, chunk.generation, chunk.first_row, end_row, chunk.frames_off,
                                       self.core.entries_end, self.core.used, b"".join(chunk.items), chunk.past))
        self.core.set_direct(-1)
        close_all(chunk.direct_fd)
        self.chunk = None

    def close_chunk(self) -> None:
        """Close the open chunk now; no row may be open."""
        if self.chunk is not None:
            self._retire_chunk(self.chunk)
            self.core.drop_chunk()

    def close_by_time(self, mono_ns: int, limit_ns: int) -> None:
        """Close the chunk if it has been open for long and holds something: at once between rows, else at the next AU."""
        if self.chunk is None or self.core.used == 0 or mono_ns - self.chunk.opened_ns < limit_ns:
            return
        if self.core.has_open_row:
            self.core.want_close()
        else:
            self.close_chunk()

    def set_rule(self, rule: RetentionRule) -> None:
        """What its camera says, until a rule book says more. Any thread."""
        self.keep, self.bytes_max = Keep(rule.days or DAYS, "camera", rule.days_min), rule.bytes_max

    def move_tail(self, move: TailMove) -> None:
        """Rows below it may be read no more."""
        self.core.move_tail(move.row, move.offset)
        self.moves.append(move)
        self.pending.append(encode(move))
        step(Step.TAIL_MOVED)

    def give_up(self, deletion: Deletion) -> None:
        """A chunk whose rows all lie below the tail leaves the track."""
        self.pending.append(encode(deletion))
        self.first_chunk = deletion.chunk + 1
        while self.moves and self.moves[0].row <= deletion.first_row + deletion.rows:
            self.moves.popleft()

    def passed_by(self, end_row: int) -> TailMove | None:
        """The tail move that took the row before `end_row` out of sight, as far as it is known. Any thread."""
        return next((move for move in list(self.moves) if move.row >= end_row), None)

    def holds(self, number: int) -> bool:
        """True if chunk `number` belongs to the tape."""
        newest = self.chunk.number if self.chunk is not None else self.next_number - 1
        return self.first_chunk <= number <= newest

    def close_files(self) -> None:
        """Close every descriptor of the tape."""
        os.close(self._log_fd)
        if self.chunk is not None:
            close_all(self.chunk.fd, self.chunk.direct_fd)
        for waiting in (*self.closed, self.next_chunk):
            if waiting is not None:
                os.close(waiting.fd)
        self.ring.close()
        self.frames.close()

    # Books

    def note(self, item: Item, *, footer: bool = True) -> None:
        """Write an item down: in the next record, in the log, in the open chunk's footer."""
        data = encode(item)
        self.pending.append(data)
        write_at(self._log_fd, data, self.log_bytes)
        self.log_bytes += len(data)
        self.core.set_log_bytes(self.log_bytes)
        if footer:
            self._footer(data)

    def set_log(self, log_bytes: int, recorded: int) -> None:
        """The log's length now, and at the last record."""
        self.log_bytes, self._recorded_log_bytes = log_bytes, recorded

    def take_pending(self) -> tuple[bytes, int]:
        """The items for the record that is being made, and how long the log was at the record before."""
        data, before = b"".join(self.pending), self._recorded_log_bytes
        self.pending.clear()
        self._recorded_log_bytes = self.log_bytes
        return data, before

    def checkpoint(self, log_bytes: int) -> bytes:
        """Everything about the tape that is still open, as items; `log_bytes` as `take_pending` of the same record returned it."""
        chunk = self.chunk
        flags = (TapeFlag.IN_SESSION if self.session else 0) | (TapeFlag.DETACHED if self.detached else 0) | (
            TapeFlag.STOPPED if self.stopped else 0)
        core = self.core
        state = TapeState(
            core.next_row, core.tape_end, core.entries_end, core.tail_row, core.tail_offset, core.end_ns, log_bytes,
            self.first_chunk, chunk.number if chunk else -1, chunk.generation if chunk else 0, chunk.first_row if chunk else 0,
            chunk.frames_off if chunk else 0, self.next_session - 1, self.bytes_max, self.keep.days, int(flags), core.provisional_row)
        out: list[Item] = [self.ident, state]
        out += [SampleEntryItem(number, entry) for entry, number in self.sample_entries.items()]
        out += [item for item in (self.session, self.gap) if item is not None]
        return b"".join(encode(item) for item in out)

    def row(self, number: int) -> bytes | None:
        """A closed row's 64 bytes, from the ring, the live file, or else its chunk's footer; None if none has it. Any thread."""
        raw = self.ring_row(number)
        return raw if raw is not None or number >= self.core.next_row else self.lost.row(number)

    def ring_row(self, number: int) -> bytes | None:
        """The same, from the ring or the live file. Any thread."""
        raw = self.ring.read(number, 1) if number < self.core.ring_rows else self.core.row(number)
        if raw is None or not row_is(raw, number):
            raw = self.ring.read(number, 1)
        return raw if row_is(raw, number) else None

    def entry_bytes(self, start: int, stop: int) -> bytes:
        """Entry bytes [start, stop), from the frames ring and the live file. Any thread."""
        middle = min(max(self.core.frames_end, start), stop)
        recent = self.core.live_bytes(middle, stop)
        if recent is None:
            middle, recent = stop, b""
        return self.frames.read(start, middle - start) + recent

    def _check(self, failed: int) -> None:
        if failed:
            raise OSError(failed, os.strerror(failed))


def row_end_ns(row: bytes) -> int:
    """UTC end of a row's 64 bytes."""
    t_ns = int.from_bytes(row[:8], "little", signed=True)
    return t_ns + int.from_bytes(row[28:32], "little") * 1000


assert ROW.fields is not None and ROW.fields["wall_dur_us"][1] == 28
