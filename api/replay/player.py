"""A PLAY at work: reads what its tracks walk through, at its pace, and hands it to an outlet that says when it has room."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from api.problems import Problem
from api.replay.extension import END, extension
from api.replay.pace import EARLY_NS, Pace, Ticks
from api.replay.reading import Reading
from api.replay.shot import Shot
from api.replay.walk import Walk
from recorder.base.errors import Gone, NotFound, Unreadable
from recorder.base.media import NS

POLL_S = 0.02                 # how often the newest is looked at: half a picture
NAP_S = 1.0                   # the longest sleep before a due time: after it the due time is looked at again
TURN = 8                      # AUs in a row, before others have theirs
BUSY_S = 0.5                  # before asking again where too many ask
FIRST_LOOKS = 16              # for the first AU, before an answer is given without it


class Outlet(Protocol):
    """Where packets go."""

    def send(self, track: str, unit: bytes | bytearray, timestamp: int, extension: bytes, now: int | None) -> None:
        """Put an AU of a track on its way. `now` is the RTP timestamp of this moment, None where no clock paces it."""
        ...

    async def room(self) -> None:
        """Return when the client has taken enough for more to be read."""
        ...


@dataclass(slots=True)
class Track:
    """One track that was set up. Breaks in the first of a player's move the pace."""

    name: str
    walk: Walk
    reading: Reading
    ticks: Ticks


