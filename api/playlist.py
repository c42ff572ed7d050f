"""HLS playlists (RFC 8216) made from rows: which rows make a segment, where media time breaks, how a segment is named."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from api.footage import Bools, Footage
from api.mp4.samples import Int64
from api.times import rfc3339
from recorder.base.errors import NotFound
from recorder.base.media import NS, RowFlag
from storage.footage import RowRun, row_ends

SEGMENT_NS = 4 * NS
DAY_NS = 86_400 * NS
DAY_MAX = ((1 << 63) - 1) // DAY_NS - 1
ROWS_MAX = 64                 # of one segment
GAP_NS = NS // 5              # a shorter gap is a break and nothing else
ROUNDING_NS = 1_000_000       # by which a row's end may be off
_SEGMENT = re.compile(r"(\d{1,6})-(\d{1,12})-(\d{1,2})-(\d{1,5})-(\d{1,5})(-cut)?(-aac)?(?:-v(\d{1,3}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows [first, first + rows) of the video and the sound of their time; `video`, `sound`: sample entry numbers, 0 for no sound.

    `day` (since 1970): its midnight is media time 0. `cut`: what its first access point's leading pictures refer to is not there.
    `place`: of the volume whose tapes they are on. `aac`: the sound is derived from the camera's.
    """

    day: int
    first: int
    rows: int
    video: int
    sound: int
    cut: bool
    place: int = 0
    aac: bool = False

    @property
    def coding(self) -> str:
        """Name of its init segment."""
        return f"{self.video}-{self.sound}{'-aac' * self.aac}{on_volume(self.place)}"

    @property
    def name(self) -> str:
        """Its place in an address."""
        marks = "-cut" * self.cut + "-aac" * self.aac
        return f"{self.day}-{self.first}-{self.rows}-{self.video}-{self.sound}{marks}{on_volume(self.place)}"

    @classmethod
    def parse(cls, name: str) -> "Segment":
        """The segment of that name; NotFound."""
        found = _SEGMENT.fullmatch(name)
        if found is None or not 0 < int(found[3]) <= ROWS_MAX or int(found[1]) > DAY_MAX:
            raise NotFound("there is no such segment")
        return cls(int(found[1]), int(found[2]), int(found[3]), int(found[4]), int(found[5]), found[6] is not None, int(found[8] or 0),
                   found[7] is not None)


def on_volume(place: int) -> str:
    """What an address bears of the volume: nothing for the first."""
    return f"-v{place}" if place else ""


@dataclass(frozen=True, slots=True)
class Listed:
    """A segment in a playlist: when its first picture is shown, until when its last one is, and whether media time breaks before it."""

    segment: Segment
    start_ns: int
    lasts_ns: int
    breaks: bool


