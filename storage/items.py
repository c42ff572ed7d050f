"""Items: what the journal, the tracks' logs and the chunks' footers say, one codec for the three.

An item is a head (`layout.ITEM_HEAD`: kind, version, bytes of the body), a body, and zeros up to a multiple of 8. In the journal, items
that belong to a tape follow an `On` that selects it; logs and footers belong to one tape and hold none. Integers are little-endian; a
trailing text is UTF-8 without a length. A reader skips kinds it does not know: they cannot change the meaning of those it does.
"""

import enum
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from typing_extensions import Buffer

from recorder.base.errors import FormatError
from recorder.base.media import DeletionCause, GapCause, SampleEntry, SenderReport, TrackKind

ITEM_HEAD = struct.Struct("<HHI")
VERSION = 1
ITEM_MAX = 64 << 20     # of a body; a record is never larger


class Kind(enum.IntEnum):
    """Item kinds. The numbers are the format's."""

    ROW = 1
    OPEN_ROW = 2
    ENTRIES = 3
    SESSION_START = 4
    SESSION_END = 5
    SAMPLE_ENTRY = 6
    GAP_OPEN = 7
    GAP_CLOSE = 8
    CLOCK_EPOCH = 9
    SENDER_REPORT = 10
    TAIL_MOVE = 11
    DELETION = 12
    CHECKPOINT = 13
    TAPE = 14
    TAPE_STATE = 15
    ON = 16
    CHUNK_TAKEN = 17
    CHUNK_SEALED = 18
    CHECKPOINT_END = 19
    ERASED = 20
    HOLD = 32       # reserved: holds are written by a later version
    RELEASE = 33    # reserved


@dataclass(frozen=True, slots=True)
class RowItem:
    """A closed row (again, with its final time, when its session has been published)."""

    number: int
    row: bytes      # layout.ROW


@dataclass(frozen=True, slots=True)
class OpenRowItem:
    """The open row as far as its bytes were written when the record was made."""

    number: int
    row: bytes


@dataclass(frozen=True, slots=True)
class EntriesItem:
    """Entry bytes from `position` of the tape's endless space of entries."""

    position: int
    data: bytes


@dataclass(frozen=True, slots=True)
class SessionStart:
    """A session begins."""

    session: int
    start_ns: int
    transport: str


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """A session has ended; `reason` in a word."""

    session: int
    end_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class SampleEntryItem:
    """The tape's sample entry `number` (rows name it)."""

    number: int
    entry: SampleEntry


@dataclass(frozen=True, slots=True)
class GapOpen:
    """A gap begins, or (same start) the open gap's cause changes."""

    start_ns: int
    cause: GapCause
    detail: str = ""


@dataclass(frozen=True, slots=True)
class GapClose:
    """The gap that began at `start_ns` ends."""

    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class ClockEpoch:
    """Our wall clock was stepped by `step_ns`; it reads `wall_ns` after."""

    wall_ns: int
    step_ns: int


@dataclass(frozen=True, slots=True)
class TailMove:
    """Rows below `row` (tape offsets below `offset`, time before `start_ns`) may be read no more; since `time_ns`, because of `cause`.

    `why` is the rule in words.
    """

    row: int
    offset: int
    start_ns: int
    time_ns: int = 0
    cause: DeletionCause = DeletionCause.UNKNOWN
    why: str = ""


@dataclass(frozen=True, slots=True)
class Deletion:
    """Chunk `chunk` was retired with `rows` rows from `first_row`, [first_ns, end_ns), `nbytes` of footage.

    `time_ns`: when the last of them had become unreadable; `cause` and `why` are those of the tail move that did it.
    """

    chunk: int
    first_row: int
    rows: int
    first_ns: int
    end_ns: int
    nbytes: int = 0
    time_ns: int = 0
    cause: DeletionCause = DeletionCause.UNKNOWN
    why: str = ""


