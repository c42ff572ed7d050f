"""What one tile is sent that plays what has been recorded: the cursor's events as pieces of the live WebSocket."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from api.cursor import ClockMoved, Cursor, CursorQuery, Event, GapHere, Init, Part
from api.media import MEDIA
from api.tiletrack import sound_word
from api.times import rfc3339
from api.wish import Wish
from storage.camera_record import CameraRecord

INIT, FRAGMENT, STATE, EVENT = 1, 2, 3, 4
Room = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Piece:
    """One message to the client: bytes of media (kinds 1 and 2) or a JSON object (3 and 4)."""

    kind: int
    payload: bytes | Mapping[str, Any]


async def open_feed(app: web.Application, camera: CameraRecord, track: str, wish: Wish, room: Room) -> AsyncGenerator[Piece, None]:
    """Everything the tile is sent of a track, until its task is cancelled. The consumer's pace is the feed's; `room` as of Cursor."""
    query = CursorQuery(camera.number, track, audio=wish.play - {"avc1", "hvc1"}, start_ns=wish.start_ns, speed=wish.speed)
    cursor = Cursor(app[MEDIA], query, room=room)
    async with aclosing(cursor.events()) as events:
        async for event in events:
            for piece in _pieces(app, camera, track, event):
                yield piece


def _pieces(app: web.Application, camera: CameraRecord, track: str, event: Event) -> list[Piece]:
    match event:
        case Init():
            return [Piece(STATE, _playing(app, camera, track, event)), Piece(INIT, event.data)]
        case Part():
            return [Piece(FRAGMENT, event.data)]
        case GapHere():
            return [_gap(event)]
        case ClockMoved():
            return [Piece(EVENT, {"wall_ns": str(event.wall_ns)})]


def _playing(app: web.Application, camera: CameraRecord, track: str, init: Init) -> dict[str, Any]:
    return {"state": "playback", "codecs": init.codecs, "track": track, "wall_ns": str(init.wall_ns),
            "width": init.video.width, "height": init.video.height, "audio": sound_word(app, camera.number, init.audio)}


def _gap(gap: GapHere) -> Piece:
    body = {"start": rfc3339(gap.start_ns), "end": rfc3339(gap.end_ns) if gap.end_ns is not None else None,
            "cause": gap.cause.word if gap.cause is not None else None}
    return Piece(EVENT, {"gap": body})
