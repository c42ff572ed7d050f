"""A clip as a plan: which AUs of which tapes make the file, and its head. Computed from the index; no HTTP, no media is read.

`plan(store, query, now_ns)` gives a `Clip`; `Clip.open(store, disks)` its bytes. A clip of several cameras has the tracks of all of them on one
clock.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from api.clipformat import FORMATS, check
from api.cut import cut_audio, cut_video, pick
from api.disks import Disks
from api.footage import PLACE_SHIFT, Footage, Timeline, load_track, place_of
from api.mp4.clip import MOVIE_HZ, Extents, Movie, MovieTrack, build
from api.mp4.fragmented import build_fragmented
from api.problems import Problem
from api.tapebytes import MemoryBytes, TapeBytes, VirtualBytes
from api.times import rfc3339
from api.ts.plan import TransportStream, build_ts
from api.ts.source import TsBytes
from api.webm import build_webm
from recorder._ext import samples as kernel
from recorder.base.errors import Gone, NotFound
from recorder.base.media import NS, TrackKind
from storage.reader import TrackReader
from storage.store import TapeStore
from storage.track import Track

MARGIN_NS = 2 * NS            # how far a row may reach past its own times through the order of its pictures
CLIP_MAX_NS = 12 * 3600 * NS  # of one file: its head stays under some tens of MB
MEETS_NS = NS // 2            # a gap that starts within this of the last picture's end follows it
AUDIO_GIVEN_UP_NS = 10 * NS   # audio that is so far behind the video is not coming
GAPS_SHOWN = 100
PLACES = 1 << (63 - PLACE_SHIFT)  # of volumes that an offset can tell of
DERIVED = "aac"               # name of a derived sound track

Tape = tuple[int, str, int]   # a camera's number, a track's name, the place of a volume


@dataclass(frozen=True, slots=True)
class ClipQuery:
    """What is asked for of one camera; times are UTC."""

    camera: int
    track: str
    start_ns: int
    end_ns: int
    close_gaps: bool = False
    audio: bool = True
    inband: bool = False
    name: str = ""            # what players show as the name of the tracks
    format: str = "mp4"       # of api/clipformat.py
    aac: bool = False         # sound that players cannot take is made into AAC-LC (api/derived.py)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a clip has of one camera: by which clock its times run (0 is its own first picture), how many pictures, from when to when.

    `complete`: nothing that lies in the range can still come. `tracks`: names of those that are in the file, the asked one first.
    """

    query: ClipQuery
    timeline: Timeline
    tracks: tuple[str, ...]
    end_ns: int
    frames: int
    complete: bool

    @property
    def start_ns(self) -> int:
        """UTC of the first picture."""
        return self.timeline.zero_ns


@dataclass(frozen=True, slots=True)
class Missing:
    """A camera of which nothing is in the file, and why. `pending`: it may still come."""

    query: ClipQuery
    reason: str
    pending: bool


@dataclass(frozen=True, slots=True)
class Derived:
    """A sound track that was made of the camera's `codec`: its bytes, and (track, place, least offset) of each tape that it was made of."""

    camera: int
    codec: str
    data: bytes
    tapes: tuple[tuple[str, int, int], ...]

    def stands(self, store: TapeStore) -> bool:
        """True while its source may be read."""
        return all(store.tape(self.camera, name, place).stands(np.array([offset])) for name, place, offset in self.tapes)