@dataclass(frozen=True, slots=True)
class Erased:
    """No byte of what the deleted chunk `chunk` held is on the volume any more, since `time_ns`."""

    chunk: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Up to `CheckpointEnd` all that is still open follows, of `tapes` tapes: Tape, TapeState, sample entries, open gap, open row."""

    tapes: int


@dataclass(frozen=True, slots=True)
class CheckpointEnd:
    """The checkpoint is whole."""


@dataclass(frozen=True, slots=True)
class Tape:
    """The slot's tape `tape`: a track of a camera. Selects it like `On`."""

    tape: int
    camera: int
    clock_rate: int
    kind: TrackKind
    name: str


@dataclass(frozen=True, slots=True)
class On:
    """The items that follow belong to tape `tape`."""

    tape: int


@dataclass(frozen=True, slots=True)
class ChunkTaken:
    """The tape goes on in `chunk`; its first row is `first_row`, its first entry at `frames_off`."""

    chunk: int
    generation: int
    first_row: int
    frames_off: int


@dataclass(frozen=True, slots=True)
class ChunkSealed:
    """`chunk` is sealed: its footer holds its rows, all below `end_row`, and their entries."""

    chunk: int
    end_row: int


@dataclass(frozen=True, slots=True)
class TapeState:
    """A tape's numbers at a checkpoint."""

    next_row: int           # closed rows so far
    tape_end: int           # tape offset of the next byte
    entries_end: int
    tail_row: int
    tail_offset: int
    end_ns: int
    log_bytes: int
    first_chunk: int        # oldest chunk that is not retired
    open_chunk: int         # -1: none
    generation: int         # of the open chunk
    chunk_first_row: int    # of the open chunk
    chunk_frames_off: int
    session: int            # newest; it goes on if flags say so
    rule_bytes: int
    rule_days: float
    flags: int              # TapeFlag
    provisional_row: int  # row number from which rows are provisional; 2^64-1 when none is


class TapeFlag(enum.IntFlag):
    """`TapeState.flags`."""

    IN_SESSION = 1
    DETACHED = 2            # the camera was removed: no footage is expected
    STOPPED = 4             # the slot was closed in order


Item = (RowItem | OpenRowItem | EntriesItem | SessionStart | SessionEnd | SampleEntryItem | GapOpen | GapClose | ClockEpoch
        | SenderReport | TailMove | Deletion | Erased | Checkpoint | CheckpointEnd | Tape | TapeState | On | ChunkTaken | ChunkSealed)

_U64 = struct.Struct("<Q")
_SESSION = struct.Struct("<IIq")
_ENTRY = struct.Struct("<HHHHIIB")
_GAP = struct.Struct("<qHH")
_TWO = struct.Struct("<qq")
_THREE = struct.Struct("<qqq")
_TAIL = struct.Struct("<QQq")
_DELETION = struct.Struct("<QQQqq")
_TAIL_WHY = struct.Struct("<qHH")
_DELETION_WHY = struct.Struct("<QqHH")
_ERASED = struct.Struct("<Qq")
_COUNT = struct.Struct("<Q")
_TAPE = struct.Struct("<IIIB3x")
_TAKEN = struct.Struct("<QQQQ")
_SEALED = struct.Struct("<QQ")
_STATE = struct.Struct("<QQQQQqQQqQQQIIQdQQ")
_KINDS = (TrackKind.VIDEO, TrackKind.AUDIO, TrackKind.METADATA)


def _pack_entry(item: SampleEntryItem) -> bytes:
    e = item.entry
    codec = e.codec.encode()
    return _ENTRY.pack(item.number, e.width, e.height, e.channels, e.clock_rate, e.sample_rate, len(codec)) + codec + e.config


def _pack_state(s: TapeState) -> bytes:
    return _STATE.pack(s.next_row, s.tape_end, s.entries_end, s.tail_row, s.tail_offset, s.end_ns, s.log_bytes, s.first_chunk,
                       s.open_chunk, s.generation, s.chunk_first_row, s.chunk_frames_off, s.session, 0, s.rule_bytes, s.rule_days,
                       s.flags, s.provisional_row)


