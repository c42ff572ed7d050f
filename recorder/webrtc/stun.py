"""STUN messages (RFC 8489) as ICE uses them: binding requests and answers with short-term credentials. Bytes in, values out.

    message = parse(datagram)                       # None: no STUN message
    message.verify(password)                        # MESSAGE-INTEGRITY (14.5); FINGERPRINT (14.7) has been checked by parse
    answer = build(SUCCESS, message.transaction, [(XOR_MAPPED_ADDRESS, xor_address(...))], password)
"""

import hmac
import ipaddress
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

MAGIC = 0x2112A442
HEAD = struct.Struct(">HHI12s")
TYPE_LENGTH = struct.Struct(">HH")
SIZE_MAX = 1280                 # beyond what an unfragmented datagram of IPv6 carries, nobody sends a binding request
ATTRIBUTES_MAX = 24

REQUEST, INDICATION, SUCCESS, ERROR = 0x0001, 0x0011, 0x0101, 0x0111       # of the method Binding
USERNAME, MESSAGE_INTEGRITY, ERROR_CODE, XOR_MAPPED_ADDRESS = 0x0006, 0x0008, 0x0009, 0x0020
PRIORITY, USE_CANDIDATE = 0x0024, 0x0025
FINGERPRINT, ICE_CONTROLLED, ICE_CONTROLLING = 0x8028, 0x8029, 0x802A
FINGERPRINT_XOR = 0x5354554E
MAC_BYTES = 20


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `attributes` are those that MESSAGE-INTEGRITY covers (all, without one); of several of a kind the first counts (14)."""

    kind: int
    transaction: bytes
    attributes: dict[int, bytes]
    covered: bytes = b""            # what the MAC is of, the length in its head as it was then
    mac: bytes = b""

    def verify(self, password: bytes) -> bool:
        """True if the message bears the MAC of this password (14.5, 9.1.3)."""
        return bool(self.mac) and hmac.compare_digest(hmac.digest(password, self.covered, "sha1"), self.mac)


def parse(data: bytes) -> Message | None:
    """The message that `data` is as a whole; None if it is none, is cut, too long, or its FINGERPRINT is wrong."""
    if not HEAD.size <= len(data) <= SIZE_MAX:
        return None
    kind, length, magic, transaction = HEAD.unpack_from(data)
    if kind >> 14 or magic != MAGIC or length % 4 or length + HEAD.size != len(data):
        return None
    found = _attributes(data)
    return None if found is None else Message(kind, transaction, *found)


def _attributes(data: bytes) -> tuple[dict[int, bytes], bytes, bytes] | None:
    """What MESSAGE-INTEGRITY covers, as attributes and as bytes, and the MAC; None if they do not fill the message."""
    attributes: dict[int, bytes] = {}
    covered = mac = b""
    at = HEAD.size
    for _ in range(ATTRIBUTES_MAX):
        if at >= len(data):
            return (attributes, covered, mac) if at == len(data) else None
        name, size = TYPE_LENGTH.unpack_from(data, at)      # there are 4 bytes: everything so far is a multiple of 4
        value = data[at + 4:at + 4 + size]
        if len(value) != size or (name == FINGERPRINT and not _is_last(data, at, value)) or (name == MESSAGE_INTEGRITY and size != MAC_BYTES):
            return None
        if name == MESSAGE_INTEGRITY and not mac:
            covered, mac = _with_length(data[:at], at + 4 + MAC_BYTES), value
        elif not mac and name != FINGERPRINT:       # what stands behind the MAC nobody vouches for
            attributes.setdefault(name, value)
        at += 4 + size + -size % 4
    return None


def _is_last(data: bytes, at: int, value: bytes) -> bool:
    return at + 8 == len(data) and len(value) == 4 and int.from_bytes(value) == zlib.crc32(data[:at]) ^ FINGERPRINT_XOR


def _with_length(data: bytes, end: int) -> bytes:
    """The message so far, with a length that ends at `end`."""
    return data[:2] + struct.pack(">H", end - HEAD.size) + data[4:]


def build(kind: int, transaction: bytes, attributes: Iterable[tuple[int, bytes]], password: bytes = b"") -> bytes:
    """A message with FINGERPRINT and, given a password, MESSAGE-INTEGRITY before it."""
    body = b"".join(TYPE_LENGTH.pack(name, len(value)) + value + bytes(-len(value) % 4) for name, value in attributes)
    data = HEAD.pack(kind, len(body), MAGIC, transaction) + body
    if password:
        mac = hmac.digest(password, _with_length(data, len(data) + 4 + MAC_BYTES), "sha1")
        data += TYPE_LENGTH.pack(MESSAGE_INTEGRITY, MAC_BYTES) + mac
    data = _with_length(data, len(data) + 8)
    return data + TYPE_LENGTH.pack(FINGERPRINT, 4) + struct.pack(">I", zlib.crc32(data) ^ FINGERPRINT_XOR)


def xor_address(host: str, port: int, transaction: bytes) -> bytes:
    """The value of XOR-MAPPED-ADDRESS (14.2); an IPv4 address that is mapped into IPv6 is told as the IPv4 address that it is."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    mask = struct.pack(">I", MAGIC) + transaction
    body = bytes(a ^ b for a, b in zip(address.packed, mask, strict=False))
    return struct.pack(">xBH", 1 if address.version == 4 else 2, port ^ MAGIC >> 16) + body


def error_code(code: int, reason: str) -> bytes:
    """The value of ERROR-CODE (14.8)."""
    return struct.pack(">HBB", 0, code // 100, code % 100) + reason.encode()
