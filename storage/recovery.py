"""From the journal, the live file of this boot and the chunks: what a slot's tapes are, after whatever happened.

All records but the last are trusted. The last one's rows are believed as far as their bytes are there; then, after a crash without a power
cut, what was visible and is whole is adopted. Nothing here deletes footage.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

from recorder._ext.crc32c import crc32c, crc32c_range
from recorder._ext.entries import entry_bytes
from recorder.base.errors import FormatError
from recorder.base.media import GapCause, RowFlag
from storage.disk import read_at
from storage.items import (
    ChunkSealed,
    ChunkTaken,
    EntriesItem,
    Erased,
    GapClose,
    GapOpen,
    Item,
    OpenRowItem,
    RowItem,
    SessionEnd,
    TailMove,
    TapeFlag,
    TapeState,
    decode,
)
from storage.journal import Journal, Record
from storage.layout import (
    LIVE_BLOCK,
    LIVE_BLOCK_BYTES,
    LIVE_ENTRIES,
    LIVE_ENTRIES_AT,
    LIVE_HEAD,
    LIVE_MAGIC,
    LIVE_ROWS,
    LIVE_ROWS_AT,
    PAGE,
    index_path,
    live_name,
)
from storage.live import boot_id
from storage.mendhead import mend_heads
from storage.prefetch import prefetch
from storage.replay import Found, FoundChunk, Replay, RowView
from storage.rings import row_is
from storage.salvage import LOST_END, overtaken, salvage
from storage.tapebytes import TapeBytes
from storage.volume import Volume

LOG_PART = 4 << 20
PROVISIONAL = int(RowFlag.PROVISIONAL)
UNSETTLED = int(RowFlag.PROVISIONAL | RowFlag.OPEN)


@dataclass(slots=True)
class Recovered:
    """What came out."""

    tapes: dict[int, Found]
    epoch: int
    records: int
    segment_rows: dict[int, dict[int, int]]
    clean: bool
    rows_adopted: int = 0
    fallen_back: int = 0
    wall_ns: int = 0        # UTC of the newest record
    salvaged: int = 0       # tapes of which the journal has lost the end


@dataclass(slots=True)
class LiveBlock:
    """A track's block of the live file that a dead process of this boot left, copied; nothing in it is believed without its CRC."""

    raw: bytes
    fields: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("next_row", "entries_end", "visible_offset", "log_bytes", "tail_row", "tail_offset", "open"):
            kind, at = LIVE_BLOCK.fields[name][:2]  # type: ignore[index]
            self.fields[name] = int.from_bytes(self.raw[at:at + kind.itemsize], "little")

    def row(self, number: int) -> bytes | None:
        """Row `number`, closed or open, if the block holds it whole."""
        at = LIVE_ROWS_AT + number % LIVE_ROWS * 64
        start = LIVE_BLOCK.fields["open_row"][1]  # type: ignore[index]
        for raw in (self.raw[at:at + 64], self.raw[start:start + 64]):
            if row_is(raw, number):
                return raw
        return None

    def entries(self, position: int, aus: int) -> bytes | None:
        """The entries of `aus` AUs from `position` on, if the window holds them."""
        end = self.fields["entries_end"]
        if not end - LIVE_ENTRIES <= position <= end:
            return None
        window = self.raw[LIVE_ENTRIES_AT:LIVE_ENTRIES_AT + LIVE_ENTRIES]
        at = position % LIVE_ENTRIES
        data = (window[at:] + window[:at])[:end - position]
        size = entry_bytes(data, aus)
        return data[:size] if size >= 0 else None


