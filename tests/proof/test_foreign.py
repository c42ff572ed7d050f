"""zarr-python, tensorstore and zarrs read a running recorder's arrays over a ring that goes round: all that is committed, and nothing else."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from bench.camsim.process import SimProcess
from bench.camsim.truth import Truth
from bench.site import Site, wait_until
from bench.tapes import tape_aus
from recorder.base.media import TrackKind
from storage.footage import Edges
from storage.layout import class_of, track_path
from storage.reader import TrackReader
from tests.foreign.foreign_reader import READERS, Twice
from tests.proof.kit import ALL, check_clean, recording
from tests.proof.test_slow_clients import BIG

VIDEO = class_of(TrackKind.VIDEO)
INNER = VIDEO.inner_bytes
SETTLED_S = 2.0             # several commits
CLOSED_S = 60.0             # a row is closed after a second or two; on a busy machine later


@dataclass
class Map:
    """Which AU of the truth lies where on a tape; it learns new rows as long as they can be read and never forgets."""

    track: TrackReader
    truth: Truth
    first: int
    row: int = 0
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def learn(self) -> None:
        """All rows that are closed by now."""
        while len(run := self.track.rows_from(self.row, 64)) and not (run.open and len(run) == 1):
            assert run.first == self.row, "rows were retired before they were looked at"
            entries = self.track.entries(run)
            closed = entries.row < len(run) - run.open
            self.starts += entries.offset[closed].tolist()
            self.ends += (entries.offset + entries.size)[closed].tolist()
            self.row = run.next - run.open

    def reaches(self, offset: int) -> bool:
        """True once all up to the tape offset is known."""
        self.learn()
        return bool(self.ends) and self.ends[-1] >= offset

    def expected(self, start: int) -> bytes:
        """The inner chunk that begins at a tape offset."""
        whole = bytearray(INNER)
        for n in range(int(np.searchsorted(self.ends, start, "right")), int(np.searchsorted(self.starts, start + INNER))):
            au, at = self.truth.au_bytes(self.first + n), self.starts[n] - start
            whole[max(at, 0):min(at + len(au), INNER)] = au[max(-at, 0):INNER - at]
        return bytes(whole)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a foreign reader saw of an inner chunk, and our own marks after it."""

    tape: int
    start: int
    seen: bytes
    after: Edges


def map_of(site: Site, number: int, truth: Truth) -> Map:
    """The map of a tape whose first row can still be read."""
    track = site.store().track(number, "main")
    au = next(tape_aus(track))
    first = truth.find(au.data, (au.wall_ns - truth.base_wall_ns) * 12 // 1_000_000_000 - 12)
    assert first is not None
    return Map(track, truth, first)


@pytest.mark.parametrize(("seconds", "ring_mb"), [pytest.param(8, 112, marks=pytest.mark.live), pytest.param(60, 128, marks=pytest.mark.soak)])
def test_foreign_readers_see_what_is_committed_and_nothing_else(seconds: int, ring_mb: int, simulate: Callable[..., SimProcess],
                                                                make_site: Callable[..., Site],
                                                                record_property: Callable[[str, object], None]) -> None:
    sim = simulate("--count", "2", *BIG)
    cameras = {f"cam-{i}": [f'main = {{ url = "{sim.url(i)}", kbps = 60000 }}'] for i in range(2)}
    site = make_site(cameras, bytes_max=ring_mb << 20, module="tests.proof.hasty")
    with site:
        wait_until(lambda: recording(site), 300, "both cameras recording")
        numbers, store = list(site.numbers().values()), site.store()
        wait_until(lambda: all(len(store.track(number, "main").rows(*ALL, durable=True)) for number in numbers), 300, "footage")
        store.close()
        maps = [map_of(site, number, sim.truth(i)) for i, number in enumerate(numbers)]
        paths = [site.volume / track_path(number, "main") for number in numbers]
        readers = [Twice(kind(path)) for path in paths for kind in READERS.values()]
        samples = sample(site, maps, readers, seconds)
    assert site.stop() == 0, site.tail()
    figures = {"empty": 0, "right": 0}
    for one in samples:
        figures[judge(one, maps[one.tape])] += 1
    for name, count in figures.items():
        record_property(f"inner chunks {name}", count)
    record_property("read again", sum(reader.again for reader in readers))
    assert figures["right"] > 20
    assert figures["empty"] > 0
    assert any(tape.track.edges().tail_offset >= VIDEO.tape_bytes for tape in maps), "the ring has not come round"
    assert sum(reader.again for reader in readers) <= len(samples) // 10
    check_clean(site)


def sample(site: Site, maps: list[Map], readers: list[Twice], seconds: int) -> list[Sample]:
    """Random inner chunks around the tail and the newest bytes, by each reader in turn."""
    dice, until_s, samples = np.random.default_rng(seconds), time.monotonic() + seconds, []
    while time.monotonic() < until_s:
        site.check_alive()
        for tape, known in enumerate(maps):
            known.learn()
            before = known.track.edges()
            low, newest = before.tail_offset // INNER, before.durable_offset // INNER
            k = int(dice.choice([dice.integers(max(low - 3, 0), newest + 3), newest - 1, newest, newest + 1]))
            reader = readers[len(READERS) * tape + len(samples) // len(maps) % len(READERS)]
            seen = reader.read(k * INNER, (k + 1) * INNER).tobytes() if k >= 0 else b""
            samples.append(Sample(tape, k * INNER, seen, known.track.edges()))
            if not any(seen) and 0 <= k < newest - 1 and k >= low:
                came_later(known, reader, k)
        time.sleep(0.01)
    reached = [max(one.after.durable_offset for one in samples if one.tape == tape) for tape in range(len(maps))]
    wait_until(lambda: all(known.reaches(offset) for known, offset in zip(maps, reached, strict=True)), CLOSED_S, "rows of all that was seen")
    return samples


def came_later(known: Map, reader: Twice, k: int) -> None:
    """An inner chunk that is committed and was not seen: it is seen now, or has been retired, or holds nothing."""
    deadline_s = time.monotonic() + SETTLED_S
    while not any(reader.read(k * INNER, (k + 1) * INNER)):
        known.learn()
        if k * INNER < known.track.edges().tail_offset or not any(known.expected(k * INNER)):
            return
        assert time.monotonic() < deadline_s, f"inner chunk {k} is committed and foreign readers do not see it"
        time.sleep(0.05)


def judge(one: Sample, known: Map) -> str:
    """empty or right; fails on anything else."""
    if not any(one.seen):
        return "empty"
    expected = known.expected(one.start)
    assert one.seen == expected, f"inner chunk at {one.start}: not what was sent"
    last = int(np.searchsorted(known.starts, one.start + INNER)) - 1
    assert min(known.ends[last], one.start + INNER) <= one.after.durable_offset, f"inner chunk at {one.start}: seen before it was committed"
    return "right"
