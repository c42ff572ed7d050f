"""An API process that is killed five times while one export is made: the file is that of an undisturbed run, and so is its digest."""

import asyncio
import hashlib
import logging
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench.site import free_port
from recorder.base.config import ExportsConfig, SiteConfig
from recorder.base.control import ControlServer
from recorder.child import own_command
from recorder.handover import dump_site
from storage import items
from storage.catalogue import Catalogue
from tests.api.exporting import Holds
from tests.storage_read.reference_writer import BASE_NS, ENTRY_H264, RefVolume, gop

KILLS = 5
SPENT = re.compile(r"export [0-9a-f]{32}: (\d+) bytes, ([\d.]+) s of CPU, ([\d.]+) s")
AU_BYTES = 150_000


@dataclass
class Server:
    """An API process of its own that is killed and started again; `log` is what all of them said."""

    site: SiteConfig
    token: str
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.site.server.port}/api/v1/"

    async def start(self, client: aiohttp.ClientSession) -> None:
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(own_command("_api"), stdin=subprocess.PIPE, stderr=file)
        assert self.process.stdin is not None
        self.process.stdin.write(dump_site(self.site))
        self.process.stdin.close()
        await self.until(client, "exports", lambda _: True)

    def end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)

    async def ask(self, client: aiohttp.ClientSession, method: str, path: str, *, key: str = "", **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", **({"Idempotency-Key": key} if key else {})}
        async with client.request(method, self.root + path, headers=headers, **more) as answer:
            assert answer.status in {200, 202}, await answer.text()
            return await answer.json()

    async def until(self, client: aiohttp.ClientSession, path: str, true: Any, seconds: float = 600) -> Any:
        deadline = time.monotonic() + seconds
        while True:
            try:
                found = await self.ask(client, "GET", path)
                if true(found):
                    return found
            except (aiohttp.ClientError, AssertionError) as error:
                found = error
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.05)

    async def digest(self, client: aiohttp.ClientSession, path: str) -> str:
        digest = hashlib.sha256()
        async with client.get(self.root + path, headers={"Authorization": f"Bearer {self.token}"},
                              timeout=aiohttp.ClientTimeout(total=None)) as answer:
            assert answer.status == 200
            async for piece in answer.content.iter_chunked(1 << 20):
                digest.update(piece)
        return digest.hexdigest()


@pytest.fixture
async def server(site: SiteConfig, catalogue: Catalogue, supervisor: Any, holds: Holds, tmp_path: Path) -> AsyncIterator[Server]:
    control = ControlServer(site.supervisor_socket, supervisor.answer, logging.getLogger("test"))
    await control.start()
    mine = replace(site, server=replace(site.server, port=free_port()))
    made = Server(mine, catalogue.add_token("test", ["export", "view"])[1], tmp_path / "log")
    try:
        yield made
    finally:
        made.end(signal.SIGTERM)
        await control.close()


def recorded(volume: RefVolume, nbytes: int) -> int:
    """So many bytes of footage; its seconds."""
    rows = nbytes // (11 * AU_BYTES)
    track = volume.track(1, "main", ring_rows=1 << 15)
    track.log(items.SampleEntryItem(1, ENTRY_H264))
    for _ in range(rows):
        track.write_row(gop(10, size=AU_BYTES, key=2 * AU_BYTES, dur=9000))
    track.commit()
    return rows


@pytest.mark.parametrize(("nbytes", "mb_per_s"), [(60_000_000, 3.0), pytest.param(10_000_000_000, 0.0, marks=pytest.mark.soak, id="10GB")])
async def test_five_kills_change_nothing(server: Server, volume: RefVolume, nbytes: int, mb_per_s: float, record_property: Any) -> None:
    seconds = recorded(volume, nbytes)
    server.site = replace(server.site, exports=ExportsConfig(mb_per_s=mb_per_s or 400.0))
    wanted = {"start": BASE_NS, "end": BASE_NS + seconds * 1_000_000_000}
    body = {"items": [{"camera": "north", **wanted}], "reason": "case"}
    async with aiohttp.ClientSession() as client:
        await server.start(client)
        right = await server.digest(client, f"cameras/north/clip.mp4?start={wanted['start']}&end={wanted['end']}")
        job = (await server.ask(client, "POST", "exports", json=body, key="one"))["id"]
        for kill in range(1, KILLS + 1):
            found = await server.until(client, f"exports/{job}", lambda one, kill=kill: one["progress"] >= kill / (2 * KILLS))
            assert found["state"] == "running"
            server.end(signal.SIGKILL)
            await server.start(client)
            assert (await server.ask(client, "POST", "exports", json=body, key="one"))["id"] == job
        found = await server.until(client, f"exports/{job}", lambda one: one["state"] == "done")
        assert found["result"]["sha256"] == right == await server.digest(client, f"exports/{job}/result")
        await server.ask(client, "DELETE", f"exports/{job}")
        job = (await server.ask(client, "POST", "exports", json=body))["id"]         # once more, undisturbed, for its cost
        assert (await server.until(client, f"exports/{job}", lambda one: one["state"] == "done"))["result"]["sha256"] == right
    size, cpu_s, wall_s = map(float, SPENT.findall(server.log.read_text())[-1])
    assert size >= nbytes * 0.9
    record_property("export with digest", f"{size / 1e9:.2f} GB, {cpu_s / size * 1e9:.2f} CPU-s/GB, {size / cpu_s / 1e6:.0f} MB/s a core, "
                                          f"{size / wall_s / 1e6:.0f} MB/s")
