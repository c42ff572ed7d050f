"""Fuzz targets of WebRTC: STUN, offers, RTCP feedback, and datagrams of a peer that has shown its password."""

import struct
import zlib
from collections.abc import Hashable

import mutation

from api.whep import choice
from recorder.base.errors import Refused
from recorder.base.media import SampleEntry
from recorder.webrtc import stun
from recorder.webrtc.answer import Sending, Transport, build_answer
from recorder.webrtc.dtls import MTU, DtlsError, Fingerprint, Identity, datagrams
from recorder.webrtc.offer import FINGERPRINTS_MAX, FORMATS_MAX, LINES_MAX, MEDIAS_MAX, parse_offer
from recorder.webrtc.peer import ADDRESSES_MAX, Counts, Peer
from recorder.webrtc.rtcp import NACKED_MAX, PACKETS_MAX, Estimate, Nack, Report, read

PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
IDENTITY = Identity()
PRINT = Fingerprint("sha-256", ":".join(["AB"] * 32))
TRANSPORT = Transport("ufrag123", "p" * 24, PRINT, "passive", ("192.0.2.7",), 8555)
AVC = SampleEntry("avc1", bytes([1, 66, 0xC0, 31, 0xFF, 0xE0, 0]), 90000)


def message(data: bytes) -> Hashable:
    """STUN: what is read lies in the datagram; what bears a MAC bears it over all that is believed. Length and checksum are put right."""
    stun.parse(data)
    found = stun.parse(sealed(data))
    if found is None:
        return None
    assert len(found.attributes) <= stun.ATTRIBUTES_MAX
    assert sum(len(value) for value in found.attributes.values()) <= len(data)
    assert found.verify(PASSWORD) is False or len(found.mac) == 20
    assert not found.verify(b"another")
    again = stun.parse(stun.build(found.kind, found.transaction, found.attributes.items(), PASSWORD))
    assert again is None or (again.attributes == found.attributes and again.verify(PASSWORD))
    return found.kind, tuple(sorted(found.attributes))[:6], bool(found.mac)


def offer(data: bytes) -> Hashable:
    """An offer: limits hold; whatever it says, the answer is a description with as many media, none of its lines smuggled in."""
    try:
        found = parse_offer(data)
    except Refused as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 300
        return "refused", error.message[-24:]
    assert 1 <= len(found.media) <= MEDIAS_MAX
    sending = {}
    for place, medium in enumerate(found.media):
        assert len(medium.formats) <= FORMATS_MAX
        assert len(medium.fingerprints) <= FINGERPRINTS_MAX
        assert all(0 <= one < 128 for one in medium.codecs)
        codec = choice.h264_for(medium, AVC)
        if codec is not None and not sending:
            sending[place] = Sending((codec,), choice.FEEDBACK, (1,), "pictures")
    choice.picture_place(found)
    lines = build_answer(found, sending, TRANSPORT, 1, "name").split("\r\n")
    assert sum(line.startswith("m=") for line in lines) == len(found.media)
    assert len(lines) < LINES_MAX
    assert all(line.isprintable() or not line.isascii() for line in lines)
    assert sum(line == "a=sendonly" for line in lines) == len(sending)
    return len(found.media), len(sending), len(found.bundle), tuple(sorted({c.encoding for m in found.media for c in m.codecs.values()}))[:4]


def feedback(data: bytes) -> Hashable:
    """RTCP: one datagram asks for a bounded amount, in numbers that fit."""
    said = list(read(data))
    assert len(said) <= 31 * PACKETS_MAX
    assert sum(len(one.sequences) for one in said if isinstance(one, Nack)) <= NACKED_MAX
    assert all(0 <= sequence < 65536 for one in said if isinstance(one, Nack) for sequence in one.sequences)
    assert all(0 <= one.fraction_lost < 1 and abs(one.lost) <= 1 << 23 for one in said if isinstance(one, Report))
    assert all(one.bits_per_s >= 0 for one in said if isinstance(one, Estimate))
    return tuple(type(one).__name__ for one in said[:6]), len(said).bit_length()


