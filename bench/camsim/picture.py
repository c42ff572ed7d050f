"""Pictures of the simulated scene: a road with cars, grain, frame number and time as text, and the pattern."""

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.camsim import pattern

Plane = NDArray[np.uint8]

HORIZON = 0.45
CARS = 3
CAR_S = 6.0    # a car's way down the road

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
    """Makes the pictures of one clip; the same arguments give the same pictures. Width and height must be even.

    A road under a sky, seen by a camera that stands still: cars come down the road, grain covers all (else it would need no bit rate).
    """

    def __init__(self, width: int, height: int, fps: Fraction) -> None:
        self._size = (height, width)
        self._fps = fps
        random = np.random.default_rng(2)
        self._still, self._chroma = _landscape(random, height, width)
        self._grain = [random.integers(0, 11, (height, width + 64), np.uint8) for _ in range(4)]

    def planes(self, number: int) -> NDArray[np.uint8]:
        """Picture `number` as yuv420p planes in one array, shape (height * 3 / 2, width)."""
        height, width = self._size
        out = np.empty((height * 3 // 2, width), np.uint8)
        luma, chroma = out[:height], out[height:].reshape(2, height // 2, width // 2)
        np.add(self._still, self._grain[number % 4][:, number * 7 % 64:][:, :width], out=luma)
        chroma[:] = self._chroma
        for car in range(CARS):
            self._car(luma, chroma, car, float(number / self._fps) / CAR_S + car / CARS)
        self._text(luma, f"FRAME {number:06}  TIME {clock_text(number / self._fps)}")
        pattern.draw(luma, number)
        return out

    def _car(self, luma: Plane, chroma: Plane, car: int, laps: float) -> None:
        """A car, the larger the nearer it is."""
        height, width = self._size
        near = 0.05 + 0.95 * (laps % 1) ** 2
        size = max(2, int(width * 0.11 * near))
        top = int(height * (HORIZON + (1 - HORIZON) * near)) - size
        left = int(width * (0.5 + (0.28 if car % 2 else -0.28) * near)) - size // 2
        for row, part, shade in ((0.0, 0.35, 30), (0.35, 0.75, 90 + 50 * car), (0.75, 0.9, 20)):
            y0, y1 = max(0, int(top + row * size)), int(top + part * size)
            luma[y0:max(y0, y1), max(0, left):max(0, left + size)] = shade
        colour = chroma[:, max(0, top) // 2:max(0, top + size) // 2, max(0, left) // 2:max(0, left + size) // 2]
        colour[:] = np.array([[110, 170], [160, 110], [128, 128]], np.uint8)[car % 3][:, None, None]

    def _text(self, plane: Plane, text: str) -> None:
        height, width = plane.shape
        dots = text_dots(text)
        scale = max(1, min(width * 8 // 10 // dots.shape[1], height // 6 // dots.shape[0]))
        block = np.where(dots, 235, 16).astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
        top, left = height // 4, (width - block.shape[1]) // 2
        if left >= 0:
            plane[top:top + block.shape[0], left:left + block.shape[1]] = block


def _landscape(random: np.random.Generator, height: int, width: int) -> tuple[Plane, Plane]:
    """The luma plane of all that stands still, below 240, and both chroma planes, neutral where pattern and text are."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = y / height, x / width
    texture = _texture(random, height, width)
    hills = y > HORIZON - 0.05 * np.sin(9 * x) - 0.03 * np.sin(23 * x + 1)
    depth = np.clip((y - HORIZON) / (1 - HORIZON), 0, 1)
    road = (depth > 0) & (np.abs(x - 0.5) < 0.03 + 0.45 * depth)
    line = road & (np.abs(x - 0.5) < 0.003 + 0.012 * depth) & ((8 * np.sqrt(depth)).astype(int) % 2 == 0)
    luma = np.select([line, road, depth > 0, hills], [200, 60 + 30 * texture, 70 + 60 * texture, 80 + 30 * texture], 200 - 60 * y / HORIZON)
    blue = np.select([road, hills | (depth > 0)], [128, 112], 150)
    red = np.select([road, hills | (depth > 0)], [128, 120], 116)
    chroma = np.stack([blue, red])[:, ::2, ::2].astype(np.uint8)
    rows = slice(pattern.band(height // 2, width // 2)[0].start - 2, height * 17 // 100)
    chroma[:, max(0, rows.start):rows.stop, width // 20 - 2:width // 2 - width // 20 + 2] = 128
    return luma.astype(np.uint8), chroma


def _texture(random: np.random.Generator, height: int, width: int) -> NDArray[Any]:
    """Coarse shapes and fine detail between 0 and 1, shape (height, width)."""
    coarse = _stretch(random.random((height // 48 + 2, width // 48 + 2)), 48, height, width)
    fine = _stretch(random.random((height // 4 + 2, width // 4 + 2)), 4, height, width)
    mixed: NDArray[Any] = 0.6 * coarse + 0.4 * fine
    return mixed


def _stretch(grid: NDArray[Any], step: int, height: int, width: int) -> NDArray[Any]:
    """The grid's values spread `step` pixels apart, linear in between."""
    y, x = np.arange(height) / step, np.arange(width) / step
    wide = np.stack([np.interp(x, np.arange(grid.shape[1]), row) for row in grid])
    low = y.astype(int)
    part = (y - low)[:, None]
    result: NDArray[Any] = wide[low] * (1 - part) + wide[low + 1] * part
    return result
