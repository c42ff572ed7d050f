"""The JSON of a camera as it comes in: every member known, typed and bounded, or a problem that names it.

Only the shape is judged here; whether an address may be recorded is the supervisor's to say, which owns the catalogue and the camera networks.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from api.parameters import wrong
from recorder.base.config import G726_ORDERS, TRANSPORTS
from recorder.base.config_file import TRACK_NAMES
from recorder.base.hidden_login import hides_login
from recorder.base.media import valid_id
from recorder.base.source_url import PORTS

Read = Callable[[str, Any], Any]
TEXT_MAX = 200
URL_MAX = 1024
SECRET_MAX = 256
SCHEMES = frozenset({"rtsp", "rtsps", *PORTS})       # no file: what is imported stands in the configuration file


def _text(most: int) -> Read:
    def read(name: str, value: Any) -> str:
        if not isinstance(value, str) or len(value) > most or not (value.isprintable() or not value):
            raise wrong(name, f"must be printable text of at most {most} characters")
        return value

    return read


def _secret(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > SECRET_MAX or any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise wrong(name, f"must be text of at most {SECRET_MAX} characters without control characters")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise wrong(name, "must be true or false")
    return value


def _one_of(words: tuple[str, ...]) -> Read:
    def read(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise wrong(name, f"must be one of {', '.join(words)}")
        return value

    return read


def _integer(least: int, most: int) -> Read:
    def read(name: str, value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise wrong(name, f"must be an integer from {least} to {most}")
        return value

    return read


def _number(least: float, most: float) -> Read:
    def read(name: str, value: Any) -> float:
        if type(value) not in {int, float} or not math.isfinite(value) or not least <= value <= most:
            raise wrong(name, f"must be a number from {least} to {most}")
        return float(value)

    return read


def _id(name: str, value: Any) -> str:
    if not isinstance(value, str) or not valid_id(value):
        raise wrong(name, "must be lower-case letters, digits and hyphens, beginning with a letter or digit, at most 48")
    return value


def _url(name: str, value: Any) -> str:
    text = str(_text(URL_MAX)(name, value))
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in SCHEMES or not rest or " " in text or not text.isascii():
        raise wrong(name, "must be an address such as rtsp://host/path")
    if "@" in rest.split("/", 1)[0]:
        raise wrong(name, "must not hold a user or password; they have members of their own")
    if hides_login(rest):
        raise wrong(name, "seems to hold a user and a password; they have members of their own, and an @ of the path is written %40")
    return text


def members(name: str, value: Any, readers: Mapping[str, Read], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """The object's members, each read; Problem 400 for one that is unknown or missing."""
    if not isinstance(value, dict):
        raise wrong(name or "the body", "must be an object")
    prefix = f"{name}." if name else ""
    for member in value:
        if member not in readers:
            raise wrong(prefix + member[:64], "is not known")
    for member in required:
        if member not in value:
            raise wrong(prefix + member, "is required")
    return {member: readers[member](prefix + member, item) for member, item in value.items()}


def _object(readers: Mapping[str, Read], required: tuple[str, ...] = (), *, none: bool = False) -> Read:
    def read(name: str, value: Any) -> dict[str, Any] | None:
        return None if none and value is None else members(name, value, readers, required)

    return read


STREAM = {"url": _url, "kbps": _integer(1, 1_000_000), "ceiling_kbps": _integer(0, 10_000_000), "transport": _one_of(TRANSPORTS),
          "reorder_ms": _integer(1, 10_000)}
RULE = {"days": _number(0.0001, 3660), "bytes_max": _integer(0, 1 << 60), "days_min": _number(0, 3660), "bytes_min": _integer(0, 1 << 60)}
READERS: Mapping[str, Read] = {
    "name": _text(TEXT_MAX),
    "partner": _text(TEXT_MAX),
    "site": _text(TEXT_MAX),
    "purpose": _text(TEXT_MAX),
    "position": _object({"latitude": _number(-90, 90), "longitude": _number(-180, 180)}, ("latitude", "longitude"), none=True),
    "main": _object(STREAM, ("url",)),
    "sub": _object(STREAM, ("url",), none=True),
    "user": _text(SECRET_MAX),
    "password": _secret,
    "basic_without_tls": _flag,
    "tls_fingerprint": _text(SECRET_MAX),
    "tls_insecure": _flag,
    "audio": _flag,
    "metadata": _flag,
    "g726_order": _one_of(G726_ORDERS),
    "enabled": _flag,
    "stall_s": _number(1, 600),
    "rule": _object({**RULE, **{track: _object(RULE, none=True) for track in TRACK_NAMES}}, none=True),
}


