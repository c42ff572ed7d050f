"""The writing side of one track's tape, as its session sees it."""

from collections.abc import Callable
from dataclasses import dataclass

from recorder.base.config import RetentionRule
from recorder.base.media import GapCause, SenderReport
from storage.items import ClockEpoch, SessionStart
from storage.tapework import TapeWork


@dataclass(frozen=True, slots=True)
class Come:
    """A track that comes from another tape in the midst of a session: recorded there up to `kept_ns`, left because of `cause`.

    `au_session` is the session's number as its AUs bear it; it began at `start_ns` over `transport`.
    """

    kept_ns: int
    cause: GapCause
    detail: str
    au_session: int
    start_ns: int
    transport: str


class TapeWriter:
    """Commands to a tape. Thread-safe; they take effect in order with the AUs of its queue, at the next pass of the writer.

    A command lets the AUs that are in the queue when it is given go first.
    """

    def __init__(self, work: TapeWork, detach: Callable[[TapeWork], None]) -> None:
        self._work, self._detach = work, detach

    @property
    def end_ns(self) -> int:
        """UTC end of the newest row or gap so far, recovery included; 0 if there is none. A session's base is never before it."""
        return self._work.core.end_ns

    @property
    def kept_ns(self) -> int:
        """The same of the newest row that a failing disk does not take; looks at memory only."""
        return self._work.kept_ns()

    @property
    def seam(self) -> tuple[int, int]:
        """For a tape whose volume has failed: the AU of its queue with which begins what is not sure to be kept, and the UTC end of what is.

        Looks at memory only. The queue is then to be taken away (`AuQueue.rewind`): the writer may hang in the midst of it."""
        return self._work.seam()

    def part(self, call: Callable[[tuple[int, int]], None]) -> None:
        """Take no more from the queue; then `call` with the seam, on the writer's thread."""
        self._work.post(lambda: call(self._work.part()), at_once=True)

    @property
    def next_session(self) -> int:
        """The number that the track's next session bears."""
        return self._work.next_session

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """AUs kept, their bytes, damaged ones among them, AUs taken and not kept (no access point yet), since the slot was opened."""
        return self._work.core.counts

    @property
    def durable(self) -> tuple[int, int]:
        """Tape offset and row number below which a power cut takes nothing."""
        return self._work.core.durable

    def begin_session(self, session: int, start_ns: int, transport: str, au_session: int | None = None) -> None:
        """A connection to the camera begins to deliver; the first AU that is kept is a clean access point. AUs bear the number `au_session`
        (None: the session's)."""
        self._work.next_session = max(self._work.next_session, session + 1)
        self._work.post(lambda: self._work.begin_session(SessionStart(session, start_ns, transport), au_session))

    def end_session(self, session: int, end_ns: int, reason: str) -> None:
        """It has ended; its rows that were never published stay where their AUs' stamps put them."""
        self._work.post(lambda: self._work.end_session(session, end_ns, reason))

    def publish(self, session: int, shift_ns: int) -> None:
        """The session's rows so far move by `shift_ns` (never before the end of what is older) and enter the timeline."""
        self._work.post(lambda: self._work.publish(session, shift_ns))

    def open_gap(self, cause: GapCause, start_ns: int | None = None, detail: str = "") -> None:
        """Footage is missing from `start_ns` (None: the end of the newest row).

        While a gap is open: its cause changes; with `start_ns` it ends there and another one begins, so that each stretch keeps its own.
        """
        self._work.post(lambda: self._work.open_gap(cause, start_ns, detail))

    def come_from(self, end_ns: int, cause: GapCause, detail: str) -> None:
        """The track was recorded on another volume up to `end_ns`: what is missing since then is missing here, for this cause."""
        self._work.post(lambda: self._work.come_from(end_ns, cause, detail))

    def then(self, call: Callable[[], None]) -> None:
        """`call` on the writer's thread once all that was said before has taken effect."""
        self._work.post(call)

    def sender_report(self, report: SenderReport) -> None:
        """Keep a sender report (one a minute, and the first of each session)."""
        self._work.post(lambda: self._work.sender_report(report))

    def clock_epoch(self, wall_ns: int, step_ns: int) -> None:
        """Our wall clock was stepped by `step_ns` and reads `wall_ns` now."""
        self._work.post(lambda: self._work.clock_epoch(ClockEpoch(wall_ns, step_ns)))

    def set_rule(self, rule: RetentionRule) -> None:
        """Change how long footage stays."""
        self._work.set_rule(rule)

    def detach(self) -> None:
        """The camera was removed: flush, close the chunk, no gap. The queue is read no more once this has taken effect."""
        self._work.post(lambda: self._detach(self._work))
