"""Session descriptions as WebRTC offers them (RFC 8866, RFC 8829 5.8), read strictly and within limits.

aiortc's reader is not used: it fails by assertion and KeyError on what it does not expect, has no limits, and its import loads libav.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from recorder.base.errors import Refused
from recorder.webrtc.dtls import Fingerprint

SIZE_MAX = 64 << 10
LINES_MAX = 2000
LINE_MAX = 2048
MEDIAS_MAX = 16
FORMATS_MAX = 128
FINGERPRINTS_MAX = 8
PARAMETERS_MAX = 32
DIRECTIONS = {"sendrecv", "sendonly", "recvonly", "inactive"}
SETUPS = {"actpass", "active", "passive"}
TOKEN = re.compile(r"[!#-'*+\-.0-9A-Z^-~]{1,64}")
ICE_TEXT = re.compile(r"[A-Za-z0-9+/]{4,256}")         # ice-char, RFC 8839 5.4; a ufrag has 4 and more, a pwd 22 and more
PWD_MIN = 22
FINGERPRINT = re.compile(r"([A-Za-z0-9-]{3,10}) +((?:[0-9A-Fa-f]{2}:){15,63}[0-9A-Fa-f]{2})")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
RTPMAP = re.compile(r"([0-9]{1,3}) +(([A-Za-z0-9._-]{1,40})/([0-9]{1,7})(?:/([0-9]{1,2}))?)")
FEEDBACK = re.compile(r"([0-9]{1,3}|\*) +([a-z0-9 -]{1,40})")


@dataclass(slots=True)
class Codec:
    """One payload type of a medium: encoding in lower case, its parameters with names in lower case, and what feedback is offered for it.

    `rtpmap` and `fmtp_line` are as they were offered, for the answer.
    """

    payload_type: int
    rtpmap: str = ""
    encoding: str = ""
    clock_rate: int = 0
    channels: int = 1
    fmtp: dict[str, str] = field(default_factory=dict)
    fmtp_line: str = ""
    feedback: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Medium:
    """One `m=` section; `mid` is "" if it has none."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    codecs: dict[int, Codec]
    mid: str = ""
    direction: str = "sendrecv"
    ufrag: str = ""
    password: str = ""
    setup: str = ""
    fingerprints: list[Fingerprint] = field(default_factory=list)
    rtcp_mux: bool = False
    reduced_rtcp: bool = False

    def repair_of(self, payload_type: int) -> int | None:
        """The payload type of RTX (RFC 4588 8.1) for this one, if it is offered."""
        for codec in self.codecs.values():
            if codec.encoding == "rtx" and codec.fmtp.get("apt") == str(payload_type):
                return codec.payload_type
        return None


@dataclass(frozen=True, slots=True)
class Offer:
    """What somebody offers: its media in order, and which of them share one transport (RFC 8843), as mids."""

    media: tuple[Medium, ...]
    bundle: frozenset[str]


def parse_offer(body: bytes) -> Offer:
    """The offer. Refused, with the reason, if it is no session description or goes beyond the limits."""
    session = Medium("", 0, "", (), {}, setup="")
    media: list[Medium] = []
    bundle: frozenset[str] = frozenset()
    for kind, value in _lines(body):
        if kind == "m":
            if len(media) >= MEDIAS_MAX:
                raise _wrong(f"more than {MEDIAS_MAX} m= lines")
            media.append(_medium(value, session))
        elif kind == "a":
            name, _, content = value.partition(":")
            if name == "group" and not media and content.split()[:1] == ["BUNDLE"]:
                bundle = frozenset(content.split()[1:])
            else:
                _attribute(media[-1] if media else session, name, content.strip())
    if not media:
        raise _wrong("no m= line")
    mids = [medium.mid for medium in media if medium.mid]
    if len(set(mids)) != len(mids):
        raise _wrong("two media with one mid")
    return Offer(tuple(media), bundle)


