"""Times as the API speaks them: RFC 3339 or integer nanoseconds in; RFC 3339, UTC, `Z` and nine digits out, so that nothing is lost."""

import re
from datetime import UTC, datetime, timedelta, timezone

from recorder.base.media import NS

_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LEAST_NS = 0
MOST_NS = (1 << 63) - 1


def rfc3339(ns: int) -> str:
    """UTC in ns since the epoch as RFC 3339 with nine digits and `Z`."""
    seconds, rest = divmod(ns, NS)
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def parse_time(text: str) -> int:
    """UTC in ns since the epoch, from RFC 3339 (with `Z` or an offset) or integer ns; ValueError says what is wanted."""
    if _INTEGER.fullmatch(text):
        return _in_range(int(text))
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError("must be a time like 2026-05-01T12:00:00.000Z (write + as %2B in an address) or an integer of nanoseconds since 1970")
    return _in_range(_seconds(found) * NS + int((found[7] or "").ljust(9, "0")))


def _seconds(found: re.Match[str]) -> int:
    year, month, day, hour, minute, second = (int(found[i]) for i in range(1, 7))
    leap = second == 60  # RFC 3339 5.7: allowed by the grammar; it is the first moment of the next minute here
    try:
        moment = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=_zone(found))
        return (moment - _EPOCH) // timedelta(seconds=1) + leap
    except (ValueError, OverflowError):
        raise ValueError("is not a time that exists") from None


def _zone(found: re.Match[str]) -> timezone:
    if found[8]:
        return UTC
    hours, minutes = int(found[10]), int(found[11])
    if hours > 23 or minutes > 59:
        raise ValueError("is not a time that exists")
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if found[9] == "-" else offset)


def _in_range(ns: int) -> int:
    if not LEAST_NS <= ns <= MOST_NS:
        raise ValueError("must lie between 1970 and 2262")
    return ns
