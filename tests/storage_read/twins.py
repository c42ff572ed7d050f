"""Python twins of the reading kernels: slow, obvious, the oracle."""

import struct
from typing import Any

import numpy as np

from recorder._ext.crc32c import crc32c
from storage.layout import ROW


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
