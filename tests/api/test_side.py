"""The thread beside the loop: bounded in waiting and in time."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from api.problems import Problem
from api.side import Side


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


async def test_a_call_gets_the_store_of_the_thread() -> None:
    side = Side("store")
    assert await side.run(lambda store, more: (store, more, threading.current_thread() is not threading.main_thread()), 5) == ("store", 5, True)
    side.close()


async def test_an_error_is_the_callers() -> None:
    side = Side(None)
    with pytest.raises(ZeroDivisionError):
        await side.run(lambda _: 1 // 0)
    assert await side.run(lambda _: 1) == 1
    side.close()


async def test_too_many_waiting_is_a_503_and_room_comes_back(gate: threading.Event) -> None:
    side = Side(None, waiting=2)
    held = [asyncio.create_task(side.run(lambda _: gate.wait(5))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Problem) as refused:
        await side.run(lambda _: 1)
    assert refused.value.status == 503
    gate.set()
    await asyncio.gather(*held)
    assert await side.run(lambda _: 1) == 1
    side.close()


async def test_a_disk_that_hangs_is_given_up_but_still_counted(gate: threading.Event) -> None:
    side = Side(None, waiting=1, answer_s=0.01)
    with pytest.raises(Problem):
        await side.run(lambda _: gate.wait(5))
    with pytest.raises(Problem):
        await side.run(lambda _: 1)  # the thread is still held: nothing is piled up behind it
    gate.set()
    side.close()