@dataclass(frozen=True, slots=True)
class Shot:
    """What one camera gives to a file: tracks as `shown` names them; the one named DERIVED lies in `derived`."""

    shown: Shown
    tracks: tuple[MovieTrack, ...]
    derived: Derived | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """A planned file. `start_ns` is the time of its first picture, media time 0. `tapes` are what the extents of `movie` lie on.

    `missing`: cameras that were asked for and have nothing in it. A transport stream's bytes are made while they are read: its `movie` has only
    the AUs that it needs, `stream` the plan. `links` are (tape, offset, size) of AUs that follow on nothing (TapeBytes.link).
    """

    movie: Movie
    tapes: tuple[Tape, ...]
    shown: tuple[Shown, ...]
    start_ns: int
    etag: str
    missing: tuple[Missing, ...] = ()
    stream: TransportStream | None = None
    derived: tuple[Derived, ...] = ()
    links: tuple[tuple[int, int, int], ...] = ()

    @property
    def complete(self) -> bool:
        """True if nothing that lies in the range can still come."""
        return _whole(self.shown, self.missing)

    @property
    def frames(self) -> int:
        """Pictures of all cameras (AUs of a sound track alone)."""
        return sum(one.frames for one in self.shown)

    def readers(self, store: TapeStore) -> list[TrackReader | None]:
        """Of its tapes; None of what is derived."""
        return [store.tape(camera, name, place) if name != DERIVED else None for camera, name, place in self.tapes]

    def stands(self, store: TapeStore) -> bool:
        """True while all its bytes are still there."""
        extents = self.movie.extents
        recorded = (reader is None or reader.stands(extents.offset[extents.track == n]) for n, reader in enumerate(self.readers(store)))
        return all(recorded) and all(one.stands(store) for one in self.derived)

    @property
    def weight(self) -> int:
        """Bytes of memory that it takes, roughly."""
        units = 88 * len(self.stream.units) if self.stream else 0
        return len(self.movie.head) + len(self.movie.inline) + 32 * len(self.movie.extents) + units

    @property
    def media_type(self) -> str:
        """Of the file."""
        return FORMATS[self.shown[0].query.format].media_type(sound_alone=all(one.tracks == ("audio",) for one in self.shown))

    def open(self, store: TapeStore, disks: Disks) -> VirtualBytes | TsBytes:
        """Its bytes, read on the running loop, cold pages by `disks`; close it."""
        data = {one.camera: one.data for one in self.derived}
        tapes = [TapeBytes(reader, disks, partial(store.held, reader), store.sickness) if reader is not None else MemoryBytes(data[camera])
                 for (camera, _, _), reader in zip(self.tapes, self.readers(store), strict=True)]
        for number, offset, size in self.links:
            if isinstance(tape := tapes[number], TapeBytes):
                tape.link(offset, size)
        if self.stream is not None:
            return TsBytes(self.stream, self.movie.extents, tapes)
        return VirtualBytes(self.movie.head, self.movie.extents, tapes, self.movie.inline)


def plan(store: TapeStore, query: ClipQuery, now_ns: int) -> Clip:
    """The clip. Raises NotFound, Gone (expired), Conflict (the codec changes), Problem 404 with the gaps' causes, 416 (in the future)."""
    return assemble([shoot(store, query, now_ns)])


def plan_together(store: TapeStore, queries: Sequence[ClipQuery], now_ns: int) -> Clip:
    """One file of several cameras, in this order. Those without footage are `missing`; raises as `plan` does if none has any."""
    return assemble(*shoot_together(store, queries, now_ns))


def shoot_together(store: TapeStore, queries: Sequence[ClipQuery], now_ns: int) -> tuple[list[Shot], list[Missing]]:
    """What each camera gives, and those that give nothing; raises as `plan` does if none gives anything. Plain values."""
    shots: list[Shot] = []
    missing: list[Missing] = []
    for query in queries:
        try:
            shots.append(shoot(store, query, now_ns))
        except (NotFound, Gone, Problem) as error:
            lack = lacking(query, error)
            if len(missing) + 1 == len(queries):
                raise
            missing.append(lack)
    return shots, missing


def lacking(query: ClipQuery, error: NotFound | Gone | Problem) -> Missing:
    """A camera whose plan failed so as missing from a file of several; raises the error again if that is another matter."""
    if isinstance(error, Problem) and error.status != 404:
        raise error
    return Missing(query, error.message, isinstance(error, Problem) and "Retry-After" in error.headers)


