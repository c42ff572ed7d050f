"""H.265 parameter sets (ISO 23008-2 7.3.2.2, 7.3.3, E.2.1), the HEVCDecoderConfigurationRecord made of them (ISO 14496-15 8.3.3.1).

Reading an SPS never gates recording: what cannot be read leaves zeros (sizes unknown) and -1 (depth unknown).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from recorder.rtp.bits import BitReader, OutOfBits, unescape

VPS, SPS, PPS, SEI_PREFIX, SEI_SUFFIX = 32, 33, 34, 39, 40
SIZE_MAX = 16384
_UNKNOWN_TIER_LEVEL = bytes([1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 0])      # Main, no level


@dataclass(frozen=True, slots=True)
class H265Sps:
    """What a recorder wants from an SPS. `general`: the 12 bytes of general profile, tier, flags and level as they stand there."""

    general: bytes = _UNKNOWN_TIER_LEVEL
    sub_layers: int = 1
    temporal_nested: bool = False
    chroma: int = 1
    luma_bits: int = 8
    chroma_bits: int = 8
    width: int = 0
    height: int = 0
    fps: float = 0.0
    reorder_depth: int = -1
    min_spatial_segmentation: int = 0


def nal_type(nal: bytes) -> int:
    """nal_unit_type, -1 for less than a header."""
    return (nal[0] >> 1) & 63 if len(nal) >= 2 else -1


def parse_sps(nal: bytes) -> H265Sps:
    """The SPS in `nal` (2-byte header included), as far as it can be read. Never raises."""
    rbsp = unescape(nal[:4096])[2:]
    if len(rbsp) < 13:
        return H265Sps()
    sub_layers = ((rbsp[0] >> 1) & 7) + 1
    if sub_layers > 7:
        return H265Sps()
    sps = H265Sps(general=rbsp[1:13], sub_layers=sub_layers, temporal_nested=bool(rbsp[0] & 1))
    try:
        return _read(sps, BitReader(rbsp[13:]))
    except OutOfBits:
        return sps


def _read(sps: H265Sps, r: BitReader) -> H265Sps:
    _sub_layer_levels(r, sps.sub_layers - 1)
    r.ue()                                   # sps_seq_parameter_set_id
    chroma = r.ue()
    if chroma == 3:
        r.flag()                             # separate_colour_plane
    width, height = r.ue(), r.ue()
    crop = [r.ue() for _ in range(4)] if r.flag() else [0, 0, 0, 0]
    unit_x, unit_y = 2 if chroma in {1, 2} else 1, 2 if chroma == 1 else 1
    width, height = width - unit_x * (crop[0] + crop[1]), height - unit_y * (crop[2] + crop[3])
    luma, chroma_depth = 8 + r.ue(), 8 + r.ue()
    if chroma > 3 or luma > 16 or chroma_depth > 16 or not (0 < width <= SIZE_MAX and 0 < height <= SIZE_MAX):
        return sps
    sps = replace(sps, chroma=chroma, luma_bits=luma, chroma_bits=chroma_depth, width=width, height=height)
    poc_bits = r.ue() + 4
    sps = replace(sps, reorder_depth=_reorder_depth(r, sps.sub_layers))
    try:
        return _behind_ordering(sps, r, poc_bits)
    except OutOfBits:
        return sps


def _sub_layer_levels(r: BitReader, count: int) -> None:
    present = [(r.flag(), r.flag()) for _ in range(count)]
    if count:
        r.skip(2 * (8 - count))
    for profile, level in present:
        r.skip(88 * profile + 8 * level)


def _reorder_depth(r: BitReader, sub_layers: int) -> int:
    """sps_max_num_reorder_pics of the highest sub-layer."""
    depth = -1
    for _ in range(sub_layers if r.flag() else 1):
        r.ue()
        depth = r.ue()
        r.ue()
    return depth if 0 <= depth <= 16 else -1


def _behind_ordering(sps: H265Sps, r: BitReader, poc_bits: int) -> H265Sps:
    """From the block sizes to the VUI, which stands behind scaling lists and reference picture sets."""
    for _ in range(6):
        r.ue()                               # block and transform sizes
    if r.flag() and r.flag():
        _scaling_lists(r)
    r.skip(2)                                # amp, sao
    if r.flag():                             # pcm
        r.skip(8)
        r.ue()
        r.ue()
        r.flag()
    _short_term_sets(r)
    if r.flag():
        for _ in range(min(r.ue(), 33)):     # long-term reference pictures
            r.skip(poc_bits + 1)
    r.skip(2)                                # temporal mvp, strong intra smoothing
    return _vui(sps, r) if r.flag() else sps


def _scaling_lists(r: BitReader) -> None:
    for size in range(4):
        for _ in range(0, 6, 3 if size == 3 else 1):
            if not r.flag():
                r.ue()
                continue
            if size > 1:
                r.se()
            for _ in range(min(64, 1 << (4 + 2 * size))):
                r.se()


def _short_term_sets(r: BitReader) -> None:
    """st_ref_pic_set (7.3.7): only the number of deltas matters to what follows."""
    count = r.ue()
    if count > 64:
        raise OutOfBits
    deltas = 0
    for index in range(count):
        if index and r.flag():
            r.flag()
            r.ue()
            deltas = sum(_inherited(r) for _ in range(deltas + 1))
        else:
            deltas = r.ue() + r.ue()
            if deltas > 32:
                raise OutOfBits
            for _ in range(deltas):
                r.ue()
                r.flag()


def _inherited(r: BitReader) -> bool:
    return r.flag() or r.flag()              # used_by_curr_pic, else use_delta


def _vui(sps: H265Sps, r: BitReader) -> H265Sps:
    if r.flag() and r.u(8) == 255:
        r.skip(32)
    if r.flag():
        r.flag()
    if r.flag():
        r.skip(4)
        if r.flag():
            r.skip(24)
    if r.flag():
        r.ue()
        r.ue()
    r.skip(3)
    if r.flag():
        for _ in range(4):
            r.ue()                           # default display window
    if r.flag():
        units, scale = r.u(32), r.u(32)
        if units and 0 < scale / units <= 1000:
            sps = replace(sps, fps=scale / units)
        if r.flag():
            r.ue()
        if r.flag():
            return sps                       # HRD: nothing behind it is worth its parser
    if r.flag():                             # bitstream_restriction
        r.skip(3)
        sps = replace(sps, min_spatial_segmentation=min(r.ue(), 4095))
    return sps


def configuration(sets: Sequence[bytes]) -> bytes:
    """The HEVCDecoderConfigurationRecord of these parameter sets (4-byte lengths), b"" unless VPS, SPS and PPS are there.

    Profile, tier, level, chroma and bit depths come from the first SPS; the arrays are marked complete (`hvc1`).
    """
    arrays = [(kind, [n for n in sets if nal_type(n) == kind and len(n) < 65536][:64]) for kind in (VPS, SPS, PPS)]
    if not all(nals for _, nals in arrays):
        return b""
    sps = parse_sps(arrays[1][1][0])
    head = bytes([1]) + sps.general
    head += (0xF000 | sps.min_spatial_segmentation).to_bytes(2, "big")
    head += bytes([0xFC, 0xFC | sps.chroma, 0xF8 | ((sps.luma_bits - 8) & 7), 0xF8 | ((sps.chroma_bits - 8) & 7)])
    head += bytes(2)                         # avgFrameRate: unspecified
    head += bytes([sps.sub_layers << 3 | sps.temporal_nested << 2 | 3, len(arrays)])
    return head + b"".join(_array(kind, nals) for kind, nals in arrays)


def _array(kind: int, nals: Sequence[bytes]) -> bytes:
    return bytes([0x80 | kind]) + len(nals).to_bytes(2, "big") + b"".join(len(n).to_bytes(2, "big") + n for n in nals)
