"""A scripted camera that sends over UDP on loopback: `pairs` are its sockets by medium, `blind` makes it send nothing."""

import asyncio
import re
import socket
import struct
from types import TracebackType

from tests.session.fake_camera import FPS, SDP, FakeCamera, Link, Request, reply

UNICAST = re.compile(r"RTP/AVP(?:/UDP)?;unicast;client_port=(\d+)-(\d+)$")


class UdpCamera(FakeCamera):
    """Refuses TCP (461) unless `tcp`. `extra` is appended to its Transport answers; `names_ports`: it says where it sends from."""

    def __init__(self, *, sdp: str = SDP, tcp: bool = False, udp: bool = True, extra: str = "", names_ports: bool = True) -> None:
        super().__init__(sdp=sdp)
        self.tcp, self.udp, self.extra, self.names_ports = tcp, udp, extra, names_ports
        self.pairs: list[tuple[socket.socket, socket.socket]] = [(bound(), bound()) for _ in range(2)]
        self.clients: dict[int, tuple[int, int]] = {}
        self.heard_udp: list[tuple[int, bytes]] = []      # medium * 2 + (0 RTP, 1 RTCP), packet
        self.sent = 0

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await super().__aexit__(kind, error, trace)
        for pair in self.pairs:
            for sock in pair:
                sock.close()

    def answer(self, request: Request) -> bytes | None:
        """SETUP for UDP; all else as any camera."""
        if request.method != "SETUP":
            return super().answer(request)
        match = UNICAST.match(request.headers["transport"])
        medium = 0 if request.url.endswith("1") else 1
        if match is None or not self.udp:
            return super().answer(request) if "interleaved" in request.headers["transport"] and self.tcp else reply(request, 461)
        self.clients[medium] = int(match[1]), int(match[2])
        ports = "-".join(str(sock.getsockname()[1]) for sock in self.pairs[medium]) if self.names_ports else "0-0"
        return reply(request, 200, f"Transport: {request.headers['transport']};server_port={ports}{self.extra}",
                     f"Session: {self.session};timeout={self.timeout_s}")

    def start(self, link: Link) -> None:
        """Send over UDP what was set up so."""
        if self.clients:
            link.playing = link.playing or asyncio.create_task(self.play(link))
        else:
            super().start(link)

    async def play(self, link: Link) -> None:
        """Pictures and sound in real time, and what comes back is noted."""
        loop = asyncio.get_running_loop()
        began, index = loop.time(), 0
        while True:
            if not link.silent:
                self.send_frames(link.picture(index))
                self.send_frames(link.rtp(2, 8, index * 320, bytes(320)))
            self.listen()
            index += 1
            await asyncio.sleep(max(0.0, began + index / FPS - loop.time()))

    def send_frames(self, data: bytes) -> None:
        """Interleaved frames as datagrams."""
        while data:
            channel, size = struct.unpack(">xBH", data[:4])
            if channel // 2 in self.clients:
                self.datagram(channel // 2, data[4:4 + size])
            data = data[4 + size:]

    def datagram(self, medium: int, packet: bytes, sock: socket.socket | None = None) -> None:
        """One packet to the recorder's RTP port."""
        self.sent += 1
        (sock or self.pairs[medium][0]).sendto(packet, ("127.0.0.1", self.clients[medium][0]))

    def listen(self) -> None:
        """Note what the recorder has sent to our ports."""
        for number, sock in enumerate(sock for pair in self.pairs for sock in pair):
            while True:
                try:
                    self.heard_udp.append((number, sock.recv(2048)))
                except OSError:
                    break


def bound(address: str = "127.0.0.1") -> socket.socket:
    """A non-blocking socket on a free port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    sock.setblocking(False)
    return sock
