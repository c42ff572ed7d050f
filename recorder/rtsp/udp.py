"""Our two UDP sockets of a medium (RFC 3550 11): an even port for RTP, the next one for RTCP; or a group's (RFC 2326 12.39, multicast)."""

import contextlib
import errno
import functools
import ipaddress
import logging
import random
import socket
import struct
from collections.abc import Sequence

from recorder._ext.rtp import RtpTrack
from recorder._ext.udp import UdpMedia
from recorder.base.errors import SourceError
from recorder.base.media import GapCause

ENOUGH_BYTES = 1 << 20       # less than a second of 8 Mbit/s, with what the kernel adds to each packet
RECEIVE_BYTES = 4 << 20      # a socket waits for up to two ticks; the kernel gives at most net.core.rmem_max
TRIES = 64
UDP_GRO = 104                # <linux/udp.h>
SO_RXQ_OVFL = 40             # <asm-generic/socket.h>
IP_MULTICAST_ALL = 49        # <linux/in.h>
RECEIVER_REPORT = 201
_log = logging.getLogger(__name__)


@functools.cache
def _tell_small(got_bytes: int) -> None:
    """One line for the process: how much the kernel gives does not change from socket to socket."""
    _log.warning("UDP sockets hold %d KiB, which bursts of a high bit rate may not fit into: set the sysctl net.core.rmem_max to %d",
                 got_bytes >> 10, RECEIVE_BYTES)


class UdpSockets:
    """The sockets, the camera's end of them, and the kernel's object that receives. All calls on the loop's thread; `close` twice is fine."""

    def __init__(self, rtp: socket.socket, rtcp: socket.socket) -> None:
        self.media: UdpMedia
        self._rtp = rtp
        self._rtcp = rtcp
        self._peer = ""
        self._peer_ports = (0, 0)
        self._payload_type = 0

    @classmethod
    def bind(cls, local: str, ports: tuple[int, int]) -> "UdpSockets":
        """A free pair of ports from the range `ports` on the address `local`. Raises SourceError if none is found."""
        evens = range(ports[0] + ports[0] % 2, ports[1], 2)
        for _ in range(TRIES):
            port = random.choice(evens)  # noqa: S311
            with contextlib.suppress(OSError):
                return cls._pair((local, port), (local, port + 1))
        raise SourceError(f"no two free UDP ports from {ports[0]} to {ports[1]}", cause=GapCause.OVERLOAD, retry_s=5.0,
                          remedy="widen recording.udp_port_first and udp_port_last")

    @classmethod
    def join(cls, group: str, ports: tuple[int, int], local: str) -> "UdpSockets":
        """The group's ports, joined on the interface whose address is `local`. Raises SourceError (`unsupported`) if that cannot be."""
        if not ipaddress.ip_address(group).is_multicast or ":" in group + local:
            raise SourceError(f"{group} is no IPv4 multicast group", cause=GapCause.UNSUPPORTED, retry_s=60.0,
                              remedy='set the multicast address in the camera, or transport = "tcp"')
        try:
            sockets = cls._pair((group, ports[0]), (group, ports[1]))
        except OSError as error:
            raise _cannot_join(group, error) from error
        try:
            for sock in (sockets._rtp, sockets._rtcp):
                sock.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton(local))
        except OSError as error:
            sockets.close()
            raise _cannot_join(group, error) from error
        return sockets

    @classmethod
    def _pair(cls, rtp: tuple[str, int], rtcp: tuple[str, int]) -> "UdpSockets":
        first = _bound(rtp)
        try:
            return cls(first, _bound(rtcp))
        except OSError:
            first.close()
            raise

    @property
    def ports(self) -> tuple[int, int]:
        """Ours."""
        return self._rtp.getsockname()[1], self._rtcp.getsockname()[1]

    def receive_from(self, peers: Sequence[str], ports: tuple[int, int], track: RtpTrack, payload_type: int) -> None:
        """Let `track` have what comes from one of these addresses (the first is where reports go) and ports (0: any, then always the same)."""
        self._peer, self._peer_ports, self._payload_type = peers[0], ports, payload_type
        packed = [ipaddress.ip_address(peer.partition("%")[0]).packed for peer in dict.fromkeys(peers)]
        self.media = UdpMedia(track, self._rtp.fileno(), self._rtcp.fileno(), packed, rtp_port=ports[0], rtcp_port=ports[1])

    def punch(self) -> None:
        """Open the way through a firewall or NAT between: an empty packet to each port that the camera sends from."""
        self._send(self._rtp, struct.pack(">BBHII", 0x80, self._payload_type, 0, 0, 0), self._peer_ports[0])
        self._send(self._rtcp, struct.pack(">BBHI", 0x80, RECEIVER_REPORT, 1, 0), self._peer_ports[1])

    def report(self, packet: bytes) -> None:
        """Send an RTCP packet to the camera alone, also out of a group. A network that does not take it does not matter."""
        self._send(self._rtcp, packet, self.media.sender_ports[1] or self._peer_ports[1])

    def _send(self, sock: socket.socket, packet: bytes, port: int) -> None:
        if port:
            with contextlib.suppress(OSError):       # ECONNREFUSED of an earlier one, EAGAIN, no route
                sock.sendto(packet, (self._peer, port))

    def close(self) -> None:
        """Close both; a group is left."""
        self._rtp.close()
        self._rtcp.close()


def _bound(where: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if ":" not in where[0] and ipaddress.ip_address(where[0]).is_multicast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)       # other streams of this group's cameras, other programs
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        got_bytes = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2        # the kernel counts its own share in
        if got_bytes < ENOUGH_BYTES:
            _tell_small(got_bytes)
        sock.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        with contextlib.suppress(OSError):           # kernels before 5.0
            sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        sock.bind(where)
    except BaseException:
        sock.close()
        raise
    return sock


def _cannot_join(group: str, error: OSError) -> SourceError:
    why = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    return SourceError(f"cannot join the group {group}: {why}", cause=GapCause.UNSUPPORTED, retry_s=10.0,
                       remedy="check that the interface to the camera takes multicast")
