"""Whatever lies on a volume: `check` and `--repair` answer in lines that name it, and neither they nor a start lose what is not theirs."""

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from held import NS, hold
from rig import Rig, tape

from recorder.__main__ import main
from recorder.base.media import TrackKind
from storage import check_journal
from storage.layout import track_path
from storage.minuteread import of_tape
from storage.minutes import MINUTE_NS
from storage.store import TapeStore

Make = Callable[..., Rig]
AUDIO = track_path(1, "audio")
DEEP = b"[" * 50_000 + b"]" * 50_000
HOLD = "slot-0/holds/" + f"{1:032x}.json"
STORAGE = 7


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    """A volume with a hold and held chunks, of which no worker runs; and what its track was sent."""
    path = tmp_path_factory.mktemp("kept")
    rig = Rig(path, path.with_name("kept-live"), bytes_max=20 << 20, quarantine_s=0.0)
    _, audio = rig.track(name="audio", kind=TrackKind.AUDIO, size=20_000, gop=1, fps=10)
    for round_ in range(120):
        audio.put(10)
        rig.turn()
        rig.clock.advance(1)
        if round_ == 20:
            rig.slot.hold(hold(1, audio.start_ns + 5 * NS, audio.start_ns + 9 * NS))
    assert (rig.path / f"{AUDIO}.held/c").exists()
    rig.close()
    return path, audio.sent


@pytest.fixture
def path(kept: tuple[Path, list[bytes]], tmp_path: Path) -> Path:
    """A copy of it, where `make_rig` looks."""
    copied = shutil.copytree(kept[0], tmp_path / "volume")
    (tmp_path / "live").mkdir()
    return copied


@pytest.fixture
def sent(kept: tuple[Path, list[bytes]]) -> list[bytes]:
    """What its track was sent."""
    return kept[1]


def check(path: Path, *words: str) -> int:
    """`watchroom check` of it; the exit code."""
    return main(["check", str(path), "--live-dir", str(path.with_name("live")), *words])


