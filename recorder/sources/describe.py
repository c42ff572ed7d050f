"""The session description (RFC 8866) of a source's media, as recorder/rtsp/sdp.py and recorder/rtp/formats.py read it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

FIRST_TYPE = 96
_NAMES = {"h264": "H264", "h265": "H265", "aac": "MPEG4-GENERIC", "pcma": "PCMA", "pcmu": "PCMU"}


@dataclass(frozen=True, slots=True)
class Medium:
    """One medium; `sets` of video, `config` of AAC. `unsupported` names a codec that has no packets here and is only told about."""

    kind: str                      # video, audio
    codec: str                     # h264, h265, aac, pcma, pcmu
    clock_rate: int
    channels: int = 1
    sets: tuple[bytes, ...] = ()
    config: bytes = b""
    unsupported: str = ""


def payload_type(index: int) -> int:
    """The RTP payload type of the medium at `index`."""
    return FIRST_TYPE + index


def describe(media: Sequence[Medium]) -> bytes:
    """The description; media in order, which is also that of their channels."""
    lines = ["v=0", "o=- 0 0 IN IP4 0.0.0.0", "s=source", "t=0 0"]
    for index, medium in enumerate(media):
        kind = payload_type(index)
        rate = f"{_NAMES.get(medium.codec, medium.unsupported or 'X')}/{medium.clock_rate}"
        lines += [f"m={medium.kind} 0 RTP/AVP {kind}", f"a=rtpmap:{kind} {rate}" + (f"/{medium.channels}" if medium.kind == "audio" else "")]
        if fmtp := _fmtp(medium):
            lines.append(f"a=fmtp:{kind} {fmtp}")
    return ("\r\n".join(lines) + "\r\n").encode()


def _fmtp(medium: Medium) -> str:
    if medium.codec == "aac":
        return f"mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config={medium.config.hex()}"
    if medium.codec == "h264" and medium.sets:
        return "packetization-mode=1;sprop-parameter-sets=" + ",".join(map(_base64, medium.sets))
    if medium.codec == "h265" and medium.sets:
        by_kind = {name: [s for s in medium.sets if s[0] >> 1 & 63 == kind] for name, kind in (("vps", 32), ("sps", 33), ("pps", 34))}
        return ";".join(f"sprop-{name}={','.join(map(_base64, found))}" for name, found in by_kind.items() if found)
    return ""


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
