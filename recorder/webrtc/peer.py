"""One peer of a Mux: ICE-lite (RFC 8445 2.5), then DTLS, then SRTP; what it says goes up to a `Listener`, and where it is, too."""

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from recorder.webrtc import stun
from recorder.webrtc.dtls import Dtls, DtlsError, Fingerprint, Identity
from recorder.webrtc.srtp import Contexts, SrtpError

log = logging.getLogger("watchroom.webrtc")

ADDRESSES_MAX = 8
UFRAG_BYTES, PWD_BYTES = 6, 18      # 8 and 24 characters of base64url; RFC 8839 5.4 wants 24 and 128 bits of chance
CONSENT_S = 30.0                    # RFC 7675 5.1
WORDS_PER_S = 1000                  # DTLS and RTCP datagrams of a peer that are looked at; browsers send a few dozen
SETUP_S = 15.0                      # from the answer to keys

Address = tuple[Any, ...]           # as socket.recvfrom gives it


class Listener(Protocol):
    """Who uses the peer. All calls on the loop, from within the reading of a datagram: none may raise, block or take long."""

    def ready(self, contexts: Contexts) -> None:
        """Keys are there; media may flow."""
        ...

    def moved(self, address: Address) -> None:
        """Where to send from now on: the pair that the peer has nominated and sends from. Told before `ready` as well."""
        ...

    def rtcp(self, packet: bytes) -> None:
        """An authentic compound packet."""
        ...

    def rtp(self, packet: bytes) -> None:
        """An authentic media packet."""
        ...

    def gone(self, reason: str) -> None:
        """The end; nothing follows."""
        ...


@dataclass(slots=True)
class Counts:
    """What a mux has refused, by kind, and what it has taken."""

    stun: int = 0
    stun_refused: int = 0
    strangers: int = 0          # datagrams from addresses that have shown no password
    dtls: int = 0
    srtp_refused: int = 0
    rtcp: int = 0
    flood: int = 0              # of peers that say more than WORDS_PER_S


def ice_text(count: int) -> str:
    """Random characters of ICE's alphabet."""
    return secrets.token_urlsafe(count).replace("-", "+").replace("_", "/")


class Peer:
    """`remote_ufrag` and `fingerprints` are of the peer's session description; `server`: whether we answer its DTLS handshake or begin one."""

    def __init__(self, identity: Identity, remote_ufrag: str, fingerprints: Sequence[Fingerprint], listener: Listener, *, server: bool) -> None:
        self.ufrag, self.password = ice_text(UFRAG_BYTES), ice_text(PWD_BYTES)
        self.remote_ufrag = remote_ufrag
        self._user = f"{self.ufrag}:{remote_ufrag}".encode()
        self._key = self.password.encode()
        self._listener = listener
        self._dtls = Dtls(identity, fingerprints, server=server)
        self._begun = server
        self.contexts: Contexts | None = None
        self.addresses: list[Address] = []
        self.address: Address | None = None
        self._sought: Address | None = None         # nominated, and not proven
        self.heard_s = self.made_s = 0.0
        self.over = False
        self.reason = ""
        self._words = WORDS_PER_S

    def check(self, data: bytes, message: stun.Message, address: Address, now_s: float) -> tuple[bytes, list[bytes]] | None:
        """Answer a binding request (RFC 8445 7.3): the answer, and DTLS that goes along; None if it is not from our peer."""
        if message.attributes.get(stun.USERNAME) != self._user or not message.verify(self._key):
            return None
        if stun.ICE_CONTROLLED in message.attributes:       # both lite or confused: we never change roles (7.3.1.1)
            return stun.build(stun.ERROR, message.transaction, [(stun.ERROR_CODE, stun.error_code(487, "Role Conflict"))], self._key), []
        self._know(address)
        self._nominate(address, nominated=stun.USE_CANDIDATE in message.attributes)
        if address == self.address:
            self.heard_s = now_s
        mapped = stun.xor_address(address[0], address[1], message.transaction)
        answer = stun.build(stun.SUCCESS, message.transaction, [(stun.XOR_MAPPED_ADDRESS, mapped)], self._key)
        return answer, self._begin()

    def _nominate(self, address: Address, *, nominated: bool) -> None:
        """Binding requests pass in the clear and can be sent again by whoever has overheard them, from anywhere: once there are keys,
        media follow to another address only when a packet that bears them has come from there."""
        if self.address is None or (nominated and self.contexts is None):
            self._move(address)
        elif nominated:
            self._sought = address if address != self.address else None

    def _know(self, address: Address) -> None:
        if address not in self.addresses:
            self.addresses.append(address)
            if len(self.addresses) > ADDRESSES_MAX:     # the oldest that is not in use
                self.addresses.remove(next(one for one in self.addresses if one != self.address))

    def _move(self, address: Address) -> None:
        if address != self.address:
            self.address = address
            self._listener.moved(address)

    def _begin(self) -> list[bytes]:
        if self._begun:
            return []
        self._begun = True
        return self._dtls.begin()

    def may_speak(self, counts: Counts) -> bool:
        """Count a datagram that costs more than a look; False if there were too many within a second."""
        self._words -= 1
        counts.flood += self._words < 0
        return self._words >= 0

    def handshake(self, data: bytes) -> list[bytes]:
        """A DTLS datagram; what to answer. DtlsError ends the peer."""
        out = self._dtls.feed(data)
        if self.contexts is None and self._dtls.keys is not None:
            self.contexts = Contexts(self._dtls.keys)
            self._listener.ready(self.contexts)
        return out

    @property
    def timeout_s(self) -> float | None:
        """When the handshake's last flight is due again."""
        return self._dtls.timeout_s if self._begun and not self.over else None

    def again(self) -> list[bytes]:
        """That flight."""
        return self._dtls.again()

    def media(self, data: bytes, address: Address, counts: Counts) -> None:
        """An SRTP or SRTCP packet (RFC 5761 4 tells them apart)."""
        if self.contexts is None:
            return
        try:
            if 192 <= data[1] <= 223:
                if not self.may_speak(counts):
                    return
                packet = self.contexts.unprotect_rtcp(data)
                counts.rtcp += 1
                tell = self._listener.rtcp
            else:
                packet = self.contexts.unprotect(data)
                tell = self._listener.rtp
        except SrtpError:
            counts.srtp_refused += 1
            return
        if address == self._sought:
            self._sought = None
            self._move(address)
        tell(packet)

    def late(self, now_s: float) -> str:
        """Why the peer is to be given up now; "" if it is not. To be asked once a second: it may then speak again."""
        self._words = WORDS_PER_S
        if self.contexts is None and now_s - self.made_s > SETUP_S:
            return "it did not connect in time"
        if self.heard_s and now_s - self.heard_s > CONSENT_S:
            return "it is not heard of any more"
        return ""

    def farewell(self) -> list[bytes]:
        """What DTLS says at the end."""
        try:
            return self._dtls.end()
        except DtlsError:
            return []

    def last_words(self) -> list[bytes]:
        """The alert of a handshake that failed."""
        return self._dtls.last_words()

    def tell_gone(self, reason: str) -> None:
        """Once."""
        if not self.over:
            self.over, self.reason = True, reason
            self._listener.gone(reason)
