"""Live HLS of a track as a function of its rows alone: a segment is a row, a part is what a row has in half a second of its media time.

So every process names the same segments and parts, and gives the same bytes for a name. Media time 0 is the Thursday midnight before, as weeks
are counted since 1970. A segment's number is its row's, on top of the rows of the track's other tapes, which are written no more.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from api.footage import Footage, Timeline, load
from api.mp4.samples import Int64, Samples
from api.playlist import on_volume
from recorder.base.errors import Gone, NotFound
from recorder.base.media import NS, RowFlag
from storage.footage import RowRun, Rows
from storage.reader import TrackReader

PART_NS = NS // 2
WEEK_NS = 7 * 86_400 * NS
WEEK_MAX = (1 << 63) // WEEK_NS - 1
WINDOW_NS = 60 * NS           # of a playlist
WINDOW_ROWS = 256
GOP_MAX_NS = 6 * NS           # access points farther apart: no parts, since a viewer would wait for the next one anyway
_NAME = re.compile(r"(\d{1,4})-(\d{1,12})-(\d{1,5})(-cut)?(?:-p(\d{1,3}))?(?:-v(\d{1,3}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class LiveName:
    """Row `row` (coded as `entry`), or its part `part`, with media time 0 at the start of `week`. `cut`: it follows on nothing, so what its
    access point's leading pictures refer to is not there. `place`: of the volume whose tape it is on.
    """

    week: int
    row: int
    entry: int
    cut: bool = False
    part: int | None = None
    place: int = 0

    def __str__(self) -> str:
        part = "" if self.part is None else f"-p{self.part}"
        return f"{self.week}-{self.row}-{self.entry}{'-cut' * self.cut}{part}{on_volume(self.place)}"

    def of_part(self, part: int) -> "LiveName":
        """The name of a part of the row."""
        return replace(self, part=part)

    @classmethod
    def parse(cls, text: str) -> "LiveName":
        """The name in an address; NotFound."""
        found = _NAME.fullmatch(text)
        if found is None or int(found[1]) > WEEK_MAX:
            raise NotFound("there is no such segment")
        part = int(found[5]) if found[5] is not None else None
        return cls(int(found[1]), int(found[2]), int(found[3]), found[4] is not None, part, int(found[6] or 0))


@dataclass(frozen=True, slots=True)
class LivePart:
    """Samples [first, stop) of a row, and how long they last."""

    first: int
    stop: int
    lasts_ns: int


@dataclass(frozen=True, slots=True)
class LiveRow:
    """A segment as a playlist tells of it. `discontinuity` counts those before it; `parts` are those that are complete."""

    name: LiveName
    start_ns: int
    lasts_ns: int
    discontinuity: int
    leads: bool                     # it begins with an access point
    closed: bool
    parts: tuple[LivePart, ...]


@dataclass(frozen=True, slots=True)
class LiveWindow:
    """The newest minute of a track: rows in order, the number of the first as a segment, and the largest distance of access points."""

    rows: tuple[LiveRow, ...]
    sequence: int
    gop_ns: int

    @property
    def quick(self) -> bool:
        """True if parts make sense: else viewers get whole segments."""
        return self.gop_ns <= GOP_MAX_NS

    def has(self, sequence: int, part: int | None) -> bool:
        """True once there is that part of segment `sequence` (None: all of it). A part behind a segment's last is the next one's first
        (RFC 8216bis 6.2.5.2)."""
        at = sequence - self.sequence
        if not 0 <= at < len(self.rows):
            return at < 0
        row = self.rows[at]
        if part is None or part < len(row.parts):
            return row.closed or part is not None
        return row.closed and self.has(sequence + 1, 0)


def parts_of(dts: Int64, end: int, hz: int, *, closed: bool) -> tuple[LivePart, ...]:
    """The complete parts of a row: `dts` are its samples' ticks, `end` where it ends as far as known. A part ends where one of the next
    half second begins, so while the row is open the newest is not complete.
    """
    cells = (dts - dts[0]) * NS // hz // PART_NS
    starts = np.concatenate(([0], np.flatnonzero(np.diff(cells)) + 1))
    edges = np.append(dts[starts], end)
    stops = np.append(starts[1:], len(dts))
    count = len(starts) if closed else len(starts) - 1
    return tuple(LivePart(int(starts[n]), int(stops[n]), int(edges[n + 1] - edges[n]) * NS // hz) for n in range(count))


class KnownRows:
    """Closed rows as segments, by place: they change no more, and a playlist is asked for twice a second. Any thread."""

    def __init__(self, rows: int = 20_000) -> None:
        self._rows_max = rows
        self._known: dict[tuple[int, str, int, int], tuple[int, LiveRow]] = {}

    def get(self, reader: TrackReader, number: int, crc: int) -> LiveRow | None:
        """The row of that number, if it is the same one still."""
        found = self._known.get((reader.camera, reader.name, reader.place, number))
        return found[1] if found is not None and found[0] == crc else None

    def put(self, reader: TrackReader, crc: int, row: LiveRow) -> None:
        """Keep it; when there are too many all are forgotten."""
        if len(self._known) >= self._rows_max:
            self._known.clear()
        self._known[reader.camera, reader.name, reader.place, row.name.row] = crc, row


def window(reader: TrackReader, before: int, known: KnownRows) -> LiveWindow:
    """What there is now; `before`: rows of the track's other tapes."""
    edges = reader.edges()
    run = reader.rows_from(max(edges.first_row, edges.next_row - WINDOW_ROWS), WINDOW_ROWS + 1, provisional=False)
    times = run.rows["t_ns"]
    skip = int(np.searchsorted(times, int(times[-1]) - WINDOW_NS)) if len(times) else 0
    found = [known.get(reader, run.first + index, int(run.rows["crc"][index])) for index in range(skip, len(times))]
    new = next((index for index, row in enumerate(found, skip) if row is None), len(times))
    lead = min(1, new)              # the row before says whether the first one leads on
    footage = load(reader, RowRun(run.first + new - lead, run.rows[new - lead:]))
    fresh = [_row(footage, index) for index in range(lead, len(footage.run.rows))]
    for row, crc in zip(fresh, run.rows["crc"][new:].tolist(), strict=False):
        if row.closed:
            known.put(reader, crc, row)
    rows = (*(row for row in found[:new - skip] if row is not None), *fresh)
    return LiveWindow(rows, before + run.first + skip, _gop_ns(rows))


