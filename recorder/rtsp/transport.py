"""The Transport header of a SETUP answer (RFC 2326 12.39), as cameras write it.

Parameters in any order, blanks inside values (`ssrc= d6d6627`), one number for `interleaved`, RTP/AVP with `interleaved`, several
transports in one header: all occur. An ssrc that cannot be read is as good as none.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TransportAnswer:
    """What the server chose. `channels` None: it named none; `udp`: it insists on UDP."""

    channels: tuple[int, int] | None
    ssrc: int | None
    udp: bool


def ask_interleaved(index: int) -> str:
    """The Transport header for the index-th media over TCP. No `mode=PLAY`: some servers fail on it."""
    return f"RTP/AVP/TCP;unicast;interleaved={2 * index}-{2 * index + 1}"


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
    channels = _pair(parameters.get("interleaved", ""))
    ports = {"server_port", "client_port", "port"} & parameters.keys()
    udp = channels is None and not profile.upper().endswith("/TCP") and bool(ports)
    return TransportAnswer(channels, _ssrc(parameters.get("ssrc", "")), udp)


def _pair(text: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"(\d{1,3})\s*(?:-\s*(\d{1,3}))?", text)
    if match is None:
        return None
    first = int(match[1])
    second = int(match[2]) if match[2] else first + 1
    return (first, second) if first < 256 and second < 256 else None


def _ssrc(text: str) -> int | None:
    if not re.fullmatch(r"[0-9a-fA-F]{1,8}", text):
        return None
    return int(text, 16)
