from collections.abc import Sequence
from typing import Final, TypedDict, type_check_only

from typing_extensions import Buffer

from recorder._ext.auqueue import AuQueue

# Events of a track or connection, as bits.
EVENT_EOF: Final[int]  # the camera closed the connection
EVENT_ERROR: Final[int]  # recv failed; Connection.errno says why
EVENT_MESSAGE: Final[int]  # Connection.take_messages() has something
EVENT_BYE: Final[int]  # the sender of a track said goodbye (RFC 3550 6.6): reconnect without waiting
EVENT_RTCP: Final[int]  # a track has a new sender report
EVENT_FORMAT_CHANGE: Final[int]  # a track's AUs now carry another format number (the first one included)
EVENT_DAMAGED_STREAM: Final[int]  # bytes could not be understood any more: reconnect; Connection.error says why
EVENT_FIRST_AU: Final[int]  # a track put its first AU of the session into its queue

@type_check_only
class RtpStats(TypedDict):
    packets: int  # RTP packets that passed the header checks
    bytes: int  # of those packets, headers included
    lost: int  # packets missing in sequence
    duplicates: int  # packets that had been there before, or came too late
    restarts: int  # the sender began a new sequence, or another SSRC took over
    malformed: int  # packets that broke RFC 3550 or their payload format
    unknown_pt: int
    foreign_ssrc: int
    dropped_nals: int  # F bit, forbidden or unsupported types, fragments without a start
    aus: int  # put into the queue
    key_aus: int
    damaged_aus: int
    early_aus: int  # dropped: before the session's first decodable key frame
    overload_aus: int  # dropped: no room in the queue, above the ceiling, or too large
    broken_aus: int  # dropped: nothing decodable was left of them
    restamped: int  # timestamps that were off and have been replaced
    discontinuities: int  # new timelines
    formats: int  # formats known so far
    format: int  # number of the last AU's format
    reorder_depth: int
    last_packet_ns: int  # CLOCK_MONOTONIC; 0 = never
    last_au_ns: int  # arrival of the last byte of the newest AU, dropped ones included: the stall timer's hand
    last_key_ns: int
    last_pts: int
    ssrc: int  # -1 = not yet known
    base_seq: int  # for receiver reports (RFC 3550 A.3): extended first and highest sequence number since the last restart
    highest_seq: int
    received: int  # since the last restart
    jitter: int  # in ticks, RFC 3550 A.8
    reordered: int  # packets that waited for those before them (UDP)
    overrun: int  # of those lost, what our own socket had no room for (UDP)
    off: bool  # nothing is taken any more: 100 payloads in a row were not what the SDP says (audio and metadata)

@type_check_only
class SenderReportSeen(TypedDict):
    ntp: int  # 64 bit NTP timestamp as sent
    rtp: int  # 32 bit RTP timestamp as sent
    pts: int  # the same in the track's unwrapped pts
    mono_ns: int  # arrival
    wall_ns: int  # arrival in UTC
    ssrc: int

class RtpTrack:
    """One RTP stream of one session -> access units in `queue`. Use one object per session; all calls on the loop's thread.

    `codec`: 'h264', 'h265', 'jpeg'; 'aac' (mpeg4-generic), 'latm' (AAC), 'pcma', 'pcmu', 'l16', 'opus', 'g726-16' to 'g726-40' or
    'aal2-g726-16' to 'aal2-g726-40'; 'metadata' (documents). `payload_types`: every PT of the medium; others are dropped before
    they touch sequence logic. `parameter_sets`: NAL units from the SDP, hints that in-band sets override. `reorder_depth`: from the SPS; -1 =
    find out. `ssrc`: from the Transport header, a hint: the first packet's is taken, and given up if this one shows up; -1 = none.
    `aac_duration`: ticks per AU (1024, 960, or scaled if the RTP clock is not the sampling rate). `channels`: of G.711 and L16, for the
    duration. `latm_config`: the SDP's StreamMuxConfig, empty if it comes in band. `width`, `height`: of JPEG pictures that do not say it. `ceiling_bps`: bits per second over 10 s above which AUs are dropped as overload, 0 = none. `floor_wall_ns`: no AU is
    stamped earlier. Raises ValueError for what it cannot do.
    """

    def __init__(self, queue: AuQueue, codec: str, clock_rate: int, payload_types: Sequence[int], session: int, *,
                 channels: int = 1, aac_size_length: int = 13, aac_index_length: int = 3, aac_index_delta_length: int = 3,
                 aac_duration: int = 1024, parameter_sets: Sequence[bytes] = (), reorder_depth: int = -1, ssrc: int = -1,
                 ceiling_bps: int = 0, provisional: bool = True, floor_wall_ns: int = 0, latm_config: Buffer = b"",
                 width: int = 0, height: int = 0) -> None: ...
    @property
    def queue(self) -> AuQueue: ...
    @property
    def codec(self) -> str: ...
    @property
    def clock_rate(self) -> int: ...
    @property
    def session(self) -> int: ...
    provisional: bool
    """True: AUs carry AU_PROVISIONAL, their wall_ns is a first guess."""
    floor_wall_ns: int
    """No AU is stamped earlier than this: the end of the track's last row."""
    reorder_depth: int
    """Pictures that may stand between decoding and output; grows by itself when pictures prove it too small, and is never lowered."""
    ceiling_bps: int
    patience_ns: int
    """Over UDP: a packet that is missing for longer is lost; 100 ms unless set. Raises ValueError below 1."""

    def set_line(self, base_pts: int, base_wall_ns: int, ppb: int = 0) -> None:
        """From the next AU on: wall_ns = base_wall_ns + (pts - base_pts) seconds * (1 + ppb / 1e9)."""
    @property
    def line(self) -> tuple[int, int, int] | None:
        """(base_pts, base_wall_ns, ppb) in force; None before the session's first AU, at whose arrival the line starts by itself."""
    def wall_of(self, pts: int) -> int:
        """UTC of `pts` on the line in force, floor not applied. ValueError before there is a line."""
    def take_lag(self) -> int | None:
        """The least (arrival in UTC - wall_ns on the line) of AUs since the last call, ns; None if there was none."""
    def packet(self, data: Buffer, mono_ns: int, wall_offset_ns: int = 0) -> None:
        """One RTP or RTCP packet (UDP and tests; TCP goes through framing.Connection)."""
    def flush(self) -> None:
        """The session ends: complete the AU in the making if it is whole, else drop it."""
    def mark_damaged(self) -> None:
        """Bytes were lost outside RTP's sight: what follows is damaged up to the next access point."""
    def take_events(self) -> int:
        """EVENT_* bits of this track since the last call."""
    def format_sets(self, number: int) -> tuple[bytes, ...]:
        """NAL units of a format in the order VPS, SPS, PPS...; for LATM its AudioSpecificConfig, for JPEG width and height (u16, big-endian); () for
        the others, whose only format is 1. KeyError for a number not given."""
    def stats(self) -> RtpStats: ...
    @property
    def sender_report(self) -> SenderReportSeen | None:
        """The newest sender report (RFC 3550 6.4.1), None if there was none."""
