"""watchroom.toml -> SiteConfig: every key known, every value checked, every error one line with file, key and remedy."""

import ipaddress
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints
from urllib.parse import SplitResult, urlsplit
from uuid import UUID

from recorder.base import source_url
from recorder.base.config import (
    DAYS,
    G726_ORDERS,
    TRANSPORTS,
    CameraConfig,
    ExportsConfig,
    GroupRule,
    RecordingConfig,
    RetentionRule,
    RtspOutConfig,
    ServerConfig,
    SigningConfig,
    SiteConfig,
    StreamConfig,
    TlsConfig,
    TrackRule,
    VolumeConfig,
    WebrtcConfig,
)
from recorder.base.hidden_login import ENCODE, hides_login
from recorder.base.media import ID_PATTERN, valid_id
from recorder.base.passwords import PASSWORD_KEYS, first_line, read_password
from recorder.base.toml_table import Table, read_toml, shorten, without_none

T = TypeVar("T")
R = TypeVar("R", bound=RetentionRule)

SCHEMES = ("rtsp", "rtsps", *source_url.SCHEMES)
FINGERPRINT = re.compile(r"([0-9a-fA-F]{2}:?){32}")
UDP_PORTS_MIN = 64
ICE_ADDRESSES_MAX = 8
YEARS_10 = 3660.0
CHUNK_CLOSE_MAX_S = 900     # what expires is gone from the disk within an hour: a chunk goes when its newest row may

LIMITS: dict[type, dict[str, tuple[float, float]]] = {
    ServerConfig: {"port": (1, 65535)},
    WebrtcConfig: {"port": (0, 65535), "per_token": (1, 2000)},
    RecordingConfig: {"slots": (1, 64), "drain_ms": (5, 1000), "watched_ms": (2, 1000), "gather_ms": (5, 2000), "commit_ms": (50, 10_000),
                      "buffer_s": (1, 60),
                      "chunk_close_s": (10, CHUNK_CLOSE_MAX_S), "handshakes_at_once": (1, 1024),
                      "udp_port_first": (1024, 65534), "udp_port_last": (1025, 65535)},
    TrackRule: {"days": (0.0001, YEARS_10), "days_min": (0, YEARS_10), "bytes_max": (0, 1 << 60), "bytes_min": (0, 1 << 60)},
    ExportsConfig: {"workers": (1, 16), "bytes_max": (1, 1 << 60), "bytes_max_token": (0, 1 << 60), "days": (0.0001, YEARS_10),
                    "mb_per_s": (0, 100_000)},
    RtspOutConfig: {"port": (0, 65535), "udp_port_first": (1024, 65534), "udp_port_last": (1025, 65535)},
    VolumeConfig: {"free_min": (0, 0.5), "weight": (0.001, 1000), "hold_share": (0.01, 0.9)},
    SigningConfig: {"every_h": (0.001, 168)},
    StreamConfig: {"kbps": (1, 1_000_000), "ceiling_kbps": (0, 10_000_000), "reorder_ms": (1, 10_000)},
    CameraConfig: {"latitude": (-90, 90), "longitude": (-180, 180), "stall_s": (1, 600)},
}


def read_config(file: Path) -> SiteConfig:
    """The site's configuration, complete and checked.

    Relative paths count from the file's folder. Raises ConfigError for the first thing that is wrong; nothing else has been touched.
    """
    top = Table(file, "", read_toml(file))
    other = {"volumes", "cameras", "partners", "sites"}
    top.refuse_unknown([*(name for name in field_names(SiteConfig) if name not in other), "volume", "camera"])
    need(top, "name", '"Control room"')
    need(top, "state_dir", '"/var/lib/watchroom"')
    plain = Table(file, "", {key: value for key, value in top.values.items() if key not in {"volume", "camera"}})
    server = read_server(top.table("server"))
    return fill(SiteConfig, plain, given={
        "server": server,
        "webrtc": read_webrtc(top.table("webrtc"), server),
        "recording": read_recording(top.table("recording")),
        "exports": read_exports(top.table("exports")),
        "rtsp_out": read_rtsp_out(top.table("rtsp_out")),
        **read_retention(top.table("retention")),
        "signing": read_signing(top.table("signing")),
        "volumes": read_volumes(top),
        "cameras": read_cameras(top),
    })