def edited(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def filed(path: Path) -> None:
    """A file where a folder was."""
    shutil.rmtree(path)
    path.write_bytes(b"x")


def made_folder(path: Path) -> None:
    """A folder where a file was."""
    path.unlink()
    path.mkdir()


def moved_and_linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def newest_segment(path: Path) -> Path:
    return sorted((path / "slot-0/journal").iterdir())[-1]


VOLUME_JSON: dict[str, Callable[[Path], object]] = {
    "nested deep": lambda file: file.write_bytes(DEEP),
    "infinity": lambda file: edited(file, bytes_max=float("inf")),
    "a huge float": lambda file: file.write_text(file.read_text().replace('"bytes_max": ', '"bytes_max": 1e999, "was": ')),
    "no bytes": lambda file: edited(file, bytes_max=0),
    "negative": lambda file: edited(file, bytes_max=-5),
    "an impossible format": lambda file: edited(file, format=0),
    "orders to a terminal": lambda file: edited(file, created="\x1b[2Jnow\nor never"),
    "a folder": made_folder,
    "a pipe": lambda file: (file.unlink(), os.mkfifo(file)),
}


@pytest.mark.parametrize("kind", VOLUME_JSON)
@pytest.mark.parametrize("words", [["check"], ["check", "--repair"], ["volume", "show"], ["verify"]])
def test_a_volume_json_that_is_none_is_one_line(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str,
                                               words: list[str]) -> None:
    VOLUME_JSON[kind](path / "volume.json")
    signing = ["--heads", str(tmp_path), "--sign", str(tmp_path / "key")]
    more = {"check": ["--live-dir", str(tmp_path / "live")], "verify": signing, "volume": []}
    code = main([*words, str(path), *more[words[0]]])
    said = capsys.readouterr()
    assert code == (1 if words == ["check"] else STORAGE)
    lines = [line for line in (said.out + said.err).splitlines() if "cannot be understood" in line]
    assert len(lines) == 1
    assert "restore it from a backup" in lines[0]


ODD: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "zarr.json nested deep": (lambda p: (p / AUDIO / "zarr.json").write_bytes(DEEP), f"{AUDIO}/zarr.json", "error"),
    "a shape without end": (lambda p: edited(p / AUDIO / "zarr.json", shape=[float("inf")]), f"{AUDIO}/zarr.json", "error"),
    "a group nested deep": (lambda p: (p / "tape.zarr/cam-1/zarr.json").write_bytes(DEEP), "tape.zarr/cam-1/zarr.json", "error"),
    "no tracks": (lambda p: shutil.rmtree(p / "tape.zarr"), f"{AUDIO}: is gone", "error"),
    "a track moved away": (lambda p: (p / AUDIO).rename(p / "kept"), f"{AUDIO}: is gone", "error"),
    "a folder for a chunk": (lambda p: (p / AUDIO / "c/5").mkdir(), f"{AUDIO}/c/5: is no chunk", "warning"),
    "a chunk under a name of 30 digits": (lambda p: shutil.copy(a_chunk(p), p / AUDIO / "c" / ("9" * 30)), "is no chunk", "warning"),
    "digits of another script": (lambda p: (p / AUDIO / "c/²").touch(), f"{AUDIO}/c/²: is no chunk", "warning"),
    "a name of two lines": (lambda p: (p / AUDIO / "c/x\nwatchroom: clean").touch(), r"c/x\nwatchroom: clean: is no chunk", "warning"),
    "a name that is no text": (lambda p: (p / AUDIO / "c" / os.fsdecode(b"\xff\x1b[2J")).touch(), r"c/\udcff\x1b[2J: is no chunk", "warning"),
    "a hold nested deep": (lambda p: (p / HOLD).write_bytes(b'{"hold":' + DEEP + b"}"), f"{HOLD}: is no hold", "error"),
    "a hold that counts from nowhere": (lambda p: edited(p / HOLD, from_row={"1/audio": "x"}), f"{HOLD}: is no hold", "error"),
    "a hold that kept nonsense": (lambda p: edited(p / HOLD, kept={"1/audio": [[1, 2, 3]]}), f"{HOLD}: is no hold", "error"),
    "a folder for a hold": (lambda p: (p / "slot-0/holds/x.json").mkdir(), "holds/x.json: is no hold", "error"),
    "a file for the holds": (lambda p: filed(p / "slot-0/holds"), "slot-0/holds: is no folder", "error"),
    "a file for what is held": (lambda p: filed(p / f"{AUDIO}.held/c"), f"{AUDIO}.held/c: is no folder", "error"),
    "a stranger in what is held": (lambda p: (p / f"{AUDIO}.held/c/notes").touch(), "held/c/notes: is no chunk", "warning"),
    "a file for the journal": (lambda p: filed(p / "slot-0/journal"), "slot-0/journal: is no folder", "error"),
    "a stranger in the journal": (lambda p: (p / "slot-0/journal/notes").touch(), "journal/notes: is no segment", "warning"),
    "a linked segment": (lambda p: moved_and_linked(newest_segment(p)), "is no file: the recorder does not start with it", "error"),
    "a folder in the pool": (lambda p: (p / "slot-0/pool/x").mkdir(), "pool/x: is no file", "warning"),
    "a file for the pool": (lambda p: filed(p / "slot-0/pool"), "slot-0/pool: is no folder", "error"),
    "a folder for the ledger": (lambda p: made_folder(p / "slot-0/ledger"), "slot-0/ledger: is no file", "error"),
    "a garbled ledger": (lambda p: (p / "slot-0/ledger").write_bytes(b"\xff" * 5000), "slot-0/ledger: no line of it", "error"),
    "a folder for the lock": (lambda p: made_folder(p / "slot-0/lock"), "slot-0/lock: is no file", "error"),
    "a file for the minutes": (lambda p: filed(p / f"{AUDIO}.minutes"), f"{AUDIO}.minutes: is no folder", "warning"),
    "a slot that is none": (lambda p: (p / "slot-x").mkdir(), "slot-x: is no slot", "warning"),
    "a file for a slot": (lambda p: (p / "slot-3").touch(), "slot-3: is no folder", "error"),
}


def a_chunk(path: Path) -> Path:
    return max((path / AUDIO / "c").iterdir(), key=lambda file: int(file.name))


