"""The kernel of the sample tables against its twin in numpy, over random columns; and what it refuses."""

import random

import numpy as np
import pytest

from recorder._ext import samples as kernel
from recorder.base.media import NS
from tests.media import twin_samples as twin

SEEDS = range(60)


def columns(dice):
    """Rows and their AUs as footage may have them, and worse: B-frames, breaks, changing rates, AUs that overlap."""
    rows = dice.randrange(1, 12)
    counts = [dice.randrange(1, 30) for _ in range(rows)]
    n = sum(counts)
    ticks = dice.choice(((3600,), (1024,), (1, 3599, 3600, 3601)))
    size = np.array([dice.choice((170, 170, dice.randrange(1, 1 << 20))) for _ in range(n)], np.uint32)
    offset = np.cumsum(size.astype(np.uint64))
    for _ in range(dice.randrange(4)):
        offset[dice.randrange(n):] += np.uint64(dice.randrange(1 << 40))
    dts = np.cumsum([dice.choice(ticks) * dice.choice((1, 1, 1, 0, -1)) for _ in range(n)]).astype(np.int64)
    return {"row": np.repeat(np.arange(rows, dtype=np.uint32), counts), "size": size, "offset": offset, "dts": dts,
            "cts": np.array([dice.choice((0, 0, 7200, -3600, dice.randrange(-9000, 9000))) for _ in range(n)], np.int32),
            "dur": np.array([dice.choice((*ticks, 0)) for _ in range(n)], np.int64),
            "flags": np.array([dice.choice((0, 0, 1, 2, 3, 4, 5)) for _ in range(n)], np.uint8),
            "wall": np.cumsum([dice.randrange(-NS // 30, NS // 10) for _ in range(n)]).astype(np.int64) + 1_700_000_000 * NS,
            "breaks": np.array([True, *(dice.random() < 0.3 for _ in range(rows - 1))], np.bool_).view(np.uint8),
            "rate": np.array([dice.choice((90_000, 48_000, 8_000)) for _ in range(rows)], np.int64),
            "anchors": np.array([dice.randrange(-1 << 40, 1 << 40) for _ in range(rows)], np.int64),
            "base": np.array([dice.randrange(-1 << 40, 1 << 40) for _ in range(rows)], np.int64),
            "entry": np.array([dice.randrange(3) for _ in range(rows)], np.int64)}


def same(found, wanted):
    for mine, other in zip(found, wanted, strict=True):
        assert np.array_equal(mine, other)


@pytest.mark.parametrize("seed", SEEDS)
def test_placing_is_the_twins(seed):
    dice = random.Random(seed)
    c = columns(dice)
    chosen = np.flatnonzero([dice.random() < 0.8 for _ in c["size"]])
    less = dice.choice((None, np.array([dice.randrange(1 << 30) for _ in chosen], np.int64)))
    squeeze = dice.choice((None, np.array([dice.choice((1.0, 0.9, 0.0)) for _ in c["base"]])))
    args = (chosen, c["row"], c["dts"], c["cts"], c["size"], c["offset"], c["anchors"], c["base"], c["rate"], c["entry"], less, squeeze,
            dice.choice((90_000, 48_000)), dice.randrange(1 << 30))
    found = kernel.place(*args)
    same(found, twin.place(*args))
    size, dts, _, entry, offset, row = found
    if len(chosen):
        assert np.array_equal(kernel.chunks(size, offset, row, entry), twin.chunks(size, offset, row, entry))
        assert np.array_equal(kernel.steps(dts, 77), twin.steps(dts, 77))
        assert kernel.runs(kernel.steps(dts, 77)) == twin.runs(twin.steps(dts, 77))
        assert kernel.words(size) == twin.words(size)


@pytest.mark.parametrize("seed", SEEDS)
def test_choosing_is_the_twins(seed):
    dice = random.Random(seed)
    c = columns(dice)
    same(kernel.decodable(c["row"], c["flags"], c["breaks"]), twin.decodable(c["row"], c["flags"], c["breaks"]))
    reach = (c["wall"], c["cts"], c["dur"], c["row"], c["rate"])
    assert kernel.reached(*reach) == twin.reached(*reach)
    edges = sorted(dice.choice(c["wall"].tolist()) + dice.randrange(NS) for _ in range(2 * dice.randrange(4)))
    cuts = np.array(edges[::2], np.int64), np.array(edges[1::2], np.int64)
    sound = (c["wall"], c["dur"], c["row"], c["rate"], *cuts, int(c["wall"][dice.randrange(len(c["wall"]))]), dice.randrange(4 * NS))
    assert np.array_equal(kernel.sounding(*sound), twin.sounding(*sound))
    native = np.diff(c["anchors"]) + np.array([dice.randrange(-999, 999) for _ in c["anchors"][1:]], np.int64)
    smooth = (c["anchors"], native, c["breaks"], dice.choice((0, 480, 1 << 60)))
    assert np.array_equal(kernel.smooth(*smooth), twin.smooth(*smooth))


def test_columns_that_do_not_fit_are_refused():
    c = columns(random.Random(0))
    short = {name: column[:-1] for name, column in c.items()}
    with pytest.raises(ValueError, match="AUs differ"):
        kernel.decodable(c["row"], short["flags"], c["breaks"])
    with pytest.raises(ValueError, match="beyond the rows"):
        kernel.decodable(c["row"], c["flags"], c["breaks"][:-1])
    with pytest.raises(ValueError, match="AUs differ"):
        kernel.reached(c["wall"], short["cts"], c["dur"], c["row"], c["rate"])
    with pytest.raises(ValueError, match="not above zero"):
        kernel.reached(c["wall"], c["cts"], c["dur"], c["row"], c["rate"] * 0)
    with pytest.raises(ValueError, match="rows differ"):
        kernel.smooth(c["anchors"], c["anchors"], c["breaks"], 0)
    with pytest.raises(ValueError, match="samples differ"):
        kernel.chunks(c["dts"], c["dts"][1:], c["dts"], c["dts"])
    for chosen in (-1, len(c["row"])):
        with pytest.raises(ValueError, match="beyond the AUs"):
            kernel.place(np.array([chosen]), c["row"], c["dts"], c["cts"], c["size"], c["offset"], c["anchors"], c["base"], c["rate"],
                         c["entry"], None, None, 90_000, 0)