def segment_ns_of(range_ns: int) -> int:
    """How long a segment of so long a range is to be: 4 s, and in more than a day longer, so that there are not more of them."""
    return max(SEGMENT_NS, -(-range_ns * SEGMENT_NS // DAY_NS))


def segments(video: Footage, sound: RowRun | None, start_ns: int, end_ns: int, *, day: int, lasts_ns: int = SEGMENT_NS,
             last: Segment | None = None) -> Iterator[Listed]:
    """Closed rows with pictures of [start, end) in groups of about `lasts_ns`, cut at access points, breaks and changes of coding.

    `last` is the segment that they come after, if there is one: of its tape only rows behind it.
    """
    rows = video.run.rows
    shown_ns = _first_shown_ns(video)
    use = (shown_ns < end_ns) & (row_ends(rows) > start_ns) & ((rows["flags"] & RowFlag.OPEN) == 0)
    after = last.first + last.rows if last is not None and last.place == video.reader.place else 0
    use &= np.arange(len(rows)) >= after - video.run.first
    at = int(np.argmax(use)) if use.any() else len(rows)
    while max(0, after - video.run.first) < at < len(rows) and rows["flags"][at] & RowFlag.CONTINUED:
        at -= 1
        use[at] = True
    leads = after == video.run.first + at and after > 0
    cuts = _Cuts.of(video, use)
    while at < len(rows) and use[at]:
        stop = cuts.group(at, lasts_ns)
        cut = bool(video.breaks[at]) or not leads
        breaks = cut and last is not None
        sound_entry = _sound_entry(sound, int(rows["t_ns"][at]))
        segment = Segment(day, video.run.first + at, stop - at, int(rows["sample_entry"][at]), sound_entry, cut, video.reader.place)
        begin_ns = int(rows["t_ns"][at] if cut else shown_ns[at])
        leads_on = stop < len(rows) and not video.breaks[stop]
        until_ns = int(shown_ns[stop]) if leads_on else last_shown_ns(video, stop - 1)
        yield Listed(segment, begin_ns, until_ns - begin_ns, breaks)
        at, last, leads = stop, segment, True


def _first_shown_ns(video: Footage) -> Int64:
    """UTC of the first picture of each row: leading pictures are decoded after their access point and shown before it."""
    times = np.where(video.decodable(), video.wall_ns, np.iinfo(np.int64).max)
    return np.minimum(np.minimum.reduceat(times, video.first_au), video.run.rows["t_ns"].astype(np.int64))


@dataclass(frozen=True, slots=True)
class _Cuts:
    """Of each row, as plain lists: is it wanted, must a segment begin with it, may one, its UTC. Rows are many, and looked at one by one."""

    wanted: list[bool]
    must: list[bool]
    may: list[bool]
    t_ns: list[int]

    @classmethod
    def of(cls, video: Footage, use: Bools) -> "_Cuts":
        """Of the footage's rows; `use` says which are wanted."""
        rows = video.run.rows
        coded = np.diff(rows["sample_entry"].astype(np.int64), prepend=rows["sample_entry"][:1].astype(np.int64)) != 0
        return cls(use.tolist(), (video.breaks | coded).tolist(), ((rows["flags"] & RowFlag.CONTINUED) == 0).tolist(), rows["t_ns"].tolist())

    def group(self, at: int, lasts_ns: int) -> int:
        """Index after the last row of the segment that begins with row `at`."""
        stop, count, until_ns = at + 1, min(len(self.wanted), at + ROWS_MAX), self.t_ns[at] + lasts_ns
        while stop < count and self.wanted[stop] and not self.must[stop] and not (self.may[stop] and self.t_ns[stop] >= until_ns):
            stop += 1
        return stop


def last_shown_ns(video: Footage, row: int) -> int:
    """UTC where the last picture of a row ends that no other row leads on from."""
    first = int(video.first_au[row])
    aus = slice(first, first + int(video.run.rows["aus"][row]))
    good, lasts_ns = video.decodable()[aus], video.aus.dur[aus] * NS // int(video.rates()[2][row])
    return int((video.wall_ns[aus] + lasts_ns)[good].max()) if good.any() else _row_end_ns(video, row)


def sound_end_ns(video: Footage, stop: int) -> int:
    """UTC where the sound of the rows before row `stop` ends: where that begins if it leads on, so that segments meet; at a break with the
    last picture, so that none is sent twice."""
    rows, end_ns = video.run.rows, _row_end_ns(video, stop - 1)
    if stop == len(rows):
        return end_ns
    return min(end_ns, last_shown_ns(video, stop - 1)) if video.breaks[stop] else int(rows["t_ns"][stop])


def sound_settled(video: Footage, stop: int) -> bool:
    """True if `sound_end_ns` will stay as it is: another row is there, or the pictures of the last one end where it does."""
    rows = video.run.rows
    return stop < len(rows) or _row_end_ns(video, stop - 1) < last_shown_ns(video, stop - 1) + ROUNDING_NS


def _row_end_ns(video: Footage, row: int) -> int:
    return int(row_ends(video.run.rows[row:row + 1])[0])


def _sound_entry(sound: RowRun | None, time_ns: int) -> int:
    """Number of the sound's sample entry at a time, 0 where there is none within a second."""
    if sound is None or not len(sound):
        return 0
    rows = sound.rows
    near = np.flatnonzero((rows["t_ns"] < time_ns + NS) & (row_ends(rows) > time_ns - NS))
    return int(rows["sample_entry"][near[-1]]) if len(near) else 0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where what a media playlist names is found: the init segment of a segment's coding, a segment, and what stands in for missing ones."""

    init: Callable[[Segment], str]
    segment: Callable[[Segment], str]
    gap: str


def playlist(listed: list[Listed], addresses: Addresses, start_ns: int, *, keep_gaps: bool, lasts_ns: int = SEGMENT_NS) -> str:
    """The media playlist (RFC 8216 4.3), to be played from `start_ns` on. `keep_gaps`: gaps take their time, as segments that are missing,
    each about as long as those that are there (`lasts_ns`)."""
    longest_ns = max([lasts_ns, *(one.lasts_ns for one in listed)])
    gaps = [max(0, one.start_ns - before.start_ns - before.lasts_ns) if keep_gaps and one.breaks else 0 for before, one in pairwise(listed)]
    version = 8 if any(gap_ns >= GAP_NS for gap_ns in gaps) else 7
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{version}", f"#EXT-X-TARGETDURATION:{-(-longest_ns // NS)}", "#EXT-X-MEDIA-SEQUENCE:0",
             "#EXT-X-PLAYLIST-TYPE:VOD"]
    if start_ns > listed[0].start_ns:
        lines.append(f"#EXT-X-START:TIME-OFFSET={(start_ns - listed[0].start_ns) / NS:.6f},PRECISE=YES")
    coding: tuple[int, int, int] | None = None
    for one, gap_ns in zip(listed, [0, *gaps], strict=True):
        now = (one.segment.video, one.segment.sound, one.segment.place)
        lines += _missing(one.start_ns - gap_ns, gap_ns, longest_ns, addresses.gap)
        if (one.breaks and gap_ns < GAP_NS) or coding not in (None, now):
            lines.append("#EXT-X-DISCONTINUITY")
        if now != coding:
            lines.append(f'#EXT-X-MAP:URI="{addresses.init(one.segment)}"')
        if one.breaks or now != coding:
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{rfc3339(one.start_ns)[:23]}Z")
        coding = now
        lines += [f"#EXTINF:{one.lasts_ns / NS:.6f},", addresses.segment(one.segment)]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])


