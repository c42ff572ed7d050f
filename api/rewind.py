"""A camera backwards from a time, as one file: its access points, each shown as long as the pictures after it would be at that speed.

Pictures that refer to others can be decoded forwards only, so they are left out at any speed; of codecs without such pictures (JPEG) all are
shown. Gaps take no time.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import numpy as np

from api.cursor import LEAD_S, SETBACKS_MAX, CursorQuery, Init, Part
from api.feed import newest_row
from api.footage import Footage, load
from api.media import Media
from api.mp4.fragment import FragmentTrack, fragment, init_segment
from api.mp4.sample_entry import codec_string
from api.mp4.samples import Int64, Samples
from recorder.base.errors import Gone, NotFound, Unreadable
from recorder.base.media import NS, SampleEntry, TrackKind
from storage.footage import row_ends
from storage.store import TapeStore

KEYS_MOST = 16                # of one fragment
NAP_S = 0.5                   # how often a waiting stream asks whether anybody is there


@dataclass(frozen=True, slots=True)
class _Block:
    """Access points of a few rows of one coding, the newest first: place and size on the tape, UTC, how long each is shown (ns of footage)."""

    place: int
    entry: SampleEntry
    offset: Int64
    size: Int64
    row: Int64
    wall_ns: Int64
    lasts_ns: Int64


@dataclass(frozen=True, slots=True)
class _Step:
    """What was found: `blocks`; what comes next is older than `before_ns` and shown until `until_ns`."""

    blocks: tuple[_Block, ...]
    before_ns: int
    until_ns: int


class Rewind:
    """`async for event in rewind.events()`, closed with `aclosing`. Loop thread only. The track must exist (NotFound).

    `alive` is asked while it waits; once it says False the events end. They end too where the track begins or the coding changes.
    """

    def __init__(self, media: Media, query: CursorQuery, alive: Callable[[], bool] = lambda: True) -> None:
        self._media, self._query, self._alive = media, query, alive
        self._newest_ns = media.store.whole(query.camera, query.track).bounds().visible_end_ns
        self._speed = -query.speed
        self._setbacks = 0                   # fragments that a disk could not read, in a row
        self._keys = max(1, min(KEYS_MOST, round(self._speed)))

    async def events(self) -> AsyncGenerator[Init | Part, None]:
        """An init segment, then fragments, AU by AU. Raises NotFound if nothing is recorded so early."""
        entry: SampleEntry | None = None
        since_s, out_ns, out_ticks, sequence = time.monotonic(), 0, 0, 0
        async with aclosing(self._blocks()) as blocks:
            async for block in blocks:
                if entry is None:
                    entry = block.entry
                    yield self._init(entry, int(block.wall_ns[0]))
                if block.entry != entry:
                    return
                sequence += 1
                samples = _placed(block, out_ns, self._speed, out_ticks)
                out_ticks = int(samples.dts[-1]) + samples.last_dur
                async with aclosing(self._parts(block, samples, sequence)) as parts:
                    async for part in parts:
                        yield part
                out_ns += round(int(block.lasts_ns.sum()) / self._speed)
                while (ahead_s := out_ns / NS - LEAD_S - (time.monotonic() - since_s)) > 0:
                    await asyncio.sleep(min(ahead_s, NAP_S))
                    if not self._alive():
                        return
        if entry is None:
            raise NotFound("nothing was recorded up to this time", remedy="ask for a later one")

    async def _blocks(self) -> AsyncGenerator[_Block, None]:
        """The access points backwards; the index is looked at in a thread."""
        query, keys = self._query, self._keys
        start_ns = self._newest_ns if query.start_ns is None else query.start_ns
        step: _Step | None = _Step((), start_ns + 1, start_ns)
        while step is not None:
            for block in step.blocks:
                yield block
            step = await self._media.look_up(partial(_older, query, step, keys))

    def _init(self, entry: SampleEntry, wall_ns: int) -> Init:
        data = init_segment([FragmentTrack((entry,), entry.clock_rate)], wall_ns, inband=self._query.inband)
        return Init(data, codec_string(entry, inband=self._query.inband), entry, None, wall_ns)

    async def _parts(self, block: _Block, samples: Samples, sequence: int) -> AsyncGenerator[Part, None]:
        """The block, placed as `samples`, as a fragment; none where retention has been, or a disk cannot read."""
        head = fragment([(0, TrackKind.VIDEO, samples)], sequence).head
        tape = self._media.tape_bytes(self._media.store.tape(self._query.camera, self._query.track, block.place))
        try:
            for offset, size, wall_ns in zip(block.offset.tolist(), block.size.tolist(), block.wall_ns.tolist(), strict=True):
                au = bytearray(size)
                if block.entry.codec == "hvc1":
                    tape.link(offset, size)
                await tape.read_into(memoryview(au), offset)
                self._media.counts.bytes_sent += len(head) + size
                yield Part(head + au, wall_ns, bool(head))
                head = b""
            self._setbacks = 0
        except (Gone, Unreadable) as error:
            self._setbacks += isinstance(error, Unreadable)
            if not head or self._setbacks > SETBACKS_MAX:
                raise                        # a fragment has begun: what has been sent must not pass for whole
        finally:
            tape.close()


def _placed(block: _Block, from_ns: int, speed: float, least: int) -> Samples:
    """The block's AUs one after the other from media time `from_ns` on, not before tick `least`."""
    hz, count = block.entry.clock_rate, len(block.size)
    edges = np.rint((from_ns + np.concatenate(([0], np.cumsum(block.lasts_ns))) / speed) * (hz / NS)).astype(np.int64)
    ramp = np.arange(count + 1)
    edges = np.maximum(np.maximum.accumulate(edges - ramp), least) + ramp
    zeros, ones = np.zeros(count, np.int64), np.ones(count, np.int64)
    return Samples(block.size, edges[:-1], zeros, ones > 0, ones, block.offset, block.row, int(edges[-1] - edges[-2]))


