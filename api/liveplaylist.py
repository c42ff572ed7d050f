"""Playlists of live HLS (RFC 8216bis): what there is of a track as text, with parts where a viewer gains by them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from api.liveparts import PART_NS, WEEK_NS, LiveName, LiveRow, LiveWindow
from api.times import rfc3339
from recorder.base.media import NS

TARGETS_S = (2, 4, 6, 10, 12)     # a playlist's target duration must not change, so it is not each row's
PART_STEP_S = 0.05
PARTS_S = 3                       # target durations from the end on in which parts are listed (6.2.2)
SKIP_S = 6                        # target durations from the end on that an update always holds (4.4.5.2)
LONG_GOPS = "the camera sends key frames {0:.1f} s apart, so there are no parts: at most 6 s would let players start at once"


@dataclass(frozen=True, slots=True)
class LiveAddresses:
    """Where things are found: an init segment by a row's name, a segment or part by its own, and the playlist of another rendition."""

    init: Callable[[LiveName], str]
    media: Callable[[LiveName], str]
    other: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest part of another rendition: its track, segment and part."""

    track: str
    sequence: int
    part: int


def newest(track: str, shown: LiveWindow) -> Newest | None:
    """What to report of a rendition; None while it has nothing."""
    for at in reversed(range(len(shown.rows))):
        if shown.rows[at].parts:
            return Newest(track, shown.sequence + at, len(shown.rows[at].parts) - 1)
    return None


def live_playlist(shown: LiveWindow, addresses: LiveAddresses, *, skip: bool, others: Iterable[Newest] = ()) -> str:
    """The media playlist. `skip`: a delta update. `others`: newest parts of the other renditions."""
    target_s = target(shown)
    head = ["#EXTM3U", "#EXT-X-VERSION:9", f"#EXT-X-TARGETDURATION:{target_s}"]
    if shown.quick:
        part_s = part_target(shown)
        head += [f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={SKIP_S * target_s:.1f},PART-HOLD-BACK={3 * part_s:.2f}",
                 f"#EXT-X-PART-INF:PART-TARGET={part_s:.2f}"]
    else:
        head.append("# " + LONG_GOPS.format(shown.gop_ns / NS))
    rows = shown.rows if shown.quick else tuple(row for row in shown.rows if row.closed)
    head.append(f"#EXT-X-MEDIA-SEQUENCE:{shown.sequence}")
    if rows:
        head.append(f"#EXT-X-DISCONTINUITY-SEQUENCE:{rows[0].discontinuity}")
    if all(row.leads for row in rows):
        head.append("#EXT-X-INDEPENDENT-SEGMENTS")
    skipped = _skipped(rows, SKIP_S * target_s * NS) if skip and shown.quick else 0
    if skipped:
        head.append(f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}")
    lines = _segments(rows, skipped, addresses, PARTS_S * target_s * NS if shown.quick else 0)
    reports = (f'#EXT-X-RENDITION-REPORT:URI="{addresses.other(one.track)}",LAST-MSN={one.sequence},LAST-PART={one.part}' for one in others)
    return "\n".join([*head, *lines, *(reports if shown.quick else ()), ""])


def target(shown: LiveWindow) -> int:
    """The least of a few lengths, in seconds, that no segment exceeds."""
    longest_ns = max((row.lasts_ns for row in shown.rows), default=0)
    return next((seconds for seconds in TARGETS_S if longest_ns < seconds * NS + NS // 2), -(-longest_ns // NS))


def part_target(shown: LiveWindow) -> float:
    """The same of parts: half a second and at most a picture."""
    longest_ns = max((part.lasts_ns for row in shown.rows for part in row.parts), default=PART_NS)
    return -(-max(PART_NS, longest_ns) // round(PART_STEP_S * NS)) * PART_STEP_S


def _skipped(rows: tuple[LiveRow, ...], until_ns: int) -> int:
    """How many segments a delta update leaves out: those that end farther than that from the end."""
    end_ns = rows[-1].start_ns + rows[-1].lasts_ns if rows else 0
    return sum(row.closed and row.start_ns + row.lasts_ns < end_ns - until_ns for row in rows)


def _segments(rows: tuple[LiveRow, ...], skipped: int, addresses: LiveAddresses, parts_ns: int) -> Iterator[str]:
    """Lines of all segments behind the skipped ones; the newest has parts alone, and says which comes next."""
    end_ns = rows[-1].start_ns + rows[-1].lasts_ns if rows else 0
    coding = None
    for at, row in enumerate(rows):
        fresh, coding = coding != (row.name.entry, row.name.place), (row.name.entry, row.name.place)
        if at < skipped:
            continue
        if at:
            yield from ["#EXT-X-DISCONTINUITY"] * min(64, row.discontinuity - rows[at - 1].discontinuity)
        if fresh or at == skipped:
            yield f'#EXT-X-MAP:URI="{addresses.init(row.name)}"'
        yield f"#EXT-X-PROGRAM-DATE-TIME:{rfc3339(row.start_ns)[:23]}Z"
        if row.start_ns + row.lasts_ns > end_ns - parts_ns:
            yield from _parts(row, addresses)
        if row.closed:
            yield from (f"#EXTINF:{row.lasts_ns / NS:.5f},", addresses.media(row.name))
    if parts_ns and rows:
        yield f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{addresses.media(_next(rows[-1]))}"'


def _parts(row: LiveRow, addresses: LiveAddresses) -> Iterator[str]:
    for number, part in enumerate(row.parts):
        leads = ",INDEPENDENT=YES" if number == 0 and row.leads else ""
        yield f'#EXT-X-PART:DURATION={part.lasts_ns / NS:.5f},URI="{addresses.media(row.name.of_part(number))}"{leads}'


def _next(row: LiveRow) -> LiveName:
    """The part that comes next: of the open row, or of the row after it, as long as nothing breaks there."""
    if not row.closed:
        return row.name.of_part(len(row.parts))
    name, end_ns = row.name, row.start_ns + row.lasts_ns
    return LiveName(end_ns // WEEK_NS, name.row + 1, name.entry, False, 0, name.place)
