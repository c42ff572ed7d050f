"""Webhooks of exports: signed, once when all goes well, again with the same id when not, to allowed addresses only."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from api.exports.job import Failure, Job, State, Wanted
from api.exports.routes import DESK
from api.exports.webhook import WAITS_S, allowed, body_of, secret_of
from api.schemas import COMPONENTS
from recorder.base.config import ExportsConfig, SiteConfig
from storage.catalogue import Catalogue
from tests.api.exporting import body, ended, footage, until, until_true
from tests.api.test_description import check
from tests.storage_read.reference_writer import RefVolume

SECRET = "whsec_" + base64.b64encode(b"a key of some length").decode()


class Receiver:
    """Whom the webhooks are for: notes what comes, and answers with the next of `answers`, then 204."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, request: web.Request) -> web.Response:
        self.calls.append((dict(request.headers), await request.read()))
        await self.gate.wait()
        status = self.answers.pop(0) if self.answers else 204
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status in {302, 307} else {})


@pytest.fixture
async def receiver() -> AsyncIterator[Any]:
    made, app = Receiver(), web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    async with TestServer(app) as server:
        yield made, f"http://127.0.0.1:{server.port}/hooks/"


@pytest.fixture
async def telling(start: Any, volume: RefVolume, holds: Any, receiver: Any, tmp_path: Path) -> Any:
    """An API that may call the receiver, and a token."""
    footage(volume, 20, au_bytes=4_000)
    (tmp_path / "secret").write_text(SECRET + "\n")
    api = await start(exports=ExportsConfig(webhooks=(receiver[1],), webhook_secret_file=tmp_path / "secret"))
    api.clock.advance(3600)
    api.key = await api.token("export")
    return api


async def ask(api: Any, **more: Any) -> Any:
    return await api.ask("POST", "exports", token=api.key, json=body(5, 15, **more))


