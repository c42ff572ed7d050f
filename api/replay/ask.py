"""What a PLAY of a replay asks for: its headers as values (RFC 2326 12.29, 12.34; ONVIF Streaming 6.5). Text in, values out."""

import enum
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from recorder.base.errors import WatchroomError
from recorder.base.media import NS

FEATURE = "onvif-replay"
SLOWEST, FASTEST = 0.1, 64.0
TEXT_MAX = 200                # of a header that is looked at
INTERVAL_MAX_MS = 86_400_000
_UTC = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(?:\.(\d{1,9}))?Z", re.ASCII)
_NPT = re.compile(r"(?:(\d{1,9})(?::([0-5]?\d):([0-5]?\d))?)(?:\.(\d{0,9}))?", re.ASCII)
_SCALE = re.compile(r"[+-]?\d{1,9}(?:\.\d{0,9})?", re.ASCII)
_FRAMES = re.compile(r"(all|predicted|intra)(?:/(\d{1,9}))?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = range(1970, 2200)    # nanoseconds since 1970 and what is added to them stay below 2^63


class Rejected(WatchroomError):
    """A PLAY that cannot be met: `status` of the answer (RFC 2326 11)."""

    def __init__(self, status: int, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class Frames(enum.Enum):
    """Which pictures are sent (ONVIF Streaming 6.5.3)."""

    ALL = "all"
    PREDICTED = "predicted"
    INTRA = "intra"


@dataclass(frozen=True, slots=True)
class Ask:
    """One PLAY. Times are UTC ns, or ns since NPT 0 where `npt`; `start_ns` None: where it stands, `now`: what is being recorded.

    `scale` is negative backwards. Not `paced`: as fast as the client takes it. `interval_ns`: least time between two intra pictures.
    `said`: the request named a range, a scale, frames or a rate, so it is more than to go on.
    """

    start_ns: int | None = None
    end_ns: int | None = None
    npt: bool = False
    now: bool = False
    scale: float = 1.0
    paced: bool = True
    frames: Frames = Frames.ALL
    interval_ns: int = 0
    immediate: bool = False
    said: bool = False

    @property
    def backwards(self) -> bool:
        """True if it runs towards older footage."""
        return self.scale < 0


def read_ask(header: Callable[[str], str | None]) -> Ask:
    """The PLAY whose headers `header` gives by lower-case name. Raises Rejected: 400, 456, 457 or 501, with what would do."""
    said = {name: value.strip() for name in ("range", "scale", "rate-control", "frames", "immediate")
            if (value := header(name)) is not None}
    if any(len(value) > TEXT_MAX for value in said.values()):
        raise Rejected(400, f"a header of this PLAY is longer than {TEXT_MAX} characters")
    paced = _yes(said.get("rate-control"), "Rate-Control", default=True)
    scale = _scale(said.get("scale"), paced=paced)
    frames, interval_ns = _frames(said.get("frames"))
    start_ns, end_ns, npt, now = _range(said.get("range"))
    if start_ns is not None and end_ns is not None and (end_ns >= start_ns if scale < 0 else end_ns <= start_ns):
        raise Rejected(457, "the range runs against the sign of Scale, or is empty",
                       remedy="backwards it ends earlier than it starts, forwards later")
    immediate = _yes(said.get("immediate"), "Immediate", default=False)
    return Ask(start_ns, end_ns, npt, now, scale, paced, frames, interval_ns, immediate, bool(said.keys() - {"immediate"}))


def utc_text(time_ns: int) -> str:
    """A UTC time as RFC 2326 3.7 writes it, to the nanosecond."""
    seconds, rest = divmod(time_ns, NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y%m%dT%H%M%S}.{rest:09d}Z"


def range_text(start_ns: int, end_ns: int | None) -> str:
    """A Range in UTC, open without an end."""
    return f"clock={utc_text(start_ns)}-{utc_text(end_ns) if end_ns is not None else ''}"


def _yes(text: str | None, name: str, *, default: bool) -> bool:
    if text is None:
        return default
    if text.lower() not in {"yes", "no"}:
        raise Rejected(400, f"{name} is neither yes nor no")
    return text.lower() == "yes"


def _scale(text: str | None, *, paced: bool) -> float:
    """The pace that is taken: what is slower or faster than can be done becomes the nearest that can (12.34 lets the answer say so)."""
    if text is None:
        return 1.0
    scale = float(text) if _SCALE.fullmatch(text) else 0.0
    if not scale:
        raise Rejected(400, "Scale is no number other than 0")
    if not paced and abs(scale) != 1.0:
        raise Rejected(456, "without rate control Scale can only be 1.0 or -1.0 (ONVIF Streaming 6.5)",
                       remedy="leave the pace to the client, or ask for Rate-Control: yes")
    return math.copysign(min(max(abs(scale), SLOWEST), FASTEST), scale)


def _frames(text: str | None) -> tuple[Frames, int]:
    found = _FRAMES.fullmatch(text.lower()) if text is not None else None
    if text is None:
        return Frames.ALL, 0
    if found is None or (found[2] is not None and found[1] != "intra"):
        raise Rejected(400, "Frames is none of all, predicted, intra and intra/<milliseconds>")
    return Frames(found[1]), min(int(found[2] or 0), INTERVAL_MAX_MS) * 1_000_000


def _range(text: str | None) -> tuple[int | None, int | None, bool, bool]:
    """Start, end, whether they count from NPT 0, and whether the start is now."""
    if text is None:
        return None, None, False, False
    unit, _, rest = text.split(";")[0].strip().partition("=")
    first, dash, last = rest.partition("-")
    if unit.strip().lower() not in {"clock", "npt"}:
        raise Rejected(501, "this unit of Range is not known", remedy="ask in clock (UTC) or npt")
    read = _utc if unit.strip().lower() == "clock" else _npt
    first, last = first.strip(), last.strip()
    now = read is _npt and first == "now"
    if not dash or not (first or last):
        raise Rejected(400, "Range is no range")
    return (None if now or not first else read(first)), (read(last) if last else None), read is _npt and not now, now


def _utc(text: str) -> int:
    found = _UTC.fullmatch(text)
    if found is None:
        raise Rejected(400, "a time of Range is not written as 20090615T114900.440Z (RFC 2326 3.7)")
    if int(found[1]) not in _YEARS:
        raise Rejected(457, "the range lies beyond all footage")
    try:
        at = datetime(*(int(part) for part in found.groups()[:6]), tzinfo=UTC)      # type: ignore[arg-type, misc]
    except ValueError:
        raise Rejected(400, "Range names a date or a time of day that there is not") from None
    return int((at - _EPOCH).total_seconds()) * NS + int((found[7] or "").ljust(9, "0"))


def _npt(text: str) -> int:
    found = _NPT.fullmatch(text)
    if found is None:
        raise Rejected(400, "a time of Range is neither seconds nor hours:minutes:seconds (RFC 2326 3.6)")
    seconds = int(found[1]) if found[2] is None else int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3])
    if seconds > 10**9:
        raise Rejected(457, "the range lies beyond all footage")
    return seconds * NS + int((found[4] or "").ljust(9, "0"))
