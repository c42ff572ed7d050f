"""`watchroom serve`: owns the catalogue and the volumes' locks, starts a worker per slot and the API process, and keeps them alive.

It touches no media. A child that dies is started again (recorder/child.py); a worker is told its cameras when it starts and whenever
they change. SIGTERM and SIGINT end the API first, then the workers, each in bounded time.
"""

import asyncio
import dataclasses
import itertools
import logging
import os
import signal
import socket
from collections import defaultdict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, TypeVar

from recorder import preflight
from recorder.base.clock import Clock
from recorder.base.config import SiteConfig
from recorder.base.control import ControlClient, ControlServer
from recorder.base.errors import ConfigError, Conflict, NotFound, WatchroomError
from recorder.child import Child, own_command
from recorder.handover import dump_site
from recorder.notes import Notes
from recorder.order import Order, Outcome
from recorder.roster import Roster
from recorder.signer import Signer
from recorder.volume_locks import VolumeLocks
from storage.catalogue import Catalogue

log = logging.getLogger(__name__)
T = TypeVar("T")

API_GRACE_S = 3.0
WORKER_GRACE_S = 5.0
ORDER_S = 10.0
HOLD_S = 60.0           # a slot's keeper may be at something else
WORKER_UP_S = 30.0      # recovery of a slot comes before its socket
WORKER_ASK_S = 0.05


