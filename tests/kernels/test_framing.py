"""recorder/_ext/framing: messages and frames out of any split, and what broken senders do to the stream."""

import random

import pytest
import rtpkit
import twin_framing
from hypothesis import given, settings
from hypothesis import strategies as st
from rtpkit import interleaved, rtp

from recorder._ext.auqueue import AuQueue
from recorder._ext.framing import Connection
from recorder._ext.rtp import EVENT_DAMAGED_STREAM, EVENT_FIRST_AU, EVENT_FORMAT_CHANGE, EVENT_MESSAGE, RtpTrack

OK = b"RTSP/1.0 200 OK\r\nCSeq: 3\r\nContent-Length: 5\r\n\r\nhello"
NOW = 10**9


def audio(capacity: int = 1 << 20) -> RtpTrack:
    return RtpTrack(AuQueue(capacity, 4096), "pcma", 8000, [8], 1)


def connected(*channels: int) -> tuple[Connection, list[RtpTrack]]:
    """A connection with an audio track on each pair of channels: every frame is an access unit."""
    connection, tracks = Connection(), [audio() for _ in channels]
    for channel, track in zip(channels, tracks, strict=True):
        connection.bind(channel, channel + 1, track)
    return connection, tracks


def sound(seq: int, payload: bytes = b"sound") -> bytes:
    return rtp(seq, 160 * seq, payload, pt=8)


def feed(connection: Connection, data: bytes, sizes: list[int] | None = None) -> int:
    """Feed in pieces of the sizes given, the rest whole; all events."""
    events, at = 0, 0
    for size in [*(sizes or []), len(data)]:
        piece = data[at:at + size]
        events |= connection.feed(piece, len(piece), NOW, 0)
        at += size
    return events


def heard(track: RtpTrack) -> list[bytes]:
    return [data for _, data in track.queue.take(10_000)]


MESSAGES = st.sampled_from([
    OK, b"RTSP/1.0 200 OK\nCSeq: 1\n\n", b"OPTIONS rtsp://h/ RTSP/1.0\r\nCSeq: 9\r\n\r\n",
    b"SET_PARAMETER * RTSP/1.0\r\nContent-length :3\r\n\r\n$$$",
    b"RTSP/1.0 401 Unauthorized\r\nContent-Length: 0\r\nX: y\r\n\r\n", b"RTSP/1.0 200 OK\r\nCONTENT-LENGTH: 4\r\n\r\n\r\n\r\n"])
BLANKS = st.sampled_from([b"\r\n", b"\n", b"\r\n\r\n\n"])
PARTS = st.lists(st.one_of(
    st.tuples(st.just("frame"), st.sampled_from([0, 4, 9]), st.one_of(st.integers(1, 40), st.integers(1300, 1500), st.just(65523))),
    st.tuples(st.just("text"), st.one_of(MESSAGES, BLANKS), st.just(0))), max_size=25)


def stream_of(parts: list[tuple[str, object, int]]) -> bytes:
    out, seq = b"", {0: 0, 4: 0, 9: 0}
    for kind, what, size in parts:
        if kind == "text":
            assert isinstance(what, bytes)
            out += what
        else:
            assert isinstance(what, int)
            out += interleaved(what, sound(seq[what], rtpkit.noise(size, seq[what])))
            seq[what] += 1
    return out


@settings(max_examples=150, deadline=None)
@given(PARTS, st.lists(st.one_of(st.integers(1, 7), st.integers(1, 3000)), max_size=60))
def test_any_split_gives_what_the_twin_reads(parts, sizes):
    data = stream_of(parts)
    connection, (first, second) = connected(0, 4)
    feed(connection, data, sizes)
    frames, messages = twin_framing.parse(data)
    assert connection.take_messages() == messages
    assert heard(first) == [p[12:] for c, p in frames if c == 0]
    assert heard(second) == [p[12:] for c, p in frames if c == 4]
    stats = connection.stats()
    assert (stats["frames"], stats["unbound_frames"]) == (sum(c != 9 for c, _ in frames), sum(c == 9 for c, _ in frames))
    assert (stats["resyncs"], stats["skipped_bytes"], stats["bytes"]) == (0, 0, len(data))


def test_one_byte_per_segment_and_lengths_0_and_65535():
    connection, (track,) = connected(0)
    largest = rtpkit.noise(65523)
    data = interleaved(0, b"") + interleaved(0, sound(1, largest)) + OK + interleaved(0, sound(2))
    feed(connection, data, [1] * len(data))
    assert heard(track) == [largest, b"sound"]
    assert connection.take_messages() == [OK]