def shoot(store: TapeStore, query: ClipQuery, now_ns: int) -> Shot:
    """What the camera has of the range; raises what `plan` raises."""
    if query.start_ns > now_ns:
        raise Problem(416, "the range lies in the future", now=rfc3339(now_ns))
    main = store.whole(query.camera, query.track)
    footage = _load(main, query.start_ns, query.end_ns)
    if main.kind is not TrackKind.VIDEO:
        return _sound_alone(query, main, footage, now_ns)
    start_ns = query.start_ns if FORMATS[query.format].exact else _access_ns(footage, query)
    video = cut_video(footage, start_ns, query.end_ns, close_gaps=query.close_gaps) if len(footage) else None
    if video is None:
        raise _nothing(main, query, now_ns)
    tracks, names, complete = [video.track], [main.name], _complete(main, footage, query, now_ns)
    if query.audio and query.track == "main" and "audio" in store.tracks(query.camera):
        audio = store.whole(query.camera, "audio")
        sound = _load(audio, video.timeline.zero_ns, query.end_ns)
        heard = cut_audio(sound, video.timeline, video.presented_ns)
        if heard is not None:
            tracks, names = [*tracks, heard], [*names, audio.name]
        complete = complete and (_complete(audio, sound, query, now_ns) or _given_up(audio, main))
    shown = Shown(query, video.timeline, tuple(names), video.last_ns, video.frames, complete)
    return Shot(shown, tuple(tracks))


def _access_ns(footage: Footage, query: ClipQuery) -> int:
    """UTC of the access point before the range, for formats that cannot leave pictures out."""
    found = pick(footage, query.start_ns, query.end_ns) if len(footage) else None
    return query.start_ns if found is None else int(footage.wall_ns[found.chosen[0]])


def _sound_alone(query: ClipQuery, track: Track, footage: Footage, now_ns: int) -> Shot:
    """Of a sound track alone."""
    timeline = Timeline.plain(query.start_ns)
    heard = cut_audio(footage, timeline, query.end_ns - query.start_ns)
    if heard is None:
        raise _nothing(track, query, now_ns)
    complete = _complete(track, footage, query, now_ns)
    return Shot(Shown(query, timeline, (track.name,), query.end_ns, len(heard.samples), complete), (heard,))


def _load(track: Track, start_ns: int, end_ns: int) -> Footage:
    return load_track(track, start_ns - MARGIN_NS, end_ns + MARGIN_NS, durable=True)


def assemble(shots: Sequence[Shot], missing: Sequence[Missing] = ()) -> Clip:
    """One file of what one or several cameras gave: presentation time 0 is the first picture of them all. `shots` is not empty."""
    zero_ns = min(shot.shown.start_ns for shot in shots)
    tracks = [_placed(track, shot.shown, zero_ns) for shot in shots for track in shot.tracks]
    sources = [(shot.shown.query.camera, name) for shot in shots for name in shot.shown.tracks]
    query = shots[0].shown.query
    check(query.format, tracks)
    stream = build_ts(tracks) if query.format == "ts" else None
    whole = Movie(b"", stream.extents, stream.size) if stream else _written(query, tracks, zero_ns)
    movie, tapes = by_tape(whole, sources)
    shown = tuple(shot.shown for shot in shots)
    derived = tuple(shot.derived for shot in shots if shot.derived is not None)
    etag = _etag(movie, tapes, stream, derived, complete=_whole(shown, missing))
    return Clip(movie, tapes, shown, zero_ns, etag, tuple(missing), stream, derived, _links(tracks, sources, tapes))


def _links(tracks: Sequence[MovieTrack], sources: Sequence[tuple[int, str]], tapes: Sequence[Tape]) -> tuple[tuple[int, int, int], ...]:
    """The AUs that follow on nothing: number of the tape, offset, size."""
    found = []
    for track, source in zip(tracks, sources, strict=True):
        for at in track.anew:
            place, offset = place_of(track.samples.offset[at:at + 1])
            found.append((tapes.index((*source, int(place[0]))), int(offset[0]), int(track.samples.size[at])))
    return tuple(found)


def _written(query: ClipQuery, tracks: Sequence[MovieTrack], zero_ns: int) -> Movie:
    """The file in the query's format."""
    if query.format == "webm":
        return build_webm(tracks[0], zero_ns)
    return (build_fragmented if query.format == "fmp4" else build)(tracks, zero_ns, inband=query.inband)


