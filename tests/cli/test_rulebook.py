"""Of several rules each promise is kept: the shortest to delete, the longest to keep, and bytes are counted where they are stated."""

import json

from hypothesis import assume, given
from hypothesis import strategies as st

from recorder.base.config import GroupRule, RetentionRule, SiteConfig, TrackRule
from recorder.base.rulebook import Keep, Member, RuleBook, member_from_json, member_to_json, rule_book

TRACKS = ("main", "sub", "audio", "metadata")


def book(*members: Member, general: RetentionRule | None = None, partners: tuple[GroupRule, ...] = (),
         sites: tuple[GroupRule, ...] = ()) -> RuleBook:
    site = SiteConfig("Test", "state", retention=general or RetentionRule(days=31.0), partners=partners, sites=sites)  # type: ignore[arg-type]
    return rule_book(site, members)


def test_without_a_rule_the_site_wide_one_counts() -> None:
    assert book(Member(1, "gate")).keep(1, "main") == Keep(31.0, "site-wide", 0.0, "site-wide")
    assert book(Member(1, "gate")).keep(2, "main") is None, "footage of a camera that nobody knows has no rule here"


def test_a_camera_may_stay_longer_than_the_site_wide_rule_says() -> None:
    kept = book(Member(1, "gate", rule=RetentionRule(days=90.0))).keep(1, "main")
    assert kept is not None and (kept.days, kept.why) == (90.0, "camera gate: days = 90")


def test_a_partners_promise_outranks_its_cameras() -> None:
    rules = book(Member(1, "gate", "East", rule=RetentionRule(days=90.0)), Member(2, "hall", "West", rule=RetentionRule(days=90.0)),
                 partners=(GroupRule(days=14.0, name="East"),))
    east, west = rules.keep(1, "main"), rules.keep(2, "main")
    assert east is not None and (east.days, east.days_by) == (14.0, "partner East")
    assert west is not None and west.days == 90.0


def test_a_track_may_go_earlier_than_its_camera_and_stay_longer() -> None:
    rules = book(Member(1, "gate", rule=RetentionRule(days=30.0, audio=TrackRule(days=3.0), metadata=TrackRule(days=300.0))))
    assert [kept.days for track in TRACKS if (kept := rules.keep(1, track))] == [30.0, 30.0, 3.0, 300.0]


def test_footage_is_never_kept_beyond_its_days_for_the_sake_of_a_minimum() -> None:
    kept = book(Member(1, "gate", "East", "Harbour"), partners=(GroupRule(days=5.0, name="East"),),
                sites=(GroupRule(days_min=7.0, name="Harbour"),)).keep(1, "main")
    assert kept is not None and (kept.days, kept.days_min, kept.min_by) == (5.0, 5.0, "site Harbour")


def test_bytes_belong_to_who_states_them() -> None:
    gate = Member(1, "gate", "East", rule=RetentionRule(bytes_max=5, audio=TrackRule(bytes_max=1)))
    rules = book(gate, Member(2, "hall", "East"), general=RetentionRule(days=31.0, bytes_min=2),
                 partners=(GroupRule(bytes_max=8, name="East"), GroupRule(bytes_max=9, name="Nobody")))
    found = {(q.by, q.bytes_max, q.bytes_min, tuple(sorted(q.cameras)), q.track) for q in rules.quotas()}
    assert found == {("camera gate", 5, 2, (1,), ""), ("camera gate, audio", 1, 0, (1,), "audio"), ("camera hall", 0, 2, (2,), ""),
                     ("partner East", 8, 0, (1, 2), "")}


days = st.none() | st.floats(0.001, 100)
track_rules = st.builds(TrackRule, days=days, bytes_max=st.integers(0, 9), days_min=st.floats(0, 9), bytes_min=st.integers(0, 9))
rules = st.builds(RetentionRule, days=days, days_min=st.floats(0, 9), main=st.none() | track_rules, audio=st.none() | track_rules)
groups = st.builds(GroupRule, days=days, days_min=st.floats(0, 9), audio=st.none() | track_rules, name=st.just("a"))


@given(own=st.none() | rules, partner=st.none() | groups, site=st.none() | groups, track=st.sampled_from(TRACKS))
def test_no_level_is_overruled_towards_keeping(own: RetentionRule | None, partner: GroupRule | None, site: GroupRule | None,
                                               track: str) -> None:
    kept = book(Member(1, "gate", "a", "a", own), partners=(partner,) if partner else (), sites=(site,) if site else ()).keep(1, track)
    assert kept is not None and 0 <= kept.days_min <= kept.days
    said = []
    for rule in (own, partner, site):
        part = getattr(rule, track, None)
        said += [(part and part.days) or (rule and rule.days)]
    assert kept.days == min([one for one in said if one] or [31.0])


@given(own=st.none() | rules)
def test_a_member_survives_its_way_over_a_control_socket(own: RetentionRule | None) -> None:
    levels = [part for part in (own, own and own.main, own and own.audio) if part]
    assume(not any((p.days and p.days_min > p.days) or (p.bytes_max and p.bytes_min > p.bytes_max) for p in levels))
    member = Member(3, "gate", "East", "", own)
    assert member_from_json(json.loads(json.dumps(member_to_json(member)))) == member
