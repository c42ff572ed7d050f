"""What the journal says of the slot's tapes: records in, one `Found` per tape out. No file is touched here."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from recorder._ext.crc32c import crc32c
from recorder._ext.replay import TapeRun, plain
from recorder.base.media import DeletionCause, RowFlag, SampleEntry, SenderReport
from storage.items import (
    Checkpoint,
    CheckpointEnd,
    ChunkSealed,
    ChunkTaken,
    ClockEpoch,
    Deletion,
    EntriesItem,
    Erased,
    GapClose,
    GapOpen,
    Item,
    On,
    OpenRowItem,
    RowItem,
    SampleEntryItem,
    SessionEnd,
    SessionStart,
    TailMove,
    Tape,
    TapeFlag,
    TapeState,
    decode,
    decode_at,
    encode,
)
from storage.layout import ChunkClass, class_of

EMPTY = TapeState(0, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 31.0, 0, (1 << 64) - 1)
LOGGED = (SampleEntryItem, SessionStart, SessionEnd, GapOpen, GapClose, ClockEpoch, SenderReport)


@dataclass(frozen=True, slots=True)
class RowView:
    """The fields of a row's 64 bytes that recovery needs."""

    raw: bytes

    def _u(self, at: int, size: int) -> int:
        return int.from_bytes(self.raw[at:at + size], "little")

    @property
    def t_ns(self) -> int:
        """Start, UTC."""
        return int.from_bytes(self.raw[:8], "little", signed=True)

    @property
    def offset(self) -> int:
        """Tape offset."""
        return self._u(16, 8)

    @property
    def size(self) -> int:
        """Bytes on the tape."""
        return self._u(24, 4)

    @property
    def end_ns(self) -> int:
        """End, UTC."""
        return self.t_ns + self._u(28, 4) * 1000

    @property
    def aus(self) -> int:
        """AUs in it."""
        return self._u(36, 2)

    @property
    def flags(self) -> int:
        """RowFlag."""
        return self._u(38, 2)

    @property
    def frames_off(self) -> int:
        """Position of its entries."""
        return self._u(48, 8)

    @property
    def session(self) -> int:
        """The session it was recorded in."""
        return self._u(44, 4)

    @property
    def data_crc(self) -> int:
        """CRC-32C of its bytes."""
        return self._u(56, 4)

    def settled(self, number: int) -> bytes:
        """The same row closed and published, as row `number`."""
        flags = self.flags & ~(RowFlag.OPEN | RowFlag.PROVISIONAL)
        body = self.raw[:38] + flags.to_bytes(2, "little") + self.raw[40:60]
        return body + crc32c(number.to_bytes(8, "little") + body).to_bytes(4, "little")


@dataclass(slots=True)
class FoundChunk:
    """A chunk that the journal knows as taken and not yet as sealed."""

    taken: ChunkTaken
    items: list[bytes] = field(default_factory=list)
    end: ChunkTaken | None = None       # where its rows end, if the tape does not go on in it


