"""What pyproject.toml, MANIFEST.in and requirements/ promise is what the tree holds."""

import ast
import os
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("recorder", "storage", "api", "hw", "bench")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OPTIONAL = {"gi": "apt-test.txt", "playwright": "test.txt"}         # who imports these says what installs them


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(*files: str) -> dict[str, tuple[int, ...]]:
    lines = [line for file in files for line in (ROOT / "requirements" / file).read_text().splitlines() if line and line[0] != "#"]
    return {normal(line.split("==")[0]): version(line.split("==")[1]) for line in lines}


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def ranges(requirements: list[str]) -> dict[str, list[tuple[str, tuple[int, ...]]]]:
    return {normal(re.split(r"[<>=]", line)[0]): [(sign, version(text)) for sign, text in re.findall(r"(>=|<)([\d.]+)", line)]
            for line in requirements}


@pytest.mark.parametrize(("requirements", "files"), [
    (PROJECT["project"]["dependencies"], ("run.txt",)),
    (PROJECT["project"]["optional-dependencies"]["test"], ("test.txt",)),
    (PROJECT["build-system"]["requires"], ("build.txt",)),
])
def test_every_pin_lies_in_its_declared_range(requirements: list[str], files: tuple[str, ...]) -> None:
    pinned = pins(*files)
    for name, bounds in ranges(requirements).items():
        for sign, bound in bounds:
            assert (pinned[name] >= bound) if sign == ">=" else (pinned[name] < bound), name


def test_every_package_folder_is_listed() -> None:
    folders = {str(path.parent.relative_to(ROOT)).replace("/", ".") for name in OURS for path in (ROOT / name).rglob("__init__.py")}
    assert folders == set(PROJECT["tool"]["setuptools"]["packages"])


def test_no_tests_folder_is_a_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_every_kernel_has_a_stub() -> None:
    kernels = [path for name in OURS for path in (ROOT / name).rglob("*.pyx")]
    assert kernels
    assert [path.name for path in kernels if not path.with_suffix(".pyi").exists()] == []


def third_parties(folder: str) -> set[str]:
    """Top-level names that a folder's Python files import and that are neither ours nor the standard library's."""
    names: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add((node.module or "").split(".")[0])
    return names - set(sys.stdlib_module_names) - {*OURS, "tests"} - {path.stem for path in (ROOT / "tests").rglob("*.py")}


@pytest.mark.parametrize("folder", [*OURS, "tests"])
def test_whatever_is_imported_is_declared(folder: str) -> None:
    declared = set(ranges(PROJECT["project"]["dependencies"]))
    if folder == "tests":
        declared |= set(ranges(PROJECT["project"]["optional-dependencies"]["test"]))
    makers = packages_distributions()
    undeclared = {name for name in third_parties(folder) - set(OPTIONAL)
                  if not {normal(maker) for maker in makers.get(name, [name])} & declared}
    assert not undeclared


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is the machine's business (pip.conf, sources.list)."""
    files = [ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / "setup.py", *(ROOT / "requirements").iterdir(), *(ROOT / "scripts").iterdir()]
    assert [path.name for path in files if path.is_file() and re.search(r"index-url|https?://", path.read_text())] == []


def test_the_kernels_under_test_are_the_ones_meant() -> None:
    """The gate runs all tests twice; the second time against build/debug."""
    from recorder._ext import auqueue
    meant = os.environ.get("WATCHROOM_EXPECT_KERNELS", str(ROOT))
    assert Path(auqueue.__file__).parent == Path(meant) / "recorder" / "_ext"
