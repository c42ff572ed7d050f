"""The slots of one worker on the site's volumes: which volume a camera records to, what happens when one fails, when it comes back.

A slot is a journal with the tapes in it, on one volume; worker k has a slot k on every volume that any of its cameras ever recorded to, each
with its own writer, commits and keeper, so that a slow or failed volume holds up nobody else's footage. When slots were lowered it also has
the slots k + n * slots. A camera records to the volume that is its home; while that has failed, and until it is proven again, to another one
(`choose`; recorder/standing.py says which volumes are trusted).
"""

import errno
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from recorder._ext.auqueue import AuQueue
from recorder.base.clock import Clock
from recorder.base.config import RetentionRule, SiteConfig, VolumeConfig
from recorder.base.errors import ConfigError, VolumeError, WatchroomError
from recorder.base.media import SampleEntry, TrackKind
from recorder.mender import Mender
from recorder.shelf import Shelf, slots_on
from recorder.standing import HESITANT_S, SILENT_S, Patience
from storage.events import SlotEvent, VolumeBack, VolumeFailed, VolumeProven, VolumeSlow
from storage.siteholds import SiteHolds
from storage.siterules import SiteRules
from storage.slot import Slot
from storage.tape import Come, TapeWriter

CLOSE_S = 5.0           # for the menders at the end
SLOW_S = 30.0           # recovery of one volume may hold up the cameras of the others for so long


