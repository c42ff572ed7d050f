"""A camera from now on, or from a time at a speed, as init segments and fragments: the one source of streams, live tiles and playback."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from api.derived import aac_entry, derivable, refused, track_name
from api.derivedfeed import DerivedFeed
from api.feed import (
    Feed,
    Place,
    Start,
    Taken,
    access_point_for,
    access_point_from,
    elsewhere,
    first_row_from,
    newest_access_point,
    next_stretch,
)
from api.media import Media
from api.mp4.fragment import FragmentTrack, fragments, init_segment, joined
from api.mp4.sample_entry import codec_string
from api.mp4.samples import Samples
from api.tapebytes import PIECE_BYTES, MemoryBytes, TapeBytes, VirtualBytes
from recorder.base.errors import NotFound, Unreadable
from recorder.base.media import NS, GapCause, SampleEntry, TrackKind
from storage.heldtape import HELD_PLACE
from storage.live import watch
from storage.reader import TrackReader
from storage.sickdisk import sick

POLL_S = 0.03                 # how often the live block is looked at: about one frame
LOOK_AGAIN_S = 1.0            # how often gaps, and sound that came or went, are looked for
WATCH_NS = 4 * NS
LATE_NS = 10 * NS             # a live viewer that is farther behind is taken to the newest access point
SLOW_S = 60.0                 # a live viewer that is late again within this gets key pictures only, for as long
LEAD_S = 2.0                  # how far playback is sent ahead of the clock
SILENT_NS = 3 * NS            # sound farther behind the video is given up, so that players do not wait for it
FRESH_NS = NS                 # sound that ends or starts farther from the first picture does not belong to it
GAP_SHOWN_NS = NS // 5        # shorter ones are not worth an event
KEYS_FROM = 4.0
KEY_ROWS = 8
SOUND_ROWS = 4
SETBACKS_MAX = 12             # stretches in a row of which a disk reads nothing; each time playback goes twice as far on
AROUND_NS = 10 * NS           # of a time, in which its access point lies
DEAF_S = 60.0                 # sound that a disk cannot read is left out for so long



@dataclass(frozen=True, slots=True)
class CursorQuery:
    """What to show. `start_ns` None: live. `audio`: sample entry types that the viewer takes. `keys`: access points only (from 4x always).

    `scaled`: media time runs at the viewer's pace (wall time divided by `speed`), gaps take no time and there is one init segment: for
    players that are given one file. Else media time is wall time, the viewer sets its own rate, and each stretch begins with an init segment.
    `aac`: sound that is not AAC is made into it (api/derivedfeed.py); Problem 400 where that cannot be.
    """

    camera: int
    track: str = "main"
    audio: frozenset[str] = frozenset()
    start_ns: int | None = None
    speed: float = 1.0
    keys: bool = False
    scaled: bool = False
    inband: bool = False
    aac: bool = False


@dataclass(frozen=True, slots=True)
class Init:
    """A new stretch: what follows belongs to this init segment, until the next. `wall_ns` is the UTC of media time 0."""

    data: bytes
    codecs: str
    video: SampleEntry
    audio: SampleEntry | None
    wall_ns: int


@dataclass(frozen=True, slots=True)
class Part:
    """A fragment, whole; scaled, which is one file, a piece of one. `newest_ns` is the UTC of its newest picture (0: only sound, or more
    pieces follow); `key`: it starts with an access point."""

    data: bytes
    newest_ns: int
    key: bool


@dataclass(frozen=True, slots=True)
class GapHere:
    """Here footage is missing, from `start_ns` to `end_ns` (None: it is missing still); the cause if it is known."""

    start_ns: int
    end_ns: int | None
    cause: GapCause | None


@dataclass(frozen=True, slots=True)
class ClockMoved:
    """The UTC of media time 0 is now `wall_ns`: a young session's time has been settled."""

    wall_ns: int


Event = Init | Part | GapHere | ClockMoved


class _ViewerGone(Exception):
    """There is nobody to send to."""


class _Stretch:
    """Feeds of one stretch, video first, and the tapes they are read from."""

    def __init__(self, media: Media, video: Feed, sound: Feed | None, derived: DerivedFeed | None = None) -> None:
        self.video, self.sound, self.derived = video, sound, derived
        self.tapes = [media.tape_bytes(feed.reader) for feed in (video, sound) if feed is not None]
        self.sequence = 0
        self.video_ns = self.sound_ns = self.end_ns = video.wall0_ns
        self.sound_held = False              # there is more sound, later than the end of the pictures
        self.again = False                   # begin anew at the newest access point
        self.left = False                    # the track goes on on another tape
        self.looked_s = time.monotonic()
        self.gap_told = False
        self.begun = False                   # its first picture is out
        self.deaf_until_s = 0.0              # until then it is not looked whether sound that has a break goes on

    def news(self) -> bool:
        return self.video.news() or (self.sound is not None and not self.sound_waits() and self.sound.news())

    def sound_waits(self) -> bool:
        """True while no sound is to be taken: it has come as far as the pictures, or has a break."""
        return self.sound_held or time.monotonic() < self.deaf_until_s

    def close(self) -> None:
        for tape in self.tapes:
            tape.close()