def _older(query: CursorQuery, step: _Step, keys: int, store: TapeStore) -> _Step | None:
    """The next older access points, those of about `keys` rows; None where the track begins."""
    found = newest_row(store.whole(query.camera, query.track), step.before_ns)
    if found is None:
        return None
    reader, number, floor_ns = found
    first = max(number - keys + 1, reader.edges().first_row)
    footage = load(reader, reader.rows_from(first, number - first + 1))
    rows = footage.run.rows
    if not len(rows):
        return None                          # it has gone meanwhile
    chosen = np.flatnonzero(footage.key & (footage.wall_ns < step.before_ns) & (rows["t_ns"][footage.row] > floor_ns))[::-1]
    ends, until_ns, shown_until = row_ends(rows), step.until_ns, []
    for au in chosen.tolist():
        shown_until.append(min(until_ns, int(ends[_last_row(rows["t_ns"], int(footage.row[au]), until_ns)])))
        until_ns = int(footage.wall_ns[au])
    own_ns = footage.aus.dur[chosen] * NS // footage.rates()[2][footage.row[chosen]]       # also of one that is asked for to the nanosecond
    lasts_ns = np.maximum(np.array(shown_until, np.int64) - footage.wall_ns[chosen], np.maximum(own_ns, 1))
    kept = rows["t_ns"][rows["t_ns"] > floor_ns]
    return _Step(tuple(_by_coding(footage, chosen, lasts_ns)), int(kept[0]) if len(kept) else floor_ns + 1, until_ns)


def _by_coding(footage: Footage, chosen: Int64, lasts_ns: Int64) -> Iterator[_Block]:
    """Blocks of these AUs, each of one coding."""
    entries, of_row, _ = footage.rates()
    coded = of_row[footage.row[chosen]]
    for part in np.split(np.arange(len(chosen)), np.flatnonzero(np.diff(coded)) + 1):
        if len(part):
            aus = chosen[part]
            yield _Block(footage.reader.place, entries[int(coded[part[0]])], footage.aus.offset[aus].astype(np.int64),
                         footage.aus.size[aus].astype(np.int64), footage.row[aus] + footage.run.first, footage.wall_ns[aus], lasts_ns[part])


def _last_row(t_ns: Int64, row: int, until_ns: int) -> int:
    """The last row from `row` on that starts before `until_ns`: what is shown until then ends with it, if not earlier."""
    return max(row, int(np.searchsorted(t_ns, until_ns)) - 1)
