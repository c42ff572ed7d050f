"""The header extension of replayed RTP packets (ONVIF Streaming 6.3): when an AU was taken, and where it stands in the footage."""

import struct

from recorder.base.media import NS

PROFILE, WORDS = 0xABAC, 3
CLEAN, END, JUMP, LAST = 0x80, 0x40, 0x20, 0x10       # C, E, D, T
NTP_EPOCH_S = 2_208_988_800                           # 1900 to 1970 (RFC 3550 4)
_FORM = struct.Struct(">HHIIBBH")


def ntp(wall_ns: int) -> tuple[int, int]:
    """UTC as NTP seconds (of its era) and fraction, rounded up, so that the nanosecond comes out again whichever way it is rounded."""
    seconds, rest = divmod(wall_ns, NS)
    return (seconds + NTP_EPOCH_S) & 0xFFFFFFFF, ((rest << 32) + NS - 1) // NS


def extension(wall_ns: int, flags: int, cseq: int) -> bytes:
    """The 16 bytes that stand behind the fixed header (RFC 3550 5.3.1). `flags`: CLEAN, END, JUMP, LAST; `cseq`: that of the PLAY."""
    return _FORM.pack(PROFILE, WORDS, *ntp(wall_ns), flags, cseq & 0xFF, 0)
