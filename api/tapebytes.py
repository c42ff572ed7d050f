"""Bytes of tapes for clients: by copy under the chunk's shared lock, on the loop while pages are warm, else in a small pool."""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from api.disks import Disks
from api.mp4.clip import Extents
from recorder.base.errors import FormatError, Gone, Unreadable
from storage.chunklease import ChunkLease
from storage.heldtape import HELD_PLACE
from storage.layout import class_of
from storage.reader import TrackReader
from storage.sickdisk import SickTapes, sick

PIECE_BYTES = 256 << 10       # what is read and written at once: smaller costs more CPU per byte, larger holds the loop longer
QUICK_BYTES, QUICK_S = 1 << 20, 0.01    # a client that takes a piece so soon gets larger ones: half the CPU that is not copying
FIRST_BYTES = 64 << 10        # of these the first: players wait for it
LEASE_IDLE_S = 5.0            # a client that takes nothing for so long gives the chunk back; its next read takes and checks it anew
CRA, BLA_N_LP = 21, 18        # NAL types (H.265 table 7-1); the latter promises no leading pictures
NALS_MAX = 256                # of one picture that are looked at


class TapeBytes:
    """Reads one track's tape. Holds at most one chunk, and not while a client is slow. Loop thread only; call `close` at the end.

    Where the tape's tail has passed what is read, `held` gives what holds have kept of it (None: nothing), at the same offsets. `sickness` is
    told of what the disk cannot read.
    """

    def __init__(self, track: TrackReader, disks: Disks, held: Callable[[], TrackReader | None] = lambda: None,
                 sickness: SickTapes | None = None) -> None:
        self._main = self._track = track
        self._sickness = sickness
        self._disk, self._held = disks.of(track.place), held
        self._tape_bytes = class_of(track.kind).tape_bytes
        self._lease: ChunkLease | None = None
        self._busy, self._fresh = False, True
        self._used_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._links: list[tuple[int, int]] = []
        self._places: dict[int, list[int]] = {}

    def link(self, offset: int, size: int) -> None:
        """Take the AU of H.265 at `offset` for one that follows on nothing: a CRA picture is read as a BLA picture (H.265 7.4.2.2).

        That is what such a picture is named at a splice; else decoders would place it by the counts of pictures that are not there.
        """
        at = bisect_left(self._links, (offset, size))
        if at == len(self._links) or self._links[at] != (offset, size):
            self._links.insert(at, (offset, size))

    async def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from tape offset `offset` on. Raises Gone if that footage has been retired, Unreadable if the disk cannot read it;
        nothing foreign is ever left in `view`."""
        with self._told():
            await self._read_linked(view, offset)

    async def _read_linked(self, view: memoryview, offset: int) -> None:
        await self._fill(view, offset)
        at = bisect_left(self._links, (offset + len(view), 0)) - 1
        while at >= 0 and sum(self._links[at]) > offset:
            for place in await self._cra(*self._links[at]):
                if offset <= place < offset + len(view):
                    view[place - offset] = view[place - offset] & 0x81 | BLA_N_LP << 1
            at -= 1

    def warm(self, offset: int, size: int, tail: int) -> bytes | None:
        """The bytes [offset, offset + size) if they lie in the chunk at hand and in the page cache; None: read them by `read_into`.

        `tail`: where the tape begins, as just seen. Raises Gone if that chunk has been retired.
        """
        lease = self._lease
        if lease is None or self._busy or not lease.start_offset <= offset <= lease.end_offset - size:
            return None
        self._used_s = asyncio.get_running_loop().time()
        data = bytearray(size)
        return bytes(data) if lease.read(data, offset, nowait=True, tail=tail) == size else None

    async def scatter(self, views: Sequence[memoryview], offset: int) -> None:
        """Fill the views one after the other with what lies from tape offset `offset` on: one read where all of it is warm. Raises as
        `read_into`."""
        with self._told():
            await self._scatter(views, offset)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """An error of the disk is Unreadable, and `sickness` knows of it."""
        try:
            yield
        except OSError as error:
            if not sick(error):
                raise
            track = self._track
            place = track.place % HELD_PLACE
            if self._sickness is not None:
                self._sickness.add((place, track.camera, track.name), track.volume, error)
            raise Unreadable(place, track.where) from error

    async def _scatter(self, views: Sequence[memoryview], offset: int) -> None:
        size = sum(map(len, views))
        if len(views) > 1 and not self._linked(offset, size):
            try:
                if (await self._take(offset // self._tape_bytes)).scatter(views, size, offset):
                    return
            except Gone:
                pass                # what is held of it is read below
        for view in views:
            await self._read_linked(view, offset)
            offset += len(view)

    def _linked(self, offset: int, size: int) -> bool:
        """True if an AU that follows on nothing lies in [offset, offset + size)."""
        at = bisect_left(self._links, (offset + size, 0)) - 1
        return at >= 0 and sum(self._links[at]) > offset

    async def _cra(self, offset: int, size: int) -> list[int]:
        """Where on the tape the NALs of an AU say that they are of a CRA picture."""
        if offset not in self._places:
            head, at, places = bytearray(5), offset, []
            for _ in range(NALS_MAX):
                if at + len(head) > offset + size:
                    break
                await self._fill(memoryview(head), at)
                if head[4] >> 1 & 63 == CRA:
                    places.append(at + 4)
                at += 4 + int.from_bytes(head[:4])
            self._places[offset] = places
        return self._places[offset]

    async def _fill(self, view: memoryview, offset: int) -> None:
        done = 0
        while done < len(view):
            try:
                done += await self._read(view[done:], offset + done)
            except Gone:
                if not self._turn():
                    raise
                done += await self._read(view[done:], offset + done)

    async def _read(self, view: memoryview, offset: int) -> int:
        """Fill `view` as far as one chunk has it; the bytes read."""
        lease = await self._take(offset // self._tape_bytes)
        rest = view[:(lease.chunk + 1) * self._tape_bytes - offset]
        got = lease.read(rest, offset, nowait=True)
        if got < 0:
            got = await self._cold(lease, rest, offset)
        if got == 0:
            raise FormatError("the chunk ends before its rows do", where=f"chunk {lease.chunk}", remedy="run watchroom check")
        return got

    def _turn(self) -> bool:
        """Read on from what is held of the tape, or from the tape again; False if nothing is held."""
        self._drop()
        other = self._held() if self._track is self._main else self._main
        if other is not None:
            self._track = other
        return other is not None

    def close(self) -> None:
        """Give the chunk back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop()

    async def _cold(self, lease: ChunkLease, view: memoryview, offset: int) -> int:
        """A read that may wait for the disk, in the pool; the lease stays until the thread is done even if the client goes away."""
        self._busy, self._lease = True, None
        reading = self._disk.run(lease.read, view, offset)
        try:
            got = await asyncio.shield(reading)
        except asyncio.CancelledError:
            reading.add_done_callback(lambda done: _close_after(done, lease))
            raise
        except BaseException:
            lease.close()
            raise
        finally:
            self._busy = False
        self._lease = lease
        return got

    async def _take(self, chunk: int) -> ChunkLease:
        """The chunk's lease; opened in a thread, since a file that was long not looked at is cold itself."""
        loop = asyncio.get_running_loop()
        self._used_s = loop.time()
        if self._lease is None or self._lease.chunk != chunk:
            self._drop()
            self._lease = await self._open(chunk)
        if self._timer is None:
            self._timer = loop.call_later(LEASE_IDLE_S, self._idle)
        return self._lease

    async def _open(self, chunk: int) -> ChunkLease:
        if self._fresh:
            self._disk.admit()
            self._fresh = False
        opening = self._disk.run(self._track.open_chunk, chunk)
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise

    def _idle(self) -> None:
        loop = asyncio.get_running_loop()
        rest_s = self._used_s + LEASE_IDLE_S - loop.time()
        self._timer = None
        if rest_s > 0 or self._busy:
            self._timer = loop.call_later(max(rest_s, 0.1), self._idle)
            return
        self._drop()

    def _drop(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.close()


def _close_after(reading: asyncio.Future[int], lease: ChunkLease) -> None:
    """Close the lease of a read that nobody waits for any more; what became of it does not matter."""
    if not reading.cancelled():
        reading.exception()
    lease.close()


def _close_opened(opening: asyncio.Future[ChunkLease]) -> None:
    """Close the lease that nobody waits for any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


class MemoryBytes:
    """Bytes that are no footage, in the place of a tape."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from `offset` on."""
        view[:] = self._data[offset:offset + len(view)]

    async def scatter(self, views: Sequence[memoryview], offset: int) -> None:
        """Fill the views one after the other from `offset` on."""
        for view in views:
            await self.read_into(view, offset)
            offset += len(view)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class _Run:
    """Pieces of a file whose bytes lie at [start, stop) of a tape."""

    start: int
    stop: int
    views: list[memoryview] = field(default_factory=list)


class VirtualBytes:
    """A head and the tape bytes behind it as one run of bytes. Constant memory: one piece at a time. Call `close` at the end.

    Extents of track -1 lie in `inline`.
    """

    def __init__(self, head: bytes, extents: Extents, tapes: Sequence[TapeBytes | MemoryBytes], inline: bytes = b"") -> None:
        self._head, self._extents, self._tapes, self._inline = head, extents, tapes, inline
        self.size = int(extents.at[-1] + extents.size[-1]) if len(extents) else len(head)

    def link(self, tape: int, offset: int, size: int) -> None:
        """See TapeBytes.link."""
        if isinstance(found := self._tapes[tape], TapeBytes):
            found.link(offset, size)

    async def pieces(self, start: int, stop: int) -> AsyncIterator[memoryview]:
        """Bytes [start, stop) in pieces of fresh memory, which a transport may keep as long as it likes."""
        loop, most = asyncio.get_running_loop(), FIRST_BYTES
        while start < stop:
            view = np.empty(min(most, stop - start), np.uint8).data      # not zeroed: every byte is filled below
            await self.read_into(view, start)
            given_s = loop.time()
            yield view
            quick = most >= PIECE_BYTES and loop.time() < given_s + QUICK_S
            start, most = start + len(view), min(2 * most, QUICK_BYTES) if quick else PIECE_BYTES

    async def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes [start, stop), for what is known to be small."""
        view = np.empty((self.size if stop is None else stop) - start, np.uint8).data
        await self.read_into(view, start)
        return bytes(view)

    async def read_into(self, view: memoryview, start: int) -> None:
        """Fill `view` from byte `start` on."""
        done = min(len(view), max(0, len(self._head) - start))
        view[:done] = self._head[start:start + done]
        if done < len(view):
            await self._extents_into(view[done:], start + done)

    async def _extents_into(self, view: memoryview, start: int) -> None:
        """Fill `view` from byte `start` on, which lies behind the head. What follows each other on a tape is read at once."""
        extents, stop = self._extents, start + len(view)
        first, last = (int(np.searchsorted(extents.at, at, side="right")) for at in (start, stop - 1))
        part = slice(first - 1, last)
        runs: dict[int, _Run] = {}
        for track, offset, size, at in zip(*(column[part].tolist() for column in (extents.track, extents.offset, extents.size, extents.at)),
                                           strict=True):
            skip = max(start - at, 0)
            piece = view[at + skip - start:at + size - start]
            run = runs.get(track)
            if run is None or run.stop != offset + skip:
                if run is not None:
                    await self._run(track, run)
                run = runs[track] = _Run(offset + skip, offset + skip)
            run.views.append(piece)
            run.stop += len(piece)
        for track, run in runs.items():
            await self._run(track, run)

    async def _run(self, track: int, run: "_Run") -> None:
        if track >= 0:
            await self._tapes[track].scatter(run.views, run.start)
            return
        for view in run.views:
            view[:] = self._inline[run.start:run.start + len(view)]
            run.start += len(view)

    def close(self) -> None:
        """Give all chunks back."""
        for tape in self._tapes:
            tape.close()
