"""A native master: an MP4 whose media are whole rows, byte for byte as they lie on the tapes, so that each can be proved against its seal.

The tables show what the clip of the same range shows; what cannot be decoded is there as well, in no table.
Rows are whole, so the file may hold up to a row (about a second) more at each end.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from api.clipplan import MARGIN_NS, Shot, by_tape
from api.exports.job import Item
from api.exports.plan import FilePlan, joined
from api.footage import PLACE_SHIFT, from_access_point
from api.mp4.clip import Extents, build_around
from api.mp4.samples import Int64
from storage.footage import RowRun, row_ends
from storage.reader import TrackReader
from storage.rowseals import ChunkSeal, row_seals
from storage.store import TapeStore
from storage.track import Track

HEADING = "at,bytes,track,row,start_ns,end_ns,crc32c,leaf,record,entries\n"


class Shifted(Exception):
    """A sample lies in none of the rows: footage came under a hold's copy between two looks."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row in a file: where it lies, on which tape, which it is; its line of the list without its place in the file."""

    track: int
    offset: int
    size: int
    start_ns: int
    line: str
    chunk: ChunkSeal | None


def master(store: TapeStore, item: Item, shot: Shot) -> FilePlan:
    """The file and the list of its rows; `about` is the caller's to fill in. Raises Shifted."""
    names = shot.shown.tracks
    rows = [row for number, (name, media) in enumerate(zip(names, shot.tracks, strict=True))
            for row in _rows(store.whole(item.number, name), number, item, media.samples.offset)]
    rows.sort(key=lambda row: (row.start_ns, row.track))
    sizes = np.array([row.size for row in rows], np.int64)
    runs = Extents(np.array([row.track for row in rows], np.int64), np.array([row.offset for row in rows], np.int64), sizes,
                   np.cumsum(sizes) - sizes)
    for number, media in enumerate(shot.tracks):
        _inside(runs, number, media.samples.offset, media.samples.size)
    movie, tapes = by_tape(build_around(shot.tracks, runs, shot.shown.start_ns), [(item.number, name) for name in names])
    listed = [f"{at},{row.size},{names[row.track]},{row.line}\n" for at, row in zip(movie.extents.at.tolist(), rows, strict=True)]
    return FilePlan(movie.head, joined(movie.extents), tapes, {}, "".join([HEADING, *listed]).encode(), _chunks(names, rows))


def _chunks(names: Sequence[str], rows: Iterable[_Row]) -> bytes:
    """The sealed chunks that the rows are of, as JSON: their leaves and items, over which the digest is that a signed head names."""
    found = dict.fromkeys((row.track, row.chunk) for row in rows if row.chunk is not None)
    said = [{"track": names[track], **{key: one.hex() if isinstance(one, bytes) else one for key, one in asdict(chunk).items()}}
            for track, chunk in found]
    return json.dumps(said, indent=1).encode()


def _rows(track: Track, number: int, item: Item, samples: Int64) -> list[_Row]:
    """The rows that overlap the item or hold one of the samples."""
    found: list[_Row] = []
    for piece in track.pieces(item.start_ns - MARGIN_NS, item.end_ns + MARGIN_NS, durable=True):
        found += _of_run(piece.tape, from_access_point(piece.tape, piece.run), number, item, samples)
    return found


def _of_run(tape: TrackReader, run: RowRun, number: int, item: Item, samples: Int64) -> list[_Row]:
    rows, ends = run.rows, row_ends(run.rows)
    offset = rows["offset"].astype(np.int64) + (tape.place << PLACE_SHIFT)
    used = np.searchsorted(samples_of := np.sort(samples), offset + rows["bytes"]) > np.searchsorted(samples_of, offset)
    wanted = used | ((rows["t_ns"] < item.end_ns) & (ends > item.start_ns))
    seals = row_seals(tape, run)
    out = []
    for at in np.flatnonzero(wanted).tolist():
        row, seal = rows[at], seals[at]
        proof = f"{seal.leaf.hex()},{seal.record.hex()},{seal.entries.hex()}" if seal is not None else ",,"
        line = f"{run.first + at},{int(row['t_ns'])},{int(ends[at])},{int(row['data_crc'])},{proof}"
        out.append(_Row(number, int(offset[at]), int(row["bytes"]), int(row["t_ns"]), line, seal.chunk if seal is not None else None))
    return out


def _inside(runs: Extents, number: int, offset: Int64, size: Int64) -> None:
    """Raises Shifted unless every sample of a track lies in one of its runs."""
    of_track = runs.track == number
    order = np.argsort(runs.offset[of_track])
    starts, ends = runs.offset[of_track][order], (runs.offset + runs.size)[of_track][order]
    at = np.searchsorted(starts, offset, side="right") - 1
    if not len(starts) or (at < 0).any() or (offset + size > ends[at]).any():
        raise Shifted
