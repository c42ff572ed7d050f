"""The slots of one worker: its own, and those that have no worker any more, because there are fewer slots or other volumes than before.

A slot is a journal with the tapes in it; a camera stays in its slot, whoever has it. Worker k has slot k on its volume, slot k + n * slots
wherever one was left, and every slot of these numbers on a volume that is no longer theirs (there only retention goes on). So no tape is
ever written by two journals, nothing is copied, and when slots are raised again each finds its own.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from recorder._ext.auqueue import AuQueue
from recorder.base.clock import Clock
from recorder.base.config import RetentionRule, SiteConfig, VolumeConfig
from recorder.base.errors import ConfigError, WatchroomError
from recorder.base.media import SampleEntry, TrackKind
from storage.events import SlotEvent
from storage.siterules import SiteRules
from storage.slot import Slot
from storage.tape import TapeWriter
from storage.volume import Volume

Key = tuple[int, int]        # volume, slot


class Rack:
    """Owns the worker's slots and their volumes' descriptors. `own`, `others` and `close` block: call them off the loop."""

    def __init__(self, site: SiteConfig, worker: int, clock: Clock, on_event: Callable[[SlotEvent], None], log: logging.Logger) -> None:
        if not site.volumes:
            raise ConfigError("no [[volume]] is configured", where="volume", remedy="make one with: watchroom volume init PATH")
        self._site, self._worker = site, worker
        self._clock, self._on_event, self._log = clock, on_event, log
        self.rules = SiteRules([volume.path for volume in site.volumes], site.live_dir)
        self._slots: dict[Key, Slot] = {}
        self._lock = threading.Lock()
        self._closed = False

    def own(self) -> Slot:
        """The worker's own slot, recovered and started. Raises VolumeError."""
        return self.slot(self._worker)

    def others(self) -> None:
        """Open every slot that was left to this worker; one that cannot be opened is told in the log and tried again for its cameras."""
        for key in self._left():
            try:
                self._open(key)
            except WatchroomError as error:
                self._log.error("slot %d: %s", key[1], error)

    def slot(self, number: int) -> Slot:
        """Slot `number` on its volume; opened if it was not. Any thread but the loop's. Raises VolumeError."""
        return self._open((number % len(self._site.volumes), number))

    def tapes(self, number: int) -> "SlotTapes":
        """What a source needs of slot `number`, which is opened when the first track is."""
        return SlotTapes(self, number)

    def close(self) -> None:
        """Close all slots at once, in order, and their volumes. No slot is opened any more."""
        with self._lock:
            self._closed = True
            slots = list(self._slots.values())
        with ThreadPoolExecutor(max(1, len(slots))) as pool:
            list(pool.map(Slot.close, slots))
        for slot in slots:
            slot.volume.close()

    def _open(self, key: Key) -> Slot:
        with self._lock:
            if key not in self._slots:
                self._slots[key] = self._opened(key)
            return self._slots[key]

    def _opened(self, key: Key) -> Slot:
        index, number = key
        if self._closed:
            raise WatchroomError("the worker is ending", where=f"slot {number}")
        volume = _open_volume(self._site.volumes[index])
        try:
            slot = Slot(volume, number, config=self._site.recording, live_dir=self._site.live_dir, clock=self._clock,
                        on_event=self._on_event, sharers=sharers(self._site, index, volume), rules=self.rules.of_slot(volume.path),
                        free_min=self._site.volumes[index].free_min)
            report = slot.open()
        except BaseException:
            volume.close()
            raise
        self._log.info("slot %d on %s: %s", number, volume.path, report)
        slot.start()
        return slot

    def _left(self) -> Iterator[Key]:
        """Slots that lie on a volume, are no worker's own, and are this worker's to keep."""
        for index, chosen in enumerate(self._site.volumes):
            try:
                volume = _open_volume(chosen)
            except WatchroomError as error:
                self._log.error("worker %d: %s", self._worker, error)
                continue
            try:
                found = slots_on(volume)
            finally:
                volume.close()
            for number in sorted(found - owners(self._site, index)):
                if self._site.worker_of(number) == self._worker:
                    yield index, number


class SlotTapes:
    """One slot of a rack, as sources see it (recorder.feed.Tapes)."""

    def __init__(self, rack: Rack, number: int) -> None:
        self._rack, self._number = rack, number

    def open_track(self, camera: int, name: str, kind: TrackKind, *, clock_rate: int, queue: AuQueue, rule: RetentionRule,
                   describe: Callable[[int], SampleEntry | None]) -> TapeWriter:
        """As storage.slot.Slot.open_track."""
        slot = self._rack.slot(self._number)
        return slot.open_track(camera, name, kind, clock_rate=clock_rate, queue=queue, rule=rule, describe=describe)


def owners(site: SiteConfig, index: int) -> set[int]:
    """Slots that have a worker and lie on volume `index`."""
    return {slot for slot in range(site.recording.slots) if slot % len(site.volumes) == index}


def slots_on(volume: Volume) -> set[int]:
    """Numbers of the slots that were ever opened on the volume."""
    names = [name.removeprefix("slot-") for name in volume.list_dir(".") if name.startswith("slot-")]
    return {int(name) for name in names if name.isascii() and name.isdigit() and str(int(name)) == name}


def sharers(site: SiteConfig, index: int, volume: Volume) -> int:
    """How many slots share volume `index`: each may take an equal part of its bytes."""
    return max(1, len(owners(site, index) | slots_on(volume)))


def _open_volume(chosen: VolumeConfig) -> Volume:
    return Volume.open(chosen.path, uuid=chosen.uuid, on_root=chosen.on_root, lock=False, write=True)


async def open_others(rack: Rack) -> None:
    """`Rack.others` beside the loop: cameras of the worker's own slot do not wait for slots that were left to it."""
    await asyncio.to_thread(rack.others)
