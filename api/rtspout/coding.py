"""From a sample entry to a stream of RTP: payload type, clock, packetiser, and its lines in a description (RFC 8866 5.14, 6.6, 6.15)."""

import base64
import struct
from dataclasses import dataclass

from api.ts.elementary import avc_sets, hevc_sets
from recorder._ext.rtppack import Packer
from recorder.base.errors import Conflict
from recorder.base.media import SampleEntry, TrackKind
from recorder.rtp import h264, h265

VIDEO_CLOCK = 90_000
PACKET_BYTES = 1400         # IPv6, UDP and a tunnel fit into 1,500 besides
LEAD = 4                    # what stands before a packet of an interleaved connection
STATIC = {("alaw", 8000, 1): 8, ("ulaw", 8000, 1): 0}
DYNAMIC = {TrackKind.VIDEO: 96, TrackKind.AUDIO: 97, TrackKind.METADATA: 98}
JPEG = 26


@dataclass(frozen=True, slots=True)
class Coding:
    """How a track is sent: `clock` ticks of an RTP timestamp a second, `name` as rtpmap has it, `parameters` as fmtp has them."""

    kind: str
    payload_type: int
    clock: int
    name: str
    parameters: str = ""


def coding_of(entry: SampleEntry) -> Coding:
    """Raises Conflict for what no RTP payload format carries, or whose configuration cannot be read."""
    try:
        return _coding(entry)
    except (KeyError, IndexError, struct.error):
        raise Conflict(f"{entry.codec} cannot be sent over RTSP", remedy="ask for it over HTTP") from None


def packer_of(entry: SampleEntry, ssrc: int, *, channel: int = 0, sequence: int = 0) -> Packer:
    """The packetiser of a track's units. Raises Conflict."""
    grain = {"alaw": entry.channels, "ulaw": entry.channels, "twos": 2 * entry.channels, "g726": entry.config[0] if entry.config else 4}
    try:
        return Packer(entry.codec, coding_of(entry).payload_type, ssrc, sequence=sequence, packet_max=PACKET_BYTES, lead=LEAD, channel=channel,
                      grain=max(grain.get(entry.codec, 1), 1))
    except ValueError:
        raise Conflict(f"{entry.codec} cannot be sent over RTSP", remedy="ask for it over HTTP") from None


def sets_of(entry: SampleEntry) -> list[bytes]:
    """The parameter sets of H.264 or H.265 in the order in which they are sent; [] for others. Raises IndexError, struct.error."""
    if entry.codec in {"avc1", "avc3"}:
        return avc_sets(entry.config)
    return hevc_sets(entry.config) if entry.codec in {"hvc1", "hev1"} else []


def _coding(entry: SampleEntry) -> Coding:
    kind = {TrackKind.METADATA: "application"}.get(entry.kind, entry.kind.value)
    payload_type = STATIC.get((entry.codec, entry.clock_rate, entry.channels), DYNAMIC[entry.kind])
    if entry.codec == "jpeg":
        return Coding(kind, JPEG, VIDEO_CLOCK, f"JPEG/{VIDEO_CLOCK}")
    if entry.kind is TrackKind.VIDEO:
        name, parameters = _video(entry)
        return Coding(kind, payload_type, VIDEO_CLOCK, f"{name}/{VIDEO_CLOCK}", parameters)
    if entry.kind is TrackKind.METADATA:
        return Coding(kind, payload_type, VIDEO_CLOCK, f"{entry.config.decode()}/{VIDEO_CLOCK}")
    name, parameters = _sound(entry)
    return Coding(kind, payload_type, entry.clock_rate, name, parameters)


def _video(entry: SampleEntry) -> tuple[str, str]:
    """RFC 6184 8.2.1; RFC 7798 7.1."""
    sets = sets_of(entry)
    if entry.codec in {"avc1", "avc3"}:
        spoken = ",".join(_text(nal) for nal in sets if h264.nal_type(nal) in {h264.SPS, h264.PPS})
        return "H264", f"packetization-mode=1;profile-level-id={entry.config[1:4].hex().upper()};sprop-parameter-sets={spoken}"
    if entry.codec not in {"hvc1", "hev1"}:
        raise KeyError(entry.codec)
    kinds = {"sprop-vps": h265.VPS, "sprop-sps": h265.SPS, "sprop-pps": h265.PPS}
    return "H265", ";".join(f"{key}={','.join(_text(nal) for nal in sets if h265.nal_type(nal) == kind)}" for key, kind in kinds.items())


def _sound(entry: SampleEntry) -> tuple[str, str]:
    """RFC 3640 4.1; RFC 7587 7; RFC 3551 4.5, 6."""
    rate, channels = entry.clock_rate, f"/{entry.channels}" if entry.channels > 1 else ""
    if entry.codec == "mp4a":
        return (f"MPEG4-GENERIC/{rate}/{max(entry.channels, 1)}", "streamtype=5;profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;"
                f"indexdeltalength=3;config={entry.config.hex().upper()}")
    if entry.codec == "Opus":
        return "opus/48000/2", "sprop-stereo=1"
    if entry.codec == "g726":
        return f"G726-{8 * entry.config[0]}/{rate}", ""
    return {"alaw": "PCMA", "ulaw": "PCMU", "twos": "L16"}[entry.codec] + f"/{rate}{channels}", ""


def _text(nal: bytes) -> str:
    return base64.b64encode(nal).decode()
