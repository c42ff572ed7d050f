"""Several cameras at once: `clip.mp4` with the tracks of all of them on one clock, `clip.zip` with a file of each and the list of gaps."""

import json
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiohttp import web

from api import keys
from api.authorise import within_reach
from api.clip import AUDIO, ENTRY, GAPS, LONGER, WAIT, file_name, find, find_whole, send_clip, tell
from api.clipcontents import contents
from api.clipplan import CLIP_MAX_NS, Clip, ClipQuery, Missing, lacking
from api.clips import CLIPS
from api.media import MEDIA, Media
from api.parameters import END, START, TRACK, Parameter, time_range, wrong
from api.problems import Problem
from api.routes import ROOT, VIEW, Answer, Route
from api.sending import Source, send_once
from api.zipstream import Archive, Member
from recorder.base.errors import Gone, NotFound
from recorder.base.media import valid_id
from storage.camera_record import CameraRecord

CAMERAS_MAX = 16
GAPS_NAME = "gaps.json"


def _ids(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if len(found) > CAMERAS_MAX or len(set(found)) < len(found) or not all(valid_id(one) for one in found):
        raise ValueError(f"must be 1 to {CAMERAS_MAX} different camera ids with commas between them")
    return found


CAMERAS: Parameter[tuple[str, ...]] = Parameter("cameras", _ids, {"type": "string"}, f"Ids with commas between them, at most {CAMERAS_MAX}.")


class ZipBytes:
    """An archive as it is read: files of clips and, last, one small file. Once, from the first byte to the last; close it."""

    def __init__(self, files: Sequence[tuple[str, Source]], last: tuple[str, bytes], wall_ns: int) -> None:
        self._files, self._last = files, last
        self._archive = Archive([*(Member(name, source.size) for name, source in files), Member(last[0], len(last[1]))], wall_ns)
        self.size = self._archive.size

    async def pieces(self) -> AsyncIterator[memoryview]:
        """All bytes. Raises Gone if footage is retired meanwhile."""
        crcs = []
        for number, (_, source) in enumerate(self._files):
            yield memoryview(self._archive.head(number))
            crc = 0
            async for piece in source.pieces(0, source.size):
                crc = zlib.crc32(piece, crc)
                yield piece
            yield memoryview(self._archive.tail(number, crc))
            crcs.append(crc)
        crcs.append(zlib.crc32(self._last[1]))
        yield memoryview(self._archive.head(len(self._files)) + self._last[1] + self._archive.tail(len(self._files), crcs[-1])
                         + self._archive.end(crcs))

    def close(self) -> None:
        """Give all chunks back."""
        for _, source in self._files:
            source.close()


def _cameras(request: web.Request) -> list[CameraRecord]:
    grant, registry = request[keys.GRANT], request.app[keys.REGISTRY]
    return [within_reach(grant, registry, one) for one in CAMERAS.of(request)]


def _queries(request: web.Request, cameras: Sequence[CameraRecord]) -> list[ClipQuery]:
    """One for each camera; Problem 400 where the parameters are wrong."""
    start_ns, end_ns = time_range(request)
    if (end_ns - start_ns) * len(cameras) > CLIP_MAX_NS:
        raise Problem(400, "one file holds at most 12 hours, all cameras together", parameter="end", remedy=LONGER)
    return [ClipQuery(camera.number, TRACK.of(request), start_ns, end_ns, GAPS.of(request) == "close", AUDIO.of(request) == "source",
                      ENTRY.of(request) == "inband", camera.id) for camera in cameras]


def _one_clock(queries: Sequence[ClipQuery]) -> None:
    if len(queries) > 1 and queries[0].close_gaps:
        raise wrong("gaps", "must be keep where several cameras share a file: each has its own gaps, so they would no longer run together")


async def clip_mp4(request: web.Request) -> web.StreamResponse:
    """GET and HEAD of clip.mp4 of several cameras."""
    cameras = _cameras(request)
    queries = _queries(request, cameras)
    _one_clock(queries)
    return await send_clip(request, queries, file_name(f"{len(cameras)}-cameras", queries[0]), f"{ROOT}/clip.json")


async def clip_json(request: web.Request) -> web.StreamResponse:
    """GET of what the clip of several cameras holds and lacks."""
    cameras = _cameras(request)
    queries = _queries(request, cameras)
    _one_clock(queries)
    return await tell(request, queries, {camera.number: camera.id for camera in cameras})


async def clip_zip(request: web.Request) -> web.StreamResponse:
    """GET and HEAD of clip.zip."""
    media, cameras = request.app[MEDIA], _cameras(request)
    queries = _queries(request, cameras)
    names = {camera.number: camera.id for camera in cameras}
    with request.app[CLIPS].take(request[keys.GRANT].holder):
        made, missing = await _each(media, queries, waits=WAIT.of(request) == "1")
        listed = {"clips": [await _contents(media, one, names) for one in made],
                  "missing": [{"camera": names[one.query.camera], "reason": one.reason, "pending": one.pending} for one in missing]}
        files = [(file_name(names[one.shown[0].query.camera], one.shown[0].query), one.open(media.store, media.cold)) for one in made]
        source = ZipBytes(files, (GAPS_NAME, json.dumps(listed, indent=1).encode()), queries[0].start_ns)
        complete = all(one.complete for one in made) and not any(one.pending for one in missing)
        name = file_name(f"{len(cameras)}-cameras", queries[0], "zip")
        return await send_once(request, source, headers={
            "Content-Type": "application/zip", "Watchroom-Complete": "yes" if complete else "no", "Cache-Control": "private, no-cache",
            "Content-Disposition": f'attachment; filename="{name}"'})


async def _each(media: Media, queries: Sequence[ClipQuery], *, waits: bool) -> tuple[list[Clip], list[Missing]]:
    """A clip of each camera; those that have none are missing. Raises what the last camera raises if none has any."""
    made: list[Clip] = []
    missing: list[Missing] = []
    for query in queries:
        try:
            made.append(await (find_whole if waits else find)(media, [query]))
        except (NotFound, Gone, Problem) as error:
            lack = lacking(query, error)
            if len(missing) + 1 == len(queries):
                raise
            missing.append(lack)
    return made, missing


async def _contents(media: Media, clip: Clip, names: dict[int, str]) -> dict[str, Any]:
    return await media.compute(lambda store: contents(store, clip, names))


def routes() -> list[Route]:
    """What this module answers."""
    common, problems = (CAMERAS, START, END, TRACK, GAPS, AUDIO), (404, 409, 410, 412, 416)
    film = Answer("The clip: a video track of each camera, with its sound; as a single camera's.", media_type="video/mp4")
    archive = Answer("An MP4 of each camera and `gaps.json`. Content-Length, but no ranges.", media_type="application/zip")
    listed = Answer("what is in the clip, and the gaps and damage of each camera", "Contents")
    return [Route("GET", f"{ROOT}/clip.mp4", clip_mp4, "Several cameras in one MP4, on one clock", scopes=VIEW, signable=True,
                  parameters=(*common, ENTRY, WAIT), answers={200: film, 206: film}, problems=(*problems, 429)),
            Route("GET", f"{ROOT}/clip.json", clip_json, "What a clip of several cameras holds and lacks", scopes=VIEW, signable=True,
                  parameters=common, answers={200: listed}, problems=problems),
            Route("GET", f"{ROOT}/clip.zip", clip_zip, "Clips of several cameras in one archive", scopes=VIEW, signable=True,
                  parameters=(*common, ENTRY, WAIT), answers={200: archive}, problems=(*problems, 429))]
