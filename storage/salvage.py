"""A track whose journal is gone, or has lost its end: chunk heads, footers, rings and the log tell what it is.

Sealed chunks hold their rows themselves. Rows behind them are believed as far as the rings hold them whole and their bytes' CRC fits.
Nothing is overwritten: writing goes on behind the last file.
"""

import os
from dataclasses import dataclass, replace

from recorder._ext.crc32c import crc32c
from recorder._ext.entries import decode as decode_entries
from recorder._ext.entries import entry_bytes
from recorder.base.errors import FormatError
from recorder.base.media import GapCause
from storage.chunkfile import ChunkHead, Footer, read_footer, read_head
from storage.items import ChunkTaken, GapOpen, SampleEntryItem, SessionEnd, SessionStart, Tape, decode
from storage.layout import ROW_MAX_ENTRIES, index_path, track_path
from storage.numbered import chunk_number
from storage.replay import EMPTY, Found, FoundChunk, RowView
from storage.rings import IndexWriter, row_is
from storage.tapebytes import TapeBytes
from storage.tracklog import Facts, TrackLog
from storage.volume import Volume

LOST = "the journal was lost"
LOST_END = "the journal has lost its end"


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed chunk of the track, checked."""

    head: ChunkHead
    footer: Footer

    @property
    def end_row(self) -> int:
        """The row after its last."""
        return self.head.first_row + self.head.rows


def from_footers(volume: Volume, ident: Tape) -> Found:
    """The tape as its files have it; an empty one if there are none."""
    found = Found(ident, EMPTY)
    if _numbers(volume, ident):
        salvage(volume, found, LOST)
    return found


def overtaken(volume: Volume, found: Found) -> bool:
    """True if a sealed chunk holds rows that the journal does not know: its end was lost, since a seal follows the record of its rows."""
    size = found.chunk_class.tape_bytes
    known = found.state.next_row + (found.open_row is not None)
    least = min(found.chunks, default=found.state.tape_end // size)
    files = TapeBytes(volume, found)
    try:
        heads = [files.head(number) for number in _numbers(volume, found.ident) if number >= least]
    finally:
        files.close()
    return any(head is not None and head.sealed and head.first_row + head.rows > known for head in heads)


def salvage(volume: Volume, found: Found, why: str) -> None:
    """Add to what the journal says of the tape (perhaps nothing) all that its files hold beyond."""
    numbers = _numbers(volume, found.ident)
    empty = found.state.next_row == 0
    facts = _log(volume, found)
    rings = _Rings(volume, found)
    found.open_row, found.salvaged = None, True
    try:
        for number in numbers:
            sealed = _sealed(volume, found.ident, number)
            if sealed is None:
                rings.adopt(found, number)
            elif empty or sealed.end_row > found.state.next_row:
                _add(found, sealed, first=empty)
            empty &= found.state.next_row == 0
    finally:
        rings.close()
    size = found.chunk_class.tape_bytes
    found.state = replace(found.state, first_chunk=max(found.state.first_chunk, numbers[0]),
                          tape_end=max(found.state.tape_end, (numbers[-1] + 1) * size))
    _end(found, facts, why)


def _numbers(volume: Volume, ident: Tape) -> list[int]:
    names = volume.list_files(f"{track_path(ident.camera, ident.name)}/c")
    return sorted(number for name in names if (number := chunk_number(name)) is not None)


# Sealed chunks

def _sealed(volume: Volume, ident: Tape, number: int) -> Sealed | None:
    path = f"{track_path(ident.camera, ident.name)}/c/{number}"
    fd = volume.open_file(path, os.O_RDONLY)
    try:
        head = read_head(fd, path)
        right = head.sealed and (head.camera, head.track, head.chunk) == (ident.camera, ident.name, number)
        return Sealed(head, read_footer(fd, head, path)) if right else None
    except FormatError:
        return None
    finally:
        os.close(fd)


def _add(found: Found, sealed: Sealed, *, first: bool) -> None:
    head, footer, state = sealed.head, sealed.footer, found.state
    if first:
        state = replace(state, tail_row=head.first_row, tail_offset=head.start_offset)
    entries_end = state.entries_end
    if len(footer.rows):
        last = footer.rows[-1]
        start = int(last["frames_off"]) - int(footer.rows["frames_off"][0])
        entries_end = int(last["frames_off"]) + max(0, entry_bytes(footer.entries[start:], int(last["aus"])))
    found.state = replace(state, next_row=sealed.end_row, entries_end=entries_end, end_ns=max(state.end_ns, head.end_ns))
    found.chunks.pop(head.chunk, None)
    for number in [number for number in found.rows if head.first_row <= number < sealed.end_row]:
        del found.rows[number]
    for item in decode(footer.items, where=f"footer of chunk {head.chunk}"):
        if isinstance(item, SampleEntryItem):
            found.sample_entries[item.number] = item.entry
        elif isinstance(item, SessionStart):
            found.state = replace(found.state, session=max(found.state.session, item.session))


# Rows of chunks that are not sealed

class _Rings:
    """The track's rings as they lie there; nothing in them is believed without its CRC."""

    def __init__(self, volume: Volume, found: Found) -> None:
        self._rows = IndexWriter(volume, found.ident.camera, found.ident.name, frames=False)
        self._frames = IndexWriter(volume, found.ident.camera, found.ident.name, frames=True)
        self._files = TapeBytes(volume, found)
        self._usable = self._rows.open() and self._frames.open()

    def adopt(self, found: Found, number: int) -> None:
        """Take in the rows of chunk `number`, which is not sealed, as far as they are whole; it waits for its seal then."""
        head = self._files.head(number)
        if head is None:
            return
        known = found.chunks.get(number)
        first_row, frames_off = found.state.next_row, found.state.entries_end
        while self._usable and (row := self._row(found, number)) is not None:
            self._take(found, row)
        if known is None and found.state.next_row == first_row:
            return
        taken = known.taken if known is not None else ChunkTaken(number, head.generation, first_row, frames_off)
        found.chunks[number] = FoundChunk(taken, known.items if known is not None else [],
                                          ChunkTaken(number, head.generation, found.state.next_row, found.state.entries_end))
        if known is None:
            found.fresh_items.append(taken)

    def _row(self, found: Found, number: int) -> bytes | None:
        """The tape's next row, if it lies in chunk `number` and nothing of it is missing."""
        raw = self._rows.read(found.state.next_row, 1)
        view = RowView(raw)
        if not row_is(raw, found.state.next_row) or view.offset // found.chunk_class.tape_bytes != number:
            return None
        data = self._files.read(view.offset, view.size)
        whole = len(data) == view.size and crc32c(data) == view.data_crc and view.frames_off >= found.state.entries_end
        return raw if whole and self._entries(view, found.ident.clock_rate) else None

    def _entries(self, view: RowView, clock_rate: int) -> bytes:
        """The row's entries; b"" if they do not add up."""
        data = self._frames.read(view.frames_off, min(ROW_MAX_ENTRIES, self._frames.capacity))
        data = data[:max(0, entry_bytes(data, view.aus))]
        return data if data and decode_entries(data, view.frames_off, view.raw, clock_rate)[0] < 0 else b""

    def _take(self, found: Found, raw: bytes) -> None:
        view, number = RowView(raw), found.state.next_row
        data = self._entries(view, found.ident.clock_rate)
        found.fresh[number] = raw
        found.add_row(number, raw)
        found.fresh_entries.append((view.frames_off, data))
        found.state = replace(found.state, entries_end=view.frames_off + len(data), session=max(found.state.session, view.session))

    def close(self) -> None:
        """Close the files."""
        self._rows.close()
        self._frames.close()
        self._files.close()


