"""What no small file shows: 64-bit forms, odd codings, tables of holes; names of codecs."""

import struct

import numpy as np
import pytest

from api.mp4.boxes import box, elst, mdat_head, mvhd
from api.mp4.clip import Edit, MovieTrack, build
from api.mp4.sample_entry import codec_string, sample_entry_box
from api.mp4.samples import Samples, ctts, stsc, stss, stsz, stts
from recorder.base.errors import Refused
from recorder.base.media import NS, SampleEntry


def samples(size, *, row=None, offset=None):
    n = len(size)
    sizes = np.array(size, np.int64)
    places = np.cumsum(sizes) - sizes if offset is None else np.array(offset, np.int64)
    return Samples(sizes, np.arange(n) * 3600, np.zeros(n, np.int64), np.arange(n) % 5 == 0, np.ones(n, np.int64), places,
                   np.zeros(n, np.int64) if row is None else np.array(row, np.int64), 3600)


H264 = SampleEntry("avc1", bytes.fromhex("01640028ffe1"), 90_000, 1920, 1080)


def find(data: bytes, kind: bytes) -> bytes:
    """Content of the first box of that kind, after version and flags."""
    at = data.index(kind)
    return data[at + 8:at - 4 + struct.unpack(">I", data[at - 4:at])[0]]


def test_file_over_4_gib_has_wide_places():
    """co64 and a 64-bit mdat; the last chunk's place is its place in the file."""
    track = MovieTrack((H264,), 90_000, samples([1 << 30] * 5, row=range(5)), Edit(0, 0, 18_000))
    movie = build([track], 1_800_000_000 * NS)
    assert movie.size == len(movie.head) + (5 << 30)
    assert b"stco" not in movie.head
    places = struct.unpack(">I5Q", find(movie.head, b"co64"))[1:]
    assert list(places) == [len(movie.head) + (n << 30) for n in range(5)]
    assert movie.head[-16:] == struct.pack(">I4sQ", 1, b"mdat", (5 << 30) + 16)


def test_small_file_has_narrow_places():
    movie = build([MovieTrack((H264,), 90_000, samples([10] * 5), Edit(0, 0, 18_000))], 0)
    assert struct.unpack(">II", find(movie.head, b"stco")) == (1, len(movie.head))
    assert movie.head[-8:] == struct.pack(">I4s", 58, b"mdat")


def test_times_past_2040_and_long_edits_are_wide():
    assert mvhd(1 << 32, 90_000, 5, 2)[8] == 1
    assert mvhd(5, 90_000, 1 << 32, 2)[8] == 1
    assert mvhd(5, 90_000, 5, 2)[8] == 0
    assert elst([(1 << 33, 7)])[16] == 1
    assert find(elst([(5, -1), (9, 7)]), b"elst") == struct.pack(">IIihhIihh", 2, 5, -1, 1, 0, 9, 7, 1, 0)


def test_box_and_mdat_grow_to_64_bits():
    assert box(b"free", b"abc") == b"\0\0\0\x0bfreeabc"
    assert mdat_head((1 << 32) - 9) == struct.pack(">I4s", (1 << 32) - 1, b"mdat")
    assert mdat_head((1 << 32) - 8) == struct.pack(">I4sQ", 1, b"mdat", (1 << 32) + 8)


def test_holes_on_the_tape_split_chunks():
    """A dropped AU, a new row: each starts a chunk of its own, so that nothing between them is sent."""
    made = samples([10] * 6, offset=[0, 10, 30, 40, 50, 60], row=[0, 0, 0, 0, 1, 1])
    assert made.split().tolist() == [0, 2, 4]
    movie = build([MovieTrack((H264,), 90_000, made, Edit(0, 0, 21_600))], 0)
    assert movie.extents.offset.tolist() == [0, 30, 50]
    assert movie.extents.size.tolist() == [20, 20, 20]


def test_tables_say_what_they_must():
    assert ctts(np.zeros(4, np.int64)) == b""
    assert ctts(np.array([0, 7200, 7200]))[8] == 0
    assert ctts(np.array([-3600, 0]))[8] == 1
    assert find(ctts(np.array([-3600, 0])), b"ctts") == struct.pack(">IIiIi", 2, 1, -3600, 1, 0)
    assert stss(np.ones(3, np.bool_)) == b""
    assert find(stss(np.array([True, False, True])), b"stss") == struct.pack(">III", 2, 1, 3)
    assert find(stsz(np.array([7, 7])), b"stsz") == struct.pack(">II", 7, 2)
    assert find(stsz(np.array([7, 8])), b"stsz") == struct.pack(">IIII", 0, 2, 7, 8)
    assert find(stsc(np.array([5, 5, 3]), np.array([1, 1, 2])), b"stsc") == struct.pack(">I6I", 2, 1, 5, 1, 3, 3, 2)
    assert find(stts(np.array([3600, 3600, 90])), b"stts") == struct.pack(">I4I", 2, 2, 3600, 1, 90)


def test_what_32_bits_do_not_hold_is_refused():
    with pytest.raises(Refused, match="gap"):
        stts(np.array([1 << 32]))
    with pytest.raises(Refused, match="out of order"):
        ctts(np.array([1 << 31]))


@pytest.mark.parametrize(("codec", "config", "name"), [
    ("avc1", "0164001fffe1", "avc1.64001F"),
    ("avc1", "01 42 c0 1e ff", "avc1.42C01E"),
    ("hvc1", "01 01 60000000 900000000000 5d", "hvc1.1.6.L93.90"),
    ("hvc1", "01 22 20000000 b00000000000 99", "hvc1.2.4.H153.B0"),
    ("hvc1", "01 41 60000000 000000000000 5d", "hvc1.A1.6.L93"),
    ("mp4a", "1190", "mp4a.40.2"),
    ("mp4a", "2b11 8800", "mp4a.40.5"),
    ("mp4a", "f8 e6 4000", "mp4a.40.39"),
    ("alaw", "", "pcma"),
    ("Opus", "00", "Opus"),
])
def test_codec_strings(codec, config, name):
    assert codec_string(SampleEntry(codec, bytes.fromhex(config.replace(" ", "")), 90_000)) == name


def test_inband_changes_the_name_only():
    entry = sample_entry_box(H264, inband=True)
    assert entry[4:8] == b"avc3"
    assert entry[8:] == sample_entry_box(H264)[8:]
    assert codec_string(H264, inband=True) == "avc3.640028"


def test_codec_without_an_entry_is_refused():
    for codec in ("metx", "g726", "vp09"):
        with pytest.raises(Refused):
            sample_entry_box(SampleEntry(codec, b"", 90_000))


def test_long_config_has_a_long_descriptor():
    """Descriptor sizes over 127 take two bytes (ISO 14496-1 8.3.3)."""
    config = bytes(300)
    made = sample_entry_box(SampleEntry("mp4a", config, 48_000, channels=2, sample_rate=48_000))
    assert b"\x05\x82\x2c" + config in made
