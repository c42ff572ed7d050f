"""Problem documents: the right status, and nothing from inside the house."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from api.problems import Problem, answer, scrub
from recorder.base.errors import (
    ConfigError,
    Conflict,
    FormatError,
    Gone,
    NotFound,
    Refused,
    StorageError,
    Unreadable,
    VolumeError,
    WatchroomError,
)

INSIDE = "rtsp://admin:pw@10.1.2.3:554/x and 10.1.2.3:554 and [fe80::1] and fe80::1 and /srv/volume/tape.zarr/cam-1/main/c/7 and wr_" + "A" * 43
LEAKS = ("10.1.2.3", "fe80", "/srv", "tape.zarr", "wr_A", "admin:pw")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound(INSIDE, where=INSIDE, remedy=INSIDE), 404),
        (Conflict(INSIDE, where=INSIDE), 409),
        (Refused(INSIDE, where=INSIDE), 403),
        (Gone(INSIDE, where=INSIDE), 410),
        (ConfigError(INSIDE, where=INSIDE), 422),
        (FormatError(INSIDE, where=INSIDE), 503),
        (VolumeError(INSIDE), 503),
        (StorageError(INSIDE), 503),
        (WatchroomError(INSIDE), 500),
        (OSError(13, "Permission denied", "/srv/volume/x"), 500),
        (OSError(5, "I/O error", "/srv/volume/x"), 503),
        (Unreadable(0, INSIDE), 503),
        (KeyError("/srv/secret"), 500),
        (Problem(429, INSIDE, remedy=INSIDE), 429),
        (web.HTTPMethodNotAllowed("GET", ["POST"]), 405),
    ],
)
def test_each_error_has_its_status_and_keeps_the_inside_inside(error: Exception, status: int) -> None:
    made = answer(error)
    assert (made.status, made.content_type, made.headers["Cache-Control"]) == (status, "application/problem+json", "no-store")
    assert isinstance(made.body, bytes)
    document = json.loads(made.body)
    assert document["status"] == status and document["title"] and document["detail"]
    assert not [leak for leak in LEAKS if leak in made.body.decode()]


def test_an_incident_in_the_answer_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    made = answer(FormatError("bad head", where="c/7 at 2048"))
    assert isinstance(made.body, bytes)
    incident = json.loads(made.body)["incident"]
    assert incident in caplog.text and "c/7 at 2048" in caplog.text


def test_a_disks_error_is_a_line_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    assert answer(OSError(5, "I/O error", "/srv/volume/x")).headers["Retry-After"] == "5"
    assert ["/srv/volume/x" in record.message and record.exc_info is None for record in caplog.records] == [True]


def test_a_log_line_stays_one_line(caplog: pytest.LogCaptureFixture) -> None:
    answer(StorageError("x\nFAKE watchroom: all well"))
    assert "\nFAKE" not in caplog.messages[0]


@pytest.mark.parametrize(
    "text", ["a number from 0 to 86400", "12:30:05 is a time", "24/7", "and/or", "H.264 at 1:2", "2026-05-01T12:00:00.000Z", "see cameras"]
)
def test_ordinary_words_are_left_alone(text: str) -> None:
    assert scrub(text) == text


async def broken(_: web.Request) -> web.Response:
    raise RuntimeError("/srv/secret and wr_" + "A" * 43)


async def broken_midway(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = 1000
    await response.prepare(request)
    await response.write(b"x" * 100)
    raise Gone("retired")


def install(api: Any, handler: Any, name: str) -> None:
    """Put a route on the running application; its router is frozen for everybody else."""
    router = api.served.app.router
    router._frozen = False
    router.add_get(f"/{name}", handler)
    router.freeze()


async def test_a_defect_is_a_500_with_an_incident(api: Any, caplog: pytest.LogCaptureFixture) -> None:
    install(api, broken, "broken")
    answer = await api.get("/broken")
    assert answer.status == 500 and answer.json["incident"] in caplog.text
    assert b"secret" not in answer.body and b"wr_" not in answer.body
    assert "Traceback" in caplog.text or "RuntimeError" in caplog.text


async def test_an_answer_that_breaks_midway_does_not_pass_for_whole(api: Any) -> None:
    install(api, broken_midway, "midway")
    reader, writer = await asyncio.open_connection("127.0.0.1", api.served.port)
    writer.write(f"GET /midway HTTP/1.1\r\nHost: {api.host}\r\n\r\n".encode())
    try:
        data = await asyncio.wait_for(reader.read(-1), 120)
    except ConnectionResetError:
        data = b""
    writer.close()
    assert b"problem" not in data and data.count(b"HTTP/1.1") <= 1 and not data.endswith(b"x" * 1000)
