"""The Transport header of SETUP (RFC 2326 12.39): what we ask for, and what cameras answer, as they write it.

Parameters in any order, blanks inside values (`ssrc= d6d6627`), one number for `interleaved` or a pair of ports, RTP/AVP with
`interleaved`, several transports in one header, a host name or nothing as `source`: all occur. What cannot be read is as good as not there.
"""

import ipaddress
import re
from dataclasses import dataclass

PORT_MAX = 65535


@dataclass(frozen=True, slots=True)
class TransportAnswer:
    """What the server chose; None or "" for what it did not name.

    `channels`: interleaved. `udp`: it insists on UDP. `server_ports`: where RTP and RTCP come from; `ports`: the group's (multicast).
    `source` and `destination` only if they are addresses.
    """

    channels: tuple[int, int] | None
    ssrc: int | None
    udp: bool
    multicast: bool = False
    server_ports: tuple[int, int] | None = None
    ports: tuple[int, int] | None = None
    source: str = ""
    destination: str = ""
    ttl: int | None = None


def ask_interleaved(index: int) -> str:
    """The Transport header for the index-th media over TCP. No `mode=PLAY`: some servers fail on it."""
    return f"RTP/AVP/TCP;unicast;interleaved={2 * index}-{2 * index + 1}"


def ask_udp(ports: tuple[int, int]) -> str:
    """The Transport header for media to these ports of ours."""
    return f"RTP/AVP;unicast;client_port={ports[0]}-{ports[1]}"


def ask_multicast() -> str:
    """The Transport header for media to a group of the server's choice."""
    return "RTP/AVP;multicast"


def parse_transport(value: str) -> TransportAnswer:
    """The first transport in `value` that is interleaved, else the first. Never raises: what cannot be read is None."""
    offers = [_offer(text) for text in value.split(",")[:8]]
    return next((offer for offer in offers if offer.channels is not None), offers[0])


def _offer(text: str) -> TransportAnswer:
    profile, *rest = (part.strip() for part in text.split(";")[:32])
    parameters: dict[str, str] = {}
    for part in rest:
        name, _, content = part.partition("=")
        parameters.setdefault(name.strip().lower(), content.strip().strip('"').strip())
    channels = _pair(parameters.get("interleaved", ""), 255)
    multicast = "multicast" in parameters
    ports = {"server_port", "client_port", "port"} & parameters.keys()
    udp = channels is None and not profile.upper().endswith("/TCP") and (bool(ports) or multicast)
    return TransportAnswer(
        channels, _ssrc(parameters.get("ssrc", "")), udp, multicast and udp,
        _pair(parameters.get("server_port", ""), PORT_MAX), _pair(parameters.get("port", "") or parameters.get("client_port", ""), PORT_MAX),
        _address(parameters.get("source", "")), _address(parameters.get("destination", "")), _ttl(parameters.get("ttl", "")))


def _pair(text: str, largest: int) -> tuple[int, int] | None:
    match = re.fullmatch(r"(\d{1,5})\s*(?:-\s*(\d{1,5}))?", text, re.ASCII)
    if match is None:
        return None
    first = int(match[1])
    second = int(match[2]) if match[2] else first + 1
    return (first, second) if first <= largest and second <= largest else None


def _ssrc(text: str) -> int | None:
    if not re.fullmatch(r"[0-9a-fA-F]{1,8}", text):
        return None
    return int(text, 16)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip("[]").partition("%")[0]))
    except ValueError:
        return ""


def _ttl(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,3}", text, re.ASCII) and 0 < int(text) < 256 else None
