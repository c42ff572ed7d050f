"""One tape on the writer's thread: what happens when a track meets something rare, and what is written down about it."""

import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from recorder._ext import tapewriter
from recorder._ext.auqueue import AuQueue
from recorder._ext.tapewriter import TapeCore
from recorder.base.config import RetentionRule
from recorder.base.media import AuFlag, GapCause, SampleEntry, SenderReport
from storage.disk import write_at
from storage.events import AusRefused, SlotEvent
from storage.items import (
    ChunkTaken,
    ClockEpoch,
    Deletion,
    GapClose,
    GapOpen,
    Item,
    SampleEntryItem,
    SessionEnd,
    SessionStart,
    TailMove,
    Tape,
    TapeFlag,
    TapeState,
    encode,
)
from storage.layout import ROW, class_of
from storage.pool import Prepared
from storage.rings import IndexWriter, row_is
from storage.steps import Step, step

REPORT_NS = 60_000_000_000      # sender reports are kept at most so often, and the first of each session
NO_ROW = (1 << 64) - 1


@dataclass(slots=True)
class OpenChunk:
    """The chunk a tape writes into. `items`: what its footer will hold besides rows and entries."""

    number: int
    fd: int
    generation: int
    first_row: int
    frames_off: int
    opened_ns: int                  # CLOCK_MONOTONIC
    items: list[bytes] = field(default_factory=list)
    entries: set[int] = field(default_factory=set)      # sample entries among the items


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


