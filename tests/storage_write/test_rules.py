"""A slot keeps to the site's rules: by days, by bytes of tracks, cameras, sites and partners, over several slots, and minima to the last."""

import os
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from rig import Camera, Rig, tape

from recorder.base.config import GroupRule, RetentionRule, SiteConfig, TrackRule
from recorder.base.media import TrackKind
from recorder.base.rulebook import Member, RuleBook, rule_book
from storage.events import ClockDoubted, MinimumBroken
from storage.retention import Usage
from storage.siterules import SiteRules
from storage.tapework import TapeWork

Make = Callable[..., Rig]
CHUNK = 16 << 20
DAY = 86_400.0
NS = 1_000_000_000


class Book:
    """Rules as a test says them; `others` is what tracks have in other slots."""

    def __init__(self, *members: Member, general: RetentionRule | None = None, partners: tuple[GroupRule, ...] = ()) -> None:
        self.others: list[Usage] | None = []
        self.say(*members, general=general, partners=partners)

    def say(self, *members: Member, general: RetentionRule | None = None, partners: tuple[GroupRule, ...] = ()) -> None:
        site = SiteConfig("Test", Path("state"), retention=general or RetentionRule(days=31.0), partners=partners)
        self.now: RuleBook | None = rule_book(site, members)

    def book(self) -> RuleBook | None:
        return self.now

    def elsewhere(self, cameras: Collection[int], own: Collection[tuple[int, str]]) -> list[Usage] | None:
        return self.others

    def close(self) -> None:
        pass


def fill(rig: Rig, *cameras: Camera, rounds: int, seconds: float = 1.0) -> None:
    """Each round 10 AUs of each camera, then some time: about 11 rounds are a chunk."""
    for _ in range(rounds):
        for camera in cameras:
            camera.put(10)
        rig.turn()
        rig.clock.advance(seconds)


def settle(rig: Rig, rounds: int = 4) -> None:
    for _ in range(rounds):
        rig.clock.advance(20)
        rig.turn()


def chunks(rig: Rig, camera: int, track: str = "main") -> int:
    work = rig.slot._works[camera, track]
    return work.next_number - work.first_chunk


def test_nothing_goes_by_rule_before_the_rules_are_known(make_rig: Make) -> None:
    """After a week switched off the journal's rule is the old one; today's may be longer."""
    rig = make_rig()
    _, camera = rig.track(rule=RetentionRule(days=1.0))
    rig.run(camera, 100)
    rig.close()
    rig.clock.advance(7 * DAY)
    rules = Book(Member(1, "gate", rule=RetentionRule(days=30.0)))
    known, rules.now = rules.now, None
    again = make_rig(clock=rig.clock, rules=rules)
    settle(again)
    assert again.core().tail_row == 0
    rules.now = known
    settle(again)
    assert tape(again.path, again) == camera.sent
    rules.say(Member(1, "gate", rule=RetentionRule(days=6.0)))
    settle(again)
    assert again.core().tail_row == again.core().next_row
    assert again.slot._works[1, "main"].keep.why == "camera gate: days = 6", "which is what its journal records now"


def test_a_week_of_expired_footage_is_out_of_sight_at_once_and_given_up_little_by_little(make_rig: Make) -> None:
    rig = make_rig(bytes_max=100 * CHUNK)
    rules = Book(Member(1, "gate", rule=RetentionRule(days=8.0)))
    _, audio = rig.track(1, "audio", TrackKind.AUDIO, gop=1, fps=10, size=20_000, rule=RetentionRule(days=8.0))
    fill(rig, audio, rounds=700)
    rig.close()
    rig.clock.advance(7.9 * DAY)
    again = make_rig(clock=rig.clock, rules=rules, bytes_max=100 * CHUNK)
    _, more = again.track(1, "audio", TrackKind.AUDIO, gop=1, fps=10, size=20_000)
    more.put(10)
    again.turn()
    again.clock.advance(0.1 * DAY)
    before = chunks(again, 1, "audio")
    assert before > 100
    for _ in range(3):
        again.turn()
    assert chunks(again, 1, "audio") >= before - 3 * 64
    assert tape(again.path, again, 1, "audio") == more.sent, "what is not expired is there, and no more"
    settle(again, 10)
    assert chunks(again, 1, "audio") <= 2


