"""Senders that do something odd in every packet: the access units are those of the clean stream."""

import itertools
import struct
from collections.abc import Callable

import pytest
from rtpkit import (
    DAMAGED,
    DISCONTINUITY,
    KEY,
    PROVISIONAL,
    WALL,
    Stream,
    aggregate,
    fragments,
    goodbye,
    interleaved,
    noise,
    prefixed,
    rtp,
    sender_report,
    slice264,
    slice265,
    split,
)

from recorder._ext.auqueue import AuQueue
from recorder._ext.framing import Connection
from recorder._ext.rtp import RtpTrack

CODECS = pytest.mark.parametrize("codec", ["h264", "h265"])


def inter(codec: str, *, first: bool = True, size: int = 60, seed: int = 1) -> bytes:
    return slice265(1, first=first, size=size, seed=seed) if codec == "h265" else slice264(1, first=first, size=size, seed=seed)


def datas(stream: Stream) -> list[bytes]:
    return [data for _, data in stream.end()]


def through(codec: str, change: Callable[[bytes], list[bytes]]) -> Stream:
    """A key frame and 30 pictures of three fragments each, of which every packet was changed on its way."""
    stream = Stream(codec, mtu=100)
    direct = stream.track.packet
    changed = type("Changed", (), {"packet": lambda _, p, mono_ns, offset: [direct(c, mono_ns, offset) for c in change(p)]})
    stream.track, real = changed(), stream.track  # type: ignore[assignment]
    stream.key(size=300)
    for i in range(30):
        stream.inter(seed=i, size=250)
    stream.track = real
    return stream


def padded(packet: bytes) -> bytes:
    """Up to a multiple of 4 bytes, at least 1 (RFC 3550 5.1)."""
    count = 4 - len(packet) % 4
    return bytes([packet[0] | 0x20]) + packet[1:] + bytes(count - 1) + bytes([count])


def extended(packet: bytes) -> bytes:
    """With 15 CSRCs and the replay extension of ONVIF Streaming 6.3."""
    return bytes([packet[0] | 0x1F]) + packet[1:12] + bytes(60) + struct.pack(">HH", 0xABAC, 3) + bytes(12) + packet[12:]


@CODECS
@pytest.mark.parametrize("change", [
    lambda p: [p, p],
    lambda p: [p, p, p],
    lambda p: [padded(p)],
    lambda p: [extended(p)],
    lambda p: [padded(extended(p))],
    lambda p: [p[:1] + bytes([50]) + p[2:], p],                                     # PT 50 with the number of its neighbour
    lambda p: [p[:8] + b"\0\0\0\7" + p[12:], p],                                    # another session, packet by packet
    lambda p: [sender_report(1, 5000), p, goodbye(99)],
    lambda p: [b"", b"\x80", p[:11], b"\0" + p[1:], b"\x40" + p[1:], b"\xc0" + p[1:], p],  # too short, versions 0, 1 and 3
], ids=["twice", "three times", "padded", "extended", "padded and extended", "payload type 50", "two sessions", "reports", "other versions"])
def test_what_is_odd_in_every_packet_changes_no_picture(codec: str, change: Callable[[bytes], list[bytes]]) -> None:
    stream = through(codec, change)
    aus = stream.end()
    assert [data for _, data in aus] == stream.sent
    assert not any(au["flags"] & DAMAGED for au, _ in aus)
    stats = stream.track.stats()
    assert (stats["lost"], stats["restarts"], stats["discontinuities"]) == (0, 0, 0)


@CODECS
@pytest.mark.parametrize(("ssrc", "seq", "ts"), [(0, 0, 0), (0xFFFFFFFF, 65535, 0xFFFFFFFF), (0x80000000, 32767, 0x7FFFFFFF)])
def test_the_first_packet_may_have_any_numbers(codec: str, ssrc: int, seq: int, ts: int) -> None:
    stream = Stream(codec, ssrc=ssrc, seq=seq, ts=ts)
    stream.key()
    for i in range(5):
        stream.inter(seed=i)
    aus = stream.end()
    assert [data for _, data in aus] == stream.sent
    assert {b["pts"] - a["pts"] for (a, _), (b, _) in itertools.pairwise(aus)} == {3600}
    assert stream.track.stats()["ssrc"] == ssrc


