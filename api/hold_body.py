"""The JSON of a hold as it comes in: every member known, typed and bounded, or a problem that names it."""

from dataclasses import dataclass
from typing import Any

from api.camera_body import TEXT_MAX, members
from api.exports.job import AUTHOR
from api.parameters import wrong
from api.times import parse_time
from recorder.base.media import NS, valid_id

CAMERAS_MAX = 1000
AHEAD_NS = 366 * 86_400 * NS


@dataclass(frozen=True, slots=True)
class AskedHold:
    """What is asked for; `track` "": all of each camera; `review_ns` 0: no date."""

    cameras: tuple[str, ...]
    start_ns: int
    end_ns: int
    reason: str
    track: str
    reference: str
    owner: str
    review_ns: int


def read_hold(body: dict[str, Any], now_ns: int) -> AskedHold:
    """The hold that a body asks for; Problem 400."""
    readers = {"cameras": _ids, "start": read_time, "end": read_time, "reason": read_words, "track": read_track, "reference": read_text,
               "owner": read_text, "review": read_time}
    found = members("", body, readers, ("cameras", "start", "end", "reason"))
    if found.get("owner") == AUTHOR:
        raise wrong("owner", "is the name of the exports, which release their own holds")
    if found["start"] >= found["end"]:
        raise wrong("end", "must be after start")
    if found["end"] > now_ns + AHEAD_NS:
        raise wrong("end", "must lie within the next 366 days")
    return AskedHold(found["cameras"], found["start"], found["end"], found["reason"], found.get("track", ""), found.get("reference", ""),
                     found.get("owner", ""), found.get("review", 0))


def _ids(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= CAMERAS_MAX or not all(isinstance(one, str) and valid_id(one) for one in value):
        raise wrong(name, f"must be a list of 1 to {CAMERAS_MAX} camera ids")
    return tuple(value)


def read_time(name: str, value: Any) -> int:
    """A member that is a time, in ns."""
    if not isinstance(value, str) and type(value) is not int:
        raise wrong(name, "must be a time")
    try:
        return parse_time(str(value))
    except ValueError as error:
        raise wrong(name, str(error)) from None


def read_text(name: str, value: Any) -> str:
    """A member that is short printable text."""
    if not isinstance(value, str) or len(value) > TEXT_MAX or not value.isprintable():
        raise wrong(name, f"must be printable text of at most {TEXT_MAX} characters")
    return value


def read_words(name: str, value: Any) -> str:
    """The same, and it says something."""
    text = read_text(name, value)
    if not text.strip():
        raise wrong(name, "must say why")
    return text


def read_track(name: str, value: Any) -> str:
    """A member that names a track."""
    if not isinstance(value, str) or not valid_id(value):
        raise wrong(name, "must be the name of a track")
    return value


TIME_VALUE = {"oneOf": [{"type": "string", "format": "date-time"}, {"type": "integer", "format": "int64"}]}
SHORT_TEXT = {"type": "string", "maxLength": TEXT_MAX}
HOLD_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["cameras", "start", "end", "reason"],
    "additionalProperties": False,
    "properties": {
        "cameras": {"type": "array", "minItems": 1, "maxItems": CAMERAS_MAX, "items": {"type": "string"}},
        "start": TIME_VALUE,
        "end": {**TIME_VALUE, "description": "may lie ahead: what is recorded until then is held as well"},
        "track": {"type": "string", "description": "only this track of each camera; left out: all of them"},
        "reason": {**SHORT_TEXT, "minLength": 1},
        "reference": {**SHORT_TEXT, "description": "a case number, ..."},
        "owner": {**SHORT_TEXT, "description": "who answers for it; left out: the token's name"},
        "review": {**TIME_VALUE, "description": "when somebody should look at it again"},
    },
}
