"""What all media routes share: the tapes, the clock, the threads for cold reads and big heads, the decoders, the counts."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from api import keys
from api.decoder.pool import DecoderPool
from api.metrics import EXTRA, Page
from api.mp4.clip import Extents
from api.tapebytes import TapeBytes, VirtualBytes
from recorder.base.clock import Clock
from storage.reader import TrackReader
from storage.store import TapeStore

T = TypeVar("T")
DECODERS = 2
COLD_THREADS = 4
CACHED_CLIPS = 64
CACHED_PICTURES = 1024
CACHED_BYTES = 64 << 20


@dataclass(slots=True)
class MediaCounts:
    """Counters for /metrics."""

    bytes_sent: int = 0
    clips: int = 0
    streams_open: int = 0
    retired_while_sending: int = 0
    pictures: int = 0
    pictures_failed: int = 0


class Cache:
    """What was asked for last, bounded in number and bytes: so a player's range requests do not make a clip's head again and again."""

    def __init__(self, things: int = CACHED_CLIPS, total_bytes: int = CACHED_BYTES) -> None:
        self._things, self._bytes_max, self._bytes = things, total_bytes, 0
        self._held: OrderedDict[Any, tuple[Any, int]] = OrderedDict()

    def get(self, key: Any) -> Any:
        """What was put under `key`, or None."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key][0]
        return None

    def put(self, key: Any, value: Any, size: int) -> None:
        """Keep `value`, which takes `size` bytes; the oldest go. What is larger than a quarter of the whole is not kept."""
        self.drop(key)
        if size * 4 > self._bytes_max:
            return
        self._held[key] = (value, size)
        self._bytes += size
        while len(self._held) > self._things or self._bytes > self._bytes_max:
            self._bytes -= self._held.popitem(last=False)[1][1]

    def drop(self, key: Any) -> None:
        """Forget `key`."""
        found = self._held.pop(key, None)
        self._bytes -= found[1] if found else 0


@dataclass(slots=True)
class Media:
    """One per application. `cold` reads the disk, `heads` computes; neither does anything else."""

    store: TapeStore
    clock: Clock
    decoders: DecoderPool
    cold: ThreadPoolExecutor
    heads: ThreadPoolExecutor
    open_store: Callable[[], TapeStore]
    counts: MediaCounts = field(default_factory=MediaCounts)
    clips: Cache = field(default_factory=Cache)
    pictures: Cache = field(default_factory=lambda: Cache(CACHED_PICTURES, CACHED_BYTES))
    _second_store: TapeStore | None = None

    async def compute(self, work: Callable[[TapeStore], T]) -> T:
        """`work` done in the thread of `heads`, on that thread's own store: for what takes long. Nothing of the store may be returned."""
        return await asyncio.get_running_loop().run_in_executor(self.heads, lambda: work(self._second()))

    async def look(self) -> None:
        """See which volumes are still mounted, in both stores."""
        self.store.look()
        if self._second_store is not None:
            await self.compute(TapeStore.look)

    def _second(self) -> TapeStore:
        if self._second_store is None:
            self._second_store = self.open_store()
        return self._second_store

    def bytes_of(self, head: bytes, extents: Extents, readers: Sequence[TrackReader]) -> VirtualBytes:
        """A head and what follows it on the tapes, ready to be read; close it."""
        return VirtualBytes(head, extents, [self.tape_bytes(reader) for reader in readers])

    def tape_bytes(self, reader: TrackReader) -> TapeBytes:
        """The bytes of a tape, and of what holds keep of it once its tail has passed them."""
        return TapeBytes(reader, self.cold, lambda: self.store.held(reader))

    async def close(self) -> None:
        """End the decoders and threads."""
        await self.decoders.close()
        self.cold.shutdown(wait=False, cancel_futures=True)
        await asyncio.get_running_loop().run_in_executor(None, lambda: self.heads.shutdown(cancel_futures=True))
        if self._second_store is not None:
            self._second_store.close()


MEDIA = web.AppKey("media", Media)


def make(store: TapeStore, live_dir: Path, clock: Clock, *, decoders: int = DECODERS) -> Media:
    """The media of an application; no process or thread runs before the first request for it."""
    return Media(store, clock, DecoderPool(decoders), ThreadPoolExecutor(COLD_THREADS, "cold"), ThreadPoolExecutor(1, "head"),
                 lambda: store.again(live_dir))


async def context(app: web.Application) -> AsyncIterator[None]:
    """For `app.cleanup_ctx`: puts MEDIA on the application (which has keys.STORE, SITE and CLOCK) and closes it at the end."""
    app[MEDIA] = make(app[keys.STORE], app[keys.SITE].live_dir, app[keys.CLOCK])
    app[EXTRA].append(_families)
    yield
    await app[MEDIA].close()


def _families(page: Page, app: web.Application) -> None:
    counts = app[MEDIA].counts
    for name, value, text in (("bytes_sent", counts.bytes_sent, "Bytes of footage sent."), ("clips", counts.clips, "Clips planned."),
                              ("retired_while_sending", counts.retired_while_sending, "Downloads cut because retention passed them."),
                              ("pictures", counts.pictures, "Pictures decoded."),
                              ("pictures_failed", counts.pictures_failed, "Pictures that could not be decoded."),
                              ("decoders_started", app[MEDIA].decoders.started, "Decoder processes started.")):
        page.family(f"watchroom_media_{name}_total", "counter", text, [({}, value)])
    page.family("watchroom_media_streams", "gauge", "Streams open.", [({}, counts.streams_open)])
