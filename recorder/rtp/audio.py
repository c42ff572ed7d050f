"""Audio of the SDP -> formats and sample entries: AAC (RFC 3640, RFC 6416), G.711, G.726, L16 (RFC 3551 4.5), Opus (RFC 7587)."""

import re
import struct
from dataclasses import replace

from recorder._ext.latm import stream_mux_config
from recorder.base.media import SampleEntry
from recorder.rtp import aac
from recorder.rtp.rtpformat import RtpFormat, hex_bytes, number
from recorder.rtsp.sdp import PayloadFormat

OPUS_HZ = 48_000              # RFC 7587 4.1, 7: whatever the SDP says
SAMPLED = {"pcma": "alaw", "pcmu": "ulaw", "l16": "twos"}
G726 = re.compile(r"(aal2-)?g726-(16|24|32|40)")
_ENCODINGS = {"MPEG4-GENERIC": "aac", "MP4A-LATM": "latm", "PCMA": "pcma", "PCMU": "pcmu", "L16": "l16", "OPUS": "opus"}


def audio_codec(encoding: str) -> str | None:
    """The kernel's name of an encoding (upper case), None if it is not recorded."""
    name = encoding.lower()
    return name if G726.fullmatch(name) else _ENCODINGS.get(encoding)


def audio_format(codec: str, offered: PayloadFormat, payload_types: tuple[int, ...]) -> RtpFormat | str:
    """The format, or why there is none."""
    made = RtpFormat(codec, payload_types, offered.clock_rate, offered.channels, encoding=offered.encoding)
    if codec == "aac":
        return _aac(made, offered)
    if codec == "latm":
        return _latm(made, offered)
    if codec == "opus":
        return replace(made, clock_rate=OPUS_HZ, channels=2)
    return _sampled(made, offered)


def _aac(made: RtpFormat, offered: PayloadFormat) -> RtpFormat | str:
    fmtp = offered.fmtp
    mode = fmtp.get("mode", "AAC-hbr").lower()
    low = mode == "aac-lbr"
    if mode not in {"aac-hbr", "aac-lbr"} or fmtp.get("auxiliarydatasizelength", "0") not in {"", "0"}:
        return f"MPEG4-GENERIC in mode {mode[:20]}"
    config = aac.parse_config(hex_bytes(fmtp.get("config", ""))) or aac.default_config(offered.clock_rate, offered.channels)
    if config is None or config.object_type not in {1, 2, 3, 4, 6, 17, 23, 39}:
        return "AAC without a readable config"
    sizes = [number(fmtp.get(key, ""), default) for key, default in
             (("sizelength", 6 if low else 13), ("indexlength", 2 if low else 3), ("indexdeltalength", 2 if low else 3))]
    if not (0 < sizes[0] <= 16 and all(0 <= s <= 16 for s in sizes[1:])):
        return "AAC with odd AU headers"
    return replace(made, clock_rate=_aac_clock(offered.clock_rate, config), channels=config.channels, config=config,
                   size_length=sizes[0], index_length=sizes[1], index_delta_length=sizes[2])


def _aac_clock(declared: int, config: aac.AacConfig) -> int:
    """The config's rate wins over the rtpmap's, except where that is the output rate of SBR."""
    return declared if declared in {config.output_rate, 2 * config.sample_rate} else config.sample_rate


def _latm(made: RtpFormat, offered: PayloadFormat) -> RtpFormat | str:
    """RFC 6416 7.3. A config without a word about cpresent is meant to be used; cpresent=0 without one says nothing (mediamtx#3590)."""
    config = hex_bytes(offered.fmtp.get("config", ""))
    cpresent = offered.fmtp.get("cpresent", "0" if config else "1")
    if cpresent != "0":
        return made if made.clock_rate else "MP4A-LATM without a clock rate"
    read = stream_mux_config(config)
    found = aac.parse_config(read[0]) if read is not None else None
    if found is None:
        return "MP4A-LATM without a readable config"
    clock = made.clock_rate if made.clock_rate == 90_000 else _aac_clock(made.clock_rate, found)    # RFC 3016 5.1 suggests 90 kHz
    return replace(made, clock_rate=clock, channels=found.channels, latm_config=config)


def _sampled(made: RtpFormat, offered: PayloadFormat) -> RtpFormat | str:
    """G.711, L16, G.726: every clock is a track of its own, so only those that exist."""
    rate = offered.clock_rate or 8000
    if not 1 <= offered.channels <= (1 if G726.fullmatch(made.codec) else 2) or rate not in aac.RATES:
        return f"{offered.encoding}/{offered.clock_rate}/{offered.channels}"
    return replace(made, clock_rate=rate)


def in_g726_order(chosen: RtpFormat, order: str) -> RtpFormat:
    """G.726 whose bit order the camera misstates: `order` is rfc3551 (least significant first), aal2, or sdp for what the SDP says."""
    found = G726.fullmatch(chosen.codec)
    if found is None or order == "sdp":
        return chosen
    return replace(chosen, codec=f"{'aal2-' * (order == 'aal2')}g726-{found[2]}")


def audio_entry(rtp: RtpFormat, parts: tuple[bytes, ...]) -> SampleEntry | None:
    """The sample entry; `parts` is what the kernel knows of the format (the AudioSpecificConfig of LATM). None if it is not known yet."""
    config = aac.parse_config(parts[0]) if rtp.codec == "latm" and parts else rtp.config
    if rtp.codec in {"aac", "latm"}:
        return _mp4a(config, rtp.clock_rate) if config is not None else None
    if rtp.codec == "opus":
        return SampleEntry("Opus", opus_config(2), OPUS_HZ, channels=2, sample_rate=OPUS_HZ)
    found = G726.fullmatch(rtp.codec)
    if found is not None:
        return SampleEntry("g726", bytes([int(found[2]) // 8]), rtp.clock_rate, channels=1, sample_rate=rtp.clock_rate)
    return SampleEntry(SAMPLED[rtp.codec], b"", rtp.clock_rate, channels=rtp.channels, sample_rate=rtp.clock_rate)


def _mp4a(config: aac.AacConfig, clock_rate: int) -> SampleEntry:
    return SampleEntry("mp4a", config.config, clock_rate, channels=config.channels, sample_rate=config.output_rate)


def opus_config(channels: int) -> bytes:
    """The content of dOps ("Encapsulation of Opus in ISOBMFF" 4.3.2): no pre-skip, since a recording begins anywhere."""
    return struct.pack(">BBHIhB", 0, channels, 0, OPUS_HZ, 0, 0)
