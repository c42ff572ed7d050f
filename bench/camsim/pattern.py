"""The machine-readable number in every simulated picture, its writer and its reader.

Geometry, in fractions of the picture, so that it survives scaling (a browser's canvas can read it the same way):

* The band is a grid of 16 columns x 4 rows of cells. A cell is W/20 wide and H/24 high; the grid's left upper corner is at
  (2 * W/20, 1 * H/24). Cell (row r, column c) covers x in [W * (2 + c) / 20, W * (3 + c) / 20) and y in [H * (1 + r) / 24,
  H * (2 + r) / 24).
* A white cell (luma 235, RGB 255) is 1, a black one (luma 16, RGB 0) is 0. Chroma is neutral in the band.
* Row 0 is the calibration: 1 0 1 0 ... from the left. Row 1 holds bits 31..16 of the number, row 2 bits 15..0, most significant on
  the left. Row 3 is the CRC-16/CCITT-FALSE (polynomial 0x1021, initial value 0xFFFF, not reflected, no final XOR) of the number's
  four big-endian bytes.
* Reading: the mean grey of the middle half of each cell in both directions (its outer quarters may be smeared by scaling and
  coding). The threshold is the middle between the means of the calibration's white and black cells. It must read back the
  calibration, the white must be at least 60 grey levels brighter than the black, and the CRC must be right.
"""

import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLUMNS = 16
ROWS = 4
GRID_WIDE = 20
GRID_HIGH = 24
LEFT = 2
TOP = 1
BLACK = 16
WHITE = 235
CONTRAST_MIN = 60

Bits = NDArray[np.bool_]
CALIBRATION: Bits = np.arange(COLUMNS) % 2 == 0


def bits_of(number: int) -> Bits:
    """The band's cells, shape (4, 16). Raises OverflowError unless 0 <= number < 2**32."""
    raw = number.to_bytes(4, "big")
    words = np.frombuffer(raw + binascii.crc_hqx(raw, 0xFFFF).to_bytes(2, "big"), np.uint8)
    return np.vstack([CALIBRATION, np.unpackbits(words).astype(bool).reshape(3, COLUMNS)])


def edges(length: int, first: int, count: int, parts: int) -> list[int]:
    """Pixel borders of `count` cells from cell `first`, when `length` pixels are cut into `parts`."""
    return [length * (first + i) // parts for i in range(count + 1)]


def band(height: int, width: int) -> tuple[slice, slice]:
    """Where the band lies: (rows, columns)."""
    ys, xs = edges(height, TOP, ROWS, GRID_HIGH), edges(width, LEFT, COLUMNS, GRID_WIDE)
    return slice(ys[0], ys[-1]), slice(xs[0], xs[-1])


def draw(frame: NDArray[np.uint8], number: int) -> None:
    """Write `number` into a luma plane, shape (height, width), in place."""
    height, width = frame.shape
    ys, xs = edges(height, TOP, ROWS, GRID_HIGH), edges(width, LEFT, COLUMNS, GRID_WIDE)
    for r, row in enumerate(bits_of(number)):
        for c, bit in enumerate(row):
            frame[ys[r]:ys[r + 1], xs[c]:xs[c + 1]] = WHITE if bit else BLACK


def read(picture: NDArray[Any]) -> int | None:
    """The number in a decoded picture, shape (height, width) or (height, width, channels); None if there is none to be trusted."""
    grey = picture if picture.ndim == 2 else picture[..., :3]
    means = np.array([[_cell(grey, r, c) for c in range(COLUMNS)] for r in range(ROWS)])
    white, black = means[0, CALIBRATION], means[0, ~CALIBRATION]
    if white.mean() - black.mean() < CONTRAST_MIN:
        return None
    bits = means > (white.mean() + black.mean()) / 2
    raw = np.packbits(bits[1:].ravel()).tobytes()
    if (bits[0] != CALIBRATION).any() or binascii.crc_hqx(raw[:4], 0xFFFF) != int.from_bytes(raw[4:], "big"):
        return None
    return int.from_bytes(raw[:4], "big")


def _cell(grey: NDArray[Any], row: int, column: int) -> float:
    """Mean of the middle half of a cell; at least one pixel."""
    height, width = grey.shape[:2]
    y0, y1 = height * (4 * (TOP + row) + 1) // (4 * GRID_HIGH), height * (4 * (TOP + row) + 3) // (4 * GRID_HIGH)
    x0, x1 = width * (4 * (LEFT + column) + 1) // (4 * GRID_WIDE), width * (4 * (LEFT + column) + 3) // (4 * GRID_WIDE)
    return float(grey[y0:max(y1, y0 + 1), x0:max(x1, x0 + 1)].mean())
