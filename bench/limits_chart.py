"""Figures as bars: how far each is from its limit."""

import html
from collections.abc import Sequence

from bench.report import Figure, shown

WIDTH, LEFT, LINE, TOP = 760, 330, 26, 34
SPAN = 320          # pixels from zero to a figure that is at its limit
AIMED, MET, MISSED = "#0b6e4f", "#d1913c", "#a23b3b"


def chart(figures: Sequence[Figure]) -> str:
    """An SVG: the figures that have a limit, as shares of it; a bar that passes the line has missed it, a dot is the aim."""
    limited = [figure for figure in figures if figure.must]
    height = TOP + LINE * len(limited) + 12
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
             f'<path d="M{LEFT + SPAN} {TOP - 8}V{height - 8}" stroke="#444"/>',
             f'<text x="{LEFT + SPAN}" y="16" text-anchor="middle">must</text>']
    for place, figure in enumerate(limited):
        parts += _bar(figure, TOP + LINE * place)
    return "\n".join([*parts, "</svg>", ""])


def _bar(figure: Figure, y: int) -> list[str]:
    must = figure.must or figure.value
    length = min(figure.value / must, 1.25) * SPAN
    colour = MISSED if not figure.met else AIMED if figure.aim is None or figure.value <= figure.aim else MET
    bar = [f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{html.escape(figure.name)}</text>',
           f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="16" fill="{colour}"/>',
           f'<text x="{LEFT + 6}" y="{y + 13}" fill="#fff" stroke="#222" stroke-width="2" paint-order="stroke">'
           f'{shown(figure.value)} {html.escape(figure.unit)}</text>']
    if figure.aim:
        bar.append(f'<circle cx="{LEFT + figure.aim / must * SPAN:.1f}" cy="{y + 8}" r="4" fill="#30638e"/>')
    return bar
