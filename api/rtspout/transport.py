"""The Transport header (RFC 2326 12.39): what a client offers, and what it gets."""

import re
from dataclasses import dataclass

from api.rtspout.fault import Fault

OFFERS_MAX = 8
_PAIR = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Offer:
    """One way that will do: `udp` with the client's two ports, or two channels of the connection; None: ours to choose."""

    udp: bool
    pair: tuple[int, int] | None


def choose(value: str, peer: str) -> Offer:
    """The first offer of the list that this server has. Raises Fault 461.

    Media go only where the request came from, so an offer with another `destination` is none.
    """
    for text in value.split(",")[:OFFERS_MAX]:
        offer = _offer([part.strip() for part in text.split(";")], peer)
        if offer is not None:
            return offer
    raise Fault(461, "this server sends RTP/AVP/TCP;interleaved, or RTP/AVP;unicast with client_port, to where the request came from")


def _offer(parts: list[str], peer: str) -> Offer | None:
    fields = {key.strip().lower(): text.strip() for key, _, text in (part.partition("=") for part in parts[1:])}
    if "multicast" in fields or fields.get("mode", "play").strip('"').lower() != "play" or fields.get("destination", peer) != peer:
        return None
    profile = parts[0].upper()
    if profile == "RTP/AVP/TCP":
        pair = _numbers(fields.get("interleaved", ""), 255)
        return Offer(udp=False, pair=pair) if pair or "interleaved" not in fields else None
    if profile in {"RTP/AVP", "RTP/AVP/UDP"}:
        pair = _numbers(fields.get("client_port", ""), 65535)
        return Offer(udp=True, pair=pair) if pair and pair[0] > 0 else None
    return None


def _numbers(text: str, most: int) -> tuple[int, int] | None:
    match = _PAIR.fullmatch(text)
    if match is None:
        return None
    first = int(match[1])
    second = int(match[2]) if match[2] else first + 1
    return (first, second) if first <= most and second <= most and first != second else None
