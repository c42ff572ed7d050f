"""Addresses of sources other than RTSP: which kind a scheme names, its port, and what may stand in it."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs

PORTS = {"udp": 0, "srt": 0, "rtmp": 1935, "http": 80, "https": 443}
SCHEMES = (*PORTS, "file")
SRT_KEYS = frozenset({"latency", "streamid"})
LATENCY_MS_MAX = 10_000
PLAYLIST = ".m3u8"


@dataclass(frozen=True, slots=True)
class SourceUrl:
    """An address taken apart. `path` holds the query; `kind` is udp, http, hls, rtmp, srt or file."""

    kind: str
    host: str
    port: int
    path: str
    tls: bool = False


def source_url(parts: SplitResult) -> SourceUrl:
    """The address. ValueError, whose text says what is wrong and repeats nothing of it, if it cannot be used."""
    if parts.scheme == "file":
        return _file(parts)
    port = parts.port or PORTS[parts.scheme]
    if not parts.hostname or not port:
        raise ValueError(f"needs a host{'' if PORTS[parts.scheme] else ' and a port'}")
    if parts.fragment:
        raise ValueError("must not hold a #")
    if parts.scheme == "srt":
        _check_srt(parts.query)
    if parts.scheme == "udp":
        _check_udp(parts)
    kind = "hls" if parts.path.endswith(PLAYLIST) else "http" if parts.scheme in {"http", "https"} else parts.scheme
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return SourceUrl(kind, parts.hostname, port, path, parts.scheme == "https")


def _file(parts: SplitResult) -> SourceUrl:
    names = parts.path.split("/")
    if parts.netloc or parts.query or parts.fragment or not parts.path or any(name in {"", ".", ".."} for name in names):
        raise ValueError("must be file: and a path below import_dir")
    return SourceUrl("file", "", 0, parts.path)


def _check_udp(parts: SplitResult) -> None:
    if parts.path.strip("/") or parts.query:
        raise ValueError("holds more than an address and a port")
    try:
        ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        raise ValueError("must hold a multicast group or an address of this machine as a number") from None


def _check_srt(query: str) -> None:
    given = parse_qs(query, keep_blank_values=True)
    if unknown := sorted(set(given) - SRT_KEYS):
        raise ValueError(f"option {unknown[0][:20]} is not known; known are {', '.join(sorted(SRT_KEYS))}")
    latency = given.get("latency", ["0"])[0]
    if not (latency.isascii() and latency.isdigit() and len(latency) < 6 and int(latency) <= LATENCY_MS_MAX):
        raise ValueError(f"latency must lie between 0 and {LATENCY_MS_MAX} ms")
