"""The machine pattern: what `read` says of a picture is what `draw` wrote, or nothing."""

import numpy as np
import pytest

from bench.camsim import pattern

SIZES = [(1920, 1080), (1280, 720), (640, 360), (320, 180), (704, 576)]


def grey(width: int, height: int, number: int) -> np.ndarray:
    frame = np.full((height, width), 120, np.uint8)
    pattern.draw(frame, number)
    return frame


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("number", [0, 1, 399, 0x12345678, 2**32 - 1])
def test_number_survives_every_size(width: int, height: int, number: int) -> None:
    assert pattern.read(grey(width, height, number)) == number


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_number_survives_scaling_down(factor: int) -> None:
    frame = grey(1920, 1080, 123456)
    small = frame[:1080 // factor * factor].reshape(1080 // factor, factor, 1920 // factor, factor).mean((1, 3))
    assert pattern.read(small) == 123456


def test_colour_pictures_are_read_too() -> None:
    assert pattern.read(np.repeat(grey(640, 360, 77)[..., None], 3, axis=2)) == 77


def test_one_wrong_bit_is_not_believed() -> None:
    frame = grey(640, 360, 77)
    ys, xs = pattern.edges(360, 1, 4, 24), pattern.edges(640, 2, 16, 20)
    for row in range(4):
        for column in range(16):
            broken = frame.copy()
            cell = broken[ys[row]:ys[row + 1], xs[column]:xs[column + 1]]
            cell[:] = 251 - cell
            assert pattern.read(broken) is None, (row, column)


def test_pictures_without_a_pattern_have_no_number() -> None:
    assert pattern.read(np.zeros((360, 640), np.uint8)) is None
    assert pattern.read(np.random.default_rng(1).integers(0, 256, (360, 640), np.uint8)) is None
    faint = (grey(640, 360, 5).astype(int) // 5 + 100).astype(np.uint8)
    assert pattern.read(faint) is None


def test_number_out_of_range_is_refused() -> None:
    with pytest.raises(OverflowError):
        pattern.draw(np.zeros((360, 640), np.uint8), 2**32)
