"""Words that every floor shares: kinds of tracks, sample entries, causes of gaps, flags of access units and rows."""

import enum
import re
from dataclasses import dataclass

ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")
NS = 1_000_000_000


def valid_id(text: str) -> bool:
    """True if `text` may be a camera id or a track name."""
    return ID_PATTERN.fullmatch(text) is not None


class TrackKind(enum.StrEnum):
    """What a track carries; decides the chunk class."""

    VIDEO = "video"
    AUDIO = "audio"
    METADATA = "metadata"


class GapCause(enum.IntEnum):
    """Why footage is missing. The number is the format's, the lower-case name is the API's."""

    OFFLINE = 1
    REFUSED = 2
    AUTH = 3
    BAD_SDP = 4
    UNSUPPORTED = 5
    STALL = 6
    LOSS = 7
    NO_KEYFRAME = 8
    SENDER_RESTART = 9
    TIMESTAMP_JUMP = 10
    CLOCK_STEP = 11
    OVERLOAD = 12
    DISK = 13
    CRASH = 14
    STOPPED = 15
    OPERATOR = 16

    @property
    def word(self) -> str:
        """The cause as the API spells it."""
        return self.name.lower()


class DeletionCause(enum.IntEnum):
    """Why footage went. The numbers are stored."""

    UNKNOWN = 0         # written before it was said
    DAYS = 1            # its days were over
    BYTES = 2           # a track, camera, site or partner had more than its bytes
    ROOM = 3            # the volume, or the slot's share of it, was full
    FREE = 4            # the file system had less free than the volume's watermark
    RELEASED = 5        # a hold had kept it, and was released
    HELD = 6            # nothing went: a hold keeps all of the chunk

    @property
    def word(self) -> str:
        """The cause as the API spells it."""
        return self.name.lower()


class AuFlag(enum.IntFlag):
    """Flags of an access unit in the queue (the same numbers as in recorder/_ext/auqueue.pxd)."""

    KEY = 1
    LEADING = 2
    DAMAGED = 4
    DISCONTINUITY = 8
    PROVISIONAL = 16


class RowFlag(enum.IntFlag):
    """Flags of a row."""

    OPEN = 1
    CONTINUED = 2
    DAMAGED = 4
    DISCONTINUITY = 8
    PROVISIONAL = 16


@dataclass(frozen=True, slots=True)
class SampleEntry:
    """How a run of AUs is coded: all that a player must be told besides the AUs.

    `codec` is the MP4 sample entry type: avc1, hvc1, jpeg, mp4a, Opus, alaw, ulaw, twos (QuickTime; twos is 16 bit big-endian), g726 (which has
    none), metx. `config` is the configuration record that goes into it: AVCDecoderConfigurationRecord (ISO 14496-15 5.3.3.1),
    HEVCDecoderConfigurationRecord (8.3.3.1), AudioSpecificConfig (ISO 14496-3 1.6.2.1), the content of dOps for Opus; of g726 one byte, the
    bits of a code word; of metx the encoding's name (vnd.onvif.metadata, ...gzip, ...exi.onvif); else empty. `clock_rate` is the tick of pts
    and dts. Sizes are 0 where unknown.
    """

    codec: str
    config: bytes
    clock_rate: int
    width: int = 0
    height: int = 0
    channels: int = 0
    sample_rate: int = 0

    @property
    def kind(self) -> TrackKind:
        """Video, audio or metadata."""
        if self.codec in {"avc1", "avc3", "hvc1", "hev1", "jpeg", "vp08", "vp09", "av01"}:
            return TrackKind.VIDEO
        return TrackKind.METADATA if self.codec == "metx" else TrackKind.AUDIO


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of a track without footage: [start_ns, end_ns), end_ns None while it is open."""

    start_ns: int
    end_ns: int | None
    cause: GapCause
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """One connection to a camera; end_ns None while it goes on."""

    number: int
    start_ns: int
    end_ns: int | None
    transport: str = ""
    end_reason: str = ""


@dataclass(frozen=True, slots=True)
class SenderReport:
    """RTCP sender report (RFC 3550 6.4.1) as evidence: NTP as ns since the Unix epoch, RTP timestamp in the track's pts, arrival in UTC."""

    ntp_ns: int
    pts: int
    arrival_ns: int