class Rack:
    """Owns the worker's slots and their volumes' descriptors. Whatever may touch a disk blocks: call it off the loop."""

    def __init__(self, site: SiteConfig, worker: int, clock: Clock, on_event: Callable[[SlotEvent], None], log: logging.Logger) -> None:
        if not site.volumes:
            raise ConfigError("no [[volume]] is configured", where="volume", remedy="make one with: watchroom volume init PATH")
        self._site, self._worker = site, worker
        self._clock, self._on_event, self._log = clock, on_event, log
        self.rules = SiteRules([volume.path for volume in site.volumes], site.live_dir)
        self.holds = SiteHolds()
        self.shelves = [Shelf(volume) for volume in site.volumes]
        self.lock = threading.RLock()           # shelves, failures, bit rates: never held over a call to a disk
        self._menders: list[threading.Thread] = []
        self._patience = Patience()
        self._closed = threading.Event()

    # Opening

    def own(self) -> None:
        """Recover and start the worker's own slot wherever it lies; a volume that does not answer is left behind if there is another one.

        Raises the error of the first volume if none can be used.
        """
        errors: list[VolumeError] = []
        openers = [threading.Thread(target=self._open_own, args=(shelf, errors), name=f"opener-{at}", daemon=True)
                   for at, shelf in enumerate(self.shelves)]
        for opener in openers:
            opener.start()
        for shelf, opener in zip(self.shelves, openers, strict=True):
            opener.join(SLOW_S if len(openers) > 1 else None)
            if opener.is_alive():
                self._fail(shelf, VolumeFailed(shelf.path, f"has not answered for {SLOW_S:.0f} s", errno.ETIMEDOUT))
        if errors and all(shelf.failed for shelf in self.shelves):
            raise errors[0]

    def _open_own(self, shelf: Shelf, errors: list[VolumeError]) -> None:
        try:
            self._open_found(shelf, own=True)
        except VolumeError as error:
            errors.append(error)

    def others(self) -> None:
        """Open every slot that was left to this worker; one that cannot be opened is told in the log and tried again for its cameras."""
        for shelf in list(self.shelves):
            if not shelf.failed:
                try:
                    self._open_found(shelf, own=False)
                except VolumeError as error:
                    self._log.error("worker %d: %s", self._worker, error)

    def _open_found(self, shelf: Shelf, *, own: bool) -> None:
        """Open the slots of this worker that lie on the volume. Raises VolumeError if it, or the worker's own slot, cannot be opened."""
        try:
            found = shelf.found()
        except VolumeError as error:
            self._unusable(shelf, error)
            raise
        for number in sorted(found):
            if self._site.worker_of(number) == self._worker and (number == self._worker) == own:
                try:
                    self.slot(number, shelf)
                except WatchroomError as error:
                    if own:
                        raise
                    self._log.error("slot %d: %s", number, error)

    def slot(self, number: int, shelf: Shelf | None = None) -> Slot:
        """Slot `number` on a volume (default: the first for this number); opened if it was not. Raises VolumeError."""
        shelf = shelf or self.shelves[number % len(self.shelves)]
        with shelf.lock:
            if self._closed.is_set():
                raise WatchroomError("the worker is ending", where=f"slot {number}")
            if number not in shelf.slots:
                shelf.slots[number] = self._opened(shelf, number)
            return shelf.slots[number]

    def open_slots(self) -> list[Slot]:
        """Those that are open now, on volumes that have failed too."""
        return [slot for shelf in list(self.shelves) for slot in list(shelf.slots.values())]

    def _opened(self, shelf: Shelf, number: int) -> Slot:
        if shelf.failed:
            raise VolumeError(f"the volume has failed: {shelf.failed}", where=str(shelf.path), remedy="see the first error in the log")
        try:
            volume = shelf.open_volume()
        except VolumeError as error:
            self._unusable(shelf, error)
            raise
        try:
            slot = Slot(volume, number, config=self._site.recording, live_dir=self._site.live_dir, clock=self._clock,
                        on_event=self._storage_event, sharers=lambda: len(slots_on(volume) | {number}),
                        rules=self.rules.of_slot(volume.path), free_min=shelf.config.free_min,
                        holds=self.holds, hold_share=shelf.config.hold_share)
            report = slot.open()
        except BaseException as error:
            volume.close()
            if isinstance(error, VolumeError) and isinstance(error.__cause__, OSError):
                self._unusable(shelf, error)
            raise
        self._log.info("slot %d on %s: %s", number, volume.path, report)
        slot.start()
        return slot

    def close(self) -> None:
        """Close all slots at once, in order, and their volumes. No slot is opened any more."""
        with self.lock:
            self._closed.set()
            shelves = list(self.shelves)
        for mender in self._menders:
            mender.join(CLOSE_S)
        with ThreadPoolExecutor(len(shelves)) as pool:
            list(pool.map(Shelf.close, shelves))

    # Which volume

    def tapes(self, number: int, home: str = "", kbps: int = 0) -> "SlotTapes":
        """What a source needs of slot `number`, whose camera's home is the volume of that UUID; opened when the first track is."""
        return SlotTapes(self, number, home, kbps)

    def home(self, number: int, uuid: str) -> Shelf:
        """The volume of this UUID, or, while nobody has said one, the first for this slot's number."""
        named = (shelf for shelf in self.shelves if uuid and shelf.config.uuid == uuid)
        return next(named, self.shelves[number % len(self.shelves)])

    def choose(self, number: int, home: str, kbps: int, *, asked: bool = False) -> Shelf:
        """The camera's home; or, if that has failed or is not proven yet (unless it was `asked` for), of the others the one with the least
        bit rate for its weight, those that are well before those that are not.

        Raises VolumeError if all have failed.
        """
        with self.lock:
            now_s, wanted = self._now_s(), self.home(number, home)
            able = [shelf for shelf in self.shelves if not shelf.failed]
            if not able:
                raise VolumeError(f"every volume has failed: {wanted.failed}", where=str(wanted.path), remedy="see the first error in the log")
            if wanted in able and (asked or wanted.standing.proven(now_s) or not any(one.standing.proven(now_s) for one in able)):
                return wanted
            return min([shelf for shelf in able if not shelf.config.drain] or able,
                       key=lambda shelf: (not shelf.standing.well(now_s), not shelf.standing.proven(now_s),
                                          (shelf.kbps + kbps) / shelf.config.weight))

    def takes_back(self, shelf: Shelf) -> bool:
        """True if cameras may go home to the volume."""
        return not shelf.failed and shelf.standing.proven(self._now_s())

    def follow(self, volumes: Iterable[VolumeConfig]) -> None:
        """The site's volumes are these now: new ones come at the end, none goes while it runs."""
        with self.lock:
            known = {shelf.path: shelf for shelf in self.shelves}
            for config in volumes:
                if config.path in known:
                    known[config.path].config = config
                else:
                    self.shelves.append(Shelf(config))
            self.rules.follow([shelf.path for shelf in self.shelves])

    def status(self) -> list[dict[str, Any]]:
        """Each volume by number: why it has failed (empty: it has not), the bit rate of the cameras that record there, `slow` if they stay
        there although it is, `proven` if cameras may go home to it."""
        return [{"failed": shelf.failed, "kbps": shelf.kbps, "drain": shelf.config.drain, "slow": shelf.slow,
                 "proven": self.takes_back(shelf)} for shelf in self.shelves]

    # Failing and coming back

    def _storage_event(self, event: SlotEvent) -> None:
        """From storage's threads."""
        if isinstance(event, VolumeFailed):
            self._fail(next(shelf for shelf in self.shelves if shelf.path == event.path), event)
        else:
            self._on_event(event)

    def _unusable(self, shelf: Shelf, error: VolumeError) -> None:
        """It cannot even be opened."""
        number = error.__cause__.errno if isinstance(error.__cause__, OSError) else errno.ENOENT
        self._fail(shelf, VolumeFailed(shelf.path, error.message, number or 0))

    def _fail(self, shelf: Shelf, event: VolumeFailed) -> None:
        """The volume takes nothing any more; a thread looks after it until it does. Any thread; the second time does nothing."""
        with self.lock:
            if shelf.failed or self._closed.is_set():
                return
            shelf.failed, shelf.slow = event.message, False
            shelf.standing.fail(self._now_s())
            shelf.mender = Mender(shelf, self._clock, f".probe-{self._worker}", alone=lambda: all(one.failed for one in self.shelves),
                                  back=self._came_back, proven=self._is_proven, failed=self._failed_again)
            thread = self._thread_of(shelf.mender)
            self._menders = [*(other for other in self._menders if other.is_alive()), thread]
        shelf.fail(event)
        self._on_event(event)
        thread.start()

    def _thread_of(self, mender: Mender) -> threading.Thread:
        return threading.Thread(target=mender.run, args=(self._closed,), name="mender", daemon=True)

    def look(self) -> None:
        """Several times a second: a disk that does not answer has failed, if there is a better one. Does not block.

        Better is one that has been well for a time. Where none is, cameras stay; only a long silence takes them to one that answers now.
        """
        now_s = self._now_s()
        silent = {shelf: shelf.silent_s() for shelf in list(self.shelves) if not shelf.failed}
        for shelf, silent_s in silent.items():
            if silent_s > SILENT_S:
                shelf.standing.fault(now_s)
            elif shelf.slow and shelf.standing.well(now_s):
                shelf.slow = False
        for shelf, silent_s in silent.items():
            if silent_s > SILENT_S:
                self._weigh(shelf, silent_s, [other for other in silent if other is not shelf and silent[other] < HESITANT_S], now_s)

    def _weigh(self, shelf: Shelf, silent_s: float, others: Iterable[Shelf], now_s: float) -> None:
        """Leave a volume that does not answer, or stay; `others` do answer."""
        able = [other for other in others if not other.failed]
        well = any(other.standing.well(now_s) for other in able)
        if well or (able and shelf.kbps and silent_s > self._patience.limit_s(now_s)):
            if not well:
                self._patience.spend(now_s)
            self._fail(shelf, VolumeFailed(shelf.path, f"has not answered for {silent_s:.0f} s", errno.ETIMEDOUT))
        elif shelf.kbps and not shelf.slow:
            shelf.slow = True
            self._on_event(VolumeSlow(shelf.path, silent_s))

    def _came_back(self, shelf: Shelf) -> None:
        """It can be used again."""
        try:
            for own in (True, False):
                self._open_found(shelf, own=own)
        except WatchroomError as error:
            self._log.error("worker %d: %s", self._worker, error)
        if not shelf.failed:
            self._on_event(VolumeBack(shelf.path))

    def _is_proven(self, shelf: Shelf) -> None:
        self._on_event(VolumeProven(shelf.path))

    def _failed_again(self, shelf: Shelf, error: OSError) -> None:
        self._fail(shelf, VolumeFailed(shelf.path, error.strerror or str(error), error.errno or 0))

    def _now_s(self) -> float:
        return self._clock.mono_ns() / 1e9


