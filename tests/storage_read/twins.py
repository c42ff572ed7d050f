"""Python twins of the reading kernels: slow, obvious, the oracle."""

import struct
from typing import Any

import numpy as np

from recorder._ext.crc32c import crc32c
from storage.layout import LIVE_BLOCK, LIVE_ENTRIES, LIVE_ENTRIES_AT, LIVE_ROWS, LIVE_ROWS_AT, ROW


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, position behind it); ValueError where it is cut or longer than 10 bytes."""
    value = 0
    for index in range(10):
        if at + index >= len(data):
            raise ValueError("cut")
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + index + 1
    raise ValueError("long")


def read_entry(data: bytes, at: int) -> tuple[int, int, int, int]:
    """(head, step, cts, position behind it)."""
    head, at = read_varint(data, at)
    step, at = read_varint(data, at)
    cts = 0
    if head & 8:
        zigzag, at = read_varint(data, at)
        cts = (zigzag >> 1) ^ -(zigzag & 1)
    return head, step, cts, at


def decode(data: bytes, base: int, rows: np.ndarray[Any, Any], clock_rate: int) -> list[dict[str, int]]:
    """One dict per AU."""
    out = []
    for index, row in enumerate(rows):
        at, offset, dts = int(row["frames_off"]) - base, int(row["offset"]), None
        first = 0
        mine: list[dict[str, int]] = []
        for _ in range(int(row["aus"])):
            head, step, cts, at = read_entry(data, at)
            if dts is None:
                dts = first = int(row["media_pts"]) - cts
            dts += step
            mine.append({"row": index, "size": head >> 4, "dts": dts, "dts_rel": dts - first, "cts": cts, "flags": head & 7,
                         "offset": offset, "dur": 0})
            offset += head >> 4
        for one, after in zip(mine, [*(au["dts"] for au in mine[1:]), first + int(row["media_dur"])], strict=True):
            one["dur"] = max(after - one["dts"], 0)
        media, wall = int(row["media_dur"]), int(row["wall_dur_us"]) * 1000
        for one in mine:
            ticks = one["dts"] + one["cts"] - int(row["media_pts"])
            scale = wall / media if media and wall else 1e9 / clock_rate
            one["wall_ns"] = int(row["t_ns"]) + int(ticks * scale + (0.5 if ticks >= 0 else -0.5))
        if offset - int(row["offset"]) != int(row["bytes"]):
            raise ValueError("does not add up")
        out += mine
    return out


def row_valid(raw: bytes, number: int) -> bool:
    """True if `raw` is row `number`."""
    return crc32c(raw[:60], crc32c(struct.pack("<Q", number))) == struct.unpack("<I", raw[60:64])[0]


def find_row(ring: bytes, capacity: int, low: int, high: int, t_ns: int) -> int:
    """Newest valid row of [low, high) that starts at or before t_ns."""
    found = low - 1
    for number in range(low, high):
        raw = ring[number % capacity * 64:number % capacity * 64 + 64]
        if row_valid(raw, number) and int(np.frombuffer(raw, ROW)["t_ns"][0]) <= t_ns:
            found = number
    return found


Figures = tuple[list[int], list[int], list[int], list[tuple[int, int]]]


def tally(rows: np.ndarray[Any, Any], start: int, end: int, step: int, tolerance: int) -> Figures:
    """(covered, damaged, nbytes per step, holes) of valid rows."""
    steps = -(-(end - start) // step)
    covered, damaged, nbytes = [0] * steps, [0] * steps, [0] * steps
    holes, last = [], start
    for row in rows:
        a, b = max(int(row["t_ns"]), start), min(int(row["t_ns"]) + int(row["wall_dur_us"]) * 1000, end)
        if a >= end or b < a:
            continue
        if a - last > tolerance:
            holes.append((last, a))
        else:
            a = last
        last = max(last, b)
        if (a - start) // step < steps:
            nbytes[(a - start) // step] += int(row["bytes"])
        for index in range(steps):
            part = max(0, min(b, start + (index + 1) * step) - max(a, start + index * step))
            covered[index] += part
            damaged[index] += part if int(row["flags"]) & 4 else 0
    return covered, damaged, nbytes, holes


def signed(value: int) -> int:
    """As 64 bits hold it."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


