"""What storage tells: numbered, bounded, gathered, without paths."""

from pathlib import Path

from recorder.base.clock import SimulatedClock
from recorder.base.config import SiteConfig, VolumeConfig
from recorder.noted import Noted
from recorder.notes import KEPT
from storage.events import (
    AusRefused,
    ClockDoubted,
    MinimumBroken,
    NotSealed,
    Retired,
    SlowCommit,
    Starved,
    VolumeBack,
    VolumeFailed,
    VolumeProven,
    VolumeSlow,
)

VOLUME = Path("/srv/secret-name")


def noted() -> tuple[Noted, SimulatedClock]:
    clock = SimulatedClock()
    return Noted(SiteConfig("s", Path("/x"), volumes=(VolumeConfig(Path("/srv/a")), VolumeConfig(VOLUME))), 3, clock), clock


def test_each_event_is_asked_for_once() -> None:
    desk, _ = noted()
    desk.take(VolumeFailed(VOLUME, "Input/output error"))
    desk.take(Starved(7, "main"))
    first = desk.after("", 0)
    assert [(event["kind"], event["state"], event["slot"]) for event in first["events"]] == [("disk", "failed", 3), ("disk", "starved", 3)]
    assert first["events"][0]["volume"] == 1 and "secret" not in str(first)
    assert desk.after(first["life"], first["last"])["events"] == []
    desk.take(SlowCommit(VOLUME, 812.4))
    desk.take(NotSealed(7, "main", 3, "why"))
    desk.take(AusRefused(7, "main", 1, "larger than a chunk"))
    desk.take(ClockDoubted(86_400.4))
    more = desk.after(first["life"], first["last"])
    assert [(event["event"], event["state"]) for event in more["events"]] == [(3, "slow"), (4, "not_sealed"), (5, "clock")]
    assert [event["event"] for event in desk.after("another life", 3)["events"]] == [1, 2, 3, 4, 5]


def test_that_cameras_stay_on_a_slow_disk_or_go_home_is_an_event_without_a_path() -> None:
    desk, _ = noted()
    for event in (VolumeBack(VOLUME), VolumeProven(VOLUME), VolumeSlow(VOLUME, 2.6)):
        desk.take(event)
    said = desk.after("", 0)["events"]
    assert [(event["kind"], event["state"], event["volume"]) for event in said] == [("disk", state, 1) for state in ("back", "proven", "stays")]
    assert "secret" not in str(said) and "its cameras stay" in said[2]["message"]


def test_a_minutes_retirement_is_one_event() -> None:
    desk, clock = noted()
    for camera in (1, 1, 2):
        desk.take(Retired(camera, "main", 5, 0))
    desk.turn(clock.mono_ns())
    assert desk.after("", 0)["events"] == []
    clock.advance(60)
    desk.turn(clock.mono_ns())
    clock.advance(60)
    desk.turn(clock.mono_ns())
    assert [(event["kind"], event["chunks"], event["cameras"]) for event in desk.after("", 0)["events"]] == [("retention", 3, 2)]


def test_broken_minima_of_a_minute_are_one_event() -> None:
    desk, clock = noted()
    for camera in (1, 2, 2):
        desk.take(MinimumBroken(camera, "main", "partner East"))
    clock.advance(60)
    desk.turn(clock.mono_ns())
    clock.advance(60)
    desk.turn(clock.mono_ns())
    assert [(event["state"], event["cameras"], event["by"]) for event in desk.after("", 0)["events"]] == [("minimum", 2, "partner East")]


def test_only_the_newest_are_kept_and_the_hole_shows() -> None:
    desk, _ = noted()
    for _ in range(KEPT + 10):
        desk.take(Starved(1, "main"))
    said = desk.after("", 0)
    assert len(said["events"]) == KEPT and said["events"][0]["event"] == 11 and said["last"] == KEPT + 10
