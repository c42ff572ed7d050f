"""Many pictures of a track as one JPEG: which ones (from the index), and the JPEG (from decoder processes), cell by cell."""

import asyncio
from dataclasses import dataclass

from api.decoder.pool import DecoderFailed
from api.decoder.wire import SheetJob
from api.media import Media
from api.picture import decoded, etag_of
from api.problems import Problem
from api.wanted import SHOWN_NS, Wanted, find, nearest_key, video
from recorder.base.errors import Gone, NotFound, Unreadable
from recorder.base.media import Gap
from storage.store import TapeStore
from storage.track import Track

AT_ONCE = 2                   # cells of one sheet that wait for a decoder: the queue is everybody's
PIXELS_MAX = 32 << 20
HIGH_MAX = 2                  # a cell is at most so many times as high as wide
NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class SheetQuery:
    """What is asked for: `count` cells at equal distances from `start` on. `exact`: the picture shown then, else the nearest access point."""

    camera: int
    track: str
    start_ns: int
    end_ns: int
    columns: int
    count: int
    width: int
    exact: bool = False

    def at(self, cell: int) -> int:
        """UTC of a cell; of `count` the end."""
        return self.start_ns + (self.end_ns - self.start_ns) * cell // self.count


@dataclass(frozen=True, slots=True)
class Sheet:
    """A planned sheet: a picture per cell (None: none was there) of `width` x `height`; `causes` says why of those that lie in a gap."""

    query: SheetQuery
    height: int
    cells: tuple[Wanted | None, ...]
    causes: tuple[str | None, ...]

    @property
    def rows(self) -> int:
        """Rows of cells."""
        return -(-self.query.count // self.query.columns)

    @property
    def key(self) -> tuple[object, ...]:
        """What makes this sheet this sheet."""
        return self.query.columns, tuple(cell and cell.key(self.query.width, self.height) for cell in self.cells)

    @property
    def etag(self) -> str:
        """Strong: the same pictures have the same one."""
        return etag_of(self.key)

    def place(self, cell: int) -> tuple[int, int]:
        """x and y of a cell in pixels."""
        return cell % self.query.columns * self.query.width, cell // self.query.columns * self.height


def plan(store: TapeStore, query: SheetQuery) -> Sheet:
    """The sheet. Raises NotFound, Gone (all of it retired), Problem 400 when it would be too large."""
    track = video(store.whole(query.camera, query.track))
    within_ns = max((query.end_ns - query.start_ns) // query.count // 2, SHOWN_NS)
    times = [query.at(cell) for cell in range(query.count)]
    cells = tuple(_shown(track, time_ns) if query.exact else nearest_key(track, time_ns, within_ns) for time_ns in times)
    bounds = track.bounds()
    if not any(cells) and bounds.retired and query.end_ns <= bounds.first_ns:
        raise Gone("this footage has been retired", where=track.where)
    sheet = Sheet(query, _height(query.width, cells), cells, _causes(track, query, times, cells))
    if query.columns * query.width * sheet.rows * sheet.height > PIXELS_MAX:
        raise Problem(400, "the sheet would be too large", parameter="width", remedy="ask for narrower pictures, or for fewer")
    return sheet


def _shown(track: Track, time_ns: int) -> Wanted | None:
    try:
        return find(track, time_ns)
    except (NotFound, Gone, Problem):
        return None


def _height(width: int, cells: tuple[Wanted | None, ...]) -> int:
    """Of all cells: the shape of the first picture whose size is known, else 16:9."""
    sizes = ((cell.entry.width, cell.entry.height) for cell in cells if cell is not None and cell.entry.width and cell.entry.height)
    wide, high = next(sizes, (16, 9))
    return max(2, min(round(width * high / wide), HIGH_MAX * width) & ~1)


def _causes(track: Track, query: SheetQuery, times: list[int], cells: tuple[Wanted | None, ...]) -> tuple[str | None, ...]:
    gaps = track.gaps(query.start_ns, query.end_ns)
    return tuple(_cause(gaps, time_ns) if cell is None else None for time_ns, cell in zip(times, cells, strict=True))


def _cause(gaps: list[Gap], time_ns: int) -> str | None:
    return next((gap.cause.word for gap in gaps if gap.start_ns <= time_ns and (gap.end_ns is None or time_ns < gap.end_ns)), None)


async def jpeg(media: Media, sheet: Sheet) -> bytes:
    """The sheet's JPEG, from the cache or made. Raises Problem 503 when too much is in hand."""
    held = media.pictures.get(sheet.key)
    if isinstance(held, bytes):
        return held
    return await media.sheets.once(sheet.key, lambda: _make(media, sheet))


async def _make(media: Media, sheet: Sheet) -> bytes:
    cells = _Cells(media, sheet)
    await asyncio.gather(*(cells.take() for _ in range(AT_ONCE)))
    if cells.refused is not None:
        raise cells.refused
    body = b"".join(cell for cell in cells.planes if cell is not None)
    job = SheetJob(sheet.query.columns, sheet.query.width, sheet.height, tuple(cell is not None for cell in cells.planes), body)
    made = await media.decoders.work(job)
    media.counts.sheets += 1
    if cells.whole:
        media.pictures.put(sheet.key, made, len(made), _oldest(sheet))
    return made


def _oldest(sheet: Sheet) -> tuple[Wanted, ...]:
    """Of each tape the cell that retention reaches first."""
    found: dict[int, Wanted] = {}
    for cell in sheet.cells:
        if cell is not None and (cell.place not in found or cell.offset[0] < found[cell.place].offset[0]):
            found[cell.place] = cell
    return tuple(found.values())


class _Cells:
    """The planes of a sheet's cells, taken by a few takers. `whole`: no decoder failed. `refused`: why the sheet cannot be made now."""

    def __init__(self, media: Media, sheet: Sheet) -> None:
        self._media, self._sheet = media, sheet
        self._waiting = iter(enumerate(sheet.cells))
        self.planes: list[bytes | None] = [None] * len(sheet.cells)
        self.whole = True
        self.refused: Problem | None = None

    async def take(self) -> None:
        """One cell after the other. What cannot be read or decoded, ends its decoder, or has been retired meanwhile
        stays black."""
        for number, wanted in self._waiting:
            if wanted is None:
                continue
            try:
                self.planes[number] = await decoded(self._media, wanted, self._sheet.query.width, self._sheet.height)
            except DecoderFailed:
                self.whole = False
            except Unreadable:
                self.whole = False
            except Gone:
                pass
            except Problem as problem:
                if problem.status != NOT_FOUND:
                    self.refused = problem
                if self.refused is not None:
                    return
