"""How far a volume is trusted: when cameras may go home to it, and when they leave a slow one for it. Times in, words out; no clock, no thread.

A move costs a seam, and where volumes are slow by turns cameras would be moved to and fro for ever. So a volume that has failed is left at
once, but whoever comes back, and whoever is to take cameras from a slow one, must have been well for a time; for longer with each failure.
"""

from collections import deque

# A call to the disk that has not come back for so long is a fault. With what was not durable before it `buffer_s` of pictures must last until
# another volume takes them.
SILENT_S = 2.5
HESITANT_S = 1.0        # a disk that is silent for so long is no place to go to
WELL_S = 60.0           # without a fault, before cameras leave a slow volume for this one
UNWELL_S = 5.0          # of silence until they leave it for one that has had a fault since then; doubled with each such move within HOUR_S
PROOF_S = (10.0, 60.0, 600.0, 1800.0)       # without a fault, before cameras go home: after the first failure, the second, ...
STEADY_S = 3600.0       # without a failure since it came back: the next one is the first again
RETRY_S, RETRY_MAX_S = 2.0, 60.0            # between two looks whether a failed volume can be used again: at first, at most
HOUR_S = 3600.0
LONG_AGO_S = -1e9


class Standing:
    """One volume's: its failures, and since when it is without a fault. CLOCK_MONOTONIC in s; Rack's lock."""

    def __init__(self) -> None:
        self.failures = 0               # that follow each other
        self._fault_s = self._back_s = LONG_AGO_S

    def fail(self, now_s: float) -> None:
        """The volume has failed."""
        self.failures = 1 if now_s - self._back_s > STEADY_S else self.failures + 1
        self._fault_s = now_s

    def come_back(self, now_s: float) -> None:
        """It can be used again."""
        self._back_s = self._fault_s = now_s

    def fault(self, now_s: float) -> None:
        """It is slow, or not there."""
        self._fault_s = now_s

    @property
    def retry_s(self) -> float:
        """How long a failed volume is left alone between two looks."""
        return float(min(RETRY_MAX_S, RETRY_S * 2 ** max(0, self.failures - 1)))

    def proven(self, now_s: float) -> bool:
        """True if cameras may go home to it."""
        return now_s - self._fault_s >= self._proof_s

    def well(self, now_s: float) -> bool:
        """True if it may take cameras from one that is slow."""
        return now_s - self._fault_s >= max(WELL_S, self._proof_s)

    @property
    def _proof_s(self) -> float:
        return PROOF_S[min(self.failures, len(PROOF_S)) - 1] if self.failures else 0.0


class Patience:
    """How long a silent volume is borne when no other one is well: longer with each move of the last hour that led to such a one."""

    def __init__(self) -> None:
        self._moves: deque[float] = deque()

    def limit_s(self, now_s: float) -> float:
        """The silence after which even a volume that is not well is better."""
        while self._moves and now_s - self._moves[0] >= HOUR_S:
            self._moves.popleft()
        return float(UNWELL_S * 2 ** len(self._moves))

    def spend(self, now_s: float) -> None:
        """Cameras went to a volume that is not well."""
        self._moves.append(now_s)
