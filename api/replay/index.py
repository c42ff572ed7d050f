"""Looks at the index for a replay: where to begin, what comes next, which picture groups came before. For the threads of `Media.look_up`.

Rows whose time may still be shifted (a session's first 2 s) are not there yet: what a replay says of time is what the tape says for good.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from api.feed import elsewhere, first_row_from, newest_row
from api.footage import Bools, Footage, from_access_point, load
from api.mp4.samples import Int64
from recorder.base.media import NS, SampleEntry
from storage.footage import RowRun, row_ends
from storage.reader import TrackReader
from storage.store import TapeStore
from storage.timeline import HOLE_NS
from storage.track import Track

ROWS = 4                      # that are read at once: some seconds
KEY_ROWS = 32                 # where only access points are wanted of them
BACK_ROWS_AT_ONCE = 8
LATE_NS = 10 * NS             # a young session's first rows and a stalled camera's last are known by then
NEAR_NS = 10 * NS             # around a time, of what must be read to begin there


@dataclass(frozen=True, slots=True)
class At:
    """Where to read on: `sent` AUs of row `row` of the tape at `place` have been taken; `time_ns` is the UTC of the access point begun at.

    `fresh`: that one comes next. `skip`: leading pictures are left out until another access point has come, since what they refer to has
    not been sent.
    """

    place: int
    row: int
    sent: int
    time_ns: int
    fresh: bool = True
    skip: bool = True


@dataclass(frozen=True, slots=True)
class Aus:
    """AUs of one tape in decode order, one element per AU in every array: offset and size on the tape, UTC (`wall_ns`), native ticks (`pts`).

    `coded` numbers `entries`. `due_ns`: when one is wanted if it is not to come late: the least UTC of it and those after it.
    """

    place: int
    entries: tuple[SampleEntry, ...]
    coded: Int64
    offset: Int64
    size: Int64
    wall_ns: Int64
    due_ns: Int64
    pts: Int64
    key: Bools

    def __len__(self) -> int:
        return len(self.size)


@dataclass(frozen=True, slots=True)
class Ahead:
    """What comes next: `aus`, and what is behind them.

    `after`: where to read on (None: nowhere). `edge`: nothing more is there yet. `broken`: what `after` names does not lead on; `hole`: time
    lies between. `stopped`: at the edge, and nothing is being recorded. `done`: the range ends here.
    """

    aus: Aus | None
    after: At | None
    edge: bool = False
    broken: bool = False
    hole: bool = False
    stopped: bool = False
    done: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """An access point and what refers to it. `first`: the section of footage begins with it."""

    aus: Aus
    first: bool


@dataclass(frozen=True, slots=True)
class Behind:
    """Picture groups, the newest first; those before them are older than `before_ns` (None: there are none)."""

    groups: tuple[Group, ...]
    before_ns: int | None


# -- where to begin --


def clean_point(store: TapeStore, camera: int, name: str, time_ns: int, now_ns: int) -> At | None:
    """The first access point at or before a time that footage covers; of a time in a gap the first one behind the gap; None if there is
    none yet (ONVIF Streaming 6.5.4). A time that has just not been reached yet is the newest one's."""
    track = store.whole(camera, name)
    end_ns = track.bounds().visible_end_ns
    if end_ns and end_ns <= time_ns < end_ns + LATE_NS and not stopped(track, end_ns, now_ns):
        time_ns = end_ns - 1
    return track.without_sick(lambda: _clean_point(track, time_ns), time_ns - NEAR_NS, time_ns + NEAR_NS, entries=True)


def _clean_point(track: Track, time_ns: int) -> At | None:
    found = newest_row(track, time_ns + 1)
    if found is not None and (at := _covering(found[0], found[1], time_ns)) is not None:
        return at
    return first_from(track, time_ns)


def _covering(reader: TrackReader, number: int, time_ns: int) -> At | None:
    """The newest access point up to a time that row `number` covers, or the leading pictures of the row that it leads on to."""
    footage = load(reader, from_access_point(reader, reader.rows_from(number, 2, provisional=False)))
    index = number - footage.run.first
    if not 0 <= index < len(footage.run):
        return None
    leads_on = index + 1 < len(footage.run) and not footage.breaks[index + 1]
    until_ns = int(footage.run.rows["t_ns"][index + 1] if leads_on else row_ends(footage.run.rows[index:index + 1])[0])
    of_row = int(footage.first_au[index])
    keys = np.flatnonzero(footage.key & (footage.wall_ns <= time_ns) & (footage.row <= index))
    if time_ns >= until_ns or not len(keys) or footage.segment_of(int(keys[-1]))[0] != footage.segment_of(of_row)[0]:
        return None
    return _at(footage, int(keys[-1]))


