"""How many long answers one holder may have at once: 8 clips, 128 streams, so that one client cannot take the disk from everybody else."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from api.problems import RETRY_S, Problem

PER_HOLDER = 8
STREAMS_PER_HOLDER = 128
PICTURES_PER_HOLDER = 32       # half of those that may wait for a decoder


class ClipSlots:
    """Counts what runs per holder (`Grant.holder`)."""

    def __init__(self, per_holder: int = PER_HOLDER, what: str = "clips") -> None:
        self._per_holder, self._what = per_holder, what
        self._running: Counter[str] = Counter()
        self.refused = 0

    @property
    def running(self) -> int:
        """Of all holders."""
        return self._running.total()

    @contextmanager
    def take(self, holder: str) -> Iterator[None]:
        """A slot while the block runs; Problem 429 when the holder has them all in use."""
        if self._running[holder] >= self._per_holder:
            self.refused += 1
            raise Problem(
                429, f"{self._per_holder} {self._what} are on their way already", remedy="wait for one to end",
                headers={"Retry-After": str(RETRY_S)},
            )
        self._running[holder] += 1
        try:
            yield
        finally:
            self._running[holder] -= 1
            if self._running[holder] <= 0:
                del self._running[holder]


CLIPS = web.AppKey("clips", ClipSlots)
STREAMS = web.AppKey("streams", ClipSlots)
DERIVING = web.AppKey("deriving", ClipSlots)      # streams with derived sound: each keeps a decoder busy for a hundredth of its time
PICTURES = web.AppKey("pictures", ClipSlots)
