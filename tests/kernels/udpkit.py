"""A camera that sends over UDP on loopback, and our two sockets for it in a drain."""

import socket
import struct
from collections.abc import Sequence

import rtpkit

from recorder._ext.auqueue import AuQueue
from recorder._ext.drain import Drain
from recorder._ext.framing import Connection
from recorder._ext.rtp import RtpTrack
from recorder._ext.udp import UdpMedia

UDP_SEGMENT, UDP_GRO, SO_RXQ_OVFL = 103, 104, 40
LOOPBACK = socket.inet_aton("127.0.0.1")
TICK_NS = 40_000_000


def sound(seq: int, ssrc: int = 0x1234) -> bytes:
    """A packet of G.711 whose payload is its number: an access unit of its own."""
    return rtpkit.rtp(seq, seq * 160, struct.pack(">qqq", seq, seq, seq), pt=8, ssrc=ssrc)


class UdpCamera:
    """Our side's session and the other side's sockets. `tick()` is a turn of the drain, 40 ms after the one before."""

    def __init__(self, *, rcvbuf: int = 1 << 20, peers: Sequence[bytes] = (LOOPBACK,), pinned: bool = True, drain: Drain | None = None,
                 track: RtpTrack | None = None) -> None:
        self.ours, self.ours_rtcp, self.rtp, self.rtcp = (self._socket() for _ in range(4))
        for sock in (self.ours, self.ours_rtcp):
            sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
            sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.tcp, self.tcp_peer = socket.socketpair()
        self.tcp.setblocking(False)
        self.connection = Connection()
        self.track = track or RtpTrack(AuQueue(1 << 22, 8192), "pcma", 8000, [8], 1)
        ports = {"rtp_port": self.rtp.getsockname()[1], "rtcp_port": self.rtcp.getsockname()[1]} if pinned else {}
        self.media = UdpMedia(self.track, self.ours.fileno(), self.ours_rtcp.fileno(), peers, **ports)
        self.drain = drain or Drain()
        self.drain.add(self.connection, self.tcp.fileno(), [self.media])
        self.mono_ns = 10**9
        self.events = 0
        self.aus: list[tuple[int, int, int]] = []     # number, flags, gap

    @staticmethod
    def _socket() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        return sock

    def send(self, *packets: bytes, sock: socket.socket | None = None) -> None:
        for packet in packets:
            (sock or self.rtp).sendto(packet, self.ours.getsockname())

    def sounds(self, *numbers: int) -> None:
        self.send(*(sound(n) for n in numbers))

    def tick(self) -> None:
        self.mono_ns += TICK_NS
        for _, events in self.drain.run(self.mono_ns, 0):
            self.events |= events
        self.take()

    def take(self) -> None:
        self.aus += [(struct.unpack(">q", data[:8])[0], au["flags"], au["gap"]) for au, data in self.track.queue.take()]

    def ticks(self, count: int = 5) -> None:
        for _ in range(count):
            self.tick()

    @property
    def numbers(self) -> list[int]:
        """Of the packets used so far."""
        return [number for number, _, _ in self.aus]

    def close(self) -> None:
        for sock in (self.ours, self.ours_rtcp, self.rtp, self.rtcp, self.tcp, self.tcp_peer):
            sock.close()
