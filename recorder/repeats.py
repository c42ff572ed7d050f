"""What a stream complains of: each kind is logged once, then once an hour with the number of times it came; all are counted."""

import re

from recorder.base.clock import Clock
from recorder.base.media import NS

KINDS_MAX = 32
AGAIN_NS = 3600 * NS
_NUMBER = re.compile(r"\d+(\.\d+)?")


class Repeats:
    """Kinds of complaints of one stream. A kind is its text without numbers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[int, int]] = {}      # kind -> times since it was logged, when that was

    def add(self, text: str) -> str | None:
        """The text to log, None if it is to be kept quiet."""
        kind, now_ns = _NUMBER.sub("#", text), self._clock.mono_ns()
        times, logged_ns = self._seen.get(kind, (0, now_ns - AGAIN_NS))
        if now_ns - logged_ns < AGAIN_NS:
            self._seen[kind] = (times + 1, logged_ns)
            return None
        if len(self._seen) >= KINDS_MAX and kind not in self._seen:
            del self._seen[next(iter(self._seen))]
        self._seen[kind] = (0, now_ns)
        return f"{text} (and {times} times before)" if times else text