def read_new(body: dict[str, Any]) -> dict[str, Any]:
    """A new camera's members as `camera.add` takes them."""
    return _flat(members("", body, {"id": _id, **READERS}, ("id", "main")))


def read_change(body: dict[str, Any]) -> dict[str, Any]:
    """The members to change as `camera.change` takes them."""
    found = members("", body, READERS)
    if not found:
        raise wrong("the body", "changes nothing")
    return _flat(found)


def _flat(found: dict[str, Any]) -> dict[str, Any]:
    if "position" in found:
        place = found.pop("position") or {}
        found |= {"latitude": place.get("latitude"), "longitude": place.get("longitude")}
    return found


_STREAM_SCHEMA = {
    "type": "object",
    "required": ["url"],
    "additionalProperties": False,
    "properties": {
        "url": {"type": "string", "maxLength": URL_MAX,
                "description": "rtsp://host[:port]/path (or rtsps, rtmp, srt, udp, http, https), without user and password"},
        "kbps": {"type": "integer", "minimum": 1, "maximum": 1_000_000, "default": 4000, "description": "declared bit rate"},
        "transport": {"enum": list(TRANSPORTS), "default": "tcp", "description": "auto: TCP, or UDP where a camera insists"},
        "ceiling_kbps": {
            "type": "integer",
            "minimum": 0,
            "maximum": 10_000_000,
            "default": 0,
            "description": "beyond this over 10 s its pictures are dropped; 0: max(3 x kbps, 32000)",
        },
        "reorder_ms": {
            "type": "integer",
            "minimum": 1,
            "maximum": 10_000,
            "default": 100,
            "description": "over UDP, a packet that is missing for longer is lost",
        },
    },
}
_RULE = {
    "days": {"type": "number", "minimum": 0.0001, "maximum": 3660},
    "bytes_max": {"type": "integer", "minimum": 0, "description": "0: no limit"},
    "days_min": {"type": "number", "minimum": 0, "maximum": 3660, "description": "what is younger is the last to make room"},
    "bytes_min": {"type": "integer", "minimum": 0},
}
_TRACK_RULE = {"oneOf": [{"type": "object", "additionalProperties": False, "properties": _RULE}, {"type": "null"}]}
_SHORT = {"type": "string", "maxLength": TEXT_MAX}
_PROPERTIES: dict[str, Any] = {
    "name": _SHORT,
    "partner": _SHORT,
    "site": _SHORT,
    "purpose": _SHORT,
    "position": {"oneOf": [{"$ref": "#/components/schemas/Position"}, {"type": "null"}]},
    "main": _STREAM_SCHEMA,
    "sub": {"oneOf": [_STREAM_SCHEMA, {"type": "null"}]},
    "user": {"type": "string", "maxLength": SECRET_MAX},
    "password": {"type": "string", "format": "password", "maxLength": SECRET_MAX, "writeOnly": True},
    "basic_without_tls": {"type": "boolean", "default": False},
    "tls_fingerprint": {"type": "string", "maxLength": SECRET_MAX, "description": "SHA-256 of the certificate of an rtsps camera, hexadecimal"},
    "tls_insecure": {"type": "boolean", "default": False, "description": "believe any certificate"},
    "audio": {"type": "boolean", "default": True},
    "metadata": {"type": "boolean", "default": False},
    "g726_order": {"enum": list(G726_ORDERS), "default": "sdp"},
    "enabled": {"type": "boolean", "default": True},
    "stall_s": {"type": "number", "minimum": 1, "maximum": 600, "default": 10},
    "rule": {
        "oneOf": [
            {"type": "object", "additionalProperties": False, "properties": {**_RULE, **dict.fromkeys(TRACK_NAMES, _TRACK_RULE)}},
            {"type": "null"},
        ]
    },
}
NEW_SCHEMA = {
    "type": "object",
    "required": ["id", "main"],
    "additionalProperties": False,
    "properties": {"id": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,47}$"}, **_PROPERTIES},
}
CHANGE_SCHEMA = {"type": "object", "minProperties": 1, "additionalProperties": False, "properties": _PROPERTIES}
