"""recorder/_ext/document: ONVIF metadata (ONVIF Streaming 5.2.1)."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rtpkit import DAMAGED, DISCONTINUITY, Stream, noise

XML = b'<?xml version="1.0"?><tt:MetadataStream>' + noise(900) + b"</tt:MetadataStream>"

PACKED = gzip.compress(XML)


def send(stream: Stream, document: bytes, size: int = 300, *, lose: tuple[int, ...] = (), mark: bool = True, step: int = 45_000) -> None:
    parts = [document[i:i + size] for i in range(0, len(document), size)]
    for i, part in enumerate(parts):
        stream.send(part, marker=mark and i == len(parts) - 1, lose=i in lose)
    stream.step(step)


@given(st.integers(1, 400), st.booleans())
def test_documents_are_put_together_up_to_the_marker_or_the_next_timestamp(size, mark):
    stream = Stream("metadata")
    for document in (XML, PACKED, b"<a/>"):
        send(stream, document, size, mark=mark)
    send(stream, b"<b/>")
    assert [(au["pts"] - 5000, data) for au, data in stream.take()] == [
        (0, XML), (45_000, PACKED), (90_000, b"<a/>"), (135_000, b"<b/>")]


@pytest.mark.parametrize("lost", range(4))
def test_a_document_with_a_hole_is_dropped_and_the_next_is_flagged(lost):
    stream = Stream("metadata")
    send(stream, XML)
    send(stream, XML, lose=(lost,))
    send(stream, b"<b/>")
    aus = stream.take()
    assert (aus[0][1], aus[-1][1]) == (XML, b"<b/>")
    assert all(data in {XML, b"<b/>"} for _, data in aus)
    assert [au["flags"] & DAMAGED for au, _ in aus] == [0, DAMAGED]


def test_silence_of_hours_is_no_jump_of_the_clock():
    """A timestamp of 32 bits at 90 kHz wraps in 13 h: what has passed says how often."""
    stream = Stream("metadata")
    for hours in (0, 3, 7, 30):
        stream.step(hours * 3600 * 90_000)
        send(stream, b"<a/>", step=0)
    aus = stream.take()
    assert [au["pts"] - 5000 for au, _ in aus] == [hours * 3600 * 90_000 for hours in (0, 3, 10, 40)]
    assert not any(au["flags"] & DISCONTINUITY for au, _ in aus)


def test_a_document_that_never_ends_is_dropped_as_overload():
    stream = Stream("metadata", capacity=1 << 14)
    send(stream, b"<a>" + noise(40_000), 1000)
    send(stream, b"<b/>")
    assert [data for _, data in stream.take()] == [b"<b/>"]
    assert stream.track.stats()["overload_aus"] == 1
