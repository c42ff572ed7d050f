"""What became visible of a track since the last look (recorder/_ext/newest.pyx), beside the rows' own reader and its Python twin."""

import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder._ext import entries
from recorder._ext.newest import Newest
from storage.layout import LIVE_BLOCK, LIVE_BLOCK_BYTES, LIVE_ENTRIES, LIVE_ENTRIES_AT, LIVE_ROWS, LIVE_ROWS_AT, ROW
from tests.storage_read import twins
from tests.storage_read.reference_writer import BASE_NS, Au, encode_entry, seeded_crc

CLOCK = 90_000
AUS = st.builds(Au, st.integers(0, 1 << 24), st.integers(0, 1 << 20), st.integers(-(1 << 30), 1 << 30), st.integers(0, 7))
STEPS = st.one_of(AUS, st.sampled_from(["close", "break", "session", "coding", "look"]))


class Block:
    """One track's block in a live file, written as the worker does."""

    def __init__(self) -> None:
        self.live = bytearray(LIVE_BLOCK_BYTES)
        self.rows, self.open, self.data, self.step = [], None, bytearray(), 0
        self.dts, self.offset, self.session, self.entry, self.flags = 5000, 0, 1, 1, 0
        self.show()

    def add(self, au: Au) -> None:
        row = self.open
        if row is None or row["aus"] == 60:
            self.close()
            row = self.open = np.zeros(1, ROW)[0]
            row["t_ns"], row["media_pts"], row["offset"] = BASE_NS + 11_111 * self.dts, self.dts + au.cts, self.offset
            row["frames_off"], row["session"], row["sample_entry"], row["flags"] = len(self.data), self.session, self.entry, self.flags | 1
            self.flags = self.step = 0
        self.data += encode_entry(au, self.step)
        row["aus"] += 1
        row["bytes"] += au.size
        row["media_dur"] += au.dur
        row["wall_dur_us"] = int(row["media_dur"]) * 100 // 9
        self.step, self.dts, self.offset = au.dur, self.dts + au.dur, self.offset + au.size
        self.show()

    def close(self) -> None:
        if self.open is not None:
            self.open["flags"] &= ~np.uint16(1)
            self.open["crc"] = seeded_crc(self.open.tobytes(), len(self.rows))
            self.rows.append(self.open)
            at = LIVE_ROWS_AT + (len(self.rows) - 1) % LIVE_ROWS * 64
            self.live[at:at + 64] = self.open.tobytes()
            self.open = None
            self.show()

    def show(self) -> None:
        head = np.frombuffer(self.live, LIVE_BLOCK, 1)[0].copy()
        head["seq"] += 2
        head["camera"], head["track"], head["next_row"], head["entries_end"] = 1, b"main", len(self.rows), len(self.data)
        head["open"], head["tail_offset"] = self.open is not None, 77
        if self.open is not None:
            self.open["crc"] = seeded_crc(self.open.tobytes(), len(self.rows))
            head["open_row"] = self.open
        self.live[:LIVE_BLOCK.itemsize] = head.tobytes()
        for at in range(max(0, len(self.data) - LIVE_ENTRIES), len(self.data)):
            self.live[LIVE_ENTRIES_AT + at % LIVE_ENTRIES] = self.data[at]

    def apply(self, step: object) -> None:
        if isinstance(step, Au):
            self.add(step)
        elif step != "look":
            self.close()
            self.flags = 8 if step == "break" else 0
            self.session += step == "session"
            self.entry += step == "coding"

    def all_aus(self) -> list[tuple[int, ...]]:
        """What the rows' own reader makes of them: without whether they lead on."""
        rows = np.array([*self.rows, *([self.open] if self.open is not None else [])], ROW)
        bad, (row, size, dts, _, cts, _, flags, offset, wall) = entries.decode(bytes(self.data), 0, rows.view(np.uint8), CLOCK)
        assert bad < 0
        numbers = rows["sample_entry"][row]
        return list(zip(*(column.tolist() for column in (row, size, flags, dts, cts, offset, wall, numbers)), strict=True))


