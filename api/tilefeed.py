"""What one tile is sent: the track that its client can show, then the cursor's events as pieces of the live WebSocket."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from api import keys
from api.cursor import ClockMoved, Cursor, CursorQuery, Event, GapHere, Init, Part
from api.media import MEDIA
from api.status import CameraStatus
from api.tilechoice import Offer, choose
from api.times import rfc3339
from api.wish import Wish
from recorder.base.errors import NotFound
from storage.camera_record import CameraRecord

INIT, FRAGMENT, STATE, EVENT = 1, 2, 3, 4
LOOK_S = 0.5
Room = Callable[[int], Awaitable[None]]
MUTED = {"alaw": "g711-muted", "ulaw": "g711-muted", "twos": "l16-muted", "g726": "g726-muted"}


@dataclass(frozen=True, slots=True)
class Piece:
    """One message to the client: bytes of media (kinds 1 and 2) or a JSON object (3 and 4)."""

    kind: int
    payload: bytes | Mapping[str, Any]


async def open_feed(app: web.Application, camera: CameraRecord, wish: Wish, room: Room | None = None) -> AsyncGenerator[Piece, None]:
    """Everything the tile is sent, until its task is cancelled. The consumer's pace is the feed's; `room` as of Cursor."""
    choice, told = None, None
    while choice is None:
        choice, words = _choose(app, camera, wish)
        if choice is None and words != told:
            told = words
            yield Piece(STATE, words)
        if choice is None:
            await asyncio.sleep(LOOK_S)
    query = CursorQuery(camera.number, choice.track, audio=wish.play - {"avc1", "hvc1"}, start_ns=wish.start_ns, speed=wish.speed)
    cursor = Cursor(app[MEDIA], query, room=room)
    async with aclosing(cursor.events()) as events:
        async for event in events:
            for piece in _pieces(app, camera, choice.track, wish, event):
                yield piece


def _choose(app: web.Application, camera: CameraRecord, wish: Wish) -> tuple[Offer | None, dict[str, Any]]:
    """The track to show; without one, the state to tell."""
    names = ("main", "sub") if wish.track == "auto" else (wish.track,)
    found = [offer for name in names if (offer := _newest(app, camera.number, name)) is not None]
    if (chosen := choose(found, wish)) is not None:
        return chosen, {}
    if found:
        return None, {"state": "unsupported", "codec": found[0].entry.codec, "track": found[0].track}
    return None, _waiting(app[keys.STATUS].camera(camera.number))


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


def _pieces(app: web.Application, camera: CameraRecord, track: str, wish: Wish, event: Event) -> list[Piece]:
    match event:
        case Init():
            return [Piece(STATE, _playing(app, camera, track, wish, event)), Piece(INIT, event.data)]
        case Part():
            return [Piece(FRAGMENT, event.data)]
        case GapHere():
            return [_gap(event, wish)]
        case ClockMoved():
            return [Piece(EVENT, {"wall_ns": str(event.wall_ns)})]


def _playing(app: web.Application, camera: CameraRecord, track: str, wish: Wish, init: Init) -> dict[str, Any]:
    return {"state": "live" if wish.start_ns is None else "playback", "codecs": init.codecs, "track": track, "wall_ns": str(init.wall_ns),
            "width": init.video.width, "height": init.video.height, "audio": _sound(app, camera, init)}


def _sound(app: web.Application, camera: CameraRecord, init: Init) -> str:
    """`aac` and the like when sound is in the stream; `g711-muted` and the like when it is recorded and players cannot take it; else `none`."""
    if init.audio is not None:
        return "aac" if init.audio.codec == "mp4a" else init.audio.codec.lower()
    recorded = _newest(app, camera.number, "audio")
    return MUTED.get(recorded.entry.codec, "none") if recorded is not None else "none"


def _gap(gap: GapHere, wish: Wish) -> Piece:
    body = {"start": rfc3339(gap.start_ns), "end": rfc3339(gap.end_ns) if gap.end_ns is not None else None,
            "cause": gap.cause.word if gap.cause is not None else None}
    if gap.end_ns is None and wish.start_ns is None:
        return Piece(STATE, {"state": "offline", "since": body["start"], "cause": body["cause"]})
    return Piece(EVENT, {"gap": body})
