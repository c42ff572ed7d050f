"""The writing side of one track's tape, as its session sees it."""

from recorder.base.config import RetentionRule
from recorder.base.media import GapCause, SenderReport


class TapeWriter:
    """Commands to a tape. Thread-safe; they take effect in order with the AUs of its queue, at the next pass of the writer."""

    end_ns: int
    next_session: int

    def begin_session(self, session: int, start_ns: int, transport: str) -> None:
        """A connection to the camera begins to deliver."""
        raise NotImplementedError

    def end_session(self, session: int, end_ns: int, reason: str) -> None:
        """It has ended."""
        raise NotImplementedError

    def publish(self, session: int, shift_ns: int) -> None:
        """The rows the session has made so far move by `shift_ns` and enter the timeline."""
        raise NotImplementedError

    def open_gap(self, cause: GapCause, start_ns: int | None = None, detail: str = "") -> None:
        """Footage is missing from `start_ns` (None: the end of the newest row); again: the open gap's cause changes."""
        raise NotImplementedError

    def sender_report(self, report: SenderReport) -> None:
        """Keep a sender report."""
        raise NotImplementedError

    def clock_epoch(self, wall_ns: int, step_ns: int) -> None:
        """Our wall clock was stepped."""
        raise NotImplementedError

    def set_rule(self, rule: RetentionRule) -> None:
        """Change how long footage stays."""
        raise NotImplementedError

    def detach(self) -> None:
        """The camera was removed: flush, close the chunk, no gap."""
        raise NotImplementedError
