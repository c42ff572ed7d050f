"""`watchroom bench index` at a small scale: what it makes is what the recorder reads, and every figure is measured."""

import argparse
from pathlib import Path

import numpy as np
import pytest

from bench import index
from bench.index_site import DAY_NS, END_NS, HOLE_NS, TRACK, IndexMaker, Scale
from bench.limits_chart import AIMED, MET, MISSED, chart
from bench.report import Figure, figure_table
from recorder.base.clock import SimulatedClock
from recorder.base.config import RecordingConfig
from recorder.base.media import NS, GapCause
from storage import minuteline
from storage.layout import ROW
from storage.reader import TrackReader
from storage.slot import Slot
from storage.store import TapeStore
from storage.timeline import Whole
from storage.volume import Volume

SCALE = Scale(cameras=2, days=1.5)


@pytest.fixture
def opened(tmp_path: Path) -> TapeStore:
    """A made volume that a slot has opened and closed in order."""
    (tmp_path / "live").mkdir()
    told: list[int] = []
    IndexMaker(SCALE).make(tmp_path / "volume", told.append)
    assert told == [1, 2]
    volume = Volume.open(tmp_path / "volume", on_root=True)
    slot = Slot(volume, 0, config=RecordingConfig(), live_dir=tmp_path / "live", clock=SimulatedClock(END_NS + NS), on_event=lambda _: None)
    report = slot.open()
    assert (report.tapes, report.clean, report.tapes_fallen_back) == (2, True, 0)
    slot.close()
    volume.close()
    return TapeStore([tmp_path / "volume"], tmp_path / "live")


def test_every_row_that_was_made_is_read(opened: TapeStore):
    for camera in (1, 2):
        reader = opened.track(camera, TRACK)
        rows = reader.rows(SCALE.start_ns, END_NS).rows
        assert len(rows) == SCALE.rows == 64_800
        assert int(rows["t_ns"][0]) == SCALE.start_ns and int(rows["t_ns"][-1]) == END_NS - SCALE.row_ns
    opened.close()


def test_the_ring_has_gone_round(opened: TapeStore):
    edges = opened.track(1, TRACK).edges()
    capacity = opened.track(1, TRACK)._ring(0).capacity
    assert edges.first_row < capacity < edges.next_row
    opened.close()


def test_the_timeline_has_the_hole_of_each_day(opened: TapeStore):
    found = opened.track(2, TRACK).timeline(SCALE.start_ns, END_NS, 60 * NS)
    assert [(gap.end_ns - gap.start_ns, gap.cause) for gap in found.gaps if gap.end_ns] == [(HOLE_NS, GapCause.LOSS)]
    assert found.covered_ns == int(1.5 * DAY_NS)
    assert int(found.nbytes.sum()) == SCALE.rows * SCALE.row_bytes
    opened.close()


def test_lines_by_the_minute_say_what_the_rows_do(opened: TapeStore):
    buffer = np.empty(1000, ROW)
    parts = list(minuteline.blocks(opened.track(2, TRACK), SCALE.start_ns, END_NS, buffer))
    wholes = [part for part in parts if isinstance(part, Whole)]
    assert [len(whole.nbytes) > 300 for whole in wholes] == [True, True], "on either side of the hole"
    assert not any(isinstance(part, Whole) for part in minuteline.blocks(opened.track(1, TRACK), SCALE.start_ns, END_NS, buffer))
    track = opened.whole(2, TRACK)
    by_rows, by_lines = (track.timeline(SCALE.start_ns, END_NS, 60 * NS, source) for source in (TrackReader.blocks, minuteline.blocks))
    assert (by_lines.spans, by_lines.gaps, by_lines.expected_ns) == (by_rows.spans, by_rows.gaps, by_rows.expected_ns)
    assert by_lines.covered.tolist() == by_rows.covered.tolist()
    assert int(by_lines.nbytes.sum()) == int(by_rows.nbytes.sum())
    opened.close()


def options(folder: Path, *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    index.add_arguments(parser)
    return parser.parse_args(["--cameras", "3", "--days", "0.1", "--journal-s", "4", "--samples", "20", "--folder", str(folder),
                              "--live", str(folder), *more])


def test_every_figure_is_measured_and_nothing_is_left(tmp_path: Path):
    found = {figure.name: figure for figure in index.run(options(tmp_path))}
    assert len(found) == 12 and all(figure.value > 0 for name, figure in found.items() if "memory" not in name and "same" not in name)
    killed = found["opened after kill -9"].note
    assert "3 cameras" in killed and "; 0 rows adopted" not in killed
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_does_not_fit_is_not_begun(tmp_path: Path):
    with pytest.raises(ValueError, match="GB of index do not fit"):
        index.run(options(tmp_path, "--cameras", "1000000", "--days", "1"))
    assert list(tmp_path.iterdir()) == []


def test_rows_of_other_cameras_lie_at_the_same_places():
    maker, other = IndexMaker(Scale(cameras=1, days=0.1)), IndexMaker(Scale(cameras=9, days=0.1))
    assert maker._buffer[:] == other._buffer[:]
    assert np.frombuffer(maker._buffer, np.uint8).any()


def test_figures_are_told_with_their_limits():
    figures = [Figure("a", 5.0, "s", 4.0, 2.0), Figure("b", 3.0, "s", 4.0, 2.0), Figure("c < d", 1.5, "s", 4.0, 2.0), Figure("e", 9.0, "s")]
    assert [figure.met for figure in figures] == [False, True, True, True]
    assert "| a | 5 s | 4 s: missed | 2 s |  |" in figure_table(figures)
    svg = chart(figures)
    assert svg.count("<rect") == 4 and "c &lt; d" in svg
    assert [svg.count(colour) for colour in (MISSED, MET, AIMED)] == [1, 1, 1]
