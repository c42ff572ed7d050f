"""Access units as RTP in interleaved frames (RFC 6184 5.6, 5.8; RFC 7798 4.4; RFC 3640 3.3; RFC 3551); the kernels undo it.

The channel is a socket pair, so a packet may be as long as an interleaved frame can say.
"""

import struct
from collections.abc import Sequence

PAYLOAD_MAX = 60_000
AAC_MAX = (1 << 13) - 1              # sizeLength 13
NTP_UNIX_S = 2_208_988_800
_HEAD = struct.Struct(">cBHBBHII")
_REPORT = struct.Struct(">cBHBBHIQIII")


class Packetiser:
    """One medium's packets. `codec` as recorder.rtp.formats says it."""

    def __init__(self, codec: str, channel: int, payload_type: int) -> None:
        self._codec = codec
        self._channel = channel
        self._payload_type = payload_type
        self._ssrc = channel + 1
        self._sequence = 0

    def video(self, nals: Sequence[bytes], ts: int, *, damaged: bool = False) -> list[bytes]:
        """The frames of one picture. A damaged one ends in a gap of the sequence, which the worker's kernel understands as loss in it."""
        payloads = [payload for nal in nals for payload in self._fragments(nal)]
        frames = [self._frame(payload, ts, marker=at == len(payloads) and not damaged) for at, payload in enumerate(payloads, 1)]
        if damaged:
            self.skip()
            frames.append(self._frame(b"", ts))
        return frames

    def audio(self, unit: bytes, ts: int) -> list[bytes]:
        """The frame of one audio AU; an AAC frame gets the one AU header (RFC 3640 3.2.1) that it needs. Too long a one is left out."""
        if self._codec != "aac":
            return [self._frame(unit, ts)]
        if len(unit) > AAC_MAX:
            self.skip()
            return []
        return [self._frame(struct.pack(">HH", 16, len(unit) << 3) + unit, ts, marker=True)]

    def skip(self) -> None:
        """Something is missing here."""
        self._sequence += 1

    def report(self, seconds: float, ts: int) -> bytes:
        """A sender report (RFC 3550 6.4.1) that places `ts` at `seconds` of the clock that all media of the source share."""
        ntp = int((NTP_UNIX_S + 1_600_000_000 + seconds) * (1 << 32)) & (1 << 64) - 1
        return _REPORT.pack(b"$", self._channel + 1, 28, 0x80, 200, 6, self._ssrc, ntp, ts & 0xFFFFFFFF, 0, 0)

    def _frame(self, payload: bytes, ts: int, *, marker: bool = False) -> bytes:
        head = _HEAD.pack(b"$", self._channel, 12 + len(payload), 0x80, marker << 7 | self._payload_type, self._sequence & 0xFFFF,
                          ts & 0xFFFFFFFF, self._ssrc)
        self._sequence += 1
        return head + payload

    def _fragments(self, nal: bytes) -> list[bytes]:
        """The payloads of a NAL unit: itself, or FU-A (H.264), FU (H.265)."""
        if len(nal) <= PAYLOAD_MAX:
            return [nal]
        if self._codec == "h264":
            head, kind, size = bytes([nal[0] & 0xE0 | 28]), nal[0] & 31, 1
        else:
            head, kind, size = bytes([nal[0] & 0x81 | 49 << 1, nal[1]]), nal[0] >> 1 & 63, 2
        starts = range(size, len(nal), PAYLOAD_MAX)
        return [head + bytes([(at == size) << 7 | (at + PAYLOAD_MAX >= len(nal)) << 6 | kind]) + nal[at:at + PAYLOAD_MAX] for at in starts]