def field_names(cls: type) -> list[str]:
    """The keys that a table of this class may hold."""
    return [item.name for item in fields(cls)]


def fill(cls: type[T], table: Table | None, *, extra: Iterable[str] = (), given: dict[str, Any] | None = None) -> T:
    """A dataclass from a table: plain fields by type and limit.

    `given` holds the fields that the caller has read itself, `extra` further keys that are known.
    """
    assert is_dataclass(cls)
    if table is None:
        return cls()
    given = given or {}
    table.refuse_unknown([*field_names(cls), *extra])
    hints, limits = get_type_hints(cls), next((LIMITS[kind] for kind in cls.__mro__ if kind in LIMITS), {})
    plain = [key for key in field_names(cls) if key in table.values and key not in given and not is_dataclass(without_none(hints[key]))]
    return cls(**given, **{key: table.take(key, hints[key], limits.get(key)) for key in plain})


def need(table: Table, key: str, example: str) -> None:
    """Raises ConfigError if a key is missing."""
    if key not in table.values:
        raise table.error(key, "is missing", f"add: {key} = {example}")


# --- server

def read_server(table: Table | None) -> ServerConfig:
    """`[server]`; off loopback only with TLS and with the names it goes by."""
    if table is None:
        return ServerConfig()
    server = fill(ServerConfig, table, given={"tls": read_tls(table)})
    for key, check, example in (("hosts", valid_host, "nvr.example.org"), ("origins", valid_origin, "https://wall.example.org")):
        for item in getattr(server, key):
            if not check(item):
                raise table.error(key, f"{shorten(item)} cannot be used", f"write it like {example}")
    check_reach(table, server)
    return server


def check_reach(table: Table, server: ServerConfig) -> None:
    """Raises ConfigError if others can reach the server without TLS or by no known name."""
    try:
        address = ipaddress.ip_address(server.listen)
    except ValueError:
        raise table.error("listen", f"must be an IP address, not {shorten(server.listen)}", "for instance 127.0.0.1 or 0.0.0.0") from None
    if not address.is_loopback and server.tls is None:
        raise table.error("tls", f"is missing while listen is {server.listen}, which others can reach",
                          'add tls = { cert = "...", key = "..." }, or tls = "proxy" behind a proxy that ends TLS, or listen on 127.0.0.1')
    if not address.is_loopback and "hosts" not in table.values:
        raise table.error("hosts", f"is missing while listen is {server.listen}", 'add the names browsers use: hosts = ["nvr.example.org"]')


def read_tls(table: Table) -> TlsConfig | None:
    """`tls = "proxy"` or a table of cert and key, both readable files."""
    value = table.values.get("tls")
    if value is None:
        return None
    if value == "proxy":
        return TlsConfig(proxy=True)
    if isinstance(value, str):
        raise table.error("tls", f"{shorten(value)} is no known way", 'write tls = "proxy", or tls = { cert = "...", key = "..." }')
    inner = table.table("tls")
    assert inner is not None
    inner.refuse_unknown(["cert", "key"])
    paths = {}
    for key in ("cert", "key"):
        need(inner, key, '"/path/to/file.pem"')
        paths[key] = cast(Path, inner.take(key, Path))
        if not os.access(paths[key], os.R_OK):
            raise inner.error(key, f"{paths[key]} cannot be read", "check the path and its permissions")
    return TlsConfig(cert=paths["cert"], key=paths["key"])


def valid_host(text: str) -> bool:
    """True for a name or address with or without a port."""
    return bool(text) and len(text) <= 255 and "@" not in text and "/" not in text and " " not in text


def valid_origin(text: str) -> bool:
    """True for scheme://host[:port] and nothing more."""
    parts = split_url(text)
    return parts is not None and parts.scheme in {"http", "https"} and bool(parts.hostname) and text == f"{parts.scheme}://{parts.netloc}" \
        and "@" not in text


