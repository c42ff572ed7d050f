"""Access units that find no room: dropped whole up to the next access point, counted, and told as a gap."""

import pytest
from rtpkit import KEY, WALL, Stream, pps264, prefixed, slice264, sps264

from recorder.base.media import GapCause


def full(codec: str = "h264") -> Stream:
    """A stream whose queue holds about 16 KiB, and has been filled."""
    stream = Stream(codec, capacity=1 << 14)
    stream.warm()
    for i in range(40):
        stream.inter(size=1000, seed=i)
    return stream


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_access_units_are_dropped_whole_up_to_the_next_access_point(codec):
    stream = full(codec)
    kept = stream.take()
    assert [data for _, data in kept] == stream.sent[:len(kept)]
    assert len(kept) < 20
    assert stream.queue.dropping_since_ns == 10**9 + (6 + len(kept)) * 40_000_000
    stream.inter()
    assert stream.take() == []
    stream.key()
    stream.inter()
    first, second = stream.take()
    assert (first[0]["gap"], second[0]["gap"]) == (GapCause.OVERLOAD, 0)
    assert first[0]["flags"] & KEY
    assert first[1] == stream.sent[-2]
    assert stream.queue.dropping_since_ns == 0
    assert stream.queue.dropped_aus == stream.track.stats()["overload_aus"] == 41 - len(kept)
    assert stream.queue.dropped_bytes == sum(map(len, stream.sent[len(kept):41]))
    assert stream.queue.waiting_bytes == 0


def test_media_time_goes_on_through_an_overload():
    stream = full()
    before = stream.take()[-1][0]
    stream.key()
    after = stream.take()[0][0]
    ticks = (40 - stream.track.stats()["aus"] + 6 + 1 + 1) * 3600
    assert after["pts"] - before["pts"] == ticks
    assert (after["wall_ns"] - before["wall_ns"]) * 9 == ticks * 10**5


def test_an_access_unit_larger_than_the_queue_is_dropped_and_the_stream_goes_on():
    stream = Stream(capacity=1 << 14)
    stream.warm()
    stream.inter(size=20_000)
    stream.inter()
    stream.key()
    aus = stream.take()
    assert [(au["flags"] & KEY, au["gap"]) for au, _ in aus] == [(KEY, GapCause.OVERLOAD)]


def test_an_access_unit_that_fills_the_queue_to_its_slack_is_kept():
    stream = Stream(capacity=1 << 14, mtu=1400)
    stream.warm()
    stream.inter(size=(1 << 14) - 4096 - 6)
    aus = stream.take()
    assert len(aus) == 1
    assert len(aus[0][1]) == (1 << 14) - 4096


def test_no_free_place_for_another_access_unit_is_an_overload_too():
    from recorder._ext.auqueue import AuQueue
    from recorder._ext.rtp import RtpTrack
    stream = Stream()
    stream.queue = AuQueue(1 << 20, 4)
    stream.track = RtpTrack(stream.queue, "h264", 90000, [96], 1)
    stream.key()
    for i in range(20):
        stream.inter(seed=i)
    assert len(stream.take()) == 4
    stream.key()
    stream.inter()
    assert [au["gap"] for au, _ in stream.end()] == [GapCause.OVERLOAD, 0]


def test_a_camera_above_its_ceiling_is_cut_alone_and_comes_back():
    stream = Stream(options={"ceiling_bps": 80_000}, mtu=1400)
    stream.warm()
    for i in range(60):
        stream.key(size=5000, seed=i)
        assert stream.queue.waiting_aus < 30
    dropped = stream.track.stats()["overload_aus"]
    kept = len(stream.take())
    assert dropped > 30
    assert 15 <= kept <= 25
    stream.step(90000 * 5)
    stream.key()
    stream.inter()
    assert len(stream.take()) == 2


def test_the_first_key_frame_that_finds_no_room_makes_no_gap_of_its_own():
    """The session's own gap covers it."""
    stream = Stream(capacity=1 << 14)
    stream.key(size=20_000)
    stream.key()
    stream.inter()
    assert [au["gap"] for au, _ in stream.end()] == [0, 0]


def test_audio_that_finds_no_room_goes_on_with_the_next_frame():
    stream = Stream("pcma", 8000, pt=8, capacity=4096)
    for _ in range(40):
        stream.send(b"x" * 160)
        stream.step(160)
    assert len(stream.take()) == 25
    stream.send(b"x" * 160)
    aus = stream.take()
    assert aus[0][0]["gap"] == GapCause.OVERLOAD
    assert stream.queue.dropped_aus == 15
    assert stream.queue.dropped_bytes == 15 * 160
    assert aus[0][0]["wall_ns"] - WALL == 40 * 20_000_000


def test_sets_that_come_while_nothing_is_kept_are_learnt():
    stream = full()
    stream.send(sps264(tail=b"\x99"))
    stream.send(pps264())
    stream.inter()
    stream.take()
    stream.picture(slice264(5))
    stream.inter()
    aus = stream.take()
    assert aus[0][1] == prefixed([slice264(5)])
    assert stream.track.format_sets(aus[0][0]["format"]) == (sps264(tail=b"\x99"), pps264())
