"""An import points down, or sideways on its own floor: over .py, .pyx and .pxd alike. The floors are those of docs/architecture.md."""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("recorder", "storage", "api", "hw", "bench")

# The longest prefix wins. The bare package `recorder` holds nothing, so that importing storage, which runs it, is free.
FLOORS = {
    "recorder._ext": 0,
    "recorder.base": 1,
    "hw": 2,
    "storage": 3,
    "recorder": 4,
    "api": 5,
    "bench": 6,
    "recorder.cli": 7,
    "recorder.__main__": 7,
}

# Hostile media must never crash a recorder or the API: libav lives in processes of its own.
AV_ROOMS = ("bench", "api.decoder", "recorder.sources.libav")

# What a room never imports besides the floors above it (standard library and third parties, by prefix).
FORBIDDEN = {
    "recorder._ext": ("asyncio", "socket", "time", "datetime", "pathlib", "os", "io"),
    "hw": ("aiohttp", "asyncio", "socket"),
    "storage": ("aiohttp", "av", "socket", "asyncio", "uvloop"),
    "recorder": ("aiohttp",),
    "api": ("storage.slot", "storage.tape", "storage.writer", "storage.journal", "storage.chunk", "storage.pool", "storage.recovery"),
    "tests": (),
}

CYTHON_IMPORT = re.compile(
    r"^\s*(?:from\s+(?P<base>[\w.]+)\s+c?import\s+(?P<names>[^#\n]+)|c?import\s+(?P<plain>[\w., ]+))", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Import:
    """One import: dotted target, and whether it happens when the module is loaded."""

    target: str
    line: int
    at_load: bool


def is_under(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def floor_of(module: str) -> int:
    if module == "recorder":
        return 0
    return FLOORS[max((prefix for prefix in FLOORS if is_under(module, prefix)), key=len)]


def room_of(module: str) -> str:
    return max((prefix for prefix in FLOORS if is_under(module, prefix)), key=len)


def python_imports(text: str, package: str) -> Iterator[Import]:
    tree = ast.parse(text)
    inner = {id(node) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
             for node in ast.walk(function)}
    for node in ast.walk(tree):
        at_load = id(node) not in inner
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, at_load) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")
                base = ".".join([*above[: len(above) - node.level + 1], *([base] if base else [])])
            yield from (Import(f"{base}.{alias.name}".lstrip("."), node.lineno, at_load) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield Import(ast.unparse(node.args[0]).lstrip("f").strip("'\""), node.lineno, at_load)


def cython_imports(text: str) -> Iterator[Import]:
    for match in CYTHON_IMPORT.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if base := match["base"]:
            names = [name.split(" as ")[0].strip(" ()\\") for name in match["names"].split(",")]
            yield from (Import(f"{base}.{name}", line, True) for name in names)
        else:
            yield from (Import(name.split(" as ")[0].strip(), line, True) for name in match["plain"].split(","))


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def breaches(module: str, imports: Iterator[Import]) -> list[str]:
    """Every import of `module` that its floor does not allow, in words."""
    return [f"{module}:{item.line} imports {item.target}: {why}" for item in imports if (why := breach(module, item))]


def breach(module: str, item: Import) -> str:
    top = item.target.split(".")[0]
    room = room_of(module)
    if top == "tests":
        return "tests are imported by nothing"
    if top == "av" and not any(is_under(module, prefix) for prefix in AV_ROOMS):
        return "libav belongs in decoder and source processes and in bench"
    if any(is_under(item.target, name) for name in FORBIDDEN.get(room, ())):
        return f"never in {room}"
    if top in OURS:
        return own_breach(module, room, item)
    if room == "recorder.base" and top not in sys.stdlib_module_names:
        return "recorder/base knows no third parties"
    return ""


def own_breach(module: str, room: str, item: Import) -> str:
    target_floor = floor_of(item.target)
    if module == "recorder":
        return "recorder/__init__.py holds nothing"
    if room == "recorder._ext" and not is_under(item.target, "recorder._ext"):
        return "kernels know nothing of ours"
    if target_floor > floor_of(module):
        return f"floor {target_floor} is above floor {floor_of(module)}"
    if is_under(item.target, "bench") and room.startswith("recorder.") and item.at_load:
        return "bench is imported when a command needs it, not before"
    return ""


def sources() -> list[Path]:
    return [path for name in OURS for path in sorted((ROOT / name).rglob("*")) if path.suffix in {".py", ".pyx", ".pxd"}]


def imports_of(path: Path) -> Iterator[Import]:
    module, text = module_name(path), path.read_text()
    if path.suffix == ".py":
        return python_imports(text, module if path.name == "__init__.py" else module.rpartition(".")[0])
    return cython_imports(text)


def test_no_import_points_up() -> None:
    found = [line for path in sources() for line in breaches(module_name(path), imports_of(path))]
    assert not found, "\n".join(found)


def test_the_floors_cover_every_package() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(OURS)


@pytest.mark.parametrize(("module", "text"), [
    ("storage.reader", "import aiohttp"),
    ("storage.reader", "from socket import socketpair"),
    ("storage.reader", "def f():\n    import av\n"),
    ("storage.reader", "from recorder.worker import run_worker"),
    ("storage.reader", "from recorder import worker"),
    ("storage.reader", "from .. import api"),
    ("recorder.base.config", "import numpy"),
    ("recorder.base.config", "import storage.layout"),
    ("recorder.worker", "from api.process import run_api"),
    ("recorder.worker", "import av.container"),
    ("recorder.worker", "import aiohttp.web"),
    ("recorder.cli.bench", "from bench import ingest"),
    ("recorder.cli.bench", "import importlib\nimportlib.import_module('bench.ingest')"),
    ("recorder", "import recorder.base"),
    ("api.clip", "from storage.writer import Writer"),
    ("api.clip", "import bench.camsim"),
    ("hw.probe", "import storage"),
    ("bench.ingest", "import tests.cli"),
    ("bench.ingest", "from recorder.cli import camsim"),
])
def test_a_python_import_that_points_up_is_found(module: str, text: str) -> None:
    assert breaches(module, python_imports(text, module.rpartition(".")[0]))


@pytest.mark.parametrize(("module", "text"), [
    ("recorder.cli.bench", "def run():\n    from bench import ingest\n"),
    ("storage.reader", "from recorder._ext.crc32c import crc32c\nfrom recorder.base import media"),
    ("api.clip", "import aiohttp\nfrom storage.store import TapeStore"),
    ("bench.ingest", "import av\nimport recorder.worker"),
    ("api.decoder.process", "import av"),
])
def test_an_import_that_points_down_is_let_be(module: str, text: str) -> None:
    assert not breaches(module, python_imports(text, module.rpartition(".")[0]))


@pytest.mark.parametrize("text", [
    "from recorder.base.media cimport x",
    "cimport storage.layout",
    "import asyncio",
    "cdef int f():\n    from time import monotonic\n",
    "from storage import layout, reader",
    "import numpy, os",
])
def test_a_kernel_that_knows_the_house_is_found(text: str) -> None:
    assert breaches("recorder._ext.drain", cython_imports(text))


def test_kernels_may_know_each_other() -> None:
    text = "from recorder._ext.auqueue cimport AuQueue, queue_t\nfrom libc.stdint cimport int64_t\n"
    assert not breaches("recorder._ext.drain", cython_imports(text))
