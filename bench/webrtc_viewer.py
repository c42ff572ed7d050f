"""A browser's part of WHEP, as little as it takes: an offer, ICE and DTLS of a client, and then datagrams that are counted, not decoded.

    viewer = WebrtcViewer(identity)
    answer = ...POST viewer.offer()...
    await viewer.connect(answer)            # keys are there
    viewer.packets, viewer.ages_ms          # ages of whole pictures, by the sender reports' UTC
"""

import asyncio
import re
import secrets
import socket
import struct
import time
from collections.abc import Callable

from recorder.base.media import NS
from recorder.webrtc import stun
from recorder.webrtc.dtls import Dtls, DtlsError, Identity
from recorder.webrtc.offer import parse_offer
from recorder.webrtc.peer import ice_text
from recorder.webrtc.rtcp import NTP_EPOCH_S
from recorder.webrtc.srtp import Contexts

CANDIDATE = re.compile(rb"^a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", re.MULTILINE)
SSRC = re.compile(rb"^a=ssrc:(\d+) ", re.MULTILINE)
CONSENT_S, REPORT_S, TRY_S = 5.0, 1.0, 0.1
PROFILES = ("42e01f", "4d001f", "64001f")
HZ = 90_000
SENDER_REPORT = struct.Struct(">IQI")


