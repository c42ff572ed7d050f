"""`/events`: in order, resumable, bounded, within reach; and gaps are told from the tape."""

import asyncio
import json
from typing import Any

import pytest

from api import keys
from api.events import EVENTS, QUEUED, EventLog, Listener
from api.gapwatch import GapWatch
from api.registry import Registry
from api.slotevents import SlotEvents
from recorder.base.clock import SimulatedClock
from recorder.base.config import CameraConfig, StreamConfig
from recorder.base.media import Gap, GapCause
from storage.camera_record import CameraRecord


class Stream:
    """One client of /events."""

    def __init__(self, api: Any, token: str = "", last: str = "") -> None:
        headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **({"Last-Event-ID": last} if last else {})}
        self._asked = api.client.get(f"{api.origin}/api/v1/events", headers=headers)

    async def __aenter__(self) -> "Stream":
        self._answer = await self._asked.__aenter__()
        assert self._answer.headers["Content-Type"] == "text/event-stream"
        await self.block()  # retry
        return self

    async def __aexit__(self, *_: object) -> None:
        self._answer.close()

    async def block(self) -> dict[str, str]:
        """The next block that is not just a beat."""
        async with asyncio.timeout(120):
            block = {}
            while True:
                line = (await self._answer.content.readline()).decode().rstrip("\n")
                name, _, value = line.partition(": ")
                if name:
                    block[name] = value
                elif block:
                    return block
                elif not line and self._answer.content.at_eof():
                    raise EOFError

    async def event(self) -> tuple[str, Any, str]:
        """Kind, data, id."""
        block = await self.block()
        return block["event"], json.loads(block["data"]), block.get("id", "")


def log_of(api: Any) -> EventLog:
    return api.served.app[EVENTS]  # type: ignore[no-any-return]


async def test_a_state_change_is_told_once(api: Any) -> None:
    board = api.served.app[keys.STATUS]
    said = {"cameras": {"north": {"number": 1, "state": "offline", "cause": "auth", "since_ns": 1_767_225_600_000_000_000}}}
    async with Stream(api) as stream:
        board.record(0, said)
        board.record(0, said)
        log_of(api).add("mark")
        kind, data, _ = await stream.event()
        assert (kind, data["camera"], data["state"], data["before"], data["cause"]) == ("camera", "north", "offline", "unknown", "auth")
        assert (await stream.event())[0] == "mark"


async def test_a_client_goes_on_where_it_stopped(api: Any) -> None:
    log = log_of(api)
    async with Stream(api) as stream:
        log.add("one")
        _, _, last = await stream.event()
    log.add("two")
    log.add("three")
    async with Stream(api, last=last) as stream:
        assert [(await stream.event())[0] for _ in range(2)] == ["two", "three"]


@pytest.mark.parametrize("last", ["deadbeef-5", "x", "-", "%s-999999", "%s-x", "%s--1", "%s-" + "9" * 30])
async def test_a_client_from_another_life_is_told_that_it_missed_something(api: Any, last: str) -> None:
    log = log_of(api)
    log.add("one")
    stream = Stream(api, last=last.replace("%s", log.boot))
    stream.__class__ = type("Raw", (Stream,), {})
    stream._answer = await stream._asked.__aenter__()
    first, second = await stream.block(), await stream.block()
    assert "retry" in first and (second["event"], second["data"]) == ("lost", '{"count": null}')
    stream._answer.close()


async def test_events_that_the_log_no_longer_has_are_counted() -> None:
    log = EventLog(SimulatedClock(), kept=3)
    for _ in range(10):
        log.add("x")
    events, missing = log.since(f"{log.boot}-2")
    assert ([event.number for event in events], missing) == ([8, 9, 10], 5)