def _missing(start_ns: int, gap_ns: int, longest_ns: int, address: str) -> Iterator[str]:
    """A gap as segments that are not there (RFC 8216bis 4.4.4.7), none longer than the longest that is."""
    if gap_ns < GAP_NS:
        return
    yield f"#EXT-X-PROGRAM-DATE-TIME:{rfc3339(start_ns)[:23]}Z"
    count = -(-gap_ns // longest_ns)
    for _ in range(count):
        yield from ("#EXT-X-GAP", f"#EXTINF:{gap_ns / count / NS:.6f},", address)


@dataclass(frozen=True, slots=True)
class Variant:
    """A track that a player may choose: the peak of its bits per second, RFC 6381 names of its codings, the largest picture."""

    peak_bps: int
    mean_bps: int
    codecs: tuple[str, ...]
    width: int
    height: int
    address: str


def multivariant(variants: Sequence[Variant], sound: str = "") -> str:
    """The playlist of playlists (RFC 8216 4.3.4), the best first. `sound`: where the sound has a playlist of its own, its address."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:7"]
    if sound:
        lines.append(f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="sound",NAME="camera",DEFAULT=YES,AUTOSELECT=YES,URI="{sound}"')
    for one in variants:
        named = f',CODECS="{",".join(one.codecs)}"' if all(one.codecs) else ""
        size = f",RESOLUTION={one.width}x{one.height}" if one.width and one.height else ""
        group = ',AUDIO="sound"' if sound else ""
        lines += [f"#EXT-X-STREAM-INF:BANDWIDTH={one.peak_bps},AVERAGE-BANDWIDTH={one.mean_bps}{named}{size}{group}", one.address]
    return "\n".join([*lines, ""])
