"""One UDP port for all WebRTC peers of a process: STUN by user name, the rest by the address that a peer has shown its password from.

    mux = Mux(identity); mux.open("127.0.0.1", 8555)
    mux.add(peer)                       # its ufrag, password and `mux.port` go into the answer
    mux.remove(peer, "asked to")

Nothing is sent to an address before a binding request with our peer's password has come from it, and then no more than it asks for: the port is
no amplifier. Media follow to another address when a packet with the session's keys has come from there. They go out
through the socket that `fileno` names, by recorder/_ext/srtpout.pyx. First bytes: RFC 7983 7.
"""

import asyncio
import ipaddress
import logging
import os
import socket
import struct
from contextlib import suppress

from recorder.base.clock import Clock, SystemClock
from recorder.base.errors import ConfigError, Refused
from recorder.webrtc import stun
from recorder.webrtc.dtls import DtlsError, Identity
from recorder.webrtc.peer import Address, Counts, Peer

log = logging.getLogger("watchroom.webrtc")

PEERS_MAX = 2000            # a handshake that is under way takes about 70 KiB
AT_ONCE = 128               # datagrams that one waking of the loop reads
DATAGRAM_MAX = 2048
BUFFER_BYTES = 8 << 20
LOOK_S = 1.0
NS_PER_S = 1e9


def sockaddr(family: int, address: Address) -> bytes:
    """The address as the kernel has it (sockaddr_in, sockaddr_in6)."""
    if family == socket.AF_INET:
        return struct.pack("=H", family) + struct.pack(">H4s8x", address[1], socket.inet_pton(family, address[0]))
    packed = socket.inet_pton(family, address[0].partition("%")[0])
    return struct.pack("=H", family) + struct.pack(">HI16s", address[1], 0, packed) + struct.pack("=I", address[3])


