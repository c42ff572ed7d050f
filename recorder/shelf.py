"""One volume as a worker uses it: the worker's slots on it, whether it has failed, and when it may be used again."""

import errno
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from recorder.base.clock import Clock
from recorder.base.config import VolumeConfig
from recorder.base.errors import VolumeError
from recorder.standing import Standing
from storage.events import VolumeFailed
from storage.slot import Slot
from storage.unmounted import Unmounted
from storage.volume import Volume

if TYPE_CHECKING:
    from recorder.mender import Mender

CLOSE_S = 10.0          # for a shelf that somebody else is about to close or open, at the end
# Nothing that was acknowledged is lost when a volume fails so, and what is read of it is what the disk holds: it may take footage again as
# soon as it can. After any other error it must be unmounted first: the page cache may hold what never reached the disk.
PASSING = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ETIMEDOUT, errno.ESTALE, errno.ENOENT})


@dataclass(eq=False, slots=True)
class Shelf:
    """`failed`: why it takes no footage now; "" while it does. `kbps`: declared, of the cameras that record here now (Rack's lock).

    `slow`: it is, and its cameras stay because no other volume is better. `mender`: who looks after it since it failed last.
    """

    config: VolumeConfig
    slots: dict[int, Slot] = field(default_factory=dict)
    failed: str = ""
    kbps: int = 0
    slow: bool = False
    standing: Standing = field(default_factory=Standing)
    mender: "Mender | None" = None
    lock: threading.RLock = field(default_factory=threading.RLock)      # who opens or closes slots
    _errno: int = 0
    _unmounted: Unmounted | None = None
    _tried: tuple[Clock, int] | None = None         # the clock, and since when a probe is under way

    @property
    def path(self) -> Path:
        """Of the volume."""
        return self.config.path

    def open_volume(self) -> Volume:
        """The volume, opened for writing. Raises VolumeError."""
        return Volume.open(self.path, uuid=self.config.uuid, on_root=self.config.on_root, lock=False, write=True)

    def found(self) -> set[int]:
        """Numbers of the slots that lie on the volume. Raises VolumeError."""
        volume = self.open_volume()
        try:
            return slots_on(volume)
        finally:
            volume.close()

    def fail(self, event: VolumeFailed) -> None:
        """From now on it takes nothing: every slot on it ends. Any thread."""
        self._errno, self.failed = event.number, event.message
        if self._unmounted is None:
            self._unmounted = Unmounted(self.path)
        for slot in list(self.slots.values()):
            slot.give_up(OSError(event.number, event.message))

    def heal(self) -> None:
        """It takes footage again."""
        self.forget()
        self.failed = ""

    def forget(self) -> None:
        """Watch it no more."""
        if self._unmounted is not None:
            self._unmounted.close()
            self._unmounted = None

    def silent_s(self) -> float:
        """How long a call to the disk that is under way has not come back."""
        tried = self._tried
        probe_s = (tried[0].mono_ns() - tried[1]) / 1e9 if tried is not None else 0.0
        return max([probe_s, *(slot.silent_s() for slot in list(self.slots.values()))])

    def let_go(self) -> bool:
        """Close the slots of a failed volume; False while a call to the disk has not come back. Blocks for seconds."""
        with self.lock:
            close_all(self.slots.values())
            self.slots = {number: slot for number, slot in self.slots.items() if not slot.closed}
            return not self.slots

    def is_well(self, probe: str) -> bool:
        """True if a failed volume, of which nothing is open here, takes footage again. Writes and syncs a file `probe`."""
        fresh = self._unmounted is None or self._unmounted.happened
        if not fresh and self._errno not in PASSING:
            return False
        try:
            self._takes(probe)
        except OSError:
            return False
        return True

    def try_out(self, probe: str, clock: Clock) -> float:
        """Seconds that it takes to make a file `probe` durable. OSError if that cannot be. Blocks; `silent_s` sees it meanwhile."""
        since_ns = clock.mono_ns()
        self._tried = clock, since_ns
        try:
            self._takes(probe)
        finally:
            self._tried = None
        return (clock.mono_ns() - since_ns) / 1e9

    def _takes(self, probe: str) -> None:
        try:
            volume = self.open_volume()
        except VolumeError as error:
            number = error.__cause__.errno if isinstance(error.__cause__, OSError) else errno.ENOENT
            raise OSError(number or errno.ENOENT, error.message) from error
        try:
            volume.check_takes(probe)
        finally:
            volume.close()

    def close(self) -> None:
        """Close every slot in order, and its volume."""
        if self.lock.acquire(timeout=CLOSE_S):
            try:
                close_all(self.slots.values())
            finally:
                self.lock.release()
        self.forget()


def slots_on(volume: Volume) -> set[int]:
    """Numbers of the slots that were ever opened on the volume."""
    names = [name.removeprefix("slot-") for name in volume.list_dir(".") if name.startswith("slot-")]
    return {int(name) for name in names if name.isascii() and name.isdigit() and str(int(name)) == name}


def close_all(slots: Iterable[Slot]) -> None:
    """Close them at once, and the volume of each that could be closed."""
    slots = list(slots)
    with ThreadPoolExecutor(max(1, len(slots))) as pool:
        list(pool.map(Slot.close, slots))
    for slot in slots:
        if slot.closed:
            slot.volume.close()
