"""Requests from bytes, in whatever pieces they come; what is none is answered once and then nothing more is read."""

import pytest

from api.rtspout.address import parse_address
from api.rtspout.fault import Fault
from api.rtspout.request import BODY_MAX, HEAD_MAX, Broken, RequestReader
from api.rtspout.transport import Offer, choose

GOOD = b"PLAY rtsp://h/x RTSP/1.0\r\nCSeq: 7\r\nRange: npt=now-\r\n\r\n"


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_requests_are_cut_out_of_what_comes_between_them(step):
    with_body = b"SET_PARAMETER rtsp://h/x RTSP/1.0\r\nCSeq: 8\r\nContent-Length: 3\r\n\r\nx:y"
    data = b"\r\n" + GOOD + b"$\1\0\x05abcde" + with_body + GOOD + b"$\0\0\0"
    reader, found = RequestReader(), []
    for at in range(0, len(data), step):
        reader.feed(data[at:at + step])
        while (one := reader.take()) is not None:
            found.append(one)
    assert [(one.method, one.cseq, one.body) for one in found] == [("PLAY", 7, b""), ("SET_PARAMETER", 8, b"x:y"), ("PLAY", 7, b"")]
    assert found[0].headers == {"cseq": "7", "range": "npt=now-"}
    assert reader.packets == 2
    assert reader.idle


@pytest.mark.parametrize(("data", "status"), [
    (b"GET / HTTP/1.1\r\n\r\n", 400), (b"PLAY rtsp://h/x RTSP/2.0\r\nCSeq: 1\r\n\r\n", 505), (b"PLAY rtsp://h/x RTSP/1.0\r\n\r\n", 400),
    (b"PLAY  RTSP/1.0\r\nCSeq: 1\r\n\r\n", 400), (b"PLAY rtsp://h/x RTSP/1.0\r\nCSeq: x\r\n\r\n", 400),
    (b"PLAY rtsp://h/x RTSP/1.0\r\nCSeq: 1\r\nno colon\r\n\r\n", 400), (b"PLAY rtsp://h/x RTSP/1.0\r\nCSeq: 1\r\nA: \x01\r\n\r\n", 400),
    (b"PLAY rtsp://h/x RTSP/1.0\r\nCSeq: 1\r\nContent-Length: -1\r\n\r\n", 400),
    (b"PLAY rtsp://h/x RTSP/1.0\r\nCSeq: 1\r\nContent-Length: %d\r\n\r\n" % (BODY_MAX + 1), 413), (b"x", 400),
    (b"PLAY rtsp://h/" + b"x" * 3000 + b" RTSP/1.0\r\nCSeq: 1\r\n\r\n", 413), (b"X" * 3000, 413),
    (b"PLAY rtsp://h/x RTSP/1.0\r\nCSeq: 1\r\nA: " + b"x" * HEAD_MAX, 413),
    (b"PLAY rtsp://h/x RTSP/1.0\r\n" + b"A: b\r\n" * 70 + b"CSeq: 1\r\n\r\n", 400), (b"\xff\xfe\r\n\r\n", 400)])
def test_what_is_no_request_is_answered_with_its_status(data, status):
    reader = RequestReader()
    reader.feed(data + GOOD)
    found = reader.take()
    assert isinstance(found, Broken)
    assert found.fault.status == status
    reader.feed(GOOD)
    assert reader.take() is None


@pytest.mark.parametrize(("value", "offer"), [
    ("RTP/AVP/TCP;unicast;interleaved=2-3", Offer(False, (2, 3))), ("RTP/AVP/TCP", Offer(False, None)),
    ("RTP/AVP;unicast;client_port=5000-5001", Offer(True, (5000, 5001))), ("RTP/AVP/UDP;unicast;client_port=5000", Offer(True, (5000, 5001))),
    ("RTP/AVP;multicast,RTP/AVP/TCP;interleaved=0-1", Offer(False, (0, 1))), ('RTP/AVP/TCP;interleaved=0-1;mode="PLAY"', Offer(False, (0, 1))),
    ("rtp/avp/tcp; unicast; interleaved=0-1", Offer(False, (0, 1))), ("RTP/AVP;destination=10.0.0.9;client_port=2-3", Offer(True, (2, 3)))])
def test_the_first_way_that_will_do_is_chosen(value, offer):
    assert choose(value, "10.0.0.9") == offer


@pytest.mark.parametrize("value", ["", "RTP/SAVP;client_port=1-2", "RTP/AVP;client_port=0-1", "RTP/AVP;client_port=70000-70001",
                                   "RTP/AVP/TCP;interleaved=255-256", "RTP/AVP/TCP;interleaved=a", "RTP/AVP/TCP;interleaved=3-3",
                                   "RTP/AVP;destination=10.0.0.1;client_port=2-3", "," * 20 + "RTP/AVP/TCP"])
def test_ways_that_will_not_do_are_refused(value):
    with pytest.raises(Fault) as caught:
        choose(value, "10.0.0.9")
    assert caught.value.status == 461


@pytest.mark.parametrize(("path", "named"), [
    ("track-side", ("", "track-side", False, "")), ("track-side/track-main", ("", "track-side", False, "main")),
    ("track-side/sub/track-sub", ("", "track-side", True, "sub")), ("replay/track-side", ("replay", "track-side", False, "")),
    ("replay/track-side/track-audio", ("replay", "track-side", False, "audio")), ("live/track-side", ("", "track-side", False, "")),
    ("replay/track-main", ("", "replay", False, "main")), ("live/sub/track-sub", ("", "live", True, "sub"))])
def test_cameras_may_be_called_like_parts_of_an_address(path, named):
    found = parse_address(f"rtsp://h:8554/{path}", frozenset({"replay"}))
    assert (found.kind, found.camera, found.sub, found.track) == named