def first_from(track: Track, time_ns: int, leave_out: Callable[[TrackReader, OSError], bool] = lambda tape, error: False) -> At | None:
    """The first access point at or after a time; None while there is none. Tapes that `leave_out` takes are not asked."""
    found = []
    for tape in track.tapes:
        try:
            found.append(_first_key(tape, first_row_from(tape, time_ns), time_ns))
        except OSError as error:
            if not leave_out(tape, error):
                raise
    return _earliest(found)


def behind(store: TapeStore, camera: int, name: str, time_ns: int) -> At | None:
    """The same as `first_from` of a store's track."""
    return first_from(store.whole(camera, name), time_ns, store.leave_out)


def _first_key(reader: TrackReader, number: int, time_ns: int = 0) -> At | None:
    while len(run := reader.rows_from(number, ROWS, provisional=False)):
        footage = load(reader, run)
        keys = np.flatnonzero(footage.key & (footage.wall_ns >= time_ns))
        if len(keys):
            return _at(footage, int(keys[0]))
        if run.next <= number or not len(footage):
            return None
        number = run.next
    return None


def _earliest(found: list[At | None]) -> At | None:
    return min((at for at in found if at is not None), key=lambda at: at.time_ns, default=None)


def _at(footage: Footage, au: int) -> At:
    index = int(footage.row[au])
    return At(footage.reader.place, footage.run.first + index, au - int(footage.first_au[index]), int(footage.wall_ns[au]))


def stopped(track: Track, end_ns: int, now_ns: int) -> bool:
    """True if the track ends at `end_ns` and at `now_ns` nothing is being recorded: nobody writes it, or a gap is open. Gaps of several causes
    may follow each other."""
    if not track.newest.edges().live:
        return True
    gaps = track.gaps(end_ns - NS, max(end_ns, now_ns) + NS)
    return bool(gaps) and gaps[-1].end_ns is None


# -- forwards --


def ahead(store: TapeStore, camera: int, name: str, at: At, end_ns: int | None, now_ns: int, *, look: bool = True,
          keys: bool = False) -> Ahead:
    """What comes from `at` on, of a few rows and up to the first break, before `end_ns`. `look`: whether it has been stopped is asked too;
    `keys`: access points alone, of more rows.

    `now_ns`: UTC; what was recorded before a time is there LATE_NS after it.
    """
    track, reader = store.whole(camera, name), store.tape(camera, name, at.place)
    rows = KEY_ROWS if keys else ROWS
    run = reader.rows_from(at.row, rows + 1, provisional=False)
    if len(run) and run.first != at.row:
        return Ahead(None, _next(track, reader, at), broken=True, hole=True)          # retention has been here
    footage = load(reader, run)
    if not len(footage):
        return Ahead(None, at, edge=True)
    stop, broken = _stretch(footage)
    begin = min(at.sent, stop)
    wanted = _wanted(footage, at, begin, stop)
    last, done = _range_end(footage, wanted, stop, end_ns)
    chosen = wanted[wanted < last]
    aus = _aus(footage, chosen[footage.key[chosen]] if keys else chosen)
    if done and last < stop:
        return Ahead(aus, None, done=True)
    after = _moved(footage, at, last)
    if not broken and len(footage.run) > rows:
        return Ahead(aus, after)
    over = end_ns is not None and end_ns + LATE_NS < now_ns
    found = _behind_it(track, footage, stop, Ahead(aus, after), end_ns, now_ns, broken=broken, look=look or over)
    return replace(found, done=True) if found.edge and over else found


def _behind_it(track: Track, footage: Footage, stop: int, found: Ahead, end_ns: int | None, now_ns: int, *, broken: bool,
               look: bool) -> Ahead:
    """What is behind the end of a stretch, or behind the newest that is there."""
    after, reader = found.after, footage.reader
    assert after is not None
    ended_ns = int(row_ends(footage.run.rows[footage.row[stop - 1]:][:1])[0])
    if broken or elsewhere(track, reader, after.row):
        following = _next(track, reader, after)
        if following is not None:
            done = end_ns is not None and following.time_ns >= end_ns
            return Ahead(found.aus, following, broken=True, hole=following.time_ns - ended_ns > HOLE_NS, done=done)
    return Ahead(found.aus, after, edge=True, stopped=look and stopped(track, ended_ns, now_ns))


def _next(track: Track, reader: TrackReader, at: At) -> At | None:
    """The first access point behind a row, on whichever tape."""
    others = [_first_key(tape, number) for tape, number in elsewhere(track, reader, at.row)]
    return _earliest([_first_key(reader, at.row + 1), *others])


def _stretch(footage: Footage) -> tuple[int, bool]:
    """AUs up to the first break, and whether there is one."""
    found = np.flatnonzero(footage.breaks[1:])
    return (int(footage.first_au[found[0] + 1]), True) if len(found) else (len(footage), False)


def _range_end(footage: Footage, wanted: Int64, stop: int, end_ns: int | None) -> tuple[int, bool]:
    """How far AUs are sent: to the last wanted one, in decode order, of the time before `end_ns` (else `stop`); and whether more of that time
    cannot come: a row has begun later."""
    if end_ns is None:
        return stop, False
    before = wanted[footage.wall_ns[wanted] < end_ns]
    return int(before[-1]) + 1 if len(before) else 0, bool((footage.run.rows["t_ns"] >= end_ns).any())


