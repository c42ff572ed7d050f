"""The process of one job: settles what the file is made of, makes it, and says how far it is in lines of JSON on its standard output.

It may be killed at any moment and started again: all it knows lies in the job's folder (api/exports/shelf.py), and the file is the same.
"""

import asyncio
import fcntl
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from api.exports import shelf
from api.exports.copy import copy, size_of
from api.exports.job import Job, from_json
from api.exports.plan import Plan, load, save
from api.exports.settle import settle
from api.exports.sink import Pace, Sink, Torn
from recorder.base.clock import SystemClock
from recorder.base.config import SiteConfig
from recorder.base.errors import Conflict, Gone, StorageError, WatchroomError
from recorder.base.rulebook import Expiry, Member, rule_book
from storage.catalogue import Catalogue
from storage.store import TapeStore

log = logging.getLogger("watchroom.exports")

NICE = 10
TELL_S = 0.2
LOCK_S = 30.0
POLL_S = 0.05
SHARED_MB_PER_S = 100.0

Say = Callable[[dict[str, Any]], None]


def run_export(site: SiteConfig, job_id: str) -> int:
    """Make the job's file; 0 when it is there, 1 when it cannot be made (and said why)."""
    os.nice(NICE)
    folder = site.exports_dir / job_id
    try:
        lock = _take(folder)
        try:
            if not (folder / shelf.MADE).exists():
                job = from_json(json.loads((folder / shelf.RECORD).read_bytes()))
                asyncio.run(_make(site, job, folder))
        finally:
            os.close(lock)
    except WatchroomError as error:
        _say({"failed": _failure(error)})
        return 1
    except OSError as error:
        _say({"failed": _system(error)})
        return 1
    return 0


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _failure(error: WatchroomError) -> dict[str, str]:
    if isinstance(error, Gone):
        return {"message": "footage of this range has been retired", "remedy": "see whether its hold was released; ask for what is left"}
    if isinstance(error, StorageError):
        return {"message": f"the storage cannot be read: {error.message}", "remedy": error.remedy or "see the server's log, then ask again"}
    return {"message": error.message, "remedy": error.remedy or "ask again"}


def _system(error: OSError) -> dict[str, str]:
    if error.errno in shelf.NO_SPACE:
        return {"message": "the disk of exports is full", "remedy": "delete exports, or make room there; then ask again"}
    return {"message": f"the system refuses: {error.strerror}", "remedy": "see the disk of exports and the server's log, then ask again"}


def _take(folder: Path) -> int:
    """The job's lock: an earlier process of it may be just about to end."""
    fd = os.open(folder / shelf.LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    until_s = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() > until_s:
                os.close(fd)
                raise Conflict("another process still works on it", remedy="ask again") from None
            time.sleep(POLL_S)


async def _make(site: SiteConfig, job: Job, folder: Path) -> None:
    with Catalogue.open(site.catalogue, SystemClock()) as catalogue:
        cameras = {camera.number: camera.config for camera in catalogue.cameras(removed=True)}
    book = rule_book(site, [Member.of(number, config) for number, config in cameras.items()])
    store = TapeStore([volume.path for volume in site.volumes], site.live_dir, Expiry(lambda: book, time.time_ns), lenient=True)
    try:
        plan = load(folder)
        if plan is None:
            _say({"stage": "planning"})
            plan = await settle(site, store, job, cameras)
            save(plan, folder)
        await _copy(site, store, job, plan, folder)
    finally:
        store.close()


async def _copy(site: SiteConfig, store: TapeStore, job: Job, plan: Plan, folder: Path) -> None:
    if (folder / shelf.RESULT).exists():        # it was killed between the name and the word
        (folder / shelf.RESULT).rename(folder / shelf.PART)
    total, pace = size_of(job, plan), Pace(_pace(site))
    begun_s, begun_cpu_s = time.monotonic(), time.process_time()
    while True:
        sink = Sink(folder, total, pace, _Progress(total))
        try:
            result, text = await copy(store, sink, job, plan)
            break
        except Torn:
            (folder / shelf.MARK).unlink()      # made anew from its first byte
        finally:
            sink.close()
    log.info("export %s: %d bytes, %.2f s of CPU, %.2f s", job.id, total, time.process_time() - begun_cpu_s, time.monotonic() - begun_s)
    shelf.write_whole(folder / shelf.MANIFEST, text)
    (folder / shelf.PART).rename(folder / shelf.RESULT)
    shelf.write_whole(folder / shelf.MADE, json.dumps(asdict(result)).encode())
    for name in (shelf.MARK, shelf.PLAN):
        (folder / name).unlink(missing_ok=True)


def _pace(site: SiteConfig) -> float:
    """MB/s: what the configuration says, else a bound where the recorder's commits share the disk."""
    device = os.stat(site.exports_dir).st_dev
    shared = any(os.stat(volume.path).st_dev == device for volume in site.volumes if volume.path.exists())
    return site.exports.mb_per_s or (SHARED_MB_PER_S if shared else 0.0)


class _Progress:
    """Says how far the file is, a few times a second."""

    def __init__(self, total: int) -> None:
        self._total, self._said_s = total, 0.0

    def __call__(self, done: int) -> None:
        now_s = time.monotonic()
        if now_s - self._said_s >= TELL_S:
            self._said_s = now_s
            _say({"stage": "copying", "done": done, "total": self._total})
