"""What all media routes share: the tapes, the clock, the threads for cold reads and big heads, the decoders, the counts."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aiohttp import web

from api import keys
from api.clips import CLIPS, DERIVING, PICTURES, STREAMS
from api.decoder.pool import DecoderPool
from api.disks import Disks
from api.looks import Looks
from api.making import Making
from api.metrics import EXTRA, Page
from api.mp4.clip import Extents
from api.tapebytes import TapeBytes, VirtualBytes
from api.turns import TURNS
from recorder.base.clock import Clock
from recorder.base.errors import WatchroomError
from storage.reader import TrackReader
from storage.store import TapeStore

T = TypeVar("T")
DECODERS = 2
CACHED_CLIPS = 64
CACHED_PICTURES = 4096        # cells of sheets among them
CACHED_BYTES = 64 << 20
PICTURES_AT_ONCE = 256        # different ones in hand, waiting for their bytes or a decoder
SHEETS_AT_ONCE = 8
SWEEP_S = 5.0


@dataclass(slots=True)
class MediaCounts:
    """Counters for /metrics."""

    bytes_sent: int = 0
    clips: int = 0
    streams_open: int = 0
    retired_while_sending: int = 0
    unreadable_while_sending: int = 0
    pictures: int = 0
    pictures_failed: int = 0
    sheets: int = 0
    slow_closed: int = 0
    viewers_late: int = 0
    viewers_keyed: int = 0


class Made(Protocol):
    """Something that footage was made into, or is to be."""

    def stands(self, store: TapeStore) -> bool:
        """True while the footage may be read."""


class Cache:
    """What was asked for last, bounded in number and bytes: so a player's range requests do not make a clip's head again and again."""

    def __init__(self, things: int = CACHED_CLIPS, total_bytes: int = CACHED_BYTES) -> None:
        self._things, self._bytes_max, self._bytes = things, total_bytes, 0
        self._held: OrderedDict[Any, tuple[Any, int, Any]] = OrderedDict()

    def get(self, key: Any) -> Any:
        """What was put under `key`, or None."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key][0]
        return None

    def put(self, key: Any, value: Any, size: int, of: Any = None) -> None:
        """Keep `value`, which takes `size` bytes; the oldest go. What is larger than a quarter of the whole is not kept.

        `of` is what it was made of, for `sweep`.
        """
        self.drop(key)
        if size * 4 > self._bytes_max:
            return
        self._held[key] = (value, size, of)
        self._bytes += size
        while len(self._held) > self._things or self._bytes > self._bytes_max:
            self._bytes -= self._held.popitem(last=False)[1][1]

    def drop(self, key: Any) -> None:
        """Forget `key`."""
        found = self._held.pop(key, None)
        self._bytes -= found[1] if found else 0

    def sweep(self, stands: Callable[[Any], bool]) -> None:
        """Forget what was made of something that no longer `stands`."""
        for key in [key for key, (_, _, of) in self._held.items() if of is not None and not stands(of)]:
            self.drop(key)


@dataclass(slots=True)
class Media:
    """One per application. `cold` reads the disk, `heads` computes; neither does anything else."""

    store: TapeStore
    clock: Clock
    decoders: DecoderPool
    cold: Disks
    heads: ThreadPoolExecutor
    open_store: Callable[[], TapeStore]
    counts: MediaCounts = field(default_factory=MediaCounts)
    clips: Cache = field(default_factory=Cache)
    pictures: Cache = field(default_factory=lambda: Cache(CACHED_PICTURES, CACHED_BYTES))
    making: Making = field(default_factory=lambda: Making(PICTURES_AT_ONCE))
    sheets: Making = field(default_factory=lambda: Making(SHEETS_AT_ONCE))
    looks: Looks = field(init=False)
    _second_store: TapeStore | None = None
    _swept_s: float = 0.0

    def __post_init__(self) -> None:
        self.looks = Looks(self.open_store)

    async def compute(self, work: Callable[[TapeStore], T]) -> T:
        """`work` done in the thread of `heads`, on that thread's own store: for what takes long. Nothing of the store may be returned."""
        return await asyncio.get_running_loop().run_in_executor(self.heads, lambda: work(self._second()))

    async def look_up(self, work: Callable[[TapeStore], T]) -> T:
        """The same for what is short: a cold page of an index holds up neither the loop nor, behind a long head, others."""
        return await self.looks.run(work)

    async def look(self) -> None:
        """See which volumes are still mounted, in all stores; forget pictures of footage that nobody may see any more."""
        self.store.look()
        if self._second_store is not None:
            await self.compute(TapeStore.look)
        await self.looks.look()
        if (now_s := asyncio.get_running_loop().time()) >= self._swept_s + SWEEP_S:
            self._swept_s = now_s
            self.pictures.sweep(self._stands)
            self.clips.sweep(self._stands)

    def _stands(self, of: Sequence[Made]) -> bool:
        try:
            return all(one.stands(self.store) for one in of)
        except (WatchroomError, OSError):
            return False

    def _second(self) -> TapeStore:
        if self._second_store is None:
            self._second_store = self.open_store()
        return self._second_store

    def bytes_of(self, head: bytes, extents: Extents, readers: Sequence[TrackReader]) -> VirtualBytes:
        """A head and what follows it on the tapes, ready to be read; close it."""
        return VirtualBytes(head, extents, [self.tape_bytes(reader) for reader in readers])

    def tape_bytes(self, reader: TrackReader) -> TapeBytes:
        """The bytes of a tape, and of what holds keep of it once its tail has passed them."""
        return TapeBytes(reader, self.cold, lambda: self.store.held(reader), self.store.sickness)

    async def close(self) -> None:
        """End the decoders and threads."""
        await self.sheets.close()
        await self.making.close()
        await self.decoders.close()
        self.cold.close()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: self.heads.shutdown(cancel_futures=True))
        await loop.run_in_executor(None, self.looks.close)
        if self._second_store is not None:
            self._second_store.close()


