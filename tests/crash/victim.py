"""A process that records until it is killed: `python victim.py VOLUME LIVE STEP COUNT GOP FIRST`.

STEP 0: until somebody kills it; else it kills itself at the COUNT-th time it takes that step. Each line it prints is a promise that was
kept before the line was written: camera, track, durable row, durable offset, AUs put; or `held` and the AUs [first, last) of camera 1 that a
hold keeps and that are durable.
"""

import os
import secrets
import signal
import sys
import time
from pathlib import Path

from recorder.base.clock import SystemClock
from recorder.base.config import RecordingConfig, RetentionRule
from recorder.base.media import TrackKind
from storage import steps
from storage.hold import Hold, HoldSpan
from storage.slot import Slot
from storage.steps import Step
from storage.volume import Volume

sys.path.insert(0, str(Path(__file__).parents[1] / "storage_write"))

from rig import AAC, ENTRY, Camera

from recorder._ext.auqueue import AuQueue

NS = 1_000_000_000
HELD_ROWS = 3           # in the first of a run lies what it holds


def arm(number: int, count: int) -> None:
    """Die at the `count`-th time of step `number`."""
    left = count

    def hook(step: Step) -> None:
        nonlocal left
        if step == number:
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    if number:
        steps.hook = hook


def hold_some(slot: Slot, source: Camera, first: int) -> tuple[int, int]:
    """Release what an earlier victim held, and hold some of what comes next; the first and last AU of that."""
    os.write(1, b"held 0 0\n")
    for hold in slot.holds():
        slot.release(hold.id, time.time_ns(), "victim")
    low, high = first + 25, first + 60
    start_ns, end_ns = (source.start_ns + au * NS // source.fps for au in (low, high))
    slot.hold(Hold(secrets.token_hex(16), "crash", "", "victim", time.time_ns(), 0, (HoldSpan(source.number, start_ns, end_ns, source.name),)))
    return low, high


def main() -> None:
    volume_path, live, number, count, gop, first = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:7])
    arm(number, count)
    volume = Volume.open(volume_path, on_root=True)
    config = RecordingConfig(drain_ms=10, gather_ms=20, commit_ms=40, chunk_close_s=2.0)
    slot = Slot(volume, 0, config=config, live_dir=Path(live), clock=SystemClock(), on_event=lambda e: print(e, file=sys.stderr),
                quarantine_s=0.3, journal_bytes=256 << 10)
    slot.open()
    tracks = []
    for camera, name, kind, rate, entry in ((1, "main", TrackKind.VIDEO, 90000, ENTRY), (1, "audio", TrackKind.AUDIO, 48000, AAC),
                                            (2, "main", TrackKind.VIDEO, 90000, ENTRY)):
        queue = AuQueue(8 << 20)
        writer = slot.open_track(camera, name, kind, clock_rate=rate, queue=queue, rule=RetentionRule(),
                                 describe=lambda _, e=entry: e)  # type: ignore[misc]
        source = Camera(camera, queue, kind, rate=rate, name=name, session=writer.next_session, start_ns=max(writer.end_ns, time.time_ns()),
                        gop=gop if kind is TrackKind.VIDEO else 1, size=12_000 if kind is TrackKind.VIDEO else 400, au=first)
        writer.begin_session(source.session, source.start_ns, "victim")
        tracks.append((writer, source))
    slot.start()
    print("ready", flush=True)
    begun_row = tracks[0][0].durable[1]
    low, high = hold_some(slot, tracks[0][1], first)
    while True:
        if tracks[0][0].durable[1] >= begun_row + HELD_ROWS:
            os.write(1, f"held {low} {high}\n".encode())
        for writer, source in tracks:
            source.recv_ns = time.monotonic_ns()
            source.put(6)
            row, offset = writer.durable[1], writer.durable[0]
            os.write(1, f"{source.number} {source.name} {row} {offset} {source.au}\n".encode())
            source.sent.clear()
        time.sleep(0.01)


if __name__ == "__main__":
    main()
