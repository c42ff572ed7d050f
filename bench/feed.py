"""A slot with its real threads, fed by a thread of this process as the drain would: no cameras, no network."""

import math
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.probe import percentiles
from bench.used import fill
from recorder._ext.auqueue import AuQueue
from recorder.base.clock import SystemClock
from recorder.base.config import RecordingConfig, RetentionRule
from recorder.base.media import AuFlag, SampleEntry, TrackKind
from storage import seal
from storage.commit import Commit
from storage.events import SlotEvent
from storage.layout import LARGE
from storage.slot import RecoveryReport, Slot
from storage.tape import TapeWriter
from storage.volume import Volume

FPS, GOP = 25, 50
RATE = 90_000
KEY_TIMES = 5           # as large as the mean
ENTRY = SampleEntry("avc1", b"\x01\x64\x00\x28", RATE, 1920, 1080)
GATHER_MS = RecordingConfig().gather_ms
QUARANTINE_S = 5.0
TURN_S = 45.0           # a chunk's way from its retirement to the pool, with the keeper's reserve
AHEAD_BYTES = 128 << 10     # of an AU of what a track is given before the measurement
BUFFER_S = 4.0
STUCK_S = 120.0


class TimedSlot(Slot):
    """A slot that notes (CLOCK_MONOTONIC s at the end, ms) of each `commit` (record to durable), `tick` (gathering to durable) and `keep` (a
    round of the keeper, which prepares chunks: half of one must last longer)."""

    def open(self) -> RecoveryReport:
        """As a slot's."""
        self.notes: dict[str, list[tuple[float, float]]] = {"commit": [], "tick": [], "keep": []}
        self._tick_s = time.monotonic()
        report = super().open()
        committer, commit = self._committer, self._committer._commit

        def noted(work: Commit) -> None:
            began_s = self._tick_s
            commit(work)
            now_s = time.monotonic()
            self.notes["commit"].append((now_s, committer.last_ms))
            self.notes["tick"].append((now_s, 1e3 * (now_s - began_s)))

        setattr(committer, "_commit", noted)  # noqa: B010
        return report

    def pass_once(self, *, all_tracks: bool = True, only_watched: bool = False) -> None:
        """As a slot's."""
        if all_tracks:
            self._tick_s = time.monotonic()
        super().pass_once(all_tracks=all_tracks, only_watched=only_watched)

    @property
    def written(self) -> dict[str, int]:
        """Bytes that the writer's kernel has written, by what they are for."""
        return self._writer.written

    @property
    def sealing(self) -> bool:
        """True while chunks wait for their seals."""
        return any(work.closed for work in list(self._works.values()))

    def keep_once(self) -> None:
        """As a slot's."""
        began_s = time.monotonic()
        super().keep_once()
        now_s = time.monotonic()
        self.notes["keep"].append((now_s, 1e3 * (now_s - began_s)))

    def delays(self, start_s: float, stop_s: float) -> dict[str, float]:
        """Percentiles of what ended between two moments."""
        found: dict[str, float] = {}
        for name, notes in self.notes.items():
            found |= percentiles([ms for at, ms in list(notes) if start_s <= at < stop_s], name)
        return found


@dataclass(slots=True)
class DigestClock:
    """CPU seconds that taking digests of sealed chunks has cost, reading them back included."""

    cpu_s: float = 0.0


@contextmanager
def digest_clock() -> Iterator[DigestClock]:
    """Counts while the block lasts, for all slots of the process."""
    clock, digests = DigestClock(), seal._digests

    def timed(*args: object) -> bytes:
        before = time.thread_time()
        found = digests(*args)  # type: ignore[arg-type]
        clock.cpu_s += time.thread_time() - before
        return found

    setattr(seal, "_digests", timed)  # noqa: B010
    try:
        yield clock
    finally:
        setattr(seal, "_digests", digests)  # noqa: B010


@dataclass(slots=True)
class Source:
    """A track's makings: `next` is the number of its next AU."""

    number: int
    queue: AuQueue
    writer: TapeWriter
    key: bytes
    delta: bytes
    start_ns: int
    next: int = 0

    def put(self, data: bytes, *, key: bool) -> bool:
        """One AU; False if the queue is full."""
        dts = self.next * RATE // FPS
        done = self.queue.append(data, dts, dts, self.start_ns + self.next * 1_000_000_000 // FPS, time.monotonic_ns(), 1,
                                 flags=AuFlag.KEY if key else 0)
        self.next += 1
        return done


@dataclass(slots=True)
class Given:
    """What the tracks have been given, and what their queues refused."""

    aus: int = 0
    nbytes: int = 0
    refused: int = 0
    late_s: float = 0.0     # the most that a frame came too late: above a frame's time the feeding itself is the limit


def ring_bytes(tracks: int, mbit: float) -> int:
    """Of a volume that so many tracks go round in: an open chunk and the next one each, and what is on its way back to the pool."""
    return (2 * tracks + math.ceil(tracks * mbit * 125_000 * TURN_S / LARGE.tape_bytes) + 8) * LARGE.file_bytes


