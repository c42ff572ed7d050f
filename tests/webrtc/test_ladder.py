"""Congestion and the line of time, without clocks and sockets."""

import random
from itertools import pairwise

import pytest

from api.whep.congestion import CALM_MAX_S, CALM_S, PACKETS, STEP_S, WRAP, Ladder, Losses
from api.whep.timeline import MASK, RtpLine, ahead
from recorder.base.media import NS


def run(ladder: Ladder, since_s: float, seconds: int, lost: float = 0.0, estimate: tuple[float, float] | None = None) -> list[int]:
    """The steps of each second while that is reported every second."""
    steps = []
    for second in range(1, seconds + 1):
        ladder.lost(lost, since_s + second)
        if estimate is not None:
            ladder.estimate(*estimate, since_s + second)
        ladder.look(since_s + second)
        steps.append(ladder.step)
    return steps


def test_one_bad_report_is_an_accident():
    ladder = Ladder(3, 0.0)
    ladder.lost(0.5, 6.0)
    assert not ladder.look(6.0)
    assert run(ladder, 6.0, 20) == [0] * 20


@pytest.mark.parametrize("seed", range(20))
def test_three_percent_at_random_is_no_congestion(seed):
    """In reports of 50 packets, twice a second, as Chromium sends them: single ones say 14 %. What was lost is sent again."""
    rng, ladder, worst = random.Random(seed), Ladder(3, 0.0), 0.0
    for half in range(240):
        share = sum(rng.random() < 0.03 for _ in range(50)) / 50
        worst = max(worst, share)
        ladder.lost(share, half / 2)
        assert not ladder.look(half / 2)
    assert worst > 0.08


@pytest.mark.parametrize("seed", range(20))
def test_shares_are_those_of_many_packets_however_few_a_report_is_about(seed):
    """Of two packets one is half; Chromium reports so when it has just reported."""
    rng, losses, lost, highest, shares = random.Random(seed), Losses(), 0, WRAP - 1000, []
    for _ in range(400):
        packets = rng.choice((1, 2, 5, 50))
        lost += sum(rng.random() < 0.03 for _ in range(packets))
        highest = (highest + packets) % WRAP
        shares.append(losses.share(lost, highest))
    known = [share for share in shares if share is not None]
    assert shares[0] is None and len(known) > 300
    assert max(known) < 0.1 and 0.02 < sum(known) / len(known) < 0.04
    assert losses.share(lost + PACKETS // 2, (highest + PACKETS) % WRAP) == pytest.approx(0.5, abs=0.01)


def test_a_count_that_begins_anew_is_not_compared_with_the_one_before():
    losses = Losses()
    losses.share(500, 10_000)
    assert losses.share(0, 100) is None
    assert losses.share(0, 100 + PACKETS) == 0.0


def test_lasting_loss_leads_down_step_by_step_and_no_farther():
    steps = run(Ladder(3, 0.0), 0.0, 40, lost=0.2)
    assert steps[-1] == 2 and sorted(steps) == steps
    assert steps.index(2) - steps.index(1) >= STEP_S


def test_a_low_estimate_counts_only_when_it_lasts_and_not_at_the_start():
    assert run(Ladder(3, 0.0), 0.0, 5, estimate=(100.0, 1000.0)) == [0] * 5
    assert run(Ladder(3, 0.0), 0.0, 15, estimate=(100.0, 1000.0))[-1] > 0
    assert run(Ladder(3, 0.0), 0.0, 60, estimate=(600.0, 1000.0))[-1] == 0
    now_and_then = Ladder(3, 0.0)
    for second in range(60):
        now_and_then.estimate(600.0 if second % 5 == 0 else 100.0, 1000.0, float(second))
        assert not now_and_then.look(float(second))


def test_calm_leads_up_and_a_step_that_does_not_hold_is_tried_less_and_less_often():
    """A way that never carries the whole stream: the share of time in which it is tried falls."""
    ladder, now_s, tries = Ladder(2, 0.0), 0.0, []
    while now_s < 4000:
        before = ladder.step
        ladder.lost(0.3 if ladder.step == 0 else 0.0, now_s)
        ladder.look(now_s)
        if before == 1 and ladder.step == 0:
            tries.append(now_s)
        now_s += 1.0
    waits = [b - a for a, b in pairwise(tries)]
    assert waits[0] < 3 * CALM_S
    assert waits[-1] >= CALM_MAX_S
    assert len(tries) < 40


def test_after_a_long_calm_all_is_forgiven():
    ladder = Ladder(2, 0.0)
    for turn in range(4):
        run(ladder, turn * 60.0, 15, lost=0.3)
        run(ladder, turn * 60.0 + 15, 45)
    since = 1000.0
    run(ladder, since, 400)
    assert ladder.step == 0
    run(ladder, since + 400, 15, lost=0.3)
    assert run(ladder, since + 415, 30)[-1] == 0


def test_with_one_step_there_is_nowhere_to_go():
    assert run(Ladder(1, 0.0), 0.0, 60, lost=0.9) == [0] * 60


def test_times_follow_dts_within_a_stretch_and_utc_over_a_break():
    line, wall_ns = RtpLine(90_000), 1_800_000_000 * NS
    first = line.stamp(1000, wall_ns, True)
    assert first == wall_ns * 90_000 // NS & MASK
    assert line.stamp(4600, wall_ns + 99 * NS, False) == first + 3600 & MASK         # a clock that drifts is the sender report's matter
    assert ahead(line.stamp(50, wall_ns + 10 * NS, True), first) == 900_000
    assert ahead(line.stamp(60, wall_ns, True), first) == 900_001                    # UTC that goes back
    assert ahead(line.stamp(60, wall_ns, False), first) == 900_002                   # dts that stands still


@pytest.mark.parametrize("seed", range(5))
def test_times_rise_whatever_comes(seed):
    rng, line, wall_ns, dts, last = random.Random(seed), RtpLine(90_000), 1_800_000_000 * NS, 0, None
    for _ in range(2000):
        wall_ns += rng.choice([0, 40_000_000, NS, -NS, 3600 * NS])
        dts += rng.choice([0, 1, 3600, 90_000, -5, 1 << 33])
        stamp = line.stamp(dts, wall_ns, rng.random() < 0.1)
        assert 0 <= stamp <= MASK
        assert last is None or stamp != last
        last = stamp


@pytest.mark.parametrize("hours", [1, 7, 10, 12, 24 * 366])
def test_time_goes_on_after_a_gap_of_any_length(hours: int) -> None:
    """From half of 2^32 ticks on (6.6 hours) a jump looks like one back: a page that was left open over night stood still."""
    line, wall_ns = RtpLine(90_000), 1_800_000_000 * NS
    before = line.stamp(0, wall_ns, True)
    after = line.stamp(5, wall_ns + hours * 3600 * NS, True)
    assert ahead(after, before) > 0
    assert ahead(line.stamp(3605, wall_ns + hours * 3600 * NS + NS // 25, False), after) == 3600