def live_blocks(live_dir: Path, volume: UUID, slot: int) -> dict[tuple[int, str], LiveBlock]:
    """The blocks of the slot's live file, by camera and track; none if it is of another boot, or there is none."""
    try:
        raw = (live_dir / live_name(volume, slot)).read_bytes()
    except OSError:
        return {}
    fields = LIVE_HEAD.fields
    assert fields is not None
    here = {name: raw[at:at + kind.itemsize] for name, (kind, at, *_) in fields.items()}
    if raw[:8] != LIVE_MAGIC or here["volume"] != volume.bytes or here["boot_id"] != boot_id():
        return {}
    out = {}
    for at in range(PAGE, len(raw) - LIVE_BLOCK_BYTES + 1, LIVE_BLOCK_BYTES):
        camera = int.from_bytes(raw[at + 8:at + 12], "little")
        if camera:
            out[camera, raw[at + 16:at + 64].rstrip(b"\0").decode()] = LiveBlock(raw[at:at + LIVE_BLOCK_BYTES])
    return out


def recover(volume: Volume, slot: int, journal: Journal, live_dir: Path) -> Recovered:
    """Read the journal and settle every tape of the slot. Raises FormatError where the journal itself is not of this format."""
    replay, last, records = Replay(), None, 0
    for record in journal.read():
        if last is not None:
            replay.apply(last.segment, last.items)
        last, records = record, records + 1
    replay.settle()
    prefetch(volume, replay.tapes.values())
    if last is None:
        return Recovered({}, 0, 0, {}, True)
    for found in replay.tapes.values():
        mend_heads(volume, found, [chunk.taken for chunk in found.chunks.values()])
    fallen = _apply_last(volume, replay, last)
    for segment in journal.segments:
        segment.rows = replay.segment_rows.get(segment.number, {})
    out = Recovered(replay.tapes, last.epoch, records, replay.segment_rows, _stopped(replay), fallen_back=fallen,
                    wall_ns=last.wall_ns)
    blocks = live_blocks(live_dir, volume.uuid, slot)
    for found in replay.tapes.values():
        if overtaken(volume, found):
            salvage(volume, found, LOST_END)
            out.salvaged += 1
        block = blocks.get((found.ident.camera, found.ident.name))
        out.rows_adopted += _settle(volume, found, block)
    return out


def _stopped(replay: Replay) -> bool:
    return all(found.state.flags & (TapeFlag.STOPPED | TapeFlag.DETACHED) for found in replay.tapes.values())


def _apply_last(volume: Volume, replay: Replay, record: Record) -> int:
    """Apply the last record as far as its bytes are there; how many tapes fell back."""
    by_tape: dict[int, list[tuple[Item, bool]]] = {}
    for found, item, checkpoint in replay.walk(record.items):
        replay.note_row(record.segment, found, item)
        by_tape.setdefault(found.ident.tape, []).append((item, checkpoint))
    fallen = 0
    for number, items in by_tape.items():
        found = replay.tapes[number]
        mend_heads(volume, found, [item for item, _ in items if isinstance(item, ChunkTaken)])
        files = TapeBytes(volume, found)
        try:
            fallen += _apply_checked(found, items, files)
        finally:
            files.close()
    return fallen


def _apply_checked(found: Found, items: Sequence[tuple[Item, bool]], files: TapeBytes) -> int:
    """1 if some rows of the record were not whole and the tape fell back behind them."""
    bad: tuple[int, int] | None = None       # number of the first bad row, position of its entries
    before = found.open_row
    rows = [item for item, _ in items if isinstance(item, RowItem | OpenRowItem)]
    for row in sorted(rows, key=lambda r: r.number):
        if not _whole(row.row, _known(before, row.number), files):
            bad = (row.number, RowView(row.row).frames_off)
            break
    if bad is not None and before is not None and before[0] == bad[0]:
        bad = (bad[0], found.state.entries_end)
    for item, checkpoint in items:
        kept = _without(item, bad, found, files)
        if bad is not None and isinstance(kept, GapOpen) and found.gap is None:
            _own_up(found, kept)
        if kept is not None:
            found.apply(kept, checkpoint=checkpoint)
    return int(bad is not None)


def _own_up(found: Found, gap: GapOpen) -> None:
    """The rows up to this gap are lost with the record's bytes: the crash's gap leads up to it."""
    newest = found.open_row[1] if found.open_row is not None else found.rows.get(found.state.next_row - 1)
    end_ns = RowView(newest).end_ns if newest is not None else found.state.end_ns
    if end_ns and end_ns < gap.start_ns:
        _fact(found, GapOpen(end_ns, GapCause.CRASH))
        _fact(found, GapClose(end_ns, gap.start_ns))