_ENCODERS: dict[type, tuple[Kind, Callable[[Any], bytes]]] = {
    RowItem: (Kind.ROW, lambda i: _U64.pack(i.number) + i.row),
    OpenRowItem: (Kind.OPEN_ROW, lambda i: _U64.pack(i.number) + i.row),
    EntriesItem: (Kind.ENTRIES, lambda i: _U64.pack(i.position) + i.data),
    SessionStart: (Kind.SESSION_START, lambda i: _SESSION.pack(i.session, 0, i.start_ns) + i.transport.encode()),
    SessionEnd: (Kind.SESSION_END, lambda i: _SESSION.pack(i.session, 0, i.end_ns) + i.reason.encode()),
    SampleEntryItem: (Kind.SAMPLE_ENTRY, _pack_entry),
    GapOpen: (Kind.GAP_OPEN, lambda i: _GAP.pack(i.start_ns, i.cause, 0) + i.detail.encode()),
    GapClose: (Kind.GAP_CLOSE, lambda i: _TWO.pack(i.start_ns, i.end_ns)),
    ClockEpoch: (Kind.CLOCK_EPOCH, lambda i: _TWO.pack(i.wall_ns, i.step_ns)),
    SenderReport: (Kind.SENDER_REPORT, lambda i: _THREE.pack(i.ntp_ns, i.pts, i.arrival_ns)),
    TailMove: (Kind.TAIL_MOVE, lambda i: _TAIL.pack(i.row, i.offset, i.start_ns) + _TAIL_WHY.pack(i.time_ns, i.cause, 0) + i.why.encode()),
    Deletion: (Kind.DELETION, lambda i: _DELETION.pack(i.chunk, i.first_row, i.rows, i.first_ns, i.end_ns)
               + _DELETION_WHY.pack(i.nbytes, i.time_ns, i.cause, 0) + i.why.encode()),
    Erased: (Kind.ERASED, lambda i: _ERASED.pack(i.chunk, i.time_ns)),
    Checkpoint: (Kind.CHECKPOINT, lambda i: _COUNT.pack(i.tapes)),
    CheckpointEnd: (Kind.CHECKPOINT_END, lambda _: b""),
    Tape: (Kind.TAPE, lambda i: _TAPE.pack(i.tape, i.camera, i.clock_rate, _KINDS.index(i.kind)) + i.name.encode()),
    On: (Kind.ON, lambda i: _COUNT.pack(i.tape)),
    ChunkTaken: (Kind.CHUNK_TAKEN, lambda i: _TAKEN.pack(i.chunk, i.generation, i.first_row, i.frames_off)),
    ChunkSealed: (Kind.CHUNK_SEALED, lambda i: _SEALED.pack(i.chunk, i.end_row)),
    TapeState: (Kind.TAPE_STATE, _pack_state),
}


def encode(item: Item) -> bytes:
    """The item's bytes, a multiple of 8."""
    kind, pack = _ENCODERS[type(item)]
    body = pack(item)
    return ITEM_HEAD.pack(kind, VERSION, len(body)) + body + bytes(-len(body) % 8)


def _entry(b: bytes) -> SampleEntryItem:
    number, width, height, channels, clock_rate, sample_rate, length = _ENTRY.unpack_from(b)
    codec, config = b[_ENTRY.size:_ENTRY.size + length].decode(), b[_ENTRY.size + length:]
    return SampleEntryItem(number, SampleEntry(codec, config, clock_rate, width, height, channels, sample_rate))


def _session_start(b: bytes) -> SessionStart:
    session, _, start_ns = _SESSION.unpack_from(b)
    return SessionStart(session, start_ns, b[_SESSION.size:].decode())


def _session_end(b: bytes) -> SessionEnd:
    session, _, end_ns = _SESSION.unpack_from(b)
    return SessionEnd(session, end_ns, b[_SESSION.size:].decode())


def _gap_open(b: bytes) -> GapOpen:
    start_ns, cause, _ = _GAP.unpack_from(b)
    return GapOpen(start_ns, GapCause(cause), b[_GAP.size:].decode())


def _tail_move(b: bytes) -> TailMove:
    if len(b) == _TAIL.size:        # before it said why
        return TailMove(*_TAIL.unpack(b))
    row, offset, start_ns = _TAIL.unpack_from(b)
    time_ns, cause, _ = _TAIL_WHY.unpack_from(b, _TAIL.size)
    return TailMove(row, offset, start_ns, time_ns, DeletionCause(cause), b[_TAIL.size + _TAIL_WHY.size:].decode())


