"""The holds of the site, as a worker was told them, for all its slots: those that stand, and which have been released."""

import threading
from collections.abc import Iterable

from storage.hold import Hold


class SiteHolds:
    """Until `tell` has been called nothing of a slot goes: a hold that it has not heard of may keep it. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holds: dict[str, Hold] = {}
        self.version = 0        # 0: not told yet

    def tell(self, holds: Iterable[Hold]) -> None:
        """These are all that the catalogue knows, released ones among them."""
        with self._lock:
            self._holds = {hold.id: hold for hold in holds}
            self.version += 1

    def change(self, hold: Hold) -> None:
        """A hold is new, or has been released."""
        with self._lock:
            self._holds[hold.id] = hold
            if self.version:
                self.version += 1

    def all(self) -> list[Hold]:
        """All of them, by id."""
        with self._lock:
            return [self._holds[name] for name in sorted(self._holds)]
