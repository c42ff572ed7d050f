"""`clip.mp4`: any range of a camera as a seekable MP4, exact to the frame. A virtual file: only its head is ever computed."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from aiohttp import web

from api import keys
from api.clips import CLIPS
from api.cut import cut_audio, cut_video
from api.footage import Footage, Timeline, load_track, place_of
from api.media import MEDIA, Media
from api.mp4.clip import Extents, Movie, MovieTrack, build
from api.parameters import END, START, TRACK, Parameter, one_of, time_range
from api.problems import Problem
from api.routes import ROOT, VIEW, Answer, Route
from api.sending import send_file
from api.times import rfc3339
from recorder.base.errors import Gone, NotFound
from recorder.base.media import NS, TrackKind
from storage.reader import TrackReader
from storage.store import TapeStore
from storage.track import Track

MARGIN_NS = 2 * NS            # how far a row may reach past its own times through the order of its pictures
CLIP_MAX_NS = 12 * 3600 * NS  # of one file: its head stays under some tens of MB
MEETS_NS = NS // 2           # a gap that starts within this of the last picture's end follows it
WAIT_S = 5.0
POLL_S = 0.1
AUDIO_GIVEN_UP_NS = 10 * NS   # audio that is so far behind the video is not coming
GAPS_SHOWN = 100
INLINE_NS = 60 * NS           # heads of longer clips are made in a thread

GAPS = Parameter("gaps", one_of("keep", "close"), {"enum": ["keep", "close"]},
                 "keep: media time is wall time, the last picture before a gap stands. close: gaps take no time.", "keep")
AUDIO = Parameter("audio", one_of("source", "none"), {"enum": ["source", "none"]}, "The camera's sound as it is, or none.", "source")
ENTRY = Parameter("entry", one_of("record", "inband"), {"enum": ["record", "inband"]},
                  "record: avc1/hvc1. inband: avc3/hev1, which tells players to heed parameter sets between the pictures.", "record")
WAIT = Parameter("wait", one_of("0", "1"), {"enum": ["0", "1"]}, "1: wait up to 5 s for an end that is not recorded yet.", "0")


@dataclass(frozen=True, slots=True)
class ClipQuery:
    """What is asked for."""

    camera: int
    track: str
    start_ns: int
    end_ns: int
    close_gaps: bool = False
    audio: bool = True
    inband: bool = False


@dataclass(frozen=True, slots=True)
class Clip:
    """A planned file. `start_ns` is the time of its first picture; `complete`: nothing that lies in the range can still come.

    `tapes` are what the extents of `movie` lie on: each a track's name and the place of a volume.
    """

    movie: Movie
    tapes: tuple[tuple[str, int], ...]
    start_ns: int
    end_ns: int
    frames: int
    complete: bool
    etag: str

    def readers(self, store: TapeStore, camera: int) -> list[TrackReader]:
        """Of its tapes."""
        return [store.tape(camera, name, place) for name, place in self.tapes]

    def stands(self, readers: Sequence[TrackReader]) -> bool:
        """True while all its bytes are still there; `readers` of its tapes."""
        extents = self.movie.extents
        return all(reader.stands(extents.offset[extents.track == n]) for n, reader in enumerate(readers))


def plan(store: TapeStore, query: ClipQuery, now_ns: int) -> Clip:
    """The clip. Raises NotFound, Gone (expired), Conflict (the codec changes), Problem 404 with the gaps' causes, 416 (in the future)."""
    if query.start_ns > now_ns:
        raise Problem(416, "the range lies in the future", now=rfc3339(now_ns))
    main = store.whole(query.camera, query.track)
    footage = _load(main, query.start_ns, query.end_ns)
    if main.kind is not TrackKind.VIDEO:
        return _plan_sound(query, main, footage, now_ns)
    video = cut_video(footage, query.start_ns, query.end_ns, close_gaps=query.close_gaps) if len(footage) else None
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
    return _clip(query, tracks, names, video.timeline.zero_ns, int(video.times_ns[-1]), len(video.times_ns), complete)


def _plan_sound(query: ClipQuery, track: Track, footage: Footage, now_ns: int) -> Clip:
    """A clip of a sound track alone."""
    timeline = Timeline.plain(query.start_ns)
    heard = cut_audio(footage, timeline, query.end_ns - query.start_ns)
    if heard is None:
        raise _nothing(track, query, now_ns)
    complete = _complete(track, footage, query, now_ns)
    return _clip(query, [heard], [track.name], query.start_ns, query.end_ns, len(heard.samples), complete)


def _load(track: Track, start_ns: int, end_ns: int) -> Footage:
    return load_track(track, start_ns - MARGIN_NS, end_ns + MARGIN_NS, durable=True)


def _clip(query: ClipQuery, tracks: list[MovieTrack], names: list[str], start_ns: int, end_ns: int, frames: int,
          complete: bool) -> Clip:
    movie, tapes = _by_tape(build(tracks, start_ns, inband=query.inband), names)
    digest = hashlib.blake2b(movie.head, digest_size=16)
    digest.update(repr([query.camera, *tapes]).encode())
    for column in (movie.extents.track, movie.extents.offset, movie.extents.size):
        digest.update(np.ascontiguousarray(column).tobytes())
    etag = f'"{digest.hexdigest()}"' if complete else f'W/"{digest.hexdigest()}"'
    return Clip(movie, tapes, start_ns, end_ns, frames, complete, etag)


