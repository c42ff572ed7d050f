"""One track read forwards, from a place on, as far as it is recorded: what live views and playback are made of."""

from dataclasses import dataclass, replace

import numpy as np

from api.cut import AUDIO_SLACK_NS, pick
from api.footage import Footage, Timeline, from_access_point, load
from api.mp4.samples import Int64, Samples
from recorder.base.errors import Gone
from recorder.base.media import SampleEntry
from storage.footage import RowRun
from storage.reader import TrackReader
from storage.track import Track


@dataclass(slots=True)
class Place:
    """Where to read on: `sent` AUs of row `row` have been taken (or are not wanted)."""

    row: int
    sent: int


@dataclass(frozen=True, slots=True)
class Start:
    """An access point to begin at: its tape and its place, its UTC, how it is coded."""

    reader: TrackReader
    place: Place
    time_ns: int
    entry: SampleEntry


@dataclass(frozen=True, slots=True)
class Taken:
    """What came: samples in ticks since `wall0_ns` (None: nothing), UTC of the newest, and `broken`: after them the stretch ends.

    `held`: there is more, of a time that was not asked for yet.
    """

    samples: Samples | None
    newest_ns: int
    broken: bool
    held: bool = False


class Feed:
    """Takes AUs in decode order along one stretch (no break in it). Media time 0 is `wall0_ns`; that moves if the rows' UTC is shifted.

    `skip_leading`: the first access point's leading pictures are left out. All DTS come after `after_dts`. Loop thread only.
    """

    def __init__(self, reader: TrackReader, place: Place, wall0_ns: int, entry: SampleEntry, *, skip_leading: bool = True,
                 after_dts: int | None = None) -> None:
        self.reader, self.entry, self.wall0_ns = reader, entry, wall0_ns
        self.place = place
        self.hz = entry.clock_rate
        self._seen_bytes = -1
        self._seen: tuple[int, int] | None = None     # the place's row as it was: number and t_ns
        self._anchor: int | None = None
        self._last_dts = after_dts
        self._skip_leading = skip_leading

    def news(self) -> bool:
        """True if bytes have become visible since the last `take`: one look at the live block."""
        return visible_bytes(self.reader) != self._seen_bytes

    def take(self, rows: int, *, keys: bool = False, until_ns: int | None = None) -> Taken:
        """What is new in the next `rows` rows, up to the first break and before `until_ns`. With `keys` only access points, each lasting to
        the next."""
        visible = visible_bytes(self.reader)
        run = self.reader.rows_from(self.place.row, rows + 1)
        if len(run) and run.first != self.place.row:
            raise Gone("the footage has been retired", where=self.reader.where, remedy="ask for a later time")
        footage = load(self.reader, run)
        if not len(footage):
            self._seen_bytes = visible
            return Taken(None, 0, False)
        self._follow_shift(run)
        stop, broken = _stretch(footage, self.entry)
        if held := until_ns is not None and bool((late := footage.wall_ns[self.place.sent:stop] >= until_ns).any()):
            stop, broken = self.place.sent + int(np.argmax(late)), False
        self._seen_bytes = -1 if broken or held or len(run) > rows else visible
        chosen = np.arange(min(self.place.sent, stop), stop)
        anchors = footage.anchors(Timeline.plain(self.wall0_ns), self.hz, slack_ns=AUDIO_SLACK_NS, first=self._anchor)
        self._move_on(footage, anchors, stop)
        chosen = self._wanted(footage, chosen, keys=keys)
        if not len(chosen):
            return Taken(None, 0, broken, held)
        samples = self._rising(footage.place(chosen, anchors, self.hz), keys=keys)
        if keys:
            samples = replace(samples, last_dur=max(1, int(run.rows["media_dur"][footage.row[chosen[-1]]])))
        return Taken(samples, int(footage.wall_ns[chosen].max()), broken, held)

    def _follow_shift(self, run: RowRun) -> None:
        """Rows of a young session move once, all by the same: media time stays, its zero moves."""
        t_ns = int(run.rows["t_ns"][0])
        if self._seen is not None and self._seen[0] == run.first:
            self.wall0_ns += t_ns - self._seen[1]

    def _move_on(self, footage: Footage, anchors: Int64, stop: int) -> None:
        """The new place: after AU `stop` - 1, in its row."""
        if stop == 0:
            return
        index = int(footage.row[stop - 1])
        self.place = Place(footage.run.first + index, stop - int(footage.first_au[index]))
        self._anchor = int(anchors[index])
        self._seen = (self.place.row, int(footage.run.rows["t_ns"][index]))

    def _wanted(self, footage: Footage, chosen: Int64, *, keys: bool) -> Int64:
        """Without what cannot be decoded, or is not asked for."""
        if keys:
            return chosen[footage.key[chosen]]
        if self._skip_leading and len(chosen):
            later = np.flatnonzero(footage.key[chosen[1:]])
            first_group = chosen[:int(later[0]) + 1] if len(later) else chosen
            self._skip_leading = not len(later)
            keep = ~footage.leading[first_group]
            return np.concatenate((first_group[keep], chosen[len(first_group):]))
        return chosen

    def _rising(self, samples: Samples, *, keys: bool) -> Samples:
        """DTS after all that was taken before; key pictures alone are shown in decode order, so DTS is PTS."""
        dts = samples.pts if keys else samples.dts
        if self._last_dts is not None:
            dts = np.maximum(dts, self._last_dts + 1 + np.arange(len(dts)))
        self._last_dts = int(dts[-1])
        samples = replace(samples, dts=dts, cts=np.zeros_like(dts)) if keys else samples.decoded(dts)
        return replace(samples, entry=np.ones_like(samples.entry))


