"""Where `watchroom clip` takes its bytes from: the HTTP API, or the volumes while no server runs."""

import asyncio
import http.client
import json
import time
import urllib.error
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urlencode

from api.clipplan import ClipQuery, plan
from api.disks import Disks
from api.problems import Problem
from api.sending import Source
from api.times import rfc3339
from recorder.base.clock import SystemClock
from recorder.base.config import SiteConfig
from recorder.base.errors import ConfigError, Conflict, Gone, NotFound, Refused, WatchroomError
from recorder.base.rulebook import Expiry, Member, rule_book
from storage.catalogue import Catalogue
from storage.store import TapeStore

ANSWER_S = 30.0
PIECE = 1 << 20
ERRORS: dict[int, type[WatchroomError]] = {400: ConfigError, 401: Refused, 403: Refused, 404: NotFound, 409: Conflict,
                                         410: Gone, 416: NotFound, 421: Refused, 422: ConfigError}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A stretch of a camera's track."""

    camera: str
    track: str
    start_ns: int
    end_ns: int
    audio: bool = True


@dataclass(frozen=True, slots=True)
class Saved:
    """What was written. `start` is the time of the first picture; `complete`: nothing of the range can still come."""

    nbytes: int
    frames: int
    start: str
    complete: bool


def from_server(base: str, token: str, wanted: Wanted, file: BinaryIO) -> Saved:
    """Downloads the clip. Raises WatchroomError with what the server says."""
    query = {"start": wanted.start_ns, "end": wanted.end_ns, "track": wanted.track, "audio": "source" if wanted.audio else "none"}
    url = f"{base}/api/v1/cameras/{wanted.camera}/clip.mp4?{urlencode(query)}"
    if not url.startswith(("http://", "https://")):
        raise ConfigError("is no http:// or https:// address", where="--url", remedy="write it like https://nvr.example.org")
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310 (checked above)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=ANSWER_S) as answer:
            return receive(answer, file)
    except urllib.error.HTTPError as error:
        raise answered(error, f"camera {wanted.camera}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise WatchroomError(f"the download failed: {reason}", where=base, remedy="check that the server runs and can be reached") from None


def receive(answer: http.client.HTTPResponse, file: BinaryIO) -> Saved:
    """Copies the body; a body that ends early is an error."""
    expected, got = int(answer.headers["Content-Length"]), 0
    while piece := answer.read(PIECE):
        file.write(piece)
        got += len(piece)
    if got != expected:
        raise Gone(f"the server ended after {got} of {expected} bytes", where="clip", remedy="the footage may have expired; try again")
    return Saved(got, int(answer.headers["Watchroom-Frames"]), answer.headers["Watchroom-Start"], answer.headers["Watchroom-Complete"] == "yes")


def answered(error: urllib.error.HTTPError, where: str) -> WatchroomError:
    """The server's problem document (RFC 9457) as an error."""
    try:
        problem = json.loads(error.read(1 << 16))
        message, _, remedy = str(problem.get("detail") or problem.get("title")).partition("; ")     # as api/problems.py joins them
        causes = sorted({str(gap.get("cause")) for gap in problem.get("gaps") or []})
    except (ValueError, AttributeError, OSError):
        message, remedy, causes = f"the server answers {error.code}", "", []
    if causes:
        message += f" ({', '.join(causes)})"
    fallback = "make a token with: watchroom token add NAME" if error.code in {401, 403} else "see watchroom camera list, and the timeline"
    return ERRORS.get(error.code, WatchroomError)(message, where=where, remedy=remedy or fallback)


def from_volume(site: SiteConfig, wanted: Wanted, file: BinaryIO) -> Saved:
    """Reads the clip from the site's volumes. Raises WatchroomError."""
    with Catalogue.open(site.catalogue, SystemClock()) as catalogue:
        camera = catalogue.camera(wanted.camera)
    number, book = camera.number, rule_book(site, [Member.of(camera.number, camera.config)])
    store = TapeStore([volume.path for volume in site.volumes], site.live_dir, Expiry(lambda: book, time.time_ns))
    try:
        query = ClipQuery(number, wanted.track, wanted.start_ns, wanted.end_ns, audio=wanted.audio)
        made = plan(store, query, time.time_ns())
        with closing(Disks()) as disks:
            nbytes = asyncio.run(copy(made.open(store, disks), file))
    except Problem as problem:
        raise NotFound(problem.message, where=f"camera {wanted.camera}", remedy="see its timeline") from None
    finally:
        store.close()
    return Saved(nbytes, made.frames, rfc3339(made.start_ns), made.complete)


async def copy(source: Source, file: BinaryIO) -> int:
    """Writes all of a virtual file; nobody else uses this loop."""
    try:
        async for piece in source.pieces(0, source.size):
            file.write(piece)
    finally:
        source.close()
    return source.size
