"""`/completeness`: of the time that cameras were to be recorded, the share that has footage, by camera, partner or site, per day or month."""

import asyncio
import base64
import binascii
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from aiohttp import web

from api import keys
from api.cameras import LIMIT, PARTNER, SITE
from api.metrics import Page
from api.parameters import END, RANGE_MAX_NS, START, TRACK, Parameter, one_of, wrong
from api.problems import Problem
from api.routes import ROOT, VIEW_OR_ADMIN, Answer, Route
from api.side import SIDE
from api.timeline import unreadable
from api.times import rfc3339
from recorder.base.clock import Clock
from recorder.base.errors import NotFound, WatchroomError
from recorder.base.media import NS
from storage.camera_record import CameraRecord
from storage.completeness import DAY_NS, NOTHING, PERS, Period, Share, ShareCache, periods, share, total
from storage.sickdisk import sick
from storage.store import TapeStore
from storage.track import Track

log = logging.getLogger("watchroom.api")

BYS = ("camera", "partner", "site")
MONTHS_MAX_NS = 366 * DAY_NS
LOOK_S = 60.0
NAME_MAX = 200


def _cursor(text: str) -> str:
    try:
        found = base64.urlsafe_b64decode(text.encode("ascii")).decode() if len(text) <= 1200 else "\n"
    except (ValueError, binascii.Error):
        found = "\n"
    if not found.startswith(":") or len(found) > NAME_MAX + 1:
        raise ValueError("must be the `next` of an earlier page")
    return found


def _next(name: str) -> str:
    return base64.urlsafe_b64encode(f":{name}".encode()).decode()


BY = Parameter("by", one_of(*BYS), {"enum": list(BYS), "default": "camera"}, "What an item is.", "camera")
PER = Parameter("per", one_of(*PERS), {"enum": list(PERS), "default": "day"}, "What a period is; days and months are UTC's.", "day")
AFTER = Parameter("cursor", _cursor, {"type": "string"}, "`next` of the page before.", "")


async def completeness(request: web.Request) -> web.Response:
    """A page of items by name, each with its figures over the range and in each period."""
    by, per, limit, after = BY.of(request), PER.of(request), LIMIT.of(request), AFTER.of(request)
    cut = _periods(request, per)
    groups = grouped(_asked(request), by)
    names = [name for name in sorted(groups) if f":{name}" > after]
    items = []
    for name in names[:limit]:
        found = await request.app[COMPLETE].of(request.app, groups[name], TRACK.of(request), cut)
        items.append({"name": name, "cameras": len(groups[name]), **described(total(found)), "periods": _described_all(cut, found)})
    return web.json_response({"by": by, "per": per, "items": items, "next": _next(names[limit - 1]) if len(names) > limit else None})


def _periods(request: web.Request, per: str) -> list[Period]:
    start_ns, end_ns = START.of(request), END.of(request)
    most_ns = MONTHS_MAX_NS if per == "month" else RANGE_MAX_NS
    if start_ns >= end_ns:
        raise wrong("end", "must be after start")
    if end_ns - start_ns > most_ns:
        raise Problem(400, f"the range is longer than {most_ns // DAY_NS} days", parameter="end", remedy="ask for it in parts")
    now_ns = request.app[keys.CLOCK].wall_ns()               # what is yet to come is not missing
    return periods(start_ns, max(start_ns + 1, min(end_ns, now_ns)), per)


def _asked(request: web.Request) -> Iterable[CameraRecord]:
    grant, partner, site = request[keys.GRANT], PARTNER.of(request), SITE.of(request)
    for camera in request.app[keys.REGISTRY].cameras():
        config = camera.config
        if grant.reaches(camera) and partner in {"", config.partner} and site in {"", config.site}:
            yield camera


def grouped(cameras: Iterable[CameraRecord], by: str) -> dict[str, list[CameraRecord]]:
    """Cameras by id, partner or site."""
    groups: dict[str, list[CameraRecord]] = {}
    for camera in cameras:
        name = camera.id if by == "camera" else camera.config.partner if by == "partner" else camera.config.site
        groups.setdefault(name, []).append(camera)
    return groups


def described(found: Share) -> dict[str, Any]:
    """Figures in seconds."""
    return {
        "expected_s": found.expected_ns / NS,
        "footage_s": found.footage_ns / NS,
        "damaged_s": found.damaged_ns / NS,
        "completeness": found.completeness,
        "missing_s": {cause.word: ns / NS for cause, ns in sorted(found.missing_ns.items())},
        "unreadable": unreadable(found.unreadable),
    }


