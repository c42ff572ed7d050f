"""One track of a replay as shots in the order of sending: forwards as far as it is recorded and on, or group by group backwards."""

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from api.feed import visible_bytes
from api.media import Media
from api.replay.extension import END, JUMP, LAST
from api.replay.index import LATE_NS, Ahead, At, Group, ahead, behind, clean_point, groups_before
from api.replay.shot import Line, Shot, shots
from api.replay.thin import Thin
from recorder.base.errors import NotFound, Unreadable
from recorder.base.media import NS, SampleEntry
from storage.heldtape import HELD_PLACE
from storage.live import watch
from storage.reader import TrackReader
from storage.sickdisk import sick
from storage.store import TapeStore

POLL_S = 0.018                # how often, at the newest, the live block is looked at
LOOK_AGAIN_S = 1.0            # how often it is looked, at the newest, whether recording has stopped or goes on elsewhere
WATCH_NS = 4 * NS
SETBACKS_MAX = 12             # times in a row that a disk reads nothing; each time it goes twice as far on
T = TypeVar("T")


class Walk(Protocol):
    """What a player asks of a track."""

    line: Line
    done: bool                # nothing will come any more
    edge: bool                # it has come to what is being recorded
    reached_ns: int           # UTC of the newest AU that was found, or of where it began

    async def fetch(self) -> bool:
        """Look for more; False if there is none yet. Raises Gone, Unreadable."""
        ...

    def well(self) -> None:
        """What was found has been read."""
        ...

    def past(self, time_ns: int, *, failed: bool) -> None:
        """Go on behind a time of which nothing can be read: retired, or (`failed`) a disk cannot."""
        ...


class _Track:
    """What walks in both directions know: whose track it is, and which codings a client was told of."""

    def __init__(self, media: Media, camera: int, name: str, told: SampleEntry, thin: Thin, time_ns: int) -> None:
        self.line, self.done, self.edge, self.reached_ns = Line(), False, False, time_ns
        self._media, self._camera, self._name, self._told, self._thin = media, camera, name, told, thin
        self._setbacks = 0

    async def _look(self, work: Callable[[TapeStore], T]) -> T:
        """In a thread. An error of the disk is Unreadable."""
        try:
            return await self._media.look_up(work)
        except OSError as error:
            if not sick(error):
                raise
            reader = self._media.store.whole(self._camera, self._name).newest
            raise Unreadable(reader.place % HELD_PLACE, reader.where) from error

    async def _take(self, shot: Shot) -> bool:
        """True if it is one to send: it can be described by what the client was told, and is among the frames that it wants."""
        told, entry = self._told, shot.entry
        fits = (entry.codec, entry.clock_rate, entry.channels) == (told.codec, told.clock_rate, told.channels)
        return fits and await self._thin.keeps(shot)

    def well(self) -> None:
        """See Walk."""
        self._setbacks = 0

    def _step_ns(self) -> int:
        """How far to go past what a disk cannot read: twice as far each time."""
        self._setbacks += 1
        return NS << self._setbacks - 1


