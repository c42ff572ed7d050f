"""Fuzzes the parsers of outside bytes: `fuzz.py [TARGET...] --seconds N`, each target in a process of its own, with the debug kernels.

What crashes, hangs or breaks a promise is written to a file that the last line names; `fuzz.py TARGET --input FILE` runs it again. A file that
was found goes into tests/fuzz/corpus/TARGET when its defect is mended. Exit 0 only if every target passed.
"""

import argparse
import importlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FUZZ = ROOT / "tests" / "fuzz"
DEBUG = ROOT / "build" / "debug"
FOUND = ROOT / "build" / "fuzz"
QUIET_S = 120.0         # without a new input: hung
START_S = 600.0         # until the first
LOOK_S = 0.2


def part(name: str) -> Any:
    """A module of tests/fuzz."""
    for folder in (FUZZ, ROOT / "tests" / "kernels"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    return importlib.import_module(name)


def save(found: Path, target: str, data: bytes) -> Path:
    """Keep an input; its file."""
    path = found / f"{target}-{blake2b(data, digest_size=6).hexdigest()}"
    path.write_bytes(data)
    return path


def child(target: str, seconds: float, seed: int, found: Path) -> int:
    """The process that runs one target."""
    engine, targets = part("engine"), part("targets")
    current, deadline = engine.Current(found / f"{target}.current"), time.monotonic() + seconds
    try:
        done = engine.fuzz(targets.TARGETS[target], lambda _: time.monotonic() < deadline, seed, current.put)
    except engine.Failure as failure:
        last = traceback.extract_tb(failure.__cause__.__traceback__)[-1] if failure.__cause__ else None
        print(f"{failure}{f' ({Path(last.filename).name}:{last.lineno}: {last.line})' if last else ''}", flush=True)
        return 4
    print(f"{done.inputs} inputs, {len(done.behaviours)} behaviours", flush=True)
    return 0


def watch(target: str, command: Sequence[str], found: Path, *, quiet_s: float = QUIET_S) -> int:
    """Run a child to its end, whatever that is; 1, a line and a file if it was not a good one."""
    read_current = part("engine").read_current
    found.mkdir(parents=True, exist_ok=True)
    current = found / f"{target}.current"
    current.unlink(missing_ok=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        why = _end_of(process, lambda: read_current(current)[0], quiet_s)
        said = (process.stdout.read() if process.stdout else "").strip().splitlines()
    number, data = read_current(current)
    current.unlink(missing_ok=True)
    if not why:
        print(f"fuzz: {target}: passed, {said[-1] if said else ''}", flush=True)
        return 0
    path = save(found, target, data)
    print(f"fuzz: {target}: FAILED at input {number}: {why}{': ' + said[-1] if said else ''}\nfuzz: {target}: the input is {path}", flush=True)
    return 1


def _end_of(process: "subprocess.Popen[str]", count: Any, quiet_s: float) -> str:
    """Why a process ended; "" for a good end. One that does nothing new for `quiet_s` is killed."""
    before, since = -1, time.monotonic()
    while process.poll() is None:
        now = count()
        if now != before:
            before, since = now, time.monotonic()
        elif time.monotonic() - since > (quiet_s if now else START_S):
            process.kill()
            process.wait()
            return "hung"
        time.sleep(LOOK_S)
    code = process.returncode
    if code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}" if code else ""


def again(target: str, path: Path) -> int:
    """Run one input in this process."""
    engine, targets = part("engine"), part("targets")
    print(engine.attempt(targets.TARGETS[target], path.read_bytes()))
    return 0


def kernels(which: str) -> dict[str, str]:
    """The environment in which children find these kernels."""
    if which == "release":
        return {"PYTHONPATH": str(ROOT)}
    importlib.import_module("gate").linked_debug_tree()
    return {"PYTHONPATH": str(DEBUG), "WATCHROOM_EXPECT_KERNELS": str(DEBUG)}


def main() -> int:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help="default: all")
    parser.add_argument("--seconds", type=float, default=600.0, help="of each target (default 600)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--found", type=Path, default=FOUND, help="folder of the inputs that failed")
    parser.add_argument("--kernels", choices=["debug", "release"], default="debug")
    parser.add_argument("--input", type=Path, help="run this one input")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(args.targets[0], args.seconds, args.seed, args.found)
    os.environ.update(kernels(args.kernels))
    if args.input:
        words = [sys.executable, "-c", "import sys; sys.path.insert(0, 'scripts'); import fuzz; from pathlib import Path; "
                 "fuzz.again(sys.argv[1], Path(sys.argv[2]))", args.targets[0], str(args.input)]
        return subprocess.run(words, cwd=ROOT, check=False).returncode
    known = [path.name for path in sorted((FUZZ / "corpus").iterdir())]
    chosen = args.targets or known
    if unknown := set(chosen) - set(known):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    print(f"fuzz: {len(chosen)} targets, {args.seconds:.0f} s each, seed {args.seed}, {args.kernels} kernels", flush=True)

    def one(target: str) -> int:
        return watch(target, [sys.executable, __file__, target, "--child", "--seconds", str(args.seconds), "--seed", str(args.seed),
                              "--found", str(args.found)], args.found)

    with ThreadPoolExecutor(args.jobs) as pool:
        return int(any(pool.map(one, chosen)))


if __name__ == "__main__":
    sys.exit(main())
