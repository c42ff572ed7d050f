"""`check` of a volume whose recorder has not been started since it was killed or lost its power: no false alarm, and damage is still damage."""

from collections.abc import Callable
from pathlib import Path

import pytest
from rig import Rig, tape

from recorder.base.media import TrackKind
from storage import steps
from storage.check import check_volume
from storage.check_pending import CLOSING, TAKING
from storage.chunkfile import read_head
from storage.chunkpage import free_head, head_page
from storage.layout import PAGE, SMALL, track_path
from storage.steps import Step

Make = Callable[..., Rig]
CHUNKS = track_path(1, "audio") + "/c"


class Killed(Exception):
    """The process would have ended here."""


def killed_at(make_rig: Make, step: Step, count: int) -> Rig:
    """A recorder of audio that dies at the `count`-th time of a step; no live file is left, as after the machine went down."""
    rig = make_rig()
    _, audio = rig.track(name="audio", kind=TrackKind.AUDIO, size=10_000, gop=1, fps=5)
    left = count

    def hook(taken: Step) -> None:
        nonlocal left
        left -= taken is step
        if not left:
            raise Killed

    steps.hook = hook
    try:
        with pytest.raises(Killed):
            rig.run(audio, 10_000)
    finally:
        steps.hook = None
    rig.crash()
    for file in rig.live.iterdir():
        file.unlink()
    return rig


def findings(rig: Rig, level: int = 3) -> list[tuple[str, str, str]]:
    return [(finding.severity.value, finding.where, finding.what) for finding in check_volume(rig.path, rig.live, level=level).findings]


def sealed(rig: Rig) -> list[int]:
    numbers = []
    for file in (rig.path / CHUNKS).iterdir():
        with file.open("rb") as opened:
            if read_head(opened.fileno(), "").sealed:
                numbers.append(int(file.name))
    return sorted(numbers)


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize("step", [Step.PADDED, Step.FOOTER_WRITTEN, Step.SEALED])
def test_a_close_that_the_page_cache_has_whole_is_no_finding(make_rig: Make, step: Step) -> None:
    rig = killed_at(make_rig, step, 3)
    assert findings(rig) == []


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("lost", ["all of the footer", "its last page", "the index"])
def test_a_close_of_which_only_the_head_reached_the_disk_is_no_torn_footer(make_rig: Make, lost: str, level: int) -> None:
    rig = killed_at(make_rig, Step.SEALED, 3)
    newest = sealed(rig)[-1]
    path = rig.path / CHUNKS / str(newest)
    with path.open("rb") as file:
        page = file.read(PAGE)
        head = read_head(file.fileno(), "")
    match lost:
        case "all of the footer":
            overwrite(path, SMALL.footer_start, bytes(SMALL.footer_bytes))
        case "its last page":
            overwrite(path, SMALL.footer_start + head.footer_bytes // PAGE * PAGE, bytes(PAGE))
        case _:
            overwrite(path, 0, head_page(head, 2)[:512])
    assert len(page) == PAGE
    assert findings(rig, level) == [("warning", f"{CHUNKS}/{newest}", CLOSING)]
    assert check_volume(rig.path, rig.live, level=level).clean
    again = make_rig()
    again.turn()
    again.turn()
    assert tape(again.path, again, name="audio")
    assert findings(again) == [], "the start has closed it"


def test_a_torn_footer_of_a_chunk_that_was_closed_is_an_error(make_rig: Make) -> None:
    rig = killed_at(make_rig, Step.SEALED, 3)
    newest = sealed(rig)[-1]
    for number in (newest, newest - 1):
        overwrite(rig.path / CHUNKS / str(number), SMALL.footer_start + 40, b"torn")
    assert [(severity, where) for severity, where, _ in findings(rig)] == [
        ("error", f"{CHUNKS}/{newest - 1}"), ("warning", f"{CHUNKS}/{newest}")]


def test_a_torn_footer_is_an_error_where_no_journal_tells_of_a_close(make_rig: Make) -> None:
    rig = killed_at(make_rig, Step.SEALED, 3)
    newest = sealed(rig)[-1]
    overwrite(rig.path / CHUNKS / str(newest), SMALL.footer_start + 40, b"torn")
    for segment in (rig.path / "slot-0/journal").iterdir():
        overwrite(segment, 0, bytes(1 << 20))
    assert ("error", f"{CHUNKS}/{newest}", "the footer does not hold together") in findings(rig)


@pytest.mark.parametrize("page", [head_page(free_head(SMALL, 3)), bytes(PAGE)], ids=["free", "empty"])
def test_a_file_whose_new_head_did_not_reach_the_disk_holds_nobodys_footage(make_rig: Make, page: bytes) -> None:
    rig = killed_at(make_rig, Step.RENAMED_TAKEN, 3)
    newest = max(int(file.name) for file in (rig.path / CHUNKS).iterdir())
    overwrite(rig.path / CHUNKS / str(newest), 0, page)
    assert findings(rig) == [("warning", f"{CHUNKS}/{newest}", TAKING)]
    overwrite(rig.path / CHUNKS / str(newest - 1), 0, page)
    assert [severity for severity, where, _ in findings(rig, 1) if where == f"{CHUNKS}/{newest - 1}"] == ["error"], "footage was in that one"


def test_rows_whose_entries_only_the_journal_has_are_no_damage(make_rig: Make) -> None:
    """Rings are written in whole pages: that of the rows was full, that of their entries was not."""
    rig = make_rig()
    _, audio = rig.track(name="audio", kind=TrackKind.AUDIO, size=600, gop=1, fps=5)
    while rig.core(name="audio").ring_rows == 0:
        rig.run(audio, 5)
    assert rig.core(name="audio").frames_end == 0
    rig.crash()
    for file in rig.live.iterdir():
        file.unlink()
    assert findings(rig) == []
    again = make_rig()
    assert tape(again.path, again, name="audio") == audio.sent
    again.close()
    assert findings(again) == []


def test_a_live_dir_that_is_missing_is_no_damage_of_the_volume(make_rig: Make, tmp_path: Path) -> None:
    rig = make_rig()
    _, audio = rig.track(name="audio", kind=TrackKind.AUDIO, size=600, gop=1, fps=5)
    rig.run(audio, 30)
    rig.close()
    assert check_volume(rig.path, tmp_path / "not yet made", level=3).findings == []
