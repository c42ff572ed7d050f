"""Messages of the live socket: read strictly, and nothing that a client sends raises anything but ConfigError."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.wish import CREDIT_MAX, CREDIT_MIN, Message, read
from recorder.base.errors import ConfigError

SUBSCRIBE = {"op": "subscribe", "tile": 3, "camera": "north"}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


def wish(**more: Any) -> Any:
    return read(json.dumps(SUBSCRIBE | more)).wish


def test_a_plain_subscribe_is_live_and_plays_what_every_browser_plays() -> None:
    found = wish()
    assert (found.camera, found.track, found.start_ns, found.speed, found.play) == ("north", "auto", None, 1.0, {"avc1", "mp4a"})


def test_size_and_ceiling_of_a_tile() -> None:
    assert (wish().width, wish().height, wish().max_kbps, wish().small) == (0, 0, None, False)
    found = wish(width=640, height=360, max_kbps=900, small=True)
    assert (found.width, found.height, found.max_kbps, found.small) == (640, 360, 900, True)
    assert wish(width=None, height=None, max_kbps=None) == wish()


def test_start_is_rfc_3339_or_nanoseconds() -> None:
    assert wish(start="2026-01-01T00:00:00Z").start_ns == wish(start=1_767_225_600_000_000_000).start_ns == 1_767_225_600_000_000_000


@pytest.mark.parametrize(("text", "op"), [('{"op":"ack","tile":1,"bytes":7}', "ack"), ('{"op":"unsubscribe","tile":0}', "unsubscribe"),
                                          ('{"op":"seek","tile":1,"start":5}', "seek")])
def test_the_other_messages(text: str, op: str) -> None:
    assert read(text).op == op


@pytest.mark.parametrize("wrong", [
    {"camera": "../etc"}, {"camera": 5}, {"camera": None}, {"camera": "a" * 49}, {"track": "audio"},
    {"track": []}, {"speed": 0}, {"speed": "1"},
    {"speed": True}, {"speed": 65}, {"speed": float("nan")}, {"play": "avc1"}, {"play": ["x"]}, {"play": [{}]}, {"credit": CREDIT_MIN - 1},
    {"credit": CREDIT_MAX + 1}, {"credit": 1e6}, {"start": True}, {"start": 1.5}, {"start": "yesterday"}, {"start": []}, {"tile": -1},
    {"tile": 1 << 32}, {"width": 100}, {"height": 100}, {"width": 0, "height": 9},
    {"width": 1 << 16, "height": 9}, {"width": 9.5, "height": 9}, {"width": -1, "height": -1},
    {"max_kbps": 0}, {"max_kbps": -1}, {"max_kbps": "1"}, {"max_kbps": 1e3}, {"max_kbps": 1_000_001},
    {"tile": "1"}, {"tile": True}, {"op": "drop"}, {"op": None}, {"op": ["subscribe"]},
])
def test_a_wrong_field_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        read(json.dumps(SUBSCRIBE | wrong))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 5000, '"subscribe"', " " * 9999 + "{}", '{"op":"ack","tile":1,"bytes":-1}'])
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        read(text)


FIELDS = ["op", "tile", "camera", "track", "start", "speed", "play", "credit", "small", "bytes", "width", "height", "max_kbps"]


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES | st.sampled_from(["subscribe", "seek", "ack", "auto", "north"])))
def test_no_message_gets_past_its_limits(body: dict[str, Any]) -> None:
    try:
        found = read(json.dumps(body))
    except ConfigError:
        return
    assert isinstance(found, Message)
    assert 0 <= found.tile < 1 << 32
    assert found.wish is None or CREDIT_MIN <= found.wish.credit <= CREDIT_MAX
    assert found.wish is None or (found.wish.width > 0) == (found.wish.height > 0)


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        read(text)
    except ConfigError:
        pass
