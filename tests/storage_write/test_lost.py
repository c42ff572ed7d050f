"""Indexes, journals and heads that are deleted, garbled or half written: what was recorded is there again, every AU and every row of it."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rig import Camera, Rig, tape

from recorder.base.media import GapCause, TrackKind
from storage.check import check_volume
from storage.layout import CHUNK_HEAD, CHUNK_HEAD_AT, PAGE, track_path
from storage.store import TapeStore

Make = Callable[..., Rig]
SEEDS = range(3)
KINDS = {"main": TrackKind.VIDEO, "audio": TrackKind.AUDIO}
END = 1 << 62


def recorded(make_rig: Make, rng: random.Random) -> tuple[Rig, dict[str, Camera]]:
    """A slot with video and audio, chunks sealed and open, several journal segments."""
    rig = make_rig(journal_bytes=1 << 18)
    made = {"main": rig.track(size=rng.randrange(20_000, 90_000))[1],
            "audio": rig.track(name="audio", kind=TrackKind.AUDIO, size=rng.randrange(3_000, 9_000), gop=1, fps=5)[1]}
    for _ in range(rng.randrange(30, 45)):
        for camera in made.values():
            camera.put(10)
        rig.turn()
    return rig, made


def forget_live(rig: Rig) -> None:
    for file in rig.live.iterdir():
        file.unlink()


def rows_of(rig: Rig, name: str) -> list[bytes]:
    """The rows as a reader without a recorder is given them."""
    store = TapeStore([rig.path], rig.live)
    try:
        run = store.track(1, name).rows(0, END, provisional=True)
        return [row.tobytes() for row in run.rows]
    finally:
        store.close()


def garble(path: Path, rng: random.Random, at: int = 0, size: int | None = None) -> None:
    """Random bytes over a piece of the file."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(rng.randbytes(min(path.stat().st_size - at, size or 1 << 20)))


def lose(path: Path, rng: random.Random) -> None:
    """The file is deleted, cut, or garbled from its first byte on."""
    match rng.randrange(3):
        case 0:
            path.unlink()
        case 1:
            os.truncate(path, rng.randrange(200))
        case _:
            garble(path, rng)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("end", [Rig.close, Rig.crash])
def test_lost_or_garbled_rings_are_made_again_row_by_row(make_rig: Make, end: Callable[[Rig], None], seed: int) -> None:
    rng = random.Random(seed)
    rig, made = recorded(make_rig, rng)
    if end is Rig.close:
        rig.close()
    known = {name: rows_of(rig, name) for name in made}
    if end is Rig.crash:
        rig.crash()
    forget_live(rig)
    for name in made:
        for suffix in rng.sample(["ring", "frames"], rng.randrange(1, 3)):
            lose(rig.path / f"idx/cam-1/{name}.{suffix}", rng)
    again = make_rig()
    for name, camera in made.items():
        assert tape(again.path, again, name=name) == camera.sent
        found = rows_of(again, name)
        assert found[:-1] == known[name][:-1]
        assert len(found) == len(known[name])
    again.close()
    assert check_volume(again.path, again.live, level=3).clean


@pytest.mark.parametrize("seed", SEEDS)
def test_a_journal_lost_after_an_orderly_stop_costs_nothing(make_rig: Make, seed: int) -> None:
    rng = random.Random(seed)
    rig, made = recorded(make_rig, rng)
    rig.close()
    known = {name: rows_of(rig, name) for name in made}
    forget_live(rig)
    segments = sorted((rig.path / "slot-0/journal").iterdir())
    if rng.random() < 0.5:
        shutil.rmtree(rig.path / "slot-0")
    else:
        for segment in segments:
            garble(segment, rng)
    again = make_rig()
    for name, camera in made.items():
        _, second = again.track(name=name, kind=KINDS[name], **({"gop": 1, "fps": 5} if name == "audio" else {}))
        assert tape(again.path, again, name=name) == camera.sent
        assert rows_of(again, name) == known[name]
        second.au = 5000
        again.run(second, 60)
        assert tape(again.path, again, name=name) == camera.sent + second.sent
        store = TapeStore([again.path], again.live)
        assert [g.cause for g in store.track(1, name).gaps(0, END)] in ([GapCause.STOPPED], []), "the gap that the stop opened goes on"
        store.close()
    again.crash()
    third = make_rig()
    for name, camera in made.items():
        assert tape(third.path, third, name=name)[:len(camera.sent)] == camera.sent
    third.close()
    assert [f for f in check_volume(third.path, third.live, level=3).findings if f.severity == "error"] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_journal_lost_in_a_crash_costs_only_what_no_ring_held_yet(make_rig: Make, seed: int) -> None:
    rng = random.Random(seed)
    rig, made = recorded(make_rig, rng)
    sealed = {name: rig.slot._works[1, name].safe_row for name in made}
    rig.crash()
    forget_live(rig)
    shutil.rmtree(rig.path / "slot-0")
    again = make_rig()
    for name, camera in made.items():
        again.track(name=name, kind=KINDS[name])
        assert again.core(name=name).next_row >= sealed[name]
        found = tape(again.path, again, name=name)
        assert found == camera.sent[:len(found)]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("way", ["deleted", "garbled"])
