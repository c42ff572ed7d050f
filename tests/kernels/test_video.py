"""recorder/_ext/h264, h265, aubuild: what both codecs have in common, each test once per codec."""

import itertools
import random

import pytest
import twin_video
from hypothesis import given, settings
from hypothesis import strategies as st
from rtpkit import (
    DAMAGED,
    KEY,
    PROVISIONAL,
    Stream,
    aggregate,
    fragments,
    noise,
    pps264,
    pps265,
    prefixed,
    slice264,
    slice265,
    split,
    sps264,
    sps265,
    vps265,
)

CODECS = pytest.mark.parametrize("codec", ["h264", "h265"])


def sets(codec: str) -> list[bytes]:
    return [vps265(), sps265(), pps265()] if codec == "h265" else [sps264(), pps264()]


def picture(codec: str, kind: str, *, first: bool = True, size: int = 60, seed: int = 1) -> bytes:
    if codec == "h265":
        return slice265(19 if kind == "key" else 1, first=first, size=size, seed=seed)
    return slice264(5 if kind == "key" else 1, first=first, size=size, seed=seed)


def sei(codec: str, size: int = 20) -> bytes:
    return (b"\x4e\x01" if codec == "h265" else b"\x06") + b"\x05" + bytes([size]) + noise(size) + b"\x80"


def delimiter(codec: str) -> bytes:
    return b"\x46\x01\x50" if codec == "h265" else b"\x09\xf0"


def datas(stream: Stream) -> list[bytes]:
    return [data for _, data in stream.end()]


@st.composite
def groups(draw: st.DrawFn) -> tuple[str, list[list[bytes]]]:
    """A codec and some pictures' NAL units, key frames now and then, one to four slices each."""
    codec = draw(st.sampled_from(["h264", "h265"]))
    rng = random.Random(draw(st.integers(0, 1 << 20)))
    out = []
    for i in range(draw(st.integers(1, 12))):
        key = i == 0 or rng.random() < 0.2
        nals = [delimiter(codec)] * (rng.random() < 0.2) + (sets(codec) if key else []) + [sei(codec)] * (rng.random() < 0.3)
        nals += [picture(codec, "key" if key else "inter", first=k == 0, size=rng.choice([0, 5, 60, 500, 3000]), seed=rng.randint(0, 99))
                 for k in range(rng.choice([1, 1, 1, 2, 4]))]
        out.append(nals)
    return codec, out


@settings(max_examples=200, deadline=None)
@given(groups(), st.sampled_from(["last", "none", "all"]), st.sampled_from([9, 61, 300, 1400]), st.integers(0, 3))
def test_any_packetisation_and_any_marker_habit_give_the_same_access_units(group, marker, mtu, together):
    """No marker at all (FLIR M400), on every packet (Tapo TC70, Reolink Duo 2), or right; single NAL units, aggregates, fragments."""
    codec, pictures = group
    if marker == "all":     # what shows the habit must come in the first four pictures
        pictures = [[*sets(codec), picture(codec, "key"), picture(codec, "key", first=False)], *pictures]
    stream = Stream(codec, mtu=mtu)
    packets = []
    for nals in pictures:
        payloads = []
        rest = list(nals)
        while rest:
            head, rest = rest[:together], rest[together:]
            if len(head) > 1 and sum(map(len, head)) < 1400 and (packets or marker != "all"):
                payloads.append(aggregate(head, h265=stream.h265))
            else:
                payloads += stream.payloads(head or [rest.pop(0)])
        for i, payload in enumerate(payloads):
            packets.append(stream.send(payload, marker=marker == "all" or (marker == "last" and i == len(payloads) - 1)))
        stream.step()
    aus = stream.end()
    assert [data for _, data in aus] == [prefixed(nals) for nals in pictures]
    assert [(au["pts"], data) for au, data in aus] == twin_video.access_units(packets, stream.h265)
    assert all(au["flags"] & DAMAGED == 0 for au, _ in aus)
    assert stream.track.stats()["broken_aus"] == 0


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["h264", "h265"]), st.integers(0, 1 << 20), st.sampled_from([0.01, 0.05, 0.3]))
def test_under_loss_every_access_unit_is_whole_or_flagged_and_damage_lasts_to_the_next_intact_key_frame(codec, seed, rate):
    rng = random.Random(seed)
    stream = Stream(codec, mtu=100)
    stream.key()
    for i in range(5):
        stream.inter(seed=i)
    stream.take()
    truth: dict[int, tuple[bytes, bool]] = {}
    damaged = False
    for i in range(60):
        key = i % 10 == 9
        nals = (sets(codec) if key else []) + [picture(codec, "key" if key else "inter", size=rng.randint(10, 700), seed=i)]
        count = len(stream.payloads(nals))
        before = len(sets(codec)) if key else 0
        lost = {k for k in range(count) if rng.random() < rate}
        slices_lost = any(k >= before for k in lost)
        damaged = slices_lost if key else damaged or bool(lost)
        truth[stream.ts] = prefixed(nals), damaged
        stream.picture(*nals, lose=lost)
    for au, data in stream.end():
        sent, expected = truth[au["pts"]]
        split(data)
        if not expected and not au["flags"] & KEY:
            assert data == sent
        assert bool(au["flags"] & DAMAGED) == expected