def _stretch(footage: Footage, entry: SampleEntry) -> tuple[int, bool]:
    """AUs of the run up to the first row that does not lead on or is coded otherwise, and whether there is one."""
    entries, of_row, _ = footage.rates()
    ends = footage.breaks[1:] | np.array([entries[index] != entry for index in of_row[1:].tolist()], np.bool_)
    found = np.flatnonzero(ends)
    return (int(footage.first_au[found[0] + 1]), True) if len(found) else (len(footage), False)


def visible_bytes(reader: TrackReader) -> int:
    """The tape offset up to which there is something to read."""
    found = reader.live.locate()
    return found[2].visible_offset if found is not None else reader.edges().visible_offset


def newest_access_point(track: Track) -> Start | None:
    """The newest access point; None while the track is empty."""
    reader = track.newest
    edges = reader.edges()
    last = max(edges.next_row - (0 if edges.has_open else 1), edges.first_row)
    return _access_point(load(reader, from_access_point(reader, reader.rows_from(last, 2))))


def _access_point(footage: Footage) -> Start | None:
    keys = np.flatnonzero(footage.key)
    return _start_at(footage, int(keys[-1])) if len(keys) else None


def _start_at(footage: Footage, au: int) -> Start:
    index = int(footage.row[au])
    entries, of_row, _ = footage.rates()
    entry = entries[int(of_row[index])]
    place = Place(footage.run.first + index, au - int(footage.first_au[index]))
    return Start(footage.reader, place, int(footage.wall_ns[au]), entry)


def next_stretch(track: Track, reader: TrackReader, after_row: int) -> Start | None:
    """The track's first access point behind row `after_row` of the tape `reader`; None while there is none."""
    found = [_first_key(reader, after_row + 1), *(_first_key(tape, number) for tape, number in elsewhere(track, reader, after_row))]
    return min((start for start in found if start is not None), key=lambda start: start.time_ns, default=None)


def elsewhere(track: Track, reader: TrackReader, after_row: int) -> list[tuple[TrackReader, int]]:
    """Other tapes with rows behind row `after_row` of the tape `reader`, each with the number of the first."""
    others = [tape for tape in track.tapes if tape is not reader]
    end_ns = reader.rows_from(after_row, 1).end_ns if others else 0
    return [(tape, found[0]) for tape in others if end_ns and (found := tape.row_from(end_ns, provisional=True)) is not None]


def _first_key(reader: TrackReader, number: int) -> Start | None:
    footage = load(reader, reader.rows_from(number, 4))
    keys = np.flatnonzero(footage.key)
    return _start_at(footage, int(keys[0])) if len(keys) else None


def first_row_from(reader: TrackReader, time_ns: int) -> int:
    """Number of the first row that starts at or after `time_ns`; the number after the last row if there is none."""
    edges = reader.edges()
    low, high = edges.first_row, edges.next_row + int(edges.has_open)
    while low < high:
        middle = (low + high) // 2
        run = reader.rows_from(middle, 1)
        if len(run) and run.first == middle and run.start_ns < time_ns:
            low = middle + 1
        else:
            high = middle
    return low


def access_point_from(reader: TrackReader, time_ns: int) -> Start | None:
    """The tape's first access point at or after a time; None while there is none."""
    number = first_row_from(reader, time_ns)
    while len(run := reader.rows_from(number, 4)):
        footage = load(reader, run)
        keys = np.flatnonzero(footage.key & (footage.wall_ns >= time_ns))
        if len(keys):
            return _start_at(footage, int(keys[0]))
        number = run.next
    return None


def access_point_for(track: Track, time_ns: int) -> Start | None:
    """The access point that the picture of `time_ns` needs, or the first one after a gap there; None: nothing is recorded so late."""
    found = (_access_point_for(tape, time_ns) for tape in track.tapes)
    return min((start for start in found if start is not None), key=lambda start: start.time_ns, default=None)


def _access_point_for(reader: TrackReader, time_ns: int) -> Start | None:
    number = first_row_from(reader, time_ns)
    first = max(number - 3, reader.edges().first_row)
    footage = load(reader, from_access_point(reader, reader.rows_from(first, 6)))
    if not len(footage):
        return None
    found = pick(footage, time_ns, int(footage.wall_ns.max()) + 1)
    return _start_at(footage, int(found.chosen[0])) if found is not None else None


def newest_row(track: Track, before_ns: int) -> tuple[TrackReader, int, int] | None:
    """The newest row that starts before a time: its tape and number, and when the newest such row of another tape starts (0: none)."""
    found = sorted((row[1], rank, row[0], tape) for rank, tape in enumerate(track.tapes) if (row := tape.row_at(before_ns - 1)) is not None)
    if not found:
        return None
    return found[-1][3], found[-1][2], found[-2][0] if len(found) > 1 else 0
