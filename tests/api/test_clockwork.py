"""`/cameras/{id}/clock`: the camera's clock is told beside ours, wherever it stands, and never used."""

from typing import Any

from api.clockwork import REPORTS_MAX, described
from recorder.base.media import NS, SenderReport, TrackKind
from storage import items
from storage.evidence import Evidence
from tests.storage_read.reference_writer import BASE_NS, RefVolume, gop


async def test_reports_and_steps_of_the_range_are_told(api: Any, volume: RefVolume) -> None:
    track = volume.track(1, "main", TrackKind.AUDIO)
    track.write_row(gop(5, size=50, key=60, dur=18_000))
    for at, ahead in ((0, 55), (60, -3600), (120, 0)):
        track.log(SenderReport(BASE_NS + (at + ahead) * NS, at, BASE_NS + at * NS))
    track.log(items.ClockEpoch(BASE_NS + 70 * NS, -2 * NS))
    answer = await api.get("cameras/north/clock", params={"start": str(BASE_NS), "end": str(BASE_NS + 100 * NS)})
    assert answer.status == 200, answer.body
    assert [report["ahead_s"] for report in answer.json["reports"]] == [55.0, -3600.0]
    assert [step["step_s"] for step in answer.json["steps"]] == [-2.0]
    none = await api.get("cameras/yard/clock", params={"start": str(BASE_NS), "end": str(BASE_NS + 100 * NS)})
    assert (none.json["reports"], none.json["steps"], none.json["left_out"]) == ([], [], 0)


def test_many_reports_are_thinned_and_the_rest_counted() -> None:
    found = described(Evidence(tuple(SenderReport(n, n, n) for n in range(2 * REPORTS_MAX + 1))))
    assert len(found["reports"]) + found["left_out"] == 2 * REPORTS_MAX + 1
    assert len(found["reports"]) <= REPORTS_MAX


def test_a_report_beyond_time_is_a_number_not_an_error() -> None:
    (report,) = described(Evidence((SenderReport(-(1 << 62), 0, BASE_NS),)))["reports"]
    assert report["camera_time_ns"] == -(1 << 62)
