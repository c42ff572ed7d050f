"""A repair that the disk, a person or another volume ends: what it had done is told, nothing is lost, and the next one finishes it."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig import Rig, tape

from recorder.__main__ import main
from recorder.base.media import TrackKind
from storage import steps
from storage.layout import track_path
from storage.steps import Step

Make = Callable[..., Rig]
CHUNKS = track_path(1, "audio") + "/c"
INTERRUPTED, STORAGE = 130, 7


def damaged(make_rig: Make, path: Path) -> tuple[Rig, list[bytes]]:
    """A stopped volume with a stray file and without indexes."""
    rig = make_rig(path=path, bytes_max=20 << 20)
    _, audio = rig.track(name="audio", kind=TrackKind.AUDIO, size=20_000, gop=1, fps=10)
    rig.run(audio, 200)
    rig.close()
    for file in rig.live.iterdir():
        file.unlink()
    (path / CHUNKS / "stray").write_text("mine")
    shutil.rmtree(path / "idx")
    return rig, audio.sent


def check(rig: Rig, *words: str, others: tuple[Path, ...] = ()) -> int:
    return main(["check", str(rig.path), *map(str, others), "--live-dir", str(rig.live), *words])


def all_there(make_rig: Make, rig: Rig, sent: list[bytes]) -> None:
    again = make_rig(path=rig.path, bytes_max=20 << 20)
    assert tape(again.path, again, name="audio") == sent
    again.close()


@pytest.mark.parametrize("step", [Step.RING_RENAMED, Step.RECOVERED_RINGS, Step.RECOVERED_FILES])
@pytest.mark.parametrize("json", [(), ("--json",)])
def test_an_interrupted_repair_tells_what_it_did_and_the_next_one_finishes(make_rig: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path,
                                                                           step: Step, json: tuple[str, ...]) -> None:
    rig, sent = damaged(make_rig, tmp_path / "volume")

    def interrupt(taken: Step) -> None:
        if taken is step:
            steps.hook = None
            raise KeyboardInterrupt

    steps.hook = interrupt
    try:
        assert check(rig, "--repair", *json) == INTERRUPTED
    finally:
        steps.hook = None
    assert f"{CHUNKS}/stray" in capsys.readouterr().out
    assert check(rig, "--repair", "--level", "3") == 0
    out = capsys.readouterr().out
    assert "/stray" not in out and ": clean: " in out
    all_there(make_rig, rig, sent)


def test_a_second_volume_that_is_in_use_hides_nothing_of_the_first(make_rig: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    used = make_rig(path=tmp_path / "used")
    rig, sent = damaged(make_rig, tmp_path / "volume")
    assert check(rig, "--repair", others=(used.path,)) == STORAGE
    said = capsys.readouterr()
    assert f"{rig.path}: moved {CHUNKS}/stray to aside/" in said.out
    assert f"{used.path}: the volume is in use" in said.err
    all_there(make_rig, rig, sent)


def test_a_volume_that_is_missing_is_said_before_any_is_read(make_rig: Make, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rig, _ = damaged(make_rig, tmp_path / "volume")
    assert check(rig, "--repair", others=(tmp_path / "none",)) == STORAGE
    said = capsys.readouterr()
    assert said.out == "" and f"{tmp_path}/none: no such folder" in said.err
    assert (rig.path / CHUNKS / "stray").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system of 64 MiB."""
    point = tmp_path / "small"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", point], check=True)
    yield point
    subprocess.run(["umount", point], check=True)


@pytest.mark.disk
def test_a_repair_for_which_the_disk_has_no_room_loses_nothing_and_goes_on_later(make_rig: Make, capsys: pytest.CaptureFixture[str],
                                                                                  small_disk: Path) -> None:
    rig, sent = damaged(make_rig, small_disk / "volume")
    fill = small_disk / "fill"
    with pytest.raises(OSError, match="No space"), fill.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    before = {path.stat().st_ino for path in rig.path.rglob("*") if path.is_file()}
    assert check(rig, "--repair") == STORAGE
    said = capsys.readouterr()
    assert said.err.startswith(f"watchroom: {rig.path}: ") and "No space left on device; " in said.err
    assert f"moved {CHUNKS}/stray" in said.out or (rig.path / CHUNKS / "stray").exists()
    assert before <= {path.stat().st_ino for path in rig.path.rglob("*") if path.is_file()}
    fill.unlink()
    assert check(rig, "--repair", "--level", "3") == 0
    all_there(make_rig, rig, sent)


@pytest.mark.disk
def test_a_read_only_volume_is_checked_and_not_repaired(make_rig: Make, capsys: pytest.CaptureFixture[str], small_disk: Path) -> None:
    rig, _ = damaged(make_rig, small_disk / "volume")
    assert check(rig, "--repair") == 0
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert check(rig, "--level", "3") == 0
    assert check(rig, "--repair") == STORAGE
    assert "the volume is read-only; mount it writable" in capsys.readouterr().err
