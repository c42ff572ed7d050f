"""Rows of a track with their AUs, made ready for players: which AUs can be decoded, and where they stand on a presentation timeline."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from api.mp4.samples import Int64, Samples
from recorder._ext import samples as kernel
from recorder.base.errors import Conflict
from recorder.base.media import NS, AuFlag, RowFlag, SampleEntry
from storage.footage import Entries, RowRun
from storage.layout import ROW
from storage.reader import TrackReader
from storage.track import Piece, Track

Bools = NDArray[np.bool_]
BREAK_NS = 20_000_000         # DTS that do not meet within this are a break in the footage
SQUEEZE_US = 20_000           # a row may be so much longer by its camera's clock than by ours: half a picture
BACK_ROWS = 32                # a picture group has at most about 30 s: a row that continues another is at most so many after its start
PLACE_SHIFT = 56              # offsets of joined footage bear the place of their tape's volume above this bit

Codings = tuple[tuple[SampleEntry, ...], Int64, Int64]


@dataclass(frozen=True, slots=True)
class Timeline:
    """UTC as presentation time in ns: 0 at `zero_ns`; the stretches [cut_start, cut_end) (sorted, disjoint) take no time."""

    zero_ns: int
    cut_start: Int64
    cut_end: Int64

    @classmethod
    def plain(cls, zero_ns: int) -> "Timeline":
        """Media time is wall time."""
        return cls(zero_ns, np.zeros(0, np.int64), np.zeros(0, np.int64))

    def at(self, wall_ns: Int64) -> Int64:
        """Presentation times; all times of a cut are the time of its start."""
        before = np.searchsorted(self.cut_start, wall_ns, side="right")
        over = np.where(before > 0, np.append(self.cut_end, 0)[before - 1] - wall_ns, 0) if len(self.cut_end) else 0
        return np.asarray(wall_ns - self.zero_ns - self.removed(wall_ns) + np.maximum(over, 0), np.int64)

    def removed(self, wall_ns: Int64) -> Int64:
        """How long the cuts that begin before each time are together: a time in a cut counts from the cut's end."""
        lengths = np.concatenate(([0], np.cumsum(self.cut_end - self.cut_start)))
        return np.asarray(lengths[np.searchsorted(self.cut_start, wall_ns, side="right")], np.int64)

    def cut_out(self, wall_ns: Int64) -> Bools:
        """True for times that lie in a cut."""
        before = np.searchsorted(self.cut_start, wall_ns, side="right")
        return (before > 0) & (wall_ns < np.append(self.cut_end, 0)[before - 1])