def read_webrtc(table: Table | None, server: ServerConfig) -> WebrtcConfig:
    """`[webrtc]`; off loopback only where the API is, too, and with addresses that can be told to browsers."""
    webrtc = fill(WebrtcConfig, table)
    if table is None:
        return webrtc
    try:
        bind = ipaddress.ip_address(webrtc.bind)
    except ValueError:
        raise table.error("bind", f"must be an IP address, not {shorten(webrtc.bind)}", "for instance 127.0.0.1, 0.0.0.0 or ::") from None
    if len(webrtc.ice_addresses) > ICE_ADDRESSES_MAX:
        raise table.error("ice_addresses", f"has more than {ICE_ADDRESSES_MAX}", "give those that browsers can reach")
    for item in webrtc.ice_addresses:
        try:
            ipaddress.ip_address(item)
        except ValueError:
            raise table.error("ice_addresses", f"{shorten(item)} is no IP address", "browsers are told numbers, such as 203.0.113.7") from None
    if not bind.is_loopback and webrtc.port and server.tls is None:
        raise table.error("bind", f"{webrtc.bind} can be reached from other machines, and the API has no TLS",
                          "keys are agreed on through the API: set server.tls, or bind 127.0.0.1")
    if bind.is_unspecified and webrtc.port and server.tls is not None and server.tls.proxy and not webrtc.ice_addresses:
        raise table.error("ice_addresses", "is missing behind a proxy", "name the address at which browsers reach the UDP port itself")
    return webrtc


# --- recording and volumes

def read_recording(table: Table | None) -> RecordingConfig:
    """`[recording]`; the rhythm must be drain <= gather <= commit."""
    recording = fill(RecordingConfig, table)
    if table is None:
        return recording
    for network in recording.camera_networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise table.error("camera_networks", str(error), "write networks as address/length, such as 10.20.0.0/16") from None
    if recording.udp_port_last - recording.udp_port_first < UDP_PORTS_MIN:
        raise table.error("udp_port_last", f"leaves fewer than {UDP_PORTS_MIN} ports", "two are needed for each track over UDP")
    if recording.tls_ca is not None and not os.access(recording.tls_ca, os.R_OK):
        raise table.error("tls_ca", f"{recording.tls_ca} cannot be read", "check the path and its permissions")
    for faster, slower in (("drain_ms", "gather_ms"), ("gather_ms", "commit_ms")):
        least, value = getattr(recording, faster), getattr(recording, slower)
        if value < least:
            raise table.error(slower, f"{value} is below {faster} = {least}", f"make it at least {least}")
    return recording


def read_exports(table: Table | None) -> ExportsConfig:
    """`[exports]`; webhooks go to named places only, and signed."""
    exports = fill(ExportsConfig, table)
    if table is None:
        return exports
    for address in exports.webhooks:
        parts = split_url(address)
        local = parts is not None and parts.hostname in {"127.0.0.1", "::1", "localhost"}
        if parts is None or not parts.hostname or parts.scheme not in ({"http", "https"} if local else {"https"}) or "@" in parts.netloc \
                or parts.query or parts.fragment:
            raise table.error("webhooks", f"{shorten(address)} cannot be used", "write it like https://dams.example.org/watchroom/")
    if exports.webhooks and exports.webhook_secret_file is None:
        raise table.error("webhook_secret_file", "is missing beside webhooks", "put a long random line into a file and name it")
    if exports.webhook_secret_file is not None:
        first_line(table, "webhook_secret_file", exports.webhook_secret_file)
    return exports


def read_rtsp_out(table: Table | None) -> RtspOutConfig:
    """`[rtsp_out]`: an address, and room for datagrams."""
    found = fill(RtspOutConfig, table)
    if table is None:
        return found
    try:
        ipaddress.ip_address(found.bind)
    except ValueError:
        raise table.error("bind", f"must be an IP address, not {shorten(found.bind)}", "for instance 127.0.0.1 or 0.0.0.0") from None
    if found.udp_port_last - found.udp_port_first < UDP_PORTS_MIN:
        raise table.error("udp_port_last", f"leaves fewer than {UDP_PORTS_MIN} ports", "two are needed for each stream over UDP")
    return found


