"""One tape on the writer's thread: commands in order with the AUs, and what happens when a track meets something rare."""

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import ClassVar

from recorder._ext import tapewriter
from recorder._ext.auqueue import AuQueue
from recorder._ext.tapewriter import TapeCore
from recorder.base.config import RetentionRule
from recorder.base.media import AuFlag, GapCause, SampleEntry, SenderReport
from storage.events import AusRefused, SlotEvent
from storage.items import (
    ClockEpoch,
    GapClose,
    GapOpen,
    SampleEntryItem,
    SessionEnd,
    SessionStart,
    Tape,
    TapeState,
)
from storage.lostrows import LostRows
from storage.rings import IndexWriter
from storage.tapebook import TapeBook, row_end_ns

REPORT_NS = 60_000_000_000      # sender reports are kept at most so often, and the first of each session
NO_ROW = (1 << 64) - 1
NO_QUEUE_BYTES = 4096           # of a queue that nobody fills
HOLE_NS = 10_000_000            # less is no gap: rounding of rows' ends (storage/timeline.py says the same)
ENTRY_CONFIG_MAX = 16 << 10     # of a sample entry: a footer holds dozens, so that no camera can fill chunks with parameter sets
ENTRIES_MAX = 1024              # of a tape: a checkpoint of many cameras that all lie stays in one record
FIRST = "nothing has been recorded yet"
REFUSED_FORMAT = "its parameter sets change more often, or are larger, than any camera needs"


