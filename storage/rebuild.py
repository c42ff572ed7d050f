"""From what recovery found to tapes that can be written: rings and log repaired, the open chunk ready to go on."""

import itertools
import os
from collections.abc import Callable
from dataclasses import replace

from recorder._ext.auqueue import AuQueue
from recorder._ext.tapewriter import TapeCore
from recorder.base.errors import FormatError
from storage.chunkfile import ChunkHead, read_footer, read_head
from storage.chunkpage import head_page
from storage.disk import read_at, write_at, zero_range
from storage.erasure import Erasure
from storage.events import SlotEvent
from storage.items import ChunkTaken, EntriesItem, RowItem, SampleEntryItem, encode
from storage.layout import PAGE, ROW, index_path, track_path
from storage.livefile import LiveWriter
from storage.lostrows import LostRows
from storage.minutebook import discard
from storage.numbered import chunk_number
from storage.replay import LOGGED, Found, FoundChunk, RowView
from storage.rings import FIRST_FRAMES, FIRST_ROWS, IndexWriter
from storage.steps import Step, step
from storage.tapebook import FOOTER_START, ClosedChunk, OpenChunk
from storage.tapework import NO_QUEUE_BYTES, TapeWork
from storage.volume import Volume


class Rebuilder:
    """Makes TapeWorks for one slot."""

    def __init__(self, volume: Volume, live: LiveWriter, on_event: Callable[[SlotEvent], None],
                 now: Callable[[], tuple[int, int]], erasure: Erasure) -> None:
        self._volume, self._live, self._on_event, self._now, self._erasure = volume, live, on_event, now, erasure

    def make(self, found: Found) -> TapeWork:
        """The tape, ready for its queue. StorageError, with nothing left open, when the slot has as many tracks as it can."""
        self._live.check_room()
        ident = found.ident
        ring, frames = self._rings(found)
        log_fd = self._log(found)
        state = found.state
        log_before = state.log_bytes - sum(len(encode(item)) for item in found.fresh_items if isinstance(item, LOGGED))
        block, lease, _ = self._live.block()
        core = TapeCore(AuQueue(NO_QUEUE_BYTES, 1), block, lease, ident.clock_rate)
        core.set_size(found.chunk_class.tape_bytes)
        core.set_rings(ring.fd, ring.capacity, frames.fd, frames.capacity)
        resume = self._resume(found)
        first_row, first_entry = state.next_row // 64 * 64, state.entries_end // PAGE * PAGE
        core.restore(state.next_row, state.entries_end, state.end_ns, state.tail_row, state.tail_offset, resume, state.log_bytes,
                     state.session, ring.read(first_row, state.next_row - first_row),
                     frames.read(first_entry, state.entries_end - first_entry))
        work = TapeWork(ident, core, ring, frames, log_fd, replace(state, tape_end=resume), self._on_event, self._now,
                        LostRows(self._volume, ident.camera, ident.name))
        work.set_log(state.log_bytes, log_before)
        work.sample_entries = {entry: n for n, entry in found.sample_entries.items()}
        work.moves.extend(found.moves)
        self._chunks(work, found, resume)
        if found.gap is not None:
            work.resume_gap(found.gap)
        work.pending = [encode(item) for item in found.fresh_items]
        work.pending += [encode(RowItem(n, row)) for n, row in sorted(found.fresh.items())]
        work.pending += [encode(EntriesItem(position, data)) for position, data in found.fresh_entries]
        core.name(ident.camera, ident.name.encode())
        return work

    # Rings and log

    def _rings(self, found: Found) -> tuple[IndexWriter, IndexWriter]:
        ident, state = found.ident, found.state
        rows = IndexWriter(self._volume, ident.camera, ident.name, frames=False)
        frames = IndexWriter(self._volume, ident.camera, ident.name, frames=True)
        usable = rows.open() and frames.open()
        if not usable:
            rows.close()
            frames.close()
            self._volume.make_dirs(f"idx/cam-{ident.camera}")
            old = state.next_row > 0        # a new tape has nothing to lose before its first commit
            rows.create(state.tail_row, _capacity(FIRST_ROWS, state.next_row - state.tail_row), durable=old)
            frames.create(state.tail_row, _capacity(FIRST_FRAMES, 8 * 64 * (state.next_row - state.tail_row)), durable=old)
        if not usable or found.salvaged:
            self._from_footers(found, rows, frames)
            discard(self._volume, ident.camera, ident.name)     # lines may know of rows that are lost now
        for number, data in _bundles(found.rows):
            rows.mend(number, data)
        for position, data in found.entries:
            frames.mend(position, data)
        step(Step.RECOVERED_RINGS)
        return rows, frames

    def _from_footers(self, found: Found, rows: IndexWriter, frames: IndexWriter) -> None:
        """The rings were lost: the footers of sealed chunks have their rows and entries."""
        for path in self._chunk_paths(found):
            fd = self._volume.open_file(path, os.O_RDONLY)
            try:
                head = read_head(fd, path)
                footer = read_footer(fd, head, path) if head.sealed and head.camera == found.ident.camera else None
            except FormatError:
                footer = None
            finally:
                os.close(fd)
            if footer is not None and len(footer.rows):
                rows.write(head.first_row, footer.rows.tobytes())
                frames.write(int(footer.rows["frames_off"][0]), footer.entries)

    def _chunk_paths(self, found: Found) -> list[str]:
        folder = f"{track_path(found.ident.camera, found.ident.name)}/c"
        numbers = [number for name in self._volume.list_files(folder) if (number := chunk_number(name)) is not None]
        return [f"{folder}/{number}" for number in sorted(numbers)]

    def _log(self, found: Found) -> int:
        path = index_path(found.ident.camera, found.ident.name, "log")
        fd = self._volume.open_file(path, os.O_RDWR | os.O_CREAT)
        before = found.log[0][0] if found.log else found.state.log_bytes
        if os.fstat(fd).st_size < before:
            self._log_from_footers(found, fd, before)
        for position, data in found.log:
            write_at(fd, data, position)
        return fd

    def _log_from_footers(self, found: Found, fd: int, before: int) -> None:
        """The log was lost: write again what footers and journal know, at new positions."""
        items = []
        for path in self._chunk_paths(found):
            chunk = self._volume.open_file(path, os.O_RDONLY)
            try:
                items.append(read_footer(chunk, read_head(chunk, path), path).items)
            except FormatError:
                continue
            finally:
                os.close(chunk)
        items += [encode(SampleEntryItem(n, e)) for n, e in found.sample_entries.items()]
        data = b"".join(items)
        write_at(fd, data, 0)
        shift = len(data) - before
        found.log = [(position + shift, item) for position, item in found.log]
        found.state = replace(found.state, log_bytes=found.state.log_bytes + shift)

    # Chunks

    def _resume(self, found: Found) -> int:
        """The tape offset where writing goes on: the next page above anything that was visible, in the open chunk."""
        size, state = found.chunk_class.tape_bytes, found.state
        newest = max(found.chunks, default=-1)
        if newest < 0 or found.chunks[newest].end is not None:
            return state.tape_end
        offset = max(state.tape_end, newest * size)
        return min(-(-offset // PAGE) * PAGE, (newest + 1) * size)

    def _chunks(self, work: TapeWork, found: Found, resume: int) -> None:
        """Chunks that wait to be sealed, and the open one."""
        numbers = sorted(found.chunks)
        for number, after in itertools.zip_longest(numbers, numbers[1:]):
            chunk = found.chunks[number]
            opened = self._open(found, number)
            if opened is None:
                continue
            fd, head = opened
            end = chunk.end or (found.chunks[after].taken if after is not None else None)
            if end is not None:
                work.closed.append(self._closed(work, found, chunk, end, fd, head))
            else:
                self._go_on(work, found, chunk, fd, head, resume)
        work.safe_row = min((c.taken.first_row for c in found.chunks.values()), default=found.state.next_row)

    def _open(self, found: Found, number: int) -> tuple[int, ChunkHead] | None:
        path = f"{track_path(found.ident.camera, found.ident.name)}/c/{number}"
        try:
            fd = self._volume.open_file(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            return fd, read_head(fd, path)
        except FormatError:
            os.close(fd)
            return None

    def _closed(self, work: TapeWork, found: Found, chunk: FoundChunk, end: ChunkTaken, fd: int, head: ChunkHead) -> ClosedChunk:
        used = _used(work, found, chunk.taken, end.first_row)
        return ClosedChunk(chunk.taken.chunk, fd, head.generation, chunk.taken.first_row, end.first_row, chunk.taken.frames_off,
                           end.frames_off, used, _footer_items(found) + b"".join(chunk.items), self._erasure.nameless())

    def _go_on(self, work: TapeWork, found: Found, chunk: FoundChunk, fd: int, head: ChunkHead, resume: int) -> None:
        """Write on in the newest chunk: what was skipped is zero before its inner chunk is marked."""
        kind, taken, state = found.chunk_class, chunk.taken, found.state
        base = taken.chunk * kind.tape_bytes
        zero_range(fd, PAGE + _used(work, found, taken, state.next_row), PAGE + resume - base)
        step(Step.RECOVERED_ZERO)
        used = resume - base
        marked = min(used // kind.inner_bytes, kind.inner_count)
        fresh = ChunkHead(kind, False, head.camera, head.track, head.chunk, head.generation, taken.first_row, 0, 0, 0, 0, 0, bytes(32))
        work.to_mark = (fd, head_page(fresh, marked))
        items = [_footer_items(found), *chunk.items]
        opened_ns = self._opened_ns(work, found, taken.first_row)
        opened = OpenChunk(taken.chunk, fd, -1, head.generation, taken.first_row, taken.frames_off, opened_ns, items,
                           set(found.sample_entries), self._erasure.nameless())
        work.next_number = taken.chunk + 1
        footer_used = FOOTER_START + 96 * (state.next_row - taken.first_row) + state.entries_end - taken.frames_off
        tail = read_at(fd, used % PAGE, PAGE + used // PAGE * PAGE)
        work.core.set_chunk(fd, base, used, tail, kind.inner_bytes, kind.inner_count, kind.footer_bytes, footer_used, marked)
        work.go_on(opened)
        work.core.add_items_bytes(sum(len(item) for item in items))

    def _opened_ns(self, work: TapeWork, found: Found, first_row: int) -> int:
        """CLOCK_MONOTONIC when the chunk was begun, as if the machine had run since: rows of a week ago must not wait for today's to expire."""
        wall_ns, mono_ns = self._now()
        row = found.rows.get(first_row) or work.row(first_row)
        return mono_ns - max(0, wall_ns - RowView(row).t_ns) if row is not None else mono_ns


def _used(work: TapeWork, found: Found, taken: ChunkTaken, end_row: int) -> int:
    """Bytes of tape that a chunk's rows up to `end_row` take; all of it if its last row is lost, so that nothing is taken for empty."""
    if end_row <= taken.first_row:
        return 0
    raw = found.rows.get(end_row - 1) or work.row(end_row - 1)      # the journal may have let go of it; then the ring has it
    if raw is None:
        return found.chunk_class.tape_bytes
    return RowView(raw).offset + RowView(raw).size - taken.chunk * found.chunk_class.tape_bytes


def _bundles(rows: dict[int, bytes]) -> list[tuple[int, bytes]]:
    """Rows that follow one another joined: number of the first, their bytes."""
    bundles: list[tuple[int, list[bytes]]] = []
    for number, row in sorted(rows.items()):
        if bundles and bundles[-1][0] + len(bundles[-1][1]) == number:
            bundles[-1][1].append(row)
        else:
            bundles.append((number, [row]))
    return [(first, b"".join(parts)) for first, parts in bundles]


def _footer_items(found: Found) -> bytes:
    """What every footer says first: the sample entries."""
    return b"".join(encode(SampleEntryItem(n, e)) for n, e in found.sample_entries.items())


def _capacity(least: int, wanted: int) -> int:
    while least < wanted * 5 // 4:
        least *= 2
    return least


assert ROW.itemsize == 64
