"""Runs a fuzz target: the corpus first, then inputs made worse from it; one that behaves as none before joins them.

The input in work lies in a mapped file, which outlives this process whatever happens to it: who watches finds there what crashed or hung it.
"""

import mmap
import random
import resource
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path

from mutation import SIZE_MAX
from targets import Target

SLOW_S = 5.0                # CPU of this thread, for one input
GROWTH_KB = 400 << 10       # of the process's peak memory, over all inputs
KEPT_MAX, BEHAVIOURS_MAX = 4000, 200_000
HEAD = 12                   # u64 number of inputs so far, u32 size


class Current:
    """The mapped file with the input in work."""

    def __init__(self, path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(HEAD + SIZE_MAX)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), HEAD + SIZE_MAX)
        self._count = 0

    def put(self, data: bytes) -> None:
        """This one is next."""
        self._count += 1
        self._map[HEAD:HEAD + len(data)] = data
        self._map[:HEAD] = self._count.to_bytes(8, "little") + len(data).to_bytes(4, "little")


def read_current(path: Path) -> tuple[int, bytes]:
    """(number, input) that a process has or had in work; (0, b"") before the first."""
    raw = path.read_bytes() if path.exists() else b""
    if len(raw) < HEAD:
        return 0, b""
    return int.from_bytes(raw[:8], "little"), raw[HEAD:HEAD + int.from_bytes(raw[8:HEAD], "little")]


@dataclass(slots=True)
class Progress:
    """How far a run has come."""

    inputs: int = 0
    behaviours: set[Hashable] = field(default_factory=set)
    kept: list[bytes] = field(default_factory=list)


class Failure(Exception):
    """An input broke what must hold; `data` is it."""

    def __init__(self, data: bytes, why: str) -> None:
        super().__init__(why)
        self.data = data


def attempt(target: Target, data: bytes) -> Hashable:
    """One input. Raises Failure."""
    began = time.thread_time()
    try:
        behaviour = target.run(data)
    except Exception as error:
        raise Failure(data, f"{type(error).__name__}: {error}") from error
    if (used_s := time.thread_time() - began) > SLOW_S:
        raise Failure(data, f"took {used_s:.1f} s")
    return behaviour


def fuzz(target: Target, go_on: Callable[[Progress], bool], seed: int, put: Callable[[bytes], None] = lambda data: None) -> Progress:
    """The corpus, then changed inputs while `go_on`. Raises Failure. The same seed and corpus give the same inputs."""
    rng, progress = random.Random(seed), Progress()
    first_kb = 0

    def one(data: bytes) -> None:
        put(data)
        behaviour = attempt(target, data)
        progress.inputs += 1
        if behaviour in progress.behaviours or len(progress.behaviours) == BEHAVIOURS_MAX:
            return
        progress.behaviours.add(behaviour)
        if len(progress.kept) < KEPT_MAX:
            progress.kept.append(data)
        else:
            progress.kept[rng.randrange(KEPT_MAX)] = data

    for data in target.seeds():
        one(data[:SIZE_MAX])
    if not progress.kept:
        one(b"")
    while go_on(progress):
        parent, other = rng.choice(progress.kept), rng.choice(progress.kept)
        data = target.mutate(rng, parent, other, target.tokens)
        one(data)
        first_kb = first_kb or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - first_kb > GROWTH_KB:
            raise Failure(data, "memory has grown without bound")
    return progress
