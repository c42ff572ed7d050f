"""What the slots' storage tells, as events of `/events`: disks that fail or are slow, tracks that wait for room, what retention took; and
what the supervisor tells of signing."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from api.events import EventLog
from api.registry import Registry
from api.status import ANSWER_S, POLL_S
from api.times import rfc3339
from recorder.base.errors import WatchroomError

log = logging.getLogger("watchroom.api")

KINDS = frozenset({"disk", "retention", "hold", "signing"})
MEMBERS = ("slot", "state", "volume", "message", "commit_ms", "track", "chunks", "cameras", "by", "level", "held_bytes", "budget_bytes")
Call = Callable[[str, dict[str, Any]], Awaitable[Any]]


class SlotEvents:
    """Asks one slot (or the supervisor) each second; every event is told once. What there was before the first answer is no news."""

    def __init__(self, events: EventLog, registry: Registry, call: Call) -> None:
        self._events = events
        self._registry = registry
        self._call = call
        self._life = ""
        self._last = 0

    async def run(self) -> None:
        """For ever; a slot that does not answer is told of by its cameras' states."""
        while True:
            try:
                async with asyncio.timeout(ANSWER_S):
                    self.take(await self._call("events", {"life": self._life, "last": self._last}))
            except (OSError, ValueError, TypeError, KeyError, AttributeError, WatchroomError) as error:
                log.debug("events of a slot: %s", type(error).__name__)
            await asyncio.sleep(POLL_S)

    def take(self, said: Mapping[str, Any]) -> None:
        """A slot's answer."""
        known, self._life = self._life, str(said["life"])
        first = int(said["events"][0]["event"]) if said["events"] else 0
        if known == self._life and first > self._last + 1:
            slot: dict[str, Any] = {"slot": int(said["events"][0]["slot"])} if "slot" in said["events"][0] else {}
            self._events.add("lost", count=first - self._last - 1, **slot)
        for event in said["events"] if known else ():
            self._tell(event)
        self._last = int(said["last"])

    def _tell(self, event: Mapping[str, Any]) -> None:
        if event["kind"] not in KINDS:
            return
        camera = self._registry.camera_by_number(int(event["number"])) if "number" in event else None
        if "number" in event and camera is None:
            return
        data = {name: event[name] for name in MEMBERS if event.get(name) is not None}
        self._events.add(str(event["kind"]), camera.id if camera else "", happened=rfc3339(int(event["time_ns"])), **data)
