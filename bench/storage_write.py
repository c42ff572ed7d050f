"""CPU of the writing side: N tracks fed straight into their queues, microseconds of the slot's threads per stream-second.

    python -m bench.storage_write FOLDER --tracks 256 --mbit 4 --seconds 15

FOLDER is made a volume (and left for you to remove). The feeding thread is not counted.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from recorder._ext.auqueue import AuQueue
from recorder.base.clock import SystemClock
from recorder.base.config import RecordingConfig, RetentionRule
from recorder.base.media import AuFlag, SampleEntry, TrackKind
from storage.events import SlotEvent, SlowCommit
from storage.slot import Slot
from storage.tape import TapeWriter
from storage.volume import Volume

FPS = 25
ENTRY = SampleEntry("avc1", b"\x01", 90000, 1920, 1080)


class Feeder:
    """Feeds every queue at `FPS`, staggered over the frame's 40 ms."""

    def __init__(self, slot: Slot, tracks: int, mbit: float) -> None:
        self.queues = [AuQueue(2 << 20) for _ in range(tracks)]
        self.writers: list[TapeWriter] = [
            slot.open_track(n + 1, "main", TrackKind.VIDEO, clock_rate=90000, queue=q, rule=RetentionRule(), describe=lambda _: ENTRY)
            for n, q in enumerate(self.queues)]
        mean = mbit * 1e6 / 8 / FPS
        self._key, self._delta = bytes(range(256)) * round(mean * 5 / 256), bytes(range(256)) * round(mean * 45 / 49 / 256)
        self.aus = 0

    def frame(self, number: int, start_ns: int) -> None:
        """One frame for every track."""
        dts = number * 90000 // FPS
        for n, queue in enumerate(self.queues):
            key = (number + n) % 50 == 0
            self.aus += queue.append(self._key if key else self._delta, dts, dts, start_ns + number * 1_000_000_000 // FPS,
                                     time.monotonic_ns(), 1, flags=AuFlag.KEY if key else 0)


def measure(folder: Path, tracks: int, mbit: float, seconds: float, warm: bool = False) -> dict[str, float | int | list[float]]:
    """Run once; figures as a dictionary."""
    events: list[SlotEvent] = []
    Volume.init(folder, bytes_max=tracks * (48 << 20), on_root=True).close()
    volume = Volume.open(folder, on_root=True)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as live:
        slot = Slot(volume, 0, config=RecordingConfig(), live_dir=Path(live), clock=SystemClock(), on_event=events.append)
        slot.open()
        feeder = Feeder(slot, tracks, mbit)
        for writer in feeder.writers:
            writer.begin_session(1, time.time_ns(), "bench")
        slot.keep_once()
        if warm:
            for chunk in folder.glob("tape.zarr/*/*/c/*"):
                chunk.read_bytes()
        slot.start()
        clocks = {t.name: time.pthread_getcpuclockid(t.ident) for t in threading.enumerate() if t.ident and t.name[-2:] == "-0"}
        before, commits = {n: time.clock_gettime(c) for n, c in clocks.items()}, []
        _pace(feeder, seconds, lambda: commits.append(slot.last_commit_ms))
        used = {n: time.clock_gettime(c) - before[n] for n, c in clocks.items()}
        slot.close()
    volume.close()
    streams = tracks * seconds
    return {
        "tracks": tracks, "seconds": seconds, "aus": feeder.aus, "expected_aus": round(streams * FPS),
        **{f"{name.removesuffix('-0')}_us_per_stream_s": round(s / streams * 1e6, 1) for name, s in used.items()},
        "writer_and_commit_us_per_stream_s": round(sum(s for n, s in used.items() if "keeper" not in n) / streams * 1e6, 1),
        "commit_ms_p50": round(statistics.median(commits), 1), "commit_ms_max": round(max(commits), 1),
        "slow_commits": sum(isinstance(e, SlowCommit) for e in events), "other_events": sum(not isinstance(e, SlowCommit) for e in events),
    }


def _pace(feeder: Feeder, seconds: float, look: Callable[[], None]) -> None:
    start, start_ns = time.monotonic(), time.time_ns()
    for number in range(round(seconds * FPS)):
        feeder.frame(number, start_ns)
        look()
        time.sleep(max(0.0, start + (number + 1) / FPS - time.monotonic()))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tracks", type=int, default=256)
    parser.add_argument("--mbit", type=float, default=4.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--warm", action="store_true", help="chunks in the page cache first: leaves out first touch of memory")
    args = parser.parse_args()
    print(json.dumps(measure(args.folder, args.tracks, args.mbit, args.seconds, args.warm), indent=1))


if __name__ == "__main__":
    main()