@dataclass
class Feed:
    """`with Feed(folder, volume_bytes) as feed: feed.add(64, 4.0)`; the slot runs, its volume is full of used chunks that go round.

    `folder` must be empty or absent and is removed at the end. Events are counted by their kind.
    """

    folder: Path
    volume_bytes: int
    used: bool = True
    gather_ms: int = GATHER_MS
    events: Counter[str] = field(default_factory=Counter)
    given: Given = field(default_factory=Given)
    sources: list[Source] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _started: bool = False

    def __enter__(self) -> Self:
        self.path = self.folder / "volume"
        self.path.mkdir(parents=True)
        self.live = Path(tempfile.mkdtemp(prefix="watchroom-bench-", dir="/dev/shm"))
        try:
            Volume.init(self.path, bytes_max=self.volume_bytes, on_root=True).close()
            if self.used:
                fill(self.path, 1, self.volume_bytes)
            self._volume = Volume.open(self.path, on_root=True)
            self.slot = TimedSlot(self._volume, 0, config=RecordingConfig(gather_ms=self.gather_ms), live_dir=self.live,
                                  clock=SystemClock(), on_event=self._on_event, quarantine_s=QUARANTINE_S)
            self.slot.open()
        except BaseException:
            self._remove()
            raise
        self.slot.start()
        self._thread = threading.Thread(target=self._run, name="feed")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.stop()
        finally:
            self._remove()

    def stop(self) -> None:
        """End feeding and the slot, in order. May be called twice."""
        self._stop.set()
        if self._started:
            self._thread.join()
        self.slot.close()
        self._volume.close()

    def _remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.live, ignore_errors=True)

    def _on_event(self, event: SlotEvent) -> None:
        self.events[type(event).__name__] += 1

    def add(self, count: int, mbit: float, reached: Callable[[int], None] = lambda _: None) -> None:
        """So many tracks more, of `mbit` each, fed from now on; their chunks are full to different parts, as those of a site are.

        TimeoutError if the writer does not take what they begin with. `reached` is told how many are there.
        """
        mean = mbit * 125_000 / FPS
        delta = (GOP - KEY_TIMES) / (GOP - 1) * mean
        blobs = bytes(range(256)) * (round(max(KEY_TIMES * mean, AHEAD_BYTES)) // 256 + 1)
        capacity = 1 << max(20, math.ceil(math.log2(max(BUFFER_S * mbit * 125_000, 8 * AHEAD_BYTES))))
        new = []
        for n in range(count):
            new.append(self._open(len(self.sources) + n + 1, capacity, blobs[:round(KEY_TIMES * mean)], blobs[:round(delta)]))
            reached(n + 1)
        self._ahead(new, blobs[:AHEAD_BYTES])
        self.sources += new
        if not self._started:
            self._started = True
            self._thread.start()

    def _open(self, number: int, capacity: int, key: bytes, delta: bytes) -> Source:
        queue = AuQueue(capacity)
        writer = self.slot.open_track(number, "main", TrackKind.VIDEO, clock_rate=RATE, queue=queue, rule=RetentionRule(),
                                      describe=lambda _: ENTRY)
        start_ns = time.time_ns() - 2 * LARGE.tape_bytes // AHEAD_BYTES * 1_000_000_000 // FPS
        writer.begin_session(1, start_ns, "bench")
        return Source(number, queue, writer, key, delta, start_ns)

    def _ahead(self, sources: Sequence[Source], data: bytes) -> None:
        """Give each track a chunk, so that the keeper knows how fast it goes, and a share of the next one, each another."""
        whole = LARGE.tape_bytes // len(data)
        waiting = {source.number: whole + 1 + n * whole // len(sources) for n, source in enumerate(sources)}
        deadline = time.monotonic() + STUCK_S
        while any(waiting.values()):
            for source in sources:
                while waiting[source.number] and source.queue.capacity - source.queue.waiting_bytes >= 4 * len(data):
                    self._put(source, data, key=source.next % 8 == 0)
                    waiting[source.number] -= 1
            self._check_taking(deadline)
        while self.slot.sealing or any(source.queue.waiting_bytes > source.queue.capacity // 4 for source in sources):
            self._check_taking(deadline)

    def _check_taking(self, deadline: float) -> None:
        if time.monotonic() > deadline or self.slot.failed:
            raise TimeoutError(f"the writer takes no more of what tracks begin with; events: {dict(self.events)}")
        time.sleep(0.01)

    def _put(self, source: Source, data: bytes, *, key: bool) -> None:
        if source.put(data, key=key):
            self.given.aus += 1
            self.given.nbytes += len(data)
        else:
            self.given.refused += 1

    def _run(self) -> None:
        start, frame = time.monotonic(), 0
        while not self._stop.wait(max(0.0, start + frame / FPS - time.monotonic())):
            self.given.late_s = max(self.given.late_s, time.monotonic() - start - frame / FPS)
            for source in self.sources:
                key = source.next % GOP == source.number % GOP or source.next == 0
                self._put(source, source.key if key else source.delta, key=key)
            frame += 1

    def thread_cpu_s(self) -> dict[str, float]:
        """CPU seconds of the slot's threads so far, by name."""
        clocks = {t.name.removesuffix("-0"): time.pthread_getcpuclockid(t.ident) for t in threading.enumerate()
                  if t.ident and t.name in {"writer-0", "commit-0", "keeper-0"}}
        return {name: time.clock_gettime(clock) for name, clock in clocks.items()}

    def writes(self) -> dict[str, int]:
        """Bytes that the slot's kernels have written, by what they are for."""
        return self.slot.written

    def full(self) -> int:
        """Tracks whose queue has refused an AU."""
        return sum(source.queue.dropped_aus > 0 for source in self.sources)

    def lost(self) -> int:
        """AUs that were given and are not on a tape (after `stop`)."""
        return self.given.aus - sum(source.writer.counts[0] for source in self.sources)

    def watched(self, count: int) -> Sequence[tuple[int, str]]:
        """Some of the tracks."""
        step = max(1, len(self.sources) // count)
        return [(source.number, "main") for source in self.sources[::step][:count]]
