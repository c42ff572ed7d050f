"""How commands print: a table for people, JSON for programs."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    json.dump(value, sys.stdout, indent=1, default=str)
    print()


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns as wide as they must be; numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(head), *cells]) for column in range(len(head))]
    right = [bool(cells) and all(row[column][:1].isdigit() for row in cells) for column in range(len(head))]
    placed = [[cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in zip(row, widths, right, strict=True)]
              for row in [list(head), *cells]]
    return "\n".join("  ".join(row).rstrip() for row in placed)


def pairs(values: Mapping[str, Any]) -> str:
    """One `key: value` a line."""
    width = max(map(len, values), default=0)
    return "\n".join(f"{key + ':':<{width + 1}} {value}" for key, value in values.items())


def line_of(text: str) -> str:
    """The text as one line that a terminal shows as it is: what no reader sees, or a terminal takes for an order, is escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in text)


def size(count: float) -> str:
    """Bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")