def _described_all(cut: Sequence[Period], found: Sequence[Share]) -> list[dict[str, Any]]:
    return [
        {"start": rfc3339(start), "end": rfc3339(end), "start_ns": start, "end_ns": end, **described(each)}
        for (start, end), each in zip(cut, found, strict=True)
    ]


class Completeness:
    """Measures one camera after the other, so that a question about a whole site holds nobody up; keeps each camera's last 24 h."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cache = ShareCache()       # used on the side's thread only
        self._turn = asyncio.Semaphore(2)
        self.day: dict[int, Share] = {}

    async def of(self, app: web.Application, cameras: Iterable[CameraRecord], track: str, cut: Sequence[Period]) -> list[Share]:
        """The cameras' shares together, one for each period. Problem 503 if the storage does not answer."""
        sums = [NOTHING] * len(cut)
        async with self._turn:
            for camera in cameras:
                found = await app[SIDE].run(self._measure, camera.number, track, cut)
                sums = [a + b for a, b in zip(sums, found, strict=True)]
        return sums

    def _measure(self, store: TapeStore, camera: int, name: str, cut: Sequence[Period]) -> list[Share]:
        """The shares of one track; nothing for a camera without it. Reads files."""
        try:
            track = store.whole(camera, name)
            return self._measured(track, cut)
        except NotFound:
            return [NOTHING] * len(cut)
        except OSError as error:
            if not sick(error):
                raise
            return [Share(unreadable=frozenset(store.sickness.of(camera, name)))] * len(cut)

    def _measured(self, track: Track, cut: Sequence[Period]) -> list[Share]:
        camera, name = track.camera, track.name
        first_ns, now_ns, out = track.bounds().first_ns, self._clock.wall_ns(), []
        for period in cut:
            found = self._cache.get(camera, name, period, first_ns)
            if found is None:
                found = share(track, period)
                self._cache.put(camera, name, period, first_ns, found, now_ns)
            out.append(found)
        return out

    async def run(self, app: web.Application) -> None:
        """Measure the last 24 h of every camera once a minute, for ever."""
        while True:
            cameras = app[keys.REGISTRY].cameras()
            for camera in cameras:
                await self._look(app, camera)
            self.day = {camera.number: self.day[camera.number] for camera in cameras if camera.number in self.day}
            await asyncio.sleep(LOOK_S)

    async def _look(self, app: web.Application, camera: CameraRecord) -> None:
        now_ns = self._clock.wall_ns()
        try:
            self.day[camera.number] = await app[SIDE].run(_last_day, camera.number, now_ns)
        except (Problem, WatchroomError, OSError) as error:
            log.debug("completeness of %s: %s", camera.id, type(error).__name__)


def _last_day(store: TapeStore, camera: int, now_ns: int) -> Share:
    try:
        return share(store.whole(camera, "main"), (now_ns - DAY_NS, now_ns))
    except NotFound:
        return NOTHING


COMPLETE = web.AppKey("completeness", Completeness)


def figures(page: Page, app: web.Application) -> None:
    """The last 24 h of each camera's main track, as of the last minute."""
    known = [({"camera": c.id}, app[COMPLETE].day[c.number]) for c in app[keys.REGISTRY].cameras() if c.number in app[COMPLETE].day]
    page.family(
        "watchroom_camera_completeness_ratio",
        "gauge",
        "Footage over expected time, the last 24 h of the main track.",
        [(labels, f"{found.completeness:.6f}") for labels, found in known if found.completeness is not None],
    )
    for name, text, member in (
        ("watchroom_camera_expected_seconds", "Time that was to be recorded, of the last 24 h.", "expected_ns"),
        ("watchroom_camera_damaged_seconds", "Footage flagged damaged, of the last 24 h.", "damaged_ns"),
    ):
        page.family(name, "gauge", text, [(labels, f"{getattr(found, member) / NS:.3f}") for labels, found in known])
    page.family(
        "watchroom_camera_missing_seconds",
        "gauge",
        "Time without footage by cause, of the last 24 h.",
        [({**labels, "cause": cause.word}, f"{ns / NS:.3f}") for labels, found in known for cause, ns in sorted(found.missing_ns.items())],
    )


def routes() -> list[Route]:
    """The routes of this module."""
    return [
        Route(
            "GET",
            f"{ROOT}/completeness",
            completeness,
            "How much of what was to be recorded there is",
            scopes=VIEW_OR_ADMIN,
            looks=True,
            parameters=(BY, PER, START, END, TRACK, PARTNER, SITE, LIMIT, AFTER),
            answers={200: Answer("a page of figures", "CompletenessPage")},
            problems=(503,),
        )
    ]
