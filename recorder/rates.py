"""Bit and frame rate of a track over its last seconds."""

from collections import deque

WINDOW_NS = 5_000_000_000


class Rates:
    """Fed once a second with counters that only grow (within a session)."""

    def __init__(self) -> None:
        self._points: deque[tuple[int, int, int]] = deque()

    def add(self, mono_ns: int, aus: int, nbytes: int) -> None:
        """The counters now; counters that fell begin a new session."""
        if self._points and (aus < self._points[-1][1] or nbytes < self._points[-1][2]):
            self._points.clear()
        self._points.append((mono_ns, aus, nbytes))
        while mono_ns - self._points[0][0] > WINDOW_NS:
            self._points.popleft()

    def clear(self) -> None:
        """No session."""
        self._points.clear()

    @property
    def fps(self) -> float:
        """AUs a second."""
        return self._slope(1)

    @property
    def kbps(self) -> float:
        """Kilobits a second."""
        return self._slope(2) * 8 / 1000

    def _slope(self, index: int) -> float:
        if len(self._points) < 2:
            return 0.0
        first, last = self._points[0], self._points[-1]
        return (last[index] - first[index]) * 1e9 / (last[0] - first[0]) if last[0] > first[0] else 0.0
