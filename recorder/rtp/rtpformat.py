"""How one medium is to be depacketised: what a session tells its kernel."""

import re
from dataclasses import dataclass

from recorder.base.media import TrackKind
from recorder.rtp.aac import AacConfig

VIDEO = ("h264", "h265", "jpeg")
METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class RtpFormat:
    """`codec` is the kernel's name (recorder._ext.rtp); `clock_rate` the tick of its pts. `sets`: NALs without start codes, in SDP order.

    `config`: of AAC whose config the SDP has. `latm_config`: its StreamMuxConfig. `width`, `height`: what the SDP says of JPEG pictures.
    `encoding`: as the SDP spells it, in upper case.
    """

    codec: str
    payload_types: tuple[int, ...]
    clock_rate: int
    channels: int = 1
    sets: tuple[bytes, ...] = ()
    config: AacConfig | None = None
    size_length: int = 13
    index_length: int = 3
    index_delta_length: int = 3
    fps: float = 0.0
    latm_config: bytes = b""
    width: int = 0
    height: int = 0
    encoding: str = ""

    @property
    def kind(self) -> TrackKind:
        """Video, audio or metadata."""
        if self.codec == METADATA:
            return TrackKind.METADATA
        return TrackKind.VIDEO if self.codec in VIDEO else TrackKind.AUDIO

    @property
    def aac_duration(self) -> int:
        """Ticks per AAC frame."""
        if self.config is None:
            return 1024
        return max(1, round(self.config.frame_samples * self.clock_rate / self.config.sample_rate))

    @property
    def fixed(self) -> bool:
        """True if all access units are coded alike and the SDP says how: nothing in band changes that."""
        return self.kind is not TrackKind.VIDEO and self.codec != "latm"


def hex_bytes(text: str) -> bytes:
    """The bytes of an fmtp value in hex; nothing if it is none."""
    text = text.strip('"')
    if not re.fullmatch(r"[0-9a-fA-F]{4,128}", text):
        return b""
    return bytes.fromhex(text + "0" * (len(text) % 2))


def number(text: str, default: int) -> int:
    """A decimal number of an fmtp value, or the default."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default