async def test_a_slow_client_loses_the_oldest_and_knows_how_many() -> None:
    log = EventLog(SimulatedClock())
    listener = log.join()
    for _ in range(QUEUED + 7):
        log.add("x")
    events = await listener.take(1)
    assert (len(events), events[0].number, listener.dropped) == (QUEUED, 8, 7)
    log.leave(listener)
    assert (log.dropped, log.listeners) == (7, 0)


async def test_waiting_for_nothing_ends() -> None:
    assert await Listener().take(0.001) == []


async def test_events_of_cameras_out_of_reach_are_not_told(proxied: Any) -> None:
    token = await proxied.token("view", cameras=["north"])
    log = log_of(proxied)
    async with Stream(proxied, token) as stream:
        log.add("camera", "yard", state="offline")
        log.add("volume")
        log.add("camera", "removed-since", state="offline")
        log.add("camera", "north", state="offline")
        kind, data, last = await stream.event()
    assert (kind, data["camera"], last) == ("camera", "north", f"{log.boot}-4")


async def test_a_client_that_leaves_is_forgotten(api: Any) -> None:
    log = log_of(api)
    async with Stream(api):
        assert log.listeners == 1
    async with asyncio.timeout(120):
        while log.listeners:
            log.add("x")  # a write to the closed connection shows that it is closed
            await asyncio.sleep(0.01)


def watch() -> tuple[GapWatch, EventLog]:
    registry, clock = Registry(), SimulatedClock()
    registry.replace([CameraRecord(1, "north", "api", 0, CameraConfig("north", StreamConfig("rtsp://10.0.0.1/")), 0)], [])
    log = EventLog(clock)
    return GapWatch(log, registry, None, clock), log  # type: ignore[arg-type]


def told(log: EventLog) -> list[tuple[str, str]]:
    return [(event.kind, event.data.get("cause", "")) for event in log._events]


def test_a_gap_is_opened_and_closed_once() -> None:
    gaps, log = watch()
    gaps.compare({1: []})
    gaps.compare({1: [Gap(100, None, GapCause.STALL)]})
    gaps.compare({1: [Gap(100, None, GapCause.STALL)]})
    gaps.compare({1: [Gap(100, 200, GapCause.STALL)]})
    gaps.compare({1: [Gap(100, 200, GapCause.STALL)]})
    assert told(log) == [("gap.open", "stall"), ("gap.close", "stall")]


def test_a_gap_that_was_over_between_two_looks_is_told_whole() -> None:
    gaps, log = watch()
    gaps.compare({1: []})
    gaps.compare({1: [Gap(100, 200, GapCause.LOSS), Gap(300, None, GapCause.AUTH)]})
    assert told(log) == [("gap.open", "loss"), ("gap.close", "loss"), ("gap.open", "auth")]


def test_old_gaps_are_no_news_but_the_end_of_an_open_one_is() -> None:
    gaps, log = watch()
    gaps.compare({1: [Gap(100, 200, GapCause.LOSS), Gap(300, None, GapCause.AUTH)]})
    assert told(log) == []
    gaps.compare({1: [Gap(100, 200, GapCause.LOSS), Gap(300, 400, GapCause.AUTH)]})
    assert told(log) == [("gap.close", "auth")]


def test_another_cause_of_an_open_gap_is_told_once() -> None:
    gaps, log = watch()
    gaps.compare({1: []})
    for cause in (GapCause.OFFLINE, GapCause.AUTH, GapCause.AUTH):
        gaps.compare({1: [Gap(100, None, cause)]})
    gaps.compare({1: [Gap(100, 300, GapCause.AUTH)]})
    assert told(log) == [("gap.open", "offline"), ("gap.change", "auth"), ("gap.close", "auth")]
    assert log._events[1].data["before"] == "offline"


async def test_who_comes_back_after_gaps_were_not_watched_is_told_so() -> None:
    """Nobody had listened for ten minutes: a client that resumed was sent nothing and believed that nothing had happened."""
    gaps, log = watch()
    gaps._looked_ns = 1
    log.add("one")
    gaps.forget()
    assert log.since(f"{log.boot}-1") == ([], -1)
    log.add("two")
    assert log.since(f"{log.boot}-2") == ([], 0)
    assert [event.kind for event in log.since(f"{log.boot}-1")[0]] == ["two"] and log.since(f"{log.boot}-1")[1] == -1


