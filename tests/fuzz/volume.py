"""Fuzz targets for what recovery, readers, check and verify read of a volume: heads and footers of chunks, rings, logs, journal.

An input is what lies behind the checksum: it is given the right CRC most of the time, so that mutations get past it.
"""

import atexit
import os
import shutil
import tempfile
import zlib
from collections.abc import Hashable
from functools import cache
from pathlib import Path

from mutation import unpack

from recorder._ext.crc32c import crc32c
from recorder.base.errors import FormatError
from storage import chunkfile, ledger
from storage.check_journal import check_journal
from storage.finding import Report
from storage.items import decode
from storage.journal import Journal, pack_record
from storage.layout import CHUNK_HEAD, CHUNK_HEAD_AT, CLASSES, FOOTER_HEAD, PAGE, RING_HEAD
from storage.replay import Replay
from storage.reseal import reseal
from storage.ringfile import FramesFile, RingFile
from storage.rowproof import lay_entries, split_entries
from storage.tracklog import TrackLog
from storage.volume import Volume

ROWS_LOOKED_AT = 64
RECORDS = 40


@cache
def _volume() -> Volume:
    """A volume on tmpfs, for as long as the process lives."""
    path = Path(tempfile.mkdtemp(prefix="watchroom-fuzz-", dir="/dev/shm"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    volume = Volume.init(path, bytes_max=1 << 30, on_root=True)
    for folder in ("slot-0/journal", "idx/cam-1"):
        volume.make_dirs(folder)
    return volume


def _file(name: str, data: bytes) -> Path:
    path = _volume().path / name
    path.write_bytes(data)
    return path


def refused(error: FormatError) -> str:
    """What an error about a file must be: one bounded line."""
    text = str(error)
    assert "\n" not in text
    assert len(text) < 500
    return "refused"


def _right(data: bytes) -> bool:
    """Whether this input gets right checksums: the same input always the same."""
    return zlib.crc32(data) % 4 != 0


def _crc_at_end(raw: bytes) -> bytes:
    return raw[:-4] + crc32c(raw[:-4]).to_bytes(4, "little")


def chunk(data: bytes) -> Hashable:
    """A head (CHUNK_HEAD), the shard index's first bytes, then a footer: everything that is believed lies within the file."""
    raw = data[:CHUNK_HEAD.itemsize].ljust(CHUNK_HEAD.itemsize, b"\0")
    index, footer = data[CHUNK_HEAD.itemsize:CHUNK_HEAD.itemsize + 500], data[CHUNK_HEAD.itemsize + 500:]
    if _right(data):
        raw, footer = _crc_at_end(raw), _footer(footer)
    page = index.ljust(CHUNK_HEAD_AT, b"\0") + raw
    try:
        head = chunkfile.parse_head(page.ljust(PAGE, b"\0"), "c/0")
    except FormatError as error:
        return refused(error), _resealed(footer)
    assert head.used_bytes <= head.chunk_class.tape_bytes
    assert head.footer_bytes <= head.chunk_class.footer_bytes
    fd = os.memfd_create("chunk")
    try:
        os.pwrite(fd, footer, head.chunk_class.footer_start)
        told = _index(page, head), _read_footer(fd, head)
    finally:
        os.close(fd)
    return told


def _footer(raw: bytes) -> bytes:
    at = FOOTER_HEAD.itemsize
    return raw[:at - 4] + crc32c(raw[at:]).to_bytes(4, "little") + raw[at:] if len(raw) >= at else raw


def _index(page: bytes, head: chunkfile.ChunkHead) -> Hashable:
    raw = _crc_at_end(page[:head.chunk_class.index_bytes])
    try:
        marked = chunkfile.read_index(raw + page[len(raw):], head.chunk_class)
    except FormatError as error:
        return refused(error)
    assert marked is not None
    assert len(marked) == head.chunk_class.inner_count
    return int(marked.sum())


def _read_footer(fd: int, head: chunkfile.ChunkHead) -> Hashable:
    try:
        footer = chunkfile.read_footer(fd, head, "c/0")
    except FormatError as error:
        return refused(error)
    assert len(footer.rows) == head.rows
    assert len(footer.leaves) == 32 * head.rows
    pieces = split_entries(footer.rows, footer.entries)
    assert all(piece in footer.entries for piece in pieces)
    assert len(lay_entries(footer.rows, pieces)) <= len(footer.entries) + sum(map(len, pieces))
    assert not any(footer.proves(head.first_row, index, b"") for index in range(min(head.rows, 4)))
    assert len(footer.digest()) == 32
    return len(footer.rows).bit_length(), _items(footer.items)


def _items(raw: bytes) -> Hashable:
    try:
        return tuple(sorted({type(item).__name__ for item in decode(raw, where="items")}))
    except FormatError as error:
        return refused(error)


def _resealed(footer: bytes) -> bool:
    """A chunk without a head gets one that holds, or none."""
    kind = CLASSES[1]
    fd = os.memfd_create("chunk")
    try:
        os.ftruncate(fd, kind.file_bytes)
        os.pwrite(fd, footer[:kind.footer_bytes], kind.footer_start)
        done = reseal(fd, kind, 1, "main", 0, [0, 1])
        if done:
            chunkfile.read_footer(fd, chunkfile.read_head(fd, "c/0"), "c/0")
    finally:
        os.close(fd)
    return done


def journal(data: bytes) -> Hashable:
    """A pack of records' items: recovery's replay, the check and the ledger's reader take them or say why not."""
    blocks = [block for _, block in unpack(data)[:RECORDS]]
    raw = b"".join(pack_record(0, 1 + n, 5, block) for n, block in enumerate(blocks)) if _right(data) else data
    file = _file("slot-0/journal/00000001", raw)
    told: list[Hashable] = []
    replay, records = Replay(), 0
    try:
        for record in Journal(_volume(), 0).read():
            records += 1
            replay.apply(record.segment, record.items)
    except FormatError as error:
        told.append(refused(error))
    report = Report(1)
    told += [sorted({finding.what[:12] for finding in check_journal(file.parent.parent, report)})[:3].__repr__()]
    told += [len(replay.tapes), tuple((len(tape.rows).bit_length(), len(tape.chunks), tape.gap is None) for tape in replay.tapes.values())[:3]]
    return records.bit_length(), *told, _ledger(file)


def _ledger(file: Path) -> Hashable:
    with file.open("rb") as opened:
        try:
            return sum(len(record.entries) for record in ledger.records(opened.fileno()))
        except FormatError as error:
            return refused(error)


def ring(data: bytes) -> Hashable:
    """A head (RING_HEAD), then rows or entries: no look at it leaves the file, no row is valid under another number."""
    raw, body = data[:RING_HEAD.itemsize].ljust(RING_HEAD.itemsize, b"\0"), data[RING_HEAD.itemsize:]
    _file("idx/cam-1/main.ring", (_crc_at_end(raw) if _right(data) else raw).ljust(PAGE, b"\0") + body)
    try:
        rows = RingFile(_volume().dir_fd, "idx/cam-1/main.ring", 1, "main")
    except FormatError as error:
        return refused(error), _frames()
    try:
        assert rows.capacity * 64 <= len(body)
        valid = rows.valid_from(0)
        assert valid <= rows.capacity + 4096
        count = min(ROWS_LOOKED_AT, rows.capacity)
        copied, good = rows.copy(0, count)
        assert good == min(valid, count)
        assert good < 2 or rows.copy(1, 1)[0].tobytes() == copied[1:2].tobytes()
        found = rows.find(0, count, 10**18)
        assert -1 <= found < count
        return rows.capacity.bit_length(), good.bit_length(), found.bit_length()
    finally:
        rows.close()


def _frames() -> Hashable:
    try:
        frames = FramesFile(_volume().dir_fd, "idx/cam-1/main.ring", 1, "main")
    except FormatError as error:
        return refused(error)
    try:
        return len(frames.read(3, 3 + min(frames.capacity, 1000)))
    finally:
        frames.close()


def log(data: bytes) -> Hashable:
    """A track's log: what holds together at its start counts."""
    _file("idx/cam-1/main.log", data)
    found = TrackLog(_volume().dir_fd, "idx/cam-1/main.log")
    try:
        facts = found.facts(None)
    except FormatError as error:
        return refused(error)
    assert found.parsed <= len(data)
    gaps = facts.gap_list()
    return found.parsed.bit_length(), len(facts.sample_entries), len(facts.sessions).bit_length(), len(gaps).bit_length()
