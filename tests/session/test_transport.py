"""Transport answers of real cameras."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.rtsp.transport import ask_interleaved, ask_multicast, ask_udp, parse_transport


@pytest.mark.parametrize(("value", "channels", "ssrc", "udp"), [
    ("RTP/AVP/TCP;unicast;interleaved=0-1", (0, 1), None, False),
    ("RTP/AVP/TCP;unicast;ssrc=d6d6627;interleaved=2-3", (2, 3), 0xD6D6627, False),              # ssrc first
    ("RTP/AVP/TCP;unicast;interleaved=0-1;ssrc= d6d6627", (0, 1), 0xD6D6627, False),             # blank in the value
    ("RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=xyz;mode=\"PLAY\"", (0, 1), None, False),
    ("RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=123456789", (0, 1), None, False),
    ("RTP/AVP/TCP;unicast;interleaved=0", (0, 1), None, False),                                  # one number
    ("RTP/AVP;unicast;interleaved=4-5", (4, 5), None, False),                                    # not TCP by name
    ("RTP/AVP/TCP;interleaved=6-7;source=;destination=cam.lan;mode=play", (6, 7), None, False),
    ("RTP/AVP;unicast;server_port=1-2,RTP/AVP/TCP;unicast;interleaved=0-1", (0, 1), None, False),   # several
    ("RTP/AVP/TCP;unicast", None, None, False),
    ("RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001", None, None, True),
    ("RTP/AVP;unicast;client_port=5000-5001", None, None, True),
    ("RTP/AVP;multicast", None, None, True),
    ("RTP/AVP/TCP;interleaved=300-301", None, None, False),
    ("RTP/AVP/TCP;interleaved=a-b", None, None, False),
    ("", None, None, False),
])
def test_answer(value: str, channels: tuple[int, int] | None, ssrc: int | None, udp: bool) -> None:
    answer = parse_transport(value)
    assert (answer.channels, answer.ssrc, answer.udp) == (channels, ssrc, udp)


def test_question_names_no_mode() -> None:
    assert ask_interleaved(1) == "RTP/AVP/TCP;unicast;interleaved=2-3"
    assert ask_udp((40000, 40001)) == "RTP/AVP;unicast;client_port=40000-40001"
    assert ask_multicast() == "RTP/AVP;multicast"


@pytest.mark.parametrize(("value", "server", "source"), [
    ("RTP/AVP;unicast;client_port=1-2;server_port=6970-6971;source=10.0.0.9;ssrc=1", (6970, 6971), "10.0.0.9"),
    ("RTP/AVP/UDP;unicast;source=;server_port=6970", (6970, 6971), ""),                          # one number
    ("RTP/AVP;unicast;source=cam.lan;server_port=0-0", (0, 0), ""),                              # a name; any port
    ("RTP/AVP;unicast;source=[fd00::7];server_port=70000-70001", None, "fd00::7"),
    ("RTP/AVP;unicast;client_port=1-2", None, ""),
])
def test_where_udp_comes_from(value: str, server: tuple[int, int] | None, source: str) -> None:
    answer = parse_transport(value)
    assert (answer.server_ports, answer.source, answer.multicast) == (server, source, False)


@pytest.mark.parametrize(("value", "group", "ports", "ttl"), [
    ("RTP/AVP;multicast;destination=239.1.2.3;port=5000-5001;ttl=4", "239.1.2.3", (5000, 5001), 4),
    ("RTP/AVP/UDP;multicast;ttl=999;client_port=5000-5001;destination=239.1.2.3", "239.1.2.3", (5000, 5001), None),
    ("RTP/AVP;multicast;destination=cam.lan;port=5000", "", (5000, 5001), None),
])
def test_group_of_a_multicast(value: str, group: str, ports: tuple[int, int], ttl: int | None) -> None:
    answer = parse_transport(value)
    assert (answer.multicast, answer.destination, answer.ports, answer.ttl) == (True, group, ports, ttl)


@given(st.text(max_size=80))
def test_any_text_has_an_answer(value: str) -> None:
    answer = parse_transport(value)
    assert answer.channels is None or all(0 <= c < 256 for c in answer.channels)
