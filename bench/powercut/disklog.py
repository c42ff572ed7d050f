"""What a disk was sent, and what may be left of it: writes between two flushes arrive in part, or torn at sectors, or not at all."""

import random
from dataclasses import dataclass, field

SECTOR = 512
BLOCK = 4096
WHOLE, TORN = 0.4, 0.3      # of the writes after the last flush: this share arrives, this share in part


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes sent to a place."""

    at: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Flush:
    """All writes before it are on the medium."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was acknowledged to somebody; `number` is the caller's."""

    number: int


Entry = Write | Flush | Mark


@dataclass(slots=True)
class DiskLog:
    """The entries in order, on top of `base`, the medium as it was before the first."""

    base: bytearray
    entries: list[Entry] = field(default_factory=list)
    _applied: int = 0           # entries that are in `base`

    def cut(self, at: int, dice: random.Random) -> tuple[dict[int, bytes], int]:
        """The power fails before entry `at`: blocks that differ from `base` (by number), and the last mark before (-1: none).

        Cuts are to be asked for in rising order: `base` moves on to the last flush before each.
        """
        flush = next((i for i in range(at - 1, self._applied - 1, -1) if isinstance(self.entries[i], Flush)), self._applied)
        for entry in self.entries[self._applied:flush]:
            if isinstance(entry, Write):
                self.base[entry.at:entry.at + len(entry.data)] = entry.data
        self._applied = max(self._applied, flush)
        blocks: dict[int, bytes] = {}
        for entry in self.entries[self._applied:at]:
            if isinstance(entry, Write):
                self._arrive(blocks, entry, dice)
        mark = next((e.number for e in reversed(self.entries[:at]) if isinstance(e, Mark)), -1)
        return blocks, mark

    def _arrive(self, blocks: dict[int, bytes], entry: Write, dice: random.Random) -> None:
        fate = dice.random()
        if fate < WHOLE:
            put(self.base, blocks, entry.at, entry.data)
        elif fate < WHOLE + TORN and entry.at >= BLOCK:     # ext4 takes it that its superblock, in the first block, is never torn
            keep = dice.choice((0.1, 0.5, 0.9))
            for start in range(0, len(entry.data), SECTOR):
                if dice.random() < keep:
                    put(self.base, blocks, entry.at + start, entry.data[start:start + SECTOR])


def put(base: bytearray, blocks: dict[int, bytes], at: int, data: bytes) -> None:
    """Lay `data` over the blocks."""
    done = 0
    while done < len(data):
        number, into = divmod(at + done, BLOCK)
        count = min(BLOCK - into, len(data) - done)
        old = blocks.get(number) if count < BLOCK else b""
        if old is None:
            old = bytes(base[number * BLOCK:(number + 1) * BLOCK])
        piece = data[done:done + count]
        blocks[number] = piece if count == BLOCK else old[:into] + piece + old[into + count:]
        done += count


def get(base: bytearray, blocks: dict[int, bytes], at: int, size: int) -> bytes:
    """`size` bytes from `at`, as they are with the blocks laid over."""
    out = bytearray(base[at:at + size])
    for number in range(at // BLOCK, -(-(at + len(out)) // BLOCK)):
        block = blocks.get(number)
        if block is not None:
            first, last = max(at, number * BLOCK), min(at + len(out), (number + 1) * BLOCK)
            out[first - at:last - at] = block[first - number * BLOCK:last - number * BLOCK]
    return bytes(out)
