"""Which track a tile shows: by size, bit rate, codec and name."""

from dataclasses import replace
from typing import Any

import pytest

from api.tilechoice import Offer, choose
from api.wish import Wish
from recorder.base.media import NS, SampleEntry


def offer(track: str, width: int, height: int, kbps: int = 0, codec: str = "avc1") -> Offer:
    return Offer(track, SampleEntry(codec, b"", 90_000, width, height), kbps)


MAIN, SUB = offer("main", 1920, 1080, 4000), offer("sub", 640, 360, 500)


def shown(*offers: Offer, **wish: Any) -> str | None:
    found = choose(offers or (MAIN, SUB), Wish("north", **wish))
    return found and found.track


@pytest.mark.parametrize(("width", "height", "track"), [
    (640, 360, "sub"),            # as large as the tile
    (641, 361, "sub"),            # main would be shrunk to a third
    (959, 539, "sub"),            # main a little more than twice the tile
    (960, 540, "main"),           # main just twice the tile
    (1920, 1080, "main"),
    (3840, 2160, "main"),
    (1600, 360, "sub"),           # a broad tile shows both of them 640 wide
    (300, 1000, "sub"),           # a high one 300 wide
    (1, 1, "sub"),
])
def test_the_tile_decides_by_the_pixels_that_the_picture_fills(width: int, height: int, track: str) -> None:
    assert shown(width=width, height=height) == track


def test_a_sub_track_larger_than_the_tile_is_enough_however_large_main_is() -> None:
    assert shown(offer("main", 1280, 720), offer("sub", 800, 450), width=800, height=450) == "sub"
    assert shown(offer("main", 1280, 720), offer("sub", 640, 360), width=800, height=450) == "main"


def test_unknown_sizes_leave_main() -> None:
    assert shown(offer("main", 0, 0), offer("sub", 0, 0), width=320, height=180) == "main"
    assert shown(offer("main", 1920, 1080), offer("sub", 0, 0), width=320, height=180) == "sub"
    assert shown() == "main"


@pytest.mark.parametrize(("most", "track"), [(3999, "sub"), (4000, "main"), (100, "sub"), (None, "main")])
def test_a_ceiling_takes_the_track_that_takes_less(most: int | None, track: str) -> None:
    assert shown(max_kbps=most, width=1920, height=1080) == track


def test_a_ceiling_does_not_lead_to_a_track_that_takes_more_nor_away_from_one_whose_rate_nobody_knows() -> None:
    assert shown(offer("main", 1920, 1080, 2000), offer("sub", 640, 360, 2500), max_kbps=1000) == "main"
    assert shown(offer("main", 1920, 1080, 0), SUB, max_kbps=1) == "main"
    assert shown(MAIN, offer("sub", 640, 360, 0), max_kbps=1000) == "sub"


def test_a_lone_track_is_shown_whatever_it_takes() -> None:
    assert shown(MAIN, max_kbps=1, width=10, height=10, small=True) == "main"
    assert shown(SUB, width=4000, height=4000) == "sub"


def test_what_the_client_cannot_play_is_not_chosen() -> None:
    h265 = offer("main", 3840, 2160, 4000, "hvc1")
    assert shown(h265, SUB, width=3840, height=2160) == "sub"
    assert shown(h265, SUB, width=3840, height=2160, play=frozenset({"avc1", "hvc1"})) == "main"
    assert shown(h265, offer("sub", 640, 360, 300, "hvc1")) is None


def test_a_track_that_is_named_is_meant() -> None:
    assert shown(track="main", small=True, width=10, height=10, max_kbps=1) == "main"
    assert shown(track="sub", width=4000, height=4000) == "sub"
    assert shown(MAIN, track="sub") is None


def test_small_prefers_sub_as_ever() -> None:
    assert shown(small=True) == "sub"
    assert shown(SUB, MAIN, small=True) == "sub"


@pytest.mark.parametrize(("main_s", "sub_s", "start_ns", "track"), [
    (1000, 969, None, "main"), (1000, 971, None, "sub"), (900, 1000, None, "sub"), (1000, 900, 5, "sub"), (0, 0, None, "sub")])
def test_a_track_that_the_camera_no_longer_sends_is_passed_over_live(main_s: int, sub_s: int, start_ns: int | None, track: str) -> None:
    offers = replace(MAIN, end_ns=main_s * NS), replace(SUB, end_ns=sub_s * NS)
    assert shown(*offers, small=True, start_ns=start_ns) == track


def test_the_only_playable_track_is_not_passed_over() -> None:
    assert shown(replace(MAIN, entry=SampleEntry("hvc1", b"", 90_000), end_ns=900 * NS), replace(SUB, end_ns=100 * NS)) == "sub"
