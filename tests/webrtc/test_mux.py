"""The port: who gets in, who does not, and what becomes of peers. The other side is bench/webrtc_viewer.py, over loopback."""

import asyncio
import os
import random
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from bench.webrtc_viewer import WebrtcViewer
from recorder.base.clock import SimulatedClock
from recorder.base.errors import ConfigError
from recorder.webrtc import stun
from recorder.webrtc.answer import Sending, Transport, build_answer
from recorder.webrtc.dtls import Fingerprint, Identity
from recorder.webrtc.mux import Mux, sockaddr
from recorder.webrtc.offer import parse_offer
from recorder.webrtc.peer import ADDRESSES_MAX, CONSENT_S, SETUP_S, Peer
from recorder.webrtc.srtp import Contexts

IDENTITY = Identity()
THEIRS = Identity()
RTP = bytes([0x80, 96, 0, 1]) + bytes(4) + struct.pack(">I", 5) + b"payload"
RTCP = bytes([0x80, 201, 0, 1]) + bytes(4)


@dataclass
class Heard:
    """A listener that notes what it is told."""

    contexts: Contexts | None = None
    addresses: list = field(default_factory=list)
    packets: list = field(default_factory=list)
    ends: list = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def ready(self, contexts):
        self.contexts = contexts
        self.told.set()

    def moved(self, address):
        self.addresses.append(address)

    def rtcp(self, packet):
        self.packets.append(packet)
        self.told.set()

    def rtp(self, packet):
        self.packets.append(packet)
        self.told.set()

    def gone(self, reason):
        self.ends.append(reason)
        self.told.set()

    async def next(self):
        async with asyncio.timeout(20):
            await self.told.wait()
        self.told.clear()


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture(params=["127.0.0.1", "::1", "::"])
async def mux(request, clock) -> AsyncIterator[Mux]:
    made = Mux(IDENTITY, clock)
    made.open(request.param, 0)
    yield made
    made.close()


def seat(mux: Mux, viewer: WebrtcViewer, heard: Heard, *, fingerprints=None) -> tuple[Peer, bytes]:
    """A peer for the viewer, and the answer to it."""
    offer = parse_offer(viewer.offer())
    medium = offer.media[0]
    peer = Peer(mux.identity, medium.ufrag, fingerprints or medium.fingerprints, heard, server=True)
    mux.add(peer)
    bound = mux._socket.getsockname()[0]
    transport = Transport(peer.ufrag, peer.password, mux.identity.fingerprint, "passive", ({"::": "127.0.0.1"}.get(bound, bound),), mux.port)
    return peer, build_answer(offer, {0: Sending((medium.codecs[96],), (), (5,), "x")}, transport, 1, "n").encode()


async def connected(mux: Mux) -> tuple[WebrtcViewer, Heard, Peer]:
    viewer, heard = WebrtcViewer(THEIRS), Heard()
    peer, answer = seat(mux, viewer, heard)
    await viewer.connect(answer)
    await heard.next()
    return viewer, heard, peer


async def test_media_and_feedback_pass_both_ways(mux):
    viewer, heard, peer = await connected(mux)
    got = []
    viewer._taken = got.append
    mux.send(heard.contexts.protect(RTP), peer.address)
    viewer.say(RTCP)
    await heard.next()
    viewer.send(viewer.contexts.protect(RTP))
    await heard.next()
    assert heard.packets == [RTCP, RTP]
    while not got:
        await asyncio.sleep(0)
    assert viewer.contexts.unprotect(got[0]) == RTP
    assert sockaddr(mux.family, heard.addresses[-1])[2:4] == struct.pack(">H", viewer.socket.getsockname()[1])
    viewer.close()


async def test_a_peer_that_is_ended_is_told_and_heard_no_more(mux):
    viewer, heard, peer = await connected(mux)
    mux.remove(peer, "enough")
    assert heard.ends == ["enough"]
    mux.remove(peer, "again")
    viewer.say(RTCP)
    viewer.send(viewer.check())
    while mux.counts.strangers < 1 or mux.counts.stun_refused < 1:
        await asyncio.sleep(0)
    assert heard.packets == [] and heard.ends == ["enough"] and len(mux) == 0
    viewer.close()


async def test_close_notify_ends_the_peer(mux):
    viewer, heard, _ = await connected(mux)
    for flight in viewer._dtls.end():
        viewer.send(flight)
    await heard.next()
    assert heard.ends == ["DTLS: the other side has ended the session"]
    viewer.close()