def _wanted(footage: Footage, at: At, begin: int, stop: int) -> Int64:
    """AUs [begin, stop) without leading ones of an access point that nothing leads up to."""
    chosen = np.arange(begin, stop)
    if not at.skip or not len(chosen):
        return chosen
    return chosen[~(footage.leading[chosen] & (chosen < _second_key(footage, at, begin, stop)))]


def _second_key(footage: Footage, at: At, begin: int, stop: int) -> int:
    """The first access point in [begin, stop) that is not the one begun at; `stop` if there is none."""
    keys = np.flatnonzero(footage.key[begin:stop])[int(at.fresh):]
    return begin + int(keys[0]) if len(keys) else stop


def _moved(footage: Footage, at: At, stop: int) -> At:
    """Behind AU `stop` - 1."""
    if stop <= at.sent:
        return at
    index = int(footage.row[stop - 1])
    skip = at.skip and _second_key(footage, at, at.sent, stop) == stop
    return At(at.place, footage.run.first + index, stop - int(footage.first_au[index]), at.time_ns, False, skip)


def _aus(footage: Footage, chosen: Int64) -> Aus | None:
    if not len(chosen):
        return None
    entries, of_row, _ = footage.rates()
    wall_ns, aus = footage.wall_ns[chosen], footage.aus
    due_ns = np.minimum.accumulate(wall_ns[::-1])[::-1]
    offset, size = aus.offset[chosen].astype(np.int64), aus.size[chosen].astype(np.int64)
    return Aus(footage.reader.place, entries, of_row[footage.row[chosen]], offset, size, wall_ns, due_ns, aus.pts[chosen], footage.key[chosen])


# -- backwards --


def groups_before(store: TapeStore, camera: int, name: str, before_ns: int, *, keys: bool = False) -> Behind:
    """The newest picture groups that begin before a time; of the newest of them only what was before it too; with `keys` of each its access
    point alone."""
    track = store.whole(camera, name)
    found = track.without_sick(lambda: newest_row(track, before_ns), before_ns - 1, before_ns)
    if found is None:
        return Behind((), None)
    reader, number, floor_ns = found
    footage, skip = _rows_back(reader, number, KEY_ROWS if keys else BACK_ROWS_AT_ONCE)
    if not len(footage):
        return Behind((), None)                # it has gone meanwhile
    t_ns = footage.run.rows["t_ns"]
    inside = (np.arange(len(t_ns)) >= skip) & (t_ns > floor_ns)
    begins = np.flatnonzero(footage.key & (footage.wall_ns < before_ns) & inside[footage.row])
    groups = tuple(_groups(track, footage, begins[::-1], before_ns, keys=keys))
    kept = t_ns[inside]
    return Behind(groups, int(kept[0]) if len(kept) else floor_ns + 1)


def _rows_back(reader: TrackReader, number: int, rows: int) -> tuple[Footage, int]:
    """Some rows up to `number`, from one on that begins with an access point, and one before them that tells whether they lead on; the
    index of the first that counts."""
    oldest = reader.edges().first_row
    first = max(number - rows + 1, oldest)
    run = from_access_point(reader, reader.rows_from(first, number - first + 1, provisional=False))
    if not len(run) or run.first <= oldest:
        return load(reader, run), 0
    before = reader.rows_from(run.first - 1, 1, provisional=False)
    if before.next != run.first:
        return load(reader, run), 0
    return load(reader, RowRun(before.first, np.concatenate((before.rows, run.rows)))), 1


def _groups(track: Track, footage: Footage, begins: Int64, before_ns: int, *, keys: bool) -> Iterator[Group]:
    """The groups that begin with the access points `begins` (falling): each up to the next access point or break."""
    all_keys = np.flatnonzero(footage.key)
    for index, key in enumerate(begins.tolist()):
        later = all_keys[all_keys > key]
        begin, stop = footage.segment_of(key)
        chosen = np.arange(key, min(stop, int(later[0]) if len(later) else stop))
        chosen = chosen[~footage.leading[chosen]]
        if index == 0:
            chosen = chosen[:int(np.flatnonzero(footage.wall_ns[chosen] < before_ns)[-1]) + 1]
        found = _aus(footage, chosen[:1] if keys else chosen)
        assert found is not None
        yield Group(found, _begins(track, footage, key, begin))


def _begins(track: Track, footage: Footage, key: int, begin: int) -> bool:
    """True if nothing that can be shown was recorded right before the access point."""
    if footage.key[begin:key].any():
        return False
    row = footage.row[key]
    if not footage.breaks[row]:
        return bool(key != begin)
    t_ns = int(footage.run.rows["t_ns"][row])
    return not track.pieces(t_ns - HOLE_NS - 1, t_ns)
