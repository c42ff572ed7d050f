"""AudioSpecificConfig (ISO 14496-3 1.6.2.1): read from the SDP's `config`, or made when a camera sends none."""

from dataclasses import dataclass

from recorder.rtp.bits import BitReader, OutOfBits

RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
CONFIG_MAX = 64
_CHANNELS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 8, 11: 7, 12: 8, 14: 8}
_SBR, _PS = 5, 29


@dataclass(frozen=True, slots=True)
class AacConfig:
    """`sample_rate` is the core's; with SBR the output has `output_rate`. `frame_samples` counts at the core's rate."""

    config: bytes
    object_type: int
    sample_rate: int
    output_rate: int
    channels: int
    frame_samples: int = 1024


def parse_config(config: bytes) -> AacConfig | None:
    """What the AudioSpecificConfig says; None if it cannot be AAC."""
    if not 2 <= len(config) <= CONFIG_MAX:
        return None
    try:
        return _read(config, BitReader(config))
    except OutOfBits:
        return None


def _read(config: bytes, r: BitReader) -> AacConfig | None:
    kind, rate, layout = _object_type(r), _rate(r), r.u(4)
    output = rate
    if kind in {_SBR, _PS}:
        output = _rate(r)
        kind = _object_type(r)
    short = kind in {1, 2, 3, 4, 6, 7, 17, 19, 20} and r.flag()
    channels = _CHANNELS.get(layout, 0) if layout else 2
    if rate not in RATES or kind == 0 or not channels:
        return None
    return AacConfig(config, kind, rate, output, channels, 960 if short else 1024)


def _object_type(r: BitReader) -> int:
    kind = r.u(5)
    return 32 + r.u(6) if kind == 31 else kind


def _rate(r: BitReader) -> int:
    index = r.u(4)
    if index == 15:
        return r.u(24)
    if index >= len(RATES):
        raise OutOfBits
    return RATES[index]


def default_config(sample_rate: int, channels: int) -> AacConfig | None:
    """AAC-LC at this rate, for cameras that leave `config` out; None if no such AAC exists."""
    layout = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 8: 7}.get(channels)
    if layout is None or sample_rate not in RATES:
        return None
    bits = 2 << 11 | RATES.index(sample_rate) << 7 | layout << 3
    return AacConfig(bits.to_bytes(2, "big"), 2, sample_rate, sample_rate, channels)
