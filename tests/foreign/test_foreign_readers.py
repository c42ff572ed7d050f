"""zarr-python, tensorstore and zarrs see every full committed inner chunk, and never an uncommitted or foreign byte, while a writer writes."""

import multiprocessing
import os
import shutil
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.context import SpawnContext
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest

from recorder.base.clock import SystemClock
from recorder.base.errors import Gone
from recorder.base.media import TrackKind
from storage.layout import CHUNK_HEAD, CHUNK_HEAD_AT, PAGE, SMALL, track_path
from storage.pool import Quarantined
from storage.reader import TrackReader
from storage.store import TapeStore
from tests.foreign.foreign_reader import READERS, Twice
from tests.storage_read.real_slot import Site, Source, foreign
from tests.storage_read.reference_writer import Au, RefTrack, RefVolume, payload

INNER = SMALL.inner_bytes
ROW = [Au(9_000, 18_000, 0, 1), *([Au(2_000, 18_000)] * 4)]
HANGS_S = 300                      # whatever takes longer hangs
MATCHED, READS = 50, 300


@pytest.fixture
def live_dir() -> Iterator[Path]:
    path = Path(mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(params=READERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def open_reader(kind: str, volume: Path, camera: int = 7) -> Twice:
    return Twice(READERS[kind](volume / track_path(camera, "main")))


def test_committed_inner_chunks_and_nothing_else(tmp_path: Path, live_dir: Path, kind: str):
    volume = RefVolume(tmp_path / "volume", live_dir)
    track = volume.track(7, "main", TrackKind.AUDIO)
    for _ in range(8):
        track.write_row(ROW)
    track.commit()
    mark = track.durable_offset // INNER * INNER
    for _ in range(8):
        track.write_row(ROW)                        # visible, not committed
    reader = open_reader(kind, volume.path)
    seen = reader.read(0, SMALL.tape_bytes + 10)
    assert mark > 0
    assert seen[:mark].tobytes() == payload(7, 0, mark)
    assert not seen[mark:].any()
    track.commit()
    mark = track.durable_offset // INNER * INNER
    seen = open_reader(kind, volume.path).read(0, SMALL.tape_bytes)
    assert seen[:mark].tobytes() == payload(7, 0, mark)
    assert not seen[mark:].any()


def test_a_sealed_chunk_is_seen_whole_and_a_retired_one_not_at_all(tmp_path: Path, live_dir: Path, kind: str):
    volume = RefVolume(tmp_path / "volume", live_dir)
    track = volume.track(7, "main", TrackKind.AUDIO)
    while len(track.chunks) < 3:
        track.write_row(ROW)
    used = (sum(struct.unpack_from("<I", row, 24)[0] for row in track.chunks[0].rows))
    seen = open_reader(kind, volume.path).read(0, SMALL.tape_bytes)
    assert seen[:used].tobytes() == payload(7, 0, used)
    assert not seen[used:].any()
    assert track.retire()
    assert not open_reader(kind, volume.path).read(0, SMALL.tape_bytes).any()


def test_a_file_on_its_second_life_shows_nothing_of_its_first(tmp_path: Path, live_dir: Path, kind: str):
    volume = RefVolume(tmp_path / "volume", live_dir)
    first, second = volume.track(7, "main", TrackKind.AUDIO), volume.track(8, "main", TrackKind.AUDIO)
    while len(first.chunks) < 3:
        first.write_row(ROW)
    first.retire()
    second.write_row(ROW)
    second.commit()
    assert second.chunks[0].generation == 2
    assert not open_reader(kind, volume.path, 8).read(0, SMALL.tape_bytes).any()
    while second.durable_offset < INNER:
        second.write_row(ROW)
        second.commit()
    seen = open_reader(kind, volume.path, 8).read(0, SMALL.tape_bytes)
    assert seen[:INNER].tobytes() == payload(8, 0, INNER)
    assert not seen[INNER:].any()


def test_a_torn_index_is_read_again_once_and_counted(tmp_path: Path, live_dir: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    volume = RefVolume(tmp_path / "volume", live_dir)
    track = volume.track(7, "main", TrackKind.AUDIO)
    for _ in range(8):
        track.write_row(ROW)
    track.commit()
    reader = open_reader(kind, volume.path)
    index = os.pread(track.chunks[0].fd, SMALL.index_bytes, 0)
    os.pwrite(track.chunks[0].fd, b"torn", 40)
    with pytest.raises((ValueError, RuntimeError)):
        reader.read(0, INNER)
    assert reader.again == 1
    inner = reader.reader.read

    def healed(start: int, stop: int):
        try:
            return inner(start, stop)
        finally:
            os.pwrite(track.chunks[0].fd, index, 0)

    monkeypatch.setattr(reader.reader, "read", healed)
    assert reader.read(0, INNER).tobytes() == payload(7, 0, INNER)
    assert reader.again == 2


class Pace:
    """How far reader and writer are, seen by both: a retired file is used again only after reads that began later have ended.

    In the product a minute of quarantine stands for that; a test that counted seconds would test the machine's speed.
    """

    def __init__(self, context: SpawnContext) -> None:
        self.ready, self.done = context.Event(), context.Event()
        self._counts = context.RawArray("Q", 2)

    def read_ended(self) -> None:
        self._counts[0] += 1

    def turn_ended(self) -> None:
        self._counts[1] += 1

    @property
    def reads(self) -> int:
        return int(self._counts[0])

    def settle(self) -> None:
        """Return when the writer has done a whole turn, and so nothing is half said."""
        seen, until = self._counts[1], time.monotonic() + HANGS_S
        while self._counts[1] < seen + 2:
            assert time.monotonic() < until, "the writer hangs"
            time.sleep(0.001)


def write(path: Path, live_dir: Path, pace: Pace) -> None:
    """Two cameras over one pool, commits between rows, retired files used again as soon as no reader can still be in them."""
    volume = RefVolume(path, live_dir)
    tracks = [volume.track(camera, "main", TrackKind.AUDIO) for camera in (7, 8)]
    waiting: list[tuple[int, RefTrack]] = []
    pace.ready.set()
    turn = 0
    while not pace.done.is_set():
        pace.turn_ended()
        while waiting and pace.reads >= waiting[0][0] + 2:
            waiting.pop(0)[1].clear_oldest()
        if len(waiting) >= 8:           # the reader is slow: wait for it
            time.sleep(0.001)
            continue
        track = tracks[turn % 2]
        turn += 1
        track.write_row(ROW, reserve=20_000)
        if turn % 6 < 2:
            track.commit()
        if len(track.chunks) > 3:
            track.retire(clear=False)
            waiting.append((pace.reads, track))


@pytest.mark.live
def test_reading_beside_a_writer_that_recycles(tmp_path: Path, live_dir: Path, kind: str):
    context = multiprocessing.get_context("spawn")
    pace = Pace(context)
    writer = context.Process(target=write, args=(tmp_path / "volume", live_dir, pace))
    writer.start()
    try:
        assert pace.ready.wait(HANGS_S)
        figures = read_for(tmp_path / "volume", live_dir, kind, pace)
        pace.done.set()
        writer.join(HANGS_S)
        assert writer.exitcode == 0
    finally:
        writer.kill()
        writer.join()
        writer.close()
    assert figures["wrong"] == 0
    assert figures["again"] <= figures["reads"] // 10


def read_for(volume: Path, live_dir: Path, kind: str, pace: Pace) -> dict[str, int]:
    """Random inner chunks of the newest megabytes, each judged by our own marks before and after the read."""
    store = TapeStore([volume], live_dir)
    tracks = {camera: store.track(camera, "main") for camera in (7, 8)}
    readers = {camera: open_reader(kind, volume, camera) for camera in tracks}
    random, until = np.random.default_rng(1), time.monotonic() + HANGS_S
    figures = dict.fromkeys(("reads", "matched", "empty", "wrong"), 0)
    while figures["matched"] < MATCHED or figures["reads"] < READS or generation(volume) < 3:
        assert time.monotonic() < until, figures
        camera = int(random.choice((7, 8)))
        track = tracks[camera]
        before = track.edges()
        low, high = before.tail_offset // INNER, before.visible_offset // INNER + 3
        k = int(random.integers(max(low - 2, 0), high))
        seen = readers[camera].read(k * INNER, (k + 1) * INNER).tobytes()
        if not any(seen) and committed(k, before.durable_offset):
            pace.settle()               # the commit is ours before it is the foreign readers'
            seen = readers[camera].read(k * INNER, (k + 1) * INNER).tobytes()
        after = track.edges()
        figures["reads"] += 1
        figures[judge(camera, k, seen, before.durable_offset, after.durable_offset, after.tail_offset)] += 1
        pace.read_ended()
    figures["again"] = sum(reader.again for reader in readers.values())
    store.close()
    return figures


def generation(volume: Path) -> int:
    """How often the most used file among camera 7's has been used."""
    found = [0]
    for path in (volume / track_path(7, "main") / "c").iterdir():
        with suppress(FileNotFoundError), path.open("rb") as file:
            found.append(int(np.frombuffer(file.read(PAGE), CHUNK_HEAD, 1, CHUNK_HEAD_AT)["generation"][0]))
    return max(found)


def committed(k: int, durable: int) -> bool:
    """Inner chunk k is full of committed rows, in the chunk being written or one sealed."""
    full = (k + 1) * INNER <= durable
    return full and (durable // SMALL.tape_bytes == k * INNER // SMALL.tape_bytes or (k + 1) * INNER <= durable - SMALL.tape_bytes)


def judge(camera: int, k: int, seen: bytes, durable_before: int, durable_after: int, tail_after: int) -> str:
    """matched, empty, or wrong: bytes of something else, uncommitted ones, or committed ones missing."""
    if not any(seen):
        return "wrong" if committed(k, durable_before) and k * INNER >= tail_after else "empty"
    length = len(seen.rstrip(b"\0"))            # the rest of a sealed chunk is zeros
    same = payload(camera, k * INNER, INNER).startswith(seen[:length - length % 8])
    return "matched" if same and k * INNER < durable_after else "wrong"


class Gate:
    """Lets the slot's pool clear a retired file only when reads that began after its retirement have ended."""

    def __init__(self, site: Site) -> None:
        self.reads = self.cleared = 0
        self._since: dict[str, int] = {}
        self._pool = site.slot._pool
        self._clear = self._pool._clear

    def clear(self, entry: Quarantined, mono_ns: int) -> bool:
        if self.reads < self._since.setdefault(entry.name, self.reads) + 2 or not self._clear(entry, mono_ns):
            return False
        self.cleared += 1
        return True


@pytest.mark.live
def test_reading_beside_the_products_own_writer(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    """The real slot with its threads, its pool and quarantine, on a volume that goes round."""
    site = Site(tmp_path, clock=SystemClock(), bytes_max=20 << 20, quarantine_s=0.2)
    gate = Gate(site)
    monkeypatch.setattr(site.slot._pool, "_clear", gate.clear)
    site.slot.start()
    sources = [Source(site.slot, camera, time.time_ns(), ms=100, size=8000) for camera in (7, 8)]
    done = threading.Event()

    def feed() -> None:
        while not done.wait(0.01):
            for source in sources:
                source.put(2)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        figures = read_slot(site, kind, gate)
    finally:
        done.set()
        feeder.join()
        site.close()
    assert figures["wrong"] == 0
    assert figures["again"] <= figures["reads"] // 10


def read_slot(site: Site, kind: str, gate: Gate) -> dict[str, int]:
    random, until = np.random.default_rng(2), time.monotonic() + HANGS_S
    figures = dict.fromkeys(("reads", "matched", "agreed", "empty", "wrong"), 0)
    readers = {camera: open_reader(kind, site.path, camera) for camera in (7, 8)}
    while min(figures["matched"], figures["agreed"]) < MATCHED or figures["reads"] < READS or gate.cleared < 4:
        assert time.monotonic() < until, (figures, gate.cleared)
        camera = int(random.choice((7, 8)))
        track = site.store.track(camera, "main")
        before = track.edges()
        k = int(random.integers(max(before.tail_offset // INNER - 1, 0), before.visible_offset // INNER + 3))
        seen = readers[camera].read(k * INNER, (k + 1) * INNER).tobytes()
        after = track.edges()
        figures["reads"] += 1
        if any(seen):
            own = own_bytes(track, k)
            figures["agreed"] += own is not None
            early, other = k * INNER >= after.durable_offset, own not in (None, seen)
            figures["wrong" if early or other or foreign(seen, camera, zeros=True) else "matched"] += 1
        else:
            figures["wrong" if missing(track, readers[camera], k, before.durable_offset) else "empty"] += 1
        gate.reads += 1
    figures["again"] = sum(reader.again for reader in readers.values())
    return figures


def own_bytes(track: TrackReader, k: int) -> bytes | None:
    """The inner chunk as the recorder's own reader has it; None once it has been retired."""
    buffer = bytearray(INNER)
    try:
        with track.open_chunk(track.chunk_of(k * INNER)) as lease:
            return bytes(buffer[:lease.read(buffer, k * INNER)])
    except Gone:
        return None


def missing(track: TrackReader, reader: Twice, k: int, durable: int) -> bool:
    """Committed bytes of the chunk being written are still not seen after a later commit, though nothing has retired them."""
    in_open = k * INNER // SMALL.tape_bytes == durable // SMALL.tape_bytes
    if not in_open or (k + 2) * INNER > durable - INNER or track.edges().durable_offset <= durable:
        return False
    return not any(reader.read(k * INNER, (k + 1) * INNER)) and k * INNER >= track.edges().tail_offset
