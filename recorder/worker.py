"""A recording worker: its slots, their cameras, one drain, one control socket. It serves nobody's footage.

The supervisor starts it, tells it its cameras over `slot-<k>.sock` and ends it with SIGTERM; when the supervisor dies the kernel sends that
signal (whoever calls `run_worker` has asked for it, see recorder/orphan.py).
"""

import asyncio
import gc
import logging
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from recorder.base.camera_json import camera_from_json
from recorder.base.clock import Clock, SystemClock
from recorder.base.config import CameraConfig, SiteConfig, volume_from_json
from recorder.base.control import ControlServer
from recorder.base.errors import NotFound, Refused, VolumeError
from recorder.base.rulebook import Member, member_from_json, rule_book
from recorder.cameras import Cameras
from recorder.drainer import Drainer
from recorder.gate import HandshakeGate
from recorder.holding import Holding
from recorder.noted import Noted
from recorder.rack import Rack
from recorder.rtsp.address import AddressBook, parse_networks
from recorder.stream import Services
from recorder.timeline import WallOffset
from storage.camera_record import declared_kbps
from storage.events import SlotBroken, SlotEvent, VolumeBack, VolumeFailed, VolumeProven, VolumeSlow, Watched

SWEEP_S = 1.0
DISKS_S = 0.25
YOUNG_OBJECTS = 50_000  # between two collections: the worker's objects live for as long as its cameras, and hardly any are in cycles
log = logging.getLogger(__name__)


