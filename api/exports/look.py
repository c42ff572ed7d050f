"""What there is of a stretch of a track: figures, gaps with causes, damage, what has expired and what is not recorded. Reads files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.exports.job import Item
from api.timeline import cut, figures, unreadable
from api.times import rfc3339
from recorder.base.media import Gap
from storage.store import TapeStore

SHOWN = 1_000                 # gaps, damaged and expired ranges of an item in an answer
TOUCH_NS = 10_000_000         # closer than this is no hole

Ranges = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Look:
    """See the module. `expired` is what retention has taken; `missing` what is neither footage nor a gap nor expired."""

    item: Item
    figures: dict[str, Any]
    gaps: Sequence[Gap]
    damage: Ranges
    expired: Ranges
    missing: Ranges
    unreadable: tuple[int, ...] = ()        # places of volumes whose disk cannot tell now what it has of it

    @property
    def nbytes(self) -> int:
        """Bytes of the rows that overlap it."""
        return int(self.figures["bytes"])


def look(store: TapeStore, item: Item) -> Look:
    """What there is of the item now. NotFound if it has no such track."""
    track = store.whole(item.number, item.track)
    found, bounds = track.timeline(item.start_ns, item.end_ns), track.bounds()
    said = [(span.start_ns, span.end_ns) for span in found.spans] + [(start, item.end_ns if end is None else end)
                                                                      for start, end in (cut(gap, found) for gap in found.gaps)]
    holes = holes_of(said, item.start_ns, item.end_ns)
    begin_ns = (bounds.first_ns or item.end_ns) if bounds.retired else item.start_ns
    expired = [(start, min(end, begin_ns)) for start, end in holes if start < begin_ns]
    missing = [(max(start, begin_ns), end) for start, end in holes if end > begin_ns]
    return Look(item, figures(found), found.gaps, [part for span in found.spans for part in span.damaged], expired, missing,
                found.unreadable)


def holes_of(said: Ranges, start_ns: int, end_ns: int) -> Ranges:
    """What of [start_ns, end_ns) lies in none of the ranges."""
    holes, at = [], start_ns
    for start, end in sorted(said):
        if start - at > TOUCH_NS:
            holes.append((at, start))
        at = max(at, end)
    return [*holes, (at, end_ns)] if end_ns - at > TOUCH_NS else holes


def described(found: Look) -> dict[str, Any]:
    """As JSON; of very many gaps and ranges the first SHOWN, and how many more there are."""
    lists = {"gaps": [{**between(gap.start_ns, gap.end_ns), "cause": gap.cause.word} for gap in found.gaps],
             **{name: [between(*part) for part in getattr(found, name)] for name in ("damage", "expired", "missing")}}
    return {**named(found.item), **found.figures, **{name: part[:SHOWN] for name, part in lists.items()},
            "left_out": sum(max(0, len(part) - SHOWN) for part in lists.values()), "unreadable": unreadable(found.unreadable)}


def named(item: Item) -> dict[str, Any]:
    """Which stretch it is."""
    return {"camera": item.camera, "number": item.number, "track": item.track, **between(item.start_ns, item.end_ns)}


def between(start_ns: int, end_ns: int | None) -> dict[str, Any]:
    """A range as JSON; an open one ends with null."""
    return {"start": rfc3339(start_ns), "end": None if end_ns is None else rfc3339(end_ns), "start_ns": start_ns, "end_ns": end_ns}
