"""recorder/_ext/reorder: decode times from picture order."""

import itertools
import random

import pytest
import twin_reorder
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder._ext.reorder import decode_times


@st.composite
def coded_orders(draw: st.DrawFn) -> list[int]:
    """pts in decode order: groups whose pictures are shuffled within a distance."""
    reach = draw(st.integers(0, 4))
    seed = draw(st.integers(0, 1 << 20))
    rng = random.Random(seed)
    pts = [0]
    for group in range(draw(st.integers(1, 12))):
        part = [1 + group * (reach + 1) + i for i in range(reach + 1)]
        rng.shuffle(part)
        pts += part
    return [p * 3600 for p in pts]


@settings(max_examples=200, deadline=None)
@given(coded_orders(), st.integers(0, 3))
def test_with_the_depth_known_the_dts_is_the_twins(pts, spare):
    depth = twin_reorder.needed_depth(pts) + spare
    got, after = decode_times(pts, depth, 3600)
    assert after == depth
    assert got == twin_reorder.decode_times(pts, depth, 3600)
    assert all(d <= p for d, p in zip(got, pts, strict=True))


@settings(max_examples=200, deadline=None)
@given(coded_orders())
def test_an_unknown_depth_is_found_and_dts_always_rises(pts):
    got, depth = decode_times(pts)
    assert depth == twin_reorder.needed_depth(pts)
    assert all(a < b for a, b in itertools.pairwise(got))


def test_b_frames_of_depth_2_settle_on_what_the_spss_depth_gives():
    order = [0] + [i * 4 + p for i in range(50) for p in (4, 2, 1, 3)]
    pts = [p * 3600 for p in order]
    found, depth = decode_times(pts)
    known, _ = decode_times(pts, 2, 3600)
    assert depth == 2
    assert found[12:] == known[12:]


def test_without_b_frames_dts_is_pts():
    pts = [i * 3000 for i in range(40)]
    assert decode_times(pts) == (pts, 0)


@pytest.mark.parametrize("pts", [[5] * 30, list(range(40, 0, -1)), [0, 10**15, 3, -10**15] * 9])
def test_nonsense_still_rises_and_depth_is_bounded(pts):
    got, depth = decode_times(pts)
    assert all(a < b for a, b in itertools.pairwise(got))
    assert depth <= 16