@CODECS
def test_the_end_of_a_picture_lost_with_its_marker_damages_that_picture(codec):
    stream = Stream(codec, mtu=100)
    stream.warm()
    stream.inter(size=400, lose=[4])
    stream.inter()
    stream.key()
    stream.inter()
    assert stream.flags() == [DAMAGED, DAMAGED, KEY, 0]


@CODECS
@pytest.mark.parametrize(("lost", "kept"), [(0, []), (2, [DAMAGED]), (4, [DAMAGED])])
def test_lost_start_middle_and_end_of_a_fragmented_nal_unit(codec, lost, kept):
    """What came of the slice before the hole is kept, flagged; without its start there is nothing to keep."""
    stream = Stream(codec, mtu=100)
    stream.warm()
    stream.inter(size=400, lose=[lost])
    stream.inter()
    stream.key()
    aus = stream.end()
    assert [au["flags"] & ~PROVISIONAL for au, _ in aus] == [*kept, DAMAGED, KEY]
    assert aus[-1][1] == stream.sent[-1]
    if kept:
        (nal,) = split(aus[0][1])
        assert split(stream.sent[0])[0].startswith(nal)
    assert stream.track.stats()["broken_aus"] == (not kept)


@CODECS
def test_a_fragment_that_never_ends_without_loss_is_dropped_and_damages_its_picture_only(codec):
    stream = Stream(codec, mtu=100)
    stream.warm()
    stream.send(picture(codec, "inter", size=20))
    for payload in fragments(picture(codec, "inter", first=False, size=400), 100, h265=stream.h265)[:-1]:
        stream.send(payload)
    stream.send(picture(codec, "inter", first=False, size=30, seed=3), marker=True)
    stream.step()
    stream.inter()
    aus = stream.end()
    assert [au["flags"] & DAMAGED for au, _ in aus] == [DAMAGED, 0]
    assert split(aus[0][1]) == [picture(codec, "inter", size=20), picture(codec, "inter", first=False, size=30, seed=3)]


@CODECS
def test_a_marker_on_a_fragment_that_was_not_the_end_keeps_the_nal_unit_and_flags_its_picture(codec):
    stream = Stream(codec, mtu=100)
    stream.warm()
    parts = fragments(picture(codec, "inter", size=250), 100, h265=stream.h265)
    for i, payload in enumerate(parts[:-1]):
        stream.send(payload, marker=i == len(parts) - 2)
    stream.step()
    stream.inter()
    aus = stream.end()
    assert [au["flags"] & DAMAGED for au, _ in aus] == [DAMAGED, 0]
    assert picture(codec, "inter", size=250).startswith(split(aus[0][1])[0])


@CODECS
def test_start_and_end_in_one_fragment_is_a_whole_nal_unit(codec):
    stream = Stream(codec)
    stream.warm()
    nal = picture(codec, "inter")
    stream.send(fragments(nal, 5000, h265=stream.h265)[0], marker=True)
    assert datas(stream) == [prefixed([nal])]


@CODECS
def test_empty_fragments_are_accepted_anywhere(codec):
    stream = Stream(codec)
    stream.warm()
    nal = picture(codec, "inter", size=300)
    parts = fragments(nal, 100, h265=stream.h265)
    head = 2 if stream.h265 else 1
    empty = [p[:head + 1] for p in parts]
    middle = empty[0][:head] + bytes([empty[0][head] & 0x3F])
    start, end = empty[0], empty[-1]
    plain = [p[:head] + bytes([p[head] & 0x3F]) + p[head + 1:] for p in parts]
    for payload in [start, middle, *plain[:2], middle, *plain[2:]]:
        stream.send(payload)
    stream.send(end, marker=True)
    assert datas(stream) == [prefixed([nal])]


@CODECS
def test_later_fragments_that_name_another_type_are_tolerated(codec):
    """Tiandy (moonfire#344)."""
    stream = Stream(codec)
    stream.warm()
    nal = picture(codec, "inter", size=300)
    parts = fragments(nal, 100, h265=stream.h265)
    at = 2 if stream.h265 else 1
    for i, payload in enumerate(parts):
        wrong = payload[:at] + bytes([payload[at] & 0xC0 | 2]) + payload[at + 1:] if i else payload
        stream.send(wrong, marker=i == len(parts) - 1)
    assert datas(stream) == [prefixed([nal])]