# The log, and what is still open

def _log(volume: Volume, found: Found) -> Facts:
    """What the log says; where it has lost something, the footers' items are added behind it."""
    log = TrackLog(volume.dir_fd, index_path(found.ident.camera, found.ident.name, "log"))
    try:
        facts = log.facts(None)
    except FormatError:
        facts = log.so_far
    footers = [sealed.footer.items for number in _numbers(volume, found.ident) if (sealed := _sealed(volume, found.ident, number))]
    items = [item for data in footers for item in decode(data, where="footers")]
    found.state = replace(found.state, log_bytes=log.parsed)
    found.log.clear()
    if any(isinstance(item, SampleEntryItem) and item.number not in facts.sample_entries for item in items):
        data = b"".join(footers)
        found.log.append((log.parsed, data))
        found.state = replace(found.state, log_bytes=log.parsed + len(data))
        for item in items:
            facts.add(item)
    found.sample_entries |= facts.sample_entries
    return facts


def _end(found: Found, facts: Facts, why: str) -> None:
    """The session that was open has ended; the gap that was open goes on, or one begins."""
    session = max(facts.sessions.values(), key=lambda one: one.number, default=None)
    found.session = None
    if session is not None:
        found.state = replace(found.state, session=max(found.state.session, session.number))
    if session is not None and session.end_ns is None:
        _say(found, SessionEnd(session.number, max(found.state.end_ns, session.start_ns), "crash"))
    gap = next(reversed(facts.gap_list()), None)
    if gap is not None and gap.end_ns is None and gap.start_ns >= found.state.end_ns:
        found.gap = GapOpen(gap.start_ns, gap.cause, gap.detail)
        found.state = replace(found.state, end_ns=gap.start_ns)
    elif found.state.end_ns:
        _say(found, GapOpen(found.state.end_ns, GapCause.CRASH, why))


def _say(found: Found, item: SessionEnd | GapOpen) -> None:
    found.apply(item, checkpoint=False)
    found.fresh_items.append(item)