class TapeWork(TapeBook):
    """A tape on the writer's thread. All methods: that thread, unless they say otherwise; OSError means that the volume has failed."""

    def __init__(self, ident: Tape, core: TapeCore, ring: IndexWriter, frames: IndexWriter, log_fd: int, state: TapeState,
                 on_event: Callable[[SlotEvent], None], now: Callable[[], tuple[int, int]], lost: LostRows) -> None:
        super().__init__(ident, core, ring, frames, log_fd, state, now, lost)
        self._on_event = on_event
        core.owner = self
        self.queue: AuQueue | None = None   # commands are ordered by it, also before the writer has turned to it
        self.describe: Callable[[int], SampleEntry | None] = lambda _: None
        self._gap_ends_at_row = False       # the gap's end waits for its first row to be published
        self._own_gaps: list[GapOpen | GapClose] = []   # gaps between provisional rows, the same
        self._report_ns = 0
        self.attached = False
        self.starved = False
        self._lock = threading.Lock()
        self._commands: deque[tuple[int, Callable[[], None]]] = deque()

    # Commands, from any thread

    def post(self, call: Callable[[], None], *, at_once: bool = False) -> None:
        """Run `call` on the writer's thread once the AUs that are in the queue now have been taken (`at_once`: or none of them). Any thread."""
        with self._lock:
            head = tapewriter.queue_head(self.queue) if self.queue is not None and not at_once else 0
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
            if code == tapewriter.CHUNK and not self.switch():
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
        if not number:
            return self._refuse()
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

    def _refuse(self) -> bool:
        """The AU at hand is of one format too many, or of too large a one: it is let go, and the gap says so. True: the track goes on."""
        known = self.gap is not None and self.gap.detail == REFUSED_FORMAT
        self.open_gap(GapCause.UNSUPPORTED, None, REFUSED_FORMAT)
        self.core.skip()
        if not known:
            self._on_event(AusRefused(self.ident.camera, self.ident.name, 1, REFUSED_FORMAT))
        return True

    def _entry_number(self, entry: SampleEntry) -> int:
        """The entry's number, a new one if need be; 0 if it is too large or the tape has too many (every checkpoint holds them all)."""
        number = self.sample_entries.get(entry, 0)
        if not number:
            if len(entry.config) > ENTRY_CONFIG_MAX or len(self.sample_entries) >= ENTRIES_MAX:
                return 0
            number = len(self.sample_entries) + 1
            self.sample_entries[entry] = number
            self.note(SampleEntryItem(number, entry), footer=False)
        return number

    def _on_gap_close(self) -> None:
        """The AU at hand is the clean access point that ends the open gap."""
        au = self.core.peek()
        if au is None:
            return
        if self.gap is None:
            self.core.close_gap(0)
        elif au[1] & AuFlag.PROVISIONAL:
            self._gap_ends_at_row = True
            self.core.close_gap(self._gap_floor())
        else:
            self._end_gap(max(au[0], self.core.end_ns, self._gap_floor()))

    def _gap_floor(self) -> int:
        """Footage may not lie before the open gap; but it may before a new track's first one: buffered, or of an imported file."""
        return 0 if self.gap is None or self.gap.detail == FIRST else self.gap.start_ns

    def _end_gap(self, end_ns: int) -> None:
        if self.gap is not None:
            start_ns = self.gap.start_ns
            self.note(GapClose(start_ns, end_ns if end_ns - start_ns > HOLE_NS else start_ns))
        self.gap = None
        self._gap_ends_at_row = False
        self.core.close_gap(end_ns)

    def _on_gap(self) -> None:
        """The AU at hand says that footage is missing right before it."""
        au = self.core.peek()
        self._check(self.core.close_row())
        start_ns = self.core.end_ns
        if au is None or au[0] - start_ns <= HOLE_NS:
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

    def begin_session(self, start: SessionStart, au_session: int | None = None) -> None:
        """A session begins: its AUs, which bear the number `au_session` (None: the same), may come."""
        if self.session is not None:
            self.end_session(self.session.session, start.start_ns, "superseded")
        if self.gap is None and self.core.end_ns:
            self.open_gap(GapCause.OFFLINE)
        if self.gap is not None and self.gap.detail == FIRST:
            self.open_gap(GapCause.NO_KEYFRAME, None, FIRST)
        self.session = start
        self.next_session = max(self.next_session, start.session + 1)
        self._report_ns = 0
        self._check(self.core.begin_session(start.session, au_session))
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
        floor = self._gap_floor() or self._end_before(number)
        shift_ns, failed = self.core.publish(shift_ns, floor)
        self._check(failed)
        for item in self._own_gaps:
            self.note(GapOpen(item.start_ns + shift_ns, item.cause) if isinstance(item, GapOpen)
                      else GapClose(item.start_ns + shift_ns, item.end_ns + shift_ns))
        self._own_gaps = []
        if self._gap_ends_at_row:
            raw = self.core.row(number) if number < self.core.next_row else self.core.open_row()
            if raw is not None and self.gap is not None:
                self._end_gap(max(int.from_bytes(raw[:8], "little", signed=True), self._gap_floor()))

    def _end_before(self, number: int) -> int:
        """UTC end of the row before `number`, 0 if there is none."""
        raw = self.row(number - 1) if number else None
        return row_end_ns(raw) if raw is not None else 0

    def open_gap(self, cause: GapCause, start_ns: int | None = None, detail: str = "") -> None:
        """Footage is missing from `start_ns`, or the open gap has another cause: from `start_ns` on if that is given, else altogether."""
        self._check(self.core.close_row())
        if self.gap is not None and not self._gap_ends_at_row:
            told = self.gap.detail != FIRST          # what kept the first footage away is known only now
            if told and start_ns is not None and start_ns > self.gap.start_ns and cause != self.gap.cause:
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

    def come_from(self, end_ns: int, cause: GapCause, detail: str) -> None:
        """The track was recorded on another volume up to `end_ns`; from then on footage is missing until the first comes here."""
        if self.gap is None or self.gap.detail != FIRST or end_ns >= self.gap.start_ns:
            self.open_gap(cause, end_ns, detail)
            return
        self.note(GapClose(self.gap.start_ns, self.gap.start_ns))
        self.gap = GapOpen(end_ns, cause, detail)
        self.note(self.gap)
        self.core.reach(end_ns)

    def seam(self) -> tuple[int, int]:
        """The AU of the queue with which begins what is not durable row by row, and `kept_ns`; never reads the disk. Any thread."""
        number = self.core.durable[1]
        au = self.core.began(number)
        return au if au is not None else NO_ROW, self.kept_ns(number)

    def part(self) -> tuple[int, int]:
        """Take no more from the queue; the session goes on elsewhere. The seam."""
        self._check(self.core.close_row())
        found = self.seam()
        if self.session is not None:
            self.end_session(self.session.session, max(self.core.end_ns, self.session.start_ns), "it goes on on another volume")
        with self._lock:
            self.core.bind(AuQueue(NO_QUEUE_BYTES, 1))
            self.queue = None
            self._commands = deque((0, call) for _, call in self._commands)     # they waited for AUs that are not taken here
        return found

    def kept_ns(self, number: int | None = None) -> int:
        """UTC end of the newest closed row that is durable, else where the oldest that is not begins; never reads the disk. Any thread.

        `number`: of the first row that is not."""
        number = self.core.durable[1] if number is None else number
        raw = self.core.row(number - 1) if number else None
        if raw is not None:
            return row_end_ns(raw)
        first = self.core.row(number) if number < self.core.next_row else self.core.open_row()
        return int.from_bytes(first[:8], "little", signed=True) if first is not None else self.core.end_ns

    def _await_first(self) -> None:
        """From now on footage is expected of a new track. What a camera had buffered may be older than that: then the gap has no length."""
        self.gap = GapOpen(self._now()[0], GapCause.OFFLINE, FIRST)
        self.note(self.gap)
        self._check(self.core.open_gap())

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

    def come(self, start: SessionStart, au_session: int, kept_ns: int, cause: GapCause, detail: str) -> None:
        """The track comes from another tape in the midst of a session, before anything is taken from its queue."""
        self.come_from(kept_ns, cause, detail)
        self.begin_session(start, au_session)

    def attach(self, queue: AuQueue, rule: RetentionRule, describe: Callable[[int], SampleEntry | None]) -> None:
        """AUs come from `queue` from now on."""
        self.core.bind(queue)
        self.set_rule(rule)
        self.describe, self.detached, self.stopped = describe, False, False
        if self.gap is None and not self.core.end_ns:
            self._await_first()

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