def _deletion(b: bytes) -> Deletion:
    if len(b) == _DELETION.size:
        return Deletion(*_DELETION.unpack(b))
    chunk, first_row, rows, first_ns, end_ns = _DELETION.unpack_from(b)
    nbytes, time_ns, cause, _ = _DELETION_WHY.unpack_from(b, _DELETION.size)
    why = b[_DELETION.size + _DELETION_WHY.size:].decode()
    return Deletion(chunk, first_row, rows, first_ns, end_ns, nbytes, time_ns, DeletionCause(cause), why)


def _tape(b: bytes) -> Tape:
    tape, camera, clock_rate, kind = _TAPE.unpack_from(b)
    return Tape(tape, camera, clock_rate, _KINDS[kind], b[_TAPE.size:].decode())


def _state(b: bytes) -> TapeState:
    v = _STATE.unpack_from(b)
    return TapeState(*v[:13], *v[14:])


_DECODERS: dict[int, Callable[[bytes], Item]] = {
    Kind.ROW: lambda b: RowItem(_U64.unpack_from(b)[0], b[8:72]),
    Kind.OPEN_ROW: lambda b: OpenRowItem(_U64.unpack_from(b)[0], b[8:72]),
    Kind.ENTRIES: lambda b: EntriesItem(_U64.unpack_from(b)[0], b[8:]),
    Kind.SESSION_START: _session_start,
    Kind.SESSION_END: _session_end,
    Kind.SAMPLE_ENTRY: _entry,
    Kind.GAP_OPEN: _gap_open,
    Kind.GAP_CLOSE: lambda b: GapClose(*_TWO.unpack_from(b)),
    Kind.CLOCK_EPOCH: lambda b: ClockEpoch(*_TWO.unpack_from(b)),
    Kind.SENDER_REPORT: lambda b: SenderReport(*_THREE.unpack_from(b)),
    Kind.TAIL_MOVE: _tail_move,
    Kind.DELETION: _deletion,
    Kind.ERASED: lambda b: Erased(*_ERASED.unpack_from(b)),
    Kind.CHECKPOINT: lambda b: Checkpoint(*_COUNT.unpack_from(b)),
    Kind.CHECKPOINT_END: lambda _: CheckpointEnd(),
    Kind.TAPE: _tape,
    Kind.TAPE_STATE: _state,
    Kind.ON: lambda b: On(*_COUNT.unpack_from(b)),
    Kind.CHUNK_TAKEN: lambda b: ChunkTaken(*_TAKEN.unpack_from(b)),
    Kind.CHUNK_SEALED: lambda b: ChunkSealed(*_SEALED.unpack_from(b)),
}


def decode(data: Buffer, *, where: str = "items") -> Iterator[Item]:
    """The items in `data`, in order; unknown kinds are skipped. FormatError where a head or body does not fit."""
    for _, item in decode_at(data, where=where):
        yield item


def decode_at(data: Buffer, *, at: int = 0, where: str = "items") -> Iterator[tuple[int, Item]]:
    """As `decode`, from byte position `at` on, each with the position after it."""
    view = memoryview(data).cast("B")
    end = len(view)
    while at < end:
        if end - at < ITEM_HEAD.size:
            raise FormatError(f"{end - at} bytes are no item", where=f"{where} at {at}")
        kind, version, size = ITEM_HEAD.unpack_from(view, at)
        start = at + ITEM_HEAD.size
        after = start + size + (-size % 8)
        if size > ITEM_MAX or after > end or version == 0:
            raise FormatError(f"item of kind {kind}, version {version}, {size} bytes does not fit", where=f"{where} at {at}")
        decoder = _DECODERS.get(kind)
        if decoder is not None:
            try:
                item = decoder(bytes(view[start:start + size]))
            except (struct.error, ValueError, IndexError) as error:
                raise FormatError(f"item of kind {kind} cannot be understood: {error}", where=f"{where} at {at}") from error
            yield after, item
        at = after
