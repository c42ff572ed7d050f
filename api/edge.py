"""The edge of a track: its newest AUs, read once for all who watch it.

A board has one edge per track that somebody has joined. It ticks while anybody has, keeps those tracks on the writer's fast pass, and hands
units on at once; whoever joins gets the newest picture group first.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from aiohttp import web

from api.edgeread import EdgeReader
from api.media import MEDIA, Media
from api.metrics import EXTRA, Page
from api.unit import Silence, Unit
from recorder.base.errors import Gone, WatchroomError
from recorder.base.media import NS, SampleEntry, TrackKind
from storage.live import watch
from storage.sickdisk import sick

log = logging.getLogger("watchroom.api")
TICK_S = 0.008
WATCH_S = 2.0                 # how often the writer is told
LOOK_S = 0.5                  # how often it is looked whether the track has moved, is silent, or a disk reads again
WATCH_NS = 5 * NS             # how long the writer keeps a track on its fast pass after the last viewer has been seen
QUIET_S = 0.6                 # so long without a unit, and it is asked whether there is a gap
SOUND_NS = 12 * NS            # of sound that is kept for who joins
WINDOW_BYTES = 16 << 20       # of a picture group that is kept for who joins
Take = Callable[[list[Unit]], None]
Silent = Callable[[Silence | None], None]


class Seat:
    """One who has joined an edge. `leave` when done."""

    def __init__(self, edge: "Edge", take: Take, silent: Silent | None) -> None:
        self._edge, self._take, self._silent = edge, take, silent
        self._late = edge.opened                      # has not got the window yet
        self.left = False

    @property
    def entry(self) -> SampleEntry | None:
        """How the newest unit is coded; None while there is none."""
        return self._edge.entry

    @property
    def opened(self) -> bool:
        """True once it is known what the track has now, if anything."""
        return self._edge.opened

    @property
    def window(self) -> list[Unit]:
        """The units from the newest access point on that can be decoded from there; of sound those of the last seconds."""
        return self._edge.from_access_point()

    def leave(self) -> None:
        """Nothing is told any more; a second time does nothing."""
        if not self.left:
            self.left = True
            self._edge.remove(self)

    def give(self, units: list[Unit]) -> None:
        """Hand units on; who joined late gets the window first."""
        if self.left:
            return
        if self._late:
            units = self.window
            self._late = not units
        if units:
            self._guarded(self._take, units)

    def tell(self, silence: Silence | None) -> None:
        """Say that nothing comes, or comes again."""
        if self._silent is not None and not self.left:
            self._guarded(self._silent, silence)

    def _guarded(self, call: Callable[..., None], argument: object) -> None:
        try:
            call(argument)
        except Exception:  # a viewer's defect ends that viewer alone: it is not called again
            log.exception("a viewer of %s", self._edge.where)
            self.leave()


class Edge:
    """One track's newest units. `opened` once the start has been looked at."""

    def __init__(self, media: Media, camera: int, track: str, forget: Callable[[], None]) -> None:
        self._media, self._forget = media, forget
        self.where = f"cam-{camera}/{track}"
        self.seats: list[Seat] = []
        self.window: deque[Unit] = deque()
        self.entry: SampleEntry | None = None
        self.opened = False
        self.silence: Silence | None = None
        self._window_bytes = 0
        self._reader = EdgeReader(media, camera, track)      # NotFound
        self._stepping: asyncio.Task[None] | None = None
        self._looked_s = self._watched_s = 0.0
        self._came_s = time.monotonic()
        self._wait_until_s = 0.0
        self._complained = ""

    # -- viewers --

    def add(self, take: Take, silent: Silent | None) -> Seat:
        """Somebody joins."""
        seat = Seat(self, take, silent)
        self.seats.append(seat)
        if self.opened:
            asyncio.get_running_loop().call_soon(self._welcome, seat)
        return seat

    def _welcome(self, seat: Seat) -> None:
        seat.give([])
        if self.silence is not None:
            seat.tell(self.silence)

    def remove(self, seat: Seat) -> None:
        """Somebody leaves; the last one ends the edge."""
        with suppress(ValueError):
            self.seats.remove(seat)
        if not self.seats:
            self._forget()

    def from_access_point(self) -> list[Unit]:
        """The window without what cannot be decoded from its start."""
        units = list(self.window)
        again = next((at for at, unit in enumerate(units[1:], 1) if unit.key), len(units))
        return [unit for at, unit in enumerate(units) if at >= again or not unit.leading]

    # -- units --

    def tick(self, now_s: float) -> None:
        """Take what is new and hand it on."""
        if self._stepping is not None:
            return
        if now_s >= self._looked_s + LOOK_S:
            self._look(now_s)
        if now_s < self._wait_until_s:
            return
        try:
            units = self._reader.poll()
        except Exception as error:  # a track's defect holds up no other: it begins anew
            self._anew(error)
            return
        if units is None:
            self._stepping = asyncio.create_task(self._step(), name=f"edge {self.where}")
        elif units:
            self._deliver(units)

    async def _step(self) -> None:
        """What cannot be done at once."""
        try:
            units = await self._reader.step()
            if not units:
                self._wait_until_s = time.monotonic() + TICK_S * 4
            self._deliver(units)
        except Exception as error:  # the one catch-all of this task
            self._anew(error)
        finally:
            self._stepping = None

    def _deliver(self, units: list[Unit]) -> None:
        first = not self.opened
        self.opened = True
        if first:
            self._looked_s = 0.0        # the writer is told at the next tick
        if units:
            self._came_s, self._complained = time.monotonic(), ""
            self.entry = units[-1].entry
            for unit in units:
                self._keep(unit)
            self._say(None)
        if not units and not first:
            return
        given = self.from_access_point() if first else units
        for seat in tuple(self.seats):
            seat.give(given)

    def _keep(self, unit: Unit) -> None:
        video = unit.entry.kind is TrackKind.VIDEO
        if (video and unit.key) or (not video and self.window and unit.wall_ns < self.window[-1].wall_ns):     # our clock has gone back
            self.window.clear()
            self._window_bytes = 0
        if video and not unit.key and not self.window:
            return
        self.window.append(unit)
        self._window_bytes += len(unit.data)
        while not video and self.window[0].wall_ns < unit.wall_ns - SOUND_NS:
            self._window_bytes -= len(self.window.popleft().data)
        if self._window_bytes > WINDOW_BYTES:
            self.window.clear()            # who joins then waits for the next access point
            self._window_bytes = 0

    # -- what goes on besides --

    def _look(self, now_s: float) -> None:
        self._looked_s = now_s
        try:
            self._reader.look()
            if self._reader.reader is not None and now_s >= self._watched_s + WATCH_S:
                self._watched_s = now_s if watch(self._reader.reader, time.monotonic_ns() + WATCH_NS) else 0.0
            if now_s > self._came_s + QUIET_S and self.opened:
                self._say(self._gap())
        except Exception as error:  # as in `tick`
            self._anew(error)

    def _gap(self) -> Silence | None:
        """The gap that is open now, if there is one."""
        track = self._reader.track
        end_ns = track.bounds().visible_end_ns
        gaps = track.gaps(end_ns - NS, max(end_ns, self._media.clock.wall_ns()) + NS)
        if not gaps or gaps[-1].end_ns is not None:
            return None
        return Silence(gaps[-1].start_ns, gaps[-1].cause, self.window[-1].wall_ns if self.window else 0)

    def _say(self, silence: Silence | None) -> None:
        if silence == self.silence:
            return
        self.silence = silence
        for seat in tuple(self.seats):
            seat.tell(silence)

    def _anew(self, error: Exception) -> None:
        """The disk cannot read, the volume is out, or retention was faster: begin at the newest access point, a moment later."""
        self._wait_until_s = time.monotonic() + LOOK_S
        if not isinstance(error, Gone) and repr(error) != self._complained:
            self._complained = repr(error)              # once, not twice a second
            known = isinstance(error, WatchroomError) or sick(error)
            log.log(logging.WARNING if known else logging.ERROR, "the edge of %s: %s", self.where, error, exc_info=None if known else error)
        self._reader.restart()

    def close(self) -> None:
        """Nobody watches."""
        if self._stepping is not None:
            self._stepping.cancel()
        self._reader.close()