def _whole(shown: Sequence[Shown], missing: Sequence[Missing]) -> bool:
    return all(one.complete for one in shown) and not any(one.pending for one in missing)


def _placed(track: MovieTrack, shown: Shown, zero_ns: int) -> MovieTrack:
    """The track in a file whose media time 0 is `zero_ns`."""
    delay = track.edit.delay + (shown.start_ns - zero_ns) * MOVIE_HZ // NS
    return replace(track, edit=replace(track.edit, delay=delay), name=track.name or shown.query.name)


def _etag(movie: Movie, tapes: Sequence[Tape], stream: TransportStream | None, derived: Sequence[Derived], *, complete: bool) -> str:
    """Of the head and the places of the bytes on the tapes: what is never written twice, so the same footage has the same tag."""
    digest = hashlib.blake2b(movie.head, digest_size=16)
    digest.update(movie.inline)
    digest.update(repr(tapes).encode())
    for one in derived:
        digest.update(one.data)
    columns = [movie.extents.track, movie.extents.offset, movie.extents.size]
    for column in [*columns, *([stream.units.pts, stream.units.dts, stream.units.packets] if stream else [])]:
        digest.update(np.ascontiguousarray(column).tobytes())
    return f'"{digest.hexdigest()}"' if complete else f'W/"{digest.hexdigest()}"'


def by_tape(movie: Movie, sources: Sequence[tuple[int, str]]) -> tuple[Movie, tuple[Tape, ...]]:
    """The movie with extents on tapes, and the tapes; its tracks, which are these (camera, name), lie on one or several."""
    extents, taped = movie.extents, movie.extents.track >= 0
    place, offset = place_of(extents.offset)
    tapes, found = np.unique((extents.track * PLACES + place)[taped], return_inverse=True)
    index = np.full(len(extents), -1, np.int64)
    index[taped] = found
    extents = Extents(index, offset, extents.size, extents.at)
    return replace(movie, extents=extents), tuple((*sources[tape // PLACES], tape % PLACES) for tape in tapes.tolist())


def _complete(track: Track, footage: Footage, query: ClipQuery, now_ns: int) -> bool:
    """True if no AU with a time before the end can still become durable: a later one has been decoded, or gaps reach up to the end.

    Never while a disk cannot tell what it has of the track."""
    if track.unreadable:
        return False
    reached, bounds = query.start_ns, track.bounds()
    if bounds.retired and query.end_ns <= bounds.first_ns:
        return True             # of what holds have kept: nothing comes any more
    if len(footage):
        decoded_ns, ends_ns = kernel.reached(footage.wall_ns, footage.aus.cts, footage.aus.dur, footage.aus.row, footage.rates()[2])
        if decoded_ns >= query.end_ns:
            return True
        reached = max(reached, ends_ns)
    for gap in track.gaps(reached - MEETS_NS, query.end_ns):
        if gap.start_ns <= reached + MEETS_NS:
            reached = query.end_ns if gap.end_ns is None else max(reached, gap.end_ns)
    return query.end_ns <= min(reached, now_ns)


def _given_up(sound: Track, main: Track) -> bool:
    return sound.bounds().durable_end_ns + AUDIO_GIVEN_UP_NS < main.bounds().durable_end_ns


def _nothing(track: Track, query: ClipQuery, now_ns: int) -> Exception:
    """Why there is no picture in the range."""
    bounds = track.bounds()
    if bounds.retired and query.end_ns <= bounds.first_ns:
        return Gone("this footage has been retired", where=track.name)
    gaps = [{"start": rfc3339(gap.start_ns), "end": rfc3339(gap.end_ns) if gap.end_ns is not None else None, "cause": gap.cause.word}
            for gap in track.gaps(query.start_ns, query.end_ns)]
    if gaps:
        return Problem(404, "nothing was recorded in this range", gaps=gaps[:GAPS_SHOWN])
    if query.end_ns > bounds.durable_end_ns and query.start_ns <= now_ns:
        return Problem(404, "nothing of this range has been recorded yet", remedy="ask again in a second", headers={"Retry-After": "1"})
    return NotFound("there is no picture in this range", remedy="ask for a longer one")