def read_volumes(top: Table) -> tuple[VolumeConfig, ...]:
    """`[[volume]]`: at least one, each path once."""
    volumes: list[VolumeConfig] = []
    for table in top.tables("volume"):
        need(table, "path", '"/srv/watchroom"')
        volume = fill(VolumeConfig, table)
        if volume.uuid and not valid_uuid(volume.uuid):
            raise table.error("uuid", f"{shorten(volume.uuid)} is no UUID", "copy it from volume.json, or leave it out")
        if volume.path in {other.path for other in volumes}:
            raise table.error("path", f"{volume.path} is there twice", "name each volume once")
        volumes.append(volume)
    if not volumes:
        raise top.error("volume", "is missing", 'add [[volume]] with path = "/srv/watchroom", made by `watchroom volume init`')
    return tuple(volumes)


def valid_uuid(text: str) -> bool:
    """True for the 36 characters of a UUID."""
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


# --- retention

TRACK_NAMES = ("main", "sub", "audio", "metadata")


def read_retention(table: Table | None) -> dict[str, Any]:
    """`[retention]` and the rules of partners and sites below it, as fields of SiteConfig."""
    if table is None:
        return {}
    general = Table(table.file, table.name, {key: value for key, value in table.values.items() if key not in {"partner", "site"}})
    table.refuse_unknown([*field_names(RetentionRule), "partner", "site"])
    rule = read_rule(general, RetentionRule)
    return {"retention": rule if rule.days is not None else replace(rule, days=DAYS),
            "partners": read_groups(table, "partner"), "sites": read_groups(table, "site")}


def read_groups(table: Table, key: str) -> tuple[GroupRule, ...]:
    """`[[retention.partner]]` or `[[retention.site]]`, each name once."""
    groups: dict[str, GroupRule] = {}
    for one in table.tables(key):
        need(one, "name", '"East"')
        group = read_rule(one, GroupRule)
        if not group.name or group.name in groups:
            raise one.error("name", f"{shorten(group.name)} {'is there twice' if group.name else 'names nobody'}",
                            f"write the {key} as its cameras do, once")
        groups[group.name] = group
    return tuple(groups.values())


def read_rule(table: Table, cls: type[R]) -> R:
    """A rule, with what it says of single tracks; refuses one that contradicts itself."""
    tracks = {name: fill(TrackRule, inner) for name in TRACK_NAMES if (inner := table.table(name))}
    rule = fill(cls, table, given=tracks)
    levels: list[tuple[str, TrackRule]] = [("", rule), *tracks.items()]
    for name, part in levels:
        where = table.table(name) or table
        if part.days is not None and part.days_min > part.days:
            raise where.error("days_min", f"{part.days_min:g} is above days = {part.days:g}", "make it at most as long")
        if part.bytes_max and part.bytes_min > part.bytes_max:
            raise where.error("bytes_min", f"{part.bytes_min} is above bytes_max = {part.bytes_max}", "make it at most as much")
    return rule


# --- signing

def read_signing(table: Table | None) -> SigningConfig | None:
    """`[signing]`; None without it. At key and folder recorder/preflight.py looks: not all who read the configuration may read the key."""
    if table is None:
        return None
    need(table, "key", '"/etc/watchroom/signing.pem"')
    return fill(SigningConfig, table)


# --- cameras

def read_cameras(top: Table) -> tuple[CameraConfig, ...]:
    """`[[camera]]`, each id once."""
    cameras: dict[str, CameraConfig] = {}
    for table in top.tables("camera"):
        need(table, "id", '"north-road"')
        name = str(table.take("id", str))
        if not valid_id(name):
            raise table.error("id", f"{shorten(name)} does not match {ID_PATTERN.pattern}", "use small letters, digits and dashes")
        if name in cameras:
            raise table.error("id", f'"{name}" is there twice', "give each camera an id of its own")
        cameras[name] = read_camera(Table(table.file, f"camera {name}", table.values))
    return tuple(cameras.values())


