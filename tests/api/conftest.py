"""A whole API on loopback, with a real catalogue and volume, and a supervisor that only keeps the catalogue."""

import asyncio
import json
import logging
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from api import keys
from api.process import Served, serving
from recorder.base.camera_json import camera_from_json, camera_to_json
from recorder.base.clock import SimulatedClock
from recorder.base.config import (
    CameraConfig,
    ExportsConfig,
    RetentionRule,
    ServerConfig,
    SiteConfig,
    StreamConfig,
    TlsConfig,
    VolumeConfig,
    WebrtcConfig,
)
from recorder.base.control import ControlServer
from recorder.base.errors import WatchroomError
from storage.catalogue import Catalogue
from tests.api.exporting import Holds
from tests.storage_read.reference_writer import RefVolume

PASSWORD = "s3cret p@ss/word"


def camera(camera_id: str, **more: Any) -> CameraConfig:
    """A camera with everything that must never be shown."""
    return CameraConfig(camera_id, StreamConfig("rtsp://10.1.2.3:554/stream"), user="operator", password=PASSWORD, **more)


@dataclass
class Reply:
    """An answer, read whole."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Api:
    """A running API and what a test needs around it."""

    served: Served
    site: SiteConfig
    catalogue: Catalogue
    clock: SimulatedClock
    client: aiohttp.ClientSession
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def host(self) -> str:
        """Host header and origin's authority."""
        return f"127.0.0.1:{self.served.port}"

    @property
    def origin(self) -> str:
        """Our own origin."""
        return f"http://{self.host}"

    async def ask(self, method: str, path: str, *, token: str = "", headers: dict[str, str] | None = None, **more: Any) -> Reply:
        """One request; `path` may be absolute or below /api/v1."""
        address = path if path.startswith("/") else f"/api/v1/{path}"
        sent = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
        async with self.client.request(method, self.origin + address, headers=sent, allow_redirects=False, **more) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def get(self, path: str, **more: Any) -> Reply:
        """GET."""
        return await self.ask("GET", path, **more)

    async def token(self, *scopes: str, **more: Any) -> str:
        """A new token that the API knows already."""
        _, secret = self.catalogue.add_token("test", scopes, **more)
        await self.refresh()
        return secret

    async def refresh(self) -> None:
        """Let the API see the catalogue as it is now."""
        await self.served.app[keys.REGISTRY].refresh()

    async def raw(self, data: bytes) -> Reply:
        """Bytes as they are, and the first answer to them (status 0: closed without one)."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.served.port)
        try:
            writer.write(data)
            await writer.drain()
            return await read_reply(reader)
        finally:
            writer.close()

    async def raw_get(self, target: bytes, *headers: bytes, host: bytes | None = None, method: bytes = b"GET") -> Reply:
        """A request whose target is not touched by any client library."""
        lines = [method + b" " + target + b" HTTP/1.1", b"Host: " + (host or self.host.encode()), b"Connection: close", *headers]
        return await self.raw(b"\r\n".join(lines) + b"\r\n\r\n")


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """The first answer on a connection that the server closes after it."""
    async with asyncio.timeout(120):
        data = await reader.read(-1)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return Reply(int(lines[0].split()[1]) if len(lines[0].split()) > 1 else 0, headers, body)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[RefVolume]:
    """A volume that the reference writer writes."""
    (tmp_path / "live").mkdir()
    made = RefVolume(tmp_path / "volume", tmp_path / "live")
    yield made
    made.volume.close()


@pytest.fixture
def site(tmp_path: Path, volume: RefVolume) -> SiteConfig:
    """A site with one volume, bound to loopback; what was recorded at the simulated time has not expired at the real one, of processes."""
    (tmp_path / "state" / "run").mkdir(parents=True)
    return SiteConfig(
        "Test site",
        tmp_path / "state",
        live_dir=tmp_path / "live",
        volumes=(VolumeConfig(tmp_path / "volume", on_root=True),),
        server=ServerConfig(port=0, hosts=("127.0.0.1",)),
        webrtc=WebrtcConfig(port=0),
        retention=RetentionRule(days=3660.0),
    )


@pytest.fixture
def clock() -> SimulatedClock:
    """Stands still unless moved."""
    return SimulatedClock()


@pytest.fixture
def catalogue(site: SiteConfig, clock: SimulatedClock) -> Iterator[Catalogue]:
    """The writer's side, with two cameras: `north` made here, `yard` owned by the file and of another partner."""
    with Catalogue.open(site.catalogue, clock, write=True) as opened:
        opened.add_camera(
            camera("north", name="North Road", partner="council", site="town", purpose="public safety", latitude=51.5, longitude=-0.1), "api", 0
        )
        opened.add_camera(camera("yard", partner="depot", site="yard"), "file", 0)
        yield opened


