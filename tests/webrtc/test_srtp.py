"""SRTP against pylibsrtp's own classes, packet by packet and by the egress kernel; DTLS with peers that can less."""

import os
import socket
import struct
from array import array

import pylibsrtp
import pytest
from OpenSSL import SSL

from recorder._ext.srtpout import Egress, Outlet
from recorder.webrtc.dtls import MTU, Dtls, DtlsError, Fingerprint, Identity, datagrams
from recorder.webrtc.srtp import PACKET_MAX, PROFILES, Contexts, Keys, Profile, SrtpError, protect_address

RTP = struct.pack(">BBHII", 0x80, 96, 7, 1000, 5) + b"payload" * 20
RTCP = struct.pack(">BBHI", 0x80, 201, 1, 5)


def pair(profile: Profile) -> tuple[Contexts, pylibsrtp.Session, pylibsrtp.Session]:
    """Our contexts, and pylibsrtp's sessions for what we send and what we receive."""
    ours, theirs = os.urandom(profile.key + profile.salt), os.urandom(profile.key + profile.salt)
    policies = [pylibsrtp.Policy(key=ours, ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND, srtp_profile=profile.number),
                pylibsrtp.Policy(key=theirs, ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile.number)]
    return Contexts(Keys(profile, ours, theirs)), *(pylibsrtp.Session(policy) for policy in policies)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name.decode())
def test_what_one_protects_the_other_reads(profile):
    contexts, inbound, outbound = pair(profile)
    assert inbound.unprotect(contexts.protect(RTP)) == RTP
    assert inbound.unprotect_rtcp(contexts.protect_rtcp(RTCP)) == RTCP
    assert contexts.unprotect(outbound.protect(RTP)) == RTP
    assert contexts.unprotect_rtcp(outbound.protect_rtcp(RTCP)) == RTCP


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name.decode())
def test_what_the_kernel_protects_pylibsrtp_reads(profile):
    contexts, inbound, _ = pair(profile)
    sender, receiver = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    receiver.bind(("127.0.0.1", 0))
    outlet = Outlet(contexts.outbound, protect_address(), 77, 96, 65535, contexts)
    outlet.aim(struct.pack("=H", socket.AF_INET) + struct.pack(">H4s8x", receiver.getsockname()[1], socket.inet_aton("127.0.0.1")))
    data, offsets = RTP * 3, array("I", [0, len(RTP), 2 * len(RTP), 3 * len(RTP)])
    Egress(sender.fileno()).send((outlet,), data, offsets, 0)
    got = [inbound.unprotect(receiver.recv(2048)) for _ in range(3)]
    assert [packet[12:] for packet in got] == [RTP[12:]] * 3
    assert [int.from_bytes(packet[2:4]) for packet in got] == [65535, 0, 1]       # libsrtp counts the turn
    sender.close()
    receiver.close()


def test_what_is_not_authentic_or_comes_again_is_refused():
    contexts, _, outbound = pair(PROFILES[0])
    packet = outbound.protect(RTP)
    for at in (1, 13, len(packet) - 1):
        with pytest.raises(SrtpError):
            contexts.unprotect(packet[:at] + bytes([packet[at] ^ 1]) + packet[at + 1:])
    contexts.unprotect(packet)
    with pytest.raises(SrtpError, match="replay"):
        contexts.unprotect(packet)
    for wrong in (b"", b"\x80", packet[:11], bytes(PACKET_MAX + 1)):
        with pytest.raises(SrtpError):
            contexts.unprotect(wrong)
        with pytest.raises(SrtpError):
            contexts.unprotect_rtcp(wrong)


def test_keys_show_nowhere_and_must_fit():
    keys = Keys(PROFILES[0], b"k" * 28, b"t" * 28)
    assert "kkk" not in repr(keys)
    with pytest.raises(SrtpError, match="no key"):
        Contexts(Keys(PROFILES[0], b"k" * 27, b"t" * 28))


def shaken(ours: Dtls, theirs: SSL.Connection) -> None:
    """Both sides to the end of the handshake."""
    for _ in range(6):
        try:
            theirs.do_handshake()
        except SSL.WantReadError:
            pass
        while True:
            try:
                out = theirs.bio_read(1 << 16)
            except SSL.Error:
                break
            for datagram in datagrams(out):
                for answer in ours.feed(datagram):
                    theirs.bio_write(answer)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name.decode())
def test_a_peer_that_knows_one_profile_gets_that(profile):
    """A plain OpenSSL client, as far from our code as it gets; both derive the same keys (RFC 5764 4.2)."""
    ours, theirs = Identity(), Identity()
    theirs.context.set_tlsext_use_srtp(profile.name)
    client = SSL.Connection(theirs.context)
    client.set_connect_state()
    client.set_ciphertext_mtu(MTU)
    server = Dtls(ours, [theirs.fingerprint], server=True)
    shaken(server, client)
    assert server.keys is not None and server.keys.profile == profile
    secret = client.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (profile.key + profile.salt))
    assert server.keys.theirs == secret[:profile.key] + secret[2 * profile.key:2 * profile.key + profile.salt]


def test_a_peer_without_srtp_is_refused():
    ours, theirs = Identity(), Identity()
    context = SSL.Context(SSL.DTLS_METHOD)
    context.use_certificate(theirs._certificate)
    context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
    client = SSL.Connection(context)
    client.set_connect_state()
    client.set_ciphertext_mtu(MTU)
    with pytest.raises(DtlsError):
        shaken(Dtls(ours, [theirs.fingerprint], server=True), client)


def test_fingerprints_must_be_of_a_known_hash_and_all_known_must_fit():
    one, other = Identity(), Identity()
    with pytest.raises(DtlsError, match="no fingerprint"):
        Dtls(one, [Fingerprint("sha-1", "AB")], server=True)
    with pytest.raises(DtlsError, match="no fingerprint"):
        Dtls(one, [], server=True)
    server = Dtls(one, [other.fingerprint, Fingerprint("sha-512", ":".join(["AB"] * 64))], server=True)
    client = Dtls(other, [one.fingerprint], server=False)
    going = client.begin()
    with pytest.raises(DtlsError, match="certificate"):
        for side in [server, client] * 3:
            going = [answer for datagram in going for answer in side.feed(datagram)]
    assert server.keys is None


def test_records_are_never_cut_between_datagrams():
    def record(size: int) -> bytes:
        return struct.pack(">BHHIHH", 22, 0xFEFD, 0, 0, 0, size) + bytes(size)

    records = [record(size) for size in (100, 1000, 500, 1187, 1400, 1)]
    found = list(datagrams(b"".join(records)))
    assert b"".join(found) == b"".join(records)
    assert [len(one) for one in found] == [113 + 1013, 513, 1200, 1413, 14]
    assert list(datagrams(b"")) == []
