from collections.abc import Sequence
from typing import TypedDict, type_check_only

from recorder._ext.rtp import RtpTrack

@type_check_only
class UdpStats(TypedDict):
    datagrams: int  # of the camera, RTP and RTCP
    foreign: int  # of others, or from another port: dropped
    overflows: int  # RTP packets that the kernel dropped because our buffer was full (SO_RXQ_OVFL)

class UdpMedia:
    """One RTP stream over UDP: two non-blocking sockets -> `track`, whose packets may from now on come out of order.

    Packets wait up to 100 ms, and at most 512 of them, for those before them. `peers`: the addresses (4 or 16 bytes each) of which one
    may send; the ports are the sender's, 0 takes that of the first packet. The caller keeps the sockets open as long as a drain has
    this object. UDP_GRO and SO_RXQ_OVFL are used if they are set on the sockets. ValueError for what cannot be.
    """

    def __init__(self, track: RtpTrack, rtp_fd: int, rtcp_fd: int, peers: Sequence[bytes], *, rtp_port: int = 0, rtcp_port: int = 0) -> None: ...
    @property
    def track(self) -> RtpTrack: ...
    @property
    def sender_ports(self) -> tuple[int, int]:
        """Where RTP and RTCP come from; 0 while unknown."""
    def stats(self) -> UdpStats: ...
