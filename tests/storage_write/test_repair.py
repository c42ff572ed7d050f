"""`check --repair`: everything that was recorded is there again, whatever was out of place lies aside, and nothing is deleted."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from held import NS, hold
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




def lines_of(rig: Rig, level: int = 1) -> list[str]:
    return [f"{finding.where}: {finding.what}" for finding in check_volume(rig.path, rig.live, level=level).findings]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def edited(path: Path) -> None:
    path.write_text(path.read_text().replace('"audio"', '"video"').replace('"fill_value": 0', '"fill_value": 1'))


DOCUMENTS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a cut track": ("cam-1/main", cut, "is not JSON"),
    "a lost track": ("cam-1/audio", lambda path: path.unlink(), "is missing"),
    "an edited track": ("cam-1/audio", edited, "changed by somebody else"),
    "a track that says too little": ("cam-1/main", lambda path: path.write_text("{}"), "is not a track of this format"),
    "a lost group": ("cam-1", lambda path: path.unlink(), "is not the group it should be"),
    "a cut group": (".", cut, "is not the group it should be"),
}


@pytest.mark.parametrize("journal", [True, False])
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_damaged_document_is_found_and_written_anew(make_rig: Make, kind: str, journal: bool) -> None:
    folder, damage, what = DOCUMENTS[kind]
    rig, sent = stopped(make_rig)
    file = rig.path / "tape.zarr" / folder / "zarr.json"
    before = file.read_text()
    damage(file)
    left = file.read_bytes() if file.exists() else None
    where = str(file.relative_to(rig.path))
    assert any(line.startswith(where) and what in line for line in lines_of(rig))
    if not journal:
        shutil.rmtree(rig.path / "slot-0")
    done = repair(rig)
    assert (done.documents, done.left) == ([where], [])
    assert file.read_text() == before
    assert [(one.where, (rig.path / one.to).read_bytes()) for one in done.moved] == ([(where, left)] if left is not None else [])
    assert lines_of(rig, 3) == []
    again = make_rig()
    for name, aus in sent.items():
        assert tape(again.path, again, name=name) == aus
    again.close()


def test_a_track_that_no_journal_knows_is_found_and_taken_in(make_rig: Make, tmp_path: Path) -> None:
    """Its files were copied here by somebody, or the journal was put back from an older copy: no rule reached it, and nothing told."""
    rig, sent = stopped(make_rig)
    (tmp_path / "other").mkdir()
    other = Rig(tmp_path / "other", tmp_path / "live-2")
    _, camera = other.track(9, size=70_000)
    other.run(camera, 450)
    other.close()
    shutil.copytree(other.path / track_path(9, "main").rpartition("/")[0], rig.path / track_path(9, "main").rpartition("/")[0])
    shutil.copytree(other.path / "idx/cam-9", rig.path / "idx/cam-9")
    (line,) = lines_of(rig)
    assert line.startswith("tape.zarr/cam-9/main: no journal knows it")
    assert not check_volume(rig.path, rig.live).clean
    done = repair(rig)
    assert (done.adopted, done.left) == (["tape.zarr/cam-9/main"], [])
    assert lines_of(rig, 3) == []
    again = make_rig()
    assert tape(again.path, again, 9) == camera.sent
    assert tape(again.path, again, name="main") == sent["main"]
    again.close()


def test_nobody_takes_a_new_track_for_unknown_while_it_records(make_rig: Make) -> None:
    rig = make_rig()
    rig.track(3)
    assert lines_of(rig) == []


def test_a_folder_of_which_nothing_tells_what_it_is_is_left(make_rig: Make) -> None:
    rig, _ = stopped(make_rig)
    (rig.path / "tape.zarr/cam-1/sub/c").mkdir(parents=True)
    assert lines_of(rig) == [], "the power failed while it was made"
    (rig.path / "tape.zarr/cam-1/sub/c/0").write_bytes(b"nothing")
    assert [line for line in lines_of(rig) if "cam-1/sub/zarr.json: is missing" in line]
    done = repair(rig)
    assert len(done.left) == 1 and "cam-1/sub" in done.left[0]


def test_the_document_of_what_holds_have_kept_is_written_anew(make_rig: Make) -> None:
    rig = make_rig(bytes_max=20 << 20, quarantine_s=0.0)
    _, camera = rig.track(name="audio", kind=TrackKind.AUDIO, size=20_000, gop=1, fps=10)
    for round_ in range(160):
        camera.put(10)
        rig.turn()
        rig.clock.advance(1)
        if round_ == 40:
            rig.slot.hold(hold(1, camera.start_ns + 10 * NS, camera.start_ns + 20 * NS))
    rig.close()
    file = rig.path / "tape.zarr/cam-1/audio.held/zarr.json"
    before = file.read_text()
    cut(file)
    assert lines_of(rig) == ["tape.zarr/cam-1/audio.held/zarr.json: is not JSON"]
    assert repair(rig).documents == ["tape.zarr/cam-1/audio.held/zarr.json"]
    assert file.read_text() == before
    assert lines_of(rig, 3) == []
