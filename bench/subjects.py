"""The recorders that are measured, each pinned to one core: Watchroom, and what it is compared with."""

import asyncio
import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.camsim.process import SimProcess
from bench.camsim.truth import Truth
from bench.fleet import Fleet
from bench.load import Load
from bench.native_program import NativeProgram
from bench.probe import Durability, Notes
from bench.pyav_threads import PyavThreads
from bench.site import Site, wait_until
from bench.tapes import compare, first_index
from bench.used import fill
from bench.window import START_TIMEOUT_S, Plan, Subject, Window, last_session, windows
from recorder.base.control import ControlClient
from recorder.base.errors import WatchroomError
from storage.layout import LARGE

RECORDER_CORE, SIM_CORE = 0, 1
WATCHED_TRACKS = 6      # whose age of undurable bytes is looked at
ENDED_OK = 50           # AUs under way at the end: at most 2 s


@dataclass(frozen=True, slots=True)
class Bench:
    """What all subjects of a load share. `volume_bytes`: a volume of this size, whose chunks go round; 0: one that the run does not fill.
    `used_bytes`: of chunks that are written before anything is recorded, so that those taken are no fresh ones. `verify`: cameras whose
    tapes are compared, 0: all. `core`: the CPU that Watchroom is pinned to, None: all of them. `recording`: more lines of that table.
    """

    sim: SimProcess
    load: Load
    plan: Plan
    folder: Path
    whole: bool = False
    volume_bytes: int = 0
    used_bytes: int = 0
    verify: int = 0
    core: int | None = RECORDER_CORE
    recording: tuple[str, ...] = ()

    @property
    def urls(self) -> list[str]:
        """Of all cameras."""
        return [self.sim.url(i) for i in range(self.load.cameras)]


Measure = Callable[[Bench], list[Window]]


def ffmpeg(bench: Bench) -> list[Window]:
    """One ffmpeg per camera."""
    since = last_session(bench.sim)
    with Fleet(bench.urls, bench.folder, core=RECORDER_CORE) as fleet:
        return windows(Subject("ffmpeg", bench.sim, bench.load, since, fleet.pids, fleet.pids, fleet.check_alive), bench.plan)


def pyav(bench: Bench) -> list[Window]:
    """PyAV threads."""
    since = last_session(bench.sim)
    with PyavThreads(bench.urls, bench.folder, core=RECORDER_CORE) as threads:
        return windows(Subject("pyav", bench.sim, bench.load, since, threads.pids, threads.pids, threads.check_alive), bench.plan)


def native(bench: Bench) -> list[Window]:
    """The C program; its files hold what it records in the whole run, so that no page is written twice, as on a large volume."""
    since, load, plan = last_session(bench.sim), bench.load, bench.plan
    seconds = plan.warm_up_s + 2 * plan.rounds * plan.window_s(load) + 10
    file_bytes = -(-int(seconds * load.kbps * 125) >> 20) + 1 << 20
    with NativeProgram(bench.sim.port, range(load.cameras), bench.folder, codec=load.codec, file_bytes=file_bytes,
                       core=RECORDER_CORE) as program:
        found = windows(Subject("native", bench.sim, load, since, program.pids, program.pids, program.check_alive), plan)
    lost = {"expected": program.result["aus"], "missing": program.result["lost_packets"], "wrong": program.result["malformed"]}
    return [*found[:-1], replace(found[-1], loss=lost)]


SUBJECTS: dict[str, Measure] = {"ffmpeg": ffmpeg, "pyav": pyav, "native": native}
LIBAV = ("ffmpeg", "pyav")


def watchroom(bench: Bench) -> list[Window]:
    """Watchroom; then its tapes beside what was sent."""
    load, since = bench.load, last_session(bench.sim)
    bench.folder.mkdir()
    site = site_of(bench)
    if used := bench.volume_bytes or bench.used_bytes:
        bench.plan.say(f"watchroom: writing {used / 1e9:.0f} GB of chunks, which are then used again")
        fill(site.volume, load.slots, used)

    def started() -> bool:
        site.check_alive()
        return len(site.worker_pids()) == load.slots

    try:
        with site:
            wait_until(started, START_TIMEOUT_S, "a worker's start")
            subject = Subject("watchroom", bench.sim, load, since, site.worker_pids, site.pids, site.check_alive)
            found, told, overrun = _windows(bench, subject, site)
        notes = Notes(site.notes)
        bench.plan.say("watchroom: comparing its tapes with what was sent")
        loss = tape_loss(site, bench, since) | {"dropped": told, "overrun": overrun}
    finally:
        site.clean()
    found = [replace(w, delays=w.delays | notes.delays(w.delays.pop("from_s"), w.delays.pop("to_s"))) for w in found]
    return [*found[:-1], replace(found[-1], loss=loss)]