def _known(open_row: tuple[int, bytes] | None, number: int) -> bytes | None:
    return open_row[1] if open_row is not None and open_row[0] == number else None


def _whole(row: bytes, known: bytes | None, files: TapeBytes) -> bool:
    """True if the bytes that the row has beyond the acknowledged ones are on the tape."""
    view = RowView(row)
    have = RowView(known) if known is not None else None
    start = have.size if have is not None else 0
    if view.size < start:
        return False
    data = files.read(view.offset + start, view.size - start)
    if len(data) != view.size - start:
        return False
    return crc32c(data) == crc32c_range(have.data_crc if have is not None else 0, view.data_crc, len(data))


def _without(item: Item, bad: tuple[int, int] | None, found: Found, files: TapeBytes) -> Item | None:
    """The item as far as it may be believed when rows from `bad` on may not."""
    if isinstance(item, ChunkSealed):        # sealed again: its pages may not have reached the disk
        _take_back(item, found)
        return None
    if isinstance(item, Erased):             # said before the zeros were durable: they are written again
        return None
    if isinstance(item, ChunkTaken) and files.head(item.chunk) is None:
        return None
    return item if bad is None else _cut(item, bad, found)


def _take_back(item: ChunkSealed, found: Found) -> None:
    """The record that ends recovery says that the chunk is not sealed: the next recovery will trust the one that said it is."""
    chunk = found.chunks.get(item.chunk)
    if chunk is not None:
        found.fresh_items.append(chunk.taken)


def _cut(item: Item, bad: tuple[int, int], found: Found) -> Item | None:
    if isinstance(item, RowItem | OpenRowItem):
        return item if item.number < bad[0] else None
    if isinstance(item, EntriesItem):
        return EntriesItem(item.position, item.data[:max(bad[1] - item.position, 0)]) if item.position < bad[1] else None
    if isinstance(item, TapeState):
        return replace(item, next_row=min(item.next_row, bad[0]), tape_end=found.state.tape_end,
                       entries_end=min(item.entries_end, bad[1]), end_ns=found.state.end_ns)
    return item


def _settle(volume: Volume, found: Found, block: LiveBlock | None) -> int:
    """Adopt what was visible, close and publish every row, end the session, open the crash gap; rows adopted."""
    files = TapeBytes(volume, found)
    try:
        adopted = _adopt(volume, found, block, files) if block is not None else 0
    finally:
        files.close()
    if found.open_row is not None:
        number, row = found.open_row
        found.fresh[number] = RowView(row).settled(number)
        found.add_row(number, found.fresh[number])
    for number, row in list(found.rows.items()):
        if RowView(row).flags & UNSETTLED:
            found.fresh[number] = RowView(row).settled(number)
            found.rows[number] = found.fresh[number]
    found.state = replace(found.state, provisional_row=(1 << 64) - 1)
    _mend_chunks(found)
    _end_of_story(found)
    return adopted


def _adopt(volume: Volume, found: Found, block: LiveBlock, files: TapeBytes) -> int:
    """Rows that readers saw and the journal does not know, as long as bytes and entries are whole."""
    _adopt_log(volume, found, block)
    _adopt_published(found, block)
    tail = TailMove(block.fields["tail_row"], block.fields["tail_offset"], 0)
    if block.raw[0] & 1 == 0 and tail.row > found.state.tail_row:
        found.apply(tail, checkpoint=False)
    adopted = 0
    number = found.open_row[0] if found.open_row is not None else found.state.next_row
    while (row := block.row(number)) is not None:
        view = RowView(row)
        entries = block.entries(view.frames_off, view.aus)
        known = found.open_row[1] if found.open_row is not None and found.open_row[0] == number else None
        if entries is None or view.frames_off > found.state.entries_end or not _whole(row, known, files):
            break
        if row != known:
            adopted += 1
        _adopt_row(found, number, row, entries, files)
        number += 1
    found.state = replace(found.state, tape_end=max(found.state.tape_end, _capped(found, block.fields["visible_offset"])))
    return adopted


