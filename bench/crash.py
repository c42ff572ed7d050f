"""`watchroom bench crash`: power cuts at random moments of a recording, on real file systems, with what had not been flushed torn.

A minute of recording goes round a small volume once and more (chunks taken, sealed, retired and used again, journal segments recycled) on a
disk that logs every write and flush. Each cut keeps a random part of the writes since the last flush, torn at sectors; the file system is
then mounted as after a reboot, the volume recovered and recorded on, every AU read, and `check` run at its hardest.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.powercut.disk import MAKE, PowerDisk
from bench.powercut.footage import Promise, Recording, judge


@dataclass(slots=True)
class Outcome:
    """Of one file system. `faults`: a cut's place in the log and seed, and what was wrong."""

    file_system: str
    entries: int = 0
    promises: int = 0
    cuts: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.description = __doc__
    parser.add_argument("--cuts", type=int, default=200, metavar="N", help="power cuts on each file system (200)")
    parser.add_argument("--file-systems", default="ext4,xfs", metavar="A,B", help="of ext4 and xfs (both)")
    parser.add_argument("--turns", type=int, default=220, metavar="N", help="length of the recording in 0.4 s (220)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed gives the same recording and cuts (1)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the disks lie (the system's folder for temporary files)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcome down")


def main(args: argparse.Namespace) -> int:
    """Runs it; 0 if nothing acknowledged was lost and nothing else served."""
    kinds = args.file_systems.split(",")
    if unknown := [kind for kind in kinds if kind not in MAKE]:
        sys.stderr.write(f"bench crash: file system {unknown[0]!r} is not known; take {' or '.join(MAKE)}\n")
        return 2
    outcomes = [run(kind, args) for kind in kinds]
    for outcome in outcomes:
        sys.stdout.write(f"{outcome.file_system}: {outcome.cuts} power cuts in {outcome.entries} writes and flushes, {outcome.promises} "
                         f"commits acknowledged: {len(outcome.faults)} at fault, {outcome.seconds:.0f} s\n")
        sys.stdout.writelines(f"  {fault}\n" for fault in outcome.faults[:20])
    if args.json:
        args.json.write_text(json.dumps([_plain(outcome) for outcome in outcomes], indent=2) + "\n")
    return 1 if any(outcome.faults for outcome in outcomes) else 0


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {name: getattr(outcome, name) for name in Outcome.__slots__}


def run(kind: str, args: argparse.Namespace) -> Outcome:
    """Record on one file system, then cut its power as often as wanted."""
    folder = Path(tempfile.mkdtemp(prefix="powercut-", dir=args.folder))
    began = time.monotonic()
    outcome = Outcome(kind)
    disk = PowerDisk(folder, kind)
    try:
        promises = _record(disk, folder / "live", args.turns)
        outcome.entries, outcome.promises = int(disk.ask("recorded")), len(promises)
        dice = random.Random(args.seed)  # noqa: S311
        for at in sorted(dice.randint(1, outcome.entries) for _ in range(args.cuts)):
            seed = dice.getrandbits(32)
            faults = _cut(disk, folder / "cutlive", at, seed, promises)
            outcome.cuts += 1
            outcome.faults += [f"cut {at}, seed {seed}: {fault}" for fault in faults]
            if outcome.cuts % 50 == 0:
                seconds = time.monotonic() - began
                sys.stderr.write(f"{kind}: {outcome.cuts} of {args.cuts} cuts, {len(outcome.faults)} at fault, {seconds:.0f} s\n")
    finally:
        disk.close()
        shutil.rmtree(folder, ignore_errors=True)
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def _record(disk: PowerDisk, live: Path, turns: int) -> list[dict[str, Promise]]:
    """The promises in order; number n was made at mark n."""
    promises: list[dict[str, Promise]] = []
    with disk.mounted() as point:
        recording = Recording(point, live)
        for turn in range(turns):
            promised = recording.turn(commit=turn % 3 != 2)
            if promised is not None:
                promises.append(promised)
                disk.ask(f"mark {len(promises) - 1}")
        promises.append(recording.settle())
        disk.ask(f"mark {len(promises) - 1}")
        recording.close()
    return promises


def _cut(disk: PowerDisk, live: Path, at: int, seed: int, promises: list[dict[str, Promise]]) -> list[str]:
    name, mark = disk.ask(f"cut {at} {seed}").split()
    number = int(mark)
    shutil.rmtree(live, ignore_errors=True)
    live.mkdir()
    promised = promises[number] if number >= 0 else {}
    later = promises[min(number + 1, len(promises) - 1)]
    try:
        with disk.mounted(name) as point:
            return judge(point, live, promised, later, max(p.end for p in promises[-1].values()) + 100)
    except subprocess.CalledProcessError as error:
        return [f"the file system could not be mounted: {error}"]
    except Exception as error:
        return [f"recovery failed: {type(error).__name__}: {error}"]
    finally:
        disk.ask(f"forget {name}")