def site_of(bench: Bench) -> Site:
    """Watchroom with all cameras of the load."""
    load = bench.load
    cameras = {f"cam-{i}": load.camera_lines(bench.sim.url(i)) for i in range(load.cameras)}
    seconds = bench.plan.warm_up_s + 2 * bench.plan.rounds * bench.plan.window_s(load) + 60
    roomy = int(load.bytes_s * seconds) + 4 * load.cameras * LARGE.file_bytes + (4 << 30)
    return Site(bench.folder, cameras, core=bench.core, bytes_max=bench.volume_bytes or roomy, whole=bench.whole,
                recording=[f"slots = {load.slots}", *bench.recording])


def _windows(bench: Bench, subject: Subject, site: Site) -> tuple[list[Window], int, int]:
    """The windows; how many AUs the recorder says it dropped, and packets that its sockets had no room for."""
    wait_until(lambda: recorded(site, bench.load) >= bench.load.cameras, START_TIMEOUT_S, "all tracks")
    numbers = itertools.islice(site.numbers().values(), WATCHED_TRACKS)
    with Durability(site.store(), [(number, "main") for number in numbers]) as ages:
        found = windows(subject, bench.plan, lambda start_s, stop_s: {"from_s": start_s, "to_s": stop_s, **ages.delays(start_s, stop_s)})
    told = [track for _, track in tracks(site, bench.load)]
    return found, sum(track["dropped_aus"] for track in told), sum(track["overrun_packets"] for track in told)


def status(site: Site, load: Load) -> list[dict[str, Any]]:
    """What each slot says."""
    async def ask() -> list[dict[str, Any]]:
        return [await ControlClient(site.slot_socket(slot)).call("status", {}) for slot in range(load.slots)]

    return asyncio.run(ask())


def tracks(site: Site, load: Load) -> list[tuple[str, dict[str, Any]]]:
    """(camera, status of its main track) of all cameras that have one."""
    cameras = [camera for slot in status(site, load) for camera in slot["cameras"].items()]
    return [(name, camera["tracks"]["main"]) for name, camera in cameras if "main" in camera["tracks"]]


def recorded(site: Site, load: Load) -> int:
    """Cameras that have given an AU."""
    try:
        return sum(track["aus"] > 0 for _, track in tracks(site, load))
    except WatchroomError:           # it does not answer yet
        return 0


def tape_loss(site: Site, bench: Bench, since: int) -> dict[str, int]:
    """AUs sent and recorded, of all cameras or the first `verify`, from the tape's tail on; those under way at the end are not counted."""
    now, numbers, store = bench.sim.status(), site.numbers(), site.store()
    total = {"expected": 0, "recorded": 0, "missing": 0, "wrong": 0}
    try:
        for i in range(min(bench.verify or bench.load.cameras, bench.load.cameras)):
            sessions = [s["tracks"]["main"] for s in now["cameras"][i]["sessions"] if s["number"] > since]
            track, truth = store.track(numbers[f"cam-{i}"], "main"), Truth.of(now, f"cam{i}")
            found = compare(track, truth, from_first(sessions, first_index(track, truth)), ended_ok=ENDED_OK)
            for key in total:
                total[key] += int(getattr(found, key))
    finally:
        store.close()
    return total


def from_first(sessions: Sequence[dict[str, Any]], first: int | None) -> list[dict[str, Any]]:
    """The sessions without what a recycled tape no longer holds; all of them if nothing was recycled (`first` is None).

    `cut`: the tape begins within the session, with a chunk, and so not always with a key frame.
    """
    if first is None:
        return list(sessions)
    return [s | {"first": first, "cut": True} if s["first"] < first else s for s in sessions if s["next"] > first]


def remove(folder: Path) -> None:
    """What a subject has recorded."""
    shutil.rmtree(folder, ignore_errors=True)
