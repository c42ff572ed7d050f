"""A track's two UDP sockets on the simulation's side, connected to the client's ports (RFC 3550 11)."""

import contextlib
import socket

SEND_BYTES = 2 << 20
TRIES = 64


class Datagrams:
    """An even port for RTP and the next one for RTCP; raises OSError where the client cannot be reached."""

    def __init__(self, host: str, client: str, ports: tuple[int, int]) -> None:
        self.rtp, self.rtcp = _pair(host)
        self.rtp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        for sock, port in ((self.rtp, ports[0]), (self.rtcp, ports[1])):
            sock.setblocking(False)
            sock.connect((client, port))

    @property
    def ports(self) -> tuple[int, int]:
        """Ours."""
        return self.rtp.getsockname()[1], self.rtcp.getsockname()[1]

    def control(self, packet: bytes) -> None:
        """Send an RTCP packet, and forget what the client sent (receiver reports)."""
        with contextlib.suppress(OSError):       # nobody listens there any more
            self.rtcp.send(packet)
        with contextlib.suppress(OSError):
            while self.rtcp.recv(2048):
                pass

    def close(self) -> None:
        """Close both."""
        self.rtp.close()
        self.rtcp.close()


def _pair(host: str) -> tuple[socket.socket, socket.socket]:
    for _ in range(TRIES):
        first = _bound(host, 0)
        port = first.getsockname()[1]
        with contextlib.suppress(OSError):
            if port % 2 == 0:
                return first, _bound(host, port + 1)
        first.close()
    raise OSError("no two free UDP ports side by side")


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
