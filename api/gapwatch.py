"""Gaps as events: looks at the tapes every 2 s while somebody listens, and says which gaps have opened and closed since.

The tape is the truth about gaps, also about those that were over before anybody could have asked the slot.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

from api.events import EventLog
from api.problems import Problem
from api.registry import Registry
from api.side import Side
from api.times import rfc3339
from recorder.base.clock import Clock
from recorder.base.errors import NotFound, WatchroomError
from recorder.base.media import NS, Gap
from storage.sickdisk import sick
from storage.store import TapeStore

log = logging.getLogger("watchroom.api")

LOOK_S = 2.0
BACK_NS = 10 * NS
TRACK = "main"
Found = Mapping[int, Sequence[Gap]]


def look(store: TapeStore, cameras: Iterable[int], since_ns: int, now_ns: int) -> Found:
    """The gaps of each camera's main track that overlap the stretch. Reads files."""
    return {camera: gaps for camera in cameras if (gaps := _gaps(store, camera, since_ns, now_ns)) is not None}


def _gaps(store: TapeStore, camera: int, since_ns: int, now_ns: int) -> Sequence[Gap] | None:
    try:
        return store.whole(camera, TRACK).gaps(since_ns, now_ns)
    except NotFound:
        return ()
    except WatchroomError:  # one damaged track must not silence the others
        return None
    except OSError as error:  # nor one that a disk cannot read
        if not sick(error):
            raise
        return None


class GapWatch:
    """Remembers per camera the newest gap that it has seen, and whether that is open."""

    def __init__(self, events: EventLog, registry: Registry, side: Side, clock: Clock) -> None:
        self._events = events
        self._registry = registry
        self._side = side
        self._clock = clock
        self._newest: dict[int, int] = {}
        self._open: dict[int, tuple[int, str]] = {}     # start and cause
        self._looked_ns = 0

    async def run(self) -> None:
        """Look for ever."""
        while True:
            if self._events.wanted():
                await self._look()
            else:
                self.forget()
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        now_ns = self._clock.wall_ns()
        since_ns = (self._looked_ns or now_ns) - BACK_NS
        numbers = [camera.number for camera in self._registry.cameras() if camera.config.enabled]
        try:
            self.compare(await self._side.run(look, numbers, since_ns, now_ns))
            self._looked_ns = now_ns
        except (Problem, OSError) as error:
            log.warning("gaps cannot be looked up: %s", type(error).__name__)

    def forget(self) -> None:
        """Nobody listens: what happens meanwhile will not be told as news."""
        if self._looked_ns:
            self._events.paused()
        self._newest.clear()
        self._open.clear()
        self._looked_ns = 0

    def compare(self, found: Found) -> None:
        """Tell what is new; what was there at the first look at a camera is not."""
        for number, gaps in found.items():
            first = number not in self._newest
            newest = self._newest.setdefault(number, 0)
            for gap in gaps:
                if gap.start_ns > newest:
                    self._newest[number] = gap.start_ns
                    self._opened(number, gap, told=not first)
                self._changed(number, gap)
                self._closed(number, gap)

    def _opened(self, number: int, gap: Gap, *, told: bool) -> None:
        if told or gap.end_ns is None:
            self._open[number] = (gap.start_ns, gap.cause.word)
        camera = self._registry.camera_by_number(number)
        if told and camera is not None:
            self._events.add("gap.open", camera.id, track=TRACK, cause=gap.cause.word, start=rfc3339(gap.start_ns))

    def _changed(self, number: int, gap: Gap) -> None:
        """The gap goes on for another reason than it was told to have."""
        start_ns, before = self._open.get(number, (0, ""))
        camera = self._registry.camera_by_number(number)
        if start_ns != gap.start_ns or before == gap.cause.word or camera is None:
            return
        self._open[number] = (start_ns, gap.cause.word)
        self._events.add("gap.change", camera.id, track=TRACK, cause=gap.cause.word, before=before, start=rfc3339(start_ns))

    def _closed(self, number: int, gap: Gap) -> None:
        if gap.end_ns is None or self._open.get(number, (0, ""))[0] != gap.start_ns:
            return
        del self._open[number]
        camera = self._registry.camera_by_number(number)
        if camera is not None:
            self._events.add("gap.close", camera.id, track=TRACK, cause=gap.cause.word, start=rfc3339(gap.start_ns), end=rfc3339(gap.end_ns))