class Player:
    """Plays tracks on one timeline until they are done; `run` is its task. Loop thread only.

    Memory: one AU, and what the outlet takes before it says that it is full. `cseq` is that of the PLAY.
    """

    def __init__(self, tracks: Sequence[Track], pace: Pace, outlet: Outlet, cseq: int) -> None:
        self._tracks, self._pace, self._outlet = tuple(tracks), pace, outlet
        self.cseq = cseq
        self.done = False
        self._since_turn = 0
        self._going = asyncio.Event()
        self._going.set()
        self._ended, self._shown_ns = False, 0            # of the first track's newest AU: its section ended with it; its UTC
        self._since: tuple[float, int] | None = None      # the monotonic clock when a playing time was due

    # -- from outside --

    def pause(self) -> None:
        """Send nothing more until `go_on`."""
        self._going.clear()

    def go_on(self, cseq: int) -> None:
        """Go on where it stands."""
        self.cseq, self._since = cseq, None
        self._going.set()

    async def first(self) -> Shot | None:
        """What will be sent first; None if that is not there yet. Raises as `Walk.fetch`."""
        for track in self._tracks:
            for _ in range(FIRST_LOOKS):
                if track.walk.line.ready or track.walk.done or not await track.walk.fetch():
                    break
        return self.next()

    def next(self) -> Shot | None:
        """What will be sent next of the first track, if it is known."""
        line = self._tracks[0].walk.line
        return line.ready[0] if line.ready else line.held

    def nothing(self, now_ns: int, end_ns: int | None) -> bool:
        """True if nothing can come of a range that ends at `end_ns` (None: never), as far as is known at UTC `now_ns`."""
        lead = self._tracks[0].walk
        return lead.line.held is None and (lead.done or (end_ns is not None and end_ns <= now_ns))

    @property
    def reached_ns(self) -> int:
        """UTC of the newest AU of the first track that was sent, or is next."""
        following = self.next()
        return self._shown_ns or (following.wall_ns if following is not None else self._tracks[0].walk.reached_ns)

    async def run(self) -> None:
        """Until everything is sent."""
        try:
            while (track := await self._turn()) is not None:
                await self._play(track, track.walk.line.ready.popleft())
            self.done = True
        finally:
            self.close()

    def close(self) -> None:
        """Give all chunks back."""
        for track in self._tracks:
            track.reading.close()

    # -- which comes next --

    async def _turn(self) -> Track | None:
        """The track whose next AU is wanted first; waits for one. None when nothing will come."""
        while True:
            await self._going.wait()
            for track in self._tracks:
                if not track.walk.line.ready and not track.walk.done:
                    await self._fetch(track)
            if (found := self._soonest()) is not None:
                return found
            if all(track.walk.done for track in self._tracks):
                return None
            if self._pace.scale > 1.0 and self._tracks[0].walk.edge:
                self._keep_up()
            await asyncio.sleep(POLL_S)

    def _soonest(self) -> Track | None:
        having = [track for track in self._tracks if track.walk.line.ready]
        return min(having, key=lambda track: track.walk.line.ready[0].due_ns, default=None)

    async def _fetch(self, track: Track) -> None:
        try:
            await track.walk.fetch()
        except (Gone, NotFound):
            track.walk.past(track.walk.reached_ns, failed=False)
        except Unreadable:
            track.walk.past(track.walk.reached_ns, failed=True)
        except Problem:                      # too many look at the index now
            await asyncio.sleep(BUSY_S)

    def _keep_up(self) -> None:
        """It has come to what is being recorded: from there on there is no playing faster."""
        reached_ns = self._tracks[0].walk.reached_ns
        self._pace.slow_down(reached_ns)
        self._since = time.monotonic(), self._pace.play_ns(reached_ns)

    # -- one AU --

    async def _play(self, track: Track, shot: Shot) -> None:
        if self._left_out(track, shot):
            return None
        if track is self._tracks[0]:
            if shot.anew and (self._pace.scale > 0 or self._ended):
                self._pace.begin(shot.due_ns, self._clock_ns())
            self._ended, self._shown_ns = bool(shot.flags & END), shot.wall_ns
        play_ns = self._pace.play_ns(shot.wall_ns)
        if self._pace.paced:
            await self._until(self._pace.play_ns(shot.due_ns))
        await self._outlet.room()
        await self._going.wait()
        try:
            unit = await track.reading.unit(shot)
        except (Gone, NotFound):
            track.walk.past(shot.wall_ns, failed=False)
            return None
        except Unreadable:
            track.walk.past(shot.wall_ns, failed=True)
            return None
        except Problem:                      # the disk has too many readers now
            track.walk.line.ready.appendleft(shot)
            return await asyncio.sleep(BUSY_S)
        track.walk.well()
        native = shot.entry.clock_rate == track.ticks.rate and self._pace.native
        stamp = track.ticks.of(play_ns, shot.pts, anew=shot.anew, native=native)
        now = track.ticks.at(self._clock_ns()) if self._pace.paced else None
        self._outlet.send(track.name, unit, stamp, extension(shot.wall_ns, shot.flags, self.cseq), now)
        self._pace.sent(play_ns)
        self._since_turn = (self._since_turn + 1) % TURN
        if not self._since_turn:
            await asyncio.sleep(0)           # what is warm and taken at once would keep the loop from everybody else
        return None

    def _left_out(self, track: Track, shot: Shot) -> bool:
        """True for sound of a gap in the pictures where gaps take no time."""
        if track is self._tracks[0] or not self._pace.paced:
            return False
        ready = self._tracks[0].walk.line.ready
        return bool(ready) and ready[0].anew and self._shown_ns + EARLY_NS < shot.wall_ns < ready[0].due_ns

    def _clock_ns(self) -> int:
        """The playing time that is due now; 0 before the first."""
        if self._since is None:
            return 0
        since_s, since_ns = self._since
        return since_ns + round((time.monotonic() - since_s) * NS)

    async def _until(self, due_ns: int) -> None:
        """Sleep until a playing time; what is late is sent at once."""
        if self._since is None:
            self._since = time.monotonic(), due_ns
        since = self._since
        while (ahead_ns := due_ns - self._clock_ns()) > 0 and self._since is since:
            await asyncio.sleep(min(ahead_ns / NS, NAP_S))
            await self._going.wait()
            if self._since is None:          # it was paused meanwhile
                self._since = time.monotonic(), due_ns
