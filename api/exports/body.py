"""The JSON of an export as it comes in: every member known, typed and bounded, or a problem that names it."""

from dataclasses import dataclass
from typing import Any

from api.camera_body import members
from api.clipplan import CLIP_MAX_NS
from api.exports.job import FORMATS, PRIORITIES
from api.hold_body import SHORT_TEXT, TIME_VALUE, read_text, read_time, read_track, read_words
from api.parameters import wrong
from api.problems import Problem
from recorder.base.media import NS, valid_id

ITEMS_MAX = 100
TOGETHER_MAX = 16             # tracks of cameras in one MP4
TOTAL_MAX_NS = 48 * 3600 * NS  # of all items of an archive


@dataclass(frozen=True, slots=True)
class AskedItem:
    """A stretch of a camera's track as it was asked for."""

    camera: str
    start: int
    end: int
    track: str = "main"


@dataclass(frozen=True, slots=True)
class AskedExport:
    """What a body asks for."""

    items: tuple[AskedItem, ...]
    reason: str
    format: str = "mp4"
    gaps: str = "keep"
    audio: str = "source"
    reference: str = ""
    priority: str = "normal"
    webhook: str = ""


def read_export(body: dict[str, Any], now_ns: int) -> AskedExport:
    """The export that a body asks for. Raises Problem 400; 416 for what lies in the future."""
    readers = {"items": _items, "reason": read_words, "format": _one_of(FORMATS), "gaps": _one_of(("keep", "close")),
               "audio": _one_of(("source", "none")), "reference": read_text, "priority": _one_of(PRIORITIES),
               "webhook": read_text}
    asked = AskedExport(**members("", body, readers, ("items", "reason")))
    for at, item in enumerate(asked.items):
        _check(f"items.{at}.end", item, now_ns)
    if len(set(asked.items)) < len(asked.items):
        raise wrong("items", "must not name the same twice")
    (_check_film if asked.format == "mp4" else _check_archive)(asked)
    return asked


def _check(where: str, item: AskedItem, now_ns: int) -> None:
    if item.start >= item.end:
        raise wrong(where, "must be after start")
    if item.end > now_ns:
        raise Problem(416, "the range lies in the future", parameter=where, remedy="hold it, and export it when it is over")


def _check_film(asked: AskedExport) -> None:
    """One file on one clock."""
    if len(asked.items) > TOGETHER_MAX or len({(item.camera, item.track) for item in asked.items}) < len(asked.items):
        raise Problem(400, f"an MP4 holds at most {TOGETHER_MAX} tracks, each once", parameter="items", remedy="ask for a zip")
    if len(asked.items) > 1 and asked.gaps == "close":
        raise wrong("gaps", "must be keep where several tracks share a file: each has its own gaps, so they would no longer run together")
    if max(item.end for item in asked.items) - min(item.start for item in asked.items) > CLIP_MAX_NS:
        raise Problem(400, f"an MP4 holds at most {CLIP_MAX_NS // (3600 * NS)} hours", parameter="items", remedy="ask for a zip, or for parts")


def _check_archive(asked: AskedExport) -> None:
    if asked.format == "pack" and asked.gaps == "close":
        raise wrong("gaps", "must be keep in a pack")
    if sum(item.end - item.start for item in asked.items) > TOTAL_MAX_NS:
        raise Problem(400, f"an export holds at most {TOTAL_MAX_NS // (3600 * NS)} hours", parameter="items", remedy="ask for it in parts")


def _items(name: str, value: Any) -> tuple[AskedItem, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= ITEMS_MAX:
        raise wrong(name, f"must be a list of 1 to {ITEMS_MAX} items")
    readers = {"camera": _camera, "track": read_track, "start": read_time, "end": read_time}
    return tuple(AskedItem(**members(f"{name}.{at}", item, readers, ("camera", "start", "end"))) for at, item in enumerate(value))


def _camera(name: str, value: Any) -> str:
    if not isinstance(value, str) or not valid_id(value):
        raise wrong(name, "must be a camera id")
    return value


def _one_of(words: tuple[str, ...]) -> Any:
    def read(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in words:
            raise wrong(name, f"must be one of {', '.join(words)}")
        return value

    return read


EXPORT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["items", "reason"],
    "additionalProperties": False,
    "properties": {
        "items": {
            "type": "array",
            "minItems": 1,
            "maxItems": ITEMS_MAX,
            "items": {
                "type": "object",
                "required": ["camera", "start", "end"],
                "additionalProperties": False,
                "properties": {"camera": {"type": "string"}, "track": {"type": "string", "default": "main"}, "start": TIME_VALUE,
                               "end": TIME_VALUE},
            },
        },
        "reason": {**SHORT_TEXT, "minLength": 1, "description": "goes into the audit"},
        "format": {"enum": list(FORMATS), "default": "mp4",
                   "description": "mp4: one file, of several items with the tracks of all; zip: an MP4 of each item; pack: evidence"},
        "gaps": {"enum": ["keep", "close"], "default": "keep", "description": "as of clip.mp4"},
        "audio": {"enum": ["source", "none"], "default": "source"},
        "reference": {**SHORT_TEXT, "description": "a case number, ..."},
        "priority": {"enum": list(PRIORITIES), "default": "normal"},
        "webhook": {**SHORT_TEXT, "description": "called when the job has ended; one of the addresses that the configuration allows"},
    },
}
