"""A slot in a process of its own, to be killed: `python -m bench.index_slot VOLUME LIVE WALL_NS SECONDS`.

Opens slot 0, tells how long that took (a line of JSON), records SECONDS of simulated time of every track that it found, tells again, and
waits: for its death, or for a line on standard input, at which it closes in order.
"""

import json
import sys
import time
from pathlib import Path

from bench.index_site import ENTRY, Scale
from recorder._ext.auqueue import AuQueue
from recorder.base.clock import SimulatedClock
from recorder.base.config import RecordingConfig, RetentionRule
from recorder.base.media import NS, AuFlag, TrackKind
from storage.slot import Slot
from storage.store import TapeStore
from storage.tape import TapeWriter
from storage.volume import Volume

COMMIT_S = 0.4
AU_BYTES = 1100             # entries as long as those of large AUs
CHUNK_BYTES = 14 << 20      # of AUs that a track records at most: its chunk is not to fill


def main(path: str, live: str, wall_ns: str, seconds: str) -> int:
    """Open, record, wait."""
    volume = Volume.open(path, on_root=True)
    clock = SimulatedClock(wall_ns=int(wall_ns))
    slot = Slot(volume, 0, config=RecordingConfig(), live_dir=Path(live), clock=clock, on_event=lambda _: None)
    began, cpu = time.monotonic(), time.process_time()
    report = slot.open()
    tell({"open_s": time.monotonic() - began, "cpu_s": time.process_time() - cpu, "tapes": report.tapes, "records": report.records,
          "clean": report.clean, "adopted": report.rows_adopted, "fallen_back": report.tapes_fallen_back})
    feeder = Feeder(slot, clock, Path(path), Path(live))
    feeder.record(float(seconds))
    tell({"aus": feeder.aus, "failed": slot.failed})
    sys.stdin.readline()
    slot.close()
    volume.close()
    return 0


def tell(what: dict[str, object]) -> None:
    """A line of JSON for whoever waits for it."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


class Feeder:
    """A camera for every tape of the slot."""

    def __init__(self, slot: Slot, clock: SimulatedClock, path: Path, live: Path) -> None:
        self._slot, self._clock, self._scale = slot, clock, Scale()
        store = TapeStore([path], live)
        self._cameras = store.cameras()
        store.close()
        self.aus = 0

    def record(self, seconds: float) -> None:
        """So much footage of every camera, committed every 0.4 s but for the last time."""
        turns, per_turn = round(seconds / COMMIT_S), round(COMMIT_S * self._scale.fps)
        if not turns:
            return
        data = bytes(min(AU_BYTES, CHUNK_BYTES // (turns * per_turn)))
        tracks = [self._begin(camera) for camera in self._cameras]
        for turn in range(turns):
            for camera, (queue, session, start_ns) in enumerate(tracks):
                for number in range(turn * per_turn, (turn + 1) * per_turn):
                    self._append(queue, data, number, session, start_ns, key=number == 0 or (number + camera) % self._scale.gop == 0)
            self._clock.advance(COMMIT_S)
            self._slot.pass_once()
            if turn + 1 < turns:        # the last turn is visible and not acknowledged
                self._slot.commit_once()

    def _begin(self, camera: int) -> tuple[AuQueue, int, int]:
        queue = AuQueue(64 << 10, 64)
        writer: TapeWriter = self._slot.open_track(
            camera, "main", TrackKind.VIDEO, clock_rate=ENTRY.clock_rate, queue=queue, rule=RetentionRule(), describe=lambda _: ENTRY)
        session, start_ns = writer.next_session, max(writer.end_ns, self._clock.wall_ns())
        writer.begin_session(session, start_ns, "bench")
        return queue, session, start_ns

    def _append(self, queue: AuQueue, data: bytes, number: int, session: int, start_ns: int, *, key: bool) -> None:
        dts = number * ENTRY.clock_rate // self._scale.fps
        wall_ns = start_ns + number * NS // self._scale.fps
        if not queue.append(data, dts, dts, wall_ns, 1, session, flags=AuFlag.KEY if key else 0):
            raise RuntimeError("the queue is full: the writer does not take")
        self.aus += 1


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:5]))