class Forwards(_Track):
    """From `at` on (None: from the first access point at or after `time_ns`, once there is one) up to `end_ns`, or without end.

    `keys`: access points alone.
    """

    def __init__(self, media: Media, camera: int, name: str, told: SampleEntry, thin: Thin, at: At | None, time_ns: int,
                 end_ns: int | None, *, keys: bool = False) -> None:
        super().__init__(media, camera, name, told, thin, time_ns if at is None else at.time_ns)
        self._at, self._time_ns, self._end_ns = at, time_ns, end_ns
        self._keys = keys
        self._jump = True                    # what comes next does not lead on
        self._seen_bytes, self._looked_s, self._polled_s = -1, -LOOK_AGAIN_S, 0.0

    async def fetch(self) -> bool:
        """See Walk."""
        if self.done or not self._worth_it():
            return False
        now_ns = self._media.clock.wall_ns()
        if self._at is None:
            return await self._begin(now_ns)
        look = self.edge and time.monotonic() >= self._looked_s + LOOK_AGAIN_S
        if look or not self.edge:
            self._looked_s = time.monotonic()
        found = await self._look(partial(ahead, camera=self._camera, name=self._name, at=self._at, end_ns=self._end_ns,
                                         now_ns=now_ns, look=look, keys=self._keys))
        await self._push(found)
        return bool(self.line.ready) or not self.edge

    async def _begin(self, now_ns: int) -> bool:
        """Look where it goes on, or begins."""
        self._at = await self._look(partial(behind, camera=self._camera, name=self._name, time_ns=self._time_ns))
        self.edge, self._looked_s = self._at is None, time.monotonic()
        if self.edge and self._end_ns is not None and self._end_ns + LATE_NS < now_ns:
            self.done = True
            self.line.close(LAST)
        return self._at is not None

    async def _push(self, found: Ahead) -> None:
        if found.aus is not None:
            self.reached_ns = int(found.aus.wall_ns.max())
            for shot in shots(found.aus):
                if await self._take(shot):
                    shot.anew, self._jump = self._jump, False
                    shot.flags |= JUMP if shot.anew else 0
                    self.line.push(shot)
        self.edge, self._jump = found.edge, self._jump or found.broken
        self._close(found)
        self.done, self._at = found.done, found.after
        self._time_ns = self.reached_ns + 1              # where to look if there is nothing behind a gap yet

    def _close(self, found: Ahead) -> None:
        """The last shot's flags, if it is known to be one."""
        if found.done:
            self.line.close(LAST | (END if found.hole or found.stopped else 0))
        elif found.broken and self.line.held is not None:
            self.line.held.flags |= END if found.hole else 0         # what follows lets it go, if it is to be sent
        elif found.stopped:
            self.line.close(END | LAST)

    def _worth_it(self) -> bool:
        """False at the edge while nothing has become visible since the last look, but for one look a second."""
        if not self.edge:
            return True
        now_s = time.monotonic()
        if now_s < self._polled_s + POLL_S:
            return False
        self._polled_s = now_s
        due = now_s >= self._looked_s + LOOK_AGAIN_S
        try:
            reader = self._reader()
            if due:
                watch(reader, time.monotonic_ns() + WATCH_NS)
            visible = visible_bytes(reader)
        except (OSError, NotFound):
            return due
        news, self._seen_bytes = visible != self._seen_bytes, visible
        return news or due

    def _reader(self) -> TrackReader:
        """The tape that it reads, or will."""
        store = self._media.store
        return store.track(self._camera, self._name) if self._at is None else store.tape(self._camera, self._name, self._at.place)

    def past(self, time_ns: int, *, failed: bool) -> None:
        """See Walk."""
        step_ns = self._step_ns() if failed else 1
        self.line.clear()
        self._time_ns, self._at, self._jump, self.edge = time_ns + step_ns, None, True, False
        self.done = self._setbacks > SETBACKS_MAX


class Backwards(_Track):
    """The picture groups that begin at or before `time_ns`, the newest first, each in decode order, down to the one that covers `end_ns`."""

    def __init__(self, media: Media, camera: int, name: str, told: SampleEntry, thin: Thin, time_ns: int, end_ns: int | None, *,
                 keys: bool = False) -> None:
        super().__init__(media, camera, name, told, thin, time_ns)
        self._before_ns: int | None = time_ns + 1
        self._end_ns, self._keys = end_ns, keys

    async def fetch(self) -> bool:
        """See Walk."""
        if self.done:
            return False
        before_ns = self._before_ns
        if before_ns is not None:
            found = await self._look(partial(groups_before, camera=self._camera, name=self._name, before_ns=before_ns, keys=self._keys))
            self._before_ns = found.before_ns
            for group in found.groups:
                await self._push(group)
                if self.done:
                    return True
        if self._before_ns is None:
            self.done = True
            self.line.close(END | LAST)
        return True

    async def _push(self, group: Group) -> None:
        jump = True
        first_ns = int(group.aus.wall_ns.max())
        self.reached_ns = int(group.aus.wall_ns[0])
        for shot in shots(group.aus):
            if await self._take(shot):
                shot.anew, shot.due_ns = jump, first_ns
                shot.flags |= JUMP if jump else 0
                jump = False
                self.line.push(shot)
        if self._end_ns is not None and self.reached_ns <= self._end_ns:
            self.done = True
            self.line.close(LAST | (END if group.first else 0))
        elif group.first and self.line.held is not None:
            self.line.held.flags |= END

    def past(self, time_ns: int, *, failed: bool) -> None:
        """See Walk."""
        self.line.clear()
        self._before_ns = time_ns - (self._step_ns() if failed else 0)
        self.done = not failed or self._setbacks > SETBACKS_MAX      # what is older than what has gone has gone as well


async def begin(media: Media, camera: int, name: str, time_ns: int) -> At | None:
    """Where forward play of a time begins; None if there is nothing yet."""
    return await media.look_up(partial(clean_point, camera=camera, name=name, time_ns=time_ns, now_ns=media.clock.wall_ns()))
