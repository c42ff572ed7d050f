"""What DESCRIBE answers (RFC 8866; fmtp of RFC 6184 8.2.1, RFC 7798 7.2.1, RFC 3640 4.1)."""

import base64
from collections.abc import Sequence

from bench.camsim.clip import Clip
from bench.camsim.packets import PAYLOAD_TYPES


def describe(name: str, host: str, tracks: Sequence[Clip]) -> bytes:
    """The SDP of one stream; track i has the control URL `trackID=i` below the stream's."""
    lines = ["v=0", f"o=- 1 1 IN IP4 {host}", f"s=camsim {name}", "c=IN IP4 0.0.0.0", "t=0 0", "a=control:*", "a=range:npt=now-"]
    for i, clip in enumerate(tracks):
        lines += [*_media(clip), f"a=control:trackID={i}"]
    return "\r\n".join([*lines, ""]).encode()


def _media(clip: Clip) -> list[str]:
    kind, pt = ("video" if clip.width else "audio"), PAYLOAD_TYPES[clip.codec]
    lines = [f"m={kind} 0 RTP/AVP {pt}", f"b=AS:{clip.kbps}", f"a=rtpmap:{pt} {_rtpmap(clip)}"]
    if parameters := _parameters(clip):
        lines.append(f"a=fmtp:{pt} {parameters}")
    return [*lines, f"a=framerate:{clip.fps}", f"a=framesize:{pt} {clip.width}-{clip.height}"] if clip.width else lines


def _rtpmap(clip: Clip) -> str:
    names = {"aac": "mpeg4-generic", "g726": "G726-32"}
    return f"{names.get(clip.codec, clip.codec.upper())}/{clip.clock_rate}" + {"aac": "/1", "opus": "/2", "l16": "/1"}.get(clip.codec, "")


def _parameters(clip: Clip) -> str:
    sets = [base64.b64encode(s).decode() for s in clip.sets]
    if clip.codec == "h264":
        return f"packetization-mode=1;profile-level-id={clip.sets[0][1:4].hex().upper()};sprop-parameter-sets={','.join(sets)}"
    if clip.codec == "h265":
        return "sprop-vps={};sprop-sps={};sprop-pps={}".format(*sets)
    if clip.codec == "aac":
        sizes = "sizelength=13;indexlength=3;indexdeltalength=3"
        return f"streamtype=5;profile-level-id=15;mode=AAC-hbr;{sizes};config={clip.config.hex().upper()}"
    return ""
