"""Reading bits of parameter sets: a checked cursor over an RBSP (ISO 14496-10 7.2, 9.1)."""

import re


class OutOfBits(ValueError):
    """The set ends before its syntax does, or a code is longer than the standard allows."""


def unescape(nal: bytes) -> bytes:
    """The RBSP of a NAL: emulation prevention bytes removed (ISO 14496-10 7.4.1)."""
    return re.sub(rb"\x00\x00\x03", b"\x00\x00", nal)


class BitReader:
    """Reads from the most significant bit on. Every read past the end raises OutOfBits."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    @property
    def left(self) -> int:
        """Bits not yet read."""
        return self._left

    def u(self, bits: int) -> int:
        """u(n): an unsigned number of `bits` bits."""
        if bits > self._left:
            raise OutOfBits
        self._left -= bits
        return (self._value >> self._left) & ((1 << bits) - 1)

    def flag(self) -> bool:
        """u(1) as bool."""
        return self.u(1) == 1

    def skip(self, bits: int) -> None:
        """Pass over `bits` bits."""
        if bits > self._left:
            raise OutOfBits
        self._left -= bits

    def ue(self) -> int:
        """ue(v): unsigned Exp-Golomb, at most 32 bits (ISO 14496-10 9.1)."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > 32:
                raise OutOfBits
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """se(v): signed Exp-Golomb."""
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)