class SlotTapes:
    """One camera's tapes, as its sources see them (recorder.feed.Places): all on one volume, another one after `leave`.

    `asked`: an operator has said that its home is `home`, so it goes there although that volume is not proven.
    """

    def __init__(self, rack: Rack, number: int, home: str, kbps: int) -> None:
        self._rack, self._number, self.home, self._kbps = rack, number, home, kbps
        self.asked = False
        self._shelf: Shelf | None = None

    def open_track(self, camera: int, name: str, kind: TrackKind, *, clock_rate: int, queue: AuQueue, rule: RetentionRule,
                   describe: Callable[[int], SampleEntry | None], come: Come | None = None) -> TapeWriter:
        """As storage.slot.Slot.open_track. Raises VolumeError if no volume takes it."""
        while True:
            shelf = self._chosen()
            try:
                slot = self._rack.slot(self._number, shelf)
                return slot.open_track(camera, name, kind, clock_rate=clock_rate, queue=queue, rule=rule, describe=describe,
                                       come=come)
            except VolumeError:
                if not shelf.failed:
                    raise
                self.leave()

    @property
    def misplaced(self) -> bool:
        """True if the camera's tapes lie on a volume that has failed, or on another than they should."""
        shelf = self._shelf
        if shelf is None:
            return False
        home = self._rack.home(self._number, self.home)
        return bool(shelf.failed) or (shelf is not home and (self._rack.takes_back(home) or (self.asked and not home.failed)))

    @property
    def failed(self) -> bool:
        """True if they lie on a volume that has failed."""
        return self._shelf is not None and bool(self._shelf.failed)

    @property
    def path(self) -> Path | None:
        """Of the volume they lie on; None while no track has been opened."""
        return self._shelf.path if self._shelf is not None else None

    def leave(self) -> None:
        """The next track that is opened chooses anew."""
        with self._rack.lock:
            shelf, self._shelf = self._shelf, None
            if shelf is not None:
                shelf.kbps -= self._kbps

    def _chosen(self) -> Shelf:
        with self._rack.lock:
            if self._shelf is None or self._shelf.failed:
                self.leave()
                self._shelf = self._rack.choose(self._number, self.home, self._kbps, asked=self.asked)
                self.asked = False
                self._shelf.kbps += self._kbps
            return self._shelf
