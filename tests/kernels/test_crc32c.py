"""CRC-32C against a twin that takes one bit after another. Lengths lie around the borders of the three ways to compute it."""

import random

import pytest

from recorder._ext.crc32c import crc32c, crc32c_range


def twin(data: bytes, value: int = 0) -> int:
    crc = value ^ 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_the_check_value_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 255, 256, 767, 768, 769, 1023, 1024, 1025, 1279, 1280, 1281, 4095, 12288, 12289, 13000])
def test_every_length_gives_the_same_as_bit_by_bit(size):
    data = random.Random(size).randbytes(size)
    assert crc32c(data) == twin(data)
    assert crc32c(data, 0x12345678) == twin(data, 0x12345678)


def test_a_view_at_any_address_gives_the_same():
    data = random.Random(1).randbytes(1500)
    for start in range(0, 130, 13):
        assert crc32c(memoryview(data)[start:]) == twin(data[start:])


def test_every_flipped_bit_of_a_folded_run_is_seen():
    data = bytearray(2048)
    clean = crc32c(data)
    for bit in range(0, 8 * len(data), 61):
        data[bit >> 3] ^= 1 << (bit & 7)
        assert crc32c(data) != clean
        data[bit >> 3] ^= 1 << (bit & 7)


def test_pieces_of_any_size_add_up_and_ranges_follow_from_running_values():
    rng = random.Random(2)
    data, value, at = rng.randbytes(60_000), 0, 0
    while at < len(data):
        size = rng.choice([1, 100, 1400, 3000, 20_000])
        before, piece = value, data[at:at + size]
        value, at = crc32c(piece, value), at + size
        assert crc32c_range(before, value, len(piece)) == crc32c(piece)
    assert value == crc32c(data)
