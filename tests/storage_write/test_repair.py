"""`check --repair`: everything that was recorded is there again, whatever was out of place lies aside, and nothing is deleted."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rig import Rig, tape

from recorder.__main__ import main
from recorder.base.clock import SystemClock
from recorder.base.errors import VolumeError
from recorder.base.media import TrackKind
from storage.check import check_volume
from storage.chunkfile import read_head
from storage.layout import PAGE, track_path
from storage.repair import Repair, repair_volume
from storage.volume import Volume

Make = Callable[..., Rig]
MAIN = track_path(1, "main") + "/c"


def stopped(make_rig: Make) -> tuple[Rig, dict[str, list[bytes]]]:
    """A volume with sealed chunks and what its tracks were sent; no server, no live file."""
    rig = make_rig()
    _, camera = rig.track(size=70_000)
    _, audio = rig.track(name="audio", kind=TrackKind.AUDIO, size=10_000, gop=1, fps=5)
    for _ in range(45):
        camera.put(10)
        audio.put(10)
        rig.turn()
    rig.close()
    for file in rig.live.iterdir():
        file.unlink()
    return rig, {"main": camera.sent, "audio": audio.sent}


def repair(rig: Rig) -> Repair:
    volume = Volume.open(rig.path, on_root=True)
    try:
        return repair_volume(volume, rig.live, SystemClock())
    finally:
        volume.close()


def sealed(rig: Rig, name: str) -> list[int]:
    found = []
    for file in (rig.path / track_path(1, name) / "c").iterdir():
        with file.open("rb") as opened:
            if read_head(opened.fileno(), "").sealed:
                found.append(int(file.name))
    return sorted(found)


def swap(rig: Rig) -> None:
    first, second = sealed(rig, "audio")[:2]
    folder = rig.path / track_path(1, "audio") / "c"
    (folder / str(first)).rename(rig.path / "between")
    (folder / str(second)).rename(folder / str(first))
    (rig.path / "between").rename(folder / str(second))


def poke(path: Path, at: int, size: int = 8) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(random.Random(at).randbytes(size))


def lost_head(rig: Rig, place: int) -> None:
    numbers = sealed(rig, "audio")
    poke(rig.path / track_path(1, "audio") / "c" / str(numbers[place]), 0, PAGE)


DAMAGE: dict[str, tuple[Callable[[Rig], object], str]] = {
    "nothing": (lambda r: None, ""),
    "a ring head": (lambda r: poke(r.path / "idx/cam-1/main.ring", 0), "idx/cam-1/main.ring"),
    "a ring's rows": (lambda r: poke(r.path / "idx/cam-1/audio.ring", PAGE, PAGE), ""),
    "frames": (lambda r: (r.path / "idx/cam-1/main.frames").write_bytes(b""), "idx/cam-1/main.frames"),
    "a log": (lambda r: poke(r.path / "idx/cam-1/main.log", 2, 40), ""),
    "all indexes": (lambda r: shutil.rmtree(r.path / "idx"), ""),
    "the journal": (lambda r: shutil.rmtree(r.path / "slot-0"), ""),
    "journal and indexes": (lambda r: (shutil.rmtree(r.path / "slot-0"), shutil.rmtree(r.path / "idx/cam-1")), ""),
    "swapped chunks": (swap, f"{track_path(1, 'audio')}/c/0"),
    "a head in the middle": (lambda r: lost_head(r, 1), ""),
    "the first head": (lambda r: lost_head(r, 0), ""),
    "a stranger": (lambda r: (r.path / MAIN / "0.bak").write_bytes(b"a copy"), MAIN + "/0.bak"),
    "a torn free file": (lambda r: (r.path / "slot-0/pool/torn").write_bytes(b"torn"), "slot-0/pool/torn"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_was_recorded_is_there_again(make_rig: Make, kind: str) -> None:
    rig, sent = stopped(make_rig)
    damage, moved = DAMAGE[kind]
    damage(rig)
    if kind == "journal and indexes":       # rows of chunks that are not sealed are nowhere any more
        sent = {name: aus[:-1] for name, aus in sent.items()}
    before = {path.relative_to(rig.path): path.stat().st_ino for path in rig.path.rglob("*") if path.is_file()}
    done = repair(rig)
    after = {path.stat().st_ino for path in rig.path.rglob("*") if path.is_file()}
    gone = [str(path) for path, number in before.items() if number not in after]
    assert not [path for path in gone if "/journal/" not in path and ".minutes/" not in path], "a file is gone that cannot be made again"
    assert not moved or moved in [one.where for one in done.moved]
    assert bool(done.moved) == bool(moved) or kind in ("a ring's rows", "a log"), done.moved
    assert not done.left
    for one in done.moved:
        assert (rig.path / one.to).exists() or one.to in [other.where for other in done.moved]
    report = check_volume(rig.path, rig.live, level=3)
    assert [finding for finding in report.findings if finding.severity == "error"] == []
    again = make_rig()
    for name, aus in sent.items():
        found = tape(again.path, again, name=name)
        assert found == aus if kind != "journal and indexes" else found == aus[:len(found)]
        assert found
    again.close()
    assert repair(rig).moved == [], "a second repair finds nothing to do"


def test_a_volume_in_use_is_not_repaired(make_rig: Make) -> None:
    rig = make_rig()
    with pytest.raises(VolumeError, match="in use"):
        repair(rig)


def test_what_went_aside_before_is_never_replaced(make_rig: Make) -> None:
    rig, _ = stopped(make_rig)
    texts = [b"one", b"two", b"three"]
    for text in texts:
        (rig.path / MAIN / "x").write_bytes(text)
        repair(rig)
    assert sorted(path.read_bytes() for path in (rig.path / "aside").rglob("x*")) == sorted(texts)


def test_the_command_repairs_tells_and_then_finds_the_volume_clean(make_rig: Make, capsys: pytest.CaptureFixture[str]) -> None:
    rig, _ = stopped(make_rig)
    poke(rig.path / "idx/cam-1/main.ring", 0)
    lost_head(rig, 1)
    common = ["check", str(rig.path), "--live-dir", str(rig.live)]
    assert main([*common]) == 1
    (rig.path / MAIN / "x").touch()
    capsys.readouterr()
    assert main([*common, "--repair"]) == 0
    out = capsys.readouterr().out
    assert f"moved {MAIN}/x to aside/" in out
    assert "wrote the head of" in out
    assert ": clean: " in out
    assert main([*common, "--repair", "--json", "--level", "3"]) == 0
    told = json.loads(capsys.readouterr().out)[str(rig.path)]
    assert told["clean"]
    assert told["repair"]["moved"] == []


