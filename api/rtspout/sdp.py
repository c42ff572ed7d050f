"""Session descriptions of presentations (RFC 8866; RFC 2326 appendix C)."""

import re

from api.rtspout.coding import coding_of
from api.rtspout.presentation import Medium, Presentation
from recorder.base.media import TrackKind

CONTROL = "track-"


def describe(presentation: Presentation, name: str, host: str, number: int) -> bytes:
    """The description; `name` is the session's, `host` our address, `number` tells sessions apart. Raises Conflict for what cannot be sent."""
    family = "IP6" if ":" in host else "IP4"
    lines = ["v=0", f"o=- {number} 1 IN {family} {host}", f"s={_one_line(name) or '-'}",
             f"c=IN {family} {'::' if family == 'IP6' else '0.0.0.0'}", "t=0 0", "a=control:*",
             *(f"a={_one_line(text)}" for text in presentation.attributes)]
    for medium in presentation.media:
        lines += _medium(medium)
    return "\r\n".join([*lines, ""]).encode()


def _medium(medium: Medium) -> list[str]:
    coding, entry = coding_of(medium.entry), medium.entry
    lines = [f"m={coding.kind} 0 RTP/AVP {coding.payload_type}", f"a=rtpmap:{coding.payload_type} {coding.name}"]
    if coding.parameters:
        lines.append(f"a=fmtp:{coding.payload_type} {coding.parameters}")
    if entry.kind is TrackKind.VIDEO and entry.width and entry.height:
        lines.append(f"a=x-dimensions:{entry.width},{entry.height}")
    return [*lines, *(f"a={_one_line(text)}" for text in medium.attributes), f"a=control:{CONTROL}{medium.track}"]


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)[:200]