def test_a_partners_bytes_are_those_of_all_its_cameras(make_rig: Make) -> None:
    east = GroupRule(bytes_max=5 * CHUNK, name="East")
    rules = Book(Member(1, "a", "East"), Member(2, "b", "East"), Member(3, "c", "West"), partners=(east,))
    rig = make_rig(quarantine_s=0.0, bytes_max=40 * CHUNK, rules=rules)
    _, one = rig.track(1, size=120_000)
    _, two = rig.track(2, size=120_000)
    _, west = rig.track(3, size=120_000)
    fill(rig, one, rounds=40)
    two.start_ns = rig.clock.wall_ns()
    fill(rig, two, west, rounds=50)
    settle(rig)
    assert chunks(rig, 1) + chunks(rig, 2) <= 5 and chunks(rig, 3) >= 4
    assert chunks(rig, 1) <= 1, "the older footage goes first, whosever it is"
    assert tape(rig.path, rig, 2) == two.sent[-len(tape(rig.path, rig, 2)):]


def test_a_quota_over_several_slots_takes_the_oldest_of_all(make_rig: Make) -> None:
    rules = Book(Member(1, "a", "East"), Member(2, "b", "East"), partners=(GroupRule(bytes_max=6 * CHUNK, name="East"),))
    rig = make_rig(quarantine_s=0.0, bytes_max=40 * CHUNK, rules=rules)
    rules.others = [Usage(2, "main", 4 * CHUNK, rig.clock.wall_ns() - NS)]
    _, camera = rig.track(1, size=120_000)
    fill(rig, camera, rounds=60)
    settle(rig)
    assert chunks(rig, 1) >= 5, "the other slot's footage is older: that slot acts"
    rules.others = None
    settle(rig)
    assert chunks(rig, 1) >= 5, "nothing goes on a guess"
    rules.others = [Usage(2, "main", 4 * CHUNK, rig.clock.wall_ns())]
    settle(rig)
    assert chunks(rig, 1) == 2


def test_a_tracks_bytes_leave_the_cameras_other_tracks_alone(make_rig: Make) -> None:
    rules = Book(Member(1, "a", rule=RetentionRule(audio=TrackRule(bytes_max=3 << 20))))
    rig = make_rig(quarantine_s=0.0, rules=rules)
    _, video = rig.track(1, size=120_000)
    _, audio = rig.track(1, "audio", TrackKind.AUDIO, gop=1, fps=10, size=20_000)
    fill(rig, video, audio, rounds=40)
    settle(rig)
    assert chunks(rig, 1, "audio") <= 3 and tape(rig.path, rig) == video.sent


def test_a_full_volume_takes_what_no_minimum_speaks_for_first(make_rig: Make) -> None:
    rules = Book(Member(1, "old", rule=RetentionRule(days=9.0, days_min=5.0)), Member(2, "new"))
    rig = make_rig(quarantine_s=0.0, bytes_max=14 * CHUNK, rules=rules)
    _, old = rig.track(1, size=120_000)
    _, new = rig.track(2, size=120_000)
    fill(rig, old, rounds=40)
    new.start_ns = rig.clock.wall_ns()
    fill(rig, new, rounds=130)
    assert tape(rig.path, rig, 1) == old.sent and rig.core(2).tail_row > 0
    assert not any(isinstance(event, MinimumBroken) for event in rig.events)
    fill(rig, old, rounds=130)
    assert any(event == MinimumBroken(1, "main", "camera old") for event in rig.events), "recording goes on, and says what it cost"
    assert tape(rig.path, rig, 1)[-1] == old.sent[-1]


def test_the_newest_bytes_of_a_camera_stay_when_others_can_go(make_rig: Make) -> None:
    rules = Book(Member(1, "a", rule=RetentionRule(bytes_min=4 * CHUNK)), Member(2, "b"))
    rig = make_rig(quarantine_s=0.0, bytes_max=10 * CHUNK, rules=rules)
    _, one = rig.track(1, size=120_000)
    _, two = rig.track(2, size=120_000)
    fill(rig, one, rounds=70)
    fill(rig, two, rounds=150)
    assert chunks(rig, 1) in {4, 5} and rig.core(2).tail_row > 0


def test_what_else_fills_the_disk_costs_the_oldest_footage(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = make_rig(quarantine_s=0.0, bytes_max=12 * CHUNK, free_min=0.1)
    total, foreign = 20 * CHUNK, 0
    sound = os.fstatvfs

    def small(fd: int) -> os.statvfs_result:
        found = list(sound(fd))
        pool = rig.slot._pool
        found[1], found[2], found[4] = 4096, total // 4096, max(0, total - foreign - pool.total_bytes) // 4096
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "fstatvfs", small)
    _, camera = rig.track(size=120_000)
    fill(rig, camera, rounds=110)
    assert rig.slot._pool.total_bytes >= 9 * CHUNK
    foreign = 12 * CHUNK
    fill(rig, camera, rounds=60)
    assert rig.slot._pool.total_bytes <= 6 * CHUNK
    kept = tape(rig.path, rig)
    assert kept == camera.sent[-len(kept):]
    foreign = 0
    fill(rig, camera, rounds=60)
    assert rig.slot._pool.total_bytes >= 8 * CHUNK, "the room is used again"


