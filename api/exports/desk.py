"""The desk of exports in the API process: takes jobs, holds their footage, has processes make them, lets go of everything afterwards.

What must not be lost lies in the jobs' records before anybody is told of it; what a killed API process leaves undone (a job half made, a hold
to release, a file to take away) is found there by the next one. Belongs to the loop's thread; the disk is waited for on a thread of its own.
"""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from api.exports import webhook
from api.exports.holding import Holding
from api.exports.job import AUTHOR, PRIORITIES, Failure, Job, State
from api.exports.run import Run
from api.exports.shelf import Shelf
from api.keys import Supervisor
from api.problems import RETRY_S, Problem
from api.times import rfc3339
from recorder.base.clock import Clock
from recorder.base.config import SiteConfig
from recorder.base.errors import Conflict
from recorder.base.media import NS

log = logging.getLogger("watchroom.exports")
P = ParamSpec("P")
T = TypeVar("T")

LOOK_S = 1.0
AGAIN_S = 5.0                 # after which a record that the disk refused is written again
DAY_NS = 86_400 * NS
RECORD_NS = 31 * DAY_NS       # how long a job is still told of after its file has gone
FETCH_S = 3600                # whoever fetches for longer is noted again
KEPT_MAX = 10_000             # jobs that are told of; beyond that the oldest without a file are not
OPEN_MAX = 1_000              # jobs that wait or run
OPEN_PER_HOLDER = 100
KEPT_FREE = 256 << 20         # of the folder's file system, beside what is expected of jobs
Told = Callable[[Job], None]


def secret_line(file: Path | None) -> str:
    """The first line of the file of the webhooks' secret; "" without one: the configuration does not allow that beside addresses."""
    return "" if file is None else file.read_text().split("\n", 1)[0].removesuffix("\r")


