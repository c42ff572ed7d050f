"""A planned transport stream as a run of bytes: made while it is read, any part of it, one PES packet at a time."""

from collections.abc import AsyncIterator, Sequence

import numpy as np

from api.mp4.clip import Extents
from api.tapebytes import PIECE_BYTES, MemoryBytes, TapeBytes
from api.ts.elementary import ADTS, adts, delimiter_bytes, to_annex_b
from api.ts.packets import PACKET, PES_AUDIO, PES_HEADER, PES_VIDEO, PIDS, packetise, pes_header, tables
from api.ts.plan import PCR_AHEAD, TransportStream
from recorder.base.media import TrackKind


class TsBytes:
    """Loop thread only; call `close` at the end. `extents` are the plan's, on `tapes`."""

    def __init__(self, plan: TransportStream, extents: Extents, tapes: Sequence[TapeBytes | MemoryBytes]) -> None:
        self._plan, self._extents, self._tapes = plan, extents, tapes
        self.size = plan.size

    async def pieces(self, start: int, stop: int) -> AsyncIterator[memoryview]:
        """Bytes [start, stop) in pieces of fresh memory. Raises Gone if footage has been retired."""
        number = int(np.searchsorted(self._plan.units.at * PACKET, start, side="right")) - 1
        held: list[bytes] = []
        size, at = 0, start
        while at < stop:
            begin = int(self._plan.units.at[number]) * PACKET
            data = (await self._unit(number))[at - begin:stop - begin]
            held.append(data)
            size, at, number = size + len(data), at + len(data), number + 1
            if size >= PIECE_BYTES or at >= stop:
                yield memoryview(b"".join(held))
                held, size = [], 0

    async def _unit(self, number: int) -> bytes:
        """A PES packet as packets, with the tables before it if it is an access point."""
        units = self._plan.units
        track, key = int(units.track[number]), bool(units.key[number])
        audio = self._plan.entries[track].kind is TrackKind.AUDIO
        pes = await (self._sound(number) if audio else self._picture(number))
        pcr = int(units.dts[number]) - PCR_AHEAD if track == 0 else None
        packets = packetise(PIDS[track], int(units.counter[number]), pes, pcr, key=key).tobytes()
        return tables(self._plan.entries, int(units.keys[number])) + packets if key else packets

    async def _picture(self, number: int) -> bytearray:
        units = self._plan.units
        coding = self._plan.codings[int(units.coding[number])]
        sets = coding.sets if units.key[number] else b""
        extent = int(units.first[number])
        au = bytearray(int(self._extents.size[extent]))
        await self._read(extent, memoryview(au))
        own = delimiter_bytes(coding.codec, au)
        to_annex_b(au)
        body = au[:own] + sets + au[own:] if own else coding.delimiter + sets + au
        stuffing = len(coding.delimiter) if own else 0       # one delimiter is enough, but the length has been told already
        return bytearray(pes_header(PES_VIDEO, 0, int(units.pts[number]), int(units.dts[number]), stuffing) + body)

    async def _sound(self, number: int) -> bytearray:
        units = self._plan.units
        entry = self._plan.entries[int(units.track[number])]
        first = int(units.first[number])
        sizes = self._extents.size[first:first + int(units.count[number])].tolist()
        out, at = bytearray(PES_HEADER + sum(sizes) + len(sizes) * ADTS), PES_HEADER     # a cold read may hold on to it for a while
        for extent, size in enumerate(sizes, first):
            out[at:at + ADTS] = adts(entry, size)
            await self._read(extent, memoryview(out)[at + ADTS:at + ADTS + size])
            at += ADTS + size
        out[:PES_HEADER] = pes_header(PES_AUDIO, len(out) - PES_HEADER, int(units.pts[number]), int(units.dts[number]))
        return out

    async def _read(self, extent: int, view: memoryview) -> None:
        await self._tapes[int(self._extents.track[extent])].read_into(view, int(self._extents.offset[extent]))

    def close(self) -> None:
        """Give all chunks back."""
        for tape in self._tapes:
            tape.close()