@dataclass(slots=True)
class Found:
    """A tape as far as the journal has told; later the result of recovery."""

    ident: Tape
    state: TapeState = EMPTY
    rows: dict[int, bytes] = field(default_factory=dict)            # closed, of chunks that are not sealed
    entries: list[tuple[int, bytes]] = field(default_factory=list)
    open_row: tuple[int, bytes] | None = None
    chunks: dict[int, FoundChunk] = field(default_factory=dict)     # by number, rising
    sealed: dict[int, tuple[FoundChunk, dict[int, bytes]]] = field(default_factory=dict)    # with their rows: a seal can be taken back
    sample_entries: dict[int, SampleEntry] = field(default_factory=dict)
    gap: GapOpen | None = None
    session: SessionStart | None = None
    log: list[tuple[int, bytes]] = field(default_factory=list)
    moves: list[TailMove] = field(default_factory=list)
    ledger: list[Deletion | Erased] = field(default_factory=list)   # what the ledger must hold
    salvaged: bool = False                                          # its footers know rows that the journal does not
    fresh: dict[int, bytes] = field(default_factory=dict)           # rows for the record that ends recovery
    fresh_entries: list[tuple[int, bytes]] = field(default_factory=list)
    fresh_items: list[Item] = field(default_factory=list)

    @property
    def chunk_class(self) -> ChunkClass:
        """The class of its chunks."""
        return class_of(self.ident.kind)

    def apply(self, item: Item, *, checkpoint: bool) -> None:
        """Take one item in. Applying a record twice changes nothing."""
        if isinstance(item, RowItem):
            self.add_row(item.number, item.row)
        elif isinstance(item, OpenRowItem):
            self.open_row = (item.number, item.row)
            self._grow(item.row, item.number)
        elif isinstance(item, EntriesItem):
            self.entries.append((item.position, item.data))
            self.state = replace(self.state, entries_end=max(self.state.entries_end, item.position + len(item.data)))
        elif isinstance(item, TapeState):
            self._apply_state(item)
        elif isinstance(item, ChunkTaken):
            self._take(item)
            self._grow_to(item.chunk * self.chunk_class.tape_bytes)
        elif isinstance(item, ChunkSealed):
            self._seal(item)
        elif isinstance(item, TailMove):
            self.moves.append(item)
            self.state = replace(self.state, tail_row=max(self.state.tail_row, item.row),
                                 tail_offset=max(self.state.tail_offset, item.offset))
        elif isinstance(item, Erased):
            self.ledger.append(item)
        elif isinstance(item, Deletion):
            if item.cause is not DeletionCause.HELD:
                self.ledger.append(item)
            self.state = replace(self.state, first_chunk=max(self.state.first_chunk, item.chunk + 1))
        else:
            self._apply_fact(item)
            if isinstance(item, LOGGED) and not checkpoint:
                self.log_item(item)

    def add_run(self, run: TapeRun) -> None:
        """Take in what a run of plain items adds up to."""
        found = run.take()
        if found is None:
            return
        rows, entries, told, open_row, closed, next_row, tape_end, entries_end, end_ns = found
        self.rows |= rows
        self.entries += entries
        if told:
            self.open_row = open_row
        elif self.open_row is not None and self.open_row[0] < closed:
            self.open_row = None
        state = self.state
        self.state = replace(state, next_row=max(state.next_row, next_row), tape_end=max(state.tape_end, tape_end),
                             entries_end=max(state.entries_end, entries_end), end_ns=max(state.end_ns, end_ns))

    def add_row(self, number: int, row: bytes) -> None:
        """A closed row."""
        self.rows[number] = row
        if self.open_row is not None and self.open_row[0] <= number:
            self.open_row = None
        self._grow(row, number + 1)
        self.state = replace(self.state, end_ns=max(self.state.end_ns, RowView(row).end_ns))

    def _grow(self, row: bytes, next_row: int) -> None:
        self.state = replace(self.state, next_row=max(self.state.next_row, next_row))
        self._grow_to(RowView(row).offset + RowView(row).size)

    def _grow_to(self, offset: int) -> None:
        self.state = replace(self.state, tape_end=max(self.state.tape_end, offset))

    def _apply_state(self, state: TapeState) -> None:
        self.state = replace(state, next_row=max(state.next_row, self.state.next_row), tape_end=max(state.tape_end, self.state.tape_end),
                             entries_end=max(state.entries_end, self.state.entries_end))
        if state.open_chunk >= 0 and state.open_chunk not in self.chunks:
            self.chunks[state.open_chunk] = FoundChunk(
                ChunkTaken(state.open_chunk, state.generation, state.chunk_first_row, state.chunk_frames_off))
        if not state.flags & TapeFlag.IN_SESSION:
            self.session = None
        self.gap = None         # the checkpoint names it again if it is still open

    def _take(self, item: ChunkTaken) -> None:
        """A chunk begins; or one that had been sealed is not, because a recovery did not find its pages on the disk for certain."""
        chunk, rows = self.sealed.pop(item.chunk, (FoundChunk(item), {}))
        self.chunks[item.chunk] = FoundChunk(item, chunk.items)
        self.rows |= rows

    def _seal(self, item: ChunkSealed) -> None:
        chunk = self.chunks.pop(item.chunk, None)
        first = min((c.taken.first_row for c in self.chunks.values()), default=item.end_row)
        rows = {number: self.rows.pop(number) for number in [n for n in self.rows if n < first]}
        if chunk is not None:
            self.sealed[item.chunk] = (chunk, rows)

    def _apply_fact(self, item: Item) -> None:
        if isinstance(item, SampleEntryItem):
            self.sample_entries[item.number] = item.entry
        elif isinstance(item, SessionStart):
            self.session = item
            self.state = replace(self.state, session=max(self.state.session, item.session))
        elif isinstance(item, SessionEnd):
            self.session = None
        elif isinstance(item, GapOpen):
            self.gap = item
        elif isinstance(item, GapClose):
            if self.gap is not None and self.gap.start_ns == item.start_ns:
                self.gap = None
            self.state = replace(self.state, end_ns=max(self.state.end_ns, item.end_ns))

    def log_item(self, item: Item) -> None:
        """An item that stands in the log, at its end so far, and in the newest chunk's footer."""
        data = encode(item)
        self.log.append((self.state.log_bytes, data))
        self.state = replace(self.state, log_bytes=self.state.log_bytes + len(data))
        if self.chunks:
            self.chunks[max(self.chunks)].items.append(data)


