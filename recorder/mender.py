"""Looks after a volume that has failed: until it can be used again, and then until cameras may go home to it."""

from collections.abc import Callable
from threading import Event

from recorder.base.clock import Clock
from recorder.shelf import Shelf
from recorder.standing import HESITANT_S, RETRY_S

PROBE_S = 2.0           # between two looks how a volume that is back does


class Mender:
    """One failure of one volume. `run` is a thread's work; `once` one look of it. It ends when the volume is proven, or fails again.

    `alone`: no other volume can be used, so nothing is waited for. `back`, `proven`: the volume is so far. `failed`: it has failed again.
    """

    def __init__(self, shelf: Shelf, clock: Clock, probe: str, *, alone: Callable[[], bool], back: Callable[[Shelf], None],
                 proven: Callable[[Shelf], None], failed: Callable[[Shelf, OSError], None]) -> None:
        self.shelf, self._clock, self._probe = shelf, clock, probe
        self._alone, self._back, self._proven, self._failed = alone, back, proven, failed
        self._began_s = self._now_s()
        self._healed = False

    def run(self, closed: Event) -> None:
        """Look until there is nothing more to do, or `closed`."""
        wait_s: float | None = RETRY_S
        while wait_s is not None and not closed.wait(wait_s):
            wait_s = self.once()

    def once(self) -> float | None:
        """One look; how long to wait until the next, None when there is nothing more to do. Blocks on the disk."""
        return self._prove() if self._healed else self._mend()

    def _mend(self) -> float:
        """Use the volume as soon as it can be used."""
        shelf = self.shelf
        if self._now_s() - self._began_s < shelf.standing.retry_s and not self._alone():
            return RETRY_S
        self._began_s = self._now_s()
        if shelf.let_go() and shelf.is_well(self._probe):
            self._healed = True
            shelf.standing.come_back(self._now_s())
            shelf.heal()
            self._back(shelf)
        return PROBE_S

    def _prove(self) -> float | None:
        """See how it does, until it is proven."""
        shelf = self.shelf
        if shelf.failed or shelf.mender is not self:
            return None
        try:
            took_s = shelf.try_out(self._probe, self._clock)
        except OSError as error:
            if shelf.mender is self:        # else the probe has hung, and another mender's took its file
                self._failed(shelf, error)
            return None
        if shelf.mender is not self:
            return None
        now_s = self._now_s()
        if took_s > HESITANT_S:
            shelf.standing.fault(now_s)
        if not shelf.standing.proven(now_s):
            return PROBE_S
        self._proven(shelf)
        return None

    def _now_s(self) -> float:
        return self._clock.mono_ns() / 1e9
