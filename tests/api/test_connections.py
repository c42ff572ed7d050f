"""Connections are counted per client, silent ones are closed, and clips are rationed per token."""

import asyncio
from typing import Any

import pytest

from api.clips import ClipSlots
from api.connections import DOORS, Doors
from api.problems import Problem


async def opened(api: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", api.served.port)


async def until(condition: Any) -> None:
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.005)


async def test_the_connection_after_the_limit_is_closed_at_once_and_room_comes_back(api: Any) -> None:
    doors: Doors = api.served.app[DOORS]
    doors._per_client = 3
    held = [await opened(api) for _ in range(3)]
    await until(lambda: doors.open == 3)
    reader, writer = await opened(api)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
        await asyncio.wait_for(reader.readexactly(1), 120)
    writer.close()
    assert doors.refused == 1
    for _, held_writer in held:
        held_writer.close()
    await until(lambda: doors.open == 0)
    assert (await api.get("/healthz")).status == 200


async def test_all_clients_together_have_a_limit_too(api: Any) -> None:
    doors: Doors = api.served.app[DOORS]
    doors._in_all = 1
    _, writer = await opened(api)
    await until(lambda: doors.open == 1)
    reader, refused = await opened(api)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 120)
    writer.close()
    refused.close()


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nX: "])
async def test_a_client_that_says_nothing_whole_is_closed(api: Any, sent: bytes) -> None:
    api.served.app[DOORS].first_request_s = 0.05
    reader, writer = await opened(api)
    writer.write(sent)
    try:
        assert await asyncio.wait_for(reader.read(-1), 120) == b""
    except ConnectionResetError:
        pass
    writer.close()


async def test_a_client_that_has_asked_may_stay(api: Any) -> None:
    doors: Doors = api.served.app[DOORS]
    doors.first_request_s = 0.2
    reader, writer = await opened(api)
    ask = f"GET /healthz HTTP/1.1\r\nHost: {api.host}\r\n\r\n".encode()
    for wait_s in (0, 0.3):
        await asyncio.sleep(wait_s)
        writer.write(ask)
        assert b"200" in await asyncio.wait_for(reader.readline(), 120)
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(16)
    writer.close()


async def test_behind_a_proxy_its_one_address_is_not_limited(proxied: Any) -> None:
    assert proxied.served.app[DOORS]._per_client == 0


def test_the_ninth_clip_waits_and_a_slot_comes_back_whatever_happens() -> None:
    slots = ClipSlots(2)
    with slots.take("token 1"), slots.take("token 1"), slots.take("token 2"), pytest.raises(Problem) as refused, slots.take("token 1"):
        pass
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "5")
    with pytest.raises(RuntimeError), slots.take("token 1"):
        raise RuntimeError
    with slots.take("token 1"), slots.take("token 1"):
        pass
    assert not slots._running
