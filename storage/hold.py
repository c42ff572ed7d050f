"""A hold: cameras x time that retention must not touch, with who wants it and why; as a value and as JSON. Times are UTC ns."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from recorder.base.errors import Refused
from recorder.base.media import valid_id

ID = re.compile(r"[0-9a-f]{32}")
TEXT_MAX = 500
SPANS_MAX = 2000
TIME_MAX = 1 << 62


@dataclass(frozen=True, slots=True)
class HoldSpan:
    """[start_ns, end_ns) of a camera; `track` "" means all its tracks, those that it gets later among them."""

    camera: int
    start_ns: int
    end_ns: int
    track: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold; `review_ns` 0: no date was given. `released_ns` 0: it stands; else since when it does not, and by whose word."""

    id: str
    reason: str
    reference: str
    author: str
    created_ns: int
    review_ns: int
    spans: tuple[HoldSpan, ...]
    released_ns: int = 0
    released_by: str = ""

    def stretches(self, camera: int, track: str) -> list[tuple[int, int]]:
        """The times of this track that are held."""
        return [(span.start_ns, span.end_ns) for span in self.spans if span.camera == camera and span.track in ("", track)]

    def cameras(self) -> frozenset[int]:
        """The numbers of its cameras."""
        return frozenset(span.camera for span in self.spans)

    def released(self, time_ns: int, by: str) -> "Hold":
        """The hold after its release."""
        return replace(self, released_ns=time_ns, released_by=by)


def hold_to_json(hold: Hold) -> dict[str, Any]:
    """For files, the catalogue and control sockets."""
    spans = [{"camera": span.camera, "track": span.track, "start_ns": span.start_ns, "end_ns": span.end_ns} for span in hold.spans]
    return {"id": hold.id, "reason": hold.reason, "reference": hold.reference, "author": hold.author, "created_ns": hold.created_ns,
            "review_ns": hold.review_ns, "spans": spans, "released_ns": hold.released_ns, "released_by": hold.released_by}


def hold_from_json(values: object) -> Hold:
    """The hold that `hold_to_json` described; Refused where it is none."""
    if not isinstance(values, Mapping):
        raise _refused("it is no object")
    spans = values.get("spans")
    if not isinstance(spans, list) or not 0 < len(spans) <= SPANS_MAX:
        raise _refused(f"it needs 1 to {SPANS_MAX} spans")
    found = Hold(_text(values, "id"), _text(values, "reason"), _text(values, "reference"), _text(values, "author"), _time(values, "created_ns"),
                 _time(values, "review_ns"), tuple(_span(span) for span in spans), _time(values, "released_ns"), _text(values, "released_by"))
    if not ID.fullmatch(found.id):
        raise _refused("its id is not 32 hex digits")
    if not found.reason.strip() or not found.author.strip():
        raise _refused("it needs a reason and an author")
    return found


def _span(values: object) -> HoldSpan:
    if not isinstance(values, Mapping):
        raise _refused("a span is no object")
    camera, track = values.get("camera"), _text(values, "track")
    span = HoldSpan(camera if type(camera) is int else 0, _time(values, "start_ns"), _time(values, "end_ns"), track)
    if span.camera < 1 or (track and not valid_id(track)):
        raise _refused("a span names no camera number, or a track that cannot be")
    if span.start_ns >= span.end_ns:
        raise _refused("a span ends before it begins")
    return span


def _text(values: Mapping[Any, Any], name: str) -> str:
    found = values.get(name, "")
    if not isinstance(found, str) or len(found) > TEXT_MAX or not found.isprintable():
        raise _refused(f"`{name}` is no text of at most {TEXT_MAX} characters in one line")
    return found


def _time(values: Mapping[Any, Any], name: str) -> int:
    found = values.get(name, 0)
    if type(found) is not int or not 0 <= found <= TIME_MAX:
        raise _refused(f"`{name}` is no time in ns")
    return found


def _refused(why: str) -> Refused:
    return Refused(why, where="hold", remedy="see the description of holds in docs/api.md")