class FakeSupervisor:
    """Does to the catalogue what the supervisor would; records what it was asked."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.fails: WatchroomError | None = None
        self.more: dict[str, Callable[[dict[str, Any]], Any]] = {}

    async def answer(self, call: str, args: dict[str, Any]) -> Any:
        if call == "hold.list" and call not in self.more:
            return {"holds": [], "more": False}         # asked at the start, by the desk of exports
        if call not in {"events", "signing"}:        # asked for all the time
            self.calls.append((call, args))
        if self.fails:
            raise self.fails
        if call in self.more:
            return self.more[call](args)
        if call == "camera.add":
            self._catalogue.add_camera(camera_from_json(args), "api", 0)
        elif call == "camera.change":
            have = camera_to_json(self._catalogue.camera(args["id"]).config, secrets=True)
            self._catalogue.change_camera(args["id"], camera_from_json(have | args["changes"]))
        elif call == "camera.remove":
            self._catalogue.remove_camera(args["id"])
        return {}


@pytest.fixture
def supervisor(catalogue: Catalogue) -> FakeSupervisor:
    return FakeSupervisor(catalogue)


@pytest.fixture
def holds(catalogue: Catalogue, site: SiteConfig, supervisor: FakeSupervisor) -> Holds:
    """The supervisor takes and releases holds."""
    made = Holds(catalogue, site)
    supervisor.more |= made.calls()
    return made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 420 MB; root only."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=420m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


Start = Callable[..., Any]


@pytest.fixture
async def start(site: SiteConfig, catalogue: Catalogue, clock: SimulatedClock, supervisor: FakeSupervisor) -> AsyncIterator[Start]:
    """Starts APIs; `start(listen=..., exports=...)` with another server configuration, or other exports."""
    async with AsyncExitStack() as stack:
        control = ControlServer(site.supervisor_socket, supervisor.answer, logging.getLogger("test"))
        await control.start()
        stack.push_async_callback(control.close)

        async def begin(exports: ExportsConfig | None = None, volumes: tuple[VolumeConfig, ...] = (), **server: Any) -> Api:
            mine = replace(site, server=replace(site.server, **server), exports=exports or site.exports, volumes=volumes or site.volumes)
            return await stack.enter_async_context(running(mine, catalogue, clock, supervisor))

        yield begin


@asynccontextmanager
async def running(site: SiteConfig, catalogue: Catalogue, clock: SimulatedClock, supervisor: FakeSupervisor) -> AsyncIterator[Api]:
    async with serving(site, clock) as served, aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as client:
        yield Api(served, site, catalogue, clock, client, supervisor.calls)


@pytest.fixture
async def api(start: Start) -> Api:
    """The API with its defaults: loopback, no TLS."""
    return await start()


@pytest.fixture
async def proxied(start: Start, catalogue: Catalogue) -> Api:
    """The API behind a proxy: nobody comes in without a token. One token exists, or it would not start."""
    catalogue.add_token("first", ["metrics"])
    return await start(tls=TlsConfig(proxy=True))
