"""The heads of the volumes are signed by themselves: at the start, whenever it is time, at the end; who puts older ones in place is found."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recorder.__main__ import main
from recorder.base.clock import SystemClock
from recorder.base.errors import ConfigError
from recorder.child import own_command
from recorder.supervisor import Supervisor
from storage.volume import Volume
from tests.supervisor.conftest import Place
from tests.supervisor.test_supervisor import Server

SOON = 0.001        # hours


def command(place: Place, *arguments: str) -> tuple[str, ...]:
    """The process that signs is the real one."""
    return own_command(*arguments) if arguments[0] == "_sign" else place.command(*arguments)


@pytest.fixture
def signing(place: Place) -> Place:
    key = place.folder / "key.pem"
    key.write_bytes(Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    key.chmod(0o600)
    place.write("[signing]", 'key = "key.pem"', 'heads = "heads"')
    return place


@asynccontextmanager
async def serving(place: Place, every_h: float = 24.0) -> AsyncIterator[Server]:
    (place.folder / "log").unlink(missing_ok=True)
    site = place.site()
    assert site.signing is not None
    site = replace(site, signing=replace(site.signing, every_h=every_h))
    supervisor = Supervisor(site, SystemClock(), command=lambda *arguments: command(place, *arguments))
    task = asyncio.create_task(supervisor.run())
    server = Server(place, supervisor)
    try:
        await server.until(lambda: task.done() or len(server.notes("up")) >= 2)
        if task.done():
            await task
        yield server
    finally:
        supervisor.stop()
        await task


def documents(place: Place) -> list[Path]:
    return sorted((place.folder / "heads").glob("*/*.heads"))


def ours(place: Place, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """`watchroom verify` as an operator calls it."""
    capsys.readouterr()
    code = main(["verify", "--config", str(place.file)])
    return code, capsys.readouterr().out


async def test_it_signs_at_the_start_and_at_the_end(signing: Place, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(signing) as server:
        await server.until(lambda: documents(signing))
        async with asyncio.timeout(120):
            while not (said := (await server.call("status"))["signing"])[0]["signed_ns"]:
                await asyncio.sleep(0.02)
        assert (said[0]["failed"], said[0]["overdue"], said[0]["message"]) == (False, False, "")
        assert len(documents(signing)) == 1, "once a day"
    assert len(documents(signing)) == 2
    uuid = Volume.open(signing.folder / "volume", on_root=True, lock=False).uuid
    assert documents(signing)[0].parent.name == str(uuid)
    code, out = ours(signing, capsys)
    assert code == 0
    assert "clean: 2 documents, the newest 2:" in out


async def test_it_signs_whenever_it_is_time(signing: Place) -> None:
    async with serving(signing, SOON) as server:
        await server.until(lambda: len(documents(signing)) >= 3)


async def test_a_restart_goes_by_the_last_document(signing: Place) -> None:
    async with serving(signing) as server:
        await server.until(lambda: documents(signing))
    async with serving(signing) as server:
        signed_ns = (await server.call("status"))["signing"][0]["signed_ns"]
        assert signed_ns == json.loads((signing.folder / "state/signed.json").read_text()).popitem()[1]["signed_ns"]
    assert len(documents(signing)) == 3, "one at each end, none at the second start"


async def test_documents_that_are_older_than_the_newest_are_told(signing: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody puts the folder back as it was before: every document holds, and leads on from the one before."""
    async with serving(signing) as server:
        await server.until(lambda: documents(signing))
        shutil.copytree(signing.folder / "heads", signing.folder / "before")
    shutil.rmtree(signing.folder / "heads")
    (signing.folder / "before").rename(signing.folder / "heads")
    code, out = ours(signing, capsys)
    assert code == 1
    assert "00000002.heads: this document was signed, and is not there" in out
    async with serving(signing, SOON) as server:
        await told(server, "failed")
        assert "is not there" in (await server.call("status"))["signing"][0]["message"]
    assert len(documents(signing)) == 1, "nothing is signed behind it"


async def told(server: Server, state: str) -> None:
    """Returns when the supervisor has told this of signing."""
    async with asyncio.timeout(120):
        while True:
            said = await server.call("events", life="", last=0)
            if any(event["kind"] == "signing" and event["state"] == state for event in said["events"]):
                return
            await asyncio.sleep(0.05)


async def test_a_key_that_is_lost_meanwhile_is_told_and_overdue_is_too(signing: Place) -> None:
    async with serving(signing, SOON) as server:
        await server.until(lambda: documents(signing))
        (signing.folder / "key.pem").rename(signing.folder / "away.pem")
        await told(server, "failed")
        await told(server, "overdue")
        status = (await server.call("status"))["signing"][0]
        assert (status["failed"], status["overdue"]) == (True, True)
        assert "signing.key" in status["message"]
        server.supervisor._signer._again_ns = 0
        (signing.folder / "away.pem").rename(signing.folder / "key.pem")
        await told(server, "signed")
        assert (await server.call("status"))["signing"][0]["failed"] is False


async def test_a_site_without_signing_signs_nothing(place: Place) -> None:
    supervisor = Supervisor(place.site(), SystemClock(), command=place.command)
    task = asyncio.create_task(supervisor.run())
    server = Server(place, supervisor)
    await server.until(lambda: len(server.notes("up")) >= 2)
    assert (await server.call("status"))["signing"] == []
    supervisor.stop()
    await task
    assert not (place.folder / "heads").exists()


async def test_nothing_starts_with_a_key_that_others_can_read(signing: Place) -> None:
    (signing.folder / "key.pem").chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        async with serving(signing):
            pass
    assert not (signing.folder / "log").exists()
