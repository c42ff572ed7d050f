"""HLS playlists (RFC 8216) made from rows: which rows make a segment, where media time breaks, how a segment is named."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from api.footage import Footage
from api.times import rfc3339
from recorder.base.errors import NotFound
from recorder.base.media import NS, RowFlag
from storage.footage import row_ends

SEGMENT_NS = 4 * NS
DAY_NS = 86_400 * NS
ROWS_MAX = 64                 # of one segment
_SEGMENT = re.compile(r"(\d{1,6})-(\d{1,12})-(\d{1,2})-(\d{1,5})-(\d{1,5})(-cut)?(?:-v(\d{1,3}))?")


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows [first, first + rows) of the video and the sound of their time; `video`, `sound`: sample entry numbers, 0 for no sound.

    `day` (since 1970): its midnight is media time 0. `cut`: what its first access point's leading pictures refer to is not there.
    `place`: of the volume whose tapes they are on.
    """

    day: int
    first: int
    rows: int
    video: int
    sound: int
    cut: bool
    place: int = 0

    @property
    def name(self) -> str:
        """Its place in an address."""
        return f"{self.day}-{self.first}-{self.rows}-{self.video}-{self.sound}{'-cut' * self.cut}{on_volume(self.place)}"

    @classmethod
    def parse(cls, name: str) -> "Segment":
        """The segment of that name; NotFound."""
        found = _SEGMENT.fullmatch(name)
        if found is None or not 0 < int(found[3]) <= ROWS_MAX:
            raise NotFound("there is no such segment")
        return cls(int(found[1]), int(found[2]), int(found[3]), int(found[4]), int(found[5]), found[6] is not None, int(found[7] or 0))


def on_volume(place: int) -> str:
    """What an address bears of the volume: nothing for the first."""
    return f"-v{place}" if place else ""


@dataclass(frozen=True, slots=True)
class Listed:
    """A segment in a playlist: its time, its length, and whether media time breaks before it."""

    segment: Segment
    start_ns: int
    lasts_ns: int
    breaks: bool


def segments(video: Footage, sound: Footage | None, start_ns: int, end_ns: int) -> Iterator[Listed]:
    """Closed rows that overlap [start, end) in groups of about 4 s, cut at access points, breaks and changes of coding."""
    rows, day = video.run.rows, start_ns // DAY_NS
    use = (rows["t_ns"] < end_ns) & (row_ends(rows) > start_ns) & ((rows["flags"] & RowFlag.OPEN) == 0)
    at = int(np.argmax(use)) if use.any() else len(rows)
    while 0 < at < len(rows) and rows["flags"][at] & RowFlag.CONTINUED:
        at -= 1
        use[at] = True
    first_of_all = True
    while at < len(rows) and use[at]:
        stop = _group(video, use, at)
        cut, breaks = bool(video.breaks[at]) or first_of_all, bool(video.breaks[at]) and not first_of_all
        begin_ns = int(rows["t_ns"][at])
        segment = Segment(day, video.run.first + at, stop - at, int(rows["sample_entry"][at]), _sound_entry(sound, begin_ns), cut,
                          video.reader.place)
        yield Listed(segment, begin_ns, end_ns_of(video, stop) - begin_ns, breaks)
        at, first_of_all = stop, False


def _group(video: Footage, use: np.ndarray[tuple[int], np.dtype[np.bool_]], at: int) -> int:
    """Index after the last row of the segment that begins with row `at`."""
    rows, stop = video.run.rows, at + 1
    while stop < len(rows) and use[stop] and stop - at < ROWS_MAX and not video.breaks[stop]:
        whole = not rows["flags"][stop] & RowFlag.CONTINUED
        if rows["sample_entry"][stop] != rows["sample_entry"][at] or (whole and rows["t_ns"][stop] - rows["t_ns"][at] >= SEGMENT_NS):
            break
        stop += 1
    return stop


def end_ns_of(video: Footage, stop: int) -> int:
    """UTC where the rows before row `stop` end: where it begins if it leads on, so that segments meet."""
    rows = video.run.rows
    if stop < len(rows) and not video.breaks[stop]:
        return int(rows["t_ns"][stop])
    return int(row_ends(rows[stop - 1:stop])[0])


def _sound_entry(sound: Footage | None, time_ns: int) -> int:
    """Number of the sound's sample entry at a time, 0 where there is none within a second."""
    if sound is None or not len(sound):
        return 0
    rows = sound.run.rows
    near = np.flatnonzero((rows["t_ns"] < time_ns + NS) & (row_ends(rows) > time_ns - NS))
    return int(rows["sample_entry"][near[-1]]) if len(near) else 0


def playlist(listed: list[Listed], init: Callable[[Segment], str], address: Callable[[Segment], str]) -> str:
    """The media playlist (RFC 8216 4.3). `init` gives the address of a segment's coding, `address` its own."""
    longest = max(one.lasts_ns for one in listed)
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{-(-longest // NS)}", "#EXT-X-MEDIA-SEQUENCE:0", "#EXT-X-PLAYLIST-TYPE:VOD"]
    coding: tuple[int, int, int] | None = None
    for one in listed:
        now = (one.segment.video, one.segment.sound, one.segment.place)
        if one.breaks or coding not in (None, now):
            lines.append("#EXT-X-DISCONTINUITY")
        if now != coding:
            lines.append(f'#EXT-X-MAP:URI="{init(one.segment)}"')
        if one.breaks or now != coding:
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{rfc3339(one.start_ns)[:23]}Z")
        coding = now
        lines += [f"#EXTINF:{one.lasts_ns / NS:.6f},", address(one.segment)]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""])
