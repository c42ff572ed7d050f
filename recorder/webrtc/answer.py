"""Session descriptions that answer an offer (RFC 8829 5.3, RFC 8843, RFC 8839 5): one transport, ICE-lite, media that are sent."""

from collections.abc import Mapping
from dataclasses import dataclass

from recorder.webrtc.dtls import Fingerprint
from recorder.webrtc.offer import Codec, Medium, Offer


@dataclass(frozen=True, slots=True)
class Transport:
    """Our side of the transport that all accepted media share."""

    ufrag: str
    password: str
    fingerprint: Fingerprint
    setup: str
    addresses: tuple[str, ...]
    port: int


@dataclass(frozen=True, slots=True)
class Sending:
    """What is answered to one medium: codecs that are sent (RTX among them), SSRCs, name. `ssrcs`: media first, then that of RTX."""

    codecs: tuple[Codec, ...]
    feedback: tuple[str, ...]
    ssrcs: tuple[int, ...]
    label: str


def build_answer(offer: Offer, sending: Mapping[int, Sending], transport: Transport, session_id: int, cname: str) -> str:
    """The answer: for each medium of the offer its place in `sending`, or inactive, or refused if it is no medium of RTP."""
    taken = [medium.mid for index, medium in enumerate(offer.media) if medium.mid in offer.bundle and _shares(offer, medium, index in sending)]
    lines = ["v=0", f"o=- {session_id} 1 IN IP4 127.0.0.1", "s=-", "t=0 0", *([f"a=group:BUNDLE {' '.join(taken)}"] if taken else []),
             "a=ice-lite", "a=msid-semantic: WMS *"]
    for index, medium in enumerate(offer.media):
        lines += _section(offer, medium, sending.get(index), transport, cname)
    return "\r\n".join(lines) + "\r\n"


def _shares(offer: Offer, medium: Medium, sent: bool) -> bool:
    """True for what travels over the one transport: what is sent, and the sections beside it that stay silent."""
    return sent or (bool(medium.codecs) and medium.kind in {"audio", "video"} and medium.mid in offer.bundle)


def _section(offer: Offer, medium: Medium, sent: Sending | None, transport: Transport, cname: str) -> list[str]:
    mid = [f"a=mid:{medium.mid}"] if medium.mid else []
    if not _shares(offer, medium, sent is not None):
        return [f"m={medium.kind} 0 {medium.protocol} {' '.join(medium.formats[:1])}", "c=IN IP4 0.0.0.0", *mid, "a=inactive"]
    codecs = sent.codecs if sent else (_any_codec(medium),)
    lines = [f"m={medium.kind} {transport.port} {medium.protocol} {' '.join(str(codec.payload_type) for codec in codecs)}",
             "c=IN IP4 0.0.0.0", *mid, "a=sendonly" if sent else "a=inactive", "a=rtcp-mux", *_transport(transport)]
    if medium.reduced_rtcp:
        lines.append("a=rtcp-rsize")
    for codec in codecs:
        lines += _codec_lines(codec, sent.feedback if sent else ())
    if sent:
        lines += _sources(sent, cname)
    return lines


def _any_codec(medium: Medium) -> Codec:
    """A codec to name in a section that stays silent."""
    return next((codec for codec in medium.codecs.values() if codec.encoding), next(iter(medium.codecs.values())))


def _transport(transport: Transport) -> list[str]:
    lines = [f"a=ice-ufrag:{transport.ufrag}", f"a=ice-pwd:{transport.password}",
             f"a=fingerprint:{transport.fingerprint.algorithm} {transport.fingerprint.value}", f"a=setup:{transport.setup}"]
    for place, address in enumerate(transport.addresses):       # RFC 8445 5.1.2.1: type preference of host, ours in order, component 1
        priority = 126 << 24 | (65535 - place) << 8 | 255
        lines.append(f"a=candidate:{place + 1} 1 udp {priority} {address} {transport.port} typ host")
    return [*lines, "a=end-of-candidates"]


def _codec_lines(codec: Codec, feedback: tuple[str, ...]) -> list[str]:
    lines = [f"a=rtpmap:{codec.payload_type} {codec.rtpmap}"] if codec.rtpmap else []
    if codec.fmtp_line:
        lines.append(f"a=fmtp:{codec.payload_type} {codec.fmtp_line}")
    return lines + [f"a=rtcp-fb:{codec.payload_type} {one}" for one in feedback if one in codec.feedback]


def _sources(sent: Sending, cname: str) -> list[str]:
    lines = [f"a=msid:{cname} {sent.label}"]
    if len(sent.ssrcs) == 2:
        lines.append(f"a=ssrc-group:FID {sent.ssrcs[0]} {sent.ssrcs[1]}")
    return lines + [f"a=ssrc:{ssrc} cname:{cname}" for ssrc in sent.ssrcs]
