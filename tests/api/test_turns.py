"""Turns at the side thread: whoever asks for very much waits for himself, and nobody else does."""

import asyncio
import threading
from typing import Any

import pytest

from api.application import all_routes
from api.openapi import describe
from api.problems import Problem
from api.side import SIDE, WAITING
from api.turns import AT_ONCE, TURNS, Turns
from tests.api.exporting import until_true


async def test_one_tokens_questions_do_not_have_anothers_refused(api: Any) -> None:
    """Forty at once of one token filled the queue of the thread: two of three requests of everybody else were a 503."""
    many, one = await api.token("view"), await api.token("view")
    gate, path, turns = threading.Event(), "cameras/north/timeline?start=0&end=1", api.served.app[TURNS]
    held = asyncio.create_task(api.served.app[SIDE].run(lambda _: gate.wait(60)))
    greedy = [asyncio.create_task(api.get(path, token=many)) for _ in range(AT_ONCE + WAITING)]
    await until_true(lambda: sum(holder.asking for holder in turns._holders.values()) == len(greedy))
    modest = asyncio.create_task(api.get(path, token=one))
    await until_true(lambda: len(turns._holders) == 2)
    gate.set()
    await held
    assert (await modest).status == 200
    assert [answer.status for answer in await asyncio.gather(*greedy)] == [200] * len(greedy)
    assert not turns._holders


async def test_more_than_wait_are_refused_and_room_comes_back() -> None:
    turns, gate = Turns(at_once=1, waiting=1), asyncio.Event()

    async def ask() -> None:
        async with turns.take("a"):
            await gate.wait()

    tasks = [asyncio.create_task(ask()) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Problem) as refused:
        await ask()
    assert refused.value.status == 429 and turns.refused == 1
    async with turns.take("b"):
        gate.set()
    await asyncio.gather(*tasks)
    await ask()
    assert not turns._holders


async def test_who_waits_too_long_is_refused_and_who_goes_away_holds_no_place() -> None:
    turns = Turns(at_once=1, waiting=5, wait_s=0.01)
    async with turns.take("a"):
        with pytest.raises(Problem):
            async with turns.take("a"):
                pass
        turns._wait_s = 60.0
        gone = asyncio.create_task(turns.take("a").__aenter__())
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
    async with turns.take("a"):
        pass
    assert not turns._holders


def test_the_description_says_that_a_turn_may_be_refused() -> None:
    taking = [route for route in all_routes() if route.looks]
    paths = describe(taking)["paths"]
    assert taking and all("429" in paths[route.plain_path][route.method.lower()]["responses"] for route in taking)
