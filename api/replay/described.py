"""Which tracks of a camera a replay has, and how each is coded: what a client is told before it plays. For the threads of `Media.look_up`."""

from dataclasses import dataclass

from api.replay.index import At, clean_point
from recorder.base.errors import NotFound
from recorder.base.media import SampleEntry, TrackKind
from storage.reader import TrackReader
from storage.store import TapeStore
from storage.track import Track


@dataclass(frozen=True, slots=True)
class Described:
    """A track: its coding, and the UTC from which on there is footage of it."""

    name: str
    entry: SampleEntry
    first_ns: int


def described(store: TapeStore, camera: int, names: tuple[str, ...], time_ns: int | None, now_ns: int) -> tuple[Described, ...]:
    """Those of the tracks that have footage, as they are coded at a time, or behind it; None: at the newest. NotFound if none has any."""
    found = []
    for name in names:
        try:
            one = _described(store, camera, name, time_ns, now_ns)
        except NotFound:
            continue
        if one is not None:
            found.append(one)
    if not found:
        raise NotFound("nothing of this camera is recorded")
    return tuple(found)


def _described(store: TapeStore, camera: int, name: str, time_ns: int | None, now_ns: int) -> Described | None:
    track = store.whole(camera, name)
    at = clean_point(store, camera, name, time_ns, now_ns) if time_ns is not None else None
    around_ns = track.bounds().visible_end_ns - 1 if at is None else at.time_ns
    return track.without_sick(lambda: _of_track(store, track, at), around_ns, around_ns + 1)


def _of_track(store: TapeStore, track: Track, at: At | None) -> Described | None:
    reader = track.newest if at is None else store.tape(track.camera, track.name, at.place)
    number = _newest(reader) if at is None else at.row
    run = reader.rows_from(number, 1)
    if not len(run) or track.kind is TrackKind.METADATA:
        return None
    firsts = [edges.first_ns for tape in track.tapes if (edges := tape.edges()).first_ns]
    return Described(track.name, reader.sample_entry(int(run.rows["sample_entry"][0])), min(firsts, default=run.start_ns))


def _newest(reader: TrackReader) -> int:
    edges = reader.edges()
    return max(edges.next_row - (0 if edges.has_open else 1), edges.first_row)
