"""What a process has to tell, for who asks later: the newest few hundred, numbered, so that nothing is told twice or missed unseen."""

import secrets
from collections import deque
from typing import Any

from recorder.base.clock import Clock

KEPT = 500


class Notes:
    """`add` what happens, `after` answers the control socket's `events`. On the loop's thread. Says numbers, never paths."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._life = secrets.token_hex(4)
        self._events: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._last = 0

    def add(self, kind: str, **data: Any) -> None:
        """It has happened now."""
        self._last += 1
        self._events.append({"event": self._last, "kind": kind, "time_ns": self._clock.wall_ns(), **data})

    def after(self, life: str, last: int) -> dict[str, Any]:
        """Events after `last` of this life of the process; all that are kept if the caller knows another life."""
        wanted = last if life == self._life else 0
        return {"life": self._life, "last": self._last, "events": [event for event in self._events if event["event"] > wanted]}
