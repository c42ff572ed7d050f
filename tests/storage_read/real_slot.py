"""The product's own writer as the reading side's tests drive it: by hand or with its threads, and sources one can tell apart."""

import struct
from pathlib import Path

from recorder._ext.auqueue import AuQueue
from recorder.base.clock import SimulatedClock, SystemClock
from recorder.base.config import RecordingConfig, RetentionRule
from recorder.base.media import AuFlag, SampleEntry, TrackKind
from storage.slot import Slot
from storage.store import TapeStore
from storage.tape import TapeWriter
from storage.volume import Volume

PCMA = SampleEntry("alaw", b"", 8000, channels=1, sample_rate=8000)


def words(camera: int, number: int, size: int) -> bytes:
    """An AU whose every 8 bytes say camera and AU."""
    return struct.pack("<Q", camera << 48 | number) * (size // 8)


class Source:
    """One audio track's AUs, `ms` apart, `size` bytes each."""

    def __init__(self, slot: Slot, camera: int, start_ns: int, *, ms: int = 200, size: int = 8000) -> None:
        self.camera, self.ms, self.size, self.start_ns, self.number = camera, ms, size, start_ns, 0
        self.queue = AuQueue(1 << 20)
        self.writer: TapeWriter = slot.open_track(camera, "main", TrackKind.AUDIO, clock_rate=8000, queue=self.queue, rule=RetentionRule(),
                                                  describe=lambda _: PCMA)
        self.session = self.writer.next_session
        self.writer.begin_session(self.session, start_ns, "test")

    def put(self, count: int = 1) -> None:
        for _ in range(count):
            pts = self.number * self.ms * 8
            if self.queue.append(words(self.camera, self.number, self.size), pts, pts, self.start_ns + self.number * self.ms * 1_000_000, 1,
                                 self.session, flags=int(AuFlag.KEY), dur=self.ms * 8):
                self.number += 1


class Site:
    """A volume with one slot and a store over it."""

    def __init__(self, tmp_path: Path, *, clock: SimulatedClock | SystemClock, bytes_max: int, quarantine_s: float) -> None:
        self.path, self.live, self.clock = tmp_path / "volume", tmp_path / "live", clock
        self.live.mkdir()
        self.volume = Volume.init(self.path, bytes_max=bytes_max, on_root=True)
        self.slot = Slot(self.volume, 0, config=RecordingConfig(drain_ms=10, gather_ms=40, commit_ms=100), live_dir=self.live, clock=clock,
                         on_event=lambda event: None, quarantine_s=quarantine_s)
        self.slot.open()
        self.store = TapeStore([self.path], self.live)

    def turn(self) -> None:
        self.slot.keep_once()
        self.slot.pass_once()
        self.slot.commit_once()
        self.slot.keep_once()

    def close(self) -> None:
        self.slot.close()
        self.store.close()
        self.volume.close()


def foreign(buffer: bytes, camera: int, *, zeros: bool = False) -> int:
    """How many of the 8-byte words are not the camera's."""
    return sum(word >> 48 != camera and not (zeros and word == 0) for (word,) in struct.iter_unpack("<Q", buffer))
