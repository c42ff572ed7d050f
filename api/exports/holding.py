"""The holds of exports: footage of a job that waits or runs stays, whatever retention says. The supervisor takes and releases them."""

import logging
from collections.abc import Callable
from typing import Any

from api.exports.job import AUTHOR, Item, Job
from api.keys import Supervisor
from recorder.base.errors import NotFound, WatchroomError
from recorder.base.media import NS

log = logging.getLogger("watchroom.exports")

BEFORE_NS = 40 * NS           # a clip begins at the access point before its first picture, and rows may continue each other for that long
AFTER_NS = 3 * NS
REASON_MAX = 400


class Holding:
    """See the module. `wanted` says of a job's id whether its hold stands rightly. Loop thread only."""

    def __init__(self, supervisor: Supervisor, wanted: Callable[[str], bool]) -> None:
        self._supervisor, self._wanted = supervisor, wanted
        self._look = True

    async def take(self, job: Job) -> str:
        """Hold the job's footage; the hold's id. Raises what the supervisor raises: Conflict if the budget of holds does not bear it."""
        spans = [span for item in job.wanted.items for span in _spans(item, audio=job.wanted.audio)]
        hold = {"reason": f"export: {job.wanted.reason}"[:REASON_MAX], "reference": job.reference, "author": AUTHOR, "review_ns": 0,
                "spans": spans}
        said = await self._supervisor.call("hold.add", {"hold": hold})
        return str(said["hold"]["id"])

    async def release(self, job: Job) -> bool:
        """Let the job's footage go; False if nobody could be told, then it is to be tried again."""
        return not job.hold or await self._release(job.hold)

    def look_for_strays(self) -> None:
        """There may be a hold of no job: its process was killed, or something failed half way."""
        self._look = True

    async def release_strays(self) -> None:
        """Release holds of jobs that nobody wants; tried until it has been done once."""
        if not self._look:
            return
        self._look = False
        try:
            left = [hold_id for hold_id, job_id in await self._ours() if not self._wanted(job_id)]
            done = [await self._release(hold_id) for hold_id in left]
        except (WatchroomError, OSError) as error:
            log.debug("holds of exports cannot be listed: %s", error)
            done = [False]
        self._look = self._look or not all(done)

    async def _ours(self) -> list[tuple[str, str]]:
        """Ids of standing holds of exports, and of the jobs they were taken for."""
        found: list[tuple[str, str]] = []
        after, more = "", True
        while more:
            page: dict[str, Any] = await self._supervisor.call("hold.list", {"after": after, "released": False})
            found += [(hold["id"], hold["reference"].removeprefix("export ")) for hold in page["holds"] if hold["author"] == AUTHOR]
            after, more = page["holds"][-1]["id"] if page["holds"] else "", bool(page["more"])
        return found

    async def _release(self, hold_id: str) -> bool:
        try:
            await self._supervisor.call("hold.release", {"id": hold_id, "by": AUTHOR})
        except NotFound:
            return True
        except (WatchroomError, OSError) as error:
            log.debug("a hold of an export cannot be released yet: %s", error)
            return False
        return True


def _spans(item: Item, *, audio: bool) -> list[dict[str, Any]]:
    tracks = [item.track, *(["audio"] if audio and item.track == "main" else [])]
    return [{"camera": item.number, "track": track, "start_ns": max(0, item.start_ns - BEFORE_NS), "end_ns": item.end_ns + AFTER_NS}
            for track in tracks]
