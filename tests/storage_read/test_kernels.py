"""The reading kernels against their Python twins, and against hostile bytes."""

import mmap
import struct
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder._ext import entries, rowsearch
from storage.footage import RowRun, row_ends
from storage.layout import ROW
from tests.storage_read import twins
from tests.storage_read.reference_writer import BASE_NS, Au, encode_entry, seeded_crc, varint

AUS = st.builds(Au, st.integers(0, 1 << 24), st.integers(0, 1 << 20), st.integers(-(1 << 30), 1 << 30), st.integers(0, 7))


def make_rows(groups: list[list[Au]], *, first: int = 0) -> tuple[np.ndarray, bytes]:
    """Valid rows and their entries."""
    rows, data, t_ns, dts, offset = np.zeros(len(groups), ROW), bytearray(), BASE_NS, 1000, 0
    for index, aus in enumerate(groups):
        row = rows[index]
        row["t_ns"], row["media_pts"], row["offset"] = t_ns, dts + aus[0].cts, offset
        row["frames_off"], row["aus"], row["bytes"] = len(data), len(aus), sum(au.size for au in aus)
        row["media_dur"] = sum(au.dur for au in aus)
        row["wall_dur_us"] = int(row["media_dur"]) * 100 // 9
        for au, before in zip(aus, [None, *aus], strict=False):
            data += encode_entry(au, before.dur if before else 0)
        dts += int(row["media_dur"])
        offset += int(row["bytes"])
        t_ns += int(row["wall_dur_us"]) * 1000
        row["crc"] = seeded_crc(row.tobytes(), first + index)
    return rows, bytes(data)


@given(st.lists(st.lists(AUS, min_size=1, max_size=6), min_size=1, max_size=5))
@settings(max_examples=150, deadline=None)
def test_entries_equal_the_twin(groups: list[list[Au]]):
    rows, data = make_rows(groups)
    bad, arrays = entries.decode(data, 0, rows.view(np.uint8), 90_000)
    wanted = twins.decode(data, 0, rows, 90_000)
    assert bad == -1
    for name, array in zip(("row", "size", "dts", "dts_rel", "cts", "dur", "flags", "offset", "wall_ns"), arrays, strict=True):
        assert array.tolist() == [au[name] for au in wanted], name


