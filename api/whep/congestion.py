"""When a viewer's way carries less than the pictures need: steps down (key frames alone, then the smaller track) and, with care, up again.

Evidence is what receivers report: packets lost, and their own estimate of the rate. Nothing here knows a clock or a socket.
"""

from collections import deque

WRAP = 1 << 32
LOST = 0.10             # share of packets, over the last reports, that is no accident
WEIGHT = 0.25           # of a share among them
PACKETS = 200           # over which a share is taken: browsers report as few as two packets at a time, of which one is half
ESTIMATE = 0.5          # of the rate that is sent: a receiver that says no more than that for LOW_S means it
LOW_S = 5.0             # a browser that loses 3 % told 0.57 for a moment, and lost no picture
SETTLE_S = 5.0          # a receiver's first estimates mean little
BAD_S = 3.0             # within which evidence must come again
STEP_S = 5.0            # what a step down is given to help
CALM_S = 10.0           # without any before the first step up
CALM_MAX_S = 160.0      # after steps up that failed


class Losses:
    """Shares of packets lost, out of reception reports' counts of all so far (RFC 3550 6.4.1)."""

    def __init__(self) -> None:
        self._reports: deque[tuple[int, int]] = deque()

    def share(self, lost: int, highest: int) -> float | None:
        """Of the last PACKETS and more up to this report; None while there are fewer. `highest`: extended sequence number, 32 bits."""
        while self._reports and (highest - self._reports[-1][1]) % WRAP >= WRAP // 2:
            self._reports.pop()                     # another count began
        self._reports.append((lost, highest))
        while len(self._reports) > 1 and (highest - self._reports[1][1]) % WRAP >= PACKETS:
            self._reports.popleft()
        lost_before, first = self._reports[0]
        packets = (highest - first) % WRAP
        return min(1.0, max(0.0, (lost - lost_before) / packets)) if packets >= PACKETS else None


class Ladder:
    """`steps` are how many ways there are to send, the best first; `step` is the one to use now."""

    def __init__(self, steps: int, now_s: float) -> None:
        self._steps = steps
        self.step = 0
        self._began_s = now_s
        self._bad_since_s: float | None = None
        self._bad_at_s = now_s
        self._low_since_s: float | None = None
        self._loss = 0.0
        self._changed_s = now_s
        self._rose_s = now_s - 2 * CALM_S
        self._calm_s = CALM_S

    def lost(self, fraction: float, now_s: float) -> None:
        """What reception reports say (`Losses.share`)."""
        self._loss += WEIGHT * (fraction - self._loss)
        if self._loss > LOST:
            self._bad(now_s)

    def estimate(self, bits_per_s: float, sent_bits_per_s: float, now_s: float) -> None:
        """The receiver's estimate of what its way carries, beside what is sent."""
        if now_s - self._began_s <= SETTLE_S or bits_per_s >= ESTIMATE * sent_bits_per_s:
            self._low_since_s = None
        elif self._low_since_s is None:
            self._low_since_s = now_s
        elif now_s - self._low_since_s >= LOW_S:
            self._bad(now_s)

    def _bad(self, now_s: float) -> None:
        if self._bad_since_s is None or now_s - self._bad_at_s > BAD_S:
            self._bad_since_s = now_s
        self._bad_at_s = now_s

    def look(self, now_s: float) -> bool:
        """Once a second: True if `step` has changed."""
        if self._bad_since_s is not None and now_s - self._bad_at_s > BAD_S:
            self._bad_since_s = None
        if self._bad_since_s is not None and self._bad_at_s - self._bad_since_s >= BAD_S / 2 and now_s - self._changed_s >= STEP_S:
            return self._down(now_s)
        if self.step and now_s - max(self._bad_at_s, self._changed_s) >= self._calm_s:
            return self._up(now_s)
        return False

    def _down(self, now_s: float) -> bool:
        self._bad_since_s, self._loss = None, 0.0
        held = now_s - self._rose_s >= 2 * CALM_S       # the last step up did
        self._calm_s = CALM_S if held else min(2 * self._calm_s, CALM_MAX_S)
        if self.step + 1 >= self._steps:
            return False
        self.step += 1
        self._changed_s = now_s
        return True

    def _up(self, now_s: float) -> bool:
        self.step -= 1
        self._changed_s = self._rose_s = now_s
        return True
