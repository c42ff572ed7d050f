"""The API process: `run_api(site)` serves until it is told to stop. It writes its own key and the folder of exports, and no frame
depends on it."""

import asyncio
import functools
import gc
import logging
import os
import secrets
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from api import keys
from api.access import protocol_logger
from api.application import Parts, make_application
from api.catalogue import CatalogueFollower
from api.completeness import COMPLETE
from api.connections import DOORS
from api.events import EVENTS
from api.exports.routes import DESK
from api.gapwatch import GapWatch
from api.guard import check_exposure
from api.heap import keep_freed
from api.lag import LAG
from api.media import MEDIA
from api.problems import RETRY_S, Problem
from api.protocol import Protocol
from api.registry import Registry
from api.rtspout.server import rtsp_serving
from api.side import Side
from api.slotevents import SlotEvents
from api.status import ANSWER_S, StatusBoard, follow
from recorder.base.clock import Clock, SystemClock
from recorder.base.config import ServerConfig, SiteConfig
from recorder.base.control import ControlClient
from recorder.base.errors import ConfigError, NotFound, WatchroomError
from recorder.base.rulebook import Expiry
from recorder.base.tasks import TaskSet
from storage.sickdisk import SickTapes
from storage.store import TapeStore

log = logging.getLogger("watchroom.api")

KEY_BYTES = 32
STOP_S = 3.0
LOOK_S = 1.0
BACKLOG = 512
HEADER_BYTES = 16 << 10
KEEP_ALIVE_S = 75.0
HOLD_S = 120.0          # all slots take a hold before it is answered
ENDS = (signal.SIGTERM, signal.SIGINT)


OPTIONS: dict[str, Any] = {          # of aiohttp's protocol
    "access_log": None,
    "auto_decompress": False,
    "keepalive_timeout": KEEP_ALIVE_S,
    "max_line_size": HEADER_BYTES // 2,
    "max_field_size": HEADER_BYTES // 2,
    "max_headers": 64,
    "lingering_time": 2.0,
}


class SupervisorClient:
    """Calls to the supervisor; its silence is a 503, not a missing camera."""

    def __init__(self, path: Path) -> None:
        self._client = ControlClient(path)
        self._name = path.name

    async def call(self, name: str, args: dict[str, Any]) -> Any:
        """The result, or the error that the supervisor raised."""
        try:
            return await self._client.call(name, args, timeout_s=HOLD_S if name.startswith("hold.") else None)
        except NotFound as error:
            if error.where == self._name:
                raise Problem(503, "the supervisor does not answer", headers={"Retry-After": str(RETRY_S)}) from None
            raise


def site_key(state_dir: Path) -> bytes:
    """The key that seals sessions and signed URLs: 32 random bytes in `state_dir/api.key` (0600), made once."""
    path = state_dir / "api.key"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
    except FileExistsError:
        pass
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        key = file.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise ConfigError("is not a key of 32 bytes", where="api.key", remedy="remove it; sessions and signed addresses then end")
    return key


def tls_context(server: ServerConfig) -> ssl.SSLContext | None:
    """TLS 1.2 or newer with the configured certificate; None without one. ConfigError if it cannot be loaded."""
    if server.tls is None or server.tls.proxy or server.tls.cert is None or server.tls.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(server.tls.cert, server.tls.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"cannot be loaded ({type(error).__name__})", where="server.tls", remedy="give PEM files that belong together"
        ) from None
    return context


@dataclass(frozen=True, slots=True)
class Served:
    """A running API: `port` is the real one where the configuration says 0. `rtsp_port` 0: there is none."""

    app: web.Application
    host: str
    port: int
    rtsp_port: int = 0


@asynccontextmanager
async def serving(site: SiteConfig, clock: Clock | None = None) -> AsyncIterator[Served]:
    """The API served while the block runs; yields where, and the application."""
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        app = await _build(site, clock, stack)
        runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=STOP_S)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        server = await _listen(app, runner, site.server)
        stack.callback(app[EVENTS].close)
        stack.callback(server.close)
        address = server.sockets[0].getsockname()
        log.info("listening on port %d", address[1])
        rtsp = await stack.enter_async_context(rtsp_serving(app, site.rtsp_out))
        yield Served(app, str(address[0]), int(address[1]), rtsp.port if rtsp is not None else 0)


