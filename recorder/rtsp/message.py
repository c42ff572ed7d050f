"""RTSP messages as values (RFC 2326 4-6): requests as bytes; responses and the server's requests from what the framing kernel cut out.

The kernel finds where a message begins and ends; here only its inside is read. Tolerated: LF or CR alone as line end, blank lines
before the message, blanks around names and values, names in any case, headers without a colon (skipped).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from recorder.base.errors import SourceError
from recorder.base.media import GapCause

HEADERS_MAX = 255
NAME_MAX = 512
VALUE_MAX = 2048
BODY_MAX = 128 << 10
USER_AGENT = "Watchroom"


@dataclass(frozen=True, slots=True)
class Headers:
    """Header fields in the order received; names are lower case."""

    fields: tuple[tuple[str, str], ...]

    def get(self, name: str, default: str = "") -> str:
        """The first value of `name` (any case), else `default`."""
        return next((value for key, value in self.fields if key == name.lower()), default)

    def all(self, name: str) -> list[str]:
        """Every value of `name` in order."""
        return [value for key, value in self.fields if key == name.lower()]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer of the server."""

    status: int
    reason: str
    headers: Headers
    body: bytes = b""

    @property
    def ok(self) -> bool:
        """True for 2xx."""
        return 200 <= self.status < 300

    @property
    def cseq(self) -> int | None:
        """The number of the request it answers; None if missing or no number (`CSeq: 1 ` and `Cseq` are fine)."""
        return _number(self.headers.get("cseq"))


@dataclass(frozen=True, slots=True)
class ServerRequest:
    """A request that the server sends us at any time: OPTIONS, SET_PARAMETER, ANNOUNCE, REDIRECT, ..."""

    method: str
    url: str
    headers: Headers
    body: bytes = b""


def build_request(method: str, url: str, cseq: int, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> bytes:
    """The bytes of a request. `CSeq` is spelt exactly so, and User-Agent is always there: cameras insist on both."""
    lines = [f"{method} {_one_line(url)} RTSP/1.0", f"CSeq: {cseq}", f"User-Agent: {USER_AGENT}"]
    lines += [f"{name}: {_one_line(value)}" for name, value in headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8") + body


def build_answer(request: ServerRequest) -> bytes:
    """The bytes that answer a server's request: 200 to what needs no deed, 501 to the rest."""
    known = request.method in {"OPTIONS", "SET_PARAMETER", "GET_PARAMETER", "ANNOUNCE", "REDIRECT", "TEARDOWN", "PLAY_NOTIFY"}
    lines = ["RTSP/1.0 200 OK" if known else "RTSP/1.0 501 Not Implemented"]
    lines += [f"{name}: {_one_line(value)}" for name in ("CSeq", "Session") if (value := request.headers.get(name))]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


def parse_message(raw: bytes) -> Response | ServerRequest:
    """The message in `raw` (one whole message, body included).

    Raises SourceError (cause `refused`) if the first line is neither a status nor a request line, or a limit is passed.
    """
    head, body = _split(raw)
    if len(body) > BODY_MAX:
        raise _bad(f"a body of {len(body)} bytes")
    lines = head.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").strip().split("\n")
    headers = _headers(lines[1:])
    first = lines[0].split(None, 2)
    if len(first) >= 2 and first[0].upper().startswith("RTSP/") and first[1].isascii() and first[1].isdigit():
        return Response(int(first[1][:4]), first[2].strip() if len(first) > 2 else "", headers, body)
    if len(first) == 3 and first[2].upper().startswith("RTSP/"):
        return ServerRequest(first[0].upper(), first[1], headers, body)
    raise _bad(f"a first line {lines[0][:60]!r}")


def _split(raw: bytes) -> tuple[bytes, bytes]:
    text = raw.lstrip(b"\r\n \t\0")
    ends = [(at, len(mark)) for mark in (b"\r\n\r\n", b"\n\n", b"\r\r", b"\n\r\n") if (at := text.find(mark)) >= 0]
    if not ends:
        return text, b""
    at, size = min(ends)
    return text[:at], text[at + size:]


def _headers(lines: Sequence[str]) -> Headers:
    if len(lines) > HEADERS_MAX:
        raise _bad(f"{len(lines)} headers")
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.strip().lower(), value.strip()
        if not colon or not name:
            continue
        if len(name) > NAME_MAX or len(value) > VALUE_MAX:
            raise _bad(f"a header of {len(line)} characters")
        fields.append((name, value))
    return Headers(tuple(fields))


def _number(text: str) -> int | None:
    digits = text.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 12 else None


def _one_line(value: str) -> str:
    return "".join(c for c in value if c >= " " and c != "\x7f")


def _bad(what: str) -> SourceError:
    return SourceError(f"the camera sent {what}, which is no RTSP", cause=GapCause.REFUSED, retry_s=10.0,
                       remedy="check that the address and port are those of its RTSP service")
