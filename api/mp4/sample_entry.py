"""Sample entries (ISO 14496-12 8.5.2, ISO 14496-15 5.4.2 and 8.4.1, ISO 14496-14 5.6) and their names for players (RFC 6381)."""

import struct

from api.mp4.boxes import box, full_box
from recorder.base.errors import Refused
from recorder.base.media import SampleEntry, TrackKind

INBAND = {"avc1": "avc3", "hvc1": "hev1"}
RECORD = {"avc1": b"avcC", "avc3": b"avcC", "hvc1": b"hvcC", "hev1": b"hvcC"}
G711 = {"alaw": "pcma", "ulaw": "pcmu"}
SAMPLED = {"alaw", "ulaw", "twos"}        # QuickTime's names; twos: 16 bit, big-endian
G726 = b"ms\0\x45"            # a WAVE format tag in QuickTime's form: MP4 has no name for it
DEPTH_24 = 0x18
AAC_OBJECT = 0x40             # MPEG-4 audio (ISO 14496-1 7.2.6.6, table 5)
AAC_STREAM = 0x15             # audio stream, upstream 0, reserved 1
EXTENDED_AOT = 31
LAYOUT_MONO = 100             # kAudioChannelLayoutTag_Mono; stereo is the next


def sample_entry_box(entry: SampleEntry, *, inband: bool = False) -> bytes:
    """The entry as it stands in stsd. `inband` names it avc3/hev1, which tells a player to heed sets between the pictures.

    Raises Refused for a codec that MP4 has no entry for.
    """
    if entry.kind is TrackKind.VIDEO:
        return _visual(entry, INBAND.get(entry.codec, entry.codec) if inband else entry.codec)
    if entry.kind is TrackKind.AUDIO:
        return _audio(entry)
    raise _no_entry(entry)


def stsd(entries: tuple[SampleEntry, ...], *, inband: bool = False) -> bytes:
    """The sample description box (8.5.2) of all entries, in order."""
    return full_box(b"stsd", 0, 0, struct.pack(">I", len(entries)), *(sample_entry_box(one, inband=inband) for one in entries))


def _visual(entry: SampleEntry, name: str) -> bytes:
    if entry.codec != "jpeg" and entry.codec not in RECORD:
        raise _no_entry(entry)
    head = struct.pack(">6xHHH12xHHIIIH32xHh", 1, 0, 0, entry.width, entry.height, 0x480000, 0x480000, 0, 1, DEPTH_24, -1)
    record = box(RECORD[entry.codec], entry.config) if entry.codec in RECORD else b""
    return box(name.encode(), head, record)


def _audio(entry: SampleEntry) -> bytes:
    rate = entry.sample_rate or entry.clock_rate
    head = struct.pack(">6xHHHIHHHHI", 1, 0, 0, 0, entry.channels or 1, 16, 0, 0, rate << 16 if rate < 1 << 16 else 0)
    if entry.codec == "mp4a":
        return box(b"mp4a", head, _esds(entry.config))
    if entry.codec == "g726" and entry.config:
        return box(G726, head[:18] + struct.pack(">H", entry.config[0]) + head[20:])
    if entry.codec in SAMPLED:
        return box(entry.codec.encode(), head, _chan(entry.channels or 1))
    if entry.codec == "Opus":
        return box(b"Opus", head, box(b"dOps", entry.config))
    raise _no_entry(entry)


def _chan(channels: int) -> bytes:
    """QuickTime's channel layout atom: mono or stereo, so that no player has to guess."""
    return full_box(b"chan", 0, 0, struct.pack(">III", (LAYOUT_MONO + channels - 1) << 16 | channels, 0, 0)) if channels <= 2 else b""


def _descriptor(tag: int, content: bytes) -> bytes:
    """A descriptor with its size in the expandable form (ISO 14496-1 8.3.3)."""
    size, left = bytes([len(content) & 0x7F]), len(content) >> 7
    while left:
        size, left = bytes([0x80 | left & 0x7F]) + size, left >> 7
    return bytes([tag]) + size + content


def _esds(config: bytes) -> bytes:
    decoder = struct.pack(">BBBHII", AAC_OBJECT, AAC_STREAM, 0, 0, 0, 0) + _descriptor(5, config)
    return full_box(b"esds", 0, 0, _descriptor(3, struct.pack(">HB", 1, 0) + _descriptor(4, decoder) + _descriptor(6, b"\x02")))


def _no_entry(entry: SampleEntry) -> Refused:
    return Refused(f"codec {entry.codec} has no place in an MP4 file", remedy="ask for another track")


def codec_string(entry: SampleEntry, *, inband: bool = False) -> str:
    """The `codecs` parameter of this entry (RFC 6381 3.3; HEVC: ISO 14496-15 E.3). Empty for a codec that has none."""
    name = INBAND.get(entry.codec, entry.codec) if inband else entry.codec
    if RECORD.get(entry.codec) == b"avcC" and len(entry.config) >= 4:
        return f"{name}.{entry.config[1:4].hex().upper()}"
    if RECORD.get(entry.codec) == b"hvcC" and len(entry.config) >= 13:
        return f"{name}.{_hevc(entry.config)}"
    if entry.codec == "mp4a" and entry.config:
        return f"mp4a.40.{_audio_object(entry.config)}"
    return G711.get(entry.codec, name)


def _hevc(config: bytes) -> str:
    """Profile space and idc, compatibility flags in reverse bit order, tier and level, constraint bytes without trailing zeros."""
    space, tier, idc = config[1] >> 6, config[1] >> 5 & 1, config[1] & 31
    flags = int(f"{int.from_bytes(config[2:6]):032b}"[::-1], 2)
    parts = [f"{('', 'A', 'B', 'C')[space]}{idc}", f"{flags:X}", f"{'LH'[tier]}{config[12]}"]
    return ".".join(parts + [f"{byte:X}" for byte in config[6:12].rstrip(b"\0")])


def _audio_object(config: bytes) -> int:
    """audioObjectType (ISO 14496-3 1.6.2.1)."""
    kind = config[0] >> 3
    if kind != EXTENDED_AOT or len(config) < 2:
        return kind
    return 32 + ((config[0] & 7) << 3 | config[1] >> 5)
