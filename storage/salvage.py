"""A track whose journal is gone (the slot's folder was lost, or the track came from elsewhere): its sealed chunks tell what it is."""

import os
from dataclasses import replace

from recorder._ext.entries import entry_bytes
from recorder.base.errors import FormatError
from recorder.base.media import GapCause
from storage.chunkfile import ChunkHead, Footer, read_footer, read_head
from storage.items import GapOpen, SampleEntryItem, SessionStart, Tape, decode
from storage.layout import track_path
from storage.replay import EMPTY, Found
from storage.volume import Volume


def from_footers(volume: Volume, ident: Tape) -> Found:
    """The tape as its sealed chunks have it; an empty one if there are none. Nothing is overwritten: it goes on behind the last file."""
    found = Found(ident, EMPTY)
    folder = f"{track_path(ident.camera, ident.name)}/c"
    numbers = sorted(int(name) for name in volume.list_dir(folder) if name.isdigit())
    if not numbers:
        return found
    first = True
    for number in numbers:
        sealed = _sealed(volume, ident, f"{folder}/{number}", number)
        if sealed is not None:
            _add(found, *sealed, first=first)
            first = False
    found.state = replace(found.state, first_chunk=numbers[0], tape_end=(numbers[-1] + 1) * found.chunk_class.tape_bytes)
    if found.state.end_ns:
        gap = GapOpen(found.state.end_ns, GapCause.CRASH, "the journal was lost")
        found.apply(gap, checkpoint=False)
        found.fresh_items.append(gap)
    return found


def _sealed(volume: Volume, ident: Tape, path: str, number: int) -> tuple[ChunkHead, Footer] | None:
    fd = volume.open_file(path, os.O_RDONLY)
    try:
        head = read_head(fd, path)
        right = head.sealed and (head.camera, head.track, head.chunk) == (ident.camera, ident.name, number)
        return (head, read_footer(fd, head, path)) if right else None
    except FormatError:
        return None
    finally:
        os.close(fd)


def _add(found: Found, head: ChunkHead, footer: Footer, *, first: bool) -> None:
    state = found.state
    if first:
        state = replace(state, tail_row=head.first_row, tail_offset=head.start_offset)
    entries_end = state.entries_end
    if len(footer.rows):
        last = footer.rows[-1]
        start = int(last["frames_off"]) - int(footer.rows["frames_off"][0])
        entries_end = int(last["frames_off"]) + max(0, entry_bytes(footer.entries[start:], int(last["aus"])))
    found.state = replace(state, next_row=head.first_row + head.rows, entries_end=entries_end, end_ns=max(state.end_ns, head.end_ns))
    for item in decode(footer.items, where=f"footer of chunk {head.chunk}"):
        if isinstance(item, SampleEntryItem):
            found.sample_entries[item.number] = item.entry
        elif isinstance(item, SessionStart):
            found.state = replace(found.state, session=max(found.state.session, item.session))
