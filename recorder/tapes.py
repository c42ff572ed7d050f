"""What a camera's sources need of the tapes."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from recorder._ext.auqueue import AuQueue
from recorder.base.config import RetentionRule
from recorder.base.media import GapCause, SampleEntry, SenderReport, TrackKind
from storage.tape import Come


class Tape(Protocol):
    """What a source needs of storage.tape.TapeWriter."""

    @property
    def end_ns(self) -> int:
        """UTC end of the newest row or gap."""

    @property
    def kept_ns(self) -> int:
        """The same of what a failing disk does not take."""

    @property
    def next_session(self) -> int:
        """The number of the next session."""

    @property
    def seam(self) -> tuple[int, int]:
        """The AU of its queue with which begins what a failing disk does not take, and the UTC end of what it does."""

    def part(self, call: Callable[[tuple[int, int]], None]) -> None:
        """Take no more from the queue, and say the seam."""

    def begin_session(self, session: int, start_ns: int, transport: str, au_session: int | None = None) -> None:
        """A connection begins to deliver; its AUs call it `au_session` (None: the same)."""

    def end_session(self, session: int, end_ns: int, reason: str) -> None:
        """It has ended."""

    def publish(self, session: int, shift_ns: int) -> None:
        """Move the session's provisional rows."""

    def open_gap(self, cause: GapCause, start_ns: int | None = None, detail: str = "") -> None:
        """Footage is missing."""

    def come_from(self, end_ns: int, cause: GapCause, detail: str) -> None:
        """It was recorded elsewhere up to `end_ns`."""

    def then(self, call: Callable[[], None]) -> None:
        """Call when all of this has taken effect."""

    def sender_report(self, report: SenderReport) -> None:
        """Evidence."""

    def clock_epoch(self, wall_ns: int, step_ns: int) -> None:
        """Our clock stepped."""

    def set_rule(self, rule: RetentionRule) -> None:
        """How long footage stays."""

    def detach(self) -> None:
        """The end of the track's recording."""


class Tapes(Protocol):
    """What a source needs of storage.slot.Slot."""

    def open_track(self, camera: int, name: str, kind: TrackKind, *, clock_rate: int, queue: AuQueue, rule: RetentionRule,
                   describe: Callable[[int], SampleEntry | None], come: Come | None = None) -> Tape:
        """The tape of a track, which comes from another one in the midst of a session if `come` says so; may touch the disk."""


class Places(Tapes, Protocol):
    """One camera's tapes on the volumes (recorder.rack.SlotTapes)."""

    home: str
    asked: bool         # an operator has said that this is its home: it goes there at once

    @property
    def path(self) -> Path | None:
        """Of the volume they lie on; None while no track has been opened."""

    @property
    def failed(self) -> bool:
        """True if that has failed."""

    @property
    def misplaced(self) -> bool:
        """True if they should lie on another one."""

    def leave(self) -> None:
        """The next track that is opened chooses anew."""
