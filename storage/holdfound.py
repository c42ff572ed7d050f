"""What a hold has found: per track, which parts of the time that it names are kept, and which were gone when it came. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from storage.hold import Hold
from storage.holdkeeper import Kept

Ranges = list[tuple[int, int]]
TOUCH_NS = 10_000_000       # rows that lie closer follow each other (storage/timeline.py)


@dataclass(frozen=True, slots=True)
class FoundTrack:
    """[start, end) in UTC ns, in order: `kept` and, of the rest of the time asked for, `late`: what had been retired before."""

    camera: int
    track: str
    kept: tuple[tuple[int, int], ...]
    late: tuple[tuple[int, int], ...]


def found(hold: Hold, kepts: Iterable[Kept]) -> list[FoundTrack]:
    """By camera and track; `kepts` of all tapes of the hold's cameras."""
    tapes: dict[tuple[int, str], list[Kept]] = {}
    for kept in kepts:
        tapes.setdefault((kept.camera, kept.track), []).append(kept)
    return [_track(hold, camera, track, tapes[camera, track]) for camera, track in sorted(tapes)]


def _track(hold: Hold, camera: int, track: str, tapes: Sequence[Kept]) -> FoundTrack:
    asked = joined(hold.stretches(camera, track))
    there: Ranges = []
    for tape in tapes:
        there += tape.saved
        there.append((tape.tail_ns if len(tapes) == 1 else tape.tail_ns or tape.first_ns, 1 << 63))
    kept = _both(asked, joined(there))
    return FoundTrack(camera, track, tuple(kept), tuple(_without(asked, kept)))


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The ranges in order, those that overlap or touch as one."""
    out: Ranges = []
    for start, end in sorted(ranges):
        if out and start <= out[-1][1] + TOUCH_NS:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def _both(some: Ranges, others: Ranges) -> Ranges:
    cuts = ((max(a[0], b[0]), min(a[1], b[1])) for a in some for b in others)
    return [(start, end) for start, end in cuts if end > start]


def _without(ranges: Ranges, cut: Ranges) -> Ranges:
    out: Ranges = []
    for begin, end in ranges:
        at = begin
        for start, stop in cut:
            if stop > at and start < end:
                if start > at:
                    out.append((at, start))
                at = stop
        if at < end:
            out.append((at, end))
    return out


def kept_to_json(kept: Kept) -> dict[str, Any]:
    """For control sockets."""
    return {"camera": kept.camera, "track": kept.track, "tail_ns": kept.tail_ns, "first_ns": kept.first_ns, "saved": joined(kept.saved)}


def kept_from_json(values: Any) -> Kept:
    """What `kept_to_json` described."""
    return Kept(int(values["camera"]), str(values["track"]), int(values["tail_ns"]), tuple((int(a), int(b)) for a, b in values["saved"]),
                int(values["first_ns"]))


def found_to_json(one: FoundTrack) -> dict[str, Any]:
    """For callers of the supervisor."""
    return {"camera": one.camera, "track": one.track, "kept": one.kept, "late": one.late}