def sealed(data: bytes) -> bytes:
    """The message with a length and a FINGERPRINT that fit, so that mutations get past them."""
    body = data[20:] + bytes(-len(data[20:]) % 4)
    body = body[:-8] if body[-8:-4] == b"\x80\x28\x00\x04" else body
    head = data[:2].ljust(2, b"\0") + struct.pack(">HI", len(body) + 8, stun.MAGIC) + data[8:20].ljust(12, b"\0")
    return head + body + struct.pack(">HHI", stun.FINGERPRINT, 4, zlib.crc32(head + body) ^ stun.FINGERPRINT_XOR)


class Nobody:
    """A listener that counts."""

    def __init__(self) -> None:
        self.ends = 0

    def ready(self, contexts: object) -> None:
        """Never: nobody has finished a handshake."""
        raise AssertionError("keys without a handshake")

    def moved(self, address: object) -> None:
        """Noted by the peer."""

    def rtcp(self, packet: bytes) -> None:
        """Never."""
        raise AssertionError("a packet without keys")

    rtp = rtcp

    def gone(self, reason: str) -> None:
        """The end."""
        self.ends += 1


def port(data: bytes) -> Hashable:
    """Datagrams of a peer that has shown its password: no keys come of them, and what is answered is whole records within the MTU."""
    peer = Peer(IDENTITY, "them", [PRINT], Nobody(), server=True)
    user = f"{peer.ufrag}:them".encode()
    asked = stun.build(stun.REQUEST, bytes(12), [(stun.USERNAME, user)], peer.password.encode())
    counts, out, ended = Counts(), 0, ""
    for n, (_, datagram) in enumerate(mutation.unpack(data)[:40]):
        parsed = stun.parse(asked)
        assert parsed is not None
        peer.check(asked, parsed, ("192.0.2.1", n), 1.0)
        assert len(peer.addresses) <= ADDRESSES_MAX
        try:
            answers = peer.handshake(datagram) if datagram else []
            peer.media(datagram, ("192.0.2.1", n), counts)
        except DtlsError as error:
            ended = error.message[:60]
            break
        assert all(len(answer) <= MTU for answer in answers)
        out += sum(map(len, answers))
    assert out < 8000 * (len(data) // 100 + 2), "an amplifier"
    assert b"".join(datagrams(data)) == data[:len(b"".join(datagrams(data)))]
    return out.bit_length(), ended


def seeds() -> dict[str, list[tuple[str, bytes]]]:
    """What the corpora begin with, by target: a file name and bytes."""
    client, server = Identity(), Identity()
    from recorder.webrtc.dtls import Dtls
    flights: list[bytes] = []
    ours, theirs = Dtls(client, [server.fingerprint], server=False), Dtls(server, [client.fingerprint], server=True)
    going, side = ours.begin(), theirs
    while going:
        flights += going
        going = [answer for datagram in going for answer in side.feed(datagram)]
        side = ours if side is theirs else theirs
    request = stun.build(stun.REQUEST, bytes(12), [(stun.USERNAME, b"a:b"), (stun.PRIORITY, bytes(4)), (stun.USE_CANDIDATE, b""),
                                                   (stun.ICE_CONTROLLING, bytes(8))], PASSWORD)
    report = struct.pack(">BBHIIIIIII", 0x81, 201, 7, 1, 5, 1 << 24, 9, 0, 0, 0)
    remb = struct.pack(">BBHII4sBBHI", 0x8F, 206, 5, 1, 0, b"REMB", 1, 8, 1000, 5)
    return {
        "stun": [("request", request), ("answer", stun.build(stun.SUCCESS, bytes(12), [(stun.XOR_MAPPED_ADDRESS, bytes(8))], PASSWORD))],
        "rtcp-feedback": [("report", report), ("nack", struct.pack(">BBHIIHH", 0x81, 205, 3, 1, 5, 7, 0xFFFF)), ("pli", report + struct.pack(
            ">BBHII", 0x81, 206, 2, 1, 5)), ("fir", struct.pack(">BBHIIIB3x", 0x84, 206, 4, 1, 0, 5, 1)), ("remb", report + remb)],
        "webrtc-port": [("handshake", mutation.pack(flights)), ("first", mutation.pack(flights[:1]))],
    }
