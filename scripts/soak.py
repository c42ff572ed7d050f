"""The long figures: a demo, `bench ingest`, every fuzz target, every test marked `soak`; writes docs/soak.md with date, commit, figures.

A step may be run alone (hours of fuzzing need no quiet machine, figures do), and fuzz targets and tests a few at a time: the page then
keeps what it knows of the others, each with its own date and commit. A test tells a figure with pytest's own `record_property("name",
value)`. Exit 0 only if all steps of this run passed; the page says what did not.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "soak"
BIN = Path(sys.executable).parent
PAGE = ROOT / "docs" / "soak.md"
STEP_S = 3600
KILL_S = 10         # a recorder killed, recovered and read on a busy machine
FUZZED = re.compile(r"^fuzz: ([\w-]+): (passed|FAILED)[, ]*(.*)$", re.MULTILINE)
FUZZ_TARGETS = len(list((ROOT / "tests" / "fuzz" / "corpus").iterdir()))


@dataclass(frozen=True, slots=True)
class Step:
    """A command of the soak and how it ended."""

    name: str
    command: tuple[str, ...]
    code: int = 0
    seconds: float = 0.0
    limit_s: float = STEP_S
    when: str = ""      # UTC of its end
    commit: str = ""


def steps(fuzz_s: float, targets: list[str], rounds: int, kills: int, copies: int, paths: list[str]) -> list[Step]:
    """What is run, one after the other: figures want a quiet machine."""
    demo = (str(BIN / "watchroom"), "demo", "--seconds", "30")
    soak = (str(BIN / "pytest"), "-m", "soak", "-q", "-n", "4", "--kills", str(kills), "--copies", str(copies),
            "--junitxml", str(LOGS / "soak.xml"), *paths)
    ingest = (str(BIN / "watchroom"), "bench", "ingest", "--cameras", "64,128,256", "--rounds", str(rounds),
              "--markdown", str(LOGS / "ingest.md"), "--svg", str(LOGS / "ingest.svg"))
    fuzz = (sys.executable, str(ROOT / "scripts" / "fuzz.py"), *targets, "--seconds", str(fuzz_s))
    return [Step("demo", demo), Step("bench-ingest", ingest), Step("fuzz", fuzz, limit_s=STEP_S + FUZZ_TARGETS * fuzz_s),
            Step("tests", soak, limit_s=STEP_S + kills * KILL_S)]


def run(step: Step) -> Step:
    """Runs one step to its log."""
    began = time.monotonic()
    print(f"soak: {step.name}: {' '.join(Path(word).name if word.startswith('/') else word for word in step.command)}", flush=True)
    with (LOGS / f"{step.name}.log").open("wb") as log:
        try:
            code = subprocess.run(step.command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                  timeout=step.limit_s, check=False, env=os.environ | {"PYTHONUNBUFFERED": "1"}).returncode
        except subprocess.TimeoutExpired:
            code = 124
    done = replace(step, code=code, seconds=time.monotonic() - began, when=time.strftime("%Y-%m-%d %H:%M", time.gmtime()), commit=commit())
    (LOGS / f"{step.name}.json").write_text(json.dumps(asdict(done)))
    print(f"soak: {step.name}: {'passed' if code == 0 else f'FAILED ({code})'} in {done.seconds:.0f} s", flush=True)
    return done


def git(*words: str) -> str:
    """What git says, in one line."""
    return subprocess.run(("git", *words), cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def commit() -> str:
    """The commit that is checked out, and whether anything differs from it."""
    return git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain", "--untracked-files=no") else "")


def known(name: str) -> Step | None:
    """How a step ended that was run last, now or before."""
    path = LOGS / f"{name}.json"
    return Step(**json.loads(path.read_text())) if path.exists() else None


def machine() -> str:
    """The machine in a line, without its name."""
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return f"{os.cpu_count()} x {cpu}, kernel {platform.release().partition('-')[0]}, Python {platform.python_version()}"


def tests(xml: Path) -> Iterator[tuple[str, list[str]]]:
    """Of each test its name, how it ended, its seconds and what it measured."""
    for case in ElementTree.parse(xml).iter("testcase"):  # noqa: S314  (our own file)
        bad = [kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None]
        figures = ", ".join(f"{found.get('name')} {found.get('value')}" for found in case.iter("property"))
        name = f"{case.get('classname', '').removeprefix('tests.')}: {case.get('name')}"
        yield name, [bad[0].upper() if bad else "passed", f"{float(case.get('time', 0)):.0f}", figures]


def remember_tests(step: Step) -> None:
    """Add what the run says of each of its tests to what is known of all."""
    if (LOGS / "soak.xml").exists():
        found = {name: [*words, step.when, step.commit] for name, words in tests(LOGS / "soak.xml")}
        _write_rows("tests-known", _rows("tests-known") | found)


def _rows(name: str) -> dict[str, list[str]]:
    path = LOGS / f"{name}.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _write_rows(name: str, rows: dict[str, list[str]]) -> None:
    (LOGS / f"{name}.json").write_text(json.dumps(rows))


def _table(title: str, name: str, *columns: str) -> list[str]:
    """A row for each thing known, under its title; nothing if nothing is known."""
    rows = [f"| {thing} | {' | '.join(words)} |" for thing, words in sorted(_rows(name).items())]
    head = [f"## {title}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return [*head, *rows, ""] if rows else []


def page(done: list[Step]) -> str:
    """The page."""
    lines = ["# Soak", "", "Written by `make soak`. Ratios count; absolute times belong to the machine.", "",
             f"{machine()}.", "",
             "| step | result | seconds | ended, UTC | commit |", "|---|---|---|---|---|",
             *(f"| {step.name} | {_result(step)} | {step.seconds:.0f} | {step.when} | {step.commit} |" for step in done), ""]
    for step in done:
        lines += SECTIONS[step.name]()
    return "\n".join(lines)


def _result(step: Step) -> str:
    return "passed" if step.code == 0 else "FAILED"


def _log(title: str, name: str, count: int) -> list[str]:
    return [f"## {title}", "```", *(LOGS / f"{name}.log").read_text(errors="replace").strip().splitlines()[-count:], "```", ""]


def remember_fuzz(step: Step, fuzz_s: float) -> None:
    """Add what the run says of each of its targets to what is known of all."""
    found = FUZZED.findall((LOGS / "fuzz.log").read_text(errors="replace"))
    ended = {target: [result, words, f"{fuzz_s:.0f}", step.when, step.commit] for target, result, words in found}
    _write_rows("fuzz-targets", _rows("fuzz-targets") | ended)


def _fuzz() -> list[str]:
    return _table("Fuzz targets, with the debug kernels", "fuzz-targets", "target", "result", "inputs", "seconds", "ended, UTC", "commit")


def _ingest() -> list[str]:
    path = LOGS / "ingest.md"
    return ["## Ingest", path.read_text().strip(), ""] if path.exists() else []


def _tests() -> list[str]:
    return _table("Tests", "tests-known", "test", "result", "seconds", "figures", "ended, UTC", "commit")


SECTIONS = {
    "demo": lambda: _log("Demo", "demo", 24), "bench-ingest": _ingest, "fuzz": _fuzz, "tests": _tests,
}
FILES = {"bench-ingest": ("ingest.md", "ingest.svg"), "tests": ("soak.xml",)}      # gone when a step is run again


def main() -> int:
    """Runs everything and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fuzz-seconds", type=float, default=600.0, help="of each fuzz target (default 600)")
    parser.add_argument("--fuzz-target", action="append", default=[], help="only this fuzz target (may be given again)")
    parser.add_argument("--rounds", type=int, default=2, help="clean windows of each subject of the ingest benchmark (default 2)")
    parser.add_argument("--kills", type=int, default=200, help="recorders that are killed, at any time and step (default 200)")
    parser.add_argument("--copies", type=int, default=200, help="file system images that are recovered, ext4 and XFS together (default 200)")
    parser.add_argument("--test", action="append", default=[], help="only the tests of this file or folder (may be given again)")
    parser.add_argument("--step", action="append", choices=list(SECTIONS), help="run only this step (may be given again)")
    args = parser.parse_args()
    LOGS.mkdir(parents=True, exist_ok=True)
    every = steps(args.fuzz_seconds, args.fuzz_target, args.rounds, args.kills, args.copies, args.test)
    chosen = [step for step in every if not args.step or step.name in args.step]
    for step in chosen:
        for name in (f"{step.name}.json", *FILES.get(step.name, ())):
            (LOGS / name).unlink(missing_ok=True)
    done = [run(step) for step in chosen]
    for step in (step for step in done if step.name == "fuzz"):
        remember_fuzz(step, args.fuzz_seconds)
    for step in (step for step in done if step.name == "tests"):
        remember_tests(step)
    PAGE.write_text(page([found for name in SECTIONS if (found := known(name)) is not None]))
    print(f"soak: wrote {PAGE.relative_to(ROOT)}")
    return 1 if any(step.code for step in done) else 0


if __name__ == "__main__":
    sys.exit(main())