async def _build(site: SiteConfig, clock: Clock, stack: AsyncExitStack) -> web.Application:
    registry, board, tasks = Registry(), StatusBoard(clock), TaskSet(log)
    follower = CatalogueFollower(site.catalogue, clock, registry)
    stack.callback(follower.close)
    await registry.refresh()
    check_exposure(site.server, sum(1 for token in registry.tokens() if token.valid(clock.wall_ns())))
    paths = [volume.path for volume in site.volumes]
    expiry = Expiry(functools.partial(registry.rules, site), clock.wall_ns)
    sickness = SickTapes()
    store, side_store = (TapeStore(paths, site.live_dir, expiry, lenient=True, sickness=sickness) for _ in range(2))
    stack.callback(store.close)
    side = Side(side_store)
    stack.callback(side.close)
    parts = Parts(site, clock, store, registry, board, SupervisorClient(site.supervisor_socket), side, site_key(site.state_dir))
    app = make_application(parts)
    stack.callback(app[DESK].close)
    stack.push_async_callback(tasks.close)
    tasks.start("catalogue", follower.run)
    tasks.start("loop lag", app[LAG].run)
    tasks.start("volumes", functools.partial(_watch_volumes, app, side))
    tasks.start("gaps", GapWatch(app[EVENTS], registry, side, clock).run)
    tasks.start("exports", app[DESK].run)
    tasks.start("completeness", functools.partial(app[COMPLETE].run, app))
    supervisor = ControlClient(site.supervisor_socket, timeout_s=ANSWER_S)
    tasks.start("events of the supervisor", SlotEvents(app[EVENTS], registry, supervisor.call).run)
    for slot in range(site.recording.slots):
        client = ControlClient(site.slot_socket(slot), timeout_s=ANSWER_S)
        tasks.start(f"slot {slot}", functools.partial(follow, board, slot, functools.partial(client.call, "status")))
        tasks.start(f"events {slot}", SlotEvents(app[EVENTS], registry, client.call).run)
    return app


async def _watch_volumes(app: web.Application, side: Side) -> None:
    """Once a second: a volume that was unmounted is let go of, even while nobody asks for footage; what disks cannot read is told once."""
    while True:
        await asyncio.sleep(LOOK_S)
        for place, tapes in app[keys.STORE].sickness.news():
            app[EVENTS].add("disk", state="unreadable" if tapes else "readable", volume=place, tapes=tapes)
        try:
            await side.run(TapeStore.look)
            if MEDIA in app:
                await app[MEDIA].look()
        except (WatchroomError, OSError) as error:
            log.warning("the volumes were not looked at: %s", error)


async def _listen(app: web.Application, runner: web.AppRunner, server: ServerConfig) -> asyncio.Server:
    assert runner.server is not None
    loop = asyncio.get_running_loop()
    app[DOORS].bind(functools.partial(Protocol, runner.server, loop=loop, logger=protocol_logger(), **OPTIONS))
    try:
        return await loop.create_server(
            app[DOORS],
            server.listen.strip("[]"),
            server.port,
            ssl=tls_context(server),
            backlog=BACKLOG,
            ssl_handshake_timeout=10.0 if tls_context(server) else None,
        )
    except OSError as error:
        raise ConfigError(
            f"cannot listen on port {server.port}: {os.strerror(error.errno) if error.errno else error}",
            where="server.port",
            remedy="stop what uses it, or choose another",
        ) from None


async def run_api(site: SiteConfig) -> None:
    """Serve until SIGTERM or SIGINT; returns when every answer has ended or had 3 s to do so."""
    keep_freed()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in ENDS:
        loop.add_signal_handler(number, stop.set)
    try:
        async with serving(site):
            gc.freeze()             # what is there now stays: a full collection need not look at it
            await stop.wait()
    finally:
        for number in ENDS:
            loop.remove_signal_handler(number)