def ticks(time_ns: Int64, hz: int) -> Int64:
    """Nanoseconds as the nearest ticks, exact over the whole range of int64 UTC."""
    seconds, rest = np.divmod(np.asarray(time_ns, np.int64), NS)
    return np.asarray(seconds * hz + (rest * hz + NS // 2) // NS, np.int64)


@dataclass(frozen=True, slots=True)
class Footage:
    """A run of rows and its AUs. `breaks` marks rows that do not lead on from the row before; the first is always one."""

    reader: TrackReader
    run: RowRun
    aus: Entries
    key: Bools
    breaks: Bools
    codings: Codings

    def __len__(self) -> int:
        return len(self.aus)

    @property
    def row(self) -> Int64:
        """For each AU the index of its row in the run."""
        return self.aus.row.astype(np.int64)

    @property
    def wall_ns(self) -> Int64:
        """UTC of each AU's presentation."""
        return self.aus.wall_ns

    @property
    def first_au(self) -> Int64:
        """Index of the first AU of each row; every row has one."""
        return _first_au(self.run)

    def rates(self) -> Codings:
        """The sample entries met, in order; for each row its index in them and the clock rate of its ticks."""
        return self.codings

    def decodable(self) -> Bools:
        """AUs whose references are all here: not those before the first access point after a break, not leading ones right after it."""
        return self.references()[0]

    def references(self) -> tuple[Bools, Int64]:
        """The same, and for each AU the index of the newest access point up to it, -1 where there is none."""
        good, last_key = kernel.decodable(self.aus.row, self.aus.flags, self.breaks.view(np.uint8))
        return good.view(np.bool_), last_key

    def last_key(self) -> Int64:
        """For each AU the index of the newest access point up to it, -1 where there is none."""
        return self.references()[1]

    @property
    def leading(self) -> Bools:
        """AUs that precede their access point in output order."""
        return np.asarray(self.aus.flags & AuFlag.LEADING, np.bool_)

    @property
    def segment(self) -> Int64:
        """For each AU the number of breaks up to it."""
        return np.cumsum(self.breaks)[self.row].astype(np.int64)

    def segment_of(self, au: int) -> tuple[int, int]:
        """First AU, and the one after the last, of the stretch without a break that `au` lies in."""
        starts = np.append(self.first_au[self.breaks], len(self))
        at = int(np.searchsorted(starts, au, side="right"))
        return int(starts[at - 1]), int(starts[at])

    def anchors(self, timeline: Timeline, hz: int, *, slack_ns: int = 0, first: int | None = None) -> Int64:
        """For each row the presentation time, in ticks of `hz`, of its `media_pts`: its UTC on the timeline (of a row that begins in a cut
        the time from which its AUs after the cut follow).

        With `slack_ns` a row that leads on from its predecessor is left where that ends unless it would be off by more. `first` is where
        the first row stands already.
        """
        rows = self.run.rows
        t_ns = rows["t_ns"].astype(np.int64)
        out = ticks(t_ns - timeline.zero_ns - timeline.removed(t_ns), hz)
        if first is not None and len(out):
            out[0] = first
        native = np.asarray(np.diff(rows["media_pts"].astype(np.int64)) * hz // self.rates()[2][1:], np.int64)
        return kernel.smooth(out, native, self.breaks.view(np.uint8), slack_ns * hz // NS) if slack_ns else out

    def place(self, chosen: Int64, anchors: Int64, hz: int, *, cuts: Timeline | None = None) -> Samples:
        """The chosen AUs (rising indices) as samples in ticks of `hz`, entries numbered as in `rates`.

        The AUs of a row keep their native distances around its anchor, less the `cuts` that lie between it and them; those of a row that took
        less time than that (`_squeeze`) share its time. DTS are made to rise strictly; PTS stay as they are, but for what would be shown
        before it is decoded.
        """
        _, entry, rate = self.rates()
        less, aus = None, self.aus
        if cuts is not None and len(cuts.cut_start):
            t_ns = self.run.rows["t_ns"].astype(np.int64)[aus.row[chosen]]
            less = ticks(cuts.removed(self.wall_ns[chosen]) - cuts.removed(t_ns), hz)
        base = self.run.rows["media_pts"].astype(np.int64)
        size, dts, cts, number, offset, row = kernel.place(chosen, aus.row, aus.dts, aus.cts, aus.size, aus.offset, anchors, base, rate, entry,
                                                           less, self._squeeze(), hz, self.run.first)
        last = max(1, int(aus.dur[chosen[-1]]) * hz // int(rate[aus.row[chosen[-1]]])) if len(chosen) else 0
        return Samples(size, dts, cts, self.key[chosen], number, offset, row, last)

    def _squeeze(self) -> NDArray[np.float64] | None:
        """For each row by what its native distances are to be multiplied: less than 1 where its session's clock was set back within it, so
        that its AUs would run into those of the next row. None: nowhere."""
        rows = self.run.rows
        native_us = rows["media_dur"].astype(np.int64) * 1_000_000 // self.rates()[2]
        wall_us = rows["wall_dur_us"].astype(np.int64)
        late = native_us - wall_us > SQUEEZE_US
        return np.where(late, wall_us / np.maximum(native_us, 1), 1.0) if late.any() else None


def load(reader: TrackReader, run: RowRun) -> Footage:
    """The AUs of a run. Rows whose entries are not there (a durable mark inside the open row) are left out."""
    aus = reader.entries(run)
    rows = int(aus.row[-1]) + 1 if len(aus) else 0
    if rows != len(run.rows):
        run = RowRun(run.first, run.rows[:rows])
    return Footage(reader, run, aus, (aus.flags & AuFlag.KEY) != 0, _breaks(run, aus), _codings(reader, run))


def _codings(reader: TrackReader, run: RowRun) -> Codings:
    entries: list[SampleEntry] = []
    index: dict[int, int] = {}
    numbers = run.rows["sample_entry"].tolist()
    for number in dict.fromkeys(numbers):
        entry = reader.sample_entry(number)
        if entry not in entries:
            entries.append(entry)
        index[number] = entries.index(entry)
    of_row = np.array([index[number] for number in numbers], np.int64)
    return tuple(entries), of_row, np.array([entry.clock_rate for entry in entries], np.int64)[of_row]


def load_range(reader: TrackReader, start_ns: int, end_ns: int, *, durable: bool) -> Footage:
    """All rows of a tape that overlap [start, end), from a row on that starts at an access point."""
    return load(reader, from_access_point(reader, reader.rows(start_ns, end_ns, durable=durable)))


def load_pieces(track: Track, start_ns: int, end_ns: int, *, durable: bool) -> list[Footage]:
    """The same of a track, tape by tape; without those whose disk cannot read it, if there are others."""
    return track.without_sick(lambda: _loaded(track.pieces(start_ns, end_ns, durable=durable)), start_ns, end_ns, entries=True)


def _loaded(pieces: Sequence[Piece]) -> list[Footage]:
    return [made for piece in pieces if len(made := load(piece.tape, from_access_point(piece.tape, piece.run)))]


def load_track(track: Track, start_ns: int, end_ns: int, *, durable: bool) -> Footage:
    """The same as one footage, with a break where tapes change; its offsets say what tape they are of (`place_of`).

    Its reader is one of them; row numbers mean no more in it than that the AUs of a row share one.
    """
    return _joined(load_pieces(track, start_ns, end_ns, durable=durable) or [load(track.newest, RowRun(0, np.empty(0, ROW)))])


def _joined(parts: list[Footage]) -> Footage:
    if len(parts) == 1 and parts[0].reader.place == 0:
        return parts[0]
    first = [0, *np.cumsum([len(part.run.rows) for part in parts]).tolist()]
    run = RowRun(parts[0].run.first if len(parts) == 1 else 0, np.concatenate([part.run.rows for part in parts]))
    columns = {f.name: np.concatenate([getattr(part.aus, f.name) for part in parts]) for f in fields(Entries)}
    columns["offset"] = np.concatenate([part.aus.offset + np.uint64(part.reader.place << PLACE_SHIFT) for part in parts])
    columns["row"] = np.concatenate([part.aus.row + np.uint32(at) for part, at in zip(parts, first, strict=False)])
    aus = Entries(**columns)
    entries = tuple(dict.fromkeys(entry for part in parts for entry in part.codings[0]))
    of_row = [np.array([entries.index(entry) for entry in part.codings[0]], np.int64)[part.codings[1]] for part in parts]
    rates = np.concatenate([part.codings[2] for part in parts])
    keys, breaks = np.concatenate([part.key for part in parts]), np.concatenate([part.breaks for part in parts])
    return Footage(parts[0].reader, run, aus, keys, breaks, (entries, np.concatenate(of_row), rates))


def place_of(offset: Int64) -> tuple[Int64, Int64]:
    """The places of the volumes that joined footage's offsets lie on, and the offsets on the tapes there."""
    return offset >> PLACE_SHIFT, offset & ((1 << PLACE_SHIFT) - 1)


def from_access_point(reader: TrackReader, run: RowRun) -> RowRun:
    """The run with the rows in front that its first row continues."""
    if not len(run) or not run.rows["flags"][0] & RowFlag.CONTINUED:
        return run
    first = max(reader.edges().first_row, run.first - BACK_ROWS)
    before = reader.rows_from(first, run.first - first)
    if before.next != run.first:
        return run
    starts = np.flatnonzero((before.rows["flags"] & RowFlag.CONTINUED) == 0)
    skip = int(starts[-1]) if len(starts) else 0
    return RowRun(before.first + skip, np.concatenate((before.rows[skip:], run.rows)))


def _first_au(run: RowRun) -> Int64:
    aus = run.rows["aus"].astype(np.int64)
    return np.asarray(np.cumsum(aus) - aus, np.int64)


def _breaks(run: RowRun, aus: Entries) -> Bools:
    """True for the first row and where a session, or the chain of DTS, or the row's own flag says that media time does not lead on."""
    rows = run.rows
    if not len(rows):
        return np.zeros(0, np.bool_)
    first_dts = aus.dts[_first_au(run)]
    off = np.abs(np.diff(first_dts) - rows["media_dur"][:-1].astype(np.int64))
    native_ns = np.maximum(1, rows["wall_dur_us"][:-1].astype(np.int64) * 1000 // np.maximum(1, rows["media_dur"][:-1].astype(np.int64)))
    follows = (np.diff(rows["session"].astype(np.int64)) == 0) & (off * native_ns <= BREAK_NS)
    follows &= (rows["flags"][1:] & RowFlag.DISCONTINUITY) == 0
    return np.concatenate(([True], ~follows))


def one_codec(entries: tuple[SampleEntry, ...]) -> None:
    """Raises Conflict if a camera changed its codec inside the footage: no track of a file may."""
    if len({entry.codec for entry in entries}) > 1:
        names = " to ".join(dict.fromkeys(entry.codec for entry in entries))
        raise Conflict(f"the camera's codec changes within this range ({names})", remedy="ask for the parts one by one")