def test_data_before_the_play_answer_is_kept():
    connection, (track,) = connected(0)
    events = feed(connection, interleaved(0, sound(1)) + OK)
    assert events & EVENT_MESSAGE
    assert events & EVENT_FIRST_AU
    assert heard(track) == [b"sound"]


def test_flood_on_channels_never_set_up_is_counted_and_ignored():
    connection, (track,) = connected(0)
    flood = interleaved(5, rtpkit.noise(1400)) * 900
    assert feed(connection, flood + interleaved(0, sound(1))) == EVENT_FIRST_AU | EVENT_FORMAT_CHANGE
    stats = connection.stats()
    assert (stats["unbound_frames"], stats["unbound_bytes"]) == (900, len(flood))
    assert heard(track) == [b"sound"]


def test_frame_of_an_unbound_track_is_ignored_from_then_on():
    connection, (track,) = connected(0)
    connection.unbind(track)
    feed(connection, interleaved(0, sound(1)))
    assert heard(track) == []
    connection.bind(0, -1, track)
    assert connection.tracks == (track,)


@pytest.mark.parametrize("channels", [(0, 0), (256, 1), (-1, 1), (2, 3)])
def test_channels_that_cannot_be_bound(channels):
    connection, _ = connected(2)
    with pytest.raises(ValueError, match="channels"):
        connection.bind(*channels, audio())


def test_the_ninth_track_is_refused():
    connection, _ = connected(*range(0, 16, 2))
    with pytest.raises(ValueError, match="at most 8"):
        connection.bind(100, 101, audio())


# ---- garbage

@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=600), st.lists(st.integers(1, 200), max_size=40), st.integers(0, 99))
def test_after_garbage_the_stream_is_found_again(garbage, sizes, seed):
    """Whatever garbage says, frames some way behind it arrive; nothing after it is called undamaged before (moonfire#302)."""
    connection, (track,) = connected(0)
    before = b"".join(interleaved(0, sound(i)) for i in range(3))
    behind = b"".join(interleaved(0, sound(i, rtpkit.noise(100, seed + i))) for i in range(3, 900))
    events = feed(connection, before + garbage + behind, sizes)
    assert not events & EVENT_DAMAGED_STREAM or connection.error
    if not events & EVENT_DAMAGED_STREAM:
        assert heard(track)[-1] == rtpkit.noise(100, seed + 899)