def drain(newest: object) -> list[tuple[int, ...]]:
    found = []
    while True:
        taken = newest.take(CLOCK)
        assert taken is not None
        if not taken:
            return found
        found += taken


@given(st.lists(STEPS, max_size=60))
@settings(max_examples=150, deadline=None)
def test_every_au_comes_once_as_its_row_tells(steps: list[object]) -> None:
    block = Block()
    newest, twin = Newest(block.live, 0, 1, b"main"), twins.Newest(block.live, 0, 1, b"main")
    found = []
    for step in [*steps, "look"]:
        block.apply(step)
        if step in {"look", "close"}:
            taken = drain(newest)
            assert taken == drain(twin)
            found += taken
    assert [au[:8] for au in drain(Newest(block.live, 0, 1, b"main"))] == block.all_aus()
    # UTC follows the row's length as it was known at each look
    assert [(*au[:6], au[7]) for au in found] == [(*au[:6], au[7]) for au in block.all_aus()]
    assert newest.tail_offset == (77 if found else newest.tail_offset)
    starts = [at for at, (au, before) in enumerate(zip(found, [None, *found], strict=False)) if before is None or au[0] != before[0]]
    assert all(au[8] for at, au in enumerate(found) if at not in starts)
    for at, before in zip(starts[1:], starts, strict=False):
        row, last = block.rows[found[before][0]], found[before]
        new = (*block.rows, block.open)[found[at][0]]
        on = new["session"] == row["session"] and new["sample_entry"] == row["sample_entry"] and not new["flags"] & 8
        assert found[at][8] == bool(on and found[at][3] == last[3] + int(row["media_dur"]))


@pytest.mark.parametrize("seed", range(8))
def test_a_spoilt_block_is_told_as_its_twin_tells_it(seed: int) -> None:
    rng = random.Random(seed)
    block = Block()
    for _ in range(300):
        block.add(Au(rng.randrange(3000), rng.randrange(9000), rng.choice([0, 0, 3600, -3600]), rng.randrange(8)))
        if rng.random() < 0.2:
            block.close()
    told = set()
    for _ in range(600):
        live = bytearray(block.live)
        for _ in range(rng.choice([1, 1, 2, 5])):
            at = rng.choice([rng.randrange(LIVE_BLOCK.itemsize), LIVE_ROWS_AT + rng.randrange(64 * len(block.rows)),
                             LIVE_ENTRIES_AT + rng.randrange(len(block.data))])
            live[at] = rng.choice([0, 1, 0xFF, rng.randrange(256)])
        if rng.random() < 0.7:
            seal(live)
        newest, twin = (kind(bytes(live), 0, 1, b"main") for kind in (Newest, twins.Newest))
        place = rng.randrange(len(block.rows) + 2), rng.choice([0, 0, 1, 5, 70])
        for one in (newest, twin):
            one.seek(*place)
        for _ in range(3):
            found, wanted = newest.take(CLOCK), twin.take(CLOCK)
            assert found == wanted
            assert newest.place == twin.place
            told.add(None if found is None else bool(found))
            if found is None:
                break
    assert told == {None, True, False}


def seal(live: bytearray) -> None:
    """Give the open row and the closed ones their CRC back, and the block its owner."""
    (following,) = struct.unpack_from("<Q", live, 64)
    live[0] &= 0xFE
    live[8:12], live[16:64] = (1).to_bytes(4, "little"), b"main".ljust(48, b"\0")
    at = LIVE_BLOCK.itemsize - 64
    live[at + 60:at + 64] = seeded_crc(bytes(live[at:at + 64]), following).to_bytes(4, "little")
    for number in range(max(0, following - LIVE_ROWS), min(following, 1 << 20)):
        at = LIVE_ROWS_AT + number % LIVE_ROWS * 64
        live[at + 60:at + 64] = seeded_crc(bytes(live[at:at + 64]), number).to_bytes(4, "little")
