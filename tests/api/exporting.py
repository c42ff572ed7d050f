"""What tests of exports share: the supervisor's real book of holds, footage, jobs that are asked for and waited for."""

import asyncio
import time
from typing import Any

from recorder.base.config import SiteConfig
from recorder.base.media import NS
from recorder.holdbook import HoldBook
from storage import items
from storage.catalogue import Catalogue
from tests.storage_read.reference_writer import BASE_NS, ENTRY_H264, RefTrack, RefVolume, gop


class Holds:
    """Takes and releases holds as the supervisor does, for one worker that agrees to everything."""

    def __init__(self, catalogue: Catalogue, site: SiteConfig) -> None:
        self._book, self._catalogue = HoldBook(catalogue, site), catalogue
        self.refuses: Exception | None = None

    def calls(self) -> dict[str, Any]:
        return {"hold.add": self._add, "hold.release": lambda args: self._do("hold.release", args),
                "hold.list": lambda args: self._do("hold.list", args)}

    def standing(self) -> list[Any]:
        return [hold for hold in self._catalogue.holds() if not hold.released_ns]

    def _add(self, args: dict[str, Any]) -> Any:
        if self.refuses:
            raise self.refuses
        return self._do("hold.add", args)

    def _do(self, call: str, args: dict[str, Any]) -> Any:
        made = self._book.calls[call](args)
        return made.finish([(order, {"found": [], "pending": []}) for order in made.orders]) if made.finish else made.result


def footage(volume: RefVolume, seconds: int = 60, *, au_bytes: int = 40_000, camera: int = 1) -> RefTrack:
    """A track of so many rows of a second, 25 AUs each."""
    track = volume.track(camera, "main")
    track.log(items.SampleEntryItem(1, ENTRY_H264))
    for _ in range(seconds):
        track.write_row(gop(25, size=au_bytes, key=2 * au_bytes))
    track.commit()
    return track


def body(first: float = 10, last: float = 50, **more: Any) -> dict[str, Any]:
    item = {"camera": "north", "start": BASE_NS + round(first * NS), "end": BASE_NS + round(last * NS)}
    return {"items": [item], "reason": "accident", **more}


async def until_true(true: Any, seconds: float = 300) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def ended(api: Any, job_id: str, token: str, *, seconds: float = 300) -> dict[str, Any]:
    """The job once it has ended."""
    return await until(api, job_id, token, lambda job: job["state"] not in {"queued", "running"}, seconds=seconds)


async def until(api: Any, job_id: str, token: str, true: Any, *, seconds: float = 300) -> dict[str, Any]:
    """The job once something is true of it."""
    deadline = time.monotonic() + seconds
    while True:
        job: dict[str, Any] = (await api.get(f"exports/{job_id}", token=token)).json
        if true(job):
            return job
        assert time.monotonic() < deadline, job
        await asyncio.sleep(0.05)
