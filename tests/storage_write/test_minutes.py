"""Figures by the minute: what the recorder writes is what follows from the rows, also after a crash, without room, and behind the tail."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from rig import Camera, Rig

from recorder.base.config import RetentionRule
from recorder.base.media import AuFlag, GapCause, TrackKind
from storage import minuteline
from storage.check import check_volume
from storage.footage import I64
from storage.layout import ROW
from storage.minutebook import MinuteBook
from storage.minuteread import minutes
from storage.minutes import BYTES, COLUMNS, COVERED, DAMAGED, DAY, FRAMES, KEYS, MINUTE_NS, MISSING, day_of, minutes_document, minutes_path
from storage.reader import TrackReader
from storage.store import TapeStore
from storage.tape import TapeWriter
from storage.timeline import Whole

Make = Callable[..., Rig]
BASE = 1_767_225_600 // 60      # where the simulated clock begins, at a minute's start
FPS, SIZE = 10, 500
WHOLE = [60 * FPS * SIZE, 60 * FPS, 60 * FPS, 60_000, 0, 0]


def start(rig: Rig, days: float = 31.0) -> tuple[TapeWriter, Camera]:
    return rig.track(1, "audio", TrackKind.AUDIO, gop=1, fps=FPS, size=SIZE, rule=RetentionRule(days=days))


def record(rig: Rig, camera: Camera, seconds: int, **how: int) -> None:
    for _ in range(seconds // 10):
        assert camera.put(10 * FPS, **how) == 10 * FPS
        rig.clock.advance(10)
        rig.turn()
    rig.turn()


def silence(rig: Rig, writer: TapeWriter, camera: Camera, seconds: float) -> None:
    """The camera is away for so long."""
    writer.end_session(camera.session, rig.clock.wall_ns(), "lost")
    writer.open_gap(GapCause.OFFLINE)
    rig.clock.advance(seconds)
    rig.turn()
    camera.session = writer.next_session
    camera.start_ns = rig.clock.wall_ns() - camera.au * 1_000_000_000 // FPS
    writer.begin_session(camera.session, rig.clock.wall_ns(), "test")
    rig.turn()


def stored(rig: Rig, first: int, count: int) -> I64:
    """What zarr-python reads."""
    array = zarr.open_array(rig.path / minutes_path(1, "audio"), mode="r")
    return np.asarray(array[BASE + first:BASE + first + count]).astype(np.int64)


def told(rig: Rig, first: int, count: int) -> I64:
    """What our reader says."""
    store = TapeStore([rig.path], rig.live)
    try:
        return minutes(store.whole(1, "audio"), BASE + first, BASE + first + count)
    finally:
        store.close()


def test_a_minute_is_written_when_its_chunk_is_sealed_and_said_before(make_rig: Make) -> None:
    rig = make_rig(chunk_close_s=100.0)
    _, camera = start(rig)
    record(rig, camera, 290)
    assert stored(rig, 0, 6).tolist() == [WHOLE, WHOLE, WHOLE, [0] * 6, [0] * 6, [0] * 6], "three are over in sealed chunks"
    rest = [50 * FPS * SIZE, 50 * FPS, 50 * FPS, 50_000, 0, 0]
    found = told(rig, 0, 6)
    assert found[:4].tolist() == [WHOLE] * 4 and not found[5].any()
    assert np.abs(found[4] - rest).max() <= 200, "the open row ends with its last AU, as far as known"


def test_time_without_footage_is_missing_and_damage_is_told(make_rig: Make) -> None:
    rig = make_rig(chunk_close_s=100.0)
    writer, camera = start(rig)
    record(rig, camera, 90)
    silence(rig, writer, camera, 150)
    record(rig, camera, 10)
    record(rig, camera, 20, flags=AuFlag.DAMAGED)
    record(rig, camera, 210)
    found = told(rig, 0, 8)
    assert found[:, COVERED].tolist()[:7] == [60_000, 30_000, 0, 0, 60_000, 60_000, 60_000]
    assert found[:, MISSING].tolist()[:7] == [0, 30_000, 60_000, 60_000, 0, 0, 0]
    assert found[4, DAMAGED] == 20_000 and not np.delete(found[:, DAMAGED], 4).any()
    assert found[:, FRAMES].tolist()[:7] == [600, 300, 0, 0, 600, 600, 600] and found[:, BYTES].sum() == sum(map(len, camera.sent))
    assert stored(rig, 0, 7).tolist() == found[:7].tolist()


def test_what_is_not_there_is_computed_from_the_rows_alike(make_rig: Make) -> None:
    rig = make_rig(chunk_close_s=100.0)
    writer, camera = start(rig)
    record(rig, camera, 200)
    silence(rig, writer, camera, 4000)
    record(rig, camera, 200)
    before = told(rig, 0, 75)
    assert before[:, MISSING].sum() == 4_000_000 and before[:, FRAMES].sum() == 400 * FPS
    shutil.rmtree(rig.path / minutes_path(1, "audio"))
    assert told(rig, 0, 75).tolist() == before.tolist()
    assert told(rig, 20, 30).tolist() == before[20:50].tolist(), "a range of which no row is part"
    assert not told(rig, -100, 100).any() and told(rig, 10, 0).shape == (0, len(COLUMNS))


def same(rig: Rig, start_ns: int, end_ns: int, step_ns: int) -> int:
    """Ask for a timeline from rows alone and with lines; minutes for which no row was read."""
    store = TapeStore([rig.path], rig.live)
    try:
        track = store.whole(1, "audio")
        by_rows, by_lines = (track.timeline(start_ns, end_ns, step_ns, source) for source in (TrackReader.blocks, minuteline.blocks))
        parts = minuteline.blocks(store.track(1, "audio"), start_ns, end_ns, np.empty(64, ROW))
        spared = sum(len(part.nbytes) for part in parts if isinstance(part, Whole))
    finally:
        store.close()
    assert (by_lines.spans, by_lines.gaps, by_lines.expected_ns) == (by_rows.spans, by_rows.gaps, by_rows.expected_ns)
    assert by_lines.covered.tolist() == by_rows.covered.tolist() and by_lines.damaged.tolist() == by_rows.damaged.tolist()
    assert abs(int(by_lines.nbytes.sum()) - int(by_rows.nbytes.sum())) <= 8 * SIZE
    return spared


def test_a_timeline_from_lines_is_that_from_rows(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minuteline, "LEAST", 3)
    rig = make_rig(chunk_close_s=100.0)
    writer, camera = start(rig)
    record(rig, camera, 610)
    silence(rig, writer, camera, 150)
    record(rig, camera, 400)
    record(rig, camera, 10, flags=AuFlag.DAMAGED)
    record(rig, camera, 700)
    begin_ns, end_ns = BASE * MINUTE_NS, (BASE + 40) * MINUTE_NS
    assert same(rig, begin_ns, end_ns, MINUTE_NS) > 15
    dice = np.random.default_rng(1)
    spared = 0
    for _ in range(200):
        a, b = sorted(dice.integers(begin_ns - MINUTE_NS, end_ns, 2).tolist())
        spared += same(rig, a, b + 1, int(dice.choice([0, 7, 60, 61, 600])) * 1_000_000_000)
    assert spared > 200


def test_lines_count_for_nothing_behind_the_tail(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minuteline, "LEAST", 3)
    rig = make_rig(chunk_close_s=100.0)
    _, camera = start(rig, days=0.005)         # 432 s
    for _ in range(20):
        record(rig, camera, 50)
        same(rig, BASE * MINUTE_NS, (BASE + 40) * MINUTE_NS, MINUTE_NS)
    assert same(rig, BASE * MINUTE_NS, (BASE + 40) * MINUTE_NS, MINUTE_NS) >= 3


def test_pictures_between_key_frames_are_counted(make_rig: Make) -> None:
    rig = make_rig(chunk_close_s=100.0)
    _, camera = rig.track(1, "audio", fps=FPS, gop=40, size=SIZE)
    record(rig, camera, 330)
    assert stored(rig, 0, 4)[:, KEYS].tolist() == [15] * 4
    assert stored(rig, 0, 4)[:, FRAMES].tolist() == [600] * 4


def test_minutes_go_with_their_footage(make_rig: Make) -> None:
    rig = make_rig(chunk_close_s=100.0)
    _, camera = start(rig, days=0.005)         # 432 s
    record(rig, camera, 900)
    kept = [bool(line.any()) for line in stored(rig, 0, 12)]
    assert kept == [False] * 7 + [True] * 5 or kept == [False] * 8 + [True] * 4
    assert not told(rig, 0, 7).any() and told(rig, 8, 4).tolist() == [WHOLE] * 4


def test_of_a_minute_that_is_half_retired_only_the_rest_is_told(make_rig: Make) -> None:
    rig = make_rig(chunk_close_s=100.0)
    _, camera = start(rig, days=0.005)
    record(rig, camera, 900)
    first_s = (900 - 432) // 10 * 10
    store = TapeStore([rig.path], rig.live)
    begin_s = store.track(1, "audio").edges().first_ns // 10**9 - BASE * 60
    store.close()
    assert begin_s % 60 > 0 and abs(begin_s - first_s) <= 30
    left = 60 - begin_s % 60
    assert told(rig, begin_s // 60, 1)[0, [BYTES, FRAMES, COVERED]].tolist() == [left * FPS * SIZE, left * FPS, left * 1000]


def test_days_go_as_whole_files(make_rig: Make) -> None:
    rig = make_rig(chunk_close_s=100.0)
    writer, camera = start(rig, days=1.0)
    record(rig, camera, 300)
    silence(rig, writer, camera, 23.9 * 3600)
    record(rig, camera, 900)
    folder = rig.path / minutes_path(1, "audio")

    def days() -> list[int]:
        return sorted(day for name in os.listdir(folder) if (day := day_of(name)) is not None)

    assert days() == [BASE // DAY, BASE // DAY + 1]
    silence(rig, writer, camera, 23.9 * 3600)
    record(rig, camera, 900)
    assert days() == [BASE // DAY + 2] and not stored(rig, 0, 10).any()


def test_a_crash_and_a_new_start_change_no_figure(make_rig: Make) -> None:
    rig = make_rig(chunk_close_s=100.0)
    _, camera = start(rig)
    record(rig, camera, 250)
    rig.crash()
    again = make_rig(clock=rig.clock, chunk_close_s=100.0)
    _, more = start(again)
    record(again, more, 300)
    written = told(again, 0, 10)
    assert stored(again, 0, 8).any(axis=1).all()
    shutil.rmtree(again.path / minutes_path(1, "audio"))
    assert np.abs(told(again, 0, 8) - written[:8]).max() == 0
    assert written[:, FRAMES].sum() == len(camera.sent) + len(more.sent)


def test_a_restart_in_order_goes_on_in_the_same_lines(make_rig: Make) -> None:
    rig = make_rig(chunk_close_s=100.0)
    _, camera = start(rig)
    record(rig, camera, 250)
    rig.close()
    rig.clock.advance(200)
    again = make_rig(clock=rig.clock, chunk_close_s=100.0)
    _, more = start(again)
    record(again, more, 400)
    found = stored(again, 0, 11)
    assert found[:, MISSING].sum() == 200_000 and (found[:, COVERED] + found[:, MISSING])[:11].tolist() == [60_000] * 11


def test_rows_that_are_put_together_anew_are_not_told_of_by_old_lines(make_rig: Make) -> None:
    rig = make_rig(chunk_close_s=100.0)
    _, camera = start(rig)
    record(rig, camera, 300)
    before = told(rig, 0, 4).tolist()
    rig.close()
    (rig.path / "idx/cam-1/audio.ring").unlink()
    again = make_rig(clock=rig.clock, chunk_close_s=100.0)
    assert not stored(again, 0, 10).any() and told(again, 0, 4).tolist() == before


def test_a_disk_without_room_for_figures_costs_no_footage(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(MinuteBook, "_put", full)
    rig = make_rig(chunk_close_s=100.0)
    _, camera = start(rig)
    record(rig, camera, 330)
    assert not rig.slot.failed
    assert told(rig, 0, 5).tolist() == [WHOLE] * 5


def test_a_disk_that_fails_there_has_failed(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(MinuteBook, "_put", broken)
    rig = make_rig(chunk_close_s=100.0)
    _, camera = start(rig)
    for _ in range(33):
        camera.put(10 * FPS)
        rig.clock.advance(10)
        rig.turn()
    assert rig.slot.failed


def test_the_array_is_what_zarr_makes_and_no_track(make_rig: Make, tmp_path: Path) -> None:
    rig = make_rig(chunk_close_s=100.0)
    _, camera = start(rig)
    record(rig, camera, 330)
    theirs = zarr.create_array(tmp_path / "theirs", shape=tuple(minutes_document(1, "audio")["shape"]), chunks=(DAY, len(COLUMNS)),
                               dtype="uint32", fill_value=0, compressors=None, filters=None, dimension_names=("minute", "column"),
                               chunk_key_encoding={"name": "v2", "separator": "."}, attributes=minutes_document(1, "audio")["attributes"])
    assert theirs.shape[0] > BASE
    ours = json.loads((rig.path / minutes_path(1, "audio") / "zarr.json").read_bytes())
    assert ours == json.loads((tmp_path / "theirs/zarr.json").read_bytes())
    group = zarr.open_group(rig.path / "tape.zarr", mode="r")
    assert sorted(dict(group.members(max_depth=None))) == ["cam-1", "cam-1/audio", "cam-1/audio.minutes"]
    store = TapeStore([rig.path], rig.live)
    assert store.tracks(1) == ("audio",)
    store.close()
    assert not check_volume(rig.path, rig.live, level=3).findings


@pytest.mark.parametrize("torn", [b"", b"{"])
def test_a_document_that_a_power_cut_has_torn_is_made_again(make_rig: Make, torn: bytes) -> None:
    rig = make_rig(chunk_close_s=100.0)
    _, camera = start(rig)
    record(rig, camera, 330)
    rig.close()
    document = rig.path / minutes_path(1, "audio") / "zarr.json"
    whole = document.read_bytes()
    document.write_bytes(torn)
    again = make_rig(clock=rig.clock, chunk_close_s=100.0)
    _, more = start(again)
    record(again, more, 330)
    assert document.read_bytes() == whole


@pytest.mark.parametrize("name", ["zarr.json", "c", "20454", "20454.1", "x.0", ".0", "999999.0", "²0454.0", ".zarr.json.tmp"])
def test_other_names_are_no_days(name: str) -> None:
    assert day_of(name) is None


def test_lines_are_as_long_as_minutes() -> None:
    assert MINUTE_NS == 60 * 10**9 and day_of("20454.0") == 20454
