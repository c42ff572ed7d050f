"""Every fuzz target holds on its corpus and on some hundred inputs made from it; the long run is scripts/fuzz.py."""

import os
import random
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import mutation
import pytest
from engine import Current, Failure, attempt, fuzz, read_current
from targets import TARGETS, Target

ROOT = Path(__file__).resolve().parents[2]
INPUTS = 250


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_inputs_keep_what_must_hold(name: str) -> None:
    target = TARGETS[name]
    done = fuzz(target, lambda progress: progress.inputs < len(target.seeds()) + INPUTS, zlib.crc32(name.encode()))
    assert len(done.behaviours) > 5, "inputs that all behave alike test nothing"


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_is_small_and_does_something(name: str) -> None:
    seeds = TARGETS[name].seeds()
    assert seeds
    assert all(len(seed) <= 64 << 10 for seed in seeds)
    nothing = attempt(TARGETS[name], b"")
    assert any(attempt(TARGETS[name], seed) != nothing for seed in seeds)


def test_the_same_seed_gives_the_same_inputs() -> None:
    target, runs = TARGETS["sdp"], []
    for _ in range(2):
        seen: list[bytes] = []
        fuzz(target, lambda progress: progress.inputs < 60, 7, seen.append)
        runs.append(seen)
    assert runs[0] == runs[1]
    assert len(set(runs[0])) > 40


@pytest.mark.parametrize("mutate", [mutation.bytes_of, mutation.lines, mutation.packets, mutation.frames])
def test_every_mutator_takes_any_bytes_and_keeps_the_size_bounded(mutate: mutation.Mutator) -> None:
    rng = random.Random(3)
    for size in (0, 1, 2, 5, 60, 5000, mutation.SIZE_MAX):
        for _ in range(40):
            assert len(mutate(rng, rng.randbytes(size), rng.randbytes(200), [b"token"])) <= mutation.SIZE_MAX


def test_a_pack_comes_back_as_it_was() -> None:
    packets = [b"", b"a", b"bc" * 700]
    assert [packet for _, packet in mutation.unpack(mutation.pack(packets))] == packets
    assert mutation.unpack(b"\0\5\1ab") == [(1, b"ab")]


def test_a_broken_promise_is_told_with_its_input() -> None:
    def run(data: bytes) -> int:
        assert b"x" not in data, "an x"
        return 0

    target = Target("none", run, mutation.bytes_of, [b"x"])
    object.__setattr__(target, "name", "sdp")
    with pytest.raises(Failure, match="an x") as caught:
        fuzz(target, lambda _: True, 1)
    assert b"x" in caught.value.data


WAYS = {"crash": "os.kill(os.getpid(), 11)", "abort": "os.abort()", "hang": "time.sleep(10**6)", "exit": "sys.exit(3)"}


@pytest.mark.parametrize("way", WAYS)
def test_what_crashed_or_hung_a_process_is_found(way: str, tmp_path: Path) -> None:
    folders = [str(ROOT / "tests" / "fuzz"), str(ROOT / "tests" / "kernels"), str(ROOT)]
    code = (f"import os, sys, time, pathlib\nsys.path[:0] = {folders!r}\n"
            f"from engine import Current\ncurrent = Current(pathlib.Path(sys.argv[1]))\n"
            f"current.put(b'fine')\ncurrent.put(b'culprit')\n{WAYS[way]}")
    run = subprocess.run([sys.executable, "-c", "import sys\nsys.path.insert(0, 'scripts')\nimport fuzz\nfrom pathlib import Path\n"
                          "sys.exit(fuzz.watch('sdp', sys.argv[2:], Path(sys.argv[1]), quiet_s=3.0))",
                          str(tmp_path), sys.executable, "-c", code, str(tmp_path / "sdp.current")],
                         cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 1, run.stderr
    found = list(tmp_path.glob("sdp-*"))
    assert [path.read_bytes() for path in found] == [b"culprit"]
    assert str(found[0]) in run.stdout
    assert {"crash": signal.SIGSEGV.name, "abort": signal.SIGABRT.name, "hang": "hung", "exit": "exit code 3"}[way] in run.stdout


def test_a_short_run_of_a_target_passes(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "WATCHROOM_EXPECT_KERNELS"}
    run = subprocess.run([sys.executable, "scripts/fuzz.py", "transport", "--seconds", "1", "--found", str(tmp_path), "--kernels", "release"],
                         cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "transport: passed" in run.stdout
    assert not list(tmp_path.iterdir())


def test_nothing_is_in_work_before_the_first_input(tmp_path: Path) -> None:
    assert read_current(tmp_path / "none") == (0, b"")
    current = Current(tmp_path / "current")
    assert read_current(tmp_path / "current") == (0, b"")
    current.put(b"abc")
    current.put(b"z")
    assert read_current(tmp_path / "current") == (2, b"z")
