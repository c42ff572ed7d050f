"""WebM (RFC 9559, and WebM's narrower rules): Opus sound, the one thing a camera sends that it may carry. Values in, bytes out."""

import struct

import numpy as np

from api.mp4.clip import MOVIE_HZ, Extents, Movie, MovieTrack
from recorder.base.errors import Conflict
from recorder.base.media import NS, SampleEntry

CLUSTER_MS = 5_000            # times in a cluster are 16-bit numbers from its own
MS = 1_000_000
EPOCH_2001_NS = 978_307_200 * NS
PRE_ROLL_NS = 80 * MS         # RFC 7845 4.6
NAME = b"Watchroom"


def _size(value: int) -> bytes:
    """A length as an EBML number of 8 bytes (RFC 8794 4): every element's head has a fixed size."""
    return (1 << 56 | value).to_bytes(8)


def _element(name: int, *parts: bytes) -> bytes:
    return name.to_bytes(-(-name.bit_length() // 8)) + _size(sum(map(len, parts))) + b"".join(parts)


def _number(name: int, value: int) -> bytes:
    return _element(name, value.to_bytes(8))


def build_webm(track: MovieTrack, created_ns: int) -> Movie:
    """The file with this sound. Raises Conflict for any other coding."""
    (entry, *others) = track.entries
    if entry.codec != "Opus" or others:
        raise Conflict(f"WebM cannot carry {entry.codec}", remedy="ask for format=mp4, fmp4 or ts")
    samples = track.samples
    at_ms = (track.edit.delay * NS // MOVIE_HZ + (samples.dts - track.edit.media_time) * NS // track.timescale) // MS
    first = int(np.searchsorted(at_ms, 0))               # what serves decoding only: WebM has no place for it before time 0
    at_ms, size, offset = np.maximum(at_ms[first:], 0), samples.size[first:], samples.offset[first:]
    if not len(at_ms):
        raise Conflict("there is too little sound in this range", remedy="ask for a longer one")
    blocks = [b"\xa3" + _size(4 + bytes_) for bytes_ in size.tolist()]
    clusters, heads = _clusters(at_ms.tolist(), size.tolist(), blocks)
    duration_ms = int(at_ms[-1]) + samples.last_dur * 1000 // track.timescale
    body = _info(created_ns, duration_ms) + _tracks(entry)
    media_bytes = clusters + int(size.sum())
    head = _ebml() + 0x18538067.to_bytes(4) + _size(len(body) + media_bytes) + body
    lengths = np.array([len(one) for one in heads], np.int64)
    pairs = np.stack((lengths, size), axis=1).reshape(-1)
    starts = np.stack((np.cumsum(lengths) - lengths, offset), axis=1).reshape(-1)
    index = np.tile(np.array([-1, 0], np.int64), len(size))
    return Movie(head, Extents(index, starts, pairs, len(head) + np.cumsum(pairs) - pairs), len(head) + media_bytes, b"".join(heads))


def _clusters(at_ms: list[int], size: list[int], blocks: list[bytes]) -> tuple[int, list[bytes]]:
    """What precedes each AU (its block's head, and its cluster's where it is the first), and the length of all that."""
    starts = [0]
    for number, at in enumerate(at_ms):
        if at - at_ms[starts[-1]] >= CLUSTER_MS:
            starts.append(number)
    heads: list[bytes] = []
    for start, stop in zip(starts, [*starts[1:], len(at_ms)], strict=True):
        timecode = _number(0xE7, at_ms[start])
        inside = len(timecode) + sum(len(blocks[n]) + 4 + size[n] for n in range(start, stop))
        cluster = 0x1F43B675.to_bytes(4) + _size(inside) + timecode
        heads += [(cluster if n == start else b"") + blocks[n] + struct.pack(">BhB", 0x81, at_ms[n] - at_ms[start], 0x80)
                  for n in range(start, stop)]
    return sum(map(len, heads)), heads


def _ebml() -> bytes:
    return _element(0x1A45DFA3, _number(0x4286, 1), _number(0x42F7, 1), _number(0x42F2, 4), _number(0x42F3, 8), _element(0x4282, b"webm"),
                    _number(0x4287, 4), _number(0x4285, 2))


def _info(created_ns: int, duration_ms: int) -> bytes:
    return _element(0x1549A966, _number(0x2AD7B1, MS), _element(0x4489, struct.pack(">d", duration_ms)),
                    _element(0x4461, struct.pack(">q", created_ns - EPOCH_2001_NS)), _element(0x4D80, NAME), _element(0x5741, NAME))


def _tracks(entry: SampleEntry) -> bytes:
    _, channels, skip, rate, gain, family = struct.unpack_from(">BBHIhB", entry.config)
    private = b"OpusHead" + struct.pack("<BBHIhB", 1, channels, skip, rate, gain, family) + entry.config[11:]
    sound = _element(0xE1, _element(0xB5, struct.pack(">d", 48_000)), _number(0x9F, channels))
    return _element(0x1654AE6B, _element(0xAE, _number(0xD7, 1), _number(0x73C5, 1), _number(0x83, 2), _element(0x86, b"A_OPUS"),
                                         _element(0x63A2, private), _number(0x56AA, skip * NS // 48_000), _number(0x56BB, PRE_ROLL_NS), sound))
