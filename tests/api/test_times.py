"""Times in and out: nothing lost, nothing guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.times import MOST_NS, parse_time, rfc3339


@given(st.integers(0, MOST_NS))
def test_no_nanosecond_is_lost_on_the_way_round(ns: int) -> None:
    assert parse_time(rfc3339(ns)) == parse_time(str(ns)) == ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T19:00:00.5-05:00", 500_000_000),
        ("2026-05-01t12:00:00.123z", 1_777_636_800_123_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000_000),
    ],
)
def test_what_rfc_3339_allows_is_read(text: str, ns: int) -> None:
    assert parse_time(text) == ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "-1",
        "1e9",
        "0x10",
        "12345678901234567890",
        str(1 << 63),
        "2026-05-01",
        "2026-05-01T12:00:00",
        "2026-05-01 12:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-05-01T24:00:00Z",
        "2026-05-01T12:00:61Z",
        "2026-05-01T12:00:00+25:00",
        "2026-05-01T12:00:00 01:00",
        "0000-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59Z",
        "2026-05-01T12:00:00.1234567890Z",
        "٢٠٢٦-05-01T12:00:00Z",
        "2026-05-01T12:00:00Z\n",
        "１２３",
    ],
)
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|not a time"):
        parse_time(text)
