"""A slot whose clock is simulated and whose files are real: hours of recording in seconds. Its AUs say whose they are, wherever they lie."""

import bisect
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from recorder._ext.auqueue import AuQueue
from recorder.base.clock import SimulatedClock
from recorder.base.config import RecordingConfig, RetentionRule
from recorder.base.media import NS, AuFlag, SampleEntry, TrackKind
from storage.events import SlotEvent
from storage.reader import TrackReader
from storage.siterules import SiteRules
from storage.slot import Slot
from storage.store import TapeStore
from storage.tape import TapeWriter
from storage.volume import Volume

ENTRIES = {TrackKind.VIDEO: SampleEntry("avc1", b"\x01\x64\x00\x28", 90_000, 1920, 1080),
           TrackKind.AUDIO: SampleEntry("mp4a", b"\x11\x90", 48_000, channels=2, sample_rate=48_000)}
MAGIC = b"\xf1WRau\xf2"
TAG = struct.Struct("<6sHQ")
PERIOD = 256            # so that every sector of an AU has a whole tag
FILLER = b"\x55" * (PERIOD - TAG.size)


@dataclass(slots=True)
class SimTrack:
    """A track of the simulation: an AU of `size` bytes every `every_s`. `sessions`: the number of each one's first AU, and its UTC."""

    camera: int
    name: str
    kind: TrackKind
    size: int
    every_s: float
    number: int = 0
    silent: bool = False
    removed: bool = False
    sessions: list[tuple[int, int]] = field(default_factory=list)
    queue: AuQueue | None = None
    writer: TapeWriter | None = None

    @property
    def key(self) -> tuple[int, str]:
        """Camera and name."""
        return self.camera, self.name

    @property
    def every_ns(self) -> int:
        """From AU to AU."""
        return round(self.every_s * NS)

    def time_of(self, number: int) -> int:
        """UTC of an AU."""
        first, start_ns = self.sessions[bisect.bisect_right(self.sessions, (number, 1 << 63)) - 1]
        return start_ns + (number - first) * self.every_ns

    def first_from(self, time_ns: int) -> int:
        """The number of the first AU at or after a time."""
        number = self.number
        for first, start_ns in reversed(self.sessions):
            if start_ns < time_ns:
                return min(number, first + -(-(time_ns - start_ns) // self.every_ns))
            number = first
        return number

    def au_bytes(self, number: int) -> bytes:
        """The bytes of an AU: no two have the same."""
        return ((TAG.pack(MAGIC, self.camera << 1 | (self.name == "audio"), number) + FILLER) * (self.size // PERIOD + 1))[:self.size]


def whose(tag: bytes) -> tuple[tuple[int, str], int]:
    """Track and number that a tag behind its MAGIC names."""
    who, number = struct.unpack("<HQ", tag)
    return (who >> 1, "audio" if who & 1 else "main"), number


class SimSite:
    """`start`, `turn`s, `stop`, and again; `folder` gets the volume. Events are counted by their kind."""

    def __init__(self, folder: Path, tracks: Sequence[SimTrack], bytes_max: int, *, quarantine_s: float = 60.0) -> None:
        self.path, self.live = folder / "volume", folder / "live"
        self.path.mkdir(parents=True)
        self.live.mkdir()
        Volume.init(self.path, bytes_max=bytes_max, on_root=True).close()
        self.bytes_max, self._quarantine_s = bytes_max, quarantine_s
        self.clock = SimulatedClock()
        self.rules = SiteRules([self.path], self.live)
        self.tracks = list(tracks)
        self.events: Counter[str] = Counter()

    def start(self) -> None:
        """As at the machine's start: there is no live file."""
        for file in self.live.iterdir():
            file.unlink()
        self._volume = Volume.open(self.path, on_root=True)
        self.slot = Slot(self._volume, 0, config=RecordingConfig(), live_dir=self.live, clock=self.clock, on_event=self._on_event,
                         quarantine_s=self._quarantine_s, journal_bytes=1 << 20, rules=self.rules.of_slot(self.path))
        self.slot.open()
        self.store = TapeStore([self.path], self.live)
        for track in self.tracks:
            if not track.removed:
                self._open(track)
        self._house()

    def _open(self, track: SimTrack) -> None:
        entry = ENTRIES[track.kind]
        track.queue = track.queue or AuQueue(8 << 20)
        track.writer = self.slot.open_track(track.camera, track.name, track.kind, clock_rate=entry.clock_rate, queue=track.queue,
                                            rule=RetentionRule(), describe=lambda _: entry)
        if not track.silent:
            self.begin(track)

    def begin(self, track: SimTrack) -> None:
        """The camera answers: a session begins now."""
        assert track.writer is not None
        track.silent = False
        start_ns = max(self.clock.wall_ns(), track.writer.end_ns)
        track.sessions.append((track.number, start_ns))
        track.writer.begin_session(track.writer.next_session, start_ns, "bench")
        self.slot.pass_once()

    def stall(self, track: SimTrack) -> None:
        """The camera falls silent: its session ends."""
        assert track.writer is not None
        track.silent = True
        track.writer.end_session(track.writer.next_session - 1, self.clock.wall_ns(), "stall")

    def remove(self, track: SimTrack) -> None:
        """The camera is removed; its footage stays under its rule."""
        assert track.writer is not None
        self.stall(track)
        track.writer.detach()
        track.removed = True

    def _on_event(self, event: SlotEvent) -> None:
        self.events[type(event).__name__] += 1

    def turn(self, seconds: float) -> None:
        """So much time goes by, what cameras send in it is recorded, then the slot's threads have one turn each. RuntimeError if it fails."""
        self.clock.advance(seconds)
        for track in self.tracks:
            if not track.silent and not track.removed:
                self._put(track)
        self._house()

    def _put(self, track: SimTrack) -> None:
        assert track.queue is not None and track.writer is not None
        rate, session = ENTRIES[track.kind].clock_rate, track.writer.next_session - 1
        first, start_ns = track.sessions[-1]
        until = first + max(0, -(-(self.clock.wall_ns() - start_ns) // track.every_ns))
        for number in range(track.number, until):
            dts = (number - first) * round(track.every_s * rate)
            if not track.queue.append(track.au_bytes(number), dts, dts, start_ns + (number - first) * track.every_ns, 1, session,
                                      flags=AuFlag.KEY):
                raise RuntimeError(f"cam-{track.camera}/{track.name}: the queue is full: recording has stopped; events {dict(self.events)}")
        track.number = max(track.number, until)

    def _house(self) -> None:
        self.slot.keep_once()
        self.slot.pass_once()
        self.slot.commit_once()
        self.slot.keep_once()
        if self.slot.failed:
            raise RuntimeError(f"the volume has failed: {dict(self.events)}; see the system log")

    def reader(self, track: SimTrack) -> TrackReader:
        """What the API reads by."""
        return self.store.track(*track.key)

    def stop(self) -> None:
        """In order."""
        self.store.close()
        self.slot.close()
        self._volume.close()
