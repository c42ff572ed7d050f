"""An hour of one camera, picture and sound, written by the real slot in seconds: footage for whoever reads. Its AUs decode to nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recorder._ext.auqueue import AuQueue
from recorder.base.clock import SimulatedClock
from recorder.base.config import RecordingConfig, RetentionRule
from recorder.base.media import NS, AuFlag, SampleEntry
from storage.slot import Slot
from storage.volume import Volume

FPS, GOP = 25, 50
SOUND_HZ, SOUND_TICKS = 48_000, 1024
KEY_SHARE = 6                 # a key picture is so many times as large as the others
COMMIT_S = 0.4
VIDEO = SampleEntry("avc1", b"\x01\x64\x00\x28\xff\xe1\x00\x04\x67\x64\x00\x28\x01\x00\x04\x68\xee\x3c\x80", 90_000, 1920, 1080)
SOUND = SampleEntry("mp4a", b"\x11\x88", SOUND_HZ, channels=1, sample_rate=SOUND_HZ)


@dataclass(frozen=True, slots=True)
class Archive:
    """How much: `seconds` of pictures of `kbps` and sound of 64 kbit/s that begin at `start_ns`."""

    start_ns: int
    seconds: int = 3600
    kbps: int = 2000

    @property
    def end_ns(self) -> int:
        """End of the footage."""
        return self.start_ns + self.seconds * NS


@dataclass(slots=True)
class _Track:
    """A track in the making: `ticks` per AU, `next` the number of the next one."""

    queue: AuQueue
    session: int
    hz: int
    ticks: int
    datas: tuple[bytes, bytes]
    gop: int
    next: int = 0

    def reach(self, start_ns: int, wall_ns: int) -> None:
        """Everything that begins before `wall_ns`."""
        while (at := start_ns + self.next * self.ticks * NS // self.hz) < wall_ns:
            key, pts = self.next % self.gop == 0, self.next * self.ticks
            if not self.queue.append(self.datas[key], pts, pts, at, 1, self.session, flags=AuFlag.KEY if key else 0):
                raise RuntimeError("the queue is full: the writer does not take")
            self.next += 1


def write(path: Path, live_dir: Path, archive: Archive, camera: int, reached: Callable[[float], None] = lambda _: None) -> None:
    """Write it as camera `camera` of slot 0 of the volume at `path`; `reached` is told the seconds that are done."""
    volume, clock = Volume.open(path, on_root=True, write=True), SimulatedClock(wall_ns=archive.start_ns)
    slot = Slot(volume, 0, config=RecordingConfig(), live_dir=live_dir, clock=clock, on_event=lambda _: None)
    slot.open()
    delta = archive.kbps * 125 * GOP // FPS // (GOP - 1 + KEY_SHARE)
    video = _begin(slot, camera, "main", VIDEO, archive.start_ns, 90_000 // FPS, (bytes(delta), bytes(delta * KEY_SHARE)), GOP)
    sound = _begin(slot, camera, "audio", SOUND, archive.start_ns, SOUND_TICKS, (bytes(170), bytes(170)), 1)
    for turn in range(round(archive.seconds / COMMIT_S)):
        wall_ns = archive.start_ns + round((turn + 1) * COMMIT_S * NS)
        for track in (video, sound):
            track.reach(archive.start_ns, wall_ns)
        clock.advance(COMMIT_S)
        slot.pass_once()
        if turn % 10 == 0:
            slot.commit_once()
            slot.keep_once()
            reached(turn * COMMIT_S)
    slot.commit_once()
    slot.close()
    volume.close()


def _begin(slot: Slot, camera: int, name: str, entry: SampleEntry, start_ns: int, ticks: int, datas: tuple[bytes, bytes], gop: int) -> _Track:
    queue = AuQueue(4 << 20, 512)
    writer = slot.open_track(camera, name, entry.kind, clock_rate=entry.clock_rate, queue=queue, rule=RetentionRule(), describe=lambda _: entry)
    session = writer.next_session
    writer.begin_session(session, max(writer.end_ns, start_ns), "bench")
    return _Track(queue, session, entry.clock_rate, ticks, datas, gop)

