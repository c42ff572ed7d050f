"""A tile that shows what is being recorded: each picture as a fragment as soon as it is visible.

Nothing waits for a client: a tile without credit, or of a connection whose client does not take what it is sent, goes on behind the newest
picture that is out while those are at hand, else at the newest access point; after a second time within a minute with access points only, for
a minute.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from aiohttp import web

from api.livefragments import Stretch
from api.livehub import HUBS, Hub
from api.media import MEDIA
from api.tilechoice import STALE_NS
from api.tilefeed import EVENT, FRAGMENT, INIT, STATE
from api.tiletrack import another_track, sound_word
from api.times import rfc3339
from api.unit import Silence, Unit
from api.wish import Wish
from recorder.base.errors import NotFound
from recorder.base.media import NS, SampleEntry

SLOW_S = 60.0                 # a viewer who misses pictures again within this gets access points only, for as long
FRESH_NS = 3 * NS             # sound that is older than this beside the pictures has fallen silent
SOUND_WAIT_S = 0.3            # at the start: for the sound to be found
CLOCK_NS = 2_000_000          # UTC of media time 0 that is off by more is told
AGAIN_S = 0.02                # meanwhile it is looked again
CHOOSE_S = 5.0                # how often a tile whose track is silent looks whether the camera has gone on on the other one
UNHEARD_MAX = 1000            # units of sound that wait for the next picture


class Account(Protocol):
    """The tile's credit."""

    number: int
    wish: Wish
    on_credit: Any

    @property
    def has_credit(self) -> bool: ...

    def spend(self, nbytes: int) -> None: ...


class Outlet(Protocol):
    """The tile's connection."""

    def send(self, tile: int, kind: int, payload: bytes) -> None: ...

    @property
    def full(self) -> bool: ...


