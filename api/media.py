"""What all media routes share: the tapes, the clock, the threads for cold reads and big heads, the decoders, the counts."""

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from api import keys
from api.decoder.pool import DecoderPool
from api.mp4.clip import Extents
from api.tapebytes import TapeBytes, VirtualBytes
from recorder.base.clock import Clock
from storage.reader import TrackReader
from storage.store import TapeStore

COLD_THREADS = 4
HEAD_THREADS = 2
CACHED_CLIPS = 64
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


class ClipCache:
    """The newest clips by request, so that a player's range requests do not make the head again; bounded in number and bytes."""

    def __init__(self, clips: int = CACHED_CLIPS, total_bytes: int = CACHED_BYTES) -> None:
        self._clips, self._bytes_max, self._bytes = clips, total_bytes, 0
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
        while len(self._held) > self._clips or self._bytes > self._bytes_max:
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
    counts: MediaCounts = field(default_factory=MediaCounts)
    clips: ClipCache = field(default_factory=ClipCache)

    def bytes_of(self, head: bytes, extents: Extents, readers: Sequence[TrackReader]) -> VirtualBytes:
        """A head and what follows it on the tapes, ready to be read; close it."""
        return VirtualBytes(head, extents, [TapeBytes(reader, self.cold) for reader in readers])

    async def close(self) -> None:
        """End the decoders and threads."""
        await self.decoders.close()
        self.cold.shutdown(wait=False, cancel_futures=True)
        self.heads.shutdown(wait=False, cancel_futures=True)


MEDIA = web.AppKey("media", Media)


def make(store: TapeStore, clock: Clock, *, decoders: int = 2) -> Media:
    """The media of an application; no process or thread runs before the first request for it."""
    return Media(store, clock, DecoderPool(decoders), ThreadPoolExecutor(COLD_THREADS, "cold"), ThreadPoolExecutor(HEAD_THREADS, "head"))


def context(*, decoders: int = 2) -> Callable[[web.Application], AsyncIterator[None]]:
    """For `app.cleanup_ctx`: puts MEDIA on the application (which has keys.STORE and keys.CLOCK) and closes it at the end."""
    async def run(app: web.Application) -> AsyncIterator[None]:
        app[MEDIA] = make(app[keys.STORE], app[keys.CLOCK], decoders=decoders)
        yield
        await app[MEDIA].close()
    return run
