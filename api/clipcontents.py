"""What a clip holds and what it lacks, as JSON beside the file: gaps and damage of each camera, in UTC and in the file's own time."""

from typing import Any

import numpy as np

from api.clipplan import Clip, Shown
from api.timeline import unreadable
from api.times import rfc3339
from recorder.base.errors import NotFound
from recorder.base.media import NS, Gap
from storage.sickdisk import sick
from storage.store import TapeStore

ITEMS_MAX = 5000              # gaps, and damaged stretches, of one track


def contents(store: TapeStore, clip: Clip, names: dict[int, str]) -> dict[str, Any]:
    """The document of `Contents` (api/schemas.py); `names` are the ids of camera numbers."""
    query = (clip.shown[0] if clip.shown else clip.missing[0]).query
    return {
        **_times(query.start_ns, query.end_ns),
        "first": rfc3339(clip.start_ns),
        "first_ns": clip.start_ns,
        "gaps": "close" if query.close_gaps else "keep",
        "frames": clip.frames,
        "complete": clip.complete,
        "cameras": [_camera(store, one, clip.start_ns, names[one.query.camera]) for one in clip.shown],
        "missing": [{"camera": names[one.query.camera], "reason": one.reason, "pending": one.pending} for one in clip.missing],
    }


def _camera(store: TapeStore, shown: Shown, zero_ns: int, name: str) -> dict[str, Any]:
    query = shown.query
    wanted = [query.track, *(["audio"] if query.audio and query.track == "main" else [])]
    return {
        "camera": name,
        "frames": shown.frames,
        "first": rfc3339(shown.start_ns),
        "last": rfc3339(shown.end_ns),
        "in_file": list(shown.tracks),
        "tracks": [found for track in wanted if (found := _track(store, shown, zero_ns, track)) is not None],
    }


def _track(store: TapeStore, shown: Shown, zero_ns: int, name: str) -> dict[str, Any] | None:
    query = shown.query
    try:
        found = store.whole(query.camera, name).timeline(query.start_ns, query.end_ns)
    except NotFound:
        return None               # a camera without sound
    except OSError as error:
        if not sick(error):
            raise
        places = store.sickness.of(query.camera, name)      # whether there is any sound cannot be told
        return {"track": name, "footage_s": 0.0, "gaps": [], "damage": [], "left_out": 0, "unreadable": unreadable(places)}
    damage = [part for span in found.spans for part in span.damaged]
    return {
        "track": name,
        "footage_s": found.covered_ns / NS,
        "gaps": [{**_stretch(shown, zero_ns, *_within(gap, query.start_ns, query.end_ns)), "cause": gap.cause.word}
                 for gap in found.gaps[:ITEMS_MAX]],
        "damage": [_stretch(shown, zero_ns, *part) for part in damage[:ITEMS_MAX]],
        "left_out": max(0, len(found.gaps) - ITEMS_MAX) + max(0, len(damage) - ITEMS_MAX),
        "unreadable": unreadable(found.unreadable),
    }


def _within(gap: Gap, start_ns: int, end_ns: int) -> tuple[int, int]:
    return max(gap.start_ns, start_ns), end_ns if gap.end_ns is None else min(gap.end_ns, end_ns)


def _stretch(shown: Shown, zero_ns: int, start_ns: int, end_ns: int) -> dict[str, Any]:
    """In UTC, and where it lies in the file (`at_s`) and how long it takes there (`lasts_s`)."""
    at = np.maximum(shown.timeline.at(np.array([start_ns, end_ns])) + shown.start_ns - zero_ns, 0)
    return {**_times(start_ns, end_ns), "at_s": int(at[0]) / NS, "lasts_s": int(at[1] - at[0]) / NS}


def _times(start_ns: int, end_ns: int) -> dict[str, Any]:
    return {"start": rfc3339(start_ns), "end": rfc3339(end_ns), "start_ns": start_ns, "end_ns": end_ns}