def _capped(found: Found, visible: int) -> int:
    """The visible end if it lies in the open chunk; what lies beyond cannot have been this tape's."""
    size = found.chunk_class.tape_bytes
    newest = max(found.chunks, default=-1)
    return visible if newest * size <= visible <= (newest + 1) * size else 0


def _adopt_row(found: Found, number: int, row: bytes, entries: bytes, files: TapeBytes) -> None:
    view = RowView(row)
    chunk = view.offset // found.chunk_class.tape_bytes
    if chunk > max(found.chunks, default=-1):
        head = files.head(chunk)
        taken = ChunkTaken(chunk, head.generation if head is not None else 0, number, view.frames_off)
        found.apply(taken, checkpoint=False)
        found.fresh_items.append(taken)
    new = entries[max(found.state.entries_end - view.frames_off, 0):]
    if new:
        found.fresh_entries.append((found.state.entries_end, new))
        found.apply(EntriesItem(found.state.entries_end, new), checkpoint=False)
    found.fresh[number] = view.settled(number)
    found.add_row(number, found.fresh[number])


def _adopt_published(found: Found, block: LiveBlock) -> None:
    """Rows that had been given their final time when the process died."""
    for number, row in list(found.rows.items()):
        if RowView(row).flags & PROVISIONAL:
            seen = block.row(number)
            if seen is not None and RowView(seen).data_crc == RowView(row).data_crc:
                found.rows[number] = found.fresh[number] = RowView(seen).settled(number)


def _adopt_log(volume: Volume, found: Found, block: LiveBlock) -> None:
    """Items that the log holds and the journal does not."""
    start, stop = found.state.log_bytes, block.fields["log_bytes"]
    if not start < stop <= start + LOG_PART:
        return
    try:
        fd = volume.open_file(index_path(found.ident.camera, found.ident.name, "log"), os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        data = read_at(fd, stop - start, start)
    finally:
        os.close(fd)
    try:
        items = list(decode(data, where="log"))
    except FormatError:
        return
    for item in items:
        found.apply(item, checkpoint=False)
        found.fresh_items.append(item)


def _mend_chunks(found: Found) -> None:
    """After a fall-back a chunk may claim to begin behind the end; then it begins at the end."""
    state = found.state
    for number, chunk in sorted(found.chunks.items()):
        taken = chunk.taken
        if taken.first_row > state.next_row or taken.frames_off > state.entries_end:
            found.chunks[number] = FoundChunk(replace(taken, first_row=min(taken.first_row, state.next_row),
                                                      frames_off=min(taken.frames_off, state.entries_end)), chunk.items)


def _end_of_story(found: Found) -> None:
    """Close the gap that video had ended, end the session, open the gap that the crash made."""
    newest, gap = found.rows.get(found.state.next_row - 1), found.gap
    end_ns = RowView(newest).end_ns if newest is not None else found.state.end_ns
    if gap is not None:
        end_ns = max(end_ns, gap.start_ns)
    if gap is not None:
        after = [RowView(row) for row in found.rows.values()]    # a row of one AU has no length: it may begin, and end, where the gap begins
        starts = [row.t_ns for row in after if row.t_ns >= gap.start_ns and row.end_ns > gap.start_ns]
        if starts:
            _fact(found, GapClose(gap.start_ns, min(starts)))
    if found.session is not None:
        _fact(found, SessionEnd(found.session.session, end_ns, "crash"))
    stopped = found.state.flags & (TapeFlag.STOPPED | TapeFlag.DETACHED)
    if found.gap is None and end_ns and not stopped:
        _fact(found, GapOpen(end_ns, GapCause.CRASH))
    found.state = replace(found.state, end_ns=end_ns)


def _fact(found: Found, item: Item) -> None:
    found.apply(item, checkpoint=False)
    found.fresh_items.append(item)