def check_signature(headers: dict[str, str], data: bytes) -> None:
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + data
    digest = hmac.new(b"a key of some length", signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


async def test_the_end_of_an_export_is_told_once_and_signed(telling: Any, receiver: Any) -> None:
    made, address = receiver
    job = (await ask(telling, webhook=address + "done", reference="case 7")).json
    job = await until(telling, job["id"], telling.key, lambda job: job["webhook"]["delivered"])
    ((headers, data),) = made.calls
    check_signature(headers, data)
    said = json.loads(data)
    assert said["type"] == "export.done" and said["data"]["export"] == job["id"] and said["data"]["reference"] == "case 7"
    assert said["data"]["result"]["sha256"] == job["result"]["sha256"] and headers["webhook-id"] == job["webhook"]["id"]
    telling.clock.advance(3 * 86_400)
    await until(telling, job["id"], telling.key, lambda job: job["webhook"]["tries"] == 1)
    assert len(made.calls) == 1


async def test_what_is_refused_is_sent_again_with_the_same_id_and_redirects_lead_nowhere(telling: Any, receiver: Any) -> None:
    made, address = receiver
    made.answers = [500, 302, 307]
    job = (await ask(telling, webhook=address + "done")).json
    for tries, wait_s in zip((1, 2, 3), WAITS_S[:3], strict=True):
        found = await until(telling, job["id"], telling.key, lambda job, tries=tries: job["webhook"]["tries"] == tries)
        assert found["webhook"]["error"].startswith("it answers ") and not found["webhook"]["given_up"]
        telling.clock.advance(wait_s)
    await until(telling, job["id"], telling.key, lambda job: job["webhook"]["delivered"])
    assert len({headers["webhook-id"] for headers, _ in made.calls}) == 1 and len(made.calls) == 4
    for headers, data in made.calls:
        check_signature(headers, data)


async def test_nobody_there_is_given_up_in_the_end(telling: Any, receiver: Any) -> None:
    made, address = receiver
    made.answers = [503] * len(WAITS_S)
    job = (await ask(telling, webhook=address + "done")).json
    await ended(telling, job["id"], telling.key)
    for tries, wait_s in enumerate(WAITS_S, 1):
        await until(telling, job["id"], telling.key, lambda job, tries=tries: job["webhook"]["tries"] == tries)
        telling.clock.advance(wait_s)
    assert (await until(telling, job["id"], telling.key, lambda job: job["webhook"]["given_up"]))["webhook"]["delivered"] is None


async def test_an_address_that_is_not_allowed_is_refused_before_anything_is_made(telling: Any, receiver: Any) -> None:
    for address in ("http://127.0.0.1:1/hooks/", "http://169.254.169.254/latest", receiver[1].replace("/hooks/", "/admin"), "file:///etc/passwd"):
        assert (await ask(telling, webhook=address)).status == 422, address
    assert (await telling.get("exports", token=telling.key)).json["items"] == [] and receiver[0].calls == []


def test_the_default_allows_nobody(catalogue: Catalogue) -> None:
    assert not allowed("https://dams.example.org/x", ())


@pytest.mark.parametrize("address", [
    "https://dams.example.org.evil.org/in/x", "https://dams.example.org@evil.org/in/x", "https://evil.org#dams.example.org/in/",
    "https://dams.example.org:444/in/x", "http://dams.example.org/in/x", "https://dams.example.org/in/../admin",
    "https://dams.example.org/in/%2e%2e/admin", "https://dams.example.org/in/%2f..%2fadmin", "https://dams.example.org/in/x%252f%252e./admin",
    "https://dams.example.org/inx", "https://dams.example.org\\@evil.org/in/x",
    "https://u:p@dams.example.org/in/x", "//dams.example.org/in/x", "https://[::1/in/x", "https://dams.example.org:x/in/x",
    "https://dams.example.org/in/x\r\nHost: evil", "https://dams.ex\u0430mple.org/in/x", "https://dams.example.org/in/" + "x" * 500,
])
def test_addresses_that_only_look_allowed(address: str) -> None:
    assert not allowed(address, ("https://dams.example.org/in/",))


def test_addresses_below_the_prefix_are_allowed() -> None:
    for address in ("https://dams.example.org/in/", "https://dams.example.org/in/case?7", "https://DAMS.example.org/in/x"):
        assert allowed(address, ("https://dams.example.org/in/",)), address


def test_a_secret_is_base64_after_its_mark_or_the_line_itself() -> None:
    assert secret_of(SECRET) == b"a key of some length" and secret_of("plain") == b"plain"
    with pytest.raises(ValueError):
        secret_of("whsec_!")


async def test_a_job_that_is_removed_while_its_webhook_is_answered_stays_removed(telling: Any, receiver: Any, site: SiteConfig) -> None:
    """Its record was written anew by what became of the call, and the next start told of it again."""
    made, address = receiver
    made.gate.clear()
    job = (await ask(telling, webhook=address + "done")).json
    await until_true(lambda: made.calls)
    assert (await telling.ask("DELETE", f"exports/{job['id']}", token=telling.key)).status == 200
    made.gate.set()
    await until_true(lambda: not telling.served.app[DESK]._calling)
    assert not (site.exports_dir / job["id"]).exists()


def test_what_is_told_names_no_path_and_no_address() -> None:
    failure = Failure("the storage cannot be read: /srv/video/tape.zarr/cam-1/c/0: of 10.1.2.3", "see rtsp://10.1.2.3/x")
    job = Job("0" * 32, Wanted((), "mp4", False, True, "", "x", "normal"), "test", 0, 0, state=State.FAILED, failure=failure)
    error = json.loads(body_of(job))["data"]["error"]
    assert error == {"message": "the storage cannot be read: (path): of (address)", "remedy": "see (address)"}


async def test_where_a_webhook_leads_is_shown_to_who_asked_alone(telling: Any, receiver: Any) -> None:
    """Its address may bear a key; other tokens may reach the same cameras."""
    job = (await ask(telling, webhook=receiver[1] + "done?key=x")).json
    other, chief = await telling.token("export"), await telling.token("admin")
    seen = [(await telling.get(f"exports/{job['id']}", token=key)).json for key in (telling.key, chief, other)]
    assert [one["webhook"]["address"] for one in (job, *seen)] == [receiver[1] + "done?key=x"] * 3 + [None]
    check(seen[2], COMPONENTS["Export"])
    listed = (await telling.get("exports", token=other)).json["items"]
    assert listed[0]["webhook"]["address"] is None
    assert b"key=x" not in (await telling.ask("DELETE", f"exports/{job['id']}", token=other)).body
