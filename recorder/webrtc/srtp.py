"""SRTP and SRTCP (RFC 3711, RFC 7714) of one DTLS session, by the libsrtp that pylibsrtp carries.

Packets in numbers are protected by the kernel recorder/_ext/srtpout.pyx, which calls libsrtp's C function with the context of `Contexts`; what
comes singly (RTCP, and packets of tests) goes through cffi here. pylibsrtp's own classes copy each packet twice more and hide the context.
"""

from dataclasses import dataclass
from typing import Any

from pylibsrtp import ERRORS
from pylibsrtp._binding import ffi, lib

from recorder.base.errors import WatchroomError

PACKET_MAX = 2048
TRAILER = 152           # SRTP_MAX_TRAILER_LEN and the index of SRTCP
WINDOW = 1024           # packets that may come late and still be told from replayed ones


@dataclass(frozen=True, slots=True)
class Profile:
    """A protection profile: OpenSSL's name, libsrtp's number, bytes of master key and salt (RFC 5764 4.1.2, RFC 7714 14.2)."""

    name: bytes
    number: int
    key: int
    salt: int


# The cheapest first: GCM-128 takes a third of the time of HMAC-SHA1, and who answers chooses by the offerer's or its own order.
PROFILES = (
    Profile(b"SRTP_AEAD_AES_128_GCM", lib.srtp_profile_aead_aes_128_gcm, 16, 12),
    Profile(b"SRTP_AEAD_AES_256_GCM", lib.srtp_profile_aead_aes_256_gcm, 32, 12),
    Profile(b"SRTP_AES128_CM_SHA1_80", lib.srtp_profile_aes128_cm_sha1_80, 16, 14),
)
BY_NAME = {profile.name: profile for profile in PROFILES}


class SrtpError(WatchroomError):
    """libsrtp refused: a packet that is not authentic, comes again or is too old; or keys that fit no profile."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What a DTLS handshake gives: the profile, and key and salt for what we send and what we receive. Never in repr or logs."""

    profile: Profile
    ours: bytes
    theirs: bytes

    def __repr__(self) -> str:
        return f"Keys({self.profile.name.decode()})"


def _check(code: int) -> None:
    if code:
        raise SrtpError(f"SRTP: {ERRORS[code] if code < len(ERRORS) else code}")


class _Context:
    """A context of libsrtp for all SSRCs of one direction."""

    def __init__(self, profile: Profile, key: bytes, direction: int) -> None:
        if len(key) != profile.key + profile.salt:
            raise SrtpError(f"{len(key)} bytes are no key of {profile.name.decode()}")
        policy, self._context = ffi.new("srtp_policy_t *"), ffi.NULL
        _check(lib.srtp_crypto_policy_set_from_profile_for_rtp(ffi.addressof(policy.rtp), profile.number))
        _check(lib.srtp_crypto_policy_set_from_profile_for_rtcp(ffi.addressof(policy.rtcp), profile.number))
        held = ffi.new("unsigned char[]", key)
        policy.key, policy.ssrc.type, policy.window_size, policy.allow_repeat_tx = held, direction, WINDOW, 1
        made = ffi.new("srtp_t *")
        _check(lib.srtp_create(made, policy))
        self._context = ffi.gc(made[0], lib.srtp_dealloc)
        ffi.memmove(held, bytes(len(key)), len(key))
        self._buffer = ffi.new("char[]", PACKET_MAX + TRAILER)
        self._length = ffi.new("int *")

    @property
    def address(self) -> int:
        """Of the context; valid as long as this object lives."""
        return int(ffi.cast("uintptr_t", self._context))

    def run(self, function: Any, packet: bytes) -> bytes:
        """The packet as libsrtp makes it; SrtpError."""
        if len(packet) > PACKET_MAX:
            raise SrtpError(f"a packet of {len(packet)} bytes is longer than {PACKET_MAX}")
        self._length[0] = len(packet)
        ffi.memmove(self._buffer, packet, len(packet))
        _check(function(self._context, self._buffer, self._length))
        return bytes(ffi.buffer(self._buffer, self._length[0]))


class Contexts:
    """Both directions of a session. Of one thread at a time."""

    def __init__(self, keys: Keys) -> None:
        self.profile = keys.profile
        self._out = _Context(keys.profile, keys.ours, lib.ssrc_any_outbound)
        self._in = _Context(keys.profile, keys.theirs, lib.ssrc_any_inbound)

    @property
    def outbound(self) -> int:
        """Address of the context for what is sent, for the kernel; whoever uses it keeps this object."""
        return self._out.address

    def protect(self, packet: bytes) -> bytes:
        """An RTP packet, encrypted and authenticated."""
        return self._out.run(lib.srtp_protect, packet)

    def protect_rtcp(self, packet: bytes) -> bytes:
        """A compound RTCP packet, encrypted and authenticated."""
        return self._out.run(lib.srtp_protect_rtcp, packet)

    def unprotect(self, packet: bytes) -> bytes:
        """The RTP packet inside; SrtpError if it is not authentic or comes again."""
        return self._in.run(lib.srtp_unprotect, packet)

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """The RTCP packets inside; SrtpError if they are not authentic or come again."""
        return self._in.run(lib.srtp_unprotect_rtcp, packet)


def protect_address() -> int:
    """Address of libsrtp's srtp_protect, for the kernel."""
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, "srtp_protect")))