@given(st.lists(AUS, min_size=1, max_size=8), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_cut_entries_are_named_never_read_past(aus: list[Au], cut: int):
    rows, data = make_rows([[Au(5, 10)], aus])
    short = data[:-1 - cut % len(data)]
    bad, _ = entries.decode(short, 0, rows.view(np.uint8), 90_000)
    assert bad == (1 if len(short) >= int(rows["frames_off"][1]) else 0)


@given(st.binary(max_size=200), st.integers(1, 60))
@settings(max_examples=300, deadline=None)
def test_hostile_entry_bytes_raise_nothing_and_agree_with_the_twin(data: bytes, aus: int):
    rows = np.zeros(1, ROW)
    rows["aus"], rows["bytes"], rows["media_dur"], rows["wall_dur_us"] = aus, sum(data[::2]), 3600, 40_000
    bad, arrays = entries.decode(data, 0, rows.view(np.uint8), 90_000)
    try:
        wanted = twins.decode(data, 0, rows, 90_000)
    except ValueError:
        assert bad == 0
    else:
        assert bad == 0 or arrays[1].tolist() == [au["size"] for au in wanted]


def test_entries_outside_of_the_buffer_are_bad():
    rows, data = make_rows([[Au(5, 10)]] * 3)
    for base, wanted in ((0, -1), (1, 0), (1 << 63, 0)):
        assert entries.decode(data, base, rows.view(np.uint8), 90_000)[0] == wanted
    rows["frames_off"][1] = 1 << 62
    assert entries.decode(data, 0, rows.view(np.uint8), 90_000)[0] == 1


def test_sizes_that_do_not_add_up_name_the_row():
    rows, data = make_rows([[Au(5, 10), Au(6, 10)]] * 3)
    rows["bytes"][2] += 1
    assert entries.decode(data, 0, rows.view(np.uint8), 90_000)[0] == 2


def test_a_step_at_a_rows_first_au_is_bad():
    rows = np.zeros(1, ROW)
    rows["aus"], rows["bytes"] = 1, 1
    assert entries.decode(varint(1 << 4) + varint(9), 0, rows.view(np.uint8), 1)[0] == 0


def test_a_row_without_a_known_length_ticks_nominally():
    rows, data = make_rows([[Au(5, 0), Au(5, 0, 4500)]])
    _, arrays = entries.decode(data, 0, rows.view(np.uint8), 90_000)
    assert arrays[8].tolist() == [BASE_NS, BASE_NS + 50_000_000]


@given(st.lists(AUS, max_size=8), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_entry_bytes_counts_what_the_twin_reads(aus: list[Au], cut: int):
    data = b"".join(encode_entry(au, au.dur) for au in aus)
    assert entries.entry_bytes(data, len(aus)) == len(data)
    if aus:
        assert entries.entry_bytes(data[:-1], len(aus)) == -1
    assert entries.entry_bytes(data[:cut], 0) == 0


def lap(rows: np.ndarray, first: int, capacity: int) -> bytes:
    """A ring's data with these rows in their places."""
    ring = bytearray(b"\xee" * (capacity * 64))
    for index in range(len(rows)):
        at = (first + index) % capacity * 64
        ring[at:at + 64] = rows[index].tobytes()
    return bytes(ring)


@given(st.lists(st.integers(1, 900_000), min_size=1, max_size=60), st.integers(0, 200), st.integers(0, 70),
       st.sets(st.integers(0, 59), max_size=6), st.data())
@settings(max_examples=300, deadline=None)
def test_search_finds_what_the_twin_finds(durations: list[int], first: int, spare: int, broken: set[int], data: st.DataObject):
    rows, _ = make_rows([[Au(1, dur)] for dur in durations], first=first)
    for index in broken & set(range(len(rows))):
        rows["crc"][index] ^= 1
    capacity = len(rows) + spare
    ring = lap(rows, first, capacity)
    t_ns = data.draw(st.integers(BASE_NS - 10, int(rows["t_ns"][-1]) + 10) | st.sampled_from(rows["t_ns"].tolist()))
    low = data.draw(st.integers(first, first + len(rows)))
    high = data.draw(st.integers(low, first + len(rows)))
    marks = np.array(data.draw(st.none() | st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=4, max_size=4)) or [0] * 4, np.int64)
    right = twins.find_row(ring, capacity, low, high, t_ns)
    assert rowsearch.find_row(ring, capacity, low, high, t_ns) == right
    assert rowsearch.find_row(ring, capacity, low, high, t_ns, marks) == right
    assert rowsearch.find_row(ring, capacity, low, high, t_ns, marks) == right


def test_search_by_marks_finds_each_row_of_many_pages():
    rows, _ = make_rows([[Au(1, 900 + (number % 7) * 100)] for number in range(700)], first=1000)
    ring, marks = lap(rows, 1000, 704), np.zeros(4, np.int64)
    for index in [350, *range(700)]:
        assert rowsearch.find_row(ring, 704, 1000, 1700, int(rows["t_ns"][index]), marks) == 1000 + index
    assert marks.tolist() == [1000, int(rows["t_ns"][0]), 1699, int(rows["t_ns"][699])]
    assert rowsearch.find_row(ring, 704, 1000, 1700, BASE_NS - 1, marks) == 999
    with pytest.raises(ValueError, match="4 elements"):
        rowsearch.find_row(ring, 704, 1000, 1700, BASE_NS, marks[:3])


def test_search_ends_on_equal_times_and_absurd_ones():
    rows, _ = make_rows([[Au(1, 0)]] * 50)
    assert rowsearch.find_row(lap(rows, 0, 50), 50, 0, 50, BASE_NS) == 49
    rows["t_ns"] = np.sort(np.array([-(1 << 63), (1 << 63) - 1] * 25, "<i8"))
    for index in range(50):
        rows["crc"][index] = seeded_crc(rows[index].tobytes(), index)
    assert rowsearch.find_row(lap(rows, 0, 50), 50, 0, 50, 0) == 24


def test_an_outage_does_not_mislead_for_long():
    rows, _ = make_rows([[Au(1, 90_000)] for _ in range(9000)], first=0)
    rows["t_ns"][8900:] += 10**15
    for index in range(8900, 9000):
        rows["crc"][index] = seeded_crc(rows[index].tobytes(), index)
    ring, marks = lap(rows, 0, 9024), np.zeros(4, np.int64)
    for index in (10, 7000, 8899, 8900, 8999, 5000, 0):
        assert rowsearch.find_row(ring, 9024, 0, 9000, int(rows["t_ns"][index]), marks) == index
        assert marks[0] == 0 and marks[3] == int(rows["t_ns"][marks[2]])
    assert 4096 < marks[2] < 8999


@given(st.integers(1, 40), st.integers(0, 1 << 40), st.integers(0, 45), st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_copy_stops_at_the_first_row_that_is_not_its_number(count: int, first: int, want: int, spare: int):
    rows, _ = make_rows([[Au(1, 5)]] * count, first=first)
    capacity = count + spare
    out = np.empty(want, ROW)
    got = rowsearch.copy_rows(lap(rows, first, capacity), capacity, first, out.view(np.uint8))
    assert got == (0 if want > capacity else min(want, count))
    assert out[:got].tobytes() == rows[:got].tobytes()


def test_a_row_of_an_older_lap_never_validates():
    rows, _ = make_rows([[Au(1, 5)]] * 16)
    out = np.empty(1, ROW)
    assert rowsearch.copy_rows(rows.tobytes(), 16, 3, out.view(np.uint8)) == 1
    assert rowsearch.copy_rows(rows.tobytes(), 16, 19, out.view(np.uint8)) == 0


def test_a_capacity_beyond_the_buffer_is_refused():
    out = np.empty(1, ROW)
    assert rowsearch.copy_rows(bytes(64), 2, 0, out.view(np.uint8)) == 0
    assert rowsearch.copy_rows(b"", 0, 0, out.view(np.uint8)) == 0
    assert rowsearch.find_row(bytes(64), 2, 0, 2, 5) == -1


@given(st.lists(st.tuples(st.integers(0, 400_000), st.sampled_from([0, 1, 5_000, 100_000, 9_000_000]), st.booleans()), min_size=1, max_size=40),
       st.integers(1, 12), st.integers(-3, 3), st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_tally_equals_the_twin(shape: list[tuple[int, int, bool]], steps: int, shift: int, blocks: int):
    rows = np.zeros(len(shape), ROW)
    t_ns = BASE_NS
    for index, (dur_us, hole_us, damaged) in enumerate(shape):
        t_ns += hole_us * 1000
        rows["t_ns"][index], rows["wall_dur_us"][index], rows["bytes"][index] = t_ns, dur_us, index + 1
        rows["flags"][index] = 4 if damaged else 0
        rows["crc"][index] = seeded_crc(rows[index].tobytes(), 100 + index)
        t_ns += dur_us * 1000
    start, end = BASE_NS + shift * 1_000_000, max(t_ns + shift * 700_000, BASE_NS + shift * 1_000_000 + steps)
    step = -(-(end - start) // steps)
    count = -(-(end - start) // step)
    figures = [np.zeros(count, np.int64) for _ in range(3)]
    carry = np.array([start, 0, 0, 0], np.int64)
    holes, hurt = np.zeros(2 * len(rows), np.int64), np.zeros(2 * len(rows), np.int64)
    for at in range(0, len(rows), blocks):
        part = rows[at:at + blocks]
        assert rowsearch.tally(part.view(np.uint8), 100 + at, carry, start, end, step, 10_000_000, *figures, holes, hurt) == len(part)
    covered, damaged_ns, nbytes, wanted = twins.tally(rows, start, end, step, 10_000_000)
    assert [f.tolist() for f in figures] == [covered, damaged_ns, nbytes]
    assert holes[:2 * carry[1]].reshape(-1, 2).tolist() == [list(hole) for hole in wanted]
    pairs = hurt[:2 * carry[2]].reshape(-1, 2)
    assert int((pairs[:, 1] - pairs[:, 0]).sum()) == sum(damaged_ns)


def test_tally_stops_at_a_bad_row():
    rows, _ = make_rows([[Au(1, 5)]] * 4)
    rows["crc"][2] ^= 1
    figures = [np.zeros(1, np.int64) for _ in range(3)]
    room = [np.zeros(8, np.int64) for _ in range(2)]
    carry = np.array([BASE_NS, 0, 0, 0], np.int64)
    assert rowsearch.tally(rows.view(np.uint8), 0, carry, BASE_NS, BASE_NS + 10**9, 10**9, 1, *figures, *room) == 2
    with pytest.raises(ValueError):
        rowsearch.tally(rows.view(np.uint8), 0, carry[:3], BASE_NS, BASE_NS + 10**9, 10**9, 1, *figures, *room)


def test_a_block_outside_of_the_file_is_refused():
    for at, size in ((0, 8), (16, 16), (4, 8), (1 << 40, 8)):
        with pytest.raises(ValueError):
            rowsearch.copy_block(bytes(16) if at else b"", at, bytearray(size), 5)
    with pytest.raises(ValueError):
        rowsearch.copy_block(bytes(64), 0, bytearray(4), 5)
    assert not rowsearch.copy_block(struct.pack("<QQ", 3, 5), 0, bytearray(16), 5)
    out = bytearray(16)
    assert rowsearch.copy_block(struct.pack("<QQ", 4, 5), 0, out, 5)
    assert struct.unpack("<QQ", out) == (4, 5)


def test_ends_of_rows_do_not_overflow_their_field():
    rows = np.zeros(1, ROW)
    rows["wall_dur_us"] = 0xFFFF_FFFF
    assert row_ends(rows)[0] == 0xFFFF_FFFF * 1000
    assert RowRun(3, rows).end_ns == 0xFFFF_FFFF * 1000


def test_a_ring_whose_disk_cannot_be_read_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    """A page that cannot be read is SIGBUS, as behind the end of a file that somebody has cut."""
    rows, out = make_rows([[Au(1, 90_000)] for _ in range(9000)])[0], np.empty(4, ROW)
    (tmp_path / "ring").write_bytes(rows.tobytes())
    with (tmp_path / "ring").open("r+b") as file, closing(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)) as mapped:
        data, marks = np.frombuffer(mapped, np.uint8), np.zeros(4, np.int64)
        assert rowsearch.find_row(data, 9000, 0, 9000, int(rows["t_ns"][8000]), marks) == 8000
        file.truncate(4096)
        for _ in range(3):
            with pytest.raises(OSError, match="cannot be read"):
                rowsearch.find_row(data, 9000, 0, 9000, int(rows["t_ns"][8000]), marks)
            with pytest.raises(OSError, match="cannot be read"):
                rowsearch.copy_rows(data, 9000, 8000, out.view(np.uint8))
        assert rowsearch.copy_rows(data, 9000, 4, out.view(np.uint8)) == 4
        del data
