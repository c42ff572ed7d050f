"""From a medium of the SDP to what the depacketiser is told (RFC 6184 8, RFC 7798 7, RFC 3640 4, RFC 3551), and to sample entries.

What the SDP says about parameter sets is a hint: broken ones are left out, in-band sets override them in the kernel.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from recorder.base.errors import SourceError
from recorder.base.media import GapCause, SampleEntry, TrackKind
from recorder.rtp import aac, h264, h265
from recorder.rtsp.sdp import Media, PayloadFormat

SETS_MAX = 16
SET_BYTES_MAX = 4096
VIDEO_CLOCK = 90_000       # RFC 6184 8.2.1, RFC 7798 7.1: MUST; what an rtpmap says else is a slip
VIDEO, AUDIO = ("h264", "h265"), ("aac", "pcma", "pcmu")
_ENCODINGS = {"H264": "h264", "H265": "h265", "HEVC": "h265", "MPEG4-GENERIC": "aac", "PCMA": "pcma", "PCMU": "pcmu"}
_G711 = {"pcma": "alaw", "pcmu": "ulaw"}


@dataclass(frozen=True, slots=True)
class RtpFormat:
    """How one medium is to be depacketised. `clock_rate` is the tick of its pts. `sets`: NALs without start codes, in SDP order."""

    codec: str                              # h264, h265, aac, pcma, pcmu
    payload_types: tuple[int, ...]
    clock_rate: int
    channels: int = 1
    sets: tuple[bytes, ...] = ()
    config: aac.AacConfig | None = None
    size_length: int = 13
    index_length: int = 3
    index_delta_length: int = 3
    fps: float = 0.0

    @property
    def kind(self) -> TrackKind:
        """Video or audio."""
        return TrackKind.VIDEO if self.codec in VIDEO else TrackKind.AUDIO

    @property
    def aac_duration(self) -> int:
        """Ticks per AAC frame."""
        if self.config is None:
            return 1024
        return max(1, round(self.config.frame_samples * self.clock_rate / self.config.sample_rate))


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What the parameter sets tell about pictures; zeros and -1 where unknown."""

    width: int = 0
    height: int = 0
    fps: float = 0.0
    reorder_depth: int = -1


def rtp_format(media: Media) -> RtpFormat:
    """The first format of the medium that can be recorded.

    Raises SourceError (cause `unsupported`, next try after 60 s), naming the encodings offered.
    """
    reasons = []
    for offered in media.formats:
        codec = _ENCODINGS.get(offered.encoding.removeprefix("X-"))
        if codec is None or (codec in VIDEO) != (media.kind == "video"):
            reasons.append(offered.encoding or f"payload type {offered.payload_type}")
            continue
        made = _made(media, offered, codec)
        if isinstance(made, RtpFormat):
            return made
        reasons.append(made)
    raise SourceError(f"the camera's {media.kind[:20]} is {', '.join(reasons)[:120]}, which is not recorded", cause=GapCause.UNSUPPORTED,
                      retry_s=60.0, remedy="set it to H.264 or H.265 (audio: AAC or G.711)")


def _made(media: Media, offered: PayloadFormat, codec: str) -> RtpFormat | str:
    """The format, or why there is none."""
    if codec == "aac":
        return _aac(media, offered)
    return _video(media, offered, codec) if codec in VIDEO else _g711(media, offered, codec)


def _video(media: Media, offered: PayloadFormat, codec: str) -> RtpFormat | str:
    if _number(offered.fmtp.get("sprop-max-don-diff", "0"), 0) > 0:
        return f"{offered.encoding} with interleaved NALs (sprop-max-don-diff)"
    if codec == "h264" and offered.fmtp.get("packetization-mode") == "2":
        return "H264 in interleaved mode"
    keys = ("sprop-parameter-sets",) if codec == "h264" else ("sprop-vps", "sprop-sps", "sprop-pps")
    sets = _sets(",".join(offered.fmtp.get(key, "") for key in keys), codec)
    return RtpFormat(codec, _same(media, offered), VIDEO_CLOCK, sets=sets, fps=media.framerate)


def _sets(text: str, codec: str) -> tuple[bytes, ...]:
    """The sets in a comma-separated list of base64; H.265 needs all three kinds or gets none."""
    nals = [nal for item in text.split(",")[:SETS_MAX] for nal in split_start_codes(_decode(item))]
    if codec == "h264":
        return tuple(n for n in nals if h264.nal_type(n) in {h264.SPS, h264.PPS, h264.SPS_EXT})
    good = tuple(n for n in nals if h265.nal_type(n) in {h265.VPS, h265.SPS, h265.PPS})
    return good if {h265.nal_type(n) for n in good} == {h265.VPS, h265.SPS, h265.PPS} else ()