@CODECS
def test_fragments_without_a_start_are_dropped_without_damage_beyond_their_picture(codec):
    stream = Stream(codec)
    stream.warm()
    for payload in fragments(picture(codec, "inter", size=300), 100, h265=stream.h265)[1:]:
        stream.send(payload)
    stream.step()
    stream.inter()
    assert stream.flags() == [0]
    assert stream.track.stats()["broken_aus"] == 1


@CODECS
def test_recording_that_begins_inside_a_key_frame_waits_for_the_next(codec):
    stream = Stream(codec, mtu=100)
    stream.key(size=500, lose=range(5))
    stream.inter()
    stream.key(seed=2)
    aus = stream.end()
    assert [data for _, data in aus] == [stream.sent[-1]]
    assert aus[0][0]["flags"] & ~PROVISIONAL == KEY


@CODECS
def test_markers_on_parameter_sets_and_sei_end_nothing(codec):
    """retina#13, moonfire#352."""
    stream = Stream(codec)
    stream.warm()
    for nal in [*sets(codec), sei(codec)]:
        stream.send(nal, marker=True)
    stream.send(picture(codec, "key"), marker=True)
    stream.step()
    stream.inter()
    assert datas(stream) == [prefixed([*sets(codec), sei(codec), picture(codec, "key")]), stream.sent[-1]]


@CODECS
def test_parameter_sets_with_a_timestamp_of_their_own_wait_for_the_slice_and_take_its_time(codec):
    stream = Stream(codec)
    stream.warm()
    stream.inter()
    for nal in sets(codec):
        stream.send(nal, marker=True, ts=stream.ts - 1800)
    stream.send(picture(codec, "key"), marker=True)
    aus = stream.end()
    assert split(aus[1][1]) == [*sets(codec), picture(codec, "key")]
    assert aus[1][0]["pts"] == stream.ts
    assert aus[1][0]["pts"] - aus[0][0]["pts"] == 3600


@CODECS
def test_parameter_sets_behind_the_slice_with_its_timestamp_go_to_the_next_picture(codec):
    stream = Stream(codec)
    stream.warm()
    stream.key(marker="none")
    stream.send(sei(codec), ts=stream.ts - 3600)
    for nal in sets(codec):
        stream.send(nal, ts=stream.ts - 3600)
    stream.picture(picture(codec, "key", seed=4))
    assert datas(stream) == [stream.sent[0], prefixed([sei(codec), *sets(codec), picture(codec, "key", seed=4)])]


@CODECS
def test_sei_between_the_slices_of_a_picture_splits_nothing(codec):
    stream = Stream(codec)
    stream.warm()
    nals = [picture(codec, "inter"), sei(codec), picture(codec, "inter", first=False, seed=2)]
    for nal in nals:
        stream.send(nal)
    stream.step()
    stream.inter()
    assert datas(stream) == [prefixed(nals), stream.sent[-1]]


@CODECS
def test_pictures_with_one_timestamp_and_no_marker_are_told_apart_by_their_first_slice(codec):
    stream = Stream(codec)
    stream.key(marker="none")
    for i in range(3):
        stream.picture(picture(codec, "inter", seed=i), marker="none", step=0)
    assert datas(stream) == stream.sent


@CODECS
@pytest.mark.parametrize("code", [b"\0\0\1", b"\0\0\0\1"])
@pytest.mark.parametrize("way", ["single", "single with prefix", "aggregate", "fragments"])
def test_an_annex_b_stream_in_a_payload_is_split(codec, code, way):
    """SPS, PPS and IDR in one NAL unit (V380, FLIR; retina#68)."""
    stream = Stream(codec)
    nals = [*sets(codec), picture(codec, "key", size=300), picture(codec, "key", first=False, size=200, seed=2)]
    glued = code.join(nals) + b"\0\0"
    if way == "aggregate":
        stream.send(aggregate([glued, sei(codec)], h265=stream.h265), marker=True)
        nals.append(sei(codec))
    elif way == "fragments":
        parts = fragments(glued, 37, h265=stream.h265)
        for i, payload in enumerate(parts):
            stream.send(payload, marker=i == len(parts) - 1)
    else:
        stream.send((code if way != "single" else b"") + glued, marker=True)
    stream.step()
    stream.inter()
    aus = datas(stream)
    held = nals[-1:] if way == "aggregate" else []
    assert split(aus[0]) == (nals[:-1] if held else nals)
    assert aus[1] == prefixed([*held, *split(stream.sent[-1])])


