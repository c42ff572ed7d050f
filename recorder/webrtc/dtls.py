"""DTLS 1.2 (RFC 6347) with `use_srtp` (RFC 5764) over OpenSSL's memory BIOs: datagrams in, datagrams out, no socket and no clock.

    dtls = Dtls(identity, fingerprints, server=True)
    for datagram in dtls.begin(): ...               # a client's first flight; nothing of a server
    for datagram in dtls.feed(received): ...        # answers; dtls.keys is there once the handshake is through
    dtls.timeout_s                                  # when to call dtls.again(), which repeats a flight (4.2.4)
"""

import datetime
import secrets
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from recorder.base.errors import WatchroomError
from recorder.webrtc.srtp import BY_NAME, PROFILES, Keys

MTU = 1200
DTLS_1_2 = 0xFEFD
RECORD = struct.Struct(">BHHIHH")         # content type, version, epoch, sequence number (48 bits), length (4.1)
EXPORTER = b"EXTRACTOR-dtls_srtp"         # RFC 5764 4.2
CIPHERS = b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384"
HASHES = {"sha-256": hashes.SHA256(), "sha-384": hashes.SHA384(), "sha-512": hashes.SHA512()}     # RFC 8122 5, without the broken ones
LIFE = datetime.timedelta(days=3650)
DAY = datetime.timedelta(days=1)


class DtlsError(WatchroomError):
    """The handshake cannot be finished, or the other side has ended the session."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Of a certificate (RFC 8122 5): hash function in lower case, digest as upper-case pairs with colons."""

    algorithm: str
    value: str


def fingerprint(certificate: x509.Certificate, algorithm: str = "sha-256") -> Fingerprint:
    """The certificate's. KeyError for a hash function that is not taken."""
    return Fingerprint(algorithm, certificate.fingerprint(HASHES[algorithm]).hex(":").upper())


class Identity:
    """A key and the self-signed certificate that the SDP's fingerprint is of; made anew by each process, kept nowhere. Any thread."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "watchroom")])
        now = datetime.datetime.now(tz=datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        self._certificate = (builder.serial_number(x509.random_serial_number()).not_valid_before(now - DAY).not_valid_after(now + LIFE)
                             .sign(key, hashes.SHA256()))
        self.fingerprint = fingerprint(self._certificate)
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_min_proto_version(DTLS_1_2)
        context.set_max_proto_version(DTLS_1_2)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        # Whoever signed it, the certificate is the one of the SDP or it is refused: Dtls compares fingerprints (RFC 8827 6.5).
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.use_certificate(self._certificate)
        context.use_privatekey(key)
        context.set_cipher_list(CIPHERS)
        context.set_tlsext_use_srtp(b":".join(profile.name for profile in PROFILES))
        self.context = context


class Dtls:
    """One session. `fingerprints` are those of the peer's certificate, by its SDP; one of a known hash must be there, all known must fit."""

    def __init__(self, identity: Identity, fingerprints: Sequence[Fingerprint], *, server: bool) -> None:
        self._fingerprints = [one for one in fingerprints if one.algorithm in HASHES]
        if not self._fingerprints:
            raise DtlsError("no fingerprint of a hash function that is known", remedy="offer a=fingerprint with sha-256")
        self._server = server
        self._connection = SSL.Connection(identity.context)
        self._connection.set_ciphertext_mtu(MTU)
        self._connection.set_app_data(secrets.token_bytes(8))
        if server:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
        self.keys: Keys | None = None
        self.ended = False

    def begin(self) -> list[bytes]:
        """The first flight of a client; nothing of a server."""
        return self._shake() if not self._server else []

    def feed(self, datagram: bytes) -> list[bytes]:
        """What to answer. DtlsError when the session fails or is ended by the other side; what merely is no record is ignored."""
        if self.ended:
            return []
        self._connection.bio_write(datagram)
        if self.keys is None:
            return self._shake()
        self._drain()
        return self._out()

    @property
    def timeout_s(self) -> float | None:
        """When `again` is due; None: nothing is on its way."""
        left = self._connection.DTLSv1_get_timeout()
        return None if left is None else float(left)

    def again(self) -> list[bytes]:
        """The last flight once more, if it is time."""
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error:
            raise self._failed("it is not answered") from None
        return self._out()

    def end(self) -> list[bytes]:
        """What says goodbye (close_notify)."""
        if self.ended or self.keys is None:
            return []
        self.ended = True
        try:
            self._connection.shutdown()
        except SSL.Error:
            return []
        return self._out()

    def _shake(self) -> list[bytes]:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return self._out()
        except SSL.Error as error:
            raise self._failed(_reason(error)) from None
        self._identify()
        self.keys = self._export()
        return self._out()

    def _identify(self) -> None:
        """The peer's certificate is that of its SDP (RFC 8122 6.2)."""
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        if certificate is None or any(fingerprint(certificate, one.algorithm) != one for one in self._fingerprints):
            raise self._failed("the certificate is not the one of the session description")

    def _export(self) -> Keys:
        profile = BY_NAME.get(self._connection.get_selected_srtp_profile())
        if profile is None:
            raise self._failed("no SRTP profile is known to both")
        k, s = profile.key, profile.salt
        secret = self._connection.export_keying_material(EXPORTER, 2 * (k + s))
        client, server = secret[:k] + secret[2 * k:2 * k + s], secret[k:2 * k] + secret[2 * k + s:]
        return Keys(profile, server, client) if self._server else Keys(profile, client, server)

    def _drain(self) -> None:
        """Read what is no media: nobody here takes it, but it may be the end."""
        try:
            for _ in range(16):
                self._connection.recv(MTU)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            raise self._failed("the other side has ended the session") from None
        except SSL.Error as error:
            raise self._failed(_reason(error)) from None

    def _failed(self, why: str) -> DtlsError:
        self.ended = True
        return DtlsError(f"DTLS: {why}")

    def _out(self) -> list[bytes]:
        """What OpenSSL wants to send, as datagrams of whole records."""
        parts = []
        try:
            while True:
                parts.append(self._connection.bio_read(1 << 16))
        except SSL.Error:
            pass
        return list(datagrams(b"".join(parts)))

    def last_words(self) -> list[bytes]:
        """The alert that a failed handshake leaves behind."""
        return self._out()


def datagrams(records: bytes) -> Iterator[bytes]:
    """Records, put together into datagrams of at most MTU bytes (a record is never cut: 4.1.1)."""
    begin = at = 0
    while at + RECORD.size <= len(records):
        size = RECORD.size + RECORD.unpack_from(records, at)[-1]
        if at + size - begin > MTU and at > begin:
            yield records[begin:at]
            begin = at
        at += size
    if at > begin:
        yield records[begin:at]


def _reason(error: SSL.Error) -> str:
    """OpenSSL's reasons as one line."""
    found = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(str(item[-1]) for item in found if item) or type(error).__name__
