"""H.264 parameter sets (ISO 14496-10 7.3.2.1.1, E.1.1) and the AVCDecoderConfigurationRecord made of them (ISO 14496-15 5.3.3.1).

Reading an SPS never gates recording: what cannot be read leaves zeros (sizes unknown) and -1 (depth unknown).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from recorder.rtp.bits import BitReader, OutOfBits, unescape

SPS, PPS, SPS_EXT = 7, 8, 13
SIZE_MAX = 16384
_HIGH = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
_DPB_MBS = {9: 396, 10: 396, 11: 900, 12: 2376, 13: 2376, 20: 2376, 21: 4752, 22: 8100, 30: 8100, 31: 18000, 32: 20480, 40: 32768,
            41: 32768, 42: 34816, 50: 110400, 51: 184320, 52: 184320, 60: 696320, 61: 696320, 62: 696320}     # Table A-1


@dataclass(frozen=True, slots=True)
class H264Sps:
    """What a recorder wants from an SPS. `reorder_depth`: pictures between decoding and output, -1 unknown."""

    profile: int = 0
    compatibility: int = 0
    level: int = 0
    chroma: int = 1
    luma_bits: int = 8
    chroma_bits: int = 8
    width: int = 0
    height: int = 0
    fps: float = 0.0
    reorder_depth: int = -1


def nal_type(nal: bytes) -> int:
    """nal_unit_type, -1 for an empty NAL."""
    return nal[0] & 31 if nal else -1


def parse_sps(nal: bytes) -> H264Sps:
    """The SPS in `nal` (header byte included), as far as it can be read. Never raises."""
    if len(nal) < 4:
        return H264Sps()
    sps = H264Sps(profile=nal[1], compatibility=nal[2], level=nal[3])
    try:
        return _read(sps, BitReader(unescape(nal[:4096])[4:]))
    except OutOfBits:
        return sps


def _read(sps: H264Sps, r: BitReader) -> H264Sps:
    r.ue()                                   # seq_parameter_set_id
    if sps.profile in _HIGH:
        sps = _chroma(sps, r)
    r.ue()                                   # log2_max_frame_num_minus4
    _picture_order(r)
    r.ue()                                   # max_num_ref_frames
    r.flag()
    width_mbs, map_units = r.ue() + 1, r.ue() + 1
    frame_mbs_only = r.flag()
    if not frame_mbs_only:
        r.flag()
    r.flag()                                 # direct_8x8_inference
    height_mbs = map_units * (1 if frame_mbs_only else 2)
    crop = [r.ue() for _ in range(4)] if r.flag() else [0, 0, 0, 0]
    unit_x = 2 if sps.chroma in {1, 2} else 1
    unit_y = (2 if sps.chroma == 1 else 1) * (1 if frame_mbs_only else 2)
    width, height = 16 * width_mbs - unit_x * (crop[0] + crop[1]), 16 * height_mbs - unit_y * (crop[2] + crop[3])
    if not (0 < width <= SIZE_MAX and 0 < height <= SIZE_MAX):
        return sps
    sps = replace(sps, width=width, height=height)
    return _usability(sps, r, width_mbs * height_mbs)


def _chroma(sps: H264Sps, r: BitReader) -> H264Sps:
    chroma = r.ue()
    if chroma == 3:
        r.flag()
    luma, chroma_depth = 8 + r.ue(), 8 + r.ue()
    r.flag()
    if r.flag():                             # seq_scaling_matrix_present
        for i in range(8 if chroma != 3 else 12):
            if r.flag():
                _scaling_list(r, 16 if i < 6 else 64)
    if chroma > 3 or luma > 14 or chroma_depth > 14:
        raise OutOfBits
    return replace(sps, chroma=chroma, luma_bits=luma, chroma_bits=chroma_depth)


def _scaling_list(r: BitReader, size: int) -> None:
    last = next_scale = 8
    for _ in range(size):
        if next_scale:
            next_scale = (last + r.se()) % 256
        last = next_scale or last


def _picture_order(r: BitReader) -> None:
    kind = r.ue()
    if kind == 0:
        r.ue()
    elif kind == 1:
        r.flag()
        r.se()
        r.se()
        for _ in range(min(r.ue(), 255)):
            r.se()


def _usability(sps: H264Sps, r: BitReader, mbs: int) -> H264Sps:
    """VUI: frame rate and reorder depth; without bitstream_restriction the depth follows from profile and level (A.3.1)."""
    fallback = replace(sps, reorder_depth=0 if _never_reorders(sps) else -1)
    try:
        return _vui(fallback, r, mbs) if r.flag() else fallback
    except OutOfBits:
        return fallback


def _never_reorders(sps: H264Sps) -> bool:
    return sps.profile == 66 or (sps.profile in {44, 86, 100, 110, 122, 244} and bool(sps.compatibility & 0x10))


def _vui(sps: H264Sps, r: BitReader, mbs: int) -> H264Sps:
    if r.flag() and r.u(8) == 255:           # aspect ratio
        r.skip(32)
    if r.flag():
        r.flag()                             # overscan
    if r.flag():                             # video_signal_type
        r.skip(4)
        if r.flag():
            r.skip(24)
    if r.flag():
        r.ue()
        r.ue()                               # chroma location
    if r.flag():
        units, scale = r.u(32), r.u(32)
        r.flag()
        if units and 0 < scale / (2 * units) <= 1000:
            sps = replace(sps, fps=scale / (2 * units))
    hrd = [r.flag() and _hrd(r), r.flag() and _hrd(r)]
    if any(hrd):
        r.flag()
    r.flag()                                 # pic_struct_present
    if not r.flag():
        return sps
    r.flag()
    for _ in range(4):
        r.ue()
    depth, buffered = r.ue(), r.ue()
    limit = min(16, _DPB_MBS.get(sps.level, 696320) // max(mbs, 1))
    return replace(sps, reorder_depth=depth) if depth <= max(buffered, limit) <= 16 else sps


def _hrd(r: BitReader) -> bool:
    count = r.ue() + 1
    if count > 32:
        raise OutOfBits
    r.skip(8)
    for _ in range(count):
        r.ue()
        r.ue()
        r.flag()
    r.skip(20)
    return True


def configuration(sets: Sequence[bytes]) -> bytes:
    """The AVCDecoderConfigurationRecord of these parameter sets (4-byte lengths), b"" without an SPS and a PPS."""
    sps = [n for n in sets if nal_type(n) == SPS and 4 <= len(n) < 65536][:31]
    pps = [n for n in sets if nal_type(n) == PPS and len(n) < 65536][:255]
    if not sps or not pps:
        return b""
    record = bytes([1, *sps[0][1:4], 0xFF, 0xE0 | len(sps)]) + _list(sps) + bytes([len(pps)]) + _list(pps)
    if sps[0][1] in {100, 110, 122, 144}:
        first = parse_sps(sps[0])
        extensions = [n for n in sets if nal_type(n) == SPS_EXT and len(n) < 65536][:255]
        record += bytes([0xFC | first.chroma, 0xF8 | (first.luma_bits - 8), 0xF8 | (first.chroma_bits - 8), len(extensions)])
        record += _list(extensions)
    return record


def _list(nals: Sequence[bytes]) -> bytes:
    return b"".join(len(n).to_bytes(2, "big") + n for n in nals)