async def test_a_new_client_has_missed_nothing(api: Any) -> None:
    log = log_of(api)
    log.paused()
    async with Stream(api) as stream:
        log.add("mark")
        assert (await stream.event())[0] == "mark"


def slot_events() -> tuple[SlotEvents, EventLog]:
    _, log = watch()
    registry = Registry()
    registry.replace([CameraRecord(1, "north", "api", 0, CameraConfig("north", StreamConfig("rtsp://10.0.0.1/")), 0)], [])
    return SlotEvents(log, registry, None), log  # type: ignore[arg-type]


def said(life: str, *numbers: int, kind: str = "disk", **more: Any) -> dict[str, Any]:
    events = [{"event": number, "kind": kind, "time_ns": number * 10**9, "slot": 2, "state": "slow", **more} for number in numbers]
    return {"life": life, "last": max(numbers, default=0), "events": events}


def test_a_disks_events_are_told_once_and_old_ones_are_no_news() -> None:
    slot, log = slot_events()
    slot.take(said("a", 1, 2))
    assert told(log) == []
    slot.take(said("a", 3))
    slot.take(said("a"))
    assert [(event.kind, event.camera, event.data["state"], event.data["slot"]) for event in log._events] == [("disk", "", "slow", 2)]
    slot.take(said("b", 1))                       # the worker was started again: all of it is news
    slot.take(said("b", 5))
    assert [event.kind for event in log._events] == ["disk", "disk", "lost", "disk"]
    assert log._events[2].data["count"] == 3


def test_a_disks_events_of_a_camera_bear_its_id_and_nothing_else_gets_through() -> None:
    slot, log = slot_events()
    slot.take(said("a"))
    slot.take(said("a", 1, number=1, path="/srv/secret"))
    slot.take(said("a", 2, number=7))             # a camera that has been removed
    slot.take(said("a", 3, kind="strange"))
    (event,) = log._events
    assert (event.camera, "path" in event.data) == ("north", False)


@pytest.mark.parametrize("answer", [None, [], {}, {"life": "a"}, {"life": "a", "last": 1, "events": [{}]}])
async def test_a_slot_that_talks_nonsense_ends_nothing(answer: Any) -> None:
    slot, log = slot_events()
    asked = asyncio.Event()

    async def call(name: str, args: dict[str, Any]) -> Any:
        asked.set()
        return answer

    slot._call, slot._life = call, "a"
    running = asyncio.create_task(slot.run())
    await asked.wait()
    await asyncio.sleep(0)
    assert not running.done() and told(log) == []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_look_that_failed_changes_nothing() -> None:
    gaps, log = watch()
    gaps.compare({1: [Gap(100, None, GapCause.AUTH)]})
    gaps.compare({})
    gaps.compare({1: [Gap(100, None, GapCause.AUTH)]})
    assert told(log) == []


def test_a_camera_that_is_removed_has_no_events() -> None:
    gaps, log = watch()
    gaps.compare({2: []})
    gaps.compare({2: [Gap(100, 200, GapCause.LOSS)]})
    assert told(log) == []


def test_what_the_supervisor_tells_of_signing_is_told_without_a_slot() -> None:
    supervisor, log = slot_events()
    supervisor.take({"life": "a", "last": 0, "events": []})
    event = {"kind": "signing", "time_ns": 10**9, "state": "failed", "volume": 0}
    supervisor.take({"life": "a", "last": 2, "events": [{**event, "event": 2}]})
    lost, told = log._events
    assert (lost.kind, told.kind) == ("lost", "signing")
    assert (told.data["state"], told.data["volume"], "slot" in told.data) == ("failed", 0, False)