class Holds:
    """Rows of [first, last] are held, and not saved."""

    def __init__(self) -> None:
        self.rows = (1 << 62, 1 << 62)

    def free_until(self, work: TapeWork, first_row: int, end_row: int) -> int:
        return min(end_row, max(self.rows[0], first_row)) if first_row <= self.rows[1] else end_row


def test_the_seam_of_holds_stops_every_way_to_lose_footage(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    holds, rules = Holds(), Book(Member(1, "a", rule=RetentionRule(days=1.0, bytes_max=3 * CHUNK)))
    rig = make_rig(quarantine_s=0.0, bytes_max=12 * CHUNK, rules=rules)
    monkeypatch.setattr(rig.slot._holds, "free_until", holds.free_until)
    holds.rows = (2, 5)
    _, camera = rig.track(size=120_000)
    fill(rig, camera, rounds=60)
    rig.clock.advance(2 * DAY)
    settle(rig)
    assert rig.core().tail_row == 2
    holds.rows = (1 << 62, 1 << 62)
    settle(rig)
    assert rig.core().tail_row == rig.core().next_row


def test_a_clock_that_runs_away_destroys_nothing(make_rig: Make) -> None:
    """An RTC that forgot the year, at a start; and a date that somebody mistyped, while it runs."""
    rig = make_rig()
    _, camera = rig.track(rule=RetentionRule(days=31.0))
    rig.run(camera, 100)
    for years in (10, -10):
        rig.clock.step_wall(years * 365 * DAY)
        settle(rig)
        assert rig.core().tail_row == 0
    rig.close()
    rig.clock.step_wall(365 * DAY)
    again = make_rig(clock=rig.clock)
    settle(again, 100)
    assert again.core().tail_row == 0 and [event for event in again.events if isinstance(event, ClockDoubted)]
    again.clock.step_wall(-365 * DAY)
    settle(again, 200)
    assert tape(again.path, again) == camera.sent
    again.clock.step_wall(365 * DAY)
    settle(again, 200)
    assert again.core().tail_row == again.core().next_row, "it has kept to its time for an hour"


def test_a_month_switched_off_is_no_reason_to_doubt(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track(rule=RetentionRule(days=7.0))
    rig.run(camera, 100)
    rig.close()
    rig.clock.step_wall(30 * DAY)
    again = make_rig(clock=rig.clock)
    settle(again, 3)
    assert again.core().tail_row == again.core().next_row


def test_a_track_that_goes_on_gives_its_chunks_up_in_time(make_rig: Make) -> None:
    """Each look finds a row that has expired: the tail's order must not keep the chunks' orders waiting for ever."""
    rig = make_rig(bytes_max=18 * CHUNK)
    _, camera = rig.track(rule=RetentionRule(days=1800 / DAY), fps=1, gop=10, size=3_000)
    for _ in range(7000 // 20):
        camera.put(20)
        rig.clock.advance(20)
        rig.turn()
    assert chunks(rig, 1) <= 4


def test_slots_see_what_lies_in_others(tmp_path: Path) -> None:
    """Two slots on one volume: each measures the other's tracks, never its own twice."""
    (tmp_path / "volume").mkdir()
    rig = Rig(tmp_path / "volume", tmp_path / "live")
    try:
        _, camera = rig.track(1, size=120_000)
        rig.track(2, size=120_000)
        fill(rig, camera, rounds=30)
        site = SiteRules([rig.path], rig.live)
        assert site.of_slot(rig.path).book() is None
        rules = site.of_slot(rig.path)
        try:
            found = rules.elsewhere({1, 2, 3}, {(2, "main")})
            assert found is not None and [(one.camera, one.track) for one in found] == [(1, "main")]
            assert found[0].nbytes == chunks(rig, 1) * CHUNK and found[0].first_ns == camera.start_ns
        finally:
            rules.close()
        (tmp_path / "none").mkdir()
        lost = SiteRules([tmp_path / "none"], rig.live).of_slot(rig.path)
        assert lost.elsewhere({1}, ()) is None, "what cannot be measured is not guessed"
    finally:
        rig.close()
