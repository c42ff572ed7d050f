"""When each AU of a replay is played, and which RTP timestamp says so (ONVIF Streaming 6.6.3, RFC 2326 B)."""

from dataclasses import dataclass

from recorder.base.media import NS

FRAME_NS = NS // 25           # between what is shown last before a break and first behind it
EARLY_NS = NS                 # sound that is not farther before a stretch's first picture belongs to it
SLACK_NS = 10_000_000         # sound keeps its own clock's distances while it is not off by more


@dataclass(frozen=True, slots=True)
class Stretch:
    """Footage from `wall_ns` on is played from `play_ns` on, at a scale."""

    wall_ns: int
    play_ns: int
    scale: float

    def at(self, wall_ns: int) -> int:
        """When a time of the footage is played, ns."""
        return self.play_ns + round((wall_ns - self.wall_ns) / self.scale)


class Pace:
    """Playing time of one session's footage: it never runs back, and gaps take none of it.

    Not `paced`, the times of the footage are the playing times, whatever the direction.
    """

    def __init__(self) -> None:
        self.paced, self.scale = True, 1.0
        self.out_ns = 0                       # playing time that has been given out
        self._stretch: Stretch | None = None
        self._before: Stretch | None = None   # what sound that comes a little late still belongs to

    @property
    def native(self) -> bool:
        """True if footage is played at its own pace."""
        return not self.paced or self.scale == 1.0

    def again(self, *, paced: bool, scale: float) -> None:
        """Another PLAY: what comes next is played behind what is out."""
        self.paced, self.scale = paced, scale
        self._stretch = self._before = None

    def begin(self, first_ns: int, least_ns: int = 0) -> None:
        """The footage does not lead on: what is played next is of the time `first_ns`, not before playing time `least_ns`."""
        if self._stretch is not None and self._stretch.wall_ns == first_ns and self._stretch.play_ns > self.out_ns:
            return                            # said already
        self._before = self._stretch
        self._stretch = Stretch(first_ns, max(self.out_ns + FRAME_NS, least_ns), self.scale)

    def slow_down(self, wall_ns: int) -> None:
        """From `wall_ns` on at the footage's own pace: there is nothing yet to play faster."""
        if self._stretch is not None:
            self._before, self._stretch = self._stretch, Stretch(wall_ns, self._stretch.at(wall_ns), 1.0)
        self.scale = 1.0

    def play_ns(self, wall_ns: int) -> int:
        """When a time of the footage is played."""
        if not self.paced:
            return wall_ns
        if self._stretch is None:
            self.begin(wall_ns)
        assert self._stretch is not None
        early_ns = self._stretch.wall_ns - wall_ns
        of_before = self._before is not None and self.scale > 0 and early_ns > EARLY_NS
        stretch = self._before if of_before and self._before is not None else self._stretch
        return max(stretch.at(wall_ns), 0)

    def sent(self, play_ns: int) -> None:
        """What is played at this time is out."""
        self.out_ns = max(self.out_ns, play_ns) if self.paced else self.out_ns


class Ticks:
    """RTP timestamps of one stream (RFC 3550 5.1), 32 bits. `first` is what playing time 0 is told as.

    Those of pictures follow from the playing time alone; those of sound keep the distances of its own clock.
    """

    def __init__(self, rate: int, first: int, *, sound: bool) -> None:
        self.rate, self._first, self._sound = rate, first, sound
        self._last: tuple[int, int] | None = None       # native ticks and timestamp of the AU before

    def at(self, play_ns: int) -> int:
        """The timestamp of a playing time."""
        seconds, rest = divmod(play_ns, NS)
        return self._first + seconds * self.rate + (rest * self.rate + NS // 2) // NS & 0xFFFFFFFF

    def of(self, play_ns: int, pts: int, *, anew: bool, native: bool) -> int:
        """The timestamp of an AU. `native`: the track's ticks are the stream's, at the footage's own pace."""
        stamp = self.at(play_ns)
        if self._sound and native and not anew and self._last is not None:
            own = self._last[1] + pts - self._last[0] & 0xFFFFFFFF
            off = (own - stamp + (1 << 31) & 0xFFFFFFFF) - (1 << 31)
            if abs(off) * NS <= SLACK_NS * self.rate:
                stamp = own
        self._last = pts, stamp
        return stamp