def test_a_journal_without_its_newest_segments_does_not_cost_sealed_chunks(make_rig: Make, seed: int, way: str) -> None:
    """Recovery took chunks that it did not know for files on their way, and gave them to the pool."""
    rng = random.Random(seed)
    rig, made = recorded(make_rig, rng)
    old = rig.path.with_name("old")
    shutil.copytree(rig.path / "slot-0/journal", old)
    for _ in range(60):
        for camera in made.values():
            camera.put(10)
        rig.turn()
    rig.close()
    forget_live(rig)
    journal = rig.path / "slot-0/journal"
    shutil.rmtree(journal)
    shutil.copytree(old, journal)
    if way == "garbled":
        newest = max(file for file in journal.iterdir() if any(file.read_bytes()))
        garble(newest, rng, newest.stat().st_size // 2)
    again = make_rig()
    for name, camera in made.items():
        assert tape(again.path, again, name=name) == camera.sent
    again.close()
    assert check_volume(again.path, again.live, level=3).clean


@pytest.mark.parametrize("seed", SEEDS)
def test_a_half_written_head_of_an_open_chunk_is_written_again(make_rig: Make, seed: int) -> None:
    rng = random.Random(seed)
    rig, made = recorded(make_rig, rng)
    rig.crash()
    for name in made:
        folder = rig.path / track_path(1, name) / "c"
        chunk = folder / str(max(int(file.name) for file in folder.iterdir()))
        at = CHUNK_HEAD_AT + rng.randrange(CHUNK_HEAD.itemsize - 8)
        garble(chunk, rng, at, PAGE - at)
    again = make_rig()
    for name, camera in made.items():
        assert tape(again.path, again, name=name) == camera.sent
        _, second = again.track(name=name, kind=KINDS[name], **({"gop": 1, "fps": 5} if name == "audio" else {}))
        second.au = 5000
        again.run(second, 30)
        assert tape(again.path, again, name=name) == camera.sent + second.sent
    again.close()
    assert check_volume(again.path, again.live, level=3).clean


@pytest.mark.parametrize("seed", SEEDS)
def test_half_written_last_pages_of_the_rings_are_written_again(make_rig: Make, seed: int) -> None:
    rng = random.Random(seed)
    rig, made = recorded(make_rig, rng)
    sealed = {name: rig.slot._works[1, name].safe_row for name in made}
    rig.crash()
    forget_live(rig)
    for name in made:
        garble(rig.path / f"idx/cam-1/{name}.ring", rng, PAGE + sealed[name] * 64, 8192)
    again = make_rig()
    for name, camera in made.items():
        assert tape(again.path, again, name=name) == camera.sent
    again.close()
    assert check_volume(again.path, again.live, level=3).clean


@pytest.mark.parametrize("seed", SEEDS)
def test_a_half_written_last_record_costs_only_itself(make_rig: Make, seed: int) -> None:
    rng = random.Random(seed)
    rig, made = recorded(make_rig, rng)
    before = {name: len(camera.sent) for name, camera in made.items()}
    start = rig.slot._journal._at
    for camera in made.values():
        camera.put(10)
    rig.turn()
    journal, stop = rig.slot._journal, rig.slot._journal._at
    segment = rig.path / f"slot-0/journal/{journal.segments[-1].number:08d}"
    rig.crash()
    forget_live(rig)
    start = start if start < stop else 0
    garble(segment, rng, start + rng.randrange(8, stop - start), stop - start)
    again = make_rig()
    for name, camera in made.items():
        found = tape(again.path, again, name=name)
        assert found == camera.sent[:len(found)]
        assert len(found) >= before[name] - (10 if start == 0 else 0)
