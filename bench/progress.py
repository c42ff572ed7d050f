"""How far a measurement is, on stderr: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self, TextIO

WIDTH = 30
BAR_S, LINE_S = 0.1, 10.0


class Progress:
    """`with Progress("weeks", 12) as progress: progress.reach(3)`. `total` in whatever unit is counted; says the time left."""

    def __init__(self, what: str, total: float, stream: TextIO | None = None) -> None:
        self._what, self._total = what, max(total, 1e-9)
        self._out = stream or sys.stderr
        self._bar = self._out.isatty()
        self._began = self._told = time.monotonic()
        self._dirty = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._dirty:
            self._out.write("\n")
            self._out.flush()

    def reach(self, done: float, note: str = "") -> None:
        """So much of the total is done; told at most ten times a second, without a terminal every 10 s."""
        now = time.monotonic()
        if now - self._told < (BAR_S if self._bar else LINE_S):
            return
        self._told = now
        share = min(1.0, done / self._total)
        left_s = (now - self._began) * (1 - share) / max(share, 1e-6)
        text = f"{self._what}: {100 * share:.0f} %, {left_s:.0f} s left{'; ' + note if note else ''}"
        if self._bar:
            full = round(share * WIDTH)
            self._out.write(f"\r\x1b[K[{'#' * full}{'.' * (WIDTH - full)}] {text}")
            self._dirty = True
        else:
            self._out.write(f"{text}\n")
        self._out.flush()
