from typing import TypedDict, type_check_only

from typing_extensions import Buffer

from recorder._ext.rtp import RtpTrack

@type_check_only
class FramingStats(TypedDict):
    bytes: int
    frames: int  # interleaved frames of bound channels
    unbound_frames: int  # of channels that were never set up: ignored
    unbound_bytes: int
    messages: int
    resyncs: int  # times that the boundary was lost and found again
    skipped_bytes: int  # given up in doing so
    last_frame_ns: int  # CLOCK_MONOTONIC of the last complete frame or message: progress is what is complete, not bytes

class Connection:
    """The bytes of one RTSP connection, in any split.

    Out come RTSP messages (RFC 2326 4), and interleaved frames (10.12) go to the tracks bound to their channels. Whole frames are read where they lie; only what a read has split is copied. After EVENT_DAMAGED_STREAM everything further is ignored.
    """

    def __init__(self) -> None: ...
    def bind(self, channel_rtp: int, channel_rtcp: int, track: RtpTrack) -> None:
        """Frames of these channels (0..255; rtcp -1 = none) go to `track`. ValueError if a channel is taken, or for more than 8 tracks."""
    def unbind(self, track: RtpTrack) -> None:
        """Frames of the track's channels are ignored from now on."""
    def feed(self, data: Buffer, nbytes: int, mono_ns: int, wall_offset_ns: int) -> int:
        """Take in the first `nbytes` of `data`, arrived at mono_ns (UTC = mono_ns + wall_offset_ns). Returns rtp.EVENT_* bits."""
    def take_messages(self) -> list[bytes]:
        """Complete RTSP messages, each as received: head, blank line, body. Requests of the server among them."""
    @property
    def tracks(self) -> tuple[RtpTrack, ...]: ...
    @property
    def watched(self) -> bool:
        """Somebody watches one of its tracks."""
    @property
    def errno(self) -> int:
        """Of the failed recv after EVENT_ERROR, else 0."""
    @property
    def error(self) -> str:
        """Why the stream could not be understood any more after EVENT_DAMAGED_STREAM, else ''."""
    def stats(self) -> FramingStats: ...
