"""Power cuts: the disk's log by itself, and volumes on disks whose power fails."""

import argparse
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import crash
from bench.powercut.disk import PowerDisk
from bench.powercut.disklog import BLOCK, SECTOR, DiskLog, Flush, Mark, Write, get, put
from bench.powercut.footage import Promise, Recording, judge

SIZE = 16 * BLOCK
WRITES = st.lists(st.tuples(st.integers(0, SIZE - 1), st.binary(min_size=1, max_size=3 * BLOCK)), max_size=20)


@given(WRITES)
def test_blocks_laid_over_a_base_are_what_was_written(writes: list[tuple[int, bytes]]) -> None:
    base, blocks, model = bytearray(random.Random(1).randbytes(SIZE)), {}, bytearray(random.Random(1).randbytes(SIZE))
    for at, data in writes:
        piece = data[:SIZE - at]
        put(base, blocks, at, piece)
        model[at:at + len(piece)] = piece
    assert get(base, blocks, 0, SIZE) == model
    assert get(base, blocks, BLOCK - 7, BLOCK) == model[BLOCK - 7:2 * BLOCK - 7]
    assert base == random.Random(1).randbytes(SIZE)


@given(st.integers(0, 1 << 32), st.integers(1, 9))
def test_a_cut_keeps_what_was_flushed_and_tears_only_what_was_not(seed: int, at: int) -> None:
    entries = [Write(3 * BLOCK, b"a" * BLOCK), Flush(), Mark(0), Write(3 * BLOCK, b"b" * BLOCK), Write(BLOCK, b"c" * BLOCK), Flush(), Mark(1),
               Write(3 * BLOCK, b"d" * BLOCK), Write(2 * BLOCK, b"e" * 2 * SECTOR)]
    log = DiskLog(bytearray(SIZE), list(entries))
    blocks, mark = log.cut(at, random.Random(seed))
    assert mark == (-1 if at < 3 else 0 if at < 7 else 1)
    seen = get(log.base, blocks, 0, SIZE)
    older, newer = (b"\0", b"a") if at < 2 else (b"a", b"b") if at < 6 else (b"b", b"d")
    for sector in range(3 * BLOCK, 4 * BLOCK, SECTOR):
        assert seen[sector:sector + SECTOR] in {older * SECTOR, newer * SECTOR}
    if at >= 6:
        assert seen[BLOCK:2 * BLOCK] == b"c" * BLOCK
    assert not any(seen[2 * BLOCK + 2 * SECTOR:3 * BLOCK])


def test_the_first_block_arrives_whole_or_not_at_all() -> None:
    for seed in range(50):
        log = DiskLog(bytearray(SIZE), [Write(0, b"s" * 1024)])
        blocks, _ = log.cut(1, random.Random(seed))
        assert get(log.base, blocks, 0, 1024) in {bytes(1024), b"s" * 1024}


def test_cuts_in_rising_order_see_the_same_as_each_alone() -> None:
    dice = random.Random(3)
    entries = [Flush() if dice.random() < 0.2 else Write(dice.randrange(SIZE - 600), dice.randbytes(600)) for _ in range(60)]
    together = DiskLog(bytearray(SIZE), list(entries))
    for at in range(1, 60, 4):
        blocks, _ = together.cut(at, random.Random(at))
        alone = DiskLog(bytearray(SIZE), list(entries))
        others, _ = alone.cut(at, random.Random(at))
        assert get(together.base, blocks, 0, SIZE) == get(alone.base, others, 0, SIZE)


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Path, list[dict[str, Promise]]]:
    recording = Recording(tmp_path, tmp_path / "live")
    promises = [found for turn in range(12) if (found := recording.turn(commit=turn % 3 != 2)) is not None]
    recording.close()
    shutil.rmtree(tmp_path / "live")
    (tmp_path / "live").mkdir()
    return tmp_path, promises


def test_the_judge_finds_nothing_in_a_sound_volume(recorded: tuple[Path, list[dict[str, Promise]]]) -> None:
    folder, promises = recorded
    assert judge(folder, folder / "live", promises[-1], promises[-1], 1000) == []


def test_the_judge_sees_what_is_lost_and_what_is_garbage(recorded: tuple[Path, list[dict[str, Promise]]]) -> None:
    folder, promises = recorded
    more = {name: Promise(0, promise.end + 500) for name, promise in promises[-1].items()}
    assert any("acknowledged up to" in fault for fault in judge(folder, folder / "live", more, more, 1000))
    chunk = next((folder / "volume/tape.zarr/cam-1/main/c").iterdir())
    with chunk.open("r+b") as file:
        file.seek(4096 + 50_000)
        file.write(b"\xff" * 600)
    assert any("garbage" in fault for fault in judge(folder, folder / "live", promises[-1], promises[-1], 1000))


def cut(kind: str, cuts: int, folder: Path) -> crash.Outcome:
    assert os.geteuid() == 0 and Path("/dev/fuse").exists(), "root, /dev/fuse and loop devices are needed"
    parser = argparse.ArgumentParser()
    crash.add_arguments(parser)
    return crash.run(kind, parser.parse_args(["--cuts", str(cuts), "--folder", str(folder), "--seed", str(cuts)]))


@pytest.mark.disk
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_power_cuts_lose_nothing_acknowledged(kind: str, tmp_path: Path) -> None:
    outcome = cut(kind, 40, tmp_path)
    assert outcome.faults == []
    assert outcome.cuts == 40 and outcome.entries > 1000 and outcome.promises > 100


@pytest.mark.disk
@pytest.mark.soak
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_thousands_of_power_cuts_lose_nothing_acknowledged(kind: str, tmp_path: Path) -> None:
    outcome = cut(kind, 5000, tmp_path)
    assert outcome.faults == [] and outcome.cuts == 5000


@pytest.mark.disk
def test_a_cut_before_a_flush_lacks_what_a_cut_after_it_has(tmp_path: Path) -> None:
    disk = PowerDisk(tmp_path, "ext4")
    try:
        with disk.mounted() as point:
            (point / "kept").write_bytes(b"k" * 100_000)
            subprocess.run(["sync", "-f", point], check=True)
            disk.ask("mark 0")
        entries = int(disk.ask("recorded"))
        early, _ = disk.ask("cut 1 5").split()
        with disk.mounted(early) as point:
            assert not (point / "kept").exists()
        late, mark = disk.ask(f"cut {entries} 5").split()
        with disk.mounted(late) as point:
            assert (point / "kept").read_bytes() == b"k" * 100_000
        assert mark == "0"
    finally:
        disk.close()
