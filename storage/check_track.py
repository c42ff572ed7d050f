"""The check of one track: chunks, rows, entries, bytes, digests. storage/check.py says what each level means."""

import os
from collections.abc import Callable

import numpy as np

from recorder._ext.crc32c import crc32c
from recorder.base.errors import FormatError, Gone, NotFound
from recorder.base.media import RowFlag
from storage import chunkfile
from storage.check_pending import Pending
from storage.chunklease import ChunkLease
from storage.finding import Finding, Report, error, twice, warning
from storage.footage import RowRun
from storage.layout import PAGE, ROW, track_path
from storage.numbered import chunk_numbers
from storage.reader import TrackReader
from storage.timeline import UNEXPLAINED

RUN_ROWS = 256
REBUILD = "start the recorder once, it rebuilds the index"
LOST = "the footage in it cannot be trusted; export what can be read"


class TrackCheck:
    """One walk over a track. `tick` is told how many bytes of footage have been looked at since it was last called."""

    def __init__(self, track: TrackReader, report: Report, tick: Callable[[int], None], pending: Pending) -> None:
        self._track, self._report, self._tick, self._pending = track, report, tick, pending
        self._path = track_path(track.camera, track.name)

    def run(self) -> None:
        """Look at everything that the report's level asks for."""
        try:
            self._track.edges()
        except FormatError as failed:
            self._report.findings.append(error(failed.where or self._path, failed.message, failed.remedy))
            return
        self._report.findings += twice(self._gaps)
        end_row: int | None = None
        for number in chunk_numbers(self._track.chunks_fd()):
            found, end_row = self._chunk_twice(number, end_row)
            self._report.findings += found
            self._report.chunks += 1
            if self._report.level != 2:
                self._tick(self._track.chunk_class.tape_bytes)
        self._report.findings += self._strangers()
        if self._report.level >= 2:
            self._rows()

    # -- structure --

    def _gaps(self) -> list[Finding]:
        """Every instant is in a span or in a gap with a cause; every sample entry that rows name is known."""
        edges = self._track.edges()
        if not edges.first_ns:
            return []
        found = [warning(self._path, f"from {gap.start_ns} to {gap.end_ns} ns there is neither footage nor a recorded cause",
                         "if rows are reported as damaged too, " + REBUILD)
                 for gap in self._track.timeline(edges.first_ns, edges.visible_end_ns).gaps if gap.detail == UNEXPLAINED]
        run = self._track.rows_from(edges.next_row - 1, 1, provisional=False)
        for number in {int(n) for n in run.rows["sample_entry"]}:
            try:
                self._track.sample_entry(number)
            except NotFound:
                found.append(error(self._path, f"the log does not know sample entry {number}", REBUILD))
        return found

    def _chunk_twice(self, number: int, end_row: int | None) -> tuple[list[Finding], int | None]:
        """A chunk's findings that a second look confirms, and the row after it if it is sealed."""
        found, after = self._chunk(number, end_row)
        if found:
            again, after = self._chunk(number, end_row)
            found = [finding for finding in found if finding in again]
        return found, after

    def _chunk(self, number: int, end_row: int | None) -> tuple[list[Finding], int | None]:
        where = f"{self._path}/c/{number}"
        try:
            with self._track.open_chunk(number) as lease:
                return self._held_chunk(lease, where, end_row)
        except Gone:
            return self._misplaced(number, where), None
        except FormatError as failed:
            return self._misplaced(number, where, failed.message), None
        except OSError as failed:
            return [error(where, f"cannot be read: {failed.strerror}", "look at the disk's health")], None

    def _misplaced(self, number: int, where: str, what: str = "its head says that it is another chunk") -> list[Finding]:
        """A file that is not this chunk, and has not been retired: damaged, another's, or on its way from the pool."""
        if (number + 1) * self._track.chunk_class.tape_bytes <= self._track.edges().tail_offset:
            return []
        page = self._first_page(number)
        if page is None:
            return []
        return self._pending.taking(self._track.camera, self._track.name, number, page, where) or [error(where, what, LOST)]

    def _first_page(self, number: int) -> bytes | None:
        """What the file begins with; None if it is gone."""
        try:
            fd = os.open(str(number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._track.chunks_fd())
        except FileNotFoundError:
            return None
        try:
            return os.pread(fd, PAGE, 0)
        finally:
            os.close(fd)

    def _held_chunk(self, lease: ChunkLease, where: str, end_row: int | None) -> tuple[list[Finding], int | None]:
        page, size = lease.head_page()
        head = chunkfile.parse_head(page, where)
        kind = self._track.chunk_class
        if head.chunk_class is not kind or size != kind.file_bytes:
            return [error(where, f"has {size} bytes of class {head.chunk_class.name}", LOST)], None
        found = _check_index(page, head, where)
        if not head.sealed:
            return found, None
        if end_row is not None and head.first_row != end_row:
            found.append(error(where, f"begins with row {head.first_row}, the chunk before ends before row {end_row}", LOST))
        found += self._footer(lease, head, where)
        if found:
            found = self._pending.closing(self._track.camera, self._track.name, head.chunk, where) or found
        return found, head.first_row + head.rows

    def _footer(self, lease: ChunkLease, head: chunkfile.ChunkHead, where: str) -> list[Finding]:
        try:
            footer = lease.footer(head)
        except FormatError as failed:
            return [error(where, failed.message, "its rows are in the ring as long as that lives; " + REBUILD)]
        rows = footer.rows
        ends = rows["offset"] + rows["bytes"]
        if len(rows) and (int(rows["offset"][0]) < head.start_offset or int(ends[-1]) > head.start_offset + head.used_bytes
                          or (rows["offset"][1:] < ends[:-1]).any() or (np.diff(rows["t_ns"]) < 0).any()):
            return [error(where, "the rows of its footer do not lie in it in order", LOST)]
        if self._report.level < 3:
            return []
        found = [] if footer.digest() == head.digest else [error(where, "its digest is not that of its footer", LOST)]
        for index, row in enumerate(rows):
            data = self._kept_bytes(lease, int(row["offset"]), int(row["bytes"]))
            if data is not None and not footer.proves(head.first_row, index, data):
                found.append(error(where, f"row {head.first_row + index} is not as it was sealed", LOST))
        return found

    def _kept_bytes(self, lease: ChunkLease, offset: int, nbytes: int) -> bytearray | None:
        """A row's bytes; None if it has expired: the oldest chunk stays until all of its rows have."""
        try:
            return self._bytes(lease, offset, nbytes)
        except Gone:
            if offset < self._track.edges().tail_offset:
                return None
            raise

    def _strangers(self) -> list[Finding]:
        chunks = set(map(str, chunk_numbers(self._track.chunks_fd())))
        names = sorted(name for name in os.listdir(self._track.chunks_fd()) if name not in chunks)
        return [warning(f"{self._path}/c/{name}", "is no chunk", "move it away") for name in names]

    # -- rows and bytes --

    def _rows(self) -> None:
        """All closed rows with their entries and bytes, as far as they are durable when we come to them."""
        number = 0
        stop = self._track.edges().next_row
        while number < stop:
            run, found = self._run(number, min(RUN_ROWS, stop - number))
            self._report.findings += found
            number = max(run.next, number + 1)

    def _run(self, number: int, limit: int) -> tuple[RowRun, list[Finding]]:
        """One run of rows, or one row where something in the run is wrong."""
        try:
            run = self._track.rows_from(number, limit, provisional=False)
            if not len(run) or run.open:
                return RowRun(number, run.rows[:0]), []
            entries = self._track.entries(run)
            assert len(entries) == int(run.rows["aus"].sum())
        except Gone:
            return RowRun(max(self._track.edges().first_row - 1, number), np.empty(0, ROW)), []
        except FormatError as failed:
            if limit > 1:
                return self._run(number, 1)
            return RowRun(number, np.empty(0, ROW)), [error(f"{self._path} row {number}", failed.message, REBUILD)]
        return run, self._data(run)

    def _data(self, run: RowRun) -> list[Finding]:
        found: list[Finding] = []
        lease: ChunkLease | None = None
        try:
            for index, row in enumerate(run.rows):
                offset, size = int(row["offset"]), int(row["bytes"])
                if int(row["flags"]) & RowFlag.OPEN:
                    continue
                chunk = self._track.chunk_of(offset)
                if lease is None or lease.chunk != chunk:
                    if lease is not None:
                        lease.close()
                    lease = self._track.open_chunk(chunk)
                self._report.rows += 1
                self._tick(size)
                if crc32c(self._bytes(lease, offset, size)) != int(row["data_crc"]):
                    found.append(error(f"{self._path} row {run.first + index}", f"its bytes in chunk {chunk} do not match their CRC", LOST))
        except Gone:
            pass                # retired while we looked
        except FormatError as failed:
            found.append(error(f"{self._path} row {run.first}", failed.message, LOST))
        except ValueError as failed:
            found.append(error(f"{self._path} row {run.first}", str(failed), LOST))
        finally:
            if lease is not None:
                lease.close()
        return found

    def _bytes(self, lease: ChunkLease, offset: int, size: int) -> bytearray:
        buffer = bytearray(size)
        got = lease.read(buffer, offset) if size else 0
        self._report.bytes_read += got
        return buffer[:got]


def _check_index(page: bytes, head: chunkfile.ChunkHead, where: str) -> list[Finding]:
    """The shard index marks whole inner chunks from the start on: all that were used of a sealed chunk."""
    try:
        marked = chunkfile.read_index(page, head.chunk_class)
    except FormatError as failed:
        return [error(where, failed.message, "foreign readers see wrong bytes; " + LOST)]
    if marked is None:
        return [error(where, "the shard index does not match its CRC", "only foreign readers use it; start the recorder, it writes it anew")]
    count = int(marked.sum())
    used = -(-head.used_bytes // head.chunk_class.inner_bytes)
    if not marked[:count].all() or (head.sealed and count != used):
        return [error(where, f"the shard index marks {count} inner chunks, {used} are in use", "only foreign readers use it")]
    return []