async def test_another_certificate_than_the_offered_one_is_refused(mux):
    viewer, heard = WebrtcViewer(THEIRS), Heard()
    _, answer = seat(mux, viewer, heard, fingerprints=[Fingerprint("sha-256", ":".join(["AB"] * 32))])
    connecting = asyncio.create_task(viewer.connect(answer))
    await heard.next()
    assert heard.ends == ["DTLS: the certificate is not the one of the session description"]
    assert heard.contexts is None
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)
    viewer.close()


async def test_a_peer_that_does_not_come_is_given_up(mux, clock):
    heard = Heard()
    seat(mux, WebrtcViewer(THEIRS), heard)
    clock.advance(SETUP_S + 1)
    mux._look()
    assert heard.ends == ["it did not connect in time"]


async def test_a_peer_that_falls_silent_is_given_up_and_one_that_asks_on_is_not(mux, clock):
    silent, heard_silent, _ = await connected(mux)
    asking, heard_asking, _ = await connected(mux)
    silent.close()
    before = mux.counts.stun
    clock.advance(CONSENT_S - 1)
    asking.send(asking.check())
    while mux.counts.stun == before:
        await asyncio.sleep(0)
    clock.advance(2)
    mux._look()
    assert heard_silent.ends == ["it is not heard of any more"]
    assert heard_asking.ends == []
    asking.close()


async def test_a_peer_moves_to_another_address(mux):
    """A phone that changes from one network to another: binding requests that nominate come from there, and what it says over RTCP."""
    viewer, heard, peer = await connected(mux)
    other = socket.socket(viewer.socket.family, socket.SOCK_DGRAM)
    other.connect(viewer.address)
    other.send(viewer.check())
    other.send(viewer.contexts.protect_rtcp(RTCP))
    while len(heard.addresses) < 2:
        await asyncio.sleep(0)
    assert peer.address[1] == other.getsockname()[1]
    assert peer.late(0) == ""
    other.close()
    viewer.close()


async def test_who_has_overheard_a_binding_request_gets_no_media_and_leads_none_astray(mux, clock):
    """It passes in the clear, and may be sent again from anywhere, also in somebody else's name."""
    viewer, heard, peer = await connected(mux)
    overheard, stale = viewer.check(), viewer.contexts.protect_rtcp(RTCP)
    viewer.send(stale)
    await heard.next()
    thief = socket.socket(viewer.socket.family, socket.SOCK_DGRAM)
    thief.connect(viewer.address)
    for datagram in (overheard, stale, overheard, RTCP + bytes(20)):
        thief.send(datagram)
    while mux.counts.srtp_refused < 2:
        await asyncio.sleep(0)
    assert len(heard.addresses) == 1 and peer.address[1] == viewer.socket.getsockname()[1]
    clock.advance(CONSENT_S + 1)
    thief.send(overheard)
    before = mux.counts.stun
    while mux.counts.stun == before:
        await asyncio.sleep(0)
    assert peer.late(mux._now_s()) == "it is not heard of any more"
    thief.close()
    viewer.close()


async def test_addresses_of_a_peer_are_bounded(mux):
    viewer, _, peer = await connected(mux)
    sockets = [socket.socket(viewer.socket.family, socket.SOCK_DGRAM) for _ in range(3 * ADDRESSES_MAX)]
    before = mux.counts.stun
    for one in sockets:
        one.connect(viewer.address)
        one.send(viewer.check())
    while mux.counts.stun < before + 3 * ADDRESSES_MAX:
        await asyncio.sleep(0)
    assert len(peer.addresses) == ADDRESSES_MAX == len(mux._by_address)
    for one in sockets:
        one.close()
    viewer.close()


def request(user: bytes, key: bytes, *more: tuple[int, bytes]) -> bytes:
    return stun.build(stun.REQUEST, os.urandom(12), [(stun.USERNAME, user), *more], key)


async def test_who_has_no_password_gets_no_answer(mux):
    """Not even an error: the port answers nobody who has not shown it."""
    viewer, heard = WebrtcViewer(THEIRS), Heard()
    peer, _ = seat(mux, viewer, heard)
    user = f"{peer.ufrag}:{viewer.ufrag}".encode()
    stranger = socket.socket(mux.family, socket.SOCK_DGRAM)
    stranger.connect(("127.0.0.1" if mux.family == socket.AF_INET else "::1", mux.port))
    sent = [request(user, b"wrong"), request(user, b""), request(f"{peer.ufrag}:other".encode(), peer.password.encode()), request(b"", b"x"),
            stun.build(stun.SUCCESS, os.urandom(12), [(stun.USERNAME, user)], peer.password.encode()), b"\0" * 20]
    for datagram in sent:
        stranger.send(datagram)
    while mux.counts.stun_refused < len(sent):
        await asyncio.sleep(0)
    with pytest.raises(BlockingIOError):
        stranger.recv(2048, socket.MSG_DONTWAIT)
    assert mux.counts.stun == 0 and heard.addresses == []
    stranger.close()


