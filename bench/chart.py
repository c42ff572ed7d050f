"""Lines over an axis as an SVG, without a library."""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 420, 70, 60, 30, 170
COLOURS = {"watchroom": "#0b6e4f", "native": "#30638e", "pyav": "#d1913c", "ffmpeg": "#a23b3b"}
OTHERS = ("#0b6e4f", "#30638e", "#d1913c", "#a23b3b", "#6b4f8a", "#666")
LINES = 5       # of a linear axis

Points = Sequence[tuple[float, float]]


class Scale(Protocol):
    """Value -> coordinate; `marks` are where lines are drawn."""

    def __call__(self, value: float) -> float: ...
    def marks(self) -> list[float]: ...


class Log:
    """A logarithmic axis, base 2."""

    def __init__(self, values: Sequence[float], start: float, stop: float) -> None:
        self._low, self._high = math.log2(min(values) / 1.1), math.log2(max(values) * 1.1)
        self._start, self._stop = start, stop

    def __call__(self, value: float) -> float:
        """Where `value` lies."""
        return self._start + (math.log2(value) - self._low) / (self._high - self._low) * (self._stop - self._start)

    def marks(self) -> list[float]:
        """The powers of two."""
        return [2**n for n in range(21) if self._low <= n <= self._high]


class Linear:
    """A linear axis from 0."""

    def __init__(self, values: Sequence[float], start: float, stop: float) -> None:
        self._high = max(*values, 0.0, 1e-9) * 1.05
        self._start, self._stop = start, stop

    def __call__(self, value: float) -> float:
        """Where `value` lies."""
        return self._start + value / self._high * (self._stop - self._start)

    def marks(self) -> list[float]:
        """A few round values."""
        step = 10 ** math.floor(math.log10(self._high / LINES))
        step *= next(n for n in (1, 2, 5, 10) if self._high / (n * step) <= LINES + 1)
        return [n * step for n in range(int(self._high / step) + 1)]


def draw(series: Mapping[str, Points], title: str, x_name: str, *, logarithmic: bool = False) -> str:
    """An SVG of each named line; the axes as `logarithmic` says (then all values must be above 0). Every point is a circle with a title."""
    xs, ys = [x for line in series.values() for x, _ in line] or [1.0], [y for line in series.values() for _, y in line] or [1.0]
    axis = Log if logarithmic else Linear
    x_of, y_of = axis(xs, LEFT, WIDTH - RIGHT), axis(ys, HEIGHT - BOTTOM, TOP)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
             f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="#444"/>',
             f'<text x="{LEFT}" y="18">{title}</text>',
             f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 16}" text-anchor="middle">{x_name}</text>']
    parts += [f'<text x="{x_of(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x:g}</text>'
              for x in (sorted(set(xs)) if logarithmic else x_of.marks())]
    parts += [f'<path d="M{LEFT} {y_of(y):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
              f'<text x="{LEFT - 6}" y="{y_of(y) + 4:.1f}" text-anchor="end">{y:g}</text>' for y in y_of.marks()]
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS.get(name.partition(" ")[0], OTHERS[number % len(OTHERS)])
        parts += _line(name, sorted(points), x_of, y_of, colour, x_name) if points else []
    return "\n".join([*parts, "</svg>", ""])


def _line(name: str, points: Points, x_of: Scale, y_of: Scale, colour: str, x_name: str) -> list[str]:
    path = "L".join(f"{x_of(x):.1f} {y_of(y):.1f}" for x, y in points)
    dots = [f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="{3.5 if len(points) < 50 else 1.2}" fill="{colour}">'
            f'<title>{name}: {x:g} {x_name}, {y:.4g}</title></circle>' for x, y in points]
    x, y = points[-1]
    return [f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{2 if len(points) < 50 else 1}"/>', *dots,
            f'<text x="{x_of(x) + 8:.1f}" y="{y_of(y) + 4:.1f}" fill="{colour}">{name}</text>']
