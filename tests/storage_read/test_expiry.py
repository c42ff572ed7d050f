"""What a rule lets nobody read is not read, whoever has or has not moved the tail: a worker may be down, a server off."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from recorder.base.config import RetentionRule, SiteConfig
from recorder.base.errors import Gone
from recorder.base.media import NS, TrackKind
from recorder.base.rulebook import DAY_NS, Expiry, Member, rule_book
from storage.footage import RowRun, row_ends
from storage.reader import TrackReader
from storage.store import TapeStore
from tests.storage_read.reference_writer import BASE_NS, RefVolume, gop


class Rule:
    """What was recorded before `limit_ns` may not be read."""

    def __init__(self) -> None:
        self.limit_ns = 0

    def __call__(self, camera: int, track: str) -> int:
        return self.limit_ns


@pytest.fixture
def rule() -> Rule:
    return Rule()


@pytest.fixture(params=["live", "offline", "ring"])
def track(request: pytest.FixtureRequest, tmp_path: Path, rule: Rule) -> Iterator[TrackReader]:
    """300 rows of a second each: in the live file, in the ring, or without a live file at all."""
    (tmp_path / "live").mkdir()
    volume = RefVolume(tmp_path / "volume", tmp_path / "live")
    written = volume.track(1, "main", TrackKind.AUDIO)
    for _ in range(100 if request.param == "live" else 300):
        written.write_row(gop(5, size=50, key=60, dur=18_000))
    live = tmp_path / "live"
    if request.param == "offline":
        live = tmp_path / "other"
        live.mkdir()
    store = TapeStore([tmp_path / "volume"], live, rule)
    yield store.track(1, "main")
    store.close()
    volume.volume.close()


def test_what_is_kept_in_a_cache_does_not_stand_once_it_has_expired(track: TrackReader, rule: Rule) -> None:
    """A cached clip asked nothing but this: it outlived its rule until somebody else looked at the track."""
    rows = track.rows(0, 1 << 62).rows
    offsets = rows["offset"][20:30].astype("int64")
    assert track.stands(offsets)
    rule.limit_ns = int(row_ends(rows)[20])
    assert not track.stands(offsets) and track.stands(offsets[1:])


def test_nothing_is_read_of_what_has_expired(track: TrackReader, rule: Rule) -> None:
    whole = track.rows(0, 1 << 62)
    assert len(whole) >= 100
    lease_offset = int(whole.rows["offset"][10])
    for expired in (0, 1, 37, 64, 99):
        rule.limit_ns = int(row_ends(whole.rows)[expired])
        kept = track.rows(0, 1 << 62)
        assert kept.first == whole.first + expired + 1 and (kept.rows == whole.rows[expired + 1:]).all()
        edges = track.edges()
        assert (edges.first_row, edges.first_ns) == (kept.first, kept.start_ns) or not len(kept)
        assert track.rows_from(0, 5).first == kept.first
        if expired >= 10:
            with pytest.raises(Gone), track.open_chunk(track.chunk_of(lease_offset)) as lease:
                lease.read(bytearray(10), lease_offset)
            with pytest.raises(Gone):
                track.entries(whole)
    rule.limit_ns = int(row_ends(whole.rows)[-1])
    assert not len(track.rows(0, 1 << 62)) and not track.spans(BASE_NS, BASE_NS + 400 * NS)


def test_a_row_is_read_to_its_last_moment(track: TrackReader, rule: Rule) -> None:
    whole = track.rows(0, 1 << 62)
    rule.limit_ns = int(row_ends(whole.rows)[20]) - 1
    assert track.rows(0, 1 << 62).first == whole.first + 20


def test_a_longer_rule_gives_back_what_nobody_deleted(track: TrackReader, rule: Rule) -> None:
    whole = track.rows(0, 1 << 62)
    rule.limit_ns = int(row_ends(whole.rows)[50])
    assert len(track.rows(0, 1 << 62)) == len(whole) - 51
    rule.limit_ns = 0
    assert (track.rows(0, 1 << 62).rows == whole.rows).all()
    assert len(track.entries(RowRun(whole.first, whole.rows[:60]))) == 5 * 60


def test_the_rules_of_the_moment_count() -> None:
    site, now = SiteConfig("s", Path("x")), [BASE_NS]
    books = [rule_book(site, [Member(1, "a", rule=RetentionRule(days=days))]) for days in (2.0, 1.0)]
    expiry = Expiry(lambda: books[0], lambda: now[0])
    assert (expiry(1, "main"), expiry(2, "main")) == (BASE_NS - 2 * DAY_NS, 0)
    books.pop(0)
    now[0] += NS
    assert expiry(1, "main") == BASE_NS + NS - DAY_NS