class LiveTile:
    """One camera's track, and the sound beside main pictures if the client takes it. `run` until it is cancelled."""

    def __init__(self, app: web.Application, camera: int, track: str, account: Account, outlet: Outlet) -> None:
        self._app, self._camera, self._track, self._account, self._outlet = app, camera, track, account, outlet
        self._pictures: Hub | None = None
        self._sound: Hub | None = None
        self._stretch: Stretch | None = None          # that was announced
        self._with: SampleEntry | None = None         # the sound that was announced
        self._sent = -1                               # number of the newest picture that was dealt with
        self._unheard: list[Unit] = []                # sound that goes out with the next picture
        self._wall0_ns = 0
        self._cut = True                              # pictures are missing here: it goes on at an access point
        self._alone = True                            # they were before the access point of this group: its leading pictures cannot be decoded
        self._due: asyncio.TimerHandle | None = None
        self._wait_until_s, self._came_s = 0.0, time.monotonic()
        self._late_s = self._keys_until_s = -SLOW_S
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Join, and stay. Returns when another track is to be shown; raises what has gone wrong with this tile."""
        hubs = self._app[HUBS]
        self._wait_until_s = time.monotonic() + SOUND_WAIT_S
        try:
            if self._track == "main" and self._account.wish.play - {"avc1", "hvc1"}:
                self._sound = self._join_sound()
            self._pictures = hubs.join(self._camera, self._track, self)
            self._account.on_credit = partial(self._guarded, self._go_on)
            if self._pictures.opened:
                self._go_on()
                self._quiet(self._pictures, self._pictures.silence)
            await self._stay()
        finally:
            self._account.on_credit = None
            if self._due is not None:
                self._due.cancel()
            for hub in (self._pictures, self._sound):
                if hub is not None:
                    hub.remove(self)

    async def _stay(self) -> None:
        while not self._over.done():
            await asyncio.wait([self._over], timeout=CHOOSE_S)
            silent = time.monotonic() > self._came_s + STALE_NS / NS
            if silent and not self._over.done() and another_track(self._app, self._camera, self._account.wish, self._track):
                return
        self._over.result()

    def _join_sound(self) -> Hub | None:
        try:
            return self._app[HUBS].join(self._camera, "audio", self)
        except NotFound:
            return None

    # -- what the hubs tell --

    def came(self, hub: Hub, units: list[Unit]) -> None:
        """Units of a hub."""
        self._guarded(self._came, hub, units)

    def quiet(self, hub: Hub, silence: Silence | None) -> None:
        """A gap has begun, or is over."""
        self._guarded(self._quiet, hub, silence)

    def _guarded(self, call: Callable[..., None], *arguments: object) -> None:
        """All tiles of a track are told in one go: one that fails ends by itself, in `run`."""
        if self._over.done():
            return
        try:
            call(*arguments)
        except Exception as error:
            self._over.set_exception(error)

    def _came(self, hub: Hub, units: list[Unit]) -> None:
        if hub is not self._pictures:
            if self._with is not None:
                self._hear(units)
            return
        self._came_s = time.monotonic()
        if self._sent == units[0].number - 1 and self._stretch is not None:
            self._show(units)
        else:
            self._go_on()

    def _quiet(self, hub: Hub, silence: Silence | None) -> None:
        if hub is not self._pictures or (silence is None and self._stretch is None):
            return
        if silence is None:
            self._say(STATE, {"state": "live"})
            return
        self._say(STATE, {"state": "offline", "since": rfc3339(silence.since_ns), "cause": silence.cause.word if silence.cause else None,
                          "last": rfc3339(silence.last_ns) if silence.last_ns else None})

    # -- what is sent --

    def _go_on(self) -> None:
        """Send what is at hand behind the newest picture that is out, or begin anew at the newest access point."""
        hub = self._pictures
        if hub is None or self._blocked() or not (window := hub.window):
            return
        if self._stretch is None and self._wait_for_sound():
            return
        behind = [unit for unit in window if unit.number > self._sent]
        if window[0].number > self._sent + 1:
            self._cut = True
            self._unheard = [unit for unit in self._unheard if unit.wall_ns >= window[0].wall_ns]
            if self._stretch is not None:
                self._missed()
        if behind:
            self._show(behind)

    def _wait_for_sound(self) -> bool:
        """At the start: True while it is not known whether there is sound."""
        if self._sound is None or self._sound.opened or time.monotonic() > self._wait_until_s:
            return False
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(AGAIN_S, self._look_again)
        return True

    def _look_again(self) -> None:
        self._due = None
        self._guarded(self._go_on)

    def _blocked(self) -> bool:
        return not self._account.has_credit or self._outlet.full or self._over.done()

    def _missed(self) -> None:
        """The viewer was late: pictures are left out."""
        now_s, counts = time.monotonic(), self._app[MEDIA].counts
        counts.viewers_late += 1
        if now_s < self._late_s + SLOW_S:
            counts.viewers_keyed += int(now_s > self._keys_until_s)
            self._keys_until_s = now_s + SLOW_S
        self._late_s = now_s

    def _show(self, units: list[Unit]) -> None:
        hub = self._pictures
        for unit in units:
            if hub is None or self._blocked():
                return
            self._sent = unit.number
            if unit.key:
                self._at_access_point(hub.stretch_of(unit), unit)
            elif self._cut or self._keys_until_s > 0 or unit.breaks:
                self._cut = True
            elif not (unit.leading and self._alone) and self._stretch is not None:
                self._give(FRAGMENT, self._stretch.picture(unit))
        self._speak()

    def _at_access_point(self, stretch: Stretch, unit: Unit) -> None:
        """Here a stream may begin: it does if the stretch is another one, or sound has come or gone."""
        if self._keys_until_s > 0 and time.monotonic() > self._keys_until_s:
            self._keys_until_s = -SLOW_S
        if unit.entry.codec not in self._account.wish.play:
            self._over.set_result(None)
            return
        sound = self._fresh_sound(unit)
        if stretch is not self._stretch or sound != self._with:
            self._announce(stretch, unit, sound)
        elif abs((wall0_ns := stretch.wall0_ns(unit)) - self._wall0_ns) > CLOCK_NS:
            self._wall0_ns = wall0_ns
            self._say(EVENT, {"wall_ns": str(wall0_ns)})
        self._give(FRAGMENT, stretch.first_picture(unit) if self._cut else stretch.picture(unit))
        self._alone, self._cut = self._cut, False

    def _announce(self, stretch: Stretch, unit: Unit, sound: SampleEntry | None) -> None:
        self._stretch, self._with, self._cut = stretch, sound, True
        self._wall0_ns = stretch.wall0_ns(unit)
        data, codecs = stretch.init(unit, sound)
        self._say(STATE, {"state": "live", "codecs": codecs, "track": self._track, "wall_ns": str(self._wall0_ns), "width": unit.entry.width,
                          "height": unit.entry.height, "audio": sound_word(self._app, self._camera, sound)})
        self._give(INIT, data)
        self._unheard = []
        if sound is not None and self._sound is not None:
            self._hear([heard for heard in self._sound.window if heard.wall_ns >= unit.wall_ns])

    # -- sound --

    def _fresh_sound(self, unit: Unit) -> SampleEntry | None:
        """How the sound beside this picture is coded, if there is any that the client takes."""
        newest = self._sound.newest if self._sound is not None else None
        if newest is None or newest.wall_ns < unit.wall_ns - FRESH_NS or newest.entry.codec not in self._account.wish.play:
            return None
        return newest.entry

    def _hear(self, units: list[Unit]) -> None:
        """Keep what goes out with the next picture."""
        self._unheard += [unit for unit in units if unit.entry == self._with]
        del self._unheard[:-UNHEARD_MAX]

    def _speak(self) -> None:
        """Send the sound that has come since the last time."""
        units, self._unheard = self._unheard, []
        if self._stretch is not None:
            for run in _unbroken(units):
                self._give(FRAGMENT, self._stretch.sound(run, self._wall0_ns))

    # -- out --

    def _give(self, kind: int, payload: bytes) -> None:
        self._account.spend(len(payload))
        self._app[MEDIA].counts.bytes_sent += len(payload)
        self._outlet.send(self._account.number, kind, payload)

    def _say(self, kind: int, body: Mapping[str, Any]) -> None:
        self._outlet.send(self._account.number, kind, json.dumps(body).encode())


def _unbroken(units: list[Unit]) -> list[list[Unit]]:
    """The units, cut where one does not lead on from the one before: its DTS say nothing of the time between them."""
    runs: list[list[Unit]] = []
    for unit in units:
        if unit.breaks or not runs:
            runs.append([])
        runs[-1].append(unit)
    return runs