class TapeWork:
    """A tape's books. All methods: the writer's thread, unless they say otherwise; OSError means that the volume has failed."""

    def __init__(self, ident: Tape, core: TapeCore, ring: IndexWriter, frames: IndexWriter, log_fd: int, state: TapeState,
                 on_event: Callable[[SlotEvent], None], now: Callable[[], tuple[int, int]]) -> None:
        self.ident, self.core, self.ring, self.frames, self._log_fd = ident, core, ring, frames, log_fd
        self.chunk_class = class_of(ident.kind)
        self._on_event, self._now = on_event, now
        core.owner = self
        self.queue: AuQueue | None = None   # commands are ordered by it, also before the writer has turned to it
        self.describe: Callable[[int], SampleEntry | None] = lambda _: None
        self.rule = RetentionRule(state.rule_days, state.rule_bytes)
        self.detached = bool(state.flags & TapeFlag.DETACHED)
        self.stopped = False
        self.log_bytes = self._recorded_log_bytes = state.log_bytes
        self.sample_entries: dict[SampleEntry, int] = {}
        self.gap: GapOpen | None = None
        self._gap_ends_at_row = False       # the gap's end waits for its first row to be published
        self._own_gaps: list[GapOpen | GapClose] = []   # gaps between provisional rows, the same
        self.session: SessionStart | None = None
        self.next_session = state.session + 1
        self._report_ns = 0
        self._current = 0
        self.pending: list[bytes] = []      # items for the next record
        self.chunk: OpenChunk | None = None
        self.next_chunk: Prepared | None = None     # the keeper puts one here
        self.closed: deque[ClosedChunk] = deque()
        self.first_chunk = state.first_chunk
        self.next_number = -(-state.tape_end // self.chunk_class.tape_bytes)
        self.safe_row = state.next_row
        self.attached = False
        self.declared = False               # the journal knows its name
        self.to_mark: tuple[int, bytes] | None = None   # recovery: the open chunk's head page, once all below is durable
        self.starved = False
        self.quick = False                  # its last chunk filled within the time that stale footage may lie in the pool
        self._lock = threading.Lock()
        self._commands: deque[tuple[int, Callable[[], None]]] = deque()

    # Commands, from any thread

    def post(self, call: Callable[[], None]) -> None:
        """Run `call` on the writer's thread once the AUs that are in the queue now have been taken. Any thread."""
        with self._lock:
            head = tapewriter.queue_head(self.queue) if self.queue is not None else 0
            self._commands.append((head, call))
            if len(self._commands) == 1:
                self.core.hold(head)

    def run_commands(self) -> None:
        """Run the commands that are due."""
        while True:
            with self._lock:
                if not self._commands:
                    self.core.unhold()
                    return
                if self._commands[0][0] > self.core.taken:
                    self.core.hold(self._commands[0][0])
                    return
                _, call = self._commands.popleft()
            call()

    def attend(self, code: int) -> bool:
        """Do what the pass asks for and let the track go on; True if it still waits for a chunk."""
        while code:
            if code < 0:
                raise OSError(-code, os.strerror(-code))
            if code == tapewriter.CHUNK and not self._switch():
                self.starved = True
                return True
            if code == tapewriter.FORMAT and not self._format():
                return False
            handler = self._HANDLERS.get(code)
            if handler is not None:
                handler(self)
            code = self.core.take()
        self.starved = False
        return False

    # What the pass asks for

    def _on_session(self) -> None:
        """An AU of a session that nobody announced."""
        au = self.core.peek()
        if au is not None:
            self.begin_session(SessionStart(au[3], au[0], ""))

    def _format(self) -> bool:
        """Find the sample entry of the AU at hand; False if nobody knows it yet (half a full queue of such AUs is let go)."""
        au = self.core.peek()
        if au is None:
            return False
        entry = self.describe(au[4])
        if entry is None:
            return self._let_go()
        number = self._entry_number(entry)
        self._current = number
        if self.chunk is not None:
            self._footer_entry(self.chunk, number, entry)
        self.core.set_format(au[4], number)
        return True

    def _let_go(self) -> bool:
        waiting = self.core.waiting_share
        if waiting < 0.5:
            return False
        count = 0
        while self.core.waiting_share > 0.25:
            self.core.skip()
            count += 1
        self._on_event(AusRefused(self.ident.camera, self.ident.name, count, "their format is not known"))
        return False

    def _entry_number(self, entry: SampleEntry) -> int:
        number = self.sample_entries.get(entry, 0)
        if not number:
            number = len(self.sample_entries) + 1
            if number > 0xFFFF:
                raise OSError(27, f"cam-{self.ident.camera}/{self.ident.name} has had 65,535 sample entries")
            self.sample_entries[entry] = number
            self.note(SampleEntryItem(number, entry), footer=False)
        return number

    def _footer_entry(self, chunk: OpenChunk, number: int, entry: SampleEntry) -> None:
        if number not in chunk.entries:
            chunk.entries.add(number)
            self._footer(encode(SampleEntryItem(number, entry)))

    def _on_gap_close(self) -> None:
        """The AU at hand is the clean access point that ends the open gap."""
        au = self.core.peek()
        if au is None:
            return
        if self.gap is None:
            self.core.close_gap(0)
        elif au[1] & AuFlag.PROVISIONAL:
            self._gap_ends_at_row = True
            self.core.close_gap(self.gap.start_ns)
        else:
            self._end_gap(max(au[0], self.core.end_ns, self.gap.start_ns))

    def _end_gap(self, end_ns: int) -> None:
        if self.gap is not None:
            self.note(GapClose(self.gap.start_ns, end_ns))
        self.gap = None
        self._gap_ends_at_row = False
        self.core.close_gap(end_ns)

    def _on_gap(self) -> None:
        """The AU at hand says that footage is missing right before it."""
        au = self.core.peek()
        self._check(self.core.close_row())
        start_ns = self.core.end_ns
        if au is None or au[0] <= start_ns:
            return
        cause = GapCause(au[2]) if au[2] <= max(GapCause) else GapCause.LOSS
        gap: list[GapOpen | GapClose] = [GapOpen(start_ns, cause), GapClose(start_ns, au[0])]
        if au[1] & AuFlag.PROVISIONAL:
            self._own_gaps += gap
            return
        for item in gap:
            self.note(item)

    def _on_room(self) -> None:
        """The AU at hand is larger than a chunk."""
        self.open_gap(GapCause.OVERLOAD, None, "an access unit larger than a chunk")
        self.core.skip()
        self._on_event(AusRefused(self.ident.camera, self.ident.name, 1, "larger than a chunk"))

    def _on_publish(self) -> None:
        self.publish(self.core.session, 0)

    _HANDLERS: ClassVar[dict[int, Callable[["TapeWork"], None]]] = {
        tapewriter.SESSION: _on_session, tapewriter.GAP_CLOSE: _on_gap_close, tapewriter.GAP: _on_gap, tapewriter.ROOM: _on_room,
        tapewriter.COMMAND: run_commands, tapewriter.PUBLISH: _on_publish}

    # Sessions, gaps, evidence

    def begin_session(self, start: SessionStart) -> None:
        """A session begins: its AUs may come."""
        if self.session is not None:
            self.end_session(self.session.session, start.start_ns, "superseded")
        if self.gap is None and self.core.end_ns:
            self.open_gap(GapCause.OFFLINE)
        self.session = start
        self.next_session = max(self.next_session, start.session + 1)
        self._report_ns = 0
        self._check(self.core.begin_session(start.session))
        self.note(start)

    def end_session(self, session: int, end_ns: int, reason: str) -> None:
        """The session has ended; what of it was provisional stays where it is."""
        if self.session is None or self.session.session != session:
            return
        self._check(self.core.close_row())
        self.publish(session, 0)
        self.note(SessionEnd(session, end_ns, reason))
        self.session = None

    def publish(self, session: int, shift_ns: int) -> None:
        """Rows of the session that are provisional get their place for good."""
        number = self.core.provisional_row
        if number == NO_ROW or session != self.core.session:
            return
        floor = self.gap.start_ns if self.gap is not None else self._end_before(number)
        shift_ns, failed = self.core.publish(shift_ns, floor)
        self._check(failed)
        for item in self._own_gaps:
            self.note(GapOpen(item.start_ns + shift_ns, item.cause) if isinstance(item, GapOpen)
                      else GapClose(item.start_ns + shift_ns, item.end_ns + shift_ns))
        self._own_gaps = []
        if self._gap_ends_at_row:
            raw = self.core.row(number) if number < self.core.next_row else self.core.open_row()
            if raw is not None and self.gap is not None:
                self._end_gap(max(int.from_bytes(raw[:8], "little", signed=True), self.gap.start_ns))

    def _end_before(self, number: int) -> int:
        """UTC end of the row before `number`, 0 if there is none."""
        raw = self.row(number - 1) if number else None
        return row_end_ns(raw) if raw is not None else 0

    def open_gap(self, cause: GapCause, start_ns: int | None = None, detail: str = "") -> None:
        """Footage is missing from `start_ns`, or the open gap has another cause: from `start_ns` on if that is given, else altogether."""
        self._check(self.core.close_row())
        if self.gap is not None and not self._gap_ends_at_row:
            if start_ns is not None and start_ns > self.gap.start_ns and cause != self.gap.cause:
                self.note(GapClose(self.gap.start_ns, start_ns))
                self.core.reach(start_ns)
                self.gap = GapOpen(start_ns, cause, detail)
                self.note(self.gap)
            elif (self.gap.cause, self.gap.detail) != (cause, detail):
                self.gap = GapOpen(self.gap.start_ns, cause, detail)
                self.note(self.gap)
            return
        self.publish(self.core.session, 0)
        end_ns = self.core.end_ns
        start_ns = max(start_ns if start_ns is not None else end_ns or self._now()[0], end_ns)
        self.gap = GapOpen(start_ns, cause, detail)
        self.note(self.gap)
        self._check(self.core.open_gap())
        self.core.reach(start_ns)

    def sender_report(self, report: SenderReport) -> None:
        """Keep a sender report as evidence, thinned."""
        if self._report_ns == 0 or report.arrival_ns - self._report_ns >= REPORT_NS:
            self._report_ns = report.arrival_ns
            self.note(report)

    def clock_epoch(self, epoch: ClockEpoch) -> None:
        """Our clock was stepped."""
        self.note(epoch)

    def resume_gap(self, gap: GapOpen) -> None:
        """Recovery: this gap is open; the next kept AU ends it."""
        self.gap = gap
        self._check(self.core.open_gap())
        self.core.reach(gap.start_ns)

    # Beginning and end

    def attach(self, queue: AuQueue, rule: RetentionRule, describe: Callable[[int], SampleEntry | None]) -> None:
        """AUs come from `queue` from now on."""
        self.core.bind(queue)
        self.rule, self.describe, self.detached, self.stopped = rule, describe, False, False

    def detach(self) -> None:
        """The camera was removed: close everything; no footage is expected, so no gap."""
        if self.session is not None:
            self.end_session(self.session.session, max(self.core.end_ns, self.session.start_ns), "removed")
        self._check(self.core.close_row())
        self.close_chunk()
        self.detached, self.attached = True, False

    def stop(self, now_ns: int) -> None:
        """The slot is being closed in order."""
        if self.session is not None:
            self.end_session(self.session.session, max(now_ns, self.session.start_ns), "stopped")
        self._check(self.core.close_row())
        if self.gap is None and self.core.end_ns and not self.detached:
            self.open_gap(GapCause.STOPPED)
        self._check(self.core.flush_rings())
        self.stopped = True

    @property
    def busy(self) -> bool:
        """True while AUs or commands wait that the next pass may take."""
        return bool(self._commands) or self.core.taken < self.core.au_head

    def holds(self, number: int) -> bool:
        """True if chunk `number` belongs to the tape."""
        newest = self.chunk.number if self.chunk is not None else self.next_number - 1
        return self.first_chunk <= number <= newest

    def close_files(self) -> None:
        """Close every descriptor of the tape."""
        fds = [self._log_fd, *(c.fd for c in self.closed)]
        fds += [self.chunk.fd] if self.chunk is not None else []
        fds += [self.next_chunk.fd] if self.next_chunk is not None else []
        for fd in fds:
            os.close(fd)
        self.ring.close()
        self.frames.close()

    # Chunks

    def _switch(self) -> bool:
        """Go on in the chunk that the keeper has prepared; False if there is none."""
        prepared, self.next_chunk = self.next_chunk, None
        if prepared is None:
            return False
        if self.chunk is not None:
            self._retire_chunk(self.chunk)
        first_row = self.core.next_row + self.core.has_open_row
        head, kind = prepared.head, self.chunk_class
        self.chunk = OpenChunk(prepared.number, prepared.fd, head.generation, first_row, self.core.entries_end, self._now()[1])
        self.next_number = prepared.number + 1
        self.core.set_chunk(prepared.fd, prepared.number * kind.tape_bytes, 0, b"", kind.inner_bytes, kind.inner_count, kind.footer_bytes,
                            FOOTER_START, 0)
        self.pending.append(encode(ChunkTaken(prepared.number, head.generation, first_row, self.core.entries_end)))
        self._begin_footer(self.chunk)
        step(Step.SWITCHED)
        return True

    def _begin_footer(self, chunk: OpenChunk) -> None:
        for entry, number in self.sample_entries.items():
            if number == self._current:
                self._footer_entry(chunk, number, entry)
        for item in (self.session, self.gap):
            if item is not None:
                self._footer(encode(item))

    def _footer(self, data: bytes) -> None:
        if self.chunk is not None:
            self.chunk.items.append(data)
            self.core.add_items_bytes(len(data))

    def _retire_chunk(self, chunk: OpenChunk) -> None:
        end_row = self.core.next_row + self.core.has_open_row
        self.quick = self._now()[1] - chunk.opened_ns < 600_000_000_000
        self.closed.append(ClosedChunk(chunk.number, chunk.fd, chunk.generation, chunk.first_row, end_row, chunk.frames_off,
                                       self.core.entries_end, self.core.used, b"".join(chunk.items)))
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

    def move_tail(self, row: int, offset: int, start_ns: int, deletions: list[Deletion]) -> None:
        """Rows below `row` may be read no more; `deletions` are the chunks that go with them."""
        self.core.move_tail(row, offset)
        self.pending.append(encode(TailMove(row, offset, start_ns)))
        for deletion in deletions:
            self.pending.append(encode(deletion))
            self.first_chunk = deletion.chunk + 1
        step(Step.TAIL_MOVED)

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
            chunk.frames_off if chunk else 0, self.next_session - 1, self.rule.bytes_max, self.rule.days, int(flags), core.provisional_row)
        out: list[Item] = [self.ident, state]
        out += [SampleEntryItem(number, entry) for entry, number in self.sample_entries.items()]
        out += [item for item in (self.session, self.gap) if item is not None]
        return b"".join(encode(item) for item in out)

    def row(self, number: int) -> bytes | None:
        """A closed row's 64 bytes, from the ring or the live file; None if it is not there. Any thread."""
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


FOOTER_START = 24


def row_end_ns(row: bytes) -> int:
    """UTC end of a row's 64 bytes."""
    t_ns = int.from_bytes(row[:8], "little", signed=True)
    return t_ns + int.from_bytes(row[28:32], "little") * 1000


assert ROW.fields is not None and ROW.fields["wall_dur_us"][1] == 28