@pytest.mark.parametrize("kind", ODD)
def test_what_does_not_belong_there_is_named_in_one_line(path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    damage, wanted, severity = ODD[kind]
    damage(path)
    before = names(path)
    code = check(path, "--level", "3")
    out = capsys.readouterr().out
    assert any(line.startswith(f"{path}: {severity}: ") and wanted in line for line in out.splitlines()), out
    assert code == (1 if severity == "error" else 0)
    assert all(line.startswith(f"{path}: ") for line in out.splitlines())
    assert names(path) == before


def names(path: Path) -> list[tuple[Path, int]]:
    return sorted((file, stat.S_IFMT(file.lstat().st_mode)) for file in path.rglob("*"))


STRAYS: dict[str, Callable[[Path], object]] = {
    "a note in the journal": lambda p: (p / "slot-0/journal/notes").write_text("mine"),
    "a folder in the journal": lambda p: (p / "slot-0/journal/notes").mkdir(),
    "digits of another script in the journal": lambda p: (p / "slot-0/journal/²").write_text("mine"),
    "a folder in the pool": lambda p: (p / "slot-0/pool/notes").mkdir(),
    "a link in the pool": lambda p: (p / "slot-0/pool/notes").symlink_to("/etc/hostname"),
    "a folder among the chunks": lambda p: (p / AUDIO / "c/7777").mkdir(),
    "a folder in what is held": lambda p: (p / f"{AUDIO}.held/c/7777").mkdir(),
    "a hold nested deep": lambda p: (p / HOLD).write_bytes(DEEP),
}


@pytest.mark.parametrize("kind", STRAYS)
def test_a_stray_thing_keeps_no_recorder_from_starting_and_is_left_alone(make_rig: Make, path: Path, sent: list[bytes], kind: str) -> None:
    STRAYS[kind](path)
    strays = [path for path, _ in names(path) if path.name in {"notes", "²", "7777"}]
    again = make_rig(bytes_max=20 << 20)
    found = tape(again.path, again, name="audio")
    assert found == sent[-len(found):]
    again.turn()
    assert not again.slot.failed
    again.close()
    assert all(os.path.lexists(path) for path in strays)


@pytest.mark.parametrize("kind", ["a note in the journal", "a folder in the journal", "a folder in the pool", "a link in the pool",
                                  "a folder among the chunks"])
def test_a_repair_puts_a_stray_thing_aside(path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    STRAYS[kind](path)
    stray = next(path for path, _ in names(path) if path.name in {"notes", "7777"})
    assert check(path, "--repair") == 0
    assert f"moved {stray.relative_to(path)} to aside/" in capsys.readouterr().out
    assert list((path / "aside").rglob(stray.name))
    assert check(path, "--repair") == 0
    assert "moved" not in capsys.readouterr().out


def test_a_repair_follows_no_link_out_of_the_volume(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (path / "aside").symlink_to(tmp_path / "outside")
    stray = path / AUDIO / "c/notes"
    stray.write_text("mine")
    assert check(path, "--repair") == STORAGE
    assert f"{path}/aside: is no folder; move it away" in capsys.readouterr().err
    assert stray.read_text() == "mine"
    assert list((tmp_path / "outside").iterdir()) == []


def test_thousands_of_strays_are_looked_at_twice_and_not_once_for_each(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        (path / f"slot-0/journal/{number}.bak").touch()
    looks = []
    look = check_journal._strangers
    monkeypatch.setattr(check_journal, "_strangers", lambda slot: (looks.append(slot), look(slot))[1])
    assert check(path) == 0
    assert len(looks) == 2


def test_a_journal_that_is_lost_is_found_though_an_ended_worker_left_its_live_file(make_rig: Make, capsys: pytest.CaptureFixture[str],
                                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """The live file stays until the machine restarts, and vouched for tracks that no rule would ever reach again."""
    rig = make_rig()
    _, audio = rig.track(name="audio", kind=TrackKind.AUDIO, size=20_000, gop=1, fps=10)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 1 << 22)       # above any process' number
        rig.run(audio, 200)
        rig.close()
        make_rig().close()
    shutil.rmtree(rig.path / "slot-0/journal")
    assert check(rig.path) == 1
    assert f"{AUDIO}: no journal knows it" in capsys.readouterr().out


def test_a_segment_of_many_gigabytes_ends_a_start_no_later(make_rig: Make, path: Path, sent: list[bytes]) -> None:
    with newest_segment(path).open("r+b") as file:
        file.truncate(1 << 40)
    again = make_rig(bytes_max=20 << 20)
    found = tape(again.path, again, name="audio")
    assert found == sent[-len(found):]


MINUTES: dict[str, Callable[[Path], object]] = {
    "a file": filed,
    "a link": lambda folder: (shutil.rmtree(folder), (folder.parents[3] / "outside").mkdir(), folder.symlink_to(folder.parents[3] / "outside")),
    "a folder for its document": lambda folder: made_folder(folder / "zarr.json"),
    "a folder for a day": lambda folder: [made_folder(day) for day in folder.glob("*.0")],
}


@pytest.mark.parametrize("kind", MINUTES)
@pytest.mark.parametrize("restart", [False, True])
def test_something_in_the_place_of_figures_costs_no_recording(make_rig: Make, kind: str, restart: bool) -> None:
    """The volume was taken for failed, and its cameras were recorded nowhere."""
    rig = make_rig()
    writer, audio = rig.track(name="audio", kind=TrackKind.AUDIO, size=20_000, gop=1, fps=1)
    rig.run(audio, 150)
    folder = rig.path / f"{AUDIO}.minutes"
    assert list(folder.glob("*.0"))
    before: list[bytes] = []
    if restart:
        rig.close()
        shutil.rmtree(rig.path / "idx")
        before = audio.sent
    MINUTES[kind](folder)
    if restart:
        rig = make_rig()
        writer, audio = rig.track(name="audio", kind=TrackKind.AUDIO, size=20_000, gop=1, fps=1)
    rig.run(audio, 150)
    assert not rig.slot.failed
    assert tape(rig.path, rig, name="audio") == [*before, *audio.sent]
    writer.end_session(audio.session, rig.clock.wall_ns(), "over")
    assert kind != "a link" or not list((rig.path.parent / "outside").iterdir())
    store = TapeStore([rig.path], rig.live)
    try:
        track = store.track(1, "audio")
        minute = track.edges().first_ns // MINUTE_NS
        assert of_tape(track, minute, minute + 3).any()
    finally:
        store.close()


def test_a_slot_under_another_name_is_a_line_for_each_segment_and_not_for_each_record(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path / "slot-0").rename(path / "slot-5")
    segments = list((path / "slot-5/journal").iterdir())
    assert check(path) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "is a record of slot 0" in line]
    assert 0 < len(lines) <= len(segments)
    assert "has the folder been renamed? give it its name back" in lines[0]