@CODECS
def test_zero_bytes_of_a_plain_payload_stay_as_sent(codec):
    stream = Stream(codec)
    stream.warm()
    nal = picture(codec, "inter") + b"\0\0\0"
    stream.send(nal, marker=True)
    assert datas(stream) == [prefixed([nal])]


@CODECS
def test_aggregates_with_zero_length_units_and_zero_padding(codec):
    stream = Stream(codec)
    stream.warm()
    nals = [sei(codec), picture(codec, "inter")]
    stream.send(aggregate([nals[0], b"", nals[1]], h265=stream.h265) + b"\0\0\0\0\0", marker=True)
    stream.send(aggregate([], h265=stream.h265), ts=stream.ts + 3600)
    assert datas(stream) == [prefixed(nals)]
    assert stream.track.stats()["malformed"] == 1


@CODECS
def test_an_aggregate_that_is_cut_off_keeps_its_whole_units_and_flags_the_picture(codec):
    stream = Stream(codec)
    stream.warm()
    stream.send(aggregate([picture(codec, "inter"), picture(codec, "inter", first=False)], h265=stream.h265)[:-3], marker=True)
    aus = stream.end()
    assert [au["flags"] & DAMAGED for au, _ in aus] == [DAMAGED]
    assert split(aus[0][1]) == [picture(codec, "inter")]


@CODECS
def test_a_stream_that_closes_inside_a_picture_keeps_the_last_whole_one(codec):
    stream = Stream(codec, mtu=100)
    stream.warm()
    stream.inter()
    for payload in fragments(picture(codec, "inter", size=400), 100, h265=stream.h265)[:3]:
        stream.send(payload)
    assert datas(stream) == [stream.sent[-1]]
    assert stream.queue.waiting_bytes == 0


@CODECS
def test_a_camera_that_begins_to_mark_every_slice_late_has_one_picture_split(codec):
    """What is known to go wrong, and no further."""
    stream = Stream(codec)
    stream.warm()
    for i in range(5):
        stream.picture(picture(codec, "inter", seed=i), picture(codec, "inter", first=False, seed=i), marker="all")
    aus = datas(stream)
    assert b"".join(aus) == b"".join(stream.sent)
    assert len(aus) == 6
    assert aus[2:] == stream.sent[1:]


@CODECS
def test_bytes_lost_outside_rtp_damage_up_to_the_next_key_frame(codec):
    stream = Stream(codec)
    stream.warm()
    stream.inter()
    stream.track.mark_damaged()
    stream.inter()
    stream.key()
    stream.inter()
    assert stream.flags() == [0, DAMAGED, KEY, 0]
    assert stream.track.stats()["lost"] == 0


@CODECS
def test_nal_units_without_end_are_bounded(codec):
    """Slices for ever without a new timestamp, and parameter sets for ever without a slice."""
    stream = Stream(codec)
    stream.warm()
    for _ in range(2100):
        stream.send(picture(codec, "inter", first=False, size=0), marker=False)
    stream.step()
    stream.inter()
    stream.key()
    assert stream.flags() == [KEY]
    for _ in range(2100):
        stream.send(sei(codec))
    stream.key()
    stream.key()
    assert KEY in stream.flags()


@CODECS
def test_sender_reports_do_not_disturb_a_fragmented_picture(codec):
    from rtpkit import sender_report
    stream = Stream(codec)
    stream.warm()
    nal = picture(codec, "inter", size=300)
    parts = fragments(nal, 100, h265=stream.h265)
    for i, payload in enumerate(parts):
        stream.track.packet(sender_report(1, stream.ts), stream.mono_ns)
        stream.send(payload, marker=i == len(parts) - 1)
    assert datas(stream) == [prefixed([nal])]


@CODECS
def test_b_frames_of_depth_2_are_decoded_in_order_and_shown_in_order(codec):
    stream = Stream(codec, options={"reorder_depth": 2})
    start = stream.ts
    for place in [0] + [i * 4 + p for i in range(10) for p in (4, 2, 1, 3)]:
        stream.ts = start + place * 3600
        nal = picture(codec, "inter", seed=place)
        stream.picture(*(nal,) if place else (*sets(codec), picture(codec, "key")), step=0)
        stream.mono_ns += 40_000_000
    aus = [au for au, _ in stream.end()]
    assert len(aus) == 41
    assert sorted(au["pts"] for au in aus) == [start + i * 3600 for i in range(41)]
    assert all(a["dts"] < b["dts"] for a, b in itertools.pairwise(aus))
    assert all(au["dts"] <= au["pts"] for au in aus)
    assert [au["dts"] for au in aus] == [start + (i - 2) * 3600 for i in range(41)]
    assert stream.track.stats()["discontinuities"] == 0