class Board:
    """All edges of an application."""

    def __init__(self, media: Media) -> None:
        self._media = media
        self.edges: dict[tuple[int, str], Edge] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def join(self, camera: int, track: str, take: Take, silent: Silent | None = None) -> Seat:
        """Have a track's units told from now on. NotFound if it has never been recorded.

        `take` is called on the loop with units in decode order: first all from the newest access point on (of sound the last seconds), then
        what comes. It must not take long. `silent` is told of a gap that is open, and None when units come again.
        """
        key = camera, track
        edge = self.edges.get(key)
        if edge is None:
            edge = self.edges[key] = Edge(self._media, camera, track, lambda: self._drop(key))
        seat = edge.add(take, silent)
        if self._timer is None:
            self._tick()
        return seat

    def _drop(self, key: tuple[int, str]) -> None:
        edge = self.edges.pop(key, None)
        if edge is not None:
            edge.close()

    def _tick(self) -> None:
        self._timer = None
        if self._closed or not self.edges:
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(TICK_S, self._tick)
        now_s = time.monotonic()
        for edge in tuple(self.edges.values()):
            edge.tick(now_s)

    def close(self) -> None:
        """End all."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for key in tuple(self.edges):
            self._drop(key)


BOARD = web.AppKey("board", Board)


async def context(app: web.Application) -> AsyncIterator[None]:
    """For `app.cleanup_ctx`, behind that of the media: puts BOARD on the application and closes it at the end."""
    app[BOARD] = Board(app[MEDIA])
    app[EXTRA].append(_figures)
    yield
    app[BOARD].close()


def _figures(page: Page, app: web.Application) -> None:
    edges = app[BOARD].edges.values()
    page.family("watchroom_live_tracks", "gauge", "Tracks that somebody watches live.", [({}, len(edges))])
    page.family("watchroom_live_viewers", "gauge", "Who watches them.", [({}, sum(len(edge.seats) for edge in edges))])