async def test_who_also_wants_to_be_controlled_is_told_of_the_conflict(mux):
    viewer, heard = WebrtcViewer(THEIRS), Heard()
    peer, _ = seat(mux, viewer, heard)
    other = socket.socket(mux.family, socket.SOCK_DGRAM)
    other.connect(("127.0.0.1" if mux.family == socket.AF_INET else "::1", mux.port))
    other.setblocking(False)
    other.send(request(f"{peer.ufrag}:{viewer.ufrag}".encode(), peer.password.encode(), (stun.ICE_CONTROLLED, bytes(8))))
    message = stun.parse(await asyncio.get_running_loop().sock_recv(other, 2048))
    assert message.kind == stun.ERROR and message.attributes[stun.ERROR_CODE][2:4] == bytes([4, 87])
    assert heard.addresses == []
    other.close()


async def test_garbage_from_strangers_and_from_the_peer_hurts_nobody(mux):
    viewer, heard, _ = await connected(mux)
    stranger = socket.socket(mux.family, socket.SOCK_DGRAM)
    stranger.connect(("127.0.0.1" if mux.family == socket.AF_INET else "::1", mux.port))
    rng = random.Random(7)
    for _ in range(300):
        for sender in (stranger, viewer.socket):
            first = rng.choice([0, 1, 3, 5, 20, 22, 23, 63, 64, 128, 150, 191, 255])
            sender.send(bytes([first]) + rng.randbytes(rng.choice([0, 1, 11, 12, 40, 1400])))
        await asyncio.sleep(0)
    viewer.say(RTCP)
    await heard.next()
    assert heard.packets == [RTCP] and heard.ends == []
    assert mux.counts.srtp_refused > 0 and mux.counts.strangers > 0
    assert len(mux._by_address) == 1
    stranger.close()
    viewer.close()


async def test_a_packet_that_comes_again_is_taken_once(mux):
    viewer, heard, _ = await connected(mux)
    data = viewer.contexts.protect_rtcp(RTCP)
    viewer.send(data)
    viewer.send(data)
    while mux.counts.srtp_refused < 1:
        await asyncio.sleep(0)
    assert heard.packets == [RTCP]
    viewer.close()


async def test_a_lost_flight_is_sent_again(mux):
    """The first handshake datagram of each side is lost: the timers repeat it."""
    viewer, heard = WebrtcViewer(THEIRS), Heard()
    _, answer = seat(mux, viewer, heard)
    lost = {"ours": 1, "theirs": 1}
    send_ours, send_theirs = mux.send, viewer.send

    def ours(data, address):
        if data[0] >= 20 and lost["ours"]:
            lost["ours"] -= 1
            return
        send_ours(data, address)

    def theirs(data):
        if data[0] >= 20 and lost["theirs"]:
            lost["theirs"] -= 1
            return
        send_theirs(data)

    mux.send, viewer.send = ours, theirs
    await viewer.connect(answer)
    await heard.next()
    assert lost == {"ours": 0, "theirs": 0}
    viewer.close()


async def test_we_can_be_the_client_of_dtls(mux, clock):
    """For publishers that insist on answering the handshake: two muxes, one of them with the viewer's ICE."""
    heard, other = Heard(), Heard()
    peer = Peer(IDENTITY, "them", [THEIRS.fingerprint], heard, server=False)
    theirs = Peer(THEIRS, "us", [IDENTITY.fingerprint], other, server=True)
    first = peer.check(b"", stun.parse(request(f"{peer.ufrag}:them".encode(), peer.password.encode())), ("192.0.2.1", 1), 0.0)
    flights = first[1]
    assert flights
    for side, _ in [(theirs, 0), (peer, 1), (theirs, 2), (peer, 3)]:
        flights = [answer for flight in flights for answer in side.handshake(flight)]
    assert other.contexts.unprotect(heard.contexts.protect(RTP)) == RTP


async def test_a_port_that_is_taken_is_named(mux):
    with pytest.raises(ConfigError, match=f"UDP port {mux.port}"):
        Mux(IDENTITY).open("127.0.0.1" if mux.family == socket.AF_INET else mux._socket.getsockname()[0], mux.port)