class WebrtcViewer:
    """One session. `taken`: called with each RTP or RTCP datagram as it came; `audio`: sound is asked for as well."""

    def __init__(self, identity: Identity, *, audio: bool = False, rtx: bool = True, taken: Callable[[bytes], None] | None = None) -> None:
        self._identity, self._audio, self._rtx, self._taken = identity, audio, rtx, taken
        self.ufrag, self.password = ice_text(6), ice_text(18)
        self._loop = asyncio.get_running_loop()
        self._timers: list[asyncio.TimerHandle] = []
        self._transaction = secrets.token_bytes(12)
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self.contexts: Contexts | None = None
        self.packets = self.bytes = self.highest = self.base = self.received = 0
        self.ssrc = 0
        self.ended = False
        self.ages_ms: list[float] = []
        self._utc: tuple[int, int] | None = None        # timestamp, ns

    def offer(self) -> bytes:
        """The session description to POST."""
        types = range(96, 96 + 2 * len(PROFILES), 2)
        one = self._identity.fingerprint
        common = [f"a=ice-ufrag:{self.ufrag}", f"a=ice-pwd:{self.password}", f"a=fingerprint:{one.algorithm} {one.value}", "a=setup:active",
                  "a=recvonly", "a=rtcp-mux"]
        formats = " ".join(f"{kind} {kind + 1}" if self._rtx else str(kind) for kind in types)
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", f"a=group:BUNDLE 0{' 1' * self._audio}",
                 f"m=video 9 UDP/TLS/RTP/SAVPF {formats}", "a=mid:0", *common]
        for kind, profile in zip(types, PROFILES, strict=True):
            lines += [f"a=rtpmap:{kind} H264/90000", f"a=fmtp:{kind} packetization-mode=1;profile-level-id={profile}",
                      *(f"a=rtcp-fb:{kind} {what}" for what in ("nack", "nack pli", "ccm fir", "goog-remb"))]
            if self._rtx:
                lines += [f"a=rtpmap:{kind + 1} rtx/90000", f"a=fmtp:{kind + 1} apt={kind}"]
        if self._audio:
            lines += ["m=audio 9 UDP/TLS/RTP/SAVPF 111 0 8", "a=mid:1", *common, "a=rtpmap:111 opus/48000/2",
                      "a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000"]
        return "\r\n".join([*lines, ""]).encode()

    async def connect(self, answer: bytes, timeout_s: float = 20.0) -> None:
        """Do what the answer says until media may come. RuntimeError if it says nothing of use, TimeoutError, DtlsError."""
        medium, found = parse_offer(answer).media[0], CANDIDATE.search(answer)
        if found is None:
            raise RuntimeError("the answer has no candidate")
        self._user, self._key = f"{medium.ufrag}:{self.ufrag}".encode(), medium.password.encode()
        self.ssrc = int((SSRC.search(answer) or [b"", b"0"])[1])
        self.address = found[1].decode(), int(found[2])
        self._dtls = Dtls(self._identity, medium.fingerprints, server=False)
        self._begun = False
        self.socket = socket.socket(socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.connect(self.address)
        self._loop.add_reader(self.socket.fileno(), self._readable)
        self._check()
        async with asyncio.timeout(timeout_s):
            await self._ready

    def close(self) -> None:
        """Be gone, without a word."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if hasattr(self, "socket") and self.socket.fileno() >= 0:
            self._loop.remove_reader(self.socket.fileno())
            self.socket.close()

    def _later(self, wait_s: float, call: Callable[[], None]) -> None:
        now_s = self._loop.time()
        self._timers = [timer for timer in self._timers if timer.when() > now_s]
        self._timers.append(self._loop.call_later(wait_s, call))

    def check(self) -> bytes:
        """A binding request."""
        return stun.build(stun.REQUEST, self._transaction, [(stun.USERNAME, self._user), (stun.PRIORITY, struct.pack(">I", 1 << 24)),
                                                            (stun.ICE_CONTROLLING, bytes(8)), (stun.USE_CANDIDATE, b"")], self._key)

    def _check(self) -> None:
        self.send(self.check())
        self._later(CONSENT_S if self._begun else TRY_S, self._check)

    def send(self, data: bytes) -> None:
        """A datagram to the server."""
        try:
            self.socket.send(data)
        except OSError:
            pass                    # the other side is not there (any more)

    def say(self, packet: bytes) -> None:
        """An RTCP packet."""
        assert self.contexts is not None
        self.send(self.contexts.protect_rtcp(packet))

    def _readable(self) -> None:
        for _ in range(256):
            try:
                data = self.socket.recv(2048)
            except (BlockingIOError, ConnectionError):
                return
            if data[0] >= 128:
                self._media(data)
            elif data[0] >= 20:
                self._secure(data)
            elif not self._begun and (message := stun.parse(data)) is not None and message.kind == stun.SUCCESS and message.verify(self._key):
                self._begun = True
                self._shake(self._dtls.begin())

    def _secure(self, data: bytes) -> None:
        try:
            self._shake(self._dtls.feed(data))
        except DtlsError:
            self.ended = True

    def _shake(self, flights: list[bytes]) -> None:
        for flight in flights:
            self.send(flight)
        if self._dtls.keys is not None and self.contexts is None:
            self.contexts = Contexts(self._dtls.keys)
            self._later(REPORT_S, self._report)
            self._ready.set_result(None)
        elif self.contexts is None and (wait_s := self._dtls.timeout_s) is not None:
            self._later(wait_s + 0.001, self._again)

    def _again(self) -> None:
        if self.contexts is None:
            self._shake(self._dtls.again())

    def _media(self, data: bytes) -> None:
        now_ns = time.time_ns()
        self.packets += 1
        self.bytes += len(data)
        if self._taken is not None:
            self._taken(data)
        if 192 <= data[1] <= 223:
            self._told(data)
        elif int.from_bytes(data[8:12]) == self.ssrc:
            self._counted(data, now_ns)

    def _counted(self, data: bytes, now_ns: int) -> None:
        sequence = int.from_bytes(data[2:4])
        if not self.received:
            self.base = self.highest = sequence
        self.received += 1
        ahead = (sequence - self.highest + 0x8000 & 0xFFFF) - 0x8000
        if ahead > 0:
            self.highest += ahead
        if data[1] & 0x80 and self._utc is not None:
            ticks = (int.from_bytes(data[4:8]) - self._utc[0] + (1 << 31) & 0xFFFFFFFF) - (1 << 31)
            self.ages_ms.append((now_ns - self._utc[1] - ticks * NS // HZ) / 1e6)

    def _told(self, data: bytes) -> None:
        if self.contexts is None:
            return
        packet = self.contexts.unprotect_rtcp(data)
        if packet[1] == 203 or (len(packet) > 12 and packet[9] == 203):
            self.ended = True
        elif packet[1] == 200 and len(packet) >= 28:
            ssrc, ntp, timestamp = SENDER_REPORT.unpack_from(packet, 4)
            if ssrc == self.ssrc:
                self._utc = timestamp, ((ntp >> 32) - NTP_EPOCH_S) * NS + ((ntp & 0xFFFFFFFF) * NS >> 32)

    @property
    def missing(self) -> int:
        """Packets of the pictures that did not come, by their numbers."""
        return self.highest - self.base + 1 - self.received if self.received else 0

    def _report(self) -> None:
        """A receiver report without losses (RFC 3550 6.4.2): what browsers send about once a second."""
        self.say(struct.pack(">BBHIIIIIII", 0x81, 201, 7, 1, self.ssrc, 0, self.highest & 0xFFFFFFFF, 0, 0, 0))
        self._later(REPORT_S, self._report)