MEDIA = web.AppKey("media", Media)


def make(store: TapeStore, live_dir: Path, clock: Clock, *, decoders: int = DECODERS) -> Media:
    """The media of an application; no process or thread runs before the first request for it."""
    return Media(store, clock, DecoderPool(decoders), Disks(), ThreadPoolExecutor(1, "head"),
                 lambda: store.again(live_dir))


async def context(app: web.Application) -> AsyncIterator[None]:
    """For `app.cleanup_ctx`: puts MEDIA on the application (which has keys.STORE, SITE and CLOCK) and closes it at the end."""
    app[MEDIA] = make(app[keys.STORE], app[keys.SITE].live_dir, app[keys.CLOCK])
    app[EXTRA].append(_families)
    yield
    await app[MEDIA].close()


def _refused(media: Media) -> int:
    return media.decoders.refused + media.making.refused + media.sheets.refused


def _families(page: Page, app: web.Application) -> None:
    counts = app[MEDIA].counts
    for name, value, text in (("bytes_sent", counts.bytes_sent, "Bytes of footage sent."), ("clips", counts.clips, "Clips planned."),
                              ("retired_while_sending", counts.retired_while_sending, "Downloads cut because retention passed them."),
                              ("unreadable_while_sending", counts.unreadable_while_sending, "Answers cut because a disk could not read on."),
                              ("slow_closed", counts.slow_closed, "Answers cut because their client took nothing for two minutes."),
                              ("viewers_late", counts.viewers_late, "Live viewers taken to the newest picture because they were 10 s behind."),
                              ("viewers_keyed", counts.viewers_keyed, "Live viewers taken down to key pictures because they were late again."),
                              ("pictures", counts.pictures, "Pictures decoded."),
                              ("sheets", counts.sheets, "Sheets of pictures made."),
                              ("pictures_failed", counts.pictures_failed, "Pictures that could not be decoded."),
                              ("decoders_started", app[MEDIA].decoders.started, "Decoder processes started."),
                              ("decoders_failed", app[MEDIA].decoders.failed, "Decoder processes that died over a job or took too long.")):
        page.family(f"watchroom_media_{name}_total", "counter", text, [({}, value)])
    page.family("watchroom_media_streams", "gauge", "Streams open.", [({}, counts.streams_open)])
    page.family("watchroom_media_clips_sending", "gauge", "Clips being sent.", [({}, app[CLIPS].running)])
    disks = app[MEDIA].cold.items()
    page.family("watchroom_media_cold_reads_total", "counter", "Chunks opened and cold pages read, in threads of the volume.",
                [({"volume": place}, disk.reads) for place, disk in disks])
    page.family("watchroom_media_cold_reads_waiting", "gauge", "Of these in hand.",
                [({"volume": place}, disk.waiting) for place, disk in disks])
    of_token = sum(app[slots].refused for slots in (CLIPS, STREAMS, DERIVING, PICTURES)) + app[TURNS].refused
    refused = [("token", of_token), ("index", app[MEDIA].looks.refused), ("decoder", _refused(app[MEDIA])),
               ("disk", sum(disk.refused for _, disk in disks))]
    page.family("watchroom_media_refused_total", "counter", "Readers refused, by what was full: their token's share, the threads that look at "
                "indexes, the decoders' queue, the disk.", [({"full": word}, count) for word, count in refused])