class Newest:
    """Twin of recorder/_ext/newest.pyx."""

    def __init__(self, live: bytes, at: int, camera: int, track: bytes) -> None:
        self.live, self.at, self.owner = live, at, (camera, track)
        self.seek(0, 0)

    def seek(self, row: int, aus: int) -> None:
        self.place, self.seen, self.before = (row, aus), -1, None

    def take(self, clock_rate: int) -> tuple[tuple[int, ...], ...] | None:
        if struct.unpack_from("<Q", self.live, self.at)[0] == self.seen:
            return ()
        out: list[tuple[int, ...]] = []
        for _ in range(4):
            told = self._row(out, clock_rate or 1)
            if told is None:
                return None
            if not told:
                break
        return tuple(out)

    def _row(self, out: list[tuple[int, ...]], clock_rate: int) -> bool | None:
        number, have = self.place
        head = np.frombuffer(self.live, LIVE_BLOCK, 1, self.at)[0]
        following, is_open = int(head["next_row"]), bool(head["open"])
        name = bytes(self.live[self.at + 16:self.at + 64])
        if head["seq"] & 1 or (int(head["camera"]), name) != (self.owner[0], self.owner[1].ljust(48, b"\0")):
            return None
        if not max(int(head["tail_row"]), following - LIVE_ROWS + 1) <= number <= following:
            return None
        if number == following and (not is_open or head["open_row"]["aus"] <= have):
            if not is_open and have:
                return None
            self.seen = int(head["seq"])
            return False
        at = self.at + LIVE_ROWS_AT + number % LIVE_ROWS * 64
        row = head["open_row"] if number == following else np.frombuffer(self.live, ROW, 1, at)[0]
        data = self._entries(int(row["frames_off"]), int(head["entries_end"]))
        if data is None or not row_valid(row.tobytes(), number) or not have <= row["aus"] <= 1024:
            return None
        aus = self._aus(row, data, clock_rate)
        if aus is None:
            return None
        leads = have > 0 or (self.before is not None and self._leads_on(row, aus))
        out += [(number, *au, int(row["sample_entry"]), leads or index > have) for index, au in enumerate(aus) if index >= have]
        self.place = number, len(aus)
        if number == following:
            self.seen = int(head["seq"])
            return False
        known = row["media_dur"] and row["wall_dur_us"]
        tick_ns = float(row["wall_dur_us"]) * 1000 / float(row["media_dur"]) if known else 1.0
        self.before = (int(row["session"]), int(row["sample_entry"]), signed(aus[0][2] + int(row["media_dur"])), tick_ns) if aus else None
        self.place = number + 1, 0
        return True

    def _entries(self, start: int, end: int) -> bytes | None:
        if not 0 <= end - start <= LIVE_ENTRIES:
            return None
        ring = self.live[self.at + LIVE_ENTRIES_AT:self.at + LIVE_ENTRIES_AT + LIVE_ENTRIES]
        here = start % LIVE_ENTRIES
        return (ring[here:] + ring[:here])[:end - start]

    def _aus(self, row: Any, data: bytes, clock_rate: int) -> list[tuple[int, ...]] | None:
        found, at, dts, total = [], 0, 0, 0
        media, wall = int(row["media_dur"]), int(row["wall_dur_us"]) * 1000
        scale = wall / media if media and wall else 1e9 / clock_rate
        for index in range(int(row["aus"])):
            try:
                head, step, cts, at = read_entry(data, at)
            except ValueError:
                return None
            if head >> 36 or not -(1 << 31) <= cts < 1 << 31 or (index == 0 and step):
                return None
            dts = signed((int(row["media_pts"]) - cts if index == 0 else dts) + step)
            ticks = signed(dts + cts - int(row["media_pts"]))
            wall_ns = signed(int(row["t_ns"]) + int(ticks * scale + (0.5 if ticks >= 0 else -0.5)))
            found.append((head >> 4, head & 7, dts, cts, (int(row["offset"]) + total) % (1 << 64), wall_ns))
            total += head >> 4
        return found if total == row["bytes"] else None

    def _leads_on(self, row: Any, aus: list[tuple[int, ...]]) -> bool:
        assert self.before is not None
        session, entry, follows, tick_ns = self.before
        same = (session, entry) == (int(row["session"]), int(row["sample_entry"])) and not row["flags"] & 8
        return same and bool(aus) and abs(float(signed(aus[0][2] - follows)) * tick_ns) <= 20e6