@CODECS
@pytest.mark.parametrize("pt", [35, 64, 71, 77, 95, 127])
def test_a_marker_never_makes_a_report_of_a_payload_type(codec: str, pt: int) -> None:
    """With a marker the types 64 to 95 have the second byte of RTCP."""
    stream = Stream(codec, pt=pt)
    stream.key()
    for i in range(10):
        stream.inter(seed=i)
    assert datas(stream) == stream.sent
    assert stream.track.stats()["lost"] == 0


@CODECS
def test_an_empty_packet_between_fragments_changes_nothing(codec: str) -> None:
    stream = Stream(codec)
    stream.warm()
    nal = inter(codec, size=300)
    parts = fragments(nal, 100, h265=stream.h265)
    for i, payload in enumerate(parts):
        stream.send(payload, marker=i == len(parts) - 1)
        stream.send(b"")
    stream.step()
    stream.inter()
    assert datas(stream)[0] == prefixed([nal])


@CODECS
def test_a_fragmented_nal_unit_that_begins_twice_is_kept_once(codec: str) -> None:
    stream = Stream(codec)
    stream.warm()
    nal = inter(codec, size=300)
    parts = fragments(nal, 100, h265=stream.h265)
    stream.send(parts[0])
    for i, payload in enumerate(parts):
        stream.send(payload, marker=i == len(parts) - 1)
    stream.step()
    stream.inter()
    aus = stream.end()
    assert split(aus[0][1]) == [nal]
    assert [au["flags"] & DAMAGED for au, _ in aus] == [DAMAGED, 0]


@CODECS
def test_another_nal_unit_between_fragments_costs_the_fragmented_one_only(codec: str) -> None:
    stream = Stream(codec)
    stream.warm()
    parts = fragments(inter(codec, first=False, size=300), 100, h265=stream.h265)
    stream.send(inter(codec, size=20))
    stream.send(parts[0])
    stream.send(inter(codec, first=False, size=30, seed=7))
    for payload in parts[1:]:
        stream.send(payload)
    stream.send(inter(codec, first=False, size=30, seed=8), marker=True)
    stream.step()
    stream.inter()
    aus = stream.end()
    assert split(aus[0][1]) == [inter(codec, size=20), inter(codec, first=False, size=30, seed=7), inter(codec, first=False, size=30, seed=8)]
    assert [au["flags"] & DAMAGED for au, _ in aus] == [DAMAGED, 0]


@CODECS
def test_fragments_never_go_on_over_a_new_timestamp(codec: str) -> None:
    stream = Stream(codec)
    stream.warm()
    parts = fragments(inter(codec, size=300), 100, h265=stream.h265)
    for payload in parts[:2]:
        stream.send(payload)
    stream.step()
    for i, payload in enumerate(parts[2:]):
        stream.send(payload, marker=i == len(parts) - 3)
    stream.step()
    stream.inter()
    assert datas(stream) == [stream.sent[-1]]
    assert stream.track.stats()["broken_aus"] >= 1


@CODECS
def test_aggregates_and_fragments_inside_an_aggregate_are_dropped_and_counted(codec: str) -> None:
    stream = Stream(codec)
    stream.warm()
    whole = inter(codec)
    inside = [aggregate([whole], h265=stream.h265), fragments(whole, 20, h265=stream.h265)[0]]
    stream.send(aggregate([*inside, whole], h265=stream.h265), marker=True)
    stream.step()
    stream.inter()
    assert datas(stream)[0] == prefixed([whole])
    assert stream.track.stats()["dropped_nals"] == 2


@CODECS
@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_one_of_four_slices_lost_damages_up_to_the_next_key_frame(codec: str, lost: int) -> None:
    stream = Stream(codec)
    stream.warm()
    slices = [inter(codec, first=k == 0, seed=k) for k in range(4)]
    stream.picture(*slices, lose=[lost])
    stream.inter()
    stream.key()
    stream.inter()
    aus = stream.end()
    assert [au["flags"] & ~PROVISIONAL for au, _ in aus] == [DAMAGED, DAMAGED, KEY, 0]
    assert split(aus[0][1]) == [s for k, s in enumerate(slices) if k != lost]


@CODECS
def test_where_every_picture_is_a_key_frame_a_loss_costs_one(codec: str) -> None:
    stream = Stream(codec, mtu=100)
    stream.warm()
    for i in range(9):
        stream.key(size=250, seed=i, lose=[4 if codec == "h265" else 3] if i == 4 else [])
    flags = stream.flags()
    assert len(flags) == 9 and sum(f & DAMAGED != 0 for f in flags) == 1
    assert flags[4] & DAMAGED