@pytest.mark.parametrize("piece", [1, 7, 1000, 100000])
def test_garbage_between_frames_costs_no_good_frame(piece):
    connection, (track,) = connected(0)
    data = interleaved(0, sound(1)) + b"\x00\x01garbage $ R RTSP $\x00\x01" + interleaved(0, sound(2)) + interleaved(0, sound(3))
    feed(connection, data, [piece] * (len(data) // piece))
    aus = track.queue.take()
    assert [d for _, d in aus] == [b"sound"] * 3
    assert [au["flags"] & rtpkit.DAMAGED for au, _ in aus] == [0, rtpkit.DAMAGED, 0]
    assert connection.stats()["resyncs"] == 1
    assert connection.stats()["skipped_bytes"] == 22


@pytest.mark.parametrize("piece", [5, 100000])
def test_a_frame_cut_short_by_its_sender_loses_itself_only(piece):
    connection, (track,) = connected(0)
    cut = interleaved(0, sound(2, b"\xee" * 400))[:150]
    data = interleaved(0, sound(1)) + cut + b"".join(interleaved(0, sound(n)) for n in range(3, 30)) + b"\x00" * 3
    feed(connection, data, [piece] * (len(data) // piece))
    assert heard(track) == [b"sound"] * 28
    assert track.stats()["lost"] == 1


def test_a_cut_frame_that_is_found_out_too_late_is_followed_by_damage():
    """Where a read ends with the frame nothing can be held against it yet: it goes out, and what comes next is flagged."""
    connection, (track,) = connected(0)
    cut = interleaved(0, sound(2, b"\xee" * 400))[:150]
    behind = b"".join(interleaved(0, sound(n)) for n in range(3, 30))
    feed(connection, interleaved(0, sound(1)) + cut + behind, [1] * 2000)
    assert connection.stats()["resyncs"] == 1
    aus = track.queue.take()
    assert aus[2][0]["flags"] & rtpkit.DAMAGED
    assert aus[-1][1] == b"sound"


def test_an_answer_ends_the_search():
    connection, (track,) = connected(0)
    feed(connection, b"\x01\x02" + rtpkit.noise(500).replace(b"$", b"x").replace(b"R", b"x") + OK + interleaved(0, sound(1)))
    assert connection.take_messages() == [OK]
    assert heard(track) == [b"sound"]


def test_what_begins_like_an_answer_and_is_none_does_not_stop_the_search():
    """Found by the fuzz target: the search met the same beginning for ever."""
    connection, (track,) = connected(0)
    feed(connection, b"\0RTSP/1.0 \xff\xfe$" + interleaved(0, sound(1)))
    assert heard(track) == [b"sound"]


def test_256_kib_of_garbage_end_the_connection():
    connection, (track,) = connected(0)
    assert feed(connection, b"\x01" * (256 << 10)) == 0
    assert feed(connection, b"\x01" * 10) == EVENT_DAMAGED_STREAM
    assert "256 KiB" in connection.error
    assert feed(connection, interleaved(0, sound(1))) == 0
    assert heard(track) == []


def test_a_frame_of_another_sender_does_not_end_the_search():
    connection, (track,) = connected(0)
    feed(connection, interleaved(0, sound(1)) + b"\x00" + interleaved(0, rtp(7, 7, b"other", pt=8, ssrc=99)) + interleaved(0, sound(2)))
    assert heard(track) == [b"sound"] * 2
    assert track.stats()["foreign_ssrc"] == 0


def test_a_web_server_is_found_out_at_once():
    connection = Connection()
    assert feed(connection, b"HTTP/1.1 400 Bad Request\r\n\r\n") == EVENT_DAMAGED_STREAM
    assert "RTSP" in connection.error


# ---- messages

@pytest.mark.parametrize("value", [b"-1", b"4294967296", b"131073", b"12a", b"", b"0x10", b"99999999999999999999"])
def test_content_length_that_cannot_be_is_refused_without_allocation(value):
    connection = Connection()
    assert feed(connection, b"RTSP/1.0 200 OK\r\nContent-Length: " + value + b"\r\n\r\n") == EVENT_DAMAGED_STREAM
    assert "Content-Length" in connection.error


def test_content_length_said_twice():
    once = b"RTSP/1.0 200 OK\r\nContent-Length: 2\r\nContent-Length: %d\r\n\r\nab"
    same, other = Connection(), Connection()
    feed(same, once % 2)
    assert same.take_messages() == [once % 2]
    assert feed(other, once % 1) == EVENT_DAMAGED_STREAM


def test_a_body_of_128_kib_is_taken():
    connection = Connection()
    message = b"RTSP/1.0 200 OK\r\nContent-Length: 131072\r\n\r\n" + b"v" * 131072
    feed(connection, message, [1000] * 50)
    assert connection.take_messages() == [message]


def test_a_content_length_shorter_than_the_body_is_resynced():
    connection, (track,) = connected(0)
    feed(connection, b"RTSP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nv=0 and more\r\n" + OK + interleaved(0, sound(1)))
    messages = connection.take_messages()
    assert messages[0].endswith(b"v=0")
    assert heard(track) == [b"sound"]


@pytest.mark.parametrize(("message", "word"), [
    (b"RTSP/1.0 200 OK\r\n" + b"A: b\r\n" * 256 + b"\r\n", "255"),
    (b"RTSP/1.0 200 OK\r\nA: " + b"b" * 2600 + b"\r\n\r\n", "2562")])
def test_heads_over_the_limits_are_refused(message, word):
    connection = Connection()
    assert feed(connection, message) == EVENT_DAMAGED_STREAM
    assert word in connection.error


def test_heads_at_the_limits_are_taken():
    message = b"RTSP/1.0 200 OK\r\n" + (b"A" * 512 + b": " + b"b" * 2048 + b"\r\n") * 255 + b"\r\n"
    connection = Connection()
    feed(connection, message, [random.Random(1).randint(1, 5000) for _ in range(40)])
    assert connection.take_messages() == [message]


def test_messages_that_nobody_takes_are_bounded():
    connection = Connection()
    assert feed(connection, OK * 64) == EVENT_MESSAGE
    assert feed(connection, OK) == EVENT_DAMAGED_STREAM


def test_progress_is_what_is_complete_not_bytes():
    connection = Connection()
    connection.feed(OK, len(OK), 5, 0)
    connection.feed(OK, len(OK) - 1, 9, 0)
    assert connection.stats()["last_frame_ns"] == 5


def test_more_bytes_than_the_buffer_holds_are_refused():
    with pytest.raises(ValueError, match="holds 3"):
        Connection().feed(b"abc", 4, 0, 0)
