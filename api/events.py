"""`/events`: what happens, as server-sent events (HTML Living Standard 9.2). Ids let a client that was away go on where it stopped.

The log keeps the newest 10,000 events; a client's own queue 1,000. What a client did not get is counted and told it, never silently lost.
"""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from api import keys
from api.authorise import Grant
from api.registry import Registry
from api.routes import ROOT, VIEW_OR_ADMIN, Answer, Route
from api.status import CameraStatus
from api.times import rfc3339
from recorder.base.clock import Clock
from recorder.base.media import NS

KEPT = 10_000
QUEUED = 1_000
BEAT_S = 2.0
SEND_S = 10.0
LINGER_NS = 600 * NS


@dataclass(frozen=True, slots=True)
class Event:
    """`camera` is empty for what concerns the whole site."""

    number: int
    kind: str
    camera: str
    data: Mapping[str, Any]


class Listener:
    """One client's bounded queue. Only the event loop's thread uses it."""

    def __init__(self) -> None:
        self._queue: deque[Event] = deque()
        self._wake = asyncio.Event()
        self.dropped = 0

    def put(self, event: Event) -> None:
        """Queue, or drop the oldest and count it."""
        if len(self._queue) >= QUEUED:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(event)
        self._wake.set()

    async def take(self, wait_s: float) -> list[Event]:
        """Everything queued; waits for the first at most `wait_s`."""
        try:
            await asyncio.wait_for(self._wake.wait(), wait_s)
        except TimeoutError:
            return []
        events = list(self._queue)
        self._queue.clear()
        self._wake.clear()
        return events


class EventLog:
    """The newest events of this process. Ids are `<boot>-<number>`: another process's ids are recognised as such."""

    def __init__(self, clock: Clock, kept: int = KEPT) -> None:
        self._clock = clock
        self.boot = secrets.token_hex(4)
        self._events: deque[Event] = deque(maxlen=kept)
        self._listeners: set[Listener] = set()
        self.last = 0
        self.dropped = 0
        self._left_ns = -LINGER_NS
        self._closed = False
        self._blind = -1        # the newest event when the watch over gaps last paused: who knows no newer one has missed something

    def add(self, kind: str, camera: str = "", **data: Any) -> None:
        """Something has happened now."""
        self.last += 1
        members = {"time": rfc3339(self._clock.wall_ns()), **({"camera": camera} if camera else {}), **data}
        event = Event(self.last, kind, camera, members)
        self._events.append(event)
        for listener in self._listeners:
            listener.put(event)

    def since(self, last_id: str) -> tuple[list[Event], int]:
        """Events after the id, and how many are known to be missing between (-1: unknown, another process's id)."""
        boot, _, number = last_id.partition("-")
        if boot != self.boot or not (number.isascii() and number.isdigit() and len(number) < 19):
            return [], -1
        kept = [event for event in self._events if event.number > int(number)]
        missed = self.last - int(number) - len(kept) if int(number) <= self.last else -1
        return kept, missed if int(number) > self._blind else -1

    def paused(self) -> None:
        """Nobody has listened for long, so gaps are not watched any more: who comes back later is told that it missed something."""
        self._blind = self.last

    def wanted(self) -> bool:
        """True while somebody listens, or did ten minutes ago and may come back."""
        return bool(self._listeners) or self._clock.mono_ns() - self._left_ns < LINGER_NS

    def join(self) -> Listener:
        """A listener for what comes from now on."""
        listener = Listener()
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """The listener goes; what it dropped stays counted."""
        self.dropped += listener.dropped
        self._left_ns = self._clock.mono_ns()
        self._listeners.discard(listener)

    @property
    def listeners(self) -> int:
        """Clients that listen now."""
        return len(self._listeners)

    @property
    def closed(self) -> bool:
        """True when the process is stopping: streams end."""
        return self._closed

    def close(self) -> None:
        """Let every stream end."""
        self._closed = True
        self.add("stopping")


EVENTS = web.AppKey("events", EventLog)


def state_changed(log: EventLog, registry: Registry, number: int, before: CameraStatus, after: CameraStatus) -> None:
    """A change of a camera's state as an event; a camera that has been removed has none."""
    camera = registry.camera_by_number(number)
    if camera is not None:
        cause = {"cause": after.cause} if after.cause else {}
        since = {"since": rfc3339(after.since_ns)} if after.since_ns else {}
        log.add("camera", camera.id, state=after.state, before=before.state, **cause, **since)


async def stream(request: web.Request) -> web.StreamResponse:
    """Send events until the client goes, its token dies, or the server stops."""
    log, grant = request.app[EVENTS], request[keys.GRANT]
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
    listener = log.join()
    try:
        last = request.headers.get("Last-Event-ID")
        missed, missing = log.since(last) if last is not None else ([], 0)
        await response.prepare(request)
        await _send(response, f"retry: 2000\n\n{_lost(missing)}{_words(request, grant, log, missed)}")
        told = 0
        while grant.alive() and not log.closed:
            events = await listener.take(BEAT_S)
            text = _lost(listener.dropped - told) + _words(request, grant, log, events)
            told = listener.dropped
            await _send(response, text or ": beat\n\n")
    finally:
        log.leave(listener)
    return response


async def _send(response: web.StreamResponse, text: str) -> None:
    async with asyncio.timeout(SEND_S):
        await response.write(text.encode())


def _lost(count: int) -> str:
    if count == 0:
        return ""
    return f"event: lost\ndata: {json.dumps({'count': count if count > 0 else None})}\n\n"


def _words(request: web.Request, grant: Grant, log: EventLog, events: list[Event]) -> str:
    registry = request.app[keys.REGISTRY]
    lines = []
    for event in events:
        camera = registry.camera(event.camera) if event.camera else None
        if grant.unbounded() if camera is None else grant.reaches(camera):
            lines.append(f"id: {log.boot}-{event.number}\nevent: {event.kind}\ndata: {json.dumps(event.data)}\n\n")
    return "".join(lines)


def routes() -> list[Route]:
    """The routes of this module."""
    text = (
        "camera state changes, gaps, disks and retention as they happen; "
        "`Last-Event-ID` goes on where a client stopped; `lost` says what it did not get"
    )
    return [
        Route(
            "GET",
            f"{ROOT}/events",
            stream,
            "What happens, as server-sent events",
            scopes=VIEW_OR_ADMIN,
            head=False,
            tag="system",
            answers={200: Answer(text, media_type="text/event-stream")},
        )
    ]
