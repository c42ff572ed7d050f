"""What a PLAY of a replay may say, and its header extension."""

from datetime import UTC, datetime

import pytest

from api.replay.ask import Ask, Frames, Rejected, range_text, read_ask, utc_text
from api.replay.extension import CLEAN, END, JUMP, LAST, extension, ntp
from api.replay.pace import FRAME_NS, Pace, Ticks
from api.replay.reading import as_splice, with_sets
from api.replay.shot import Line, Shot
from recorder.base.media import NS, SampleEntry

START = int(datetime(2009, 6, 15, 11, 49, tzinfo=UTC).timestamp()) * NS


@pytest.mark.parametrize(("headers", "wanted"), [
    ({}, Ask()),
    ({"range": "clock=20090615T114900.440Z-"}, Ask(START + 440_000_000, said=True)),
    ({"range": "clock=20090615T114900.000000001Z-20090615T115000Z"}, Ask(START + 1, START + 60 * NS, said=True)),
    ({"range": "CLOCK = 20090615T114900Z - ;time=19970123T143720Z"}, Ask(START, said=True)),
    ({"range": "clock=-20090615T114900Z"}, Ask(None, START, said=True)),
    ({"range": "clock=20090615T115000Z-20090615T114900Z", "scale": "-1"}, Ask(START + 60 * NS, START, scale=-1.0, said=True)),
    ({"range": "npt=now-"}, Ask(now=True, said=True)),
    ({"range": "npt=0.000-"}, Ask(0, npt=True, said=True)),
    ({"range": "npt=1:02:03.5-7000"}, Ask(3723 * NS + NS // 2, 7000 * NS, npt=True, said=True)),
    ({"scale": "2.5"}, Ask(scale=2.5, said=True)),
    ({"scale": "0.001"}, Ask(scale=0.1, said=True)),
    ({"scale": "-99999"}, Ask(scale=-64.0, said=True)),
    ({"rate-control": "no"}, Ask(paced=False, said=True)),
    ({"rate-control": "No", "scale": "-1.0"}, Ask(paced=False, scale=-1.0, said=True)),
    ({"frames": "intra"}, Ask(frames=Frames.INTRA, said=True)),
    ({"frames": "intra/4000"}, Ask(frames=Frames.INTRA, interval_ns=4 * NS, said=True)),
    ({"frames": "predicted"}, Ask(frames=Frames.PREDICTED, said=True)),
    ({"immediate": "yes"}, Ask(immediate=True)),
])
def test_a_play_is_read_as_the_standards_write_it(headers, wanted):
    assert read_ask(headers.get) == wanted


@pytest.mark.parametrize(("headers", "status"), [
    ({"range": "clock=20090615T114900Z"}, 400), ({"range": "clock=-"}, 400), ({"range": "clock"}, 400), ({"range": ""}, 501),
    ({"range": "clock=20090230T114900Z-"}, 400), ({"range": "clock=20090615T250000Z-"}, 400), ({"range": "clock=19690615T114900Z-"}, 457),
    ({"range": "clock=٢٠٠٩٠٦١٥T114900Z-"}, 400), ({"range": "clock=20090615T114900.1234567890Z-"}, 400),
    ({"range": "npt=-1-5"}, 400), ({"range": "npt=1:99:00-"}, 400), ({"range": "npt=999999999:00:00-"}, 457),
    ({"range": "smpte=0:10:00-"}, 501), ({"range": "x" * 201}, 400),
    ({"range": "clock=20090615T114900Z-20090615T114900Z"}, 457),
    ({"scale": "fast"}, 400), ({"scale": "inf"}, 400), ({"scale": "-0.0"}, 400), ({"scale": ""}, 400),
    ({"scale": "2", "rate-control": "no"}, 456), ({"frames": "all/5"}, 400), ({"frames": "b"}, 400), ({"immediate": "maybe"}, 400),
])
def test_what_is_no_play_is_rejected_with_its_status(headers, status):
    with pytest.raises(Rejected) as caught:
        read_ask(headers.get)
    assert caught.value.status == status
    assert str(caught.value)


def test_times_come_out_as_they_go_in():
    for time_ns in (START, START + 1, START + 999_999_999, 0):
        text = range_text(time_ns, time_ns + 1)
        assert read_ask({"range": text}.get) == Ask(time_ns, time_ns + 1, said=True)
    assert utc_text(START + 440_000_000) == "20090615T114900.440000000Z"


@pytest.mark.parametrize("wall_ns", [0, 1, 999_999_999, START + 123_456_789, 2_085_978_495_999_999_999, 2_085_978_496_000_000_000])
def test_ntp_times_give_the_nanosecond_back_however_they_are_rounded(wall_ns):
    seconds, fraction = ntp(wall_ns)
    assert seconds == (wall_ns // NS + 2_208_988_800) % (1 << 32)
    assert fraction * NS >> 32 == wall_ns % NS
    assert (fraction * NS + (1 << 31)) >> 32 == wall_ns % NS


def test_the_extension_is_laid_out_as_the_standard_draws_it():
    data = extension(1_800_000_000 * NS + NS // 2, CLEAN | JUMP, 0x1A5)
    assert data.hex() == "abac0003" + f"{1_800_000_000 + 2_208_988_800:08x}" + "80000000" + "a0" + "a5" + "0000"
    assert [extension(0, flag, 0)[12] for flag in (CLEAN, END, JUMP, LAST)] == [128, 64, 32, 16]


# -- pace --


def test_playing_time_takes_no_gap_and_never_runs_back():
    pace = Pace()
    pace.again(paced=True, scale=2.0)
    pace.begin(100 * NS)
    first = pace.play_ns(100 * NS)
    assert pace.play_ns(102 * NS) - first == NS
    pace.sent(pace.play_ns(102 * NS))
    pace.begin(500 * NS)
    assert pace.play_ns(500 * NS) - first == NS + FRAME_NS
    pace.sent(pace.play_ns(500 * NS))
    pace.again(paced=True, scale=-1.0)
    pace.begin(300 * NS)
    assert pace.play_ns(300 * NS) - first == NS + 2 * FRAME_NS
    assert pace.play_ns(299 * NS) - pace.play_ns(300 * NS) == NS


def test_sound_before_the_first_picture_behind_a_gap_belongs_to_it():
    pace = Pace()
    pace.begin(100 * NS)
    pace.sent(pace.play_ns(101 * NS))
    pace.begin(500 * NS)
    assert 0 < pace.play_ns(500 * NS) - pace.play_ns(500 * NS - NS // 50) == NS // 50


def test_sound_keeps_its_own_clock_until_it_is_off():
    ticks = Ticks(8000, 0xFFFFFF00, sound=True)
    out = [ticks.of(n * 20_000_000 + n % 2 * 300_000, 5000 + n * 160, anew=n == 0, native=True) for n in range(10)]
    assert out == [0xFFFFFF00 + n * 160 & 0xFFFFFFFF for n in range(10)]
    late = ticks.of(10 * 20_000_000 + 30_000_000, 5000 + 1600, anew=False, native=True)
    assert late == ticks.at(230_000_000)


# -- the last shot of a section --


def shot(number):
    return Shot(0, 0, 1, SampleEntry("avc1", b"", 90_000), number, number, 0, False, 0)


def test_the_newest_is_held_back_until_it_is_known_what_it_is():
    line = Line()
    for number in range(3):
        line.push(shot(number))
    assert [one.wall_ns for one in line.ready] == [0, 1]
    line.close(END)
    assert [(one.wall_ns, one.flags) for one in line.ready] == [(0, 0), (1, 0), (2, END)]
    line.close(LAST)
    assert line.ready[-1].flags == END


# -- bytes --


def nals(*payloads):
    return bytearray(b"".join(len(payload).to_bytes(4) + payload for payload in payloads))


def test_a_cra_picture_becomes_bla_and_nothing_else_changes():
    data = nals(b"\x46\x01\x50", bytes([21 << 1, 1, 7, 21 << 1]), bytes([21 << 1 | 1, 1]))
    as_splice(data)
    assert data == nals(b"\x46\x01\x50", bytes([18 << 1, 1, 7, 21 << 1]), bytes([18 << 1 | 1, 1]))


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0\x05", b"\xff\xff\xff\xff\x2a", b"\0\0\0\0" * 600])
def test_damaged_lengths_end_the_look_at_nals(data):
    held = bytearray(data)
    as_splice(held)
    assert len(held) == len(data)
    assert with_sets(bytearray(data), SampleEntry("avc1", b"", 90_000)) == data


def test_parameter_sets_stand_before_an_access_point_that_has_none():
    config = bytes([1, 66, 0, 30, 0xFF, 0xE1, 0, 4]) + b"\x67abc" + bytes([1, 0, 2]) + b"\x68d"
    entry, picture = SampleEntry("avc1", config, 90_000), b"\x65picture"
    assert with_sets(nals(picture), entry) == nals(b"\x67abc", b"\x68d", picture)
    assert with_sets(nals(b"\x67xyz", b"\x68e", picture), entry) == nals(b"\x67xyz", b"\x68e", picture)


