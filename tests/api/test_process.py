"""The API process: TLS, its key, refusals to start, slots that hang, a catalogue that changes, a stop that ends streams."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from api import keys
from api.process import run_api, serving, site_key
from api.status import NOTHING
from recorder.base.config import CameraConfig, StreamConfig, TlsConfig, VolumeConfig
from recorder.base.errors import ConfigError, NotFound, StorageError


async def until(condition: Any) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> TlsConfig:
    folder = tmp_path_factory.mktemp("tls")
    made = TlsConfig(cert=folder / "cert.pem", key=folder / "key.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += " -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*command.split(), "-keyout", str(made.key), "-out", str(made.cert)], check=True, capture_output=True)
    return made


async def test_tls_of_our_own(start: Any, certificate: TlsConfig) -> None:
    api = await start(tls=certificate)
    trust = ssl.create_default_context(cafile=str(certificate.cert))
    async with aiohttp.ClientSession() as client, client.get(f"https://{api.host}/healthz", ssl=trust) as answer:
        assert answer.status == 200
    with pytest.raises(aiohttp.ClientError):
        await api.get("/healthz")  # plain HTTP
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientError):
            await client.get(f"https://{api.host}/healthz", ssl=old)


async def test_a_certificate_that_cannot_be_loaded_is_one_clear_line(start: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"server\.tls: cannot be loaded"):
        await start(tls=TlsConfig(cert=tmp_path / "bad.pem", key=tmp_path / "missing.pem"))


async def test_a_port_in_use_is_one_clear_line(start: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match=r"server\.port: cannot listen"):
        await start(port=taken.getsockname()[1])


async def test_off_loopback_without_tls_nothing_starts(start: Any) -> None:
    with pytest.raises(ConfigError, match="no TLS"):
        await start(listen="0.0.0.0")


async def test_a_revoked_token_is_no_token(start: Any, catalogue: Any) -> None:
    record, _ = catalogue.add_token("x", ["view"])
    catalogue.revoke_token(record.number)
    with pytest.raises(ConfigError, match="no token"):
        await start(tls=TlsConfig(proxy=True))


async def test_without_a_catalogue_or_a_volume_nothing_starts(site: Any, catalogue: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        async with serving(replace(site, state_dir=tmp_path / "elsewhere")):
            pass
    with pytest.raises(StorageError):
        async with serving(replace(site, volumes=(VolumeConfig(tmp_path / "none"),))):
            pass


def test_the_key_is_made_once_and_for_us_alone(tmp_path: Path) -> None:
    key = site_key(tmp_path)
    assert (len(key), site_key(tmp_path)) == (32, key)
    assert (tmp_path / "api.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "api.key").write_bytes(b"short")
    with pytest.raises(ConfigError, match=r"api\.key"):
        site_key(tmp_path)
    (tmp_path / "api.key").unlink()
    (tmp_path / "api.key").symlink_to("/etc/passwd")
    with pytest.raises((OSError, ConfigError)):
        site_key(tmp_path)


async def test_a_session_outlives_the_process(start: Any) -> None:
    api = await start()
    session = await api.ask("POST", "session", headers={"Origin": api.origin}, json={"token": await api.token("view")})
    cookie = session.headers["Set-Cookie"].partition(";")[0]
    again = await start()
    api.catalogue.revoke_token(1)
    await again.refresh()
    local = await again.get("cameras", headers={"Cookie": cookie})
    assert local.status == 200  # loopback: a stale cookie does not lock out the machine's own user


async def test_a_change_of_the_catalogue_is_seen_without_being_told(api: Any) -> None:
    api.catalogue.add_camera(CameraConfig("later", StreamConfig("rtsp://10.0.0.1/")), "api", 3)
    board, registry = api.served.app[keys.STATUS], api.served.app[keys.REGISTRY]
    await until(lambda: registry.camera("later") is not None)
    assert board.slots() == (0,)  # a slot without a worker of its own is another's, and has no socket to be silent on


async def test_a_slot_that_accepts_and_never_answers_blocks_nobody(api: Any) -> None:
    held = []
    server = await asyncio.start_unix_server(lambda reader, writer: held.append(writer), path=api.site.slot_socket(0))
    await until(lambda: held)
    assert (await api.get("cameras/north")).json["state"] == "unknown"
    assert (await api.get("/readyz")).status == 503
    assert api.served.app[keys.STATUS].camera(1) is NOTHING
    server.close()
    for writer in held:
        writer.close()


async def test_a_slot_that_talks_nonsense_is_unknown(api: Any) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b'{"id": 1, "result": {"cameras": {"north": {"number": "x", "tracks": 7}}}}\n')
        writer.close()

    asked: list[bytes] = []
    server = await asyncio.start_unix_server(answer, path=api.site.slot_socket(0))
    await until(lambda: len(asked) > 1)  # it is asked again
    assert (await api.get("cameras/north")).json["state"] == "unknown"
    server.close()


async def test_sigterm_ends_streams_and_the_process_returns(site: Any, catalogue: Any, free_port: int) -> None:
    mine = replace(site, server=replace(site.server, port=free_port))
    serve = asyncio.create_task(run_api(mine))
    async with aiohttp.ClientSession() as client:
        async with asyncio.timeout(120):
            stream = await eventually(client, f"http://127.0.0.1:{free_port}/api/v1/events", True)
        await stream.content.readany()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(120):
            assert b"stopping" in await stream.content.read()
            await serve
    assert signal.getsignal(signal.SIGTERM) in {signal.SIG_DFL, signal.default_int_handler}


UNDER_UVLOOP = """
import sys, uvloop
from pathlib import Path
from recorder.base.config import ServerConfig, SiteConfig, TlsConfig, VolumeConfig
from api.process import run_api
folder, port, cert, key = sys.argv[1:]
server = ServerConfig(port=int(port), hosts=("127.0.0.1",), tls=TlsConfig(cert=Path(cert), key=Path(key)))
volume = VolumeConfig(Path(folder) / "volume", on_root=True)
uvloop.run(run_api(SiteConfig("x", Path(folder) / "state", live_dir=Path(folder) / "live", volumes=(volume,), server=server)))
"""


async def test_it_serves_tls_and_stops_under_uvloop(site: Any, catalogue: Any, tmp_path: Path, free_port: int, certificate: TlsConfig) -> None:
    command = [sys.executable, "-c", UNDER_UVLOOP, str(tmp_path), str(free_port), str(certificate.cert), str(certificate.key)]
    child = await asyncio.create_subprocess_exec(*command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    trust = ssl.create_default_context(cafile=str(certificate.cert))
    try:
        async with aiohttp.ClientSession() as client, asyncio.timeout(120):
            stream = await eventually(client, f"https://127.0.0.1:{free_port}/api/v1/events", trust)
            await stream.content.readany()
            child.send_signal(signal.SIGTERM)
            await stream.content.read()
            assert await child.wait() == 0
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def eventually(client: aiohttp.ClientSession, url: str, trust: Any) -> aiohttp.ClientResponse:
    """The answer of a server that is about to start."""
    while True:
        try:
            return await client.get(url, ssl=trust)
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(0.02)


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