class Supervisor:
    """One site's server. `run` is its whole life; everything else happens inside it."""

    def __init__(self, site: SiteConfig, clock: Clock, *, command: Callable[..., tuple[str, ...]] = own_command) -> None:
        self._site = site
        self._command = command
        self._clock = clock
        self._stop = asyncio.Event()
        self._desk = ThreadPoolExecutor(1, "catalogue")     # SQLite waits for the disk: never on the loop
        self._volumes: VolumeLocks
        self._workers: dict[int, Child] = {}
        # One giver of orders to a slot at a time: a camera removed while a worker starts must not be started after its stop.
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._api: Child | None = None
        self._roster: Roster | None = None
        self._notes = Notes(clock)
        self._signer = Signer(lambda: self._site, clock, command, self._notes)

    async def run(self) -> None:
        """Checks, starts, serves until SIGTERM or SIGINT, ends everything. Raises WatchroomError before anything is started, or nothing."""
        with ExitStack() as held:
            held.callback(self._desk.shutdown)
            self._check(held)
            self._roster = await self._at_desk(lambda: self._open_roster(held))
            self._site = self._roster.volumes.site
            await self._refuse_open_door()
            preflight.raise_files_limit(len(await self._at_desk(self._roster.cameras)))
            control = ControlServer(self._site.supervisor_socket, self._answer, log)
            await control.start()
            try:
                await self._serve()
            finally:
                await control.close()

    def stop(self) -> None:
        """Lets `run` come to its end."""
        self._stop.set()

    # --- before the start

    def _check(self, held: ExitStack) -> None:
        preflight.check_names()
        held.callback(os.close, preflight.make_state_dir(self._site))
        preflight.check_live_dir(self._site.live_dir)
        preflight.check_port(self._site)
        preflight.check_signing(self._site)

    def _open_roster(self, held: ExitStack) -> Roster:
        catalogue = Catalogue.open(self._site.catalogue, self._clock, write=True)
        held.callback(lambda: self._desk.submit(catalogue.close).result())
        roster = Roster(catalogue, self._site)
        self._volumes = VolumeLocks(roster.volumes.site.volumes)
        self._volumes.open()
        held.callback(self._volumes.close)
        roster.adopt_file()
        roster.volumes.adopt(self._volumes.uuids())
        for name in roster.strangers():
            log.warning("camera %s lies outside recording.camera_networks and will be refused", name)
        return roster

    async def _refuse_open_door(self) -> None:
        assert self._roster is not None
        server = self._site.server
        if server.tls is not None and not await self._at_desk(self._roster.has_tokens):
            raise ConfigError("others can reach this server and there is no token", where=f"server.listen {server.listen}",
                              remedy="make one with: watchroom token add NAME --scope admin")
        relay = self._site.rtsp_out
        if relay.port and not preflight.loopback(relay.bind) and not await self._at_desk(self._roster.has_logins):
            raise ConfigError("others can reach it and there is no token that can log in over RTSP", where=f"rtsp_out.bind {relay.bind}",
                              remedy="make one with: watchroom token add NAME (those made by an older version cannot)")

    # --- serving

    async def _serve(self) -> None:
        assert self._roster is not None
        told = dump_site(self._site)
        for slot in range(self._site.recording.slots):
            command = self._command("_worker", "--slot", str(slot))
            self._workers[slot] = Child(f"worker-{slot}", command, self._clock, told=told, on_start=self._starter(slot))
        self._api = Child("api", self._command("_api"), self._clock, told=told)
        children = [*self._workers.values(), self._api]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        try:
            async with asyncio.TaskGroup() as lives:
                for child in children:
                    lives.create_task(child.run(), name=child.state.name)
                watches = [lives.create_task(self._volumes.watch(), name="volumes"), lives.create_task(self._signer.run(), name="signer")]
                self._say_ready()
                await self._stop.wait()
                await self._end_children()
                for watch in watches:
                    watch.cancel()
            await self._signer.last()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _say_ready(self) -> None:
        server = self._site.server
        scheme = "https" if server.tls and server.tls.cert else "http"
        host = f"[{server.listen}]" if ":" in server.listen else server.listen
        log.info("%s: %d slots on %s, %s://%s:%d/", self._site.name, len(self._workers),
                 ", ".join(str(volume.path) for volume in self._site.volumes), scheme, host, server.port)
        notify("READY=1")

    async def _end_children(self) -> None:
        assert self._api is not None
        log.info("ending")
        notify("STOPPING=1")
        await self._api.stop(API_GRACE_S)
        await asyncio.gather(*(worker.stop(WORKER_GRACE_S) for worker in self._workers.values()))

    # --- orders to workers

    def _starter(self, slot: int) -> Callable[[], Awaitable[None]]:
        async def start() -> None:
            await self._until_up(slot)
            assert self._roster is not None
            roster = self._roster
            async with self._turns[slot]:
                again = self._workers[slot].state.restarts > 0
                for order in await self._at_desk(lambda: roster.start_orders(slot, at_once=again)):
                    await self._give(order)
        return start

    async def _until_up(self, slot: int) -> None:
        """Returns when the slot's worker answers. Raises NotFound if it does not within WORKER_UP_S."""
        client = ControlClient(self._site.slot_socket(slot), timeout_s=ORDER_S)
        deadline_ns = self._clock.mono_ns() + int(WORKER_UP_S * 1e9)
        while True:
            try:
                await client.call("status")
            except NotFound:
                if self._clock.mono_ns() > deadline_ns:
                    raise
                await asyncio.sleep(WORKER_ASK_S)
            else:
                return

    async def _give(self, order: Order) -> Any:
        """Gives one order: the answer, or the error; a worker that cannot take it now is told everything when it starts again."""
        timeout_s = HOLD_S if order.call.startswith("hold") else ORDER_S
        try:
            return await ControlClient(self._site.slot_socket(order.slot), timeout_s=timeout_s).call(order.call, order.args)
        except Conflict as error:
            return error        # camera.start: it does so already (too many are Refused); of holds: the holdbook says what was in the way
        except WatchroomError as error:
            log.warning("slot %d: %s: %s", order.slot, order.call, error)
            return error

    # --- the control socket

    async def _answer(self, call: str, args: dict[str, Any]) -> Any:
        if call == "status":
            return await self._status()
        if call == "signing":
            return {"volumes": self._signer.status()}
        if call == "events":
            return self._notes.after(str(args["life"]), int(args["last"]))
        if call == "hold.add":
            await self._carry_out("hold.plan", args)
        return await self._carry_out(call, args)

    async def _carry_out(self, call: str, args: dict[str, Any]) -> Any:
        assert self._roster is not None
        roster = self._roster
        outcome: Outcome = await self._at_desk(lambda: roster.call(call, args))
        answers = []
        # A call's orders go together and in the catalogue's order, or a removal could slip between the stop and the start of a change.
        for slot, orders in itertools.groupby(outcome.orders, lambda order: order.slot):
            async with self._turns[slot]:
                for order in orders:
                    answers.append((order, await self._give(order)))
        if roster.volumes.site is not self._site:
            await self._follow_volumes(roster.volumes.site)
        return outcome.finish(answers) if outcome.finish else outcome.result

    async def _follow_volumes(self, site: SiteConfig) -> None:
        """A volume was added or drained: children that start from now on know it. The API begins anew to read from a new one."""
        added = site.volumes[len(self._site.volumes):]
        self._site = site
        for child in self._children():
            child.told = dump_site(site)
        for volume in added:
            await asyncio.to_thread(self._volumes.add, volume)
        if added and self._api is not None:
            self._api.renew()

    def _children(self) -> list[Child]:
        return [*self._workers.values(), *([self._api] if self._api else [])]

    async def _status(self) -> dict[str, Any]:
        return {
            "site": self._site.name,
            "pid": os.getpid(),
            "slots": sorted(self._workers),
            "processes": [dataclasses.asdict(child.state) for child in self._children()],
            "volumes": await asyncio.to_thread(self._volumes.status),
            "signing": self._signer.status(),
        }

    async def _at_desk(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._desk, work)


def notify(state: str) -> None:
    """Tells systemd (sd_notify(3)) if it asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
        except OSError as error:
            log.warning("systemd cannot be told %s: %s", state, error.strerror)
