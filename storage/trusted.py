"""The wall clock as far as footage may be destroyed by it. A dead RTC battery or a mistyped date must not empty a site.

What has expired by the wall clock is refused to readers at once (storage/reader.py) and comes back when the clock is put right. It is destroyed
only by a clock that is believed: one that does not run ahead of what monotonic time since the last look, or the journal at a start, lets
expect; or that has kept to its new time for an hour.
"""

from recorder.base.clock import Clock

AHEAD_NS = 3_600_000_000_000            # of what is expected: more is doubted while the recorder runs
OFF_NS = 31 * 86_400_000_000_000        # how long a recorder may have been switched off without doubt
PROVEN_NS = 3_600_000_000_000


class TrustedClock:
    """See the module. `last_ns` is the UTC of the journal's newest record, 0 if there is none. One thread."""

    def __init__(self, clock: Clock, last_ns: int) -> None:
        self._clock = clock
        self._base = (last_ns, 0)               # UTC that was believed, and CLOCK_MONOTONIC then
        self._started = False
        self._doubt: tuple[int, int] | None = None      # how far UTC lay ahead of CLOCK_MONOTONIC, and since when

    @property
    def doubted(self) -> bool:
        """True while the wall clock is not believed."""
        return self._doubt is not None

    def now_ns(self) -> int:
        """UTC by which footage may be destroyed."""
        wall_ns, mono_ns = self._clock.wall_ns(), self._clock.mono_ns()
        expected_ns, allowed_ns = self._expected(wall_ns, mono_ns)
        if wall_ns - expected_ns <= allowed_ns or self._proven(wall_ns, mono_ns):
            self._base, self._doubt = (wall_ns, mono_ns), None
            return wall_ns
        return expected_ns

    def _expected(self, wall_ns: int, mono_ns: int) -> tuple[int, int]:
        if self._started:
            return self._base[0] + mono_ns - self._base[1], AHEAD_NS
        self._started = True
        self._base = (self._base[0] or wall_ns, mono_ns)
        return self._base[0], OFF_NS

    def _proven(self, wall_ns: int, mono_ns: int) -> bool:
        """True if the new time has stood for long enough."""
        ahead_ns = wall_ns - mono_ns
        if self._doubt is None or abs(ahead_ns - self._doubt[0]) > AHEAD_NS:
            self._doubt = (ahead_ns, mono_ns)
        return mono_ns - self._doubt[1] >= PROVEN_NS
