"""What a recorder lets its user wait: how late the drain's timer comes, how long commits take, how old what is not yet durable gets.

In the worker of `bench.worker` the probe notes every tick and commit with its time, and writes them at the end. From outside, `Durability`
looks at some tracks' live blocks as any reader may.
"""

import json
import threading
import time
from array import array
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import recorder.drainer
from recorder.drainer import LoopLag
from storage.commit import Commit, Committer
from storage.store import TapeStore

LOOK_S = 0.02


def percentiles(values: Sequence[float], name: str) -> dict[str, float]:
    """`<name>_p50`, `_p99` and `_max` of milliseconds; nothing of nothing."""
    if not values:
        return {}
    ordered = sorted(values)
    return {f"{name}_{label}": round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)
            for label, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}


class Probe:
    """Notes of one process: (CLOCK_MONOTONIC s, ms) of ticks and commits."""

    def __init__(self) -> None:
        self._notes = {"lag": (array("d"), array("d")), "commit": (array("d"), array("d"))}

    def note(self, name: str, value_ms: float) -> None:
        """Now it took so long."""
        times, values = self._notes[name]
        times.append(time.monotonic())
        values.append(value_ms)

    def install(self) -> None:
        """From now on every LoopLag and Committer that is made in this process tells this probe."""
        probe = self

        class NotedLag(LoopLag):
            def add(self, lag_ms: float) -> None:
                super().add(lag_ms)
                probe.note("lag", lag_ms)

        commit = Committer._commit

        def noted(committer: Committer, work: Commit) -> None:
            commit(committer, work)
            probe.note("commit", committer.last_ms)

        setattr(recorder.drainer, "LoopLag", NotedLag)  # noqa: B010
        setattr(Committer, "_commit", noted)  # noqa: B010

    def write(self, path: Path) -> None:
        """All notes as JSON, for `Notes`."""
        path.write_text(json.dumps({name: [list(times), list(values)] for name, (times, values) in self._notes.items()}))


class Notes:
    """What a probe has written; nothing if the file is not there."""

    def __init__(self, path: Path) -> None:
        self._notes: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def delays(self, start_s: float, stop_s: float) -> dict[str, float]:
        """Percentiles of what was noted between two moments."""
        found: dict[str, float] = {}
        for name, (times, values) in self._notes.items():
            found |= percentiles([v for t, v in zip(times, values, strict=True) if start_s <= t < stop_s], name)
        return found


class Durability:
    """`with Durability(store, tracks) as ages:` looks at the tracks fifty times a second. The store is its own while the block lasts.

    The age is that of the newest byte that is durable: all that came later would be lost. It is at most one AU's distance too high.
    """

    def __init__(self, store: TapeStore, tracks: Sequence[tuple[int, str]]) -> None:
        self._store = store
        self._tracks = tracks
        self._times, self._values = array("d"), array("d")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="durability")

    def __enter__(self) -> "Durability":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._store.close()

    def delays(self, start_s: float, stop_s: float) -> dict[str, float]:
        """Percentiles between two moments."""
        pairs = zip(list(self._times), list(self._values), strict=False)
        return percentiles([value for at, value in pairs if start_s <= at < stop_s], "undurable")

    def _run(self) -> None:
        found = [(file, block, *track) for track in self._tracks for file in self._store.live_files()
                 if (block := file.find(*track)) is not None]
        seen: list[deque[tuple[int, int]]] = [deque() for _ in found]
        while not self._stop.wait(LOOK_S):
            for (file, block, camera, name), marks in zip(found, seen, strict=True):
                state = file.state(block, camera, name)
                if state is not None:
                    self._look(marks, state.visible_offset, state.visible_recv_ns, state.durable_offset)

    def _look(self, marks: deque[tuple[int, int]], visible: int, recv_ns: int, durable: int) -> None:
        """Remember when what is visible had arrived; the newest mark that is durable tells the age."""
        if not marks or marks[-1][0] < visible:
            marks.append((visible, recv_ns))
        while len(marks) > 1 and marks[1][0] <= durable:
            marks.popleft()
        if marks[0][0] <= durable:
            now_s = time.monotonic()
            self._times.append(now_s)
            self._values.append(now_s * 1e3 - marks[0][1] / 1e6)
