"""From a medium of the SDP to what the depacketiser is told (RFC 6184 8, RFC 7798 7, RFC 2435; audio.py), and to sample entries.

What the SDP says about parameter sets is a hint: broken ones are left out, in-band sets override them in the kernel.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from recorder.base.errors import SourceError
from recorder.base.media import GapCause, SampleEntry, TrackKind
from recorder.rtp import h264, h265
from recorder.rtp.audio import audio_codec, audio_entry, audio_format
from recorder.rtp.rtpformat import METADATA, VIDEO, RtpFormat, number
from recorder.rtsp.sdp import METADATA_ENCODING, Media, PayloadFormat

__all__ = ["VIDEO_CLOCK", "RtpFormat", "VideoFacts", "rtp_format", "sample_entry_for", "split_start_codes", "video_facts"]

SETS_MAX = 16
SET_BYTES_MAX = 4096
VIDEO_CLOCK = 90_000       # RFC 6184 8.2.1, RFC 7798 7.1, RFC 2435 3: MUST; what an rtpmap says else is a slip
_VIDEO_ENCODINGS = {"H264": "h264", "H265": "h265", "HEVC": "h265", "JPEG": "jpeg"}


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
        codec = _codec(media.kind, offered.encoding.removeprefix("X-"))
        if codec is None:
            reasons.append(offered.encoding or f"payload type {offered.payload_type}")
            continue
        made = _made(media, offered, codec)
        if isinstance(made, RtpFormat):
            return made
        reasons.append(made)
    raise SourceError(f"the camera's {media.kind[:20]} is {', '.join(reasons)[:120]}, which is not recorded", cause=GapCause.UNSUPPORTED,
                      retry_s=60.0, remedy="set it to H.264 or H.265 (audio: AAC, G.711, Opus, G.726 or L16)")


def _codec(kind: str, encoding: str) -> str | None:
    """The kernel's name for an encoding that a medium of this kind may have."""
    if kind == "video":
        return _VIDEO_ENCODINGS.get(encoding)
    if kind == "audio":
        return audio_codec(encoding)
    return METADATA if encoding.startswith(METADATA_ENCODING) else None


def _made(media: Media, offered: PayloadFormat, codec: str) -> RtpFormat | str:
    """The format, or why there is none."""
    if codec == METADATA:
        return RtpFormat(METADATA, _same(media, offered), offered.clock_rate or VIDEO_CLOCK, encoding=offered.encoding)
    if codec == "jpeg":
        return RtpFormat(codec, _same(media, offered), VIDEO_CLOCK, fps=media.framerate, width=media.width, height=media.height)
    return _video(media, offered, codec) if codec in VIDEO else audio_format(codec, offered, _same(media, offered))


def _video(media: Media, offered: PayloadFormat, codec: str) -> RtpFormat | str:
    if number(offered.fmtp.get("sprop-max-don-diff", "0"), 0) > 0:
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


def _same(media: Media, offered: PayloadFormat) -> tuple[int, ...]:
    """The payload types of the medium with this encoding and clock, the chosen first: AUs of another codec must not get in."""
    wanted = (offered.encoding, offered.clock_rate, offered.channels)
    rest = [f.payload_type for f in media.formats if (f.encoding, f.clock_rate, f.channels) == wanted]
    return tuple(dict.fromkeys([offered.payload_type, *rest]))


def video_facts(codec: str, sets: Sequence[bytes]) -> VideoFacts:
    """Size, rate and reorder depth by the first SPS among `sets`; zeros and -1 if there is none or it cannot be read."""
    if codec == "jpeg":
        return VideoFacts(reorder_depth=0)
    sps: h264.H264Sps | h265.H265Sps
    if codec == "h264":
        sps = next((h264.parse_sps(n) for n in sets if h264.nal_type(n) == h264.SPS), h264.H264Sps())
    else:
        sps = next((h265.parse_sps(n) for n in sets if h265.nal_type(n) == h265.SPS), h265.H265Sps())
    return VideoFacts(sps.width, sps.height, sps.fps, sps.reorder_depth)


def sample_entry_for(rtp: RtpFormat, sets: Sequence[bytes] = ()) -> SampleEntry | None:
    """How AUs of this format are coded, given what the kernel knows of it (RtpTrack.format_sets); None while that is not enough."""
    if rtp.kind is TrackKind.METADATA:
        return SampleEntry("metx", rtp.encoding.lower().encode(), rtp.clock_rate)
    if rtp.kind is TrackKind.AUDIO:
        return audio_entry(rtp, tuple(sets))
    if rtp.codec == "jpeg":
        size = sets[0] if sets else bytes(4)
        return SampleEntry("jpeg", b"", rtp.clock_rate, int.from_bytes(size[:2]), int.from_bytes(size[2:]))
    config = (h264 if rtp.codec == "h264" else h265).configuration(sets)
    if not config:
        return None
    facts = video_facts(rtp.codec, sets)
    return SampleEntry("avc1" if rtp.codec == "h264" else "hvc1", config, rtp.clock_rate, facts.width, facts.height)