@pytest.mark.parametrize(("codec", "behind"), [
    ("h264", b"\x0c\xff\xff\x80"), ("h264", b"\x0a"), ("h264", b"\x0b"),
    ("h265", b"\x4c\x01\xff\x80"), ("h265", b"\x48\x01"), ("h265", b"\x4a\x01")])
def test_filler_and_ends_of_sequences_stay_with_their_picture(codec: str, behind: bytes) -> None:
    stream = Stream(codec)
    stream.warm()
    for i in range(3):
        stream.picture(inter(codec, seed=i), behind)
    assert datas(stream) == stream.sent


@CODECS
def test_an_encoder_that_restarts_within_the_session_goes_on_with_a_discontinuity(codec: str) -> None:
    stream = Stream(codec)
    stream.warm()
    stream.inter()
    stream.seq, stream.ts = 7, 11
    stream.mono_ns += 3 * 10**9
    stream.key()
    stream.inter()
    aus = [au for au, _ in stream.end()]
    assert [au["flags"] & (KEY | DAMAGED | DISCONTINUITY) for au in aus] == [0, KEY | DISCONTINUITY, 0]
    assert aus[1]["pts"] - aus[0]["pts"] == pytest.approx(3.04 * 90000, abs=90)
    assert aus[2]["pts"] - aus[1]["pts"] == 3600
    assert stream.track.stats()["restarts"] == 1


@CODECS
def test_a_sender_that_changes_its_ssrc_without_a_word_is_back_after_two_seconds(codec: str) -> None:
    stream = Stream(codec)
    stream.warm()
    stream.ssrc = 77
    for i in range(100):
        stream.key(seed=i) if i % 10 == 0 else stream.inter(seed=i)
    aus = [au for au, _ in stream.end()]
    assert 50 <= len(aus) <= 51           # of 100 in 4 s
    assert aus[0]["flags"] & DISCONTINUITY
    assert not any(au["flags"] & DAMAGED for au in aus[10:])           # from its next key frame on
    assert stream.track.stats()["ssrc"] == 77


def test_packets_behind_a_goodbye_are_still_taken() -> None:
    stream = Stream()
    stream.warm()
    stream.track.packet(goodbye(0x1234) + struct.pack(">B3s", 3, b"bye"), stream.mono_ns)
    for i in range(5):
        stream.inter(seed=i)
    assert datas(stream) == stream.sent


def test_sound_whose_timestamps_stand_still_is_kept_in_order() -> None:
    stream = Stream("pcma", 8000, pt=8)
    for i in range(50):
        stream.send(noise(160, i))
        stream.mono_ns += 20_000_000
    aus = stream.take()
    assert [data for _, data in aus] == [noise(160, i) for i in range(50)]
    assert all(a["pts"] < b["pts"] for (a, _), (b, _) in itertools.pairwise(aus))


def test_reports_and_media_on_each_others_channels_are_told_apart() -> None:
    track = RtpTrack(AuQueue(1 << 16), "pcma", 8000, [8], 1)
    connection = Connection()
    connection.bind(0, 1, track)
    data = b"".join([interleaved(1, rtp(1, 160, b"sound", pt=8)), interleaved(0, sender_report(9 << 32, 160)),
                     interleaved(1, rtp(2, 320, b"again", pt=8))])
    connection.feed(data, len(data), 10**9, WALL)
    assert [d for _, d in track.queue.take()] == [b"sound", b"again"]
    assert track.sender_report is not None and track.sender_report["ntp"] == 9 << 32


@pytest.mark.parametrize("size", range(12))
def test_frames_too_short_for_a_packet_do_no_harm(size: int) -> None:
    track = RtpTrack(AuQueue(1 << 16), "pcma", 8000, [8], 1)
    connection = Connection()
    connection.bind(0, 1, track)
    data = interleaved(0, rtp(1, 160, b"sound", pt=8)) + interleaved(0, b"\x80" * size) + interleaved(0, rtp(2, 320, b"again", pt=8))
    connection.feed(data, len(data), 10**9, 0)
    aus = track.queue.take()
    assert [d for _, d in aus] == [b"sound", b"again"]
    assert not any(au["flags"] & DAMAGED for au, _ in aus) and connection.stats()["resyncs"] == 0
