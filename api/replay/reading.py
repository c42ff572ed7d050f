"""The bytes of a replay's AUs, as a decoder wants them where the footage does not lead on."""

import struct
from functools import lru_cache

from api.media import Media
from api.replay.shot import Shot
from api.rtspout.coding import sets_of
from api.tapebytes import BLA_N_LP, CRA, NALS_MAX, TapeBytes
from recorder.base.errors import Conflict
from recorder.base.media import SampleEntry

AU_MAX = 64 << 20             # more says a damaged index
TAPES_MAX = 4                 # that are kept open: a track's volumes


class Reading:
    """Reads AUs of one track. One AU is in memory. Loop thread only; call `close` at the end."""

    def __init__(self, media: Media, camera: int, name: str) -> None:
        self._media, self._camera, self._name = media, camera, name
        self._tapes: dict[int, TapeBytes] = {}

    async def part(self, view: memoryview, shot: Shot, skip: int) -> None:
        """Fill `view` with bytes of an AU from `skip` on. Raises Gone, Unreadable."""
        await self._tape(shot.place).read_into(view, shot.offset + skip)

    async def unit(self, shot: Shot) -> bytearray:
        """The AU: an access point with its parameter sets in front; behind a break a CRA picture of H.265 as BLA (7.4.2.2), as at a splice."""
        data = bytearray(min(shot.size, AU_MAX))
        await self.part(memoryview(data), shot, 0)
        if shot.anew and shot.entry.codec == "hvc1":
            as_splice(data)
        return with_sets(data, shot.entry) if shot.key else data

    def _tape(self, place: int) -> TapeBytes:
        if place not in self._tapes:
            if len(self._tapes) >= TAPES_MAX:
                self.close()
            self._tapes[place] = self._media.tape_bytes(self._media.store.tape(self._camera, self._name, place))
        return self._tapes[place]

    def close(self) -> None:
        """Give all chunks back."""
        for tape in self._tapes.values():
            tape.close()
        self._tapes.clear()


def as_splice(data: bytearray) -> None:
    """Name a CRA picture of H.265 (NALs with four bytes of length) BLA, in place."""
    at = 0
    for _ in range(NALS_MAX):
        if at + 5 > len(data):
            return
        if data[at + 4] >> 1 & 63 == CRA:
            data[at + 4] = data[at + 4] & 0x81 | BLA_N_LP << 1
        at += 4 + int.from_bytes(data[at:at + 4])


def with_sets(data: bytearray, entry: SampleEntry) -> bytearray:
    """The AU of an access point with all parameter sets of its sample entry, where it has none itself."""
    if entry.codec not in {"avc1", "hvc1"} or _has_sets(data, entry.codec):
        return data
    return bytearray(_sets(entry)) + data


def _has_sets(data: bytearray, codec: str) -> bool:
    """True if the AU brings a sequence parameter set."""
    at = 0
    for _ in range(NALS_MAX):
        if at + 5 > len(data):
            break
        if (data[at + 4] & 31) == 7 if codec == "avc1" else (data[at + 4] >> 1 & 63) == 33:
            return True
        at += 4 + int.from_bytes(data[at:at + 4])
    return False


@lru_cache(64)
def _sets(entry: SampleEntry) -> bytes:
    try:
        return b"".join(len(nal).to_bytes(4) + nal for nal in sets_of(entry))
    except (IndexError, struct.error, Conflict):
        return b""              # a decoder must know them from elsewhere
