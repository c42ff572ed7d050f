"""Bodies: JSON only, small, of one spelling; and parameters only as declared."""

import asyncio
import gzip
import json
from typing import Any

import pytest

from api.parameters import RANGE_MAX_NS, integer, number


async def post(api: Any, data: bytes, content_type: str = "application/json", **headers: str) -> Any:
    sent = {"Origin": api.origin, "Content-Type": content_type, **headers}
    return await api.ask("POST", "session", data=data, headers=sent)


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", "application/json5"],
)
async def test_a_form_of_another_page_is_no_json(api: Any, content_type: str) -> None:
    assert (await post(api, b'{"token": "x"}', content_type)).status == 415


async def test_a_compressed_body_is_refused_unread(api: Any) -> None:
    assert (await post(api, gzip.compress(b" " * 10_000_000), **{"Content-Encoding": "gzip"})).status == 415


@pytest.mark.parametrize("size", [65_537, 1_000_000])
async def test_an_oversized_body_is_refused(api: Any, size: int) -> None:
    body = json.dumps({"token": "x" * size}).encode()
    assert (await post(api, body)).status == 413


async def test_a_chunked_body_cannot_grow_past_the_limit(api: Any) -> None:
    async def chunks() -> Any:
        for _ in range(100):
            yield b" " * 4096

    answer = await api.ask("POST", "session", data=chunks(), headers={"Origin": api.origin, "Content-Type": "application/json"})
    assert answer.status == 413


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b'{"token": "a", "token": "b"}',
        b'{"token": NaN}',
        b"[" * 50_000,
        b'{"a":' * 9_000,
        b"\xff\xfe{}",
        b'{"n": ' + b"9" * 5000 + b"}",
        b"{}{}",
    ],
)
async def test_what_is_not_one_json_object_is_a_400(api: Any, body: bytes) -> None:
    assert (await post(api, body)).status == 400


async def test_a_body_that_never_comes_is_given_up(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.parameters.BODY_S", 0.05)
    named = f"Host: {api.host}\r\nOrigin: {api.origin}\r\n"
    head = f"POST /api/v1/session HTTP/1.1\r\n{named}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    reader, writer = await asyncio.open_connection("127.0.0.1", api.served.port)
    writer.write(head.encode())
    assert b" 408 " in await asyncio.wait_for(reader.readline(), 120)
    writer.close()


@pytest.mark.parametrize(
    "query",
    [
        "start=0",
        "end=1",
        "start=1&end=1",
        "start=2&end=1",
        f"start=0&end={RANGE_MAX_NS + 1}",
        "start=0&end=1&begin=0",
        "start=0&start=0&end=1",
        "start=0&end=1&track=Main",
    ],
)
async def test_a_range_that_is_none_is_a_400_that_names_it(api: Any, query: str) -> None:
    answer = await api.get(f"cameras/north/timeline?{query}")
    assert answer.status == 400 and answer.json["parameter"]


@pytest.mark.parametrize("text", ["", "-", "--1", "1.0", "1e3", "+1", " 1", "1 ", "1_0", "0x1", "１", "99999999999999999999"])
def test_an_integer_is_decimal_digits(text: str) -> None:
    with pytest.raises(ValueError, match="must be an integer"):
        integer(-10, 10**19)(text)


@pytest.mark.parametrize("text", ["", ".", ".5", "5.", "1e3", "nan", "inf", "-inf", "1_0", "1\n", "٣"])
def test_a_number_is_plain_decimal(text: str) -> None:
    with pytest.raises(ValueError, match="must be a number"):
        number(-1e300, 1e300)(text)
