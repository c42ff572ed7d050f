"""Which track of a camera a tile shows now, or the state it shows instead."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from api import keys
from api.status import CameraStatus
from api.tilechoice import STALE_NS, Offer, choose
from api.times import rfc3339
from api.wish import Wish
from recorder.base.errors import NotFound, WatchroomError
from recorder.base.media import SampleEntry
from storage.camera_record import CameraRecord

LOOK_S = 0.5
MUTED = {"alaw": "g711-muted", "ulaw": "g711-muted", "twos": "l16-muted", "g726": "g726-muted"}


async def find_track(app: web.Application, camera: CameraRecord, wish: Wish, tell: Callable[[Mapping[str, Any]], None]) -> Offer:
    """The track to show, once there is one; `tell` gets the state until then, whenever it changes."""
    told: dict[str, Any] = {}
    while True:
        offer, words = _choose(app, camera.number, wish)
        if offer is not None:
            return offer
        if words != told:
            told = words
            tell(words)
        await asyncio.sleep(LOOK_S)


def another_track(app: web.Application, camera: int, wish: Wish, shown: str) -> bool:
    """True if the camera has gone on on a track that suits the wish, and not on the one that is shown."""
    try:
        found = _offers(app, camera, wish)
    except (WatchroomError, OSError):       # who shows it hears of that
        return False
    chosen = choose(found, wish)
    end_ns = max((offer.end_ns for offer in found if offer.track == shown), default=0)
    return chosen is not None and chosen.track != shown and chosen.end_ns > end_ns + STALE_NS


def _choose(app: web.Application, camera: int, wish: Wish) -> tuple[Offer | None, dict[str, Any]]:
    """The track to show; without one, the state to tell."""
    found = _offers(app, camera, wish)
    if (chosen := choose(found, wish)) is not None:
        return chosen, {}
    if found:
        return None, {"state": "unsupported", "codec": found[0].entry.codec, "track": found[0].track}
    return None, _waiting(app[keys.STATUS].camera(camera))


def _offers(app: web.Application, camera: int, wish: Wish) -> list[Offer]:
    names = ("main", "sub") if wish.track == "auto" else (wish.track,)
    return [offer for name in names if (offer := _newest(app, camera, name)) is not None]


def _newest(app: web.Application, camera: int, name: str) -> Offer | None:
    try:
        reader = app[keys.STORE].track(camera, name)
    except NotFound:
        return None
    edges = reader.edges()
    last = max(edges.next_row - (0 if edges.has_open else 1), edges.first_row)
    run = reader.rows_from(last, 1)
    if not len(run):
        return None
    status = app[keys.STATUS].camera(camera).tracks.get(name)
    return Offer(name, reader.sample_entry(int(run.rows["sample_entry"][0])), status.kbps if status else 0, edges.visible_end_ns)


def _waiting(status: CameraStatus) -> dict[str, Any]:
    """Nothing has been recorded: what the camera does instead."""
    state = "offline" if status.cause else "waiting for the first picture"
    return {"state": state, "cause": status.cause or None, "since": rfc3339(status.since_ns) if status.since_ns else None}


def sound_word(app: web.Application, camera: int, shown: SampleEntry | None) -> str:
    """`aac` and the like when sound is in the stream; `g711-muted` and the like when it is recorded and players cannot take it; else `none`."""
    if shown is not None:
        return "aac" if shown.codec == "mp4a" else shown.codec.lower()
    recorded = _newest(app, camera, "audio")
    return MUTED.get(recorded.entry.codec, "none") if recorded is not None else "none"
