"""A disk that answers EIO costs a track what lies on that disk, and nothing that lies on another one."""

import logging
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.powercut.disk import PowerDisk
from recorder.base.media import NS
from storage.completeness import share
from storage.minuteread import minutes
from storage.minutes import COVERED, MINUTE_NS
from storage.store import TapeStore
from tests.storage_read.reference_writer import RefVolume, gop

pytestmark = pytest.mark.disk
T0 = 1_700_000_000 * NS
END = T0 + 400 * NS


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[PowerDisk]:
    (tmp_path / "disk").mkdir()
    made = PowerDisk(tmp_path / "disk", "ext4", plain_bytes=400 << 20)
    yield made
    made.ask("heal")
    made.close()


@pytest.fixture
def volumes(tmp_path: Path, live_dir: Path) -> Iterator[tuple[RefVolume, RefVolume]]:
    """100 rows of a second on the first volume, then 20 on the second; nobody records."""
    made = RefVolume(tmp_path / "a", live_dir), RefVolume(tmp_path / "b", live_dir)
    for volume, at_s, rows in zip(made, (0, 200), (100, 20), strict=True):
        track = volume.track(7, "main", start_ns=T0 + at_s * NS)
        for _ in range(rows):
            track.write_row(gop(25))
        track.close()
        volume.drop_live_file()
    yield made
    for volume in made:
        volume.volume.close()


def answers(store: TapeStore) -> dict[str, Any]:
    """What readers ask of a track, as values that tell on which tapes they rest."""
    track = store.whole(7, "main")
    return {
        "tapes": [tape.place for tape in track.tapes],
        "pieces": [(piece.tape.place, len(piece.run)) for piece in track.pieces(T0, END)],
        "durable": [piece.tape.place for piece in track.pieces(T0, END, durable=True)],
        "timeline": [(span.start_ns, span.end_ns) for span in track.timeline(T0, END).spans],
        "at": track.at(T0 + 210 * NS).place,
        "bounds": track.bounds().first_ns,
        "share": share(track, (T0, END)).footage_ns,
        "minutes": minutes(track, T0 // MINUTE_NS, END // MINUTE_NS)[:, COVERED].sum(),
        "evidence": len(track.evidence(T0, END).reports),
        "cameras": store.cameras(),
        "tracks": store.tracks(7),
        "held": store.held_times(7, "main"),
    }


@pytest.mark.parametrize("warm", [False, True], ids=["first asked when it fails", "asked before"])
def test_the_other_volume_is_read_on(volumes: tuple[RefVolume, RefVolume], disk: PowerDisk, caplog: pytest.LogCaptureFixture,
                                     warm: bool) -> None:
    first, second = volumes
    with disk.mounted() as point:
        subprocess.run(["cp", "-a", first.path, point / "a"], check=True)
    with closing(TapeStore([second.path], second.live_dir)) as alone:
        expected = answers(alone)
    with disk.mounted() as point, closing(TapeStore([point / "a", second.path], first.live_dir, lenient=True)) as store:
        before = answers(store) if warm else None
        Path("/proc/sys/vm/drop_caches").write_text("3")
        disk.ask("fail")
        with caplog.at_level(logging.WARNING):
            got = answers(store)
        assert got["timeline"] in [expected["timeline"], *([before["timeline"]] if before else [])], "with that disk or without it"
        assert got["pieces"][-1] == (1, 20)
        assert got["at"] == 1
        assert got["minutes"] in [expected["minutes"], *([before["minutes"]] if before else [])]
        assert got["cameras"] == (7,)
        assert got["tracks"] == ("main",)
        disk.ask("heal")
    assert warm or sum("cannot be read" in record.message for record in caplog.records) == 1, "once, however often it is asked for"


def test_of_a_tracks_only_tape_the_error_is_told(volumes: tuple[RefVolume, RefVolume], disk: PowerDisk) -> None:
    with disk.mounted() as point:
        subprocess.run(["cp", "-a", volumes[0].path, point / "a"], check=True)
    with disk.mounted() as point, closing(TapeStore([point / "a"], volumes[0].live_dir, lenient=True)) as store:
        disk.ask("fail")
        with pytest.raises(OSError, match="Input/output error"):
            store.whole(7, "main").timeline(T0, END)
        disk.ask("heal")


def test_who_must_know_all_is_told_of_the_error(volumes: tuple[RefVolume, RefVolume], disk: PowerDisk) -> None:
    with disk.mounted() as point:
        subprocess.run(["cp", "-a", volumes[0].path, point / "a"], check=True)
    with disk.mounted() as point, closing(TapeStore([point / "a", volumes[1].path], volumes[0].live_dir)) as store:
        disk.ask("fail")
        with pytest.raises(OSError, match="Input/output error"):
            store.whole(7, "main").timeline(T0, END)
        disk.ask("heal")