def _lines(body: bytes) -> Iterator[tuple[str, str]]:
    if len(body) > SIZE_MAX:
        raise _wrong(f"longer than {SIZE_MAX} bytes")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise _wrong("no UTF-8") from None
    lines = re.split(r"\r\n|\n", text)
    if len(lines) > LINES_MAX:
        raise _wrong(f"more than {LINES_MAX} lines")
    if not lines[0].startswith("v=0"):
        raise _wrong("it does not begin with v=0")
    for line in lines:
        kind, equals, value = line.partition("=")
        if len(line) > LINE_MAX:
            raise _wrong(f"a line of more than {LINE_MAX} characters")
        if CONTROL.search(line):        # what stands in the answer again must not look like lines of ours
            raise _wrong("control characters")
        if equals and len(kind) == 1:
            yield kind, value.strip()


def _medium(value: str, session: Medium) -> Medium:
    fields = value.split()
    if len(fields) < 4 or not fields[1].isascii() or not fields[1].isdigit() or len(fields[1]) > 5 or len(fields) > 3 + FORMATS_MAX:
        raise _wrong("an m= line that cannot be read")
    if not all(TOKEN.fullmatch(one) for one in [fields[0], fields[2].replace("/", ""), *fields[3:]]):
        raise _wrong("an m= line with strange characters")
    types = [int(one) for one in fields[3:] if one.isdigit() and len(one) <= 3 and int(one) < 128]
    return Medium(fields[0], int(fields[1]), fields[2], tuple(fields[3:]), {one: Codec(one) for one in types}, "", session.direction,
                  session.ufrag, session.password, session.setup, list(session.fingerprints))


def _attribute(medium: Medium, name: str, content: str) -> None:
    if name in DIRECTIONS:
        medium.direction = name
    elif name == "mid":
        medium.mid = _matching(TOKEN, content, "mid")
    elif name == "ice-ufrag":
        medium.ufrag = _matching(ICE_TEXT, content, "ice-ufrag")
    elif name == "ice-pwd":
        medium.password = _matching(ICE_TEXT, content, "ice-pwd")
    elif name == "setup":
        medium.setup = content if content in SETUPS else ""
    elif name == "fingerprint":
        _fingerprint(medium, content)
    elif name == "rtcp-mux":
        medium.rtcp_mux = True
    elif name == "rtcp-rsize":
        medium.reduced_rtcp = True
    else:
        _codec(medium, name, content)


def _fingerprint(medium: Medium, content: str) -> None:
    found = FINGERPRINT.fullmatch(content)
    if found is None or len(medium.fingerprints) >= FINGERPRINTS_MAX:
        raise _wrong("a=fingerprint cannot be read")
    one = Fingerprint(found[1].lower(), found[2].upper())
    if one not in medium.fingerprints:
        medium.fingerprints.append(one)


def _codec(medium: Medium, name: str, content: str) -> None:
    if name == "rtpmap" and (found := RTPMAP.fullmatch(content)):
        codec = medium.codecs.get(int(found[1]))
        if codec is not None:
            codec.rtpmap, codec.encoding = found[2], found[3].lower()
            codec.clock_rate, codec.channels = int(found[4]), int(found[5] or 1)
    elif name == "fmtp":
        number, _, line = content.partition(" ")
        codec = medium.codecs.get(int(number)) if number.isascii() and number.isdigit() and len(number) <= 3 else None
        if codec is not None:
            codec.fmtp, codec.fmtp_line = _parameters(line), line.strip()
    elif name == "rtcp-fb" and (found := FEEDBACK.fullmatch(content)):
        for codec in medium.codecs.values():
            if found[1] in {"*", str(codec.payload_type)} and len(codec.feedback) < PARAMETERS_MAX:
                codec.feedback.add(found[2])


def _parameters(line: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in line.split(";")[:PARAMETERS_MAX]:
        key, _, value = part.strip().partition("=")
        if key:
            found.setdefault(key.lower(), value.strip())
    return found


def _matching(pattern: re.Pattern[str], content: str, name: str) -> str:
    if not pattern.fullmatch(content):
        raise _wrong(f"a={name} cannot be read")
    return content


def _wrong(what: str) -> Refused:
    return Refused(f"the offer cannot be used: {what}", remedy="send what RTCPeerConnection.createOffer gave")