class Cursor:
    """`async for event in cursor.events()`, closed with `aclosing`; the consumer's pace is the cursor's. Loop thread only.

    `alive` is asked while the cursor waits; once it says False the events end. `room` is waited for with the size of each fragment before
    its bytes are read: who shows many cameras bounds there what lies in memory. Raises Gone when retention has overtaken the viewer,
    NotFound if there is no such track.
    """

    def __init__(self, media: Media, query: CursorQuery, alive: Callable[[], bool] = lambda: True,
                 room: Callable[[int], Awaitable[None]] | None = None) -> None:
        self._media, self._query, self._alive, self._room = media, query, alive, room
        self._track = media.store.whole(query.camera, query.track)
        self._keys = self._keys_wanted = query.keys or query.speed >= KEYS_FROM
        self._late_s = self._slow_until_s = -SLOW_S
        self._init_entries: tuple[SampleEntry | None, SampleEntry | None] | None = None
        self._newest_ns = 0                  # UTC of the newest picture sent
        self._media_ns = 0                   # scaled: media time that is out already
        self._last_dts = 0                   # scaled: DTS of the newest picture sent
        self._sound_end = 0                  # tick up to which derived sound is out
        self._pace: tuple[float, int] | None = None
        self._setbacks = 0                   # stretches that a disk could not read anything of, in a row
        self._deaf_until_s = 0.0             # until then no sound is asked for: a disk cannot read it

    async def events(self) -> AsyncGenerator[Event, None]:
        """What to send, in order. Never ends by itself while not scaled; scaled, when the pictures' coding changes."""
        try:
            async with aclosing(self._stretches()) as stretches:
                async for event in stretches:
                    yield event
        except _ViewerGone:
            return

    async def _stretches(self) -> AsyncGenerator[Event, None]:
        start = await self._find_start()
        while True:
            stretch: _Stretch | None = None
            try:
                stretch = self._open(start)
                if self._query.scaled and self._init_entries and self._init_entries[0] != stretch.video.entry:
                    return
                if not self._query.scaled or self._init_entries is None:
                    yield self._init(stretch)
                async with aclosing(self._play(stretch)) as playing:
                    async for event in playing:
                        yield event
                gap, start = await self._go_on(stretch)
            except (OSError, Unreadable) as error:
                if stretch is not None:
                    stretch.close()
                gap, start = await self._go_past(error, start)
            finally:
                if stretch is not None:
                    stretch.close()
            if gap is not None:
                yield gap

    # -- where a stretch begins --

    async def _find_start(self) -> Start:
        """Where to begin; waits while there is nothing yet."""
        wanted = self._query.start_ns
        while True:
            self._watch([self._track.newest])
            found = newest_access_point(self._track) if wanted is None else self._track.without_sick(
                partial(access_point_for, self._track, wanted), wanted - AROUND_NS, wanted + AROUND_NS, entries=True)
            if found is not None:
                return found
            await self._nap(POLL_S * 4)

    async def _go_on(self, stretch: _Stretch) -> tuple[GapHere | None, Start]:
        """The start of the next stretch, and the gap before it."""
        if stretch.again:
            return None, await self._find_start()
        video = stretch.video
        while (found := next_stretch(self._track, video.reader, video.place.row)) is None:
            await self._nap(POLL_S)
        before = video.reader.rows_from(video.place.row, 1)
        gap = self._gap(before.end_ns if len(before) else self._newest_ns, found.time_ns) if not stretch.gap_told else None
        return gap, found

    async def _go_past(self, error: OSError | Unreadable, start: Start) -> tuple[GapHere | None, Start]:
        """The next stretch behind what a disk cannot read, and the gap before it; farther each time that nothing could be shown in between.

        Raises the error if it is not a disk's; Unreadable when SETBACKS_MAX steps have led nowhere, or playback to nothing that is recorded.
        """
        begin_ns = max(self._newest_ns, start.time_ns)
        while True:
            if not (isinstance(error, Unreadable) or sick(error)):
                raise error
            unreadable = error if isinstance(error, Unreadable) else Unreadable(start.reader.place % HELD_PLACE, start.reader.where)
            self._setbacks += 1
            if self._setbacks > SETBACKS_MAX:
                raise unreadable from error
            if unreadable.where.endswith("/audio"):
                self._deaf_until_s = time.monotonic() + DEAF_S
            try:
                found = await self._behind(begin_ns)
            except OSError as again:
                error = again
                await self._nap(LOOK_AGAIN_S)
                continue
            if found is None:
                raise unreadable from error
            return GapHere(begin_ns, found.time_ns, GapCause.DISK), found

    async def _behind(self, time_ns: int) -> Start | None:
        """Live the first access point after a time, once there is one; else the first one as far behind it as it is tried now, if any is."""
        if self._query.start_ns is not None:
            return self._first_from(time_ns + (NS << self._setbacks - 1))
        while (found := self._first_from(time_ns + 1)) is None:
            await self._nap(POLL_S * 4)
        return found

    def _first_from(self, time_ns: int) -> Start | None:
        """The first access point at or after a time that can be read of."""
        found = []
        for tape in self._track.tapes:
            try:
                found.append(access_point_from(tape, time_ns))
            except OSError as error:
                if not self._media.store.leave_out(tape, error):
                    raise
        return min((start for start in found if start is not None), key=lambda start: start.time_ns, default=None)

    def _gap(self, start_ns: int, end_ns: int) -> GapHere | None:
        if end_ns - start_ns < GAP_SHOWN_NS:
            return None
        known = self._track.gaps(start_ns, end_ns)
        return GapHere(start_ns, end_ns, known[0].cause if known else None)

    def _open(self, start: Start) -> _Stretch:
        """Media time 0 is the first picture, which is decoded then and not before; scaled, where the stretch before ended."""
        self._repace(start.time_ns)
        on = self._query.scaled and self._init_entries is not None
        wall0_ns = start.time_ns - (round(self._media_ns * self._query.speed) if on else 0)
        after_dts = round(self._last_dts * self._query.speed) if on else -1
        video = Feed(start.reader, start.place, wall0_ns, start.entry, after_dts=after_dts)
        sound = self._sound(start.time_ns, wall0_ns)
        return _Stretch(self._media, video, sound, self._derived(sound) if sound is not None else None)

    def _derived(self, sound: Feed) -> DerivedFeed | None:
        """What makes AAC of the sound, where that is wanted."""
        if not self._query.aac or sound.entry.codec == "mp4a":
            return None
        if not derivable(sound.entry):
            raise refused()
        return DerivedFeed(self._media, self._query.camera, sound.entry, sound.reader.place, self._sound_end)

    def _sound(self, first_ns: int, wall0_ns: int) -> Feed | None:
        """The sound that runs beside the video from `first_ns` on, if there is any that the viewer takes."""
        query, entries = self._query, self._init_entries
        if not query.audio or query.track != "main" or query.speed != 1.0 or self._keys or (query.scaled and entries and not entries[1]):
            return None
        if time.monotonic() < self._deaf_until_s:
            return None
        try:
            return self._sound_of(self._media.store.whole(query.camera, "audio").at(first_ns), first_ns, wall0_ns)
        except NotFound:
            return None
        except OSError as error:
            if not sick(error):
                raise
            self._deaf_until_s = time.monotonic() + DEAF_S
            return None

    def _sound_of(self, reader: TrackReader, first_ns: int, wall0_ns: int) -> Feed | None:
        query, entries = self._query, self._init_entries
        run = reader.rows_from(max(first_row_from(reader, first_ns + 1) - 1, reader.edges().first_row), 1)
        if not len(run) or run.end_ns < first_ns - FRESH_NS or run.start_ns > first_ns + FRESH_NS:
            return None
        entry = reader.sample_entry(int(run.rows["sample_entry"][0]))
        if entry.codec not in query.audio or (query.scaled and entries and entries[1] != entry):
            return None
        return Feed(reader, Place(run.first, int(np.searchsorted(reader.entries(run).wall_ns, first_ns))), wall0_ns, entry,
                    skip_leading=False)

    def _init(self, stretch: _Stretch) -> Init:
        sound = stretch.sound.entry if stretch.sound is not None else None
        self._init_entries = (stretch.video.entry, sound)
        tracks = [FragmentTrack((entry,), entry.clock_rate) for entry in self._init_entries if entry is not None]
        if sound is not None and stretch.derived is not None:
            tracks[1] = FragmentTrack((aac_entry(sound),), sound.clock_rate, track_name(sound.codec))
        data = init_segment(tracks, stretch.video.wall0_ns, inband=self._query.inband)
        codecs = ",".join(codec_string(track.entries[0], inband=self._query.inband) for track in tracks)
        return Init(data, codecs, stretch.video.entry, sound, stretch.video.wall0_ns)

    # -- within a stretch --

    async def _play(self, stretch: _Stretch) -> AsyncGenerator[Event, None]:
        """Fragments of one stretch until it ends, or must be begun anew."""
        while not stretch.again:
            gap = await self._wait(stretch)
            if gap is not None:
                yield gap
            if stretch.left:
                return
            wall0_ns = stretch.video.wall0_ns
            seen = stretch.video.take(KEY_ROWS if self._keys else 1, keys=self._keys)
            heard = self._hear(stretch, seen)
            if stretch.video.wall0_ns != wall0_ns:
                yield ClockMoved(stretch.video.wall0_ns)
            if stretch.derived is not None:
                heard = replace(heard, samples=await stretch.derived.make(heard.samples, last=seen.broken))
                self._sound_end = stretch.derived.end
            async with aclosing(self._parts(stretch, seen, heard)) as parts:
                async for part in parts:
                    yield part
            if seen.broken:
                return
            self._look(stretch)

    def _hear(self, stretch: _Stretch, seen: Taken) -> Taken:
        """The sound that comes next, as far as the pictures go, of which `seen` are the newest; behind a break it goes on where it is recorded
        again."""
        if seen.samples is not None:
            stretch.end_ns = max(stretch.end_ns, seen.newest_ns + seen.samples.last_dur * NS // stretch.video.hz)
            stretch.sound_held = False
        if stretch.sound is None or stretch.sound_waits():
            return Taken(None, 0, False)
        heard = stretch.sound.take(SOUND_ROWS, until_ns=stretch.end_ns)
        stretch.sound_held = heard.held
        if not heard.broken or heard.samples is not None:
            return heard
        sound = stretch.sound
        found = next_stretch(self._media.store.whole(self._query.camera, "audio"), sound.reader, sound.place.row)
        if found is not None and found.entry == sound.entry and found.reader is sound.reader:
            stretch.sound = Feed(found.reader, found.place, sound.wall0_ns, found.entry, skip_leading=False)
            stretch.sound_ns = found.time_ns
        else:
            stretch.deaf_until_s = time.monotonic() + LOOK_AGAIN_S
        return heard

    async def _parts(self, stretch: _Stretch, seen: Taken, heard: Taken) -> AsyncGenerator[Part, None]:
        """What was taken as one fragment with its bytes; scaled in pieces, so that a viewer who does not read holds little."""
        took = ((0, TrackKind.VIDEO, seen.samples), (1, TrackKind.AUDIO, heard.samples))
        parts = [(index, kind, self._scaled(samples)) for index, kind, samples in took if samples is not None]
        if not parts:
            return
        if seen.samples is not None and not stretch.begun:
            stretch.begun = True
            if stretch.video.entry.codec == "hvc1":
                stretch.tapes[0].link(int(seen.samples.offset[0]), int(seen.samples.size[0]))
        several = fragments(parts, stretch.sequence + 1)
        stretch.sequence += len(several)
        made = joined(b"", several)
        tapes: list[TapeBytes | MemoryBytes] = [*stretch.tapes]
        if stretch.derived is not None:
            tapes[1] = MemoryBytes(stretch.derived.data)
        source = VirtualBytes(made.head, made.extents, tapes, made.inline)
        if self._room is not None:
            await self._room(source.size)
        step, key = PIECE_BYTES if self._query.scaled else source.size, seen.samples is not None and bool(seen.samples.key[0])
        for at in range(0, source.size, step):
            data = await source.read(at, min(at + step, source.size))
            self._media.counts.bytes_sent += len(data)
            last = at + step >= source.size
            if last:
                self._sent(stretch, seen, heard, parts[0][2])
            yield Part(data, seen.newest_ns if last else 0, key and at == 0)

    def _sent(self, stretch: _Stretch, seen: Taken, heard: Taken, shown: Samples) -> None:
        """Note how far the fragment has brought the viewer; `shown` are the samples of its first track."""
        stretch.sound_ns = max(stretch.sound_ns, heard.newest_ns)
        if seen.samples is not None:
            stretch.gap_told, self._setbacks = False, 0
            self._newest_ns = stretch.video_ns = max(stretch.video_ns, seen.newest_ns)
            self._last_dts = int(shown.dts[-1])
            self._media_ns = max(self._media_ns, (int(shown.pts.max()) + shown.last_dur) * NS // stretch.video.hz)

    def _scaled(self, samples: Samples) -> Samples:
        """Ticks at the viewer's pace."""
        speed = self._query.speed
        if not self._query.scaled or speed == 1.0:
            return samples
        dts, pts = np.rint(samples.dts / speed).astype(np.int64), np.rint(samples.pts / speed).astype(np.int64)
        ramp = np.arange(len(dts))
        dts = np.maximum.accumulate(dts - ramp) + ramp
        lasts = None if samples.lasts is None else np.rint(samples.lasts / speed).astype(np.int64)
        return replace(samples, dts=dts, cts=pts - dts, last_dur=max(1, round(samples.last_dur / speed)), lasts=lasts)

    async def _wait(self, stretch: _Stretch) -> GapHere | None:
        """Until the viewer's clock has come so far and something is new; or until a gap is known to be open here."""
        if self._query.start_ns is not None:
            while (ahead_s := self._ahead_s()) > 0:
                await self._nap(min(ahead_s, LOOK_AGAIN_S))
        readers = [feed.reader for feed in (stretch.video, stretch.sound) if feed is not None]
        while not stretch.news() and not stretch.left:
            if time.monotonic() > stretch.looked_s + LOOK_AGAIN_S:
                stretch.looked_s = time.monotonic()
                self._watch(readers)
                stretch.left = bool(elsewhere(self._track, stretch.video.reader, stretch.video.place.row))
                if not stretch.gap_told and (gap := self._open_gap()) is not None:
                    stretch.gap_told = True
                    return gap
            await self._nap(POLL_S)
        return None

    def _open_gap(self) -> GapHere | None:
        """The gap that has not ended yet, if there is one."""
        end_ns = self._track.bounds().visible_end_ns
        gaps = self._track.gaps(end_ns - NS, max(end_ns, self._media.clock.wall_ns()) + NS)
        return GapHere(gaps[-1].start_ns, None, gaps[-1].cause) if gaps and gaps[-1].end_ns is None else None

    def _look(self, stretch: _Stretch) -> None:
        """Once a second: keep the tracks on the fast pass; begin anew when the viewer is late, or sound has come or gone."""
        if time.monotonic() <= stretch.looked_s + LOOK_AGAIN_S:
            return
        stretch.looked_s = time.monotonic()
        if self._query.start_ns is not None:
            return
        self._watch([feed.reader for feed in (stretch.video, stretch.sound) if feed is not None])
        late = self._track.bounds().visible_end_ns - stretch.video_ns > LATE_NS
        silent = stretch.sound is not None and stretch.video_ns - stretch.sound_ns > SILENT_NS
        sounds = stretch.sound is None and self._sound(stretch.video_ns, stretch.video.wall0_ns) is not None
        again = self._slow_down() if late else self._recovers()
        stretch.again = again or (not self._query.scaled and (silent or sounds))

    def _slow_down(self) -> bool:
        """The viewer is late: to the newest access point, and if that has happened just before with key pictures only."""
        now_s = time.monotonic()
        self._media.counts.viewers_late += 1
        if now_s < self._late_s + SLOW_S:
            self._media.counts.viewers_keyed += int(not self._keys)
            self._keys, self._slow_until_s = True, now_s + SLOW_S
        self._late_s = now_s
        return True

    def _recovers(self) -> bool:
        """True when a viewer that was slow gets all pictures again."""
        if self._keys == self._keys_wanted or time.monotonic() < self._slow_until_s:
            return False
        self._keys = self._keys_wanted
        return True

    async def _nap(self, seconds: float) -> None:
        """Sleep; raises _ViewerGone if there is nobody to sleep for."""
        await asyncio.sleep(seconds)
        if not self._alive():
            raise _ViewerGone

    def _watch(self, readers: list[TrackReader]) -> None:
        """Put the tracks on the writer's fast pass for the next seconds."""
        for reader in readers:
            watch(reader, time.monotonic_ns() + WATCH_NS)

    # -- pace --

    def _ahead_s(self) -> float:
        """How long to wait so that no more than LEAD_S of playing is out."""
        return max(0.0, self._due_s() - LEAD_S - time.monotonic())

    def _due_s(self) -> float:
        """When, on the monotonic clock, the newest picture sent will be played."""
        if self._pace is None:
            return time.monotonic()
        since_s, since_ns = self._pace
        return since_s + max(0, self._newest_ns - since_ns) / NS / self._query.speed

    def _repace(self, first_ns: int) -> None:
        """A stretch that begins at `first_ns` is played right after what is out: gaps take no time."""
        self._pace = (max(time.monotonic(), self._due_s()), first_ns)
        self._newest_ns = first_ns