async def run_worker(site: SiteConfig, slot: int, *, clock: Clock | None = None, cameras: Mapping[int, CameraConfig] | None = None,
                     stop: asyncio.Event | None = None) -> None:
    """Record until SIGTERM, SIGINT or `stop`; everything is told, written and closed on return.

    `cameras` (by number) are begun at once; others come by `camera.start`. Raises ConfigError or VolumeError before anything is recorded.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    worker = Worker(site, slot, clock or SystemClock(), stop or asyncio.Event())
    await worker.run(cameras or {})


class Worker:
    """The life of one worker process."""

    def __init__(self, site: SiteConfig, number: int, clock: Clock, stop: asyncio.Event) -> None:
        self._site = site
        self._number = number
        self._clock = clock
        self._stop = stop
        self._back = asyncio.Event()        # a volume takes footage again, or cameras have another home
        self._ready = False
        self._broken = False
        self._members: list[Member] = []
        self._loop = asyncio.get_running_loop()
        self._noted = Noted(site, number, clock)
        self._cameras: Cameras
        self._rack: Rack
        self._holding: Holding
        self._drainer: Drainer | None = None

    async def run(self, cameras: Mapping[int, CameraConfig]) -> None:
        """Open, record, close."""
        networks = parse_networks(self._site.recording.camera_networks)
        with ExitStack() as held:
            self._catch_signals(held)
            self._rack = Rack(self._site, self._number, self._clock, self._storage_event, log)
            self._holding = Holding(self._rack)
            try:
                if cameras:
                    self._rack.rules.tell(rule_book(self._site, [Member.of(number, config) for number, config in cameras.items()]))
                    self._rack.holds.tell(())
                await asyncio.to_thread(self._rack.own)
                await self._record(AddressBook(networks), cameras)
            finally:
                await asyncio.to_thread(self._rack.close)
        if self._broken:
            raise RuntimeError("a thread of the slot has ended")

    async def _record(self, book: AddressBook, cameras: Mapping[int, CameraConfig]) -> None:
        recording, wall = self._site.recording, WallOffset(self._clock)
        drainer = self._drainer = Drainer(self._clock, wall, recording.drain_ms, log, watched_ms=recording.watched_ms)
        gate = HandshakeGate(-(-recording.handshakes_at_once // recording.slots))      # all workers together, about
        services = Services(self._clock, wall, drainer, gate, book, self._rack.tapes(self._number), recording, log)
        self._cameras, self._ready = Cameras(services, self._site.retention, log), True
        control = ControlServer(self._site.slot_socket(self._number), self._answer, log)
        drainer.start()
        tasks = [asyncio.create_task(self._sweep(), name="sweep"), asyncio.create_task(self._watch_disks(), name="disks"),
                 asyncio.create_task(self._go_home(), name="volumes"),
                 asyncio.create_task(asyncio.to_thread(self._rack.others), name="slots left")]
        try:
            await control.start()
            for number, config in cameras.items():
                self._cameras.start(number, config, self._rack.tapes(self._number, kbps=declared_kbps(config)))
            await self._stop.wait()
            log.info("slot %d: ending", self._number)
        finally:
            await control.close()
            await self._cameras.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            drainer.stop()

    def _storage_event(self, event: SlotEvent) -> None:
        """From storage's threads."""
        self._loop.call_soon_threadsafe(self._note_event, event)

    def _note_event(self, event: SlotEvent) -> None:
        if isinstance(event, Watched):
            if self._drainer is not None:
                self._drainer.quicken()
            return
        self._noted.take(event)
        if isinstance(event, VolumeFailed):
            fled = self._cameras.flee() if self._ready else 0
            log.error("slot %d: %s; %d cameras go to another volume", self._number,
                      VolumeError(event.message, where=str(event.path), remedy="see docs/operations.md"), fled)
        elif isinstance(event, VolumeBack):
            log.info("slot %d: %s takes footage again", self._number, event.path)
            self._back.set()
        elif isinstance(event, VolumeProven):
            log.info("slot %d: %s is proven: its cameras go back to it", self._number, event.path)
            self._back.set()
        elif isinstance(event, VolumeSlow):
            log.warning("slot %d: %s has not answered for %.0f s, and no other volume is better: its cameras stay", self._number, event.path,
                        event.silent_s)
        elif isinstance(event, SlotBroken):
            log.error("slot %d: a defect of this program ended the recording; the worker ends and is started again\n%s", self._number,
                      event.traceback)
            self._broken = True
            self._stop.set()
        else:
            log.info("slot %d: %s", self._number, event)

    async def _go_home(self) -> None:
        """Take cameras back to the volumes that return."""
        while True:
            await self._back.wait()
            self._back.clear()
            try:
                await self._cameras.go_home()
            except Exception:            # the watch outlives a defect in one look
                log.exception("slot %d: cameras do not go back to their volume", self._number)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + SWEEP_S, loop.time())
            await asyncio.sleep(due - loop.time())
            try:
                self._cameras.sweep()
                self._noted.turn(self._clock.mono_ns())
            except Exception:            # the timer outlives a defect in one turn
                log.exception("slot %d: a sweep failed", self._number)

    async def _watch_disks(self) -> None:
        while True:
            await asyncio.sleep(DISKS_S)
            self._rack.look()

    async def _answer(self, call: str, args: dict[str, Any]) -> Any:
        match call:
            case "status":
                return {"slot": self._number, "volume_failed": any(shelf.failed for shelf in self._rack.shelves),
                        "volumes": self._rack.status(), **self._holding.figures(), **self._cameras.status()}
            case "camera.start":
                slot = _slot(args, self._number)
                if self._site.worker_of(slot) != self._number:
                    raise Refused(f"slot {slot} is not of worker {self._number}")
                config = camera_from_json(_camera(args), "camera")
                self._cameras.start(_number(args), config, self._rack.tapes(slot, str(args.get("volume", "")), declared_kbps(config)),
                                    at_once=bool(args.get("at_once")))
            case "camera.move":
                self._cameras.rehome(_number(args), str(args.get("volume", "")))
                self._back.set()
            case "volumes":
                self._rack.follow([volume_from_json(volume) for volume in _dicts(args, "volumes")])
                self._noted.follow([shelf.path for shelf in self._rack.shelves])
            case "rules":
                self._take_rules(args)
            case "events":
                return self._noted.after(str(args.get("life", "")), _last(args))
            case "camera.update":
                await self._cameras.update(_number(args), camera_from_json(_camera(args), "camera"))
            case "camera.stop":
                await self._cameras.stop(_number(args), removed=bool(args.get("removed")))
            case _ if call in self._holding.calls:
                return await asyncio.to_thread(self._holding.calls[call], args)
            case _:
                raise NotFound("no such call", where=call)
        return None

    def _take_rules(self, args: Mapping[str, Any]) -> None:
        """The rules of all cameras, in parts."""
        if args.get("part") == 1:
            self._members.clear()
        self._members += [member_from_json(member) for member in _dicts(args, "cameras")]
        if args.get("part") == args.get("parts"):
            self._rack.rules.tell(rule_book(self._site, self._members))

    def _catch_signals(self, held: ExitStack) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
            held.callback(self._loop.remove_signal_handler, number)


def _number(args: Mapping[str, Any]) -> int:
    number = args.get("number")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise Refused("`number` must be a camera's number")
    return number


def _last(args: Mapping[str, Any]) -> int:
    last = args.get("last", 0)
    return last if isinstance(last, int) and not isinstance(last, bool) else 0


def _slot(args: Mapping[str, Any], default: int) -> int:
    slot = args.get("slot", default)
    if not isinstance(slot, int) or isinstance(slot, bool) or slot < 0:
        raise Refused("`slot` must be a slot's number")
    return slot


def _dicts(args: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = args.get(key)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Refused(f"`{key}` must be a list of objects")
    return found


def _camera(args: Mapping[str, Any]) -> Mapping[str, Any]:
    camera = args.get("camera")
    if not isinstance(camera, dict):
        raise Refused("`camera` must hold a camera's configuration")
    return camera
