"""RTSP requests: bytes in, values out (RFC 2326 4, 6, 10.12). Interleaved packets of the client are told apart and skipped."""

import re
from dataclasses import dataclass, replace

from api.rtspout.fault import Fault

HEAD_MAX = 16 << 10
BODY_MAX = 64 << 10
HEADERS_MAX = 64
URL_MAX = 2048
LINE_MAX = URL_MAX + 64
_LINE = re.compile(rf"([A-Z_]{{2,20}}) (\S{{1,{URL_MAX}}}) RTSP/(\d)\.(\d)")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_CSEQ = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Header names are lower-case, values stripped; those of a name that is given again are joined by commas."""

    method: str
    url: str
    headers: dict[str, str]
    cseq: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Broken:
    """Bytes that are no request: what to answer before the connection ends."""

    fault: Fault
    cseq: int = 0


class RequestReader:
    """Cuts what a client sends into requests. Of packets nothing is kept.

    `packets` counts interleaved packets, `idle` tells that no request has begun.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0
        self._begun: tuple[Request, int] | None = None      # a head, and how long its body is
        self.packets = 0
        self.broken = False

    @property
    def idle(self) -> bool:
        """True if nothing of a request or packet waits for its rest."""
        return not self._buffer and not self._skip and self._begun is None

    @property
    def waiting(self) -> int:
        """Bytes that have not been taken."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """What has come. After a Broken nothing more is read."""
        if not self.broken:
            self._buffer += data

    def take(self) -> Request | Broken | None:
        """The next request; None: it is not whole yet."""
        if self._begun is not None:
            return self._body()
        while self._buffer:
            if self._skip:
                taken = min(self._skip, len(self._buffer))
                del self._buffer[:taken]
                self._skip -= taken
            elif self._buffer[0] == 0x24:
                if not self._packet():
                    return None
            elif self._buffer[0] in b"\r\n":
                del self._buffer[0]
            else:
                return self._head()
        return None

    def _packet(self) -> bool:
        if len(self._buffer) < 4:
            return False
        self._skip = 4 + int.from_bytes(self._buffer[2:4])
        self.packets += 1
        return True

    def _head(self) -> Request | Broken | None:
        fault = self._hopeless()
        if fault is not None:
            return self._fail(fault)
        end = self._buffer.find(b"\r\n\r\n", 0, HEAD_MAX)
        if end < 0:
            return None
        found = parse_head(bytes(self._buffer[:end]))
        if isinstance(found, Broken):
            return self._fail(found.fault, found.cseq)
        length = found.headers.get("content-length", "0")
        if not re.fullmatch(r"[0-9]{1,9}", length):
            return self._fail(Fault(400, "Content-Length is no number"), found.cseq)
        if int(length) > BODY_MAX:
            return self._fail(Fault(413, "a request's body has at most 64 KiB"), found.cseq)
        del self._buffer[:end + 4]
        self._begun = found, int(length)
        return self._body()

    def _body(self) -> Request | None:
        assert self._begun is not None
        head, length = self._begun
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._begun = None
        return replace(head, body=body)

    def _hopeless(self) -> Fault | None:
        """Why what has come can become no request, whatever follows."""
        if not 0x41 <= self._buffer[0] <= 0x5A:
            return Fault(400, "a request begins with its method")
        if len(self._buffer) > LINE_MAX and self._buffer.find(b"\r\n", 0, LINE_MAX) < 0:
            return Fault(413, "a request's first line has at most 2 KiB")
        if len(self._buffer) >= HEAD_MAX and self._buffer.find(b"\r\n\r\n", 0, HEAD_MAX) < 0:
            return Fault(413, "a request's head has at most 16 KiB")
        return None

    def _fail(self, fault: Fault, cseq: int = 0) -> Broken:
        self.broken = True
        self._buffer.clear()
        return Broken(fault, cseq)


def parse_head(head: bytes) -> Request | Broken:
    """Request line and headers of `head`, which ends before the empty line."""
    lines = head.decode("utf-8", "replace").split("\r\n")
    headers: dict[str, str] = {}
    if len(lines) > HEADERS_MAX + 1:
        return Broken(Fault(400, f"a request has at most {HEADERS_MAX} headers"))
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name.strip()) or not value.isprintable():
            return Broken(Fault(400, "a header has a name, a colon and a value"))
        key = name.strip().lower()
        headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    cseq = int(headers["cseq"]) if _CSEQ.fullmatch(headers.get("cseq", "")) else -1
    match = _LINE.fullmatch(lines[0])
    if match is None or not match[2].isprintable():
        return Broken(Fault(400, "the first line is a method, an address and RTSP/1.0"), max(cseq, 0))
    if match[3] != "1":
        return Broken(Fault(505, "this server speaks RTSP/1.0"), max(cseq, 0))
    if cseq < 0:
        return Broken(Fault(400, "CSeq is missing"))
    return Request(match[1], match[2], headers, cseq)