def _by_tape(movie: Movie, names: list[str]) -> tuple[Movie, tuple[tuple[str, int], ...]]:
    """The movie with extents on tapes, and the tapes; its tracks, which have these names, lie on one or several."""
    extents = movie.extents
    place, offset = place_of(extents.offset)
    pairs = np.stack((extents.track, place), axis=1)
    tapes, index = np.unique(pairs, axis=0, return_inverse=True)
    extents = Extents(index.reshape(-1).astype(np.int64), offset, extents.size, extents.at)
    return replace(movie, extents=extents), tuple((names[track], place) for track, place in tapes.tolist())


def _complete(track: Track, footage: Footage, query: ClipQuery, now_ns: int) -> bool:
    """True if no AU with a time before the end can still become durable: a later one has been decoded, or gaps reach up to the end."""
    reached, bounds = query.start_ns, track.bounds()
    if bounds.retired and query.end_ns <= bounds.first_ns:
        return True             # of what holds have kept: nothing comes any more
    if len(footage):
        rate = footage.rates()[2][footage.row]
        decoded = footage.wall_ns - footage.aus.cts.astype(np.int64) * NS // rate
        if int(decoded.max()) >= query.end_ns:
            return True
        reached = max(reached, int((footage.wall_ns + footage.aus.dur * NS // rate).max()))
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


async def find(media: Media, query: ClipQuery) -> Clip:
    """The clip, from the cache while its footage stands, else planned (in a thread if it is long)."""
    held = media.clips.get(query)
    if isinstance(held, Clip) and held.stands(held.readers(media.store, query.camera)):
        return held
    now_ns = media.clock.wall_ns()
    if query.end_ns - query.start_ns <= INLINE_NS:
        made = plan(media.store, query, now_ns)
    else:
        made = await media.compute(lambda store: plan(store, query, now_ns))
    media.counts.clips += 1
    if made.complete:
        media.clips.put(query, made, len(made.movie.head) + 32 * len(made.movie.extents))
    return made


async def find_whole(media: Media, query: ClipQuery) -> Clip:
    """The clip, waiting up to 5 s for its end to be recorded."""
    until_s = asyncio.get_running_loop().time() + WAIT_S
    while True:
        late = asyncio.get_running_loop().time() >= until_s
        try:
            made = await find(media, query)
            if made.complete or late:
                return made
        except Problem as problem:
            if late or "Retry-After" not in problem.headers:
                raise
        await asyncio.sleep(POLL_S)


def query_of(request: web.Request) -> ClipQuery:
    """The request's parameters; Problem 400 where they are wrong."""
    start_ns, end_ns = time_range(request)
    if end_ns - start_ns > CLIP_MAX_NS:
        raise Problem(400, "one clip holds at most 12 hours", parameter="end", remedy="ask for it in parts")
    return ClipQuery(request[keys.CAMERA].number, TRACK.of(request), start_ns, end_ns, GAPS.of(request) == "close",
                     AUDIO.of(request) == "source", ENTRY.of(request) == "inband")


async def clip_mp4(request: web.Request) -> web.StreamResponse:
    """GET and HEAD of clip.mp4."""
    media, query = request.app[MEDIA], query_of(request)
    with request.app[CLIPS].take(request[keys.GRANT].holder):
        made = await (find_whole if WAIT.of(request) == "1" else find)(media, query)
        source = media.bytes_of(made.movie.head, made.movie.extents, made.readers(media.store, query.camera))
        return await send_file(request, source, etag=made.etag, headers={
            "Content-Type": "video/mp4", "Watchroom-Complete": "yes" if made.complete else "no", "Watchroom-Start": rfc3339(made.start_ns),
            "Watchroom-Frames": str(made.frames), "Cache-Control": "private, no-cache",
            "Content-Disposition": f'inline; filename="{file_name(request[keys.CAMERA].id, query)}"'})


def file_name(camera: str, query: ClipQuery) -> str:
    """Camera, track and times, fit for any file system."""
    start, end = (rfc3339(ns)[:19].replace(":", "").replace("-", "") + "Z" for ns in (query.start_ns, query.end_ns))
    return f"{camera}_{query.track}_{start}_{end}.mp4"


def routes() -> list[Route]:
    """What this module answers."""
    text = Answer("The clip: seekable, with Content-Length, ranges and an ETag; a weak one and `Watchroom-Complete: no` where the end "
                  "is not recorded yet.", media_type="video/mp4")
    return [Route("GET", f"{ROOT}/cameras/{{camera}}/clip.mp4", clip_mp4, "An MP4 of any range, exact to the frame", scopes=VIEW,
                  parameters=(START, END, TRACK, GAPS, AUDIO, ENTRY, WAIT), answers={200: text, 206: text}, problems=(404, 409, 410, 416, 429),
                  signable=True)]
