"""Session descriptions (RFC 8866) as cameras write them: read line by line, what is not understood is skipped.

A medium that makes no sense is lost and listed; the session never is. Only two things refuse the whole: more than 128 KiB or 4,096
lines, and no usable medium at all (which the caller decides). See tests/session/test_sdp.py for each defect that is tolerated.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from recorder.base.errors import SourceError
from recorder.base.media import GapCause
from recorder.rtsp.url import URL_MAX

SDP_MAX = 128 << 10
LINES_MAX = 4096
MEDIAS_MAX = 64
FORMATS_MAX = 32
STATIC = {0: ("PCMU", 8000, 1), 2: ("G726-32", 8000, 1), 3: ("GSM", 8000, 1), 8: ("PCMA", 8000, 1), 9: ("G722", 8000, 1), 10: ("L16", 44100, 2),
          11: ("L16", 44100, 1), 14: ("MPA", 90000, 1), 26: ("JPEG", 90000, 1), 31: ("H261", 90000, 1), 32: ("MPV", 90000, 1),
          33: ("MP2T", 90000, 1), 34: ("H263", 90000, 1)}      # RFC 3551 6; 2 was G721, RFC 1890 5
METADATA_ENCODING = "VND.ONVIF.METADATA"     # ONVIF Streaming 5.2.1; compressed ones have it as their first part
DIRECTIONS = {"sendrecv", "sendonly", "recvonly", "inactive"}


@dataclass(frozen=True, slots=True)
class PayloadFormat:
    """One RTP payload type. `encoding`: upper case, "" if the SDP never says; `clock_rate`: 0 = unknown; `fmtp`: keys in lower case."""

    payload_type: int
    encoding: str = ""
    clock_rate: int = 0
    channels: int = 1
    fmtp: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Media:
    """One `m=` block; `index` counts all blocks, the lost ones included."""

    index: int
    kind: str                       # video, audio, application, ...; lower case
    protocol: str
    formats: tuple[PayloadFormat, ...]
    control: str = ""
    direction: str = ""
    framerate: float = 0.0
    width: int = 0                  # of pictures whose packets do not say it; 0 if the SDP does not either
    height: int = 0

    @property
    def payload_types(self) -> tuple[int, ...]:
        """Every payload type of the block, the default first."""
        return tuple(f.payload_type for f in self.formats)


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """What a DESCRIBE answer tells. `lost` says, a line each, which media were given up and why."""

    medias: tuple[Media, ...]
    control: str = ""
    tool: str = ""
    lost: tuple[str, ...] = ()

    def received(self, kind: str) -> list[Media]:
        """The media of a kind that the camera sends to us; `metadata` is ONVIF's.

        `a=sendonly` marks the backchannel (audio from us to the camera); where all media bear it, the camera means itself.
        """
        every = all(m.direction == "sendonly" for m in self.medias)
        return [m for m in self.medias if _is_kind(m, kind) and m.direction != "inactive" and (every or m.direction != "sendonly")]


def _is_kind(media: Media, kind: str) -> bool:
    if kind == "metadata":
        return any(f.encoding.startswith(METADATA_ENCODING) for f in media.formats)
    return media.kind == kind


@dataclass(slots=True)
class _Block:
    """A block in the making."""

    index: int
    kind: str = ""
    protocol: str = ""
    payload_types: list[int] = field(default_factory=list)
    rtpmap: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    fmtp: dict[int, dict[str, str]] = field(default_factory=dict)
    control: str = ""
    direction: str = ""
    framerate: float = 0.0
    size: tuple[int, int] = (0, 0)
    tool: str = ""


def parse_sdp(body: bytes) -> SessionDescription:
    """The description in `body`. Raises SourceError (cause `bad_sdp`, next try after 60 s) over the limits or without any `m=` line."""
    session = _Block(-1)
    block, index = session, 0
    blocks: list[_Block] = []
    lost: list[str] = []
    for kind, value in _lines(body):
        if kind == "m":
            block = _Block(index, direction=session.direction)
            index += 1
            why = _media_line(block, value)
            if why or len(blocks) >= MEDIAS_MAX:
                lost.append(f"m={value[:80]}: {why or 'too many'}")
            else:
                blocks.append(block)
        elif kind == "a":
            _attribute(block, value)
    if not index:
        raise _bad("no m= line")
    _send_home_strays(blocks)
    return SessionDescription(tuple(_media(b) for b in blocks), session.control, session.tool, tuple(lost))


def _lines(body: bytes) -> Iterator[tuple[str, str]]:
    if len(body) > SDP_MAX:
        raise _bad(f"{len(body)} bytes, more than {SDP_MAX}")
    lines = re.split(r"\r\n|\n|\r", body.decode("utf-8", "replace").lstrip("\ufeff"))
    if len(lines) > LINES_MAX:
        raise _bad(f"{len(lines)} lines, more than {LINES_MAX}")
    for line in lines:
        kind, equals, value = line.strip(" \t\0").partition("=")
        if equals and len(kind.strip()) == 1:
            yield kind.strip().lower(), value.strip()


def _media_line(block: _Block, value: str) -> str:
    """Read `m=`; returns why the block is lost, or ""."""
    fields = value.split()
    if len(fields) < 4:
        return "fewer than four fields"
    block.kind, block.protocol = fields[0].lower(), fields[2].upper()
    numbers = [int(f[:4]) for f in fields[3:3 + FORMATS_MAX] if f.isascii() and f.isdigit()]
    block.payload_types = list(dict.fromkeys(n for n in numbers if n < 128))
    if not block.protocol.startswith("RTP/"):
        return f"transport {block.protocol[:20]}"
    return "" if block.payload_types else "no payload type"


def _attribute(block: _Block, value: str) -> None:
    name, _, content = value.partition(":")
    name, content = name.strip().lower(), content.strip()
    if name == "control":
        block.control = content if 0 < len(content) <= URL_MAX else block.control
    elif name in DIRECTIONS:
        block.direction = name
    elif name == "tool":
        block.tool = content[:80]
    elif name == "rtpmap":
        _rtpmap(block, content)
    elif name == "fmtp":
        _fmtp(block, content)
    elif name in {"framerate", "x-framerate"}:
        block.framerate = _rate(content) or block.framerate
    elif name in {"x-dimensions", "framesize"}:      # Axis; RFC 6064 3.3
        match = re.search(r"\b(\d{1,5})[,-]\s*(\d{1,5})$", content)
        block.size = (min(int(match[1]), 65535), min(int(match[2]), 65535)) if match else block.size


def _rtpmap(block: _Block, content: str) -> None:
    match = re.match(r"(\d{1,3})\s+([^/\s]+)\s*(?:/\s*(\d{1,9}))?\s*(?:/\s*(\d{1,3}))?", content)
    if match:
        block.rtpmap.setdefault(int(match[1]), (match[2].upper(), int(match[3] or 0), int(match[4] or 0) or 1))


def _fmtp(block: _Block, content: str) -> None:
    match = re.match(r"(\d{1,3})\s*(.*)", content)
    if match is None:
        return
    parameters = block.fmtp.setdefault(int(match[1]), {})
    for part in match[2].split(";")[:64]:
        key, _, value = part.partition("=")
        if key.strip():
            parameters.setdefault(key.strip().lower(), value.strip())


def _rate(text: str) -> float:
    match = re.match(r"\d{1,4}(?:\.\d{1,6})?", text)
    return float(match[0]) if match and 0 < float(match[0]) <= 1000 else 0.0


def _send_home_strays(blocks: list[_Block]) -> None:
    """rtpmap and fmtp of a payload type that their block does not list: to the block that does, else to their own only format."""
    for block in blocks:
        for table in ("rtpmap", "fmtp"):
            for payload_type in [p for p in getattr(block, table) if p not in block.payload_types]:
                _send_home(blocks, block, table, payload_type)


def _send_home(blocks: list[_Block], block: _Block, table: str, payload_type: int) -> None:
    stray = getattr(block, table).pop(payload_type)
    owners = [b for b in blocks if payload_type in b.payload_types and b.kind == ("audio" if block.kind == "video" else "video")]
    if owners:
        getattr(owners[0], table).setdefault(payload_type, stray)
        return
    bare = [p for p in block.payload_types if not getattr(block, table).get(p) and (table == "fmtp" or p not in STATIC)]
    if len(bare) == 1:
        getattr(block, table)[bare[0]] = stray


def _media(block: _Block) -> Media:
    formats = []
    for payload_type in block.payload_types:
        encoding, clock, channels = block.rtpmap.get(payload_type) or STATIC.get(payload_type, ("", 0, 1))
        if not clock and block.kind == "video":
            clock = 90000
        formats.append(PayloadFormat(payload_type, encoding, clock, channels, block.fmtp.get(payload_type, {})))
    return Media(block.index, block.kind, block.protocol, tuple(formats), block.control, block.direction, block.framerate, *block.size)


def _bad(what: str) -> SourceError:
    return SourceError(f"the camera's session description is unusable: {what}", cause=GapCause.BAD_SDP, retry_s=60.0,
                       remedy="restart the camera or choose another of its streams")