def _decode(item: str) -> bytes:
    text = re.sub(r"\s", "", item).rstrip("=")
    if not text or len(text) > 2 * SET_BYTES_MAX:
        return b""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def split_start_codes(data: bytes) -> list[bytes]:
    """NALs of `data`, which may hold Annex B start codes before, between and behind them; trailing zeros are no part of a NAL."""
    return [nal for part in re.split(rb"\x00\x00(?:\x00)*\x01", data) if (nal := part.rstrip(b"\0")) and len(nal) <= SET_BYTES_MAX]


def _aac(media: Media, offered: PayloadFormat) -> RtpFormat | str:
    fmtp = offered.fmtp
    mode = fmtp.get("mode", "AAC-hbr").lower()
    low = mode == "aac-lbr"
    if mode not in {"aac-hbr", "aac-lbr"} or fmtp.get("auxiliarydatasizelength", "0") not in {"", "0"}:
        return f"MPEG4-GENERIC in mode {mode[:20]}"
    config = aac.parse_config(_hex(fmtp.get("config", ""))) or aac.default_config(offered.clock_rate, offered.channels)
    if config is None or config.object_type not in {1, 2, 3, 4, 6, 17, 23, 39}:
        return "AAC without a readable config"
    sizes = [_number(fmtp.get(key, ""), default) for key, default in
             (("sizelength", 6 if low else 13), ("indexlength", 2 if low else 3), ("indexdeltalength", 2 if low else 3))]
    if not (0 < sizes[0] <= 16 and all(0 <= s <= 16 for s in sizes[1:])):
        return "AAC with odd AU headers"
    return RtpFormat("aac", _same(media, offered), _aac_clock(offered.clock_rate, config), config.channels, config=config,
                     size_length=sizes[0], index_length=sizes[1], index_delta_length=sizes[2])


def _aac_clock(declared: int, config: aac.AacConfig) -> int:
    """The config's rate wins over the rtpmap's, except where that is the output rate of SBR."""
    return declared if declared in {config.output_rate, 2 * config.sample_rate} else config.sample_rate


def _g711(media: Media, offered: PayloadFormat, codec: str) -> RtpFormat | str:
    if not 1 <= offered.channels <= 2 or (offered.clock_rate or 8000) not in aac.RATES:    # every clock is a track of its own
        return f"{offered.encoding}/{offered.clock_rate}/{offered.channels}"
    return RtpFormat(codec, _same(media, offered), offered.clock_rate or 8000, offered.channels)


def _same(media: Media, offered: PayloadFormat) -> tuple[int, ...]:
    """The payload types of the medium with this encoding and clock, the chosen first: AUs of another codec must not get in."""
    wanted = (offered.encoding, offered.clock_rate, offered.channels)
    rest = [f.payload_type for f in media.formats if (f.encoding, f.clock_rate, f.channels) == wanted]
    return tuple(dict.fromkeys([offered.payload_type, *rest]))


def video_facts(codec: str, sets: Sequence[bytes]) -> VideoFacts:
    """Size, rate and reorder depth by the first SPS among `sets`; zeros and -1 if there is none or it cannot be read."""
    sps: h264.H264Sps | h265.H265Sps
    if codec == "h264":
        sps = next((h264.parse_sps(n) for n in sets if h264.nal_type(n) == h264.SPS), h264.H264Sps())
    else:
        sps = next((h265.parse_sps(n) for n in sets if h265.nal_type(n) == h265.SPS), h265.H265Sps())
    return VideoFacts(sps.width, sps.height, sps.fps, sps.reorder_depth)


def sample_entry_for(rtp: RtpFormat, sets: Sequence[bytes] = ()) -> SampleEntry | None:
    """How AUs of this format are coded, given the parameter sets in force; None for video whose sets are incomplete."""
    if rtp.codec in VIDEO:
        config = (h264 if rtp.codec == "h264" else h265).configuration(sets)
        if not config:
            return None
        facts = video_facts(rtp.codec, sets)
        return SampleEntry("avc1" if rtp.codec == "h264" else "hvc1", config, rtp.clock_rate, facts.width, facts.height)
    if rtp.config is not None:
        return SampleEntry("mp4a", rtp.config.config, rtp.clock_rate, channels=rtp.config.channels,
                           sample_rate=rtp.config.output_rate)
    return SampleEntry(_G711[rtp.codec], b"", rtp.clock_rate, channels=rtp.channels, sample_rate=rtp.clock_rate)


def _hex(text: str) -> bytes:
    text = text.strip('"')
    if not re.fullmatch(r"[0-9a-fA-F]{4,128}", text):
        return b""
    return bytes.fromhex(text + "0" * (len(text) % 2))


def _number(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default


