"""A track's tape as its session sees it: one object, while the track goes from a volume to another in the midst of a session."""

from collections.abc import Callable

from recorder.base.config import RetentionRule
from recorder.base.media import GapCause, SenderReport
from recorder.tapes import Tape


class MovableTape:
    """Hands everything on to the tape that the track is recorded on; between two of them (`leave`, `arrive`) what is said waits.

    Sessions are numbered by each tape for itself; whoever speaks here uses the number that the session's AUs bear. Loop thread only.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._waiting: list[Callable[[], None]] | None = None
        self._session = (0, 0, "")          # the running one: its AUs' number, since when, over what
        self._named = 0                     # what the tape calls it

    @property
    def end_ns(self) -> int:
        """UTC end of the newest row or gap."""
        return self._tape.end_ns

    @property
    def kept_ns(self) -> int:
        """The same of what a failing disk does not take."""
        return self._tape.kept_ns

    @property
    def next_session(self) -> int:
        """The number that the AUs of the next session bear."""
        return max(self._tape.next_session, self._session[0] + 1)

    @property
    def seam(self) -> tuple[int, int]:
        """As storage.tape.TapeWriter.seam."""
        return self._tape.seam

    @property
    def session(self) -> tuple[int, int, str]:
        """The running session, or the last: its AUs' number, its start, its transport."""
        return self._session

    # From one tape to another

    def part(self, call: Callable[[tuple[int, int]], None]) -> None:
        """As storage.tape.TapeWriter.part."""
        self._tape.part(call)

    def leave(self) -> None:
        """Let go of the tape; what is said from now on waits for another one."""
        self._tape.detach()
        self._waiting = []

    def arrive(self, tape: Tape) -> None:
        """The track goes on here, the running session with it."""
        waiting, self._waiting = self._waiting or [], None
        self._tape, self._named = tape, tape.next_session - 1
        for call in waiting:
            call()

    def _say(self, call: Callable[[], None]) -> None:
        if self._waiting is None:
            call()
        else:
            self._waiting.append(call)

    # As Tape

    def begin_session(self, session: int, start_ns: int, transport: str) -> None:
        """A connection begins to deliver."""
        self._session = (session, start_ns, transport)

        def begin() -> None:
            self._named = max(session, self._tape.next_session)
            if self._named == session:
                self._tape.begin_session(session, start_ns, transport)
            else:
                self._tape.begin_session(self._named, start_ns, transport, session)

        self._say(begin)

    def end_session(self, session: int, end_ns: int, reason: str) -> None:
        """It has ended."""
        self._say(lambda: self._tape.end_session(self._own(session), end_ns, reason))

    def publish(self, session: int, shift_ns: int) -> None:
        """Move the session's provisional rows."""
        self._say(lambda: self._tape.publish(self._own(session), shift_ns))

    def open_gap(self, cause: GapCause, start_ns: int | None = None, detail: str = "") -> None:
        """Footage is missing."""
        self._say(lambda: self._tape.open_gap(cause, start_ns, detail))

    def come_from(self, end_ns: int, cause: GapCause, detail: str) -> None:
        """It was recorded elsewhere up to `end_ns`."""
        self._say(lambda: self._tape.come_from(end_ns, cause, detail))

    def then(self, call: Callable[[], None]) -> None:
        """Call when all of this has taken effect."""
        self._say(lambda: self._tape.then(call))

    def sender_report(self, report: SenderReport) -> None:
        """Evidence."""
        self._say(lambda: self._tape.sender_report(report))

    def clock_epoch(self, wall_ns: int, step_ns: int) -> None:
        """Our clock stepped."""
        self._say(lambda: self._tape.clock_epoch(wall_ns, step_ns))

    def set_rule(self, rule: RetentionRule) -> None:
        """How long footage stays."""
        self._say(lambda: self._tape.set_rule(rule))

    def detach(self) -> None:
        """The end of the track's recording."""
        self._say(lambda: self._tape.detach())  # noqa: PLW0108 - the tape of then, not of now

    def _own(self, session: int) -> int:
        return self._named if session == self._session[0] else session
