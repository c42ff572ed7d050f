"""RTSP requests as bytes in, values out (RFC 2326 4, 6, 12): text and interleaved data apart, the Transport header, answers."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

HEAD_MAX = 16 << 10
BODY_MAX = 64 << 10

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found",
           454: "Session Not Found", 455: "Method Not Valid in This State", 459: "Aggregate Operation Not Allowed",
           461: "Unsupported Transport", 501: "Not Implemented", 505: "RTSP Version Not Supported"}


class BadRequest(Exception):
    """Bytes that are no RTSP; the connection ends."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are lower-case, of repeated headers the last counts."""

    method: str
    url: str
    version: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class RequestReader:
    """Cuts what a client sends into requests; interleaved packets (receiver reports) are skipped and counted."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.interleaved = 0

    def feed(self, data: bytes) -> Iterator[Request]:
        """The requests that `data` completes. Raises BadRequest for an over-long or malformed head."""
        self._buffer += data
        while self._buffer:
            if self._buffer[0] == 0x24:
                if not self._skip_packet():
                    return
            elif self._buffer[:2] == b"\r\n":
                del self._buffer[:2]
            elif (request := self._request()) is not None:
                yield request
            else:
                return

    def _skip_packet(self) -> bool:
        if len(self._buffer) < 4 or len(self._buffer) < 4 + (size := int.from_bytes(self._buffer[2:4], "big")):
            return False
        del self._buffer[:4 + size]
        self.interleaved += 1
        return True

    def _request(self) -> Request | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_MAX:
                raise BadRequest("the head is too long")
            return None
        request = parse_head(bytes(self._buffer[:end]))
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > BODY_MAX:
            raise BadRequest("bad Content-Length")
        stop = end + 4 + int(length)
        if len(self._buffer) < stop:
            return None
        body = bytes(self._buffer[end + 4:stop])
        del self._buffer[:stop]
        return Request(request.method, request.url, request.version, request.headers, body)


def parse_head(head: bytes) -> Request:
    """Request line and headers. Raises BadRequest."""
    lines = head.decode("utf-8", "replace").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not re.fullmatch(r"(RTSP|HTTP)/\d\.\d", parts[2]):
        raise BadRequest("not a request line")
    headers = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest("a header without a colon")
        headers[name.strip().lower()] = value.strip()
    return Request(parts[0], parts[1], parts[2], headers)


def answer(version: str, status: int, headers: dict[str, str], body: bytes = b"") -> bytes:
    """The response's bytes."""
    lines = [f"{version} {status} {REASONS[status]}", *(f"{name}: {value}" for name, value in headers.items())]
    if body or version.startswith("HTTP"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True, slots=True)
class Interleaved:
    """RTP and RTCP on the RTSP connection; `channel` None where the client leaves the choice to us."""

    channel: int | None


@dataclass(frozen=True, slots=True)
class ClientPorts:
    """RTP and RTCP to the client's UDP ports."""

    rtp: int
    rtcp: int


def parse_transport(value: str, offered: Collection[str] = ("tcp", "udp")) -> Interleaved | ClientPorts | None:
    """The first transport of the list that is `offered` (RFC 2326 12.39); None: none of them (461)."""
    for choice in value.split(","):
        fields = [f.strip() for f in choice.split(";")]
        if "multicast" in fields or 'mode="record"' in value.lower():
            continue
        if fields[0].upper() in {"RTP/AVP", "RTP/AVP/UDP"} and "udp" in offered:
            ports = next((m for f in fields if (m := re.fullmatch(r"client_port=(\d{1,5})-(\d{1,5})", f))), None)
            if ports and 0 < int(ports[1]) < 65536 and 0 < int(ports[2]) < 65536:
                return ClientPorts(int(ports[1]), int(ports[2]))
        if fields[0].upper() != "RTP/AVP/TCP" or "tcp" not in offered:
            continue
        match = next((m for f in fields if (m := re.fullmatch(r"interleaved=(\d{1,3})(-\d{1,3})?", f))), None)
        if match is None:
            return Interleaved(None)
        if int(match[1]) <= 254:
            return Interleaved(int(match[1]))
    return None
