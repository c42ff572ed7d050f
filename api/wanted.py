"""Which AUs make the picture of a time: the one that was shown then, or the access point nearest to it. Looks at the index only."""

from dataclasses import dataclass

import numpy as np

from api.cut import pick
from api.feed import first_row_from
from api.footage import Footage, from_access_point, load
from api.mp4.samples import Int64
from api.problems import Problem
from api.times import MOST_NS, rfc3339
from recorder.base.errors import Gone, NotFound
from recorder.base.media import NS, AuFlag, SampleEntry, TrackKind
from storage.store import TapeStore
from storage.track import Track

SHOWN_NS = 5 * NS             # a picture older than this was not "shown" at a time without footage
AROUND = 3                    # rows on each side of a time in which its nearest access point is looked for


@dataclass(frozen=True, slots=True)
class Wanted:
    """The AUs that make one picture, in decode order: tape offsets, bytes and pts of each; the picture's own pts and UTC, how it is coded.

    Plain values: it may leave the thread, and the store, that found it.
    """

    camera: int
    track: str
    place: int
    time_ns: int
    entry: SampleEntry
    offset: Int64
    size: Int64
    pts: Int64
    target_pts: int

    def key(self, width: int, height: int = 0) -> tuple[int, str, int, int, int, int]:
        """What makes this picture this picture: its last AU is its own."""
        return self.camera, self.track, self.place, int(self.offset[-1]), width, height

    def stands(self, store: TapeStore) -> bool:
        """True while its bytes may be read."""
        return store.tape(self.camera, self.track, self.place).stands(self.offset)


def find(track: Track, time_ns: int | None) -> Wanted:
    """The last picture with t <= time that can be decoded (None: the newest). Raises NotFound, Gone, Problem 404 with the gap's cause."""
    reader = video(track).at(time_ns)
    edges = reader.edges()
    stop = edges.next_row + int(edges.has_open)
    number = stop if time_ns is None else first_row_from(reader, time_ns + 1)
    first = max(number - 2, edges.first_row)
    footage = load(reader, from_access_point(reader, reader.rows_from(first, number + 2 - first)))
    good = np.flatnonzero(footage.decodable() & (footage.wall_ns <= (MOST_NS if time_ns is None else time_ns)))
    if not len(good):
        raise _none(track, time_ns)
    target = int(good[np.argmax(footage.wall_ns[good])])
    shown_ns = int(footage.wall_ns[target])
    lasts_ns = int(footage.aus.dur[target]) * NS // int(footage.rates()[2][footage.row[target]])
    if time_ns is not None and time_ns - shown_ns > SHOWN_NS + lasts_ns:
        raise _none(track, time_ns)
    found = pick(footage, shown_ns, shown_ns + 1)
    if found is None:
        raise _none(track, time_ns)
    return _wanted(footage, found.chosen[:int(np.searchsorted(found.chosen, target)) + 1], target)


def nearest_key(track: Track, time_ns: int, within_ns: int) -> Wanted | None:
    """The access point nearest to a time, at most `within_ns` from it; an undamaged one if there is any. None: none is so near."""
    found: list[tuple[bool, int, Footage, int]] = []
    for reader in video(track).tapes:
        number = first_row_from(reader, time_ns)
        first = max(number - AROUND, reader.edges().first_row)
        footage = load(reader, from_access_point(reader, reader.rows_from(first, number + AROUND - first)))
        keys = np.flatnonzero(footage.key)
        if len(keys):
            far = np.abs(footage.wall_ns[keys] - time_ns)
            damaged = (footage.aus.flags[keys] & AuFlag.DAMAGED) != 0
            best = np.lexsort((far, damaged | (far > within_ns)))[0]
            found.append((bool(damaged[best]), int(far[best]), footage, int(keys[best])))
    near = [one for one in found if one[1] <= within_ns]
    if not near:
        return None
    _, _, footage, au = min(near, key=lambda one: one[:2])
    return _wanted(footage, np.array([au]), au)


def video(track: Track) -> Track:
    """The track, if it has pictures. Raises NotFound."""
    if track.kind is not TrackKind.VIDEO:
        raise NotFound("this track has no pictures", remedy="ask for a video track")
    return track


def _wanted(footage: Footage, chosen: Int64, target: int) -> Wanted:
    reader, aus = footage.reader, footage.aus
    entries, of_row, _ = footage.rates()
    return Wanted(reader.camera, reader.name, reader.place, int(footage.wall_ns[target]), entries[int(of_row[footage.row[target]])],
                  aus.offset[chosen].astype(np.int64), aus.size[chosen].astype(np.int64), aus.pts[chosen].astype(np.int64),
                  int(aus.pts[target]))


def _none(track: Track, time_ns: int | None) -> Exception:
    bounds = track.bounds()
    if time_ns is None:
        return NotFound("nothing has been recorded yet", remedy="ask again later")
    if bounds.retired and time_ns < bounds.first_ns:
        return Gone("this footage has been retired", where=track.where)
    gaps = track.gaps(time_ns, time_ns + 1)
    if gaps:
        return Problem(404, "nothing was recorded at this time", gaps=[{"start": rfc3339(gaps[0].start_ns), "cause": gaps[0].cause.word}])
    return NotFound("there is no picture at this time")
