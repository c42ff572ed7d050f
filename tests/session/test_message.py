"""RTSP messages: what is tolerated, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.base.errors import SourceError
from recorder.base.media import GapCause
from recorder.rtsp.message import Response, ServerRequest, build_answer, build_request, parse_message


def response(raw: bytes) -> Response:
    message = parse_message(raw)
    assert isinstance(message, Response)
    return message


def test_request_spells_cseq_so_and_always_names_the_user_agent() -> None:
    text = build_request("SETUP", "rtsp://h/x", 7, [("Transport", "RTP/AVP/TCP")]).decode()
    assert text == "SETUP rtsp://h/x RTSP/1.0\r\nCSeq: 7\r\nUser-Agent: Watchroom\r\nTransport: RTP/AVP/TCP\r\n\r\n"


def test_request_cannot_be_split_by_a_value() -> None:
    raw = build_request("DESCRIBE", "rtsp://h/x\r\nEvil: 1", 1, [("Session", "1\r\nEvil: 2")])
    assert raw.count(b"\r\n") == 5
    assert b"\nEvil" not in raw


@pytest.mark.parametrize("name", [b"CSeq: 3", b"Cseq:3", b"cseq: 3 ", b"CSEQ :\t3"])
def test_cseq_in_any_spelling(name: bytes) -> None:
    assert response(b"RTSP/1.0 200 OK\r\n" + name + b"\r\n\r\n").cseq == 3


@pytest.mark.parametrize("value", [b"", b"x", b"-1", b"1 2", b"9" * 20, "²".encode()])
def test_cseq_that_is_no_number_is_none(value: bytes) -> None:
    assert response(b"RTSP/1.0 200 OK\r\nCSeq: " + value + b"\r\n\r\n").cseq is None


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
def test_lines_end_as_they_like(end: bytes) -> None:
    answer = response(end.join([b"RTSP/1.0 401 Unauthorized", b"CSeq: 1", b"WWW-Authenticate: A", b"WWW-Authenticate: B", b"", b"body"]))
    assert (answer.status, answer.reason, answer.headers.all("WWW-Authenticate"), answer.body) == (401, "Unauthorized", ["A", "B"], b"body")


def test_blank_lines_before_and_headers_without_colon_are_skipped() -> None:
    answer = response(b"\r\n\r\nRTSP/1.0 200\r\nnonsense\r\n: x\r\nPublic: OPTIONS\r\n\r\n")
    assert (answer.status, answer.reason, answer.headers.fields) == (200, "", (("public", "OPTIONS"),))


def test_body_keeps_its_bytes() -> None:
    assert response(b"RTSP/1.0 200 OK\r\n\r\nv=0\r\n\r\n\xff").body == b"v=0\r\n\r\n\xff"


def test_server_request_is_answered() -> None:
    request = parse_message(b"SET_PARAMETER rtsp://h/x RTSP/1.0\r\nCSeq: 9\r\nSession: ab\r\n\r\n")
    assert isinstance(request, ServerRequest)
    assert build_answer(request) == b"RTSP/1.0 200 OK\r\nCSeq: 9\r\nSession: ab\r\n\r\n"
    unknown = parse_message(b"FROBNICATE * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
    assert isinstance(unknown, ServerRequest)
    assert build_answer(unknown).startswith(b"RTSP/1.0 501 ")


@pytest.mark.parametrize("raw", [
    b"", b"HTTP/1.1 200 OK\r\n\r\n", b"RTSP/1.0\r\n\r\n", b"RTSP/1.0 abc\r\n\r\n",
    b"RTSP/1.0 200 OK\r\n" + b"a: b\r\n" * 300 + b"\r\n",
    b"RTSP/1.0 200 OK\r\n" + b"a" * 600 + b": b\r\n\r\n",
    b"RTSP/1.0 200 OK\r\na: " + b"b" * 2100 + b"\r\n\r\n",
    b"RTSP/1.0 200 OK\r\n\r\n" + bytes(129 << 10),
])
def test_no_rtsp_and_too_much_are_refused(raw: bytes) -> None:
    with pytest.raises(SourceError) as caught:
        parse_message(raw)
    assert caught.value.cause == GapCause.REFUSED


@given(st.binary(max_size=400))
def test_any_bytes_give_a_message_or_a_source_error(raw: bytes) -> None:
    for candidate in (raw, b"RTSP/1.0 200 OK\r\n" + raw):
        try:
            parse_message(candidate)
        except SourceError:
            pass