def read_camera(table: Table, password: Callable[[Table], str] = read_password, extra: Iterable[str] = PASSWORD_KEYS) -> CameraConfig:
    """One camera; `table` has a checked id. `password` finds its password, for which the `extra` keys are known."""
    need(table, "main", '{ url = "rtsp://10.20.3.17/stream1" }')
    streams = {key: read_stream(inner) for key in ("main", "sub") if (inner := table.table(key))}
    rule = table.table("rule")
    given: dict[str, Any] = {**streams, "password": password(table), "rule": read_rule(rule, RetentionRule) if rule else None}
    camera = fill(CameraConfig, table, extra=extra, given=given)
    if camera.g726_order not in G726_ORDERS:
        raise table.error("g726_order", f"{shorten(camera.g726_order)} is no bit order", f"use one of {', '.join(G726_ORDERS)}")
    if camera.tls_fingerprint and not FINGERPRINT.fullmatch(camera.tls_fingerprint):
        raise table.error("tls_fingerprint", "is no SHA-256 fingerprint", "write its 64 hexadecimal digits, with or without colons")
    if camera.tls_fingerprint and camera.tls_insecure:
        raise table.error("tls_insecure", "contradicts tls_fingerprint", "leave it out: the fingerprint is enough")
    if camera.sub is not None and camera.sub.url == camera.main.url:
        raise table.error("sub", "has the address of main", "a stream is asked for once: leave sub out, or give its own address")
    if camera.password and not camera.user:
        raise table.error("user", "is missing beside a password", 'add: user = "..."')
    return camera


def read_stream(table: Table) -> StreamConfig:
    """`main` or `sub`: an address without userinfo. The address is never repeated in an error: it may hold a password."""
    need(table, "url", '"rtsp://10.20.3.17/stream1"')
    stream = fill(StreamConfig, table)
    if hides_login(stream.url.partition("://")[2]):
        raise table.error("url", "seems to hold a user and a password", f"set user and password_file; in an address {ENCODE}")
    parts = split_url(stream.url)
    if parts is None or (not parts.hostname and parts.scheme != "file"):
        raise table.error("url", "is no address", 'write it like "rtsp://10.20.3.17:554/stream1"')
    if parts.scheme not in SCHEMES:
        names = ", ".join(f"{scheme}://" for scheme in SCHEMES if scheme != "file")
        raise table.error("url", f"scheme {shorten(parts.scheme)} is not supported", f"use {names}")
    if stream.transport not in TRANSPORTS:
        raise table.error("transport", f"{shorten(stream.transport)} is not known", f"use one of {', '.join(TRANSPORTS)}")
    if parts.scheme == "rtsps" and stream.transport in {"udp", "multicast"}:
        raise table.error("transport", f"{stream.transport} would carry the pictures beside TLS, readable by all", "leave it out")
    if "@" in parts.netloc:
        raise table.error("url", "holds a user or password", "take it out and set user and password_file")
    if parts.scheme in source_url.SCHEMES:
        check_source(table, stream, parts)
    elif stream.start:
        raise table.error("start", "is for files that are imported", "take it out")
    return stream


def check_source(table: Table, stream: StreamConfig, parts: SplitResult) -> None:
    """Raises ConfigError for an address of another kind than RTSP that cannot be used, and for a start that is no time."""
    try:
        source_url.source_url(parts)
    except ValueError as error:
        raise table.error("url", str(error), "see docs/operations.md") from None
    if stream.start and parts.scheme != "file":
        raise table.error("start", "is for files that are imported", "take it out")
    if stream.start and not valid_time(stream.start):
        raise table.error("start", f"{shorten(stream.start)} is no time", 'write it like "2026-05-01T12:00:00Z"')


def valid_time(text: str) -> bool:
    """True for RFC 3339 with an offset."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def split_url(text: str) -> SplitResult | None:
    """The parts of an address with a valid port, None if it has none."""
    try:
        parts = urlsplit(text)
        return parts if parts.port is None or parts.port > 0 else None
    except ValueError:
        return None
