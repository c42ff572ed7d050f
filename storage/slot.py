"""The writing side of one slot on one volume: its tapes, its writer, commit and keeper threads."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recorder._ext.auqueue import AuQueue
from recorder.base.clock import Clock
from recorder.base.config import RecordingConfig, RetentionRule
from recorder.base.media import SampleEntry, TrackKind
from storage.events import SlotEvent
from storage.tape import TapeWriter
from storage.volume import Volume


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What opening a slot found. `clean`: it had been closed in order."""

    clean: bool
    tapes: int
    records: int            # journal records read
    rows_adopted: int       # visible, not yet acknowledged, whole: kept
    tapes_fallen_back: int  # the last record's bytes were not all there
    chunks_returned: int    # half-taken or retired files put back into the pool
    seconds: float


class Slot:
    """One slot. `open`, then `open_track`s, `start`; `close` at the end."""

    def __init__(self, volume: Volume, number: int, *, config: RecordingConfig, live_dir: Path, clock: Clock,
                 on_event: Callable[[SlotEvent], None]) -> None:
        self.volume = volume
        self.number = number

    def open(self) -> RecoveryReport:
        """Recover; then tracks may be opened."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the threads."""
        raise NotImplementedError

    def open_track(self, camera: int, name: str, kind: TrackKind, *, clock_rate: int, queue: AuQueue, rule: RetentionRule,
                   describe: Callable[[int], SampleEntry | None]) -> TapeWriter:
        """The tape of a track, made if new. One writer per track."""
        raise NotImplementedError

    def close(self) -> None:
        """Last commit; every track without an open gap gets one of cause `stopped`."""
        raise NotImplementedError
