"""Runs the gate: lint, types, stubs, tests against the release and the debug kernels; several pytest processes where they mostly wait.

Every step's output goes to build/gate/<step>.log; a failed step's is printed. Exit 0 only if every step passed and every step that
runs tests has found some. Tests share the machine with others, and a machine that stood still for a moment has lost packets: up to
ALONE_MAX of a step that failed run once more with the machine to themselves, and the gate names them.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "gate"
BIN = Path(sys.executable).parent
DEBUG = ROOT / "build" / "debug"
TEMPORARY = Path(tempfile.mkdtemp(prefix="wr-"))  # short: Unix sockets below it have 107 bytes for their whole path
OUTSIDE = ("--ignore=tests/cli", "--ignore=tests/supervisor")     # their kernels are in processes of their own, and those are the shipped ones
STEP_S = 20 * 60
BROWSER = "browser and not disk and not soak"       # two steps: tests/browser waits in its calls, with a loop of its own; others are coroutines
ROOM = 12 << 30        # bytes of temporary files that steps have at one time
ALONE_MAX = 3
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/.+?)(?: - .*)?$", re.MULTILINE)
PROGRESS = re.compile(r"^[.FEsxX]+ +\[ *\d+%\]$|^bringing up nodes", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the gate."""

    name: str
    command: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    again: tuple[str, ...] = ()     # a step of tests: the command that runs those which failed once more, their names behind it


def kernel_modules() -> Iterator[str]:
    """The dotted names of all compiled modules."""
    for folder in ("recorder/_ext", "bench/camsim"):
        for pyx in sorted((ROOT / folder).glob("*.pyx")):
            yield str(pyx.relative_to(ROOT).with_suffix("")).replace("/", ".")


def pytest(name: str, marks: str, *where: str, options: Sequence[str] = (), env: dict[str, str] | None = None) -> Step:
    """A run of the tests that bear `marks`, in their own folder for temporary files. `options` hold for a second run too."""
    base = (str(BIN / "pytest"), "--basetemp", str(TEMPORARY / name), "-q", *options)
    return Step(name, (*base, "--durations=8", "-m", marks, *where), env or {}, base)


def linked_debug_tree() -> None:
    """Puts the Python files beside the debug kernels, as links, so that build/debug is a whole tree to import from."""
    for link in [path for path in DEBUG.rglob("*") if path.is_symlink()]:
        link.unlink()
    for name in ("recorder", "storage", "api", "hw", "bench"):
        for path in (ROOT / name).rglob("*"):
            target = DEBUG / path.relative_to(ROOT)
            if path.is_file() and path.suffix not in {".so", ".pyc"}:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(path)


def lint() -> list[Step]:
    """Style, types and stubs; together, since each is one process."""
    return [
        Step("ruff", (str(BIN / "ruff"), "check", ".")),
        Step("mypy", (str(BIN / "mypy"),)),
        Step("stubs", (str(BIN / "stubtest"), "--mypy-config-file", "pyproject.toml", "--ignore-disjoint-bases", "--ignore-unused-allowlist",
                       "--allowlist", "requirements/stubtest-allow.txt", *kernel_modules())),
    ]


def stages() -> dict[str, list[list[Step]]]:
    """Stages by name; the steps of one list run side by side."""
    plain = "not live and not browser and not disk and not soak"
    debug = {"WATCHROOM_EXPECT_KERNELS": str(DEBUG)}
    return {
        "lint": [lint()],
        "test": [
            [pytest("tests", plain, "-n", "2")],
            [pytest("debug-kernels", plain, "-n", "2", *OUTSIDE, options=("-o", f"pythonpath={DEBUG}"), env=debug)],
            [pytest("live", "live and not browser and not disk and not soak", "-n", "4"), pytest("disk", "disk and not soak"),
             pytest("browser", BROWSER, "tests/browser"), pytest("players", BROWSER, "--ignore=tests/browser")],
        ],
    }


def run(step: Step) -> tuple[Step, int, float]:
    """Runs one step to its log; the exit code is 124 if it took too long."""
    began = time.monotonic()
    with (LOGS / f"{step.name}.log").open("wb") as log:
        try:
            code = subprocess.run(step.command, cwd=ROOT, env=os.environ | step.env, stdout=log, stderr=subprocess.STDOUT,
                                  stdin=subprocess.DEVNULL, timeout=STEP_S, check=False).returncode
        except subprocess.TimeoutExpired:
            code = 124
    return step, code, time.monotonic() - began


def log_of(step: Step) -> str:
    """What the step has said."""
    return (LOGS / f"{step.name}.log").read_text(errors="replace").rstrip()


def alone(step: Step) -> Step | None:
    """The step's failed tests once more, if they are few and ended no process."""
    log = log_of(step)
    found = sorted(set(FAILED.findall(log)))
    if not step.again or not 0 < len(found) <= ALONE_MAX or "crashed while running" in log:
        return None
    return Step(f"{step.name}-alone", (*step.again, *found), step.env)


def second(results: Sequence[tuple[Step, int, float]]) -> Iterator[tuple[Step, int, float]]:
    """How the steps ended; for one whose few failures pass alone, that, and what they were."""
    for step, code, seconds in results:
        again = alone(step) if code else None
        if again is None:
            yield step, code, seconds
            continue
        print(f"gate: {step.name}: failed beside others, once more alone: {', '.join(again.command[len(step.again):])}", flush=True)
        report(step, code, seconds)
        yield run(again)


def report(step: Step, code: int, seconds: float) -> None:
    """One line for a passed step, everything but its dots for a failed one."""
    text = log_of(step)
    if code:
        print("\n".join(line for line in text.splitlines() if line and not PROGRESS.match(line)))
    last = text.rsplit("\n", 1)[-1][:110]
    print(f"{'FAILED' if code else 'passed'}  {step.name:<14} {seconds:6.1f} s  {last}", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Runs the stages asked for; 0 if all steps passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(stages()), action="append")
    chosen = parser.parse_args(arguments).only or ["lint", "test"]
    if "test" in chosen and (free := shutil.disk_usage(TEMPORARY).free) < ROOM:
        sys.exit(f"gate: {tempfile.gettempdir()} has {free >> 30} GB free and the tests fill {ROOM >> 30}; make room there or set TMPDIR")
    LOGS.mkdir(parents=True, exist_ok=True)
    linked_debug_tree()
    began, failed = time.monotonic(), []
    for group in (group for name in chosen for group in stages()[name]):
        with ThreadPoolExecutor(len(group)) as pool:
            results = list(pool.map(run, group))
        for step, code, seconds in second(results):
            report(step, code, seconds)
            failed += [step.name] if code else []
    shutil.rmtree(TEMPORARY, ignore_errors=True)
    for left in Path(tempfile.gettempdir()).glob(f"wr-{os.getpid()}-*"):
        shutil.rmtree(left, ignore_errors=True)
    print(f"gate: {'FAILED: ' + ', '.join(failed) if failed else 'passed'} in {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
