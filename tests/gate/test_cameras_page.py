"""docs/cameras.md names tests that exist, in rows that have all their columns, and numbers its cases without a hole."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "cameras.md").read_text()
NAMED = re.compile(r"([\w/]+\.py)::(\w*)")
CASES_MORE = 40


def missing(page: str) -> list[str]:
    """The tests that the page names and nobody has."""
    known: dict[str, set[str]] = {}
    for file in {file for file, _ in NAMED.findall(page)}:
        path = ROOT / "tests" / file
        tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
        known[file] = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return [f"{file}::{test}" for file, test in NAMED.findall(page) if not test.startswith("test_") or test not in known[file]]


def bare(page: str) -> list[str]:
    """Rows that name neither a test nor say that there is none: `not yet`, `not wanted`."""
    rows = [line for line in page.splitlines() if line.startswith("| ") and not re.match(r"\| (behaviour|#|file) \|", line)]
    return [row for row in rows if not NAMED.search(row) and not re.search(r"\b[Nn]ot (yet|wanted)\b", row)]


def numbers(page: str, heading: str) -> list[int]:
    """Of the cases below a heading."""
    part = page.partition(f"## {heading}")[2].partition("\n## ")[0]
    return [int(number) for number in re.findall(r"^\| (\d+) \|", part, re.MULTILINE)]


def test_every_test_that_the_page_names_exists() -> None:
    assert len(NAMED.findall(PAGE)) > 150
    assert missing(PAGE) == []


def test_every_row_has_its_test_or_says_that_it_has_none() -> None:
    assert bare(PAGE) == []


def test_the_cases_are_numbered_and_there_are_as_many_as_said() -> None:
    named, more = numbers(PAGE, "Hostile and broken cameras"), numbers(PAGE, "More of their kind")
    assert named + more == list(range(1, len(named) + len(more) + 1))
    assert len(more) >= CASES_MORE and f"{len(more)} more cases" in PAGE


def test_a_wrong_page_is_found_out() -> None:
    named = "gate/test_cameras_page.py::test_of_nobody, gate/gone.py::test_x, test_floors.py::"
    page = f"| a | b | {named} |\n| c | d | |\n"
    assert missing(page) == ["gate/test_cameras_page.py::test_of_nobody", "gate/gone.py::test_x", "test_floors.py::"]
    assert bare(page) == ["| c | d | |"]
    assert numbers("## X\n| 1 | a |\n| 3 | b |\n## Y\n| 4 | c |\n", "X") == [1, 3]