class Mux:
    """The port and its peers. On one loop."""

    def __init__(self, identity: Identity, clock: Clock | None = None) -> None:
        self.identity = identity
        self.counts = Counts()
        self._clock = clock or SystemClock()
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._by_ufrag: dict[bytes, Peer] = {}
        self._by_address: dict[Address, Peer] = {}
        self._timers: dict[Peer, asyncio.TimerHandle] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def open(self, bind: str, port: int) -> None:
        """Listen. `bind` is an address; :: takes IPv4 as well. ConfigError if that is not possible."""
        version = ipaddress.ip_address(bind).version
        made = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if version == 6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if bind == "::" else 1)
            _widen(made)
            made.bind((bind, port))
        except OSError as error:
            made.close()
            raise ConfigError(f"cannot listen on UDP port {port}: {os.strerror(error.errno or 0)}", where="webrtc.port",
                              remedy="stop what uses it, or choose another") from None
        self._socket = made
        self._loop.add_reader(made.fileno(), self._readable)
        self._sweep = self._loop.call_later(LOOK_S, self._look)

    def close(self) -> None:
        """End all peers and let go of the port."""
        for peer in self.peers():
            self.remove(peer, "the server ends")
        if self._sweep is not None:
            self._sweep.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._socket is not None
        return int(self._socket.getsockname()[1])

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        assert self._socket is not None
        return int(self._socket.family)

    def fileno(self) -> int:
        """The socket's descriptor."""
        assert self._socket is not None
        return self._socket.fileno()

    def peers(self) -> list[Peer]:
        """All that have not ended."""
        return list(self._by_ufrag.values())

    def __len__(self) -> int:
        return len(self._by_ufrag)

    def add(self, peer: Peer) -> None:
        """Await the peer. Refused if there are too many."""
        if len(self._by_ufrag) >= PEERS_MAX:
            raise Refused(f"{PEERS_MAX} WebRTC sessions are open already", remedy="end some")
        peer.made_s = self._now_s()
        self._by_ufrag[peer.ufrag.encode()] = peer

    def remove(self, peer: Peer, reason: str) -> None:
        """End it: DTLS says goodbye, the listener is told. Again is nothing."""
        if self._by_ufrag.pop(peer.ufrag.encode(), None) is None:
            return
        if (timer := self._timers.pop(peer, None)) is not None:
            timer.cancel()
        peer.tell_gone(reason)
        self._flight(peer, peer.farewell())
        for address in peer.addresses:
            if self._by_address.get(address) is peer:
                del self._by_address[address]

    def send(self, data: bytes, address: Address) -> None:
        """One datagram; a full socket or a route that is not there loses it, as the network would."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendto(data, address)

    # --- reading

    def _readable(self) -> None:
        assert self._socket is not None
        for _ in range(AT_ONCE):
            try:
                data, address = self._socket.recvfrom(DATAGRAM_MAX)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:         # an ICMP error about something that was sent
                continue
            if data:
                self._take(data, address)
            if self._socket is None:
                return

    def _take(self, data: bytes, address: Address) -> None:
        first = data[0]
        if first < 4:
            self._stun(data, address)
            return
        peer = self._by_address.get(address)
        if peer is None:
            self.counts.strangers += 1
        elif 20 <= first < 64:
            self.counts.dtls += 1
            if peer.may_speak(self.counts):
                self._shake(peer, data)
        elif 128 <= first < 192 and len(data) >= 12:
            peer.media(data, address, self.counts)

    def _stun(self, data: bytes, address: Address) -> None:
        message = stun.parse(data)
        if message is None or message.kind != stun.REQUEST:
            self.counts.stun_refused += 1
            return
        peer = self._by_ufrag.get(message.attributes.get(stun.USERNAME, b"").partition(b":")[0])
        answer = peer.check(data, message, address, self._now_s()) if peer is not None else None
        if peer is None or answer is None:
            self.counts.stun_refused += 1       # silence: whoever guesses, or is of a session that has ended, learns nothing
            return
        self.counts.stun += 1
        self._map(peer, address)
        self.send(answer[0], address)
        self._flight(peer, answer[1])
        self._time(peer)

    def _map(self, peer: Peer, address: Address) -> None:
        if self._by_address.get(address) is peer:
            return
        self._by_address[address] = peer
        for other in [one for one, owner in self._by_address.items() if owner is peer and one not in peer.addresses]:
            del self._by_address[other]

    # --- DTLS

    def _shake(self, peer: Peer, data: bytes) -> None:
        try:
            self._flight(peer, peer.handshake(data))
        except DtlsError as error:
            self._flight(peer, peer.last_words())
            self.remove(peer, error.message)
            return
        self._time(peer)

    def _flight(self, peer: Peer, datagrams: list[bytes]) -> None:
        if peer.address is not None:
            for datagram in datagrams:
                self.send(datagram, peer.address)

    def _time(self, peer: Peer) -> None:
        """Have the handshake's timer run, once."""
        if peer.contexts is not None or peer in self._timers:
            return
        wait_s = peer.timeout_s
        if wait_s is not None:
            self._timers[peer] = self._loop.call_later(wait_s + 0.001, self._again, peer)

    def _again(self, peer: Peer) -> None:
        self._timers.pop(peer, None)
        if peer.over:
            return
        try:
            self._flight(peer, peer.again())
        except DtlsError as error:
            self.remove(peer, error.message)
            return
        self._time(peer)

    def _look(self) -> None:
        self._sweep = self._loop.call_later(LOOK_S, self._look)
        now_s = self._now_s()
        for peer in self.peers():
            if why := peer.late(now_s):
                self.remove(peer, why)

    def _now_s(self) -> float:
        return self._clock.mono_ns() / NS_PER_S


def _widen(made: socket.socket) -> None:
    """Room for bursts: beyond the system's limit where we may."""
    for forced, plain in ((33, socket.SO_RCVBUF), (32, socket.SO_SNDBUF)):       # SO_RCVBUFFORCE, SO_SNDBUFFORCE
        try:
            made.setsockopt(socket.SOL_SOCKET, forced, BUFFER_BYTES)
        except OSError:
            made.setsockopt(socket.SOL_SOCKET, plain, BUFFER_BYTES)