def _row(footage: Footage, index: int) -> LiveRow:
    row = footage.run.rows[index]
    start_ns, number = int(row["t_ns"]), footage.run.first + index
    hz, closed = int(footage.rates()[2][index]), not row["flags"] & RowFlag.OPEN
    cut = bool(footage.breaks[index]) and number > 0
    name = LiveName(start_ns // WEEK_NS, number, int(row["sample_entry"]), cut, None, footage.reader.place)
    chosen = _chosen(footage, index, cut=cut)
    first, lasts = int(footage.aus.dts[footage.first_au[index]]), int(row["media_dur"])
    parts = parts_of(footage.aus.dts[chosen], first + lasts, hz, closed=closed) if len(chosen) else ()
    return LiveRow(name, start_ns, lasts * NS // hz, int(row["session"]) + start_ns // WEEK_NS, not row["flags"] & RowFlag.CONTINUED,
                   closed, parts)


def _gop_ns(rows: Sequence[LiveRow]) -> int:
    """The largest distance between access points, up to now; longer than any where there is none."""
    since_ns, longest_ns = None, 0 if not rows or any(row.leads for row in rows) else GOP_MAX_NS + 1
    for row in rows:
        if row.name.cut or row.leads:
            if since_ns is not None and not row.name.cut:
                longest_ns = max(longest_ns, row.start_ns - since_ns)
            since_ns = row.start_ns if row.leads else None
    if since_ns is not None:
        longest_ns = max(longest_ns, rows[-1].start_ns + rows[-1].lasts_ns - since_ns)
    return longest_ns


def _native(rows: Rows) -> Rows:
    """The rows with nothing but their AUs' own distances: what share of UTC a row has changes while it grows, and a name's bytes never do."""
    out = rows.copy()
    out["wall_dur_us"] = np.iinfo(np.uint32).max
    return out


def _chosen(footage: Footage, index: int, *, cut: bool) -> Int64:
    """Indices of a row's AUs that can be shown."""
    mine = np.flatnonzero(footage.row == index)
    if not cut:
        return mine
    keys = mine[footage.key[mine]]
    after = int(keys[1]) if len(keys) > 1 else len(footage)
    return mine[~(footage.leading[mine] & (mine < after))]


def samples_of(reader: TrackReader, name: LiveName) -> Samples | None:
    """The samples of a segment or part; None while it is not complete. NotFound, Gone."""
    run = reader.rows_from(name.row, 1, provisional=False)
    if not len(run):
        return None
    if run.first > name.row:
        raise Gone("this footage has been retired", where=reader.where)
    row = run.rows[0]
    if int(row["sample_entry"]) != name.entry or int(row["t_ns"]) // WEEK_NS != name.week:
        raise NotFound("there is no such segment")
    footage = load(reader, RowRun(run.first, _native(run.rows)))
    closed = not row["flags"] & RowFlag.OPEN
    if not len(footage) or (name.part is None and not closed):
        return None
    return _placed(footage, name, closed=closed)


def _placed(footage: Footage, name: LiveName, *, closed: bool) -> Samples | None:
    hz = int(footage.rates()[2][0])
    chosen = _chosen(footage, 0, cut=name.cut)
    if not len(chosen):
        raise NotFound("there is no such segment")
    end = int(footage.aus.dts[0]) + int(footage.run.rows["media_dur"][0])
    anchors = footage.anchors(Timeline.plain(name.week * WEEK_NS), hz)
    samples = footage.place(chosen, anchors, hz)
    samples = replace(samples, entry=np.ones_like(samples.entry)).at_once()
    if name.part is None:
        return samples
    parts: Sequence[LivePart] = parts_of(footage.aus.dts[chosen], end, hz, closed=closed)
    if name.part >= len(parts):
        if closed:
            raise NotFound("there is no such part")
        return None
    part = parts[name.part]
    return samples.slice(part.first, part.stop)
