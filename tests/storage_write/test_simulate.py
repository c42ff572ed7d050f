"""What `simulate` says a rule would take is what the rule then takes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig import Rig, tape
from test_rules import CHUNK, DAY, Book, fill, settle

from recorder.base.config import GroupRule, RetentionRule, TrackRule
from recorder.base.errors import NotFound
from recorder.base.media import NS, TrackKind
from recorder.base.rulebook import Change, Member, RuleBook, with_change
from storage.simulate import Loss, losses, total
from storage.store import TapeStore

Make = Callable[..., Rig]


def simulated(rig: Rig, now: RuleBook | None, then: RuleBook | None) -> list[Loss]:
    assert now is not None and then is not None
    store = TapeStore([rig.path], rig.live)
    try:
        return losses(store, now, then, rig.clock.wall_ns())
    finally:
        store.close()


def tail_ns(rig: Rig, camera: int, track: str = "main") -> int:
    store = TapeStore([rig.path], rig.live)
    try:
        return store.track(camera, track).edges().first_ns
    finally:
        store.close()


def site(make_rig: Make) -> tuple[Rig, Book]:
    """Two cameras of a partner, recorded at the same time, and the first one's sound."""
    rules = Book(Member(1, "gate", "East"), Member(2, "hall", "East"))
    rig = make_rig(quarantine_s=0.0, bytes_max=60 * CHUNK, rules=rules)
    _, gate = rig.track(1, size=60_000, fps=1, gop=4)
    _, hall = rig.track(2, size=120_000, fps=1, gop=4)
    _, sound = rig.track(1, "audio", TrackKind.AUDIO, gop=1, fps=1, size=3_000)
    fill(rig, gate, hall, sound, rounds=60, seconds=10)
    return rig, rules


def test_a_shorter_rule_takes_what_was_said(make_rig: Make) -> None:
    rig, rules = site(make_rig)
    rig.clock.advance(DAY)
    was = rules.now
    rule = RetentionRule(days=1.0 + 300 / DAY, audio=TrackRule(days=1.0 + 150 / DAY))       # half of it, and three quarters of the sound
    rules.say(Member(1, "gate", "East", rule=rule), Member(2, "hall", "East"))
    said = {(loss.camera, loss.track): loss for loss in simulated(rig, was, rules.now)}
    assert set(said) == {(1, "main"), (1, "audio")}
    assert said[1, "main"].why.startswith("camera gate: days = 1.00") and said[1, "audio"].why.startswith("camera gate, audio: days")
    assert said[1, "main"].covered_ns < said[1, "audio"].covered_ns
    before = {key: tail_ns(rig, *key) for key in ((1, "main"), (2, "main"), (1, "audio"))}
    rig.turn()
    rig.clock.advance(20)
    rig.turn()
    for key, loss in said.items():
        assert loss.from_ns == before[key] and loss.to_ns <= tail_ns(rig, *key) <= loss.to_ns + 30 * NS
    assert tail_ns(rig, 2) == before[2, "main"]
    assert total(said.values()) == (2, sum(loss.covered_ns for loss in said.values()), sum(loss.nbytes for loss in said.values()))


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(chunks=st.integers(1, 9), track=st.sampled_from(["", "main", "audio"]), young=st.booleans())
def test_a_quota_takes_what_was_said(tmp_path_factory: pytest.TempPathFactory, chunks: int, track: str, young: bool) -> None:
    folder: Path = tmp_path_factory.mktemp("site")
    (folder / "volume").mkdir()
    made: list[Rig] = []

    def make(**more: object) -> Rig:
        made.append(Rig(folder / "volume", folder / "live", **more))  # type: ignore[arg-type]
        return made[-1]

    try:
        rig, rules = site(make)
        rig.clock.advance(1000)
        for _ in range(4):
            rig.turn()
        was = rules.now
        part = TrackRule(bytes_max=chunks * CHUNK // (1 if track != "audio" else 8))
        east = GroupRule(name="East", **{track: part}) if track else GroupRule(bytes_max=part.bytes_max, name="East")  # type: ignore[arg-type]
        gate = RetentionRule(days=9.0, days_min=8.0) if young else None
        rules.say(Member(1, "gate", "East", rule=gate), Member(2, "hall", "East"), partners=(east,))
        said = {(loss.camera, loss.track): loss for loss in simulated(rig, was, rules.now)}
        before = {key: tail_ns(rig, *key) for key in ((1, "main"), (2, "main"), (1, "audio"))}
        settle(rig, 6)
        for key, first_ns in before.items():
            loss, now_ns = said.get(key), tail_ns(rig, *key)
            assert (now_ns == first_ns) if loss is None else (loss.from_ns == first_ns and now_ns >= loss.to_ns), (key, loss)
            assert loss is None or now_ns - loss.to_ns <= 10 * NS
    finally:
        for one in made:
            one.close()


def test_simulating_deletes_nothing(make_rig: Make) -> None:
    rig, rules = site(make_rig)
    assert rules.now is not None
    then = with_change(rules.now, Change("partner", "East", bytes_max=1))
    was = {camera: tape(rig.path, rig, camera) for camera in (1, 2)}
    assert simulated(rig, rules.now, then)
    settle(rig)
    assert {camera: tape(rig.path, rig, camera) for camera in (1, 2)} == was


def test_a_change_is_made_to_one_rule_only() -> None:
    book = Book(Member(1, "gate", "East", "Harbour", RetentionRule(days=9.0)), Member(2, "hall")).now
    assert book is not None
    assert [with_change(book, Change(days=3.0)).keep(n, "main").days for n in (1, 2)] == [9.0, 3.0]  # type: ignore[union-attr]
    for change in (Change("camera", "gate", days=3.0), Change("site", "Harbour", days=3.0), Change("partner", "East", "main", days=3.0)):
        assert [with_change(book, change).keep(n, "main").days for n in (1, 2)] == [3.0, 31.0]  # type: ignore[union-attr]
    with pytest.raises(NotFound, match="nobody"):
        with_change(book, Change("camera", "nobody", days=3.0))
