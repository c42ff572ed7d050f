"""A track's units with the stretch that each belongs to, for all tiles that show it."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from aiohttp import web

from api.edge import BOARD, Seat
from api.livefragments import Stretch
from api.unit import Silence, Unit
from recorder.base.media import SampleEntry


class Watcher(Protocol):
    """A tile."""

    def came(self, hub: "Hub", units: list[Unit]) -> None:
        """Units have come."""

    def quiet(self, hub: "Hub", silence: Silence | None) -> None:
        """Nothing comes; None: units come again."""


class Hub:
    """One track. Every unit that was handed on since the hub is there has a stretch (`stretch_of`)."""

    def __init__(self, app: web.Application, camera: int, track: str, forget: Callable[[], None]) -> None:
        self.track = track
        self._watchers: list[Watcher] = []
        self._forget = forget
        self._stretches: list[tuple[int, Stretch]] = []       # (number of its first unit, stretch), of those that the window reaches
        self.newest: Unit | None = None
        self.silence: Silence | None = None
        self._seat: Seat = app[BOARD].join(camera, track, self._take, self._told)

    @property
    def opened(self) -> bool:
        """True once it is known what the track has."""
        return self._seat.opened

    @property
    def window(self) -> list[Unit]:
        """The newest picture group as far as it has been handed on; of sound the last seconds."""
        newest = self.newest
        return [unit for unit in self._seat.window if newest is not None and unit.number <= newest.number]

    @property
    def entry(self) -> SampleEntry | None:
        """How the newest unit is coded."""
        return self.newest.entry if self.newest is not None else None

    def stretch_of(self, unit: Unit) -> Stretch:
        """The stretch a unit belongs to."""
        return next((stretch for first, stretch in reversed(self._stretches) if first <= unit.number), self._stretches[0][1])

    def add(self, watcher: Watcher) -> None:
        """A tile comes; what is there already lies in `window`."""
        self._watchers.append(watcher)

    def remove(self, watcher: Watcher) -> None:
        """A tile goes; the last one ends the hub."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)
        if not self._watchers:
            self._seat.leave()
            self._forget()

    def _take(self, units: list[Unit]) -> None:
        for unit in units:
            if unit.breaks or not self._stretches:
                self._stretches.append((unit.number, Stretch(unit)))
                del self._stretches[:-16]
        self.newest = units[-1]
        for watcher in tuple(self._watchers):
            watcher.came(self, units)

    def _told(self, silence: Silence | None) -> None:
        self.silence = silence
        for watcher in tuple(self._watchers):
            watcher.quiet(self, silence)


class Hubs:
    """All hubs of an application."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._hubs: dict[tuple[int, str], Hub] = {}

    def join(self, camera: int, track: str, watcher: Watcher) -> Hub:
        """The hub of a track, with one watcher more. NotFound if the track has never been recorded."""
        key = camera, track
        hub = self._hubs.get(key)
        if hub is None:
            hub = self._hubs[key] = Hub(self._app, camera, track, partial(self._forget, key))
        hub.add(watcher)
        return hub

    def _forget(self, key: tuple[int, str]) -> None:
        self._hubs.pop(key, None)


HUBS = web.AppKey("hubs", Hubs)