class Replay:
    """The slot's tapes from its records, in order. What a kernel has added up is in `tapes` after `settle`."""

    def __init__(self) -> None:
        self.tapes: dict[int, Found] = {}
        self.segment_rows: dict[int, dict[int, int]] = {}       # per segment, per tape: number after the highest row named
        self._runs: dict[int, TapeRun] = {}
        self._segment = 0

    def apply(self, segment: int, items: bytes) -> None:
        """Take a whole, trusted record in."""
        if segment != self._segment:
            self._name_rows()
            self._segment = segment
        at = 0
        while (at := plain(items, at, self._runs)) < len(items):
            at = self._section(segment, items, at)

    def settle(self) -> None:
        """Let `tapes` and `segment_rows` hold everything that has been taken in."""
        self._name_rows()
        for tape, run in self._runs.items():
            self.tapes[tape].add_run(run)

    def _name_rows(self) -> None:
        for tape, run in self._runs.items():
            self._note(self._segment, tape, run.named())

    def _section(self, segment: int, items: bytes, at: int) -> int:
        """The items from `at` to the next `On` that stands in no checkpoint, one by one; the position there."""
        on: Found | None = None
        checkpoint, begin = False, at
        for after, item in decode_at(items, at=at, where="journal"):
            if isinstance(item, On) and not checkpoint and at > begin:
                return at
            checkpoint = isinstance(item, Checkpoint) or (checkpoint and not isinstance(item, CheckpointEnd))
            if isinstance(item, Tape | On):
                on = self._turn_to(item)
            elif on is not None and not isinstance(item, Checkpoint | CheckpointEnd):
                self.note_row(segment, on, item)
                on.apply(item, checkpoint=checkpoint)
            at = after
        return len(items)

    def _turn_to(self, item: Tape | On) -> Found | None:
        """The tape, made if the item declares it, with all that the kernel has added up; None if its declaration cannot be read any more."""
        if isinstance(item, Tape):
            self._runs.setdefault(item.tape, TapeRun())
            self.tapes.setdefault(item.tape, Found(item))
        found = self.tapes.get(item.tape)
        if found is not None:
            found.add_run(self._runs[item.tape])
        return found

    def walk(self, items: bytes) -> Iterator[tuple[Found, Item, bool]]:
        """Every item that belongs to a tape, with the tape, and whether it stands in a checkpoint. Makes tapes that are new."""
        on: Found | None = None
        checkpoint = False
        for item in decode(items, where="journal"):
            if isinstance(item, Checkpoint):
                checkpoint = True
            elif isinstance(item, CheckpointEnd):
                checkpoint = False
            elif isinstance(item, Tape):
                on = self.tapes.setdefault(item.tape, Found(item))
            elif isinstance(item, On):
                on = self.tapes.get(item.tape)      # None: the record that declared it cannot be read any more
            elif on is not None:
                yield on, item, checkpoint

    def note_row(self, segment: int, found: Found, item: Item) -> None:
        """Remember which rows the segment speaks of."""
        if isinstance(item, RowItem | OpenRowItem):
            self._note(segment, found.ident.tape, item.number + 1)

    def _note(self, segment: int, tape: int, after: int) -> None:
        if after:
            rows = self.segment_rows.setdefault(segment, {})
            rows[tape] = max(rows.get(tape, 0), after)
