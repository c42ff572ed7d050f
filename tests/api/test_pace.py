"""A client's debt: nothing within the burst, waits beyond it, all of it forgotten with time, and a turn for others in between."""

import asyncio

from api.pace import TURN, Pace


class Time:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_burst_costs_nothing_and_what_is_beyond_it_waits() -> None:
    time = Time()
    pace = Pace(10, 30, time)
    assert [pace.owe(10) for _ in range(5)] == [0, 0, 0, 1, 2]
    time.now_s += 2
    assert pace.owe(0) == 0
    assert pace.owe(5) == 0.5


def test_time_pays_no_more_than_the_debt() -> None:
    time = Time()
    pace = Pace(10, 30, time)
    pace.owe(10)
    time.now_s += 1000
    assert pace.owe(40) == 1


async def test_others_have_their_turn_though_nothing_is_owed() -> None:
    pace, turns = Pace(1e9, 1e9), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    for _ in range(10 * TURN):
        await pace.pay(1)
    task.cancel()
    assert turns == 10
