"""Settles what a job's files are made of: which AUs and rows of which tapes, and what the manifest says of them. Reads the index only."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from api.clip import file_name
from api.clipplan import CLIP_MAX_NS, ClipQuery, Missing, Shot, assemble, lacking, shoot
from api.exports import manifest
from api.exports.job import Item, Job
from api.exports.look import look
from api.exports.master import Shifted, master
from api.exports.plan import FilePlan, Plan, file_of
from api.problems import Problem
from recorder.base.config import CameraConfig, SiteConfig
from recorder.base.errors import Gone, NotFound
from recorder.base.media import NS
from storage.store import TapeStore
from storage.volume import VOLUME_JSON

COMPLETE_S = 15.0             # how long the newest of the range is waited for
POLL_S = 0.5
TRIES = 3


@dataclass(frozen=True, slots=True)
class Footage:
    """What there is of an item: `shot` or `missing`, and what the manifest says."""

    item: Item
    shot: Shot | None
    missing: Missing | None
    about: dict[str, Any]


async def settle(site: SiteConfig, store: TapeStore, job: Job, cameras: Mapping[int, CameraConfig]) -> Plan:
    """The plan of the job. Raises what api/clipplan.py's `plan` raises if there is nothing of any item."""
    heading = manifest.heading(site, job, time.time_ns())
    if job.wanted.format == "mp4":
        found = [await _footage(store, job, item, cameras) for item in job.wanted.items]
        return Plan({**heading, "volumes_missing": lacking_volumes(site, store)}, (_together(job, _some(found)),))
    files: list[FilePlan] = []
    lacking_items: list[Footage] = []
    for item in [part for whole in job.wanted.items for part in parts(whole)]:
        one = await _footage(store, job, item, cameras)
        if one.shot is None:
            lacking_items.append(one)
        else:
            files.append(_master(store, job, one) if job.wanted.format == "pack" else _together(job, [one]))
    if not files:
        _some(lacking_items)
    missing = lacking_volumes(site, store)
    return Plan({**heading, "volumes_missing": missing, "nothing": [one.about for one in lacking_items]}, tuple(distinct(files)))


def distinct(files: Sequence[FilePlan]) -> Iterator[FilePlan]:
    """The files, each under a name of its own: items that begin and end within the same seconds would have the same one."""
    taken: Counter[str] = Counter()
    for file in files:
        name = str(file.about["name"])
        taken[name] += 1
        if taken[name] == 1:
            yield file
            continue
        stem, _, ending = name.rpartition(".")
        other = f"{stem}-{taken[name]}.{ending}"
        lists: dict[str, Any] = {word: file.about[word].replace(name, other, 1) for word in ("rows", "chunks") if word in file.about}
        yield replace(file, about={**file.about, **lists, "name": other})


def missing_volumes(site: SiteConfig) -> list[int]:
    """Numbers of the site's volumes that are not where they should be: what lies on them is in no file, and not in the figures either."""
    return [number for number, volume in enumerate(site.volumes) if not (volume.path / VOLUME_JSON).exists()]


def lacking_volumes(site: SiteConfig, store: TapeStore) -> list[int]:
    """The same, and those whose disk could not be read when something on it was looked for."""
    return sorted({*missing_volumes(site), *store.sickness.errors})


def parts(item: Item) -> list[Item]:
    """The item in stretches that one file holds."""
    starts = range(item.start_ns, item.end_ns, CLIP_MAX_NS)
    return [replace(item, start_ns=start, end_ns=min(start + CLIP_MAX_NS, item.end_ns)) for start in starts]


def _some(found: list[Footage]) -> list[Footage]:
    """All of them, if there is anything of any; raises NotFound."""
    if not any(one.shot for one in found):
        reasons = {one.missing.reason for one in found if one.missing is not None}
        raise NotFound("; ".join(sorted(reasons)) or "there is nothing in this range", remedy="ask what there is with dry_run")
    return found


async def _footage(store: TapeStore, job: Job, item: Item, cameras: Mapping[int, CameraConfig]) -> Footage:
    config = cameras.get(item.number)
    try:
        shot = await _complete(store, query_of(job, item), item)
    except (NotFound, Gone, Problem) as error:
        if len(job.wanted.items) == 1 and item in job.wanted.items:
            raise
        lack = lacking(query_of(job, item), error)
        return Footage(item, None, lack, manifest.about_missing(store, item, config, lack))
    return Footage(item, shot, None, manifest.about_clip(store, item, config, look(store, item), shot.shown))


async def _complete(store: TapeStore, query: ClipQuery, item: Item) -> Shot:
    """What there is of the item once nothing of it can still come, or after COMPLETE_S as it is then."""
    until_s = time.monotonic() + COMPLETE_S
    while True:
        late = time.monotonic() > until_s or time.time_ns() > item.end_ns + int(COMPLETE_S * NS)
        try:
            shot = shoot(store, query, time.time_ns())
            if shot.shown.complete or late:
                return shot
        except Problem as problem:
            if late or "Retry-After" not in problem.headers:
                raise
        await asyncio.sleep(POLL_S)


def query_of(job: Job, item: Item) -> ClipQuery:
    """The clip that an item is."""
    several = job.wanted.format == "mp4" and len(job.wanted.items) > 1
    return ClipQuery(item.number, item.track, item.start_ns, item.end_ns, job.wanted.close_gaps, job.wanted.audio,
                     name=item.camera if several else "")


def _together(job: Job, found: list[Footage]) -> FilePlan:
    """One MP4 of all of them on one clock."""
    clip = assemble([one.shot for one in found if one.shot], [one.missing for one in found if one.missing])
    first = found[0].item
    cameras = len({one.item.number for one in found})
    name = file_name(first.camera if cameras == 1 else f"{cameras}-cameras", query_of(job, first))
    return file_of(clip, {"name": name, "role": "clip", "complete": clip.complete, "items": [one.about for one in found]})


def _master(store: TapeStore, job: Job, one: Footage) -> FilePlan:
    """The rows of an item as they are."""
    assert one.shot is not None
    name = f"master/{file_name(one.item.camera, query_of(job, one.item))}"
    shot = one.shot
    for attempt in range(TRIES):
        try:
            made = master(store, one.item, shot)
            break
        except Shifted:             # retention went by between the looks: look again
            if attempt == TRIES - 1:
                raise NotFound("its rows do not stand still", remedy="ask again") from None
            shot = shoot(store, query_of(job, one.item), time.time_ns())
    about = {**one.about, "tracks": [{key: value for key, value in track.items() if key != "rows"} for track in one.about["tracks"]]}
    return replace(made, about={"name": name, "role": "master", "rows": f"{name}.rows.csv", "chunks": f"{name}.chunks.json",
                                "complete": shot.shown.complete, "items": [about]})
