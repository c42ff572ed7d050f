"""Footage that says what it is: recorded by hand, and judged from the files alone."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from bench.tapes import tape_aus
from recorder._ext.auqueue import AuQueue
from recorder.base.clock import SimulatedClock
from recorder.base.config import RecordingConfig, RetentionRule
from recorder.base.media import NS, AuFlag, SampleEntry, TrackKind
from storage.check import check_volume
from storage.finding import Finding, Severity
from storage.reader import TrackReader
from storage.slot import Slot
from storage.store import TapeStore
from storage.tape import TapeWriter
from storage.volume import Volume

VIDEO = SampleEntry("avc1", b"\x01\x64\x00\x28", 90000, 1920, 1080)
SOUND = SampleEntry("mp4a", b"\x11\x90", 48000, channels=2, sample_rate=48000)
CHUNKS = 9                  # of 16 MiB: a run of a minute goes round
TURN_S = 0.4
SEED = 32
AGAIN = 20                  # AUs recorded after the recovery


def au_bytes(track: str, number: int, size: int) -> bytes:
    """The bytes of an AU: no two have the same."""
    seed = _seed(track, number)
    return (seed * (size // SEED + 1))[:size]


def _seed(track: str, number: int) -> bytes:
    return hashlib.blake2b(f"{track}/{number}".encode(), digest_size=SEED).digest()


@dataclass(frozen=True, slots=True)
class Kind:
    """A track of the run."""

    name: str
    kind: TrackKind
    entry: SampleEntry
    fps: int
    gop: int
    size: int

    def start_of(self, number: int) -> int:
        """ns after the first AU."""
        return number * NS // self.fps


TRACKS = (Kind("main", TrackKind.VIDEO, VIDEO, 50, 100, 40_000), Kind("audio", TrackKind.AUDIO, SOUND, 50, 1, 600))


@dataclass(frozen=True, slots=True)
class Promise:
    """What was acknowledged of a track: AUs [first, end) were recorded and not yet retired."""

    first: int
    end: int


class Recording:
    """A slot driven by hand: `turn` records 0.4 s, and commits unless told otherwise."""

    def __init__(self, folder: Path, live: Path) -> None:
        self.clock = SimulatedClock()
        self._start_ns = self.clock.wall_ns()
        self._path, self._live = folder / "volume", live
        self._path.mkdir()
        live.mkdir(exist_ok=True)
        Volume.init(self._path, bytes_max=CHUNKS << 24, on_root=True).close()
        self._volume = Volume.open(self._path, on_root=True)
        self._slot = Slot(self._volume, 0, config=RecordingConfig(chunk_close_s=6.0), live_dir=live, clock=self.clock,
                          on_event=lambda event: None, quarantine_s=2.0, journal_bytes=64 << 10)
        self._slot.open()
        self._slot.whole_pages = True
        self._tracks = [(kind, *self._begin(kind)) for kind in TRACKS]
        self._put = 0

    def _begin(self, kind: Kind) -> tuple[AuQueue, TapeWriter]:
        queue = AuQueue(8 << 20)
        writer = self._slot.open_track(1, kind.name, kind.kind, clock_rate=kind.entry.clock_rate, queue=queue, rule=RetentionRule(),
                                       describe=lambda _: kind.entry)
        writer.begin_session(1, self._start_ns, "bench")
        return queue, writer

    def turn(self, *, commit: bool) -> dict[str, Promise] | None:
        """0.4 s more; what is promised after a commit."""
        count = round(TURN_S * TRACKS[0].fps)
        for kind, queue, _ in self._tracks:
            for number in range(self._put, self._put + count):
                self._append(kind, queue, number)
        self._put += count
        self.clock.advance(TURN_S)
        self._slot.keep_once()
        self._slot.pass_once()
        if commit:
            self._slot.commit_once()
        self._slot.keep_once()
        if self._slot.failed:
            raise RuntimeError("the volume failed while it was recorded")
        return self._promises() if commit else None

    def _append(self, kind: Kind, queue: AuQueue, number: int) -> None:
        key = number % kind.gop == 0
        dts = number * kind.entry.clock_rate // kind.fps
        data = au_bytes(kind.name, number, kind.size * (4 if key and kind.gop > 1 else 1))
        recv_ns = self.clock.mono_ns() + kind.start_of(number - self._put)
        if not queue.append(data, dts, dts, self._start_ns + kind.start_of(number), recv_ns, 1, flags=AuFlag.KEY if key else 0):
            raise RuntimeError("the queue is full: the writer does not take")

    def _promises(self) -> dict[str, Promise]:
        store = TapeStore([self._path], self._live)
        try:
            return {kind.name: Promise(self._first(store.track(1, kind.name), kind), writer.counts[0]) for kind, _, writer in self._tracks}
        finally:
            store.close()

    def _first(self, reader: TrackReader, kind: Kind) -> int:
        return max(0, (reader.edges().first_ns - self._start_ns) * kind.fps // NS)

    def settle(self) -> dict[str, Promise]:
        """Take and commit what still waits for its page, and do what the keeper has ordered, as a close begins; what is promised then."""
        self._slot.whole_pages = False
        self._slot.pass_once()
        self._slot.commit_once()
        return self._promises()

    def close(self) -> None:
        """In order."""
        self._slot.close()
        self._volume.close()


def judge(folder: Path, live: Path, promised: dict[str, Promise], retired: dict[str, Promise], most: int) -> list[str]:
    """Recover the volume in `folder` as after a power cut (`live` is empty), record on, and say what is wrong; [] is what is hoped for.

    `promised`: what had been acknowledged; `retired`: the promises after those, whose `first` may have been reached already;
    `most`: no AU from this number on was recorded before the cut.
    """
    path = folder / "volume"
    if not (path / "volume.json").exists():
        return ["the volume is gone"] if promised else []
    faults = _go_on(path, live, most)
    if faults:
        return faults
    store = TapeStore([path], live)
    try:
        for kind in TRACKS:
            faults += _judge(store.track(1, kind.name), kind, promised.get(kind.name, Promise(0, 0)), retired[kind.name].first, most)
    finally:
        store.close()
    return faults + [f"check: {finding}" for finding in check_volume(path, live, level=3).findings if not _is_debris(finding)][:5]


def _is_debris(finding: Finding) -> bool:
    """A file that was on its way to a track when the power failed: it held nothing, and the keeper clears it in time."""
    return finding.severity is Severity.WARNING and "/quarantine/" in finding.where


def _go_on(path: Path, live: Path, number: int) -> list[str]:
    """Recover; then record AUs `number` and on, as the worker would whose cameras come back."""
    volume, clock = Volume.open(path, on_root=True), SimulatedClock()
    slot = Slot(volume, 0, config=RecordingConfig(), live_dir=live, clock=clock, on_event=lambda event: None, journal_bytes=256 << 10)
    try:
        slot.open()
        for kind in TRACKS:
            queue = AuQueue(8 << 20)
            writer = slot.open_track(1, kind.name, kind.kind, clock_rate=kind.entry.clock_rate, queue=queue, rule=RetentionRule(),
                                     describe=lambda _, entry=kind.entry: entry)  # type: ignore[misc]
            start_ns = max(writer.end_ns, clock.wall_ns())
            session = writer.next_session
            writer.begin_session(session, start_ns, "bench")
            slot.keep_once()
            for n in range(number, number + AGAIN):
                dts = n * kind.entry.clock_rate // kind.fps
                queue.append(au_bytes(kind.name, n, kind.size), dts, dts, start_ns + kind.start_of(n - number), 1, session,
                             flags=AuFlag.KEY if n == number or kind.gop == 1 else 0)
        for _ in range(3):
            slot.pass_once()
            slot.commit_once()
            slot.keep_once()
            clock.advance(TURN_S)
        return ["the volume failed after its recovery"] if slot.failed else []
    finally:
        slot.close()
        volume.close()


def _judge(reader: TrackReader, kind: Kind, promised: Promise, retired: int, most: int) -> list[str]:
    numbers = {_seed(kind.name, n): n for n in range(most + AGAIN)}
    found: list[int] = []
    for au in tape_aus(reader):
        number = numbers.get(au.data[:SEED], -1)
        if number < 0 or au.data != au_bytes(kind.name, number, len(au.data)):
            return [f"{kind.name}: an AU behind number {found[-1] if found else 'none'} is garbage"]
        found.append(number)
    before = [n for n in found if n < most]
    faults = [] if found[len(before):] == list(range(most, most + AGAIN)) else [f"{kind.name}: what was recorded after the cut is not there"]
    if not before:
        return faults + ([f"{kind.name}: {promised.end} AUs were acknowledged and none is there"] if promised.end else [])
    if before != list(range(before[0], before[0] + len(before))):
        faults.append(f"{kind.name}: AUs are missing in the middle, or out of order")
    if before[-1] + 1 < promised.end:
        faults.append(f"{kind.name}: acknowledged up to {promised.end}, recovered up to {before[-1] + 1}")
    if before[0] > max(retired, promised.first):
        faults.append(f"{kind.name}: begins at {before[0]}, nothing from {max(retired, promised.first)} on had been retired")
    return faults
