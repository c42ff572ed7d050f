"""One measured window of a recorder: CPU time, memory, and what the machine did meanwhile that spoils the figures."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.camsim.process import SimProcess
from bench.load import Load
from bench.machine import Memory, Sample, memory, sample
from bench.site import wait_until

START_TIMEOUT_S = 120.0
DIRTY_STEAL = 0.05      # of one CPU
DIRTY_FOREIGN = 0.10    # of the recorder's CPU, used by others


@dataclass(frozen=True, slots=True)
class Window:
    """One measured window. `us_per_stream_s` is of the processes that record; `all_us` of all the subject's processes; so is memory.

    `delays`: milliseconds by name (`undurable_p99`: age of the oldest byte that a power cut would take; `lag_p99`: how late the drain's
    timer came; `commit_p99`); `loss`: AUs `expected`, `missing`, `wrong` of tapes beside what was sent, and `dropped` as the recorder counts.
    """

    subject: str
    load: Load
    wall_s: float
    us_per_stream_s: float
    all_us: float
    cpu_s_per_gb: float
    pss_kb_per_stream: float
    private_kb_per_stream: float
    steal_percent: float
    foreign_percent: float
    dropped_aus: int
    delays: dict[str, float] = field(default_factory=dict)
    loss: dict[str, int] = field(default_factory=dict)

    @property
    def dirty(self) -> bool:
        """True if host, other processes or lost pictures spoil the figure."""
        return self.steal_percent > 100 * DIRTY_STEAL or self.foreign_percent > 100 * DIRTY_FOREIGN or self.dropped_aus > 0

    @property
    def lost_aus(self) -> int:
        """AUs that were sent and are not on the tape as they were sent."""
        return sum(self.loss.get(key, 0) for key in ("missing", "wrong", "dropped"))


Pids = Callable[[], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How windows are taken: after `warm_up_s`, each of `seconds`, until `rounds` of them are clean, in at most `tries` (0: twice as many)."""

    warm_up_s: float
    seconds: float
    rounds: int
    say: Callable[[str], None]
    tries: int = 0

    def window_s(self, load: Load) -> float:
        """Its length: as told, else as long as a camera takes for a chunk."""
        return self.seconds or max(10.0, load.chunk_s)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured. `since`: the simulation's sessions up to this number are others'."""

    name: str
    sim: SimProcess
    load: Load
    since: int
    recorders: Pids
    everybody: Pids
    check: Callable[[], None] = lambda: None


def playing(sim: SimProcess, since: int) -> list[dict[str, Any]]:
    """The sessions with a number above `since` that go on."""
    return [s for c in sim.status()["cameras"] for s in c["sessions"] if s["number"] > since and s["end_ns"] is None]


def last_session(sim: SimProcess) -> int:
    """The highest number of a session so far."""
    return max((s["number"] for c in sim.status()["cameras"] for s in c["sessions"]), default=0)


def video_counters(sessions: list[dict[str, Any]], name: str) -> int:
    """A counter of the main tracks, summed."""
    return sum(int(s["tracks"]["main"][name]) for s in sessions)


def windows(subject: Subject, plan: Plan, delays: Callable[[float, float], dict[str, float]] = lambda *_: {}) -> list[Window]:
    """Wait until all cameras play, warm up, then take the windows. `delays`: of a window from, to (CLOCK_MONOTONIC s)."""
    count = subject.load.cameras
    began = time.monotonic()
    wait_until(lambda: len(playing(subject.sim, subject.since)) >= count, START_TIMEOUT_S, f"{subject.name} with {count} cameras playing")
    plan.say(f"{subject.name}: {count} cameras play after {time.monotonic() - began:.1f} s; warm-up of {plan.warm_up_s:.0f} s")
    time.sleep(plan.warm_up_s)
    found: list[Window] = []
    while sum(not w.dirty for w in found) < plan.rounds and len(found) < (plan.tries or 2 * plan.rounds):
        found.append(_take(subject, plan.window_s(subject.load), delays))
        plan.say(brief(found[-1]))
    return found


def brief(w: Window) -> str:
    """A window in a line."""
    state = f"DIRTY (steal {w.steal_percent} %, others {w.foreign_percent} %, dropped {w.dropped_aus})" if w.dirty else "clean"
    return f"{w.subject}, {w.load.label}: {w.us_per_stream_s:.0f} us per stream-second, {w.cpu_s_per_gb:.2f} CPU-s/GB; {state}"


def _take(subject: Subject, seconds: float, delays: Callable[[float, float], dict[str, float]]) -> Window:
    sim, count = subject.sim, subject.load.cameras
    recording, everything = list(subject.recorders()), list(subject.everybody())
    sent_before, before, all_before = playing(sim, subject.since), sample(recording), sample(everything)
    time.sleep(seconds)
    after, all_after, sent_after = sample(recording), sample(everything), playing(sim, subject.since)
    subject.check()
    if len(sent_after) < count:
        raise RuntimeError(f"{subject.name}: only {len(sent_after)} of {count} cameras were still playing at the window's end")
    gigabytes = (video_counters(sent_after, "bytes") - video_counters(sent_before, "bytes")) / 1e9
    dropped = video_counters(sent_after, "dropped_aus") - video_counters(sent_before, "dropped_aus")
    wall_s, all_s = after.mono_s - before.mono_s, all_after.cpu_s - all_before.cpu_s
    used: Memory = memory(everything)
    return Window(subject.name, subject.load, round(wall_s, 2), per_stream(before, after, count), per_stream(all_before, all_after, count),
                  round(all_s / gigabytes, 3), round(used.pss_kb / count, 1), round(used.private_kb / count, 1),
                  round(100 * (after.steal_s - before.steal_s) / wall_s, 1),
                  round(100 * max(0.0, all_after.busy_s - all_before.busy_s - all_s) / wall_s, 1), dropped,
                  delays(before.mono_s, after.mono_s))


def per_stream(before: Sample, after: Sample, count: int) -> float:
    """CPU microseconds per stream and second of wall time."""
    return round(1e6 * (after.cpu_s - before.cpu_s) / (after.mono_s - before.mono_s) / count, 1)
