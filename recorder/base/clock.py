"""The two clocks, injectable: monotonic for durations, wall (UTC) for times."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from; tests pass a simulated one."""

    def mono_ns(self) -> int:
        """CLOCK_MONOTONIC in ns."""
        ...

    def wall_ns(self) -> int:
        """UTC in ns since the epoch."""
        ...


class SystemClock:
    """The machine's clocks."""

    def mono_ns(self) -> int:
        """CLOCK_MONOTONIC in ns."""
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        """UTC in ns since the epoch."""
        return time.time_ns()


class SimulatedClock:
    """A clock that stands until it is moved."""

    def __init__(self, wall_ns: int = 1_767_225_600_000_000_000, mono_ns: int = 1_000_000_000) -> None:
        self._wall_ns = wall_ns
        self._mono_ns = mono_ns

    def mono_ns(self) -> int:
        """CLOCK_MONOTONIC in ns."""
        return self._mono_ns

    def wall_ns(self) -> int:
        """UTC in ns since the epoch."""
        return self._wall_ns

    def advance(self, seconds: float) -> None:
        """Both clocks go on by `seconds`."""
        step = round(seconds * 1e9)
        self._mono_ns += step
        self._wall_ns += step

    def step_wall(self, seconds: float) -> None:
        """The wall clock is set by somebody; monotonic time does not notice."""
        self._wall_ns += round(seconds * 1e9)
