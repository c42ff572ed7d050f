"""What the sessions of one stream have taught us about its camera. It outlives them; nothing of it is written down."""

from dataclasses import dataclass, field

from recorder.base.clock import Clock
from recorder.base.errors import SourceError
from recorder.base.media import NS

FAILURES_MAX = 2                 # so many SETUPs of one kind may cost us the connection before we do without it
WITHOUT_NS = 3600 * NS


@dataclass(frozen=True, slots=True)
class Leftover:
    """A session of ours whose TEARDOWN the camera has not confirmed: it may keep a place until `until_ns` (monotonic)."""

    session: str
    url: str
    until_ns: int


@dataclass(slots=True)
class CameraMemory:
    """`keepalive` is the method that the camera answers ("" = not yet known), `redirect` where it asked us to go next.

    `few_slots`: it has refused us for want of room, so its places are counted.
    """

    keepalive: str = ""
    redirect: str = ""
    few_slots: bool = False
    leftover: Leftover | None = None
    _failures: dict[str, int] = field(default_factory=dict)
    _without: dict[str, tuple[int, SourceError]] = field(default_factory=dict)

    def setup_failed(self, kind: str, error: SourceError, clock: Clock) -> None:
        """The SETUP of a lesser medium took the connection with it. The second time in a row we do without it for an hour."""
        self._failures[kind] = self._failures.get(kind, 0) + 1
        if self._failures[kind] >= FAILURES_MAX:
            self._without[kind] = (clock.mono_ns() + WITHOUT_NS, error)

    def setup_worked(self, kind: str) -> None:
        """This medium plays."""
        self._failures.pop(kind, None)
        self._without.pop(kind, None)

    def why_without(self, kind: str, clock: Clock) -> SourceError | None:
        """Why this medium is not asked for at present, None if it is."""
        until_ns, error = self._without.get(kind, (0, None))
        return error if clock.mono_ns() < until_ns else None
