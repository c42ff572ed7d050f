"""What every benchmark says the same way: figures beside what is promised, and the files that a run leaves."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. `must`: what it may be at most (None: nothing is promised); `aim`: what is hoped for; `note`: how it came about."""

    name: str
    value: float
    unit: str
    must: float | None = None
    aim: float | None = None
    note: str = ""

    @property
    def met(self) -> bool:
        """True unless it is worse than promised."""
        return self.must is None or self.value <= self.must


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """`--json`, `--markdown` and `--svg`."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured as JSON")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a chart")


def write_reports(args: argparse.Namespace, *, values: Mapping[str, Any], text: str, chart: str = "") -> None:
    """Write the files that were asked for and that there is something for. OSError."""
    for path, content in ((args.json, json.dumps(values, indent=1) + "\n"), (args.markdown, text), (args.svg, chart)):
        if path and content:
            path.write_text(content)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)


def figure_table(figures: Iterable[Figure]) -> str:
    """Each figure beside what it must be, and, where there are any, aims and notes."""
    figures = list(figures)
    heads, rows = ["what", "measured", "must"], [[f.name, f"{shown(f.value)} {f.unit}".strip(), _must(f)] for f in figures]
    if any(f.aim is not None or f.note for f in figures):
        heads += ["aim", ""]
        rows = [[*row, "" if f.aim is None else f"{f.aim:g} {f.unit}", f.note] for row, f in zip(rows, figures, strict=True)]
    return table(heads, rows)


def shown(value: float) -> str:
    """A value as people read it: three figures that count, or all of a whole number."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _must(figure: Figure) -> str:
    if figure.must is None:
        return ""
    return f"{figure.must:g} {figure.unit}: {'met' if figure.met else 'missed'}".replace(" :", ":")


def about_line(about: Mapping[str, str]) -> str:
    """Machine and versions in a line."""
    return "; ".join(f"{key}: {value}" for key, value in about.items())
