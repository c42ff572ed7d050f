"""A ZIP archive of stored files whose bytes are not known beforehand, only their sizes (APPNOTE 6.3.10): its length is known, so it streams.

Each file is followed by a data descriptor with its CRC-32 (4.3.9). Files and archives over 4 GiB use the 64-bit forms (4.3.14, 4.5.3).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

U32_MAX = 0xFFFFFFFF
U16_MAX = 0xFFFF
FLAGS = 0x0808                # data descriptor follows; names are UTF-8
VERSION = 45                  # 64-bit forms
UNIX_FILE = 0o100644 << 16
MADE_ON_UNIX = 3 << 8


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: its name and its size in bytes."""

    name: str
    size: int

    @property
    def wide(self) -> bool:
        """True if its size needs 64 bits."""
        return self.size >= U32_MAX


class Archive:
    """The bytes around the files: `head(n)`, the file itself, `tail(n, crc)`, for each n in order, then `end(crcs)`. `size` is that of all."""

    def __init__(self, members: Sequence[Member], wall_ns: int) -> None:
        self.members = tuple(members)
        self._when = _dos_time(wall_ns)
        self._at: list[int] = []
        at = 0
        for number, member in enumerate(self.members):
            self._at.append(at)
            at += len(self.head(number)) + member.size + len(self.tail(number, 0))
        self._directory_at = at
        self.size = at + len(self.end([0] * len(self.members)))

    def head(self, number: int) -> bytes:
        """The local file header (4.3.7); sizes and CRC come later."""
        member = self.members[number]
        extra = struct.pack("<HHQQ", 1, 16, 0, 0) if member.wide else b""
        size = U32_MAX if member.wide else 0
        name = member.name.encode()
        return struct.pack("<4s5H3I2H", b"PK\3\4", VERSION, FLAGS, 0, *self._when, 0, size, size, len(name), len(extra)) + name + extra

    def tail(self, number: int, crc: int) -> bytes:
        """The data descriptor (4.3.9)."""
        member = self.members[number]
        return struct.pack("<4sIQQ" if member.wide else "<4sIII", b"PK\7\10", crc, member.size, member.size)

    def end(self, crcs: Sequence[int]) -> bytes:
        """The central directory (4.3.12) and its end."""
        directory = b"".join(self._listed(number, crc) for number, crc in enumerate(crcs))
        count, at, size = len(self.members), self._directory_at, len(directory)
        wide = b""
        if at + size >= U32_MAX or count >= U16_MAX:
            record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, MADE_ON_UNIX | VERSION, VERSION, 0, 0, count, count, size, at)
            wide = record + struct.pack("<4sIQI", b"PK\6\7", 0, at + size, 1)
        few = min(count, U16_MAX)
        return directory + wide + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, few, few, min(size, U32_MAX), min(at, U32_MAX), 0)

    def _listed(self, number: int, crc: int) -> bytes:
        member, at = self.members[number], self._at[number]
        wide = ([member.size, member.size] if member.wide else []) + ([at] if at >= U32_MAX else [])
        extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        size, name = U32_MAX if member.wide else member.size, member.name.encode()
        return struct.pack("<4s6H3I5H2I", b"PK\1\2", MADE_ON_UNIX | VERSION, VERSION, FLAGS, 0, *self._when, crc, size, size, len(name),
                           len(extra), 0, 0, 0, UNIX_FILE, min(at, U32_MAX)) + name + extra


def _dos_time(wall_ns: int) -> tuple[int, int]:
    """Time and date as MS-DOS writes them (4.4.6): UTC here, from 1980 on, two seconds fine."""
    when = datetime.fromtimestamp(max(wall_ns // 1_000_000_000, 315_532_800), UTC)
    return when.hour << 11 | when.minute << 5 | when.second // 2, min(when.year - 1980, 127) << 9 | when.month << 5 | when.day
