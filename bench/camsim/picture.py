"""Pictures of the simulated scene: a panned texture with grain and moving boxes, frame number and time as text, the pattern."""

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.camsim import pattern

Plane = NDArray[np.uint8]

# 5 x 7 dots a glyph, one number a row, the leftmost dot is bit 4
GLYPHS = {
    "0": (14, 17, 19, 21, 25, 17, 14), "1": (4, 12, 4, 4, 4, 4, 14), "2": (14, 17, 1, 2, 4, 8, 31), "3": (31, 2, 4, 2, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2), "5": (31, 16, 30, 1, 1, 17, 14), "6": (6, 8, 16, 30, 17, 17, 14), "7": (31, 1, 2, 4, 8, 8, 8),
    "8": (14, 17, 17, 14, 17, 17, 14), "9": (14, 17, 17, 15, 1, 2, 12), ":": (0, 4, 4, 0, 4, 4, 0), ".": (0, 0, 0, 0, 0, 4, 4),
    "F": (31, 16, 16, 30, 16, 16, 16), "R": (30, 17, 17, 30, 20, 18, 17), "A": (14, 17, 17, 31, 17, 17, 17),
    "M": (17, 27, 21, 21, 17, 17, 17), "E": (31, 16, 16, 30, 16, 16, 31), "T": (31, 4, 4, 4, 4, 4, 4), "I": (14, 4, 4, 4, 4, 4, 14),
    " ": (0, 0, 0, 0, 0, 0, 0),
}


def text_dots(text: str) -> NDArray[np.bool_]:
    """The text as dots, shape (9, 6 * len + 1), with a border of one dot."""
    dots = np.zeros((9, 6 * len(text) + 1), bool)
    for i, char in enumerate(text):
        rows = np.array(GLYPHS[char], np.uint8)[:, None]
        dots[1:8, 6 * i + 1:6 * i + 6] = (rows >> np.arange(4, -1, -1)) & 1
    return dots


def clock_text(seconds: Fraction) -> str:
    """mm:ss.mmm."""
    ms = int(seconds * 1000)
    return f"{ms // 60000:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"


class Scene:
    """Makes the pictures of one clip; the same arguments give the same pictures. Width and height must be even."""

    def __init__(self, width: int, height: int, fps: Fraction) -> None:
        self._size = (height, width)
        self._fps = fps
        random = np.random.default_rng(2)
        self._texture = _texture(random, height, width + 512)
        self._grain = [random.integers(0, 9, (height, width + 64), np.uint8) for _ in range(4)]
        self._chroma = [_texture(random, height // 2, width // 2 + 256) // 4 + 96 for _ in range(2)]

    def planes(self, number: int) -> NDArray[np.uint8]:
        """Picture `number` as yuv420p planes in one array, shape (height * 3 / 2, width)."""
        height, width = self._size
        out = np.empty((height * 3 // 2, width), np.uint8)
        self._luma(out[:height], number)
        shift = number % 256
        chroma = out[height:].reshape(2, height // 2, width // 2)
        for plane, source in zip(chroma, self._chroma, strict=True):
            plane[:] = source[:, shift:shift + width // 2]
            rows, columns = pattern.band(height // 2, width // 2)
            plane[max(0, rows.start - 2):rows.stop + 2, max(0, columns.start - 2):columns.stop + 2] = 128
        return out

    def _luma(self, plane: Plane, number: int) -> None:
        height, width = plane.shape
        shift, grain = 2 * number % 512, self._grain[number % 4]
        np.add(self._texture[:, shift:shift + width], grain[:, number * 7 % 64:][:, :width], out=plane)
        for lane in range(3):
            size, x = height // 10, number * (4 + 3 * lane) * width // 640 % (width + height // 5) - height // 5
            top = height * (5 + lane) // 9
            plane[top:top + size // 2, max(0, x):max(0, x + size)] = 40 + 70 * lane
        self._text(plane, f"FRAME {number:06}  TIME {clock_text(number / self._fps)}")
        pattern.draw(plane, number)

    def _text(self, plane: Plane, text: str) -> None:
        height, width = plane.shape
        dots = text_dots(text)
        scale = max(1, min(width * 8 // 10 // dots.shape[1], height // 6 // dots.shape[0]))
        block = np.where(dots, 235, 16).astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
        top, left = height // 4, (width - block.shape[1]) // 2
        if left >= 0:
            plane[top:top + block.shape[0], left:left + block.shape[1]] = block


def _texture(random: np.random.Generator, height: int, width: int) -> Plane:
    """Smooth shapes and fine detail between 40 and 200."""
    coarse = _stretch(random.random((height // 64 + 2, width // 64 + 2)), 64, height, width)
    fine = _stretch(random.random((height // 8 + 2, width // 8 + 2)), 8, height, width)
    mixed: Plane = (40 + 120 * coarse + 40 * fine).astype(np.uint8)
    return mixed


def _stretch(grid: NDArray[Any], step: int, height: int, width: int) -> NDArray[Any]:
    """The grid's values spread `step` pixels apart, linear in between."""
    y, x = np.arange(height) / step, np.arange(width) / step
    wide = np.stack([np.interp(x, np.arange(grid.shape[1]), row) for row in grid])
    low = y.astype(int)
    part = (y - low)[:, None]
    result: NDArray[Any] = wide[low] * (1 - part) + wide[low + 1] * part
    return result
