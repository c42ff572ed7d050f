"""What a client of the live WebSocket may say, read strictly: one JSON object a message, every field of a known type and size."""

import json
from dataclasses import dataclass
from typing import Any

from api.times import parse_time
from recorder.base.errors import ConfigError
from recorder.base.media import valid_id

MESSAGE_MAX = 4096
TILE_MAX = 1 << 31
CREDIT_MIN = 64 << 10
CREDIT_MAX = 64 << 20
SIDE_MAX = 1 << 15
KBPS_MAX = 1_000_000
CODECS = frozenset({"avc1", "hvc1", "mp4a", "Opus"})
USUAL = frozenset({"avc1", "mp4a"})
TRACKS = frozenset({"auto", "main", "sub"})


@dataclass(frozen=True, slots=True)
class Wish:
    """`subscribe`: this camera on this tile. `start_ns` None: live. `play`: sample entry types the client can show. `credit`: bytes that
    may be on their way unacknowledged. `small`: the tile is small, so a sub track is preferred. `width`, `height`: the tile in pixels of the
    screen, 0 not told. `max_kbps`: what the tile's track should take at most, None as much as it takes. api/tilechoice.py heeds these."""

    camera: str
    track: str = "auto"
    start_ns: int | None = None
    speed: float = 1.0
    play: frozenset[str] = USUAL
    credit: int = 4 << 20
    small: bool = False
    width: int = 0
    height: int = 0
    max_kbps: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `op` subscribe (with `wish`), seek (with `start_ns`), ack (with `nbytes`) or unsubscribe."""

    op: str
    tile: int
    wish: Wish | None = None
    start_ns: int | None = None
    nbytes: int = 0


def read(text: str) -> Message:
    """The message. Raises ConfigError with what is wrong in it."""
    try:
        body = json.loads(text) if len(text) <= MESSAGE_MAX else None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ConfigError(f"a message is one JSON object of at most {MESSAGE_MAX} bytes")
    tile = _whole(body, "tile", 0, TILE_MAX)
    match body.get("op"):
        case "subscribe":
            return Message("subscribe", tile, _wish(body))
        case "seek":
            return Message("seek", tile, start_ns=_start(body))
        case "ack":
            return Message("ack", tile, nbytes=_whole(body, "bytes", 0, CREDIT_MAX))
        case "unsubscribe":
            return Message("unsubscribe", tile)
    raise ConfigError("op must be subscribe, seek, ack or unsubscribe")


def _wish(body: dict[str, Any]) -> Wish:
    camera, track, play = body.get("camera"), body.get("track", "auto"), body.get("play", sorted(USUAL))
    if not isinstance(camera, str) or not valid_id(camera):
        raise ConfigError("camera must be a camera's id")
    if not isinstance(track, str) or track not in TRACKS:
        raise ConfigError("track must be auto, main or sub")
    if not isinstance(play, list) or not all(isinstance(name, str) for name in play) or not CODECS.issuperset(play):
        raise ConfigError(f"play must be a list of {', '.join(sorted(CODECS))}")
    return Wish(camera, track, _start(body), _speed(body), frozenset(play), _whole(body, "credit", CREDIT_MIN, CREDIT_MAX, 4 << 20),
                body.get("small") is True, *_size(body), _max_kbps(body))


def _size(body: dict[str, Any]) -> tuple[int, int]:
    """Width and height, both or neither."""
    if body.get("width") is None and body.get("height") is None:
        return 0, 0
    return _whole(body, "width", 1, SIDE_MAX), _whole(body, "height", 1, SIDE_MAX)


def _max_kbps(body: dict[str, Any]) -> int | None:
    return None if body.get("max_kbps") is None else _whole(body, "max_kbps", 1, KBPS_MAX)


def _start(body: dict[str, Any]) -> int | None:
    start = body.get("start")
    if start is None:
        return None
    if isinstance(start, bool) or not isinstance(start, str | int):
        raise ConfigError("start must be RFC 3339, nanoseconds or null")
    try:
        return parse_time(str(start))
    except ValueError as error:
        raise ConfigError(f"start {error}") from None


def _speed(body: dict[str, Any]) -> float:
    speed = body.get("speed", 1)
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0.1 <= speed <= 64:
        raise ConfigError("speed must be a number from 0.1 to 64")
    return float(speed)


def _whole(body: dict[str, Any], name: str, least: int, most: int, default: int | None = None) -> int:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{name} must be a whole number from {least} to {most}")
    return value