class Desk:
    """See the module. `run` is its life; until it has read the records every call is a Problem 503. `told` hears of every change of state."""

    def __init__(self, site: SiteConfig, clock: Clock, supervisor: Supervisor, told: Told) -> None:
        self._site, self._clock, self._told = site, clock, told
        self._holding = Holding(supervisor, self._wanted)
        self._shelf = Shelf(site.exports_dir)
        self._disk = ThreadPoolExecutor(1, "exports")
        self._jobs: dict[str, Job] = {}
        self._taking: dict[str, Job] = {}        # that nobody has been told of yet
        self._keys: dict[str, str] = {}          # Idempotency-Key (digest with its holder) -> job
        self._runs: dict[str, Run] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._calling: dict[str, asyncio.Task[None]] = {}
        self._caller: webhook.Caller | None = None
        self._fetched: dict[tuple[str, str, str], int] = {}     # who has begun to fetch what, and when
        self._turns: dict[str, int] = {}         # whose turn it was, and as the how-manieth
        self._noted: set[tuple[str, State]] = set()     # ends that the audit has and the record has not yet
        self._sick = False
        self._wake = asyncio.Event()
        self._changing = asyncio.Lock()
        self.ready = False

    async def run(self) -> None:
        """For ever. Raises what keeps the folder from being used; jobs' processes end with it."""
        found = await self._at_disk(self._shelf.open)
        try:
            await self._take_up(found)
            while True:
                await self._tidy()
                for job in self._next():
                    self._begin(job)
                try:
                    await asyncio.wait_for(self._wake.wait(), LOOK_S)
                except TimeoutError:
                    pass
                self._wake.clear()
        finally:
            self.ready = False
            await asyncio.shield(self._end())

    # -- what the routes ask --

    def jobs(self) -> list[Job]:
        """All jobs, the newest first. Problem 503 while they are not known yet."""
        self._known()
        return [self._jobs[job_id] for job_id in sorted(self._jobs, reverse=True)]

    def job(self, job_id: str) -> Job | None:
        """The job of this id."""
        self._known()
        return self._jobs.get(job_id)

    def running(self, job_id: str) -> Run | None:
        """What is known of its process while it runs."""
        return self._runs.get(job_id)

    def by_key(self, key: str, body: str) -> Job | None:
        """The job that an Idempotency-Key made, None for a new one. Problem 422 if it came with another body, 409 while it is being taken."""
        self._known()
        if key not in self._keys:
            return None
        job = self._jobs.get(self._keys[key])
        if job is None:
            raise Problem(409, "a request with this Idempotency-Key is being answered", headers={"Retry-After": "1"})
        if job.body != body:
            raise Problem(422, "this Idempotency-Key came with another body before", remedy="use a new key for another export")
        return job

    def room(self, holder: str, nbytes: int) -> None:
        """Raises Problem 409 if the quota, 429 if the number of jobs does not bear another one of so many bytes."""
        waiting = [*(job for job in self.jobs() if not job.ended), *self._taking.values()]
        if len(waiting) >= OPEN_MAX or sum(job.holder == holder for job in waiting) >= OPEN_PER_HOLDER:
            raise Problem(429, "too many exports wait already", remedy="wait for some to end, or cancel them", headers={"Retry-After": "60"})
        self._within("exports", self.used_bytes() + nbytes, "bytes_max")
        if self._site.exports.bytes_max_token:
            self._within("exports of this token", self.used_bytes(holder) + nbytes, "bytes_max_token")

    def _within(self, whose: str, nbytes: int, quota: str) -> None:
        most: int = getattr(self._site.exports, quota)
        if nbytes > most:
            raise Problem(409, f"{whose} would take {nbytes / 1e9:.2f} GB, their quota is {most / 1e9:.2f} GB",
                          remedy=f"delete some, ask for less, or raise exports.{quota}")

    async def take(self, job: Job) -> Job:
        """Take a new job: on return it is durable and its footage is held. Raises Problem and WatchroomError; nothing is left then."""
        self._taking[job.id] = job
        if job.key:
            self._keys[job.key] = job.id
        try:
            await self._room_on_disk(job)
            await self.note("asked", job, by=job.by, holder=job.holder)
            try:
                await self._at_disk(self._shelf.put, job)
                job = replace(job, hold=await self._holding.take(job))
                await self._at_disk(self._shelf.put, job)
            except BaseException:
                await asyncio.shield(self._undo(job))
                raise
            self._keep(job)
        except BaseException:
            self._keys.pop(job.key, None)
            raise
        finally:
            del self._taking[job.id]
        self._told(job)
        self._wake.set()
        return job

    async def cancel(self, job: Job, by: str, holder: str) -> Job:
        """End a job that waits or runs; take one that has ended away with its file."""
        if job.ended:
            async with self._changing:
                if job.id not in self._jobs:
                    return job      # somebody else was faster
                await self.note("removed", job, by=by, holder=holder)
                self._forget(job)
            if (run := self._runs.get(job.id)) is not None:
                await run.stop()        # cancelled a moment ago
            await self._at_disk(self._shelf.remove, job.id)
            if not await self._holding.release(job):
                self._holding.look_for_strays()
            return job
        job = await self._ended(job, State.CANCELLED, by, holder)
        if job.state is State.CANCELLED and (run := self._runs.get(job.id)) is not None:
            await run.stop()
            await self._at_disk(self._shelf.clear, job.id)
        return job

    async def note_fetch(self, job: Job, name: str, by: str, holder: str) -> None:
        """A line in the audit before anybody is given a result or a manifest; one an hour, since players ask in many pieces."""
        now_s = self._clock.mono_ns() // NS
        self._fetched = {key: at_s for key, at_s in self._fetched.items() if now_s - at_s < FETCH_S}
        if (job.id, name, holder) not in self._fetched:
            await self.note("fetched", job, file=name, by=by, holder=holder)
            self._fetched[job.id, name, holder] = now_s

    async def note(self, what: str, job: Job, **more: Any) -> None:
        """A line in the audit."""
        items = [[item.camera, item.number, item.track, item.start_ns, item.end_ns] for item in job.wanted.items]
        entry: Mapping[str, Any] = {"time": rfc3339(self._clock.wall_ns()), "event": what, "export": job.id, **more,
                                    "reason": job.wanted.reason, "reference": job.wanted.reference, "items": items}
        await self._at_disk(self._shelf.note, entry)

    def used_bytes(self, holder: str | None = None) -> int:
        """What results take, and what those in the making are expected to; with `holder` those of one token."""
        return sum(job.nbytes for job in (*self._jobs.values(), *self._taking.values()) if holder in {None, job.holder})

    def close(self) -> None:
        """Let the thread go; `run` must have ended."""
        self._disk.shutdown(wait=False)

    # -- its life --

    async def _take_up(self, found: list[Job]) -> None:
        """Go on from the records."""
        self._jobs.clear()
        self._keys.clear()
        for job in found:
            if not job.ended and not job.hold:      # killed before anybody was told of it
                await self._at_disk(self._shelf.remove, job.id)
                await self.note("refused", job, by=AUTHOR)
            else:
                self._keep(replace(job, state=State.QUEUED) if job.state is State.RUNNING else job)
        self._holding.look_for_strays()
        self.ready = True
        for job in list(self._jobs.values()):
            if job.state in {State.FAILED, State.CANCELLED}:
                await self._at_disk(self._shelf.clear, job.id)

    async def _tidy(self) -> None:
        """Release holds, take away what has expired. What the disk refuses is tried again, and holds up nothing else."""
        await self._holding.release_strays()
        bare = sorted(job.id for job in self._jobs.values() if job.ended and not job.nbytes and not job.hold)
        surplus = set(bare[:max(0, len(self._jobs) - KEPT_MAX)])
        refused: OSError | None = None
        for job in [job for job in self._jobs.values() if job.ended]:
            try:
                await self._tidy_up(job, surplus=job.id in surplus)
            except OSError as error:
                refused = error
        if refused is None:
            await self._at_disk(self._shelf.set_room_aside)
        elif not self._sick:
            log.error("the folder of exports cannot be written: %s", refused.strerror)
        self._sick = refused is not None

    async def _tidy_up(self, job: Job, *, surplus: bool) -> None:
        now_ns = self._clock.wall_ns()
        if job.hold and await self._holding.release(job):
            job = await self._change(job, hold="")
        if job.state is State.DONE and not job.gone and now_ns >= job.expires_ns:
            job = await self._change(job, expires_ns=0)       # first nobody is given it any more
            await self._at_disk(self._shelf.clear, job.id)
            await self.note("expired", job)
            self._told(job)
        if webhook.due(job, now_ns) and job.id not in self._calling:
            task = self._calling[job.id] = asyncio.create_task(self._call(job), name=f"webhook {job.id}")
            task.add_done_callback(lambda _: self._calling.pop(job.id, None))
        if (surplus or now_ns >= job.ended_ns + RECORD_NS) and job.nbytes == 0 and not job.hold:
            self._forget(job)
            await self._at_disk(self._shelf.remove, job.id)

    async def _call(self, job: Job) -> None:
        """One try to tell that the job has ended."""
        if self._caller is None:
            line = await self._at_disk(secret_line, self._site.exports.webhook_secret_file)
            self._caller = webhook.Caller(webhook.secret_of(line), self._clock)
        call = await self._caller.call(job)
        await self._surely(job, lambda: self._change(job, call=call))

    def _next(self) -> Iterator[Job]:
        """Jobs to begin, while there are workers: each holder in turn, so that nobody's many jobs hold up another's one.

        Of a holder's own the most urgent goes first; those of low priority wait for everybody else's.
        """
        waiting = [job for job in self._jobs.values() if job.state is State.QUEUED and job.id not in self._tasks]
        while waiting and len(self._tasks) < self._site.exports.workers:
            job = min(waiting, key=self._turn)
            waiting.remove(job)
            self._turns[job.holder] = max(self._turns.values(), default=0) + 1
            yield job

    def _turn(self, job: Job) -> tuple[bool, int, int, int, str]:
        running = sum(self._jobs[job_id].holder == job.holder for job_id in self._tasks if job_id in self._jobs)
        priority = PRIORITIES.index(job.wanted.priority)
        return priority == 0, running, self._turns.get(job.holder, 0), -priority, job.id

    def _begin(self, job: Job) -> None:
        """Start the job's process."""
        task = asyncio.create_task(self._carry_out(job), name=f"export {job.id}")
        self._tasks[job.id] = task
        task.add_done_callback(functools.partial(self._over, job.id))

    def _over(self, job_id: str, _: object) -> None:
        self._tasks.pop(job_id, None)
        self._runs.pop(job_id, None)
        self._wake.set()

    async def _carry_out(self, job: Job) -> None:
        """One job from the start of its process to its end, however it ends."""
        if self._jobs.get(job.id) is not job:
            return              # cancelled before it began
        job = replace(job, state=State.RUNNING, started_ns=self._clock.wall_ns())
        self._jobs[job.id] = job
        self._told(job)
        run = self._runs[job.id] = Run(self._site, job.id)
        try:
            failure = await run.live()
            made = await self._at_disk(self._shelf.made, job.id)
        except Exception:           # the one catch-all of a job, which would run for ever otherwise
            log.exception("export %s", job.id)
            made, failure = None, Failure("its process cannot be started or understood", "see the server's log, then ask again")
        if made is not None:
            expires_ns = self._clock.wall_ns() + round(self._site.exports.days * DAY_NS)
            await self._surely(job, lambda: self._ended(job, State.DONE, AUTHOR, result=made, expires_ns=expires_ns))
        else:
            failure = failure or Failure("its process ended without a word", "ask again")
            self._runs.pop(job.id)
            await self._surely(job, lambda: self._ended(job, State.FAILED, AUTHOR, failure=failure))

    async def _surely(self, job: Job, write: Callable[[], Awaitable[Job]]) -> None:
        """Write down what became of a job as soon as the disk takes it: else it would run, or be told of, for ever."""
        while True:
            try:
                await write()
                return
            except OSError as error:
                log.error("what became of export %s cannot be written down yet: %s", job.id, error.strerror)
                await asyncio.sleep(AGAIN_S)

    async def _ended(self, job: Job, state: State, by: str, holder: str = "", **more: Any) -> Job:
        """Write the end down, then let go of what the job no longer needs. A job ends once: what came first counts."""
        async with self._changing:
            known = self._jobs.get(job.id)
            if known is None or known.ended:
                return known or job
            job = replace(known, state=state, ended_ns=self._clock.wall_ns(), **more)
            if (job.id, state) not in self._noted:
                made = {"name": job.result.name, "bytes": job.result.nbytes, "sha256": job.result.sha256} if job.result else {}
                await self.note(state.value, job, by=by, holder=holder, **made)
                self._noted.add((job.id, state))
            await self._put(job)
            self._noted.discard((job.id, state))
        self._told(job)
        if state is not State.DONE and job.id not in self._runs:
            await self._at_disk(self._shelf.clear, job.id)
        self._wake.set()
        return job

    async def _end(self) -> None:
        """The process ends: so do the jobs' processes, at once; the next one goes on from what they have left."""
        ending = [*self._tasks.values(), *self._calling.values()]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        caller, self._caller = self._caller, None
        if caller is not None:
            await caller.close()
        await self._at_disk(self._shelf.close)

    # -- inside --

    def _known(self) -> None:
        if not self.ready:
            raise Problem(503, "the exports are not known yet", remedy="ask again", headers={"Retry-After": str(RETRY_S)})

    def _keep(self, job: Job) -> None:
        self._jobs[job.id] = job
        if job.key:
            self._keys[job.key] = job.id

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        if self._keys.get(job.key) == job.id:
            del self._keys[job.key]

    async def _change(self, job: Job, **values: Any) -> Job:
        """Something else is so of a job now; nothing that others change meanwhile is lost."""
        async with self._changing:
            known = self._jobs.get(job.id)
            return job if known is None else await self._put(replace(known, **values))      # one that was removed stays so

    async def _put(self, job: Job) -> Job:
        """What becomes of a job is known to others once it is durable."""
        await self._at_disk(self._shelf.put, job)
        if job.id in self._jobs:        # else it was removed meanwhile, and its record right after
            self._jobs[job.id] = job
        return job

    async def _undo(self, job: Job) -> None:
        try:
            await self._at_disk(self._shelf.remove, job.id)
            await self.note("refused", job, by=AUTHOR)
        except OSError as error:
            log.error("export %s cannot be undone: %s", job.id, error.strerror)
        self._holding.look_for_strays()

    def _wanted(self, job_id: str) -> bool:
        job = self._jobs.get(job_id)
        return job_id in self._taking or (job is not None and not job.ended)

    async def _room_on_disk(self, job: Job) -> None:
        free = await self._at_disk(self._shelf.free_bytes)
        waiting = sum(other.nbytes for other in (*self._jobs.values(), *self._taking.values()) if not other.ended)
        if free < waiting + KEPT_FREE:
            raise Conflict("the disk of exports has too little room for this", remedy="delete some, or make room there")

    async def _at_disk(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, functools.partial(work, *args, **kwargs))
