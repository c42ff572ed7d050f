"""A slot without threads, a camera that makes AUs one can tell apart, and a reader that believes nothing but the files."""

import sys
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))      # tests of other folders import this module too

from autopsy import explain
from payloads import payload

from recorder._ext.auqueue import AuQueue
from recorder._ext.crc32c import crc32c
from recorder._ext.entries import decode
from recorder._ext.tapewriter import TapeCore
from recorder.base.clock import SimulatedClock
from recorder.base.config import RecordingConfig, RetentionRule
from recorder.base.media import AuFlag, SampleEntry, TrackKind
from storage.events import SlotEvent
from storage.layout import PAGE, ROW, class_of, track_path
from storage.retainer import Rules
from storage.rings import row_is
from storage.siteholds import SiteHolds
from storage.slot import RecoveryReport, Slot
from storage.tape import TapeWriter
from storage.volume import Volume

ENTRY = SampleEntry("avc1", b"\x01\x64\x00\x28", 90000, 1920, 1080)
AAC = SampleEntry("mp4a", b"\x11\x90", 48000, channels=2, sample_rate=48000)


@dataclass
class Camera:
    """Makes one track's AUs at `fps`, a key frame every `gop`; remembers all that it has put."""

    number: int
    queue: AuQueue
    kind: TrackKind = TrackKind.VIDEO
    fps: int = 25
    gop: int = 25
    size: int = 20_000
    rate: int = 90_000
    start_ns: int = 1_767_225_600_000_000_000
    name: str = "main"
    session: int = 1
    au: int = 0
    recv_ns: int = 1
    sent: list[bytes] = field(default_factory=list)

    def put(self, count: int, *, flags: int = 0, gap: int = 0, force_key: bool = False, size: int | None = None) -> int:
        """Append `count` AUs; how many found room."""
        done = 0
        for _ in range(count):
            key = self.au % self.gop == 0 or force_key
            n = size if size is not None else self.size * (4 if key and self.gop > 1 else 1)
            data = payload(self.number, self.au, n)
            dts = self.au * self.rate // self.fps
            ok = self.queue.append(data, dts, dts, self.start_ns + self.au * 1_000_000_000 // self.fps, self.recv_ns, self.session,
                                   flags=flags | (AuFlag.KEY if key else 0), gap=gap)
            if not ok:
                break
            gap = 0
            self.au += 1
            self.sent.append(data)
            done += 1
        return done


class Rig:
    """A slot driven by hand on a volume in `path`."""

    def __init__(self, path: Path, live: Path, *, bytes_max: int = 1 << 28, quarantine_s: float = 60.0, journal_bytes: int = 1 << 20,
                 clock: SimulatedClock | None = None, chunk_close_s: float = 900.0, sharers: int = 1,
                 rules: Rules | None = None, holds: SiteHolds | None = None, free_min: float = 0.0, hold_share: float = 0.5) -> None:
        self.path, self.live = path, live
        live.mkdir(exist_ok=True)
        if not (path / "volume.json").exists():
            Volume.init(path, bytes_max=bytes_max, on_root=True).close()
        self.clock = clock or SimulatedClock()
        self.events: list[SlotEvent] = []
        self.volume = Volume.open(path, on_root=True)
        self.slot = Slot(self.volume, 0, config=RecordingConfig(chunk_close_s=chunk_close_s), live_dir=live, clock=self.clock,
                         on_event=self.events.append, quarantine_s=quarantine_s, journal_bytes=journal_bytes, sharers=lambda: sharers,
                         rules=rules, holds=holds, free_min=free_min, hold_share=hold_share)
        try:
            self.report: RecoveryReport = self.slot.open()
        except BaseException:
            self.volume.close()
            raise

    def track(self, camera: int = 1, name: str = "main", kind: TrackKind = TrackKind.VIDEO, rule: RetentionRule | None = None,
              queue: AuQueue | None = None, entry: SampleEntry | None = None, **more: int) -> tuple[TapeWriter, Camera]:
        """Open a track and its camera, session begun."""
        queue = queue or AuQueue(4 << 20)
        rate = 90_000 if kind is TrackKind.VIDEO else 48_000
        found = entry or (ENTRY if kind is TrackKind.VIDEO else AAC)
        writer = self.slot.open_track(camera, name, kind, clock_rate=rate, queue=queue, rule=rule or RetentionRule(),
                                      describe=lambda _: found)
        source = Camera(camera, queue, kind, rate=rate, name=name, session=writer.next_session,
                        start_ns=max(writer.end_ns, self.clock.wall_ns()), **more)
        writer.begin_session(source.session, source.start_ns, "test")
        self.turn()
        return writer, source

    def turn(self, *, commit: bool = True) -> None:
        """Keeper, pass, commit, keeper."""
        self.slot.keep_once()
        self.slot.pass_once()
        if commit:
            self.slot.commit_once()
        self.slot.keep_once()

    def run(self, source: Camera, count: int, *, batch: int = 10) -> None:
        """Record `count` AUs in batches, a turn after each."""
        left = count
        while left:
            left -= source.put(min(batch, left))
            self.turn()

    def core(self, camera: int = 1, name: str = "main") -> TapeCore:
        """The kernel's side of a track."""
        return self.slot._works[camera, name].core

    def close(self) -> None:
        """In order."""
        self.slot.close()
        self.volume.close()

    def crash(self) -> None:
        """As kill -9 would: descriptors go, nothing is flushed, the live file stays."""
        self.slot._release()
        self.volume.close()


def tape(path: Path, rig: Rig, camera: int = 1, name: str = "main", *, first: int | None = None) -> list[bytes]:
    """Every AU on the tape, from rows that are valid, bytes that match, entries that add up; fails where one does not."""
    work = rig.slot._works[camera, name]
    core = work.core
    rows = {}
    for number in range(core.tail_row if first is None else first, core.next_row):
        raw = work.row(number)
        assert raw is not None and row_is(raw, number), f"row {number} is lost"
        rows[number] = raw
    if (opened := core.open_row()) is not None:
        rows[core.next_row] = opened
    out: list[bytes] = []
    for number, raw in rows.items():
        start = int(np.frombuffer(raw, ROW)[0]["frames_off"])
        entries = work.entry_bytes(start, min(start + (8 << 10), core.entries_end))
        bad, arrays = decode(entries, start, raw, work.ident.clock_rate)
        assert bad == -1, "the row's entries do not add up"
        sizes = arrays[1].tolist()
        data = _row_bytes(path / track_path(camera, name) / "c", class_of(work.ident.kind).tape_bytes, raw, sizes,
                          f"row {number} of {min(rows)} to {max(rows)} of cam-{camera}/{name}")
        ends = list(accumulate(sizes))
        out += [data[end - size:end] for size, end in zip(sizes, ends, strict=True)]
    return out


def _row_bytes(chunks: Path, tape_bytes: int, raw: bytes, sizes: list[int], what: str) -> bytes:
    row = np.frombuffer(raw, ROW)[0]
    chunk, at = divmod(int(row["offset"]), tape_bytes)
    with (chunks / str(chunk)).open("rb") as file:
        file.seek(PAGE + at)
        data = file.read(int(row["bytes"]))
    assert crc32c(data) == int(row["data_crc"]), explain(chunks / str(chunk), PAGE + at, int(row["data_crc"]), sizes, what)
    return data
