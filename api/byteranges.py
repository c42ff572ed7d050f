"""Range, If-Range, If-Match and If-None-Match of a GET (RFC 9110 13.1, 14.2): which bytes to send, if any."""

import re
from dataclasses import dataclass

_ONE = re.compile(r"(\d*)-(\d*)", re.ASCII)
MOST_DIGITS = 18


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes [start, stop) of a file; `whole` if no range was asked for, or it does not hold."""

    start: int
    stop: int
    whole: bool

    def content_range(self, size: int) -> str:
        """The Content-Range header (14.4)."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """What `Range` asks of a file of `size` bytes; of several ranges the first that can be satisfied. None: none of them can (416).

    A header that is not well-formed, or in another unit, is ignored (14.2).
    """
    whole = ByteRange(0, size, True)
    unit, _, sets = (header or "").partition("=")
    if unit.strip().lower() != "bytes" or not sets:
        return whole
    found = [_ONE.fullmatch(one.strip()) for one in sets.split(",") if one.strip()]
    if not found or any(one is None or one[0] == "-" or max(len(one[1]), len(one[2])) > MOST_DIGITS for one in found):
        return whole
    pairs = [_bounds(one[1], one[2], size) for one in found if one is not None]
    if any(pair is None for pair in pairs):
        return whole
    return next((ByteRange(*pair, False) for pair in pairs if pair is not None and pair[0] < pair[1]), None)


def _bounds(first: str, last: str, size: int) -> tuple[int, int] | None:
    """[start, stop) of one range, empty if it cannot be satisfied; None if last < first, which is not well-formed."""
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return min(int(first), size), min(int(last) + 1, size) if last else size


def range_holds(if_range: str | None, etag: str) -> bool:
    """True if a Range may be honoured: no If-Range, or it is this strong validator (13.1.5). Dates never match: none is given out."""
    return if_range is None or (if_range.strip() == etag and not etag.startswith("W/"))


def none_match(header: str | None, etag: str) -> bool:
    """True if If-None-Match names this entity (13.1.2, weak comparison): answer 304."""
    if header is None:
        return False
    bare = etag.removeprefix("W/")
    return header.strip() == "*" or any(one.strip().removeprefix("W/") == bare for one in header.split(","))


def match_holds(header: str | None, etag: str) -> bool:
    """True unless If-Match names other entities only (13.1.1, strong comparison): then the answer is 412."""
    if header is None or header.strip() == "*":
        return True
    return not etag.startswith("W/") and any(one.strip() == etag for one in header.split(","))
