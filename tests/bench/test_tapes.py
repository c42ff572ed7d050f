"""The comparison of tapes with truth finds every kind of loss; a comparison that cannot fail would be worse than none."""

from pathlib import Path

import numpy as np
import pytest

from bench.camsim.clip import Clip
from bench.camsim.truth import Truth
from bench.tapes import Comparison, TapeAu, _match
from recorder.base.media import AuFlag

LOOP = 10


@pytest.fixture
def truth() -> Truth:
    aus = [bytes([i]) * (20 + i) for i in range(LOOP)]
    ticks = np.arange(LOOP, dtype=np.int64) * 3600
    return Truth(Clip(Path(), "h264", 90_000, LOOP * 3600, 3600.0, b"".join(aus), np.cumsum([0, *map(len, aus)]).astype(np.int64), ticks, ticks,
                      (np.arange(LOOP) % 5 == 0).astype(np.uint8)), 0)


def match(truth: Truth, tape: list[int], expected: list[list[int]], ended_ok: int = 0) -> Comparison:
    aus = [TapeAu(truth.au_bytes(i) if i >= 0 else b"junk", truth.wall_ns(i), AuFlag(0), 0, 1) for i in tape]
    return _match(iter(aus), truth, expected, 0, ended_ok)


def test_equal_is_whole(truth: Truth) -> None:
    found = match(truth, list(range(25)), [list(range(25))])
    assert found == Comparison(25, 25, 0, 0, 0)
    assert found.whole


@pytest.mark.parametrize(("tape", "missing", "wrong"), [
    ([0, 1, 2, 4, 5], 1, 0), ([1, 2, 3, 4, 5], 1, 0), ([0, 1, 2, 3], 2, 0), ([0, 1, -1, 2, 3, 4, 5], 0, 1), ([0, 1, 1, 2, 3, 4, 5], 0, 1),
    ([0, 2, 1, 3, 4, 5], 1, 1), ([], 6, 0), ([-1], 6, 1)])
def test_what_is_not_equal_is_counted(tape: list[int], missing: int, wrong: int, truth: Truth) -> None:
    found = match(truth, tape, [list(range(6))])
    assert (found.missing, found.wrong) == (missing, wrong)
    assert found.expected == 6
    assert not found.whole
    assert found.first_wrong


def test_aus_on_their_way_at_a_sessions_end_may_be_missing(truth: Truth) -> None:
    sessions = [list(range(6)), list(range(20, 26))]
    cut = match(truth, [0, 1, 2, 3, 20, 21, 22, 23, 24, 25], sessions, ended_ok=2)
    assert (cut.recorded, cut.missing, cut.wrong, cut.expected, cut.whole) == (10, 0, 0, 10, True)
    assert match(truth, [0, 1, 2, 20, 21, 22, 23, 24, 25], sessions, ended_ok=2).missing == 1
    assert match(truth, [*range(6), 20, 21, 22, 23], sessions, ended_ok=2).missing == 0


def test_the_same_bytes_a_loop_later_are_another_au(truth: Truth) -> None:
    """A session cut just after AU 5 (which may be missing), the next one begins with AU 15: the same bytes."""
    found = match(truth, [15, 16, 17], [[5], [15, 16, 17]], ended_ok=1)
    assert (found.missing, found.wrong, found.whole) == (0, 0, True)
