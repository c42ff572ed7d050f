"""The site's configuration as values (the TOML file's reader is recorder/base/config_file.py).

The defaults here are the product's defaults; the sample `watchroom.toml` is tested against them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

G726_ORDERS = ("sdp", "rfc3551", "aal2")
TRANSPORTS = ("tcp", "auto", "udp", "multicast")


DAYS = 31.0          # where nobody says how long footage stays


@dataclass(frozen=True, slots=True)
class TrackRule:
    """What one level says about how long footage stays; None or 0 says nothing. recorder/base/rulebook.py puts the levels together.

    Footage goes at the age of `days`, and the oldest of it beyond `bytes_max`. To make room, footage that is younger than `days_min`, or
    among the newest `bytes_min`, is taken last of all.
    """

    days: float | None = None
    bytes_max: int = 0
    days_min: float = 0.0
    bytes_min: int = 0


@dataclass(frozen=True, slots=True)
class RetentionRule(TrackRule):
    """A level's rule for all tracks together, and what it says of each track by name."""

    main: TrackRule | None = None
    sub: TrackRule | None = None
    audio: TrackRule | None = None
    metadata: TrackRule | None = None


@dataclass(frozen=True, slots=True)
class GroupRule(RetentionRule):
    """`[[retention.partner]]` or `[[retention.site]]`: the rule of all cameras that bear the `name`, their bytes counted together."""

    name: str = ""


@dataclass(frozen=True, slots=True)
class VolumeConfig:
    """`[[volume]]`. `uuid` "" accepts whichever volume lies at `path`; `on_root` allows one on the root file system.

    `free_min`: the share of the file system that stays free, whatever else lies there; the oldest footage makes room.
    `weight`: its part of the cameras' bit rate beside the other volumes'. `drain`: no camera records to it any more.
    `hold_share`: the share of the volume's bytes that holds may keep.
    """

    path: Path
    uuid: str = ""
    on_root: bool = False
    free_min: float = 0.02
    weight: float = 1.0
    drain: bool = False
    hold_share: float = 0.5


def volume_to_json(volume: VolumeConfig) -> dict[str, Any]:
    """The volume for a control socket."""
    return {**asdict(volume), "path": str(volume.path)}


def volume_from_json(values: Mapping[str, Any]) -> VolumeConfig:
    """The inverse, between processes of one program."""
    return VolumeConfig(**{**values, "path": Path(str(values["path"]))})


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """`[server.tls]`: a certificate and key, or "proxy" when a proxy in front ends TLS."""

    cert: Path | None = None
    key: Path | None = None
    proxy: bool = False


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """`[server]`. `hosts` are the names a request's Host may bear (with or without port); `origins` those that CORS allows."""

    listen: str = "127.0.0.1"
    port: int = 8080
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    origins: tuple[str, ...] = ()
    tls: TlsConfig | None = None


@dataclass(frozen=True, slots=True)
class WebrtcConfig:
    """`[webrtc]`: the UDP port of all browsers that watch by WebRTC; `port` 0: none. `bind` is an address, :: takes IPv4 too.

    `ice_addresses` are told to browsers instead of `bind` (where that is every address: of the one that the request came to): behind NAT the
    public one. A token has at most `per_token` sessions.
    """

    bind: str = "127.0.0.1"
    port: int = 8555
    ice_addresses: tuple[str, ...] = ()
    per_token: int = 256


@dataclass(frozen=True, slots=True)
class RecordingConfig:
    """`[recording]`: slots and the rhythm of the packet's way; `camera_networks` are CIDR blocks camera addresses must lie in.

    `tls_ca` holds the CAs that vouch for rtsps cameras; None: those of the system. Files are imported from below `import_dir` only.
    """

    slots: int = 1
    drain_ms: int = 40
    watched_ms: int = 8
    gather_ms: int = 200
    commit_ms: int = 400
    buffer_s: float = 4.0
    chunk_close_s: float = 900.0
    handshakes_at_once: int = 16
    udp_port_first: int = 32768
    udp_port_last: int = 60999
    camera_networks: tuple[str, ...] = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8")
    tls_ca: Path | None = None
    import_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class ExportsConfig:
    """`[exports]`: jobs that make files of footage (api/exports). `folder` None: `exports` in state_dir.

    Results take at most `bytes_max` together (`bytes_max_token` those of one token; 0: as much) and go after `days`. Each of the `workers`
    writes at most `mb_per_s` MB/s; 0: as fast as it goes, or 100 where the folder shares a file system with a volume. Webhooks may call
    addresses below `webhooks`, signed with what the first line of `webhook_secret_file` holds.
    """

    folder: Path | None = None
    workers: int = 1
    bytes_max: int = 100_000_000_000
    bytes_max_token: int = 0
    days: float = 7.0
    mb_per_s: float = 0.0
    webhooks: tuple[str, ...] = ()
    webhook_secret_file: Path | None = None


@dataclass(frozen=True, slots=True)
class RtspOutConfig:
    """`[rtsp_out]`: cameras as RTSP streams for other systems (api/rtspout). `port` 0: off.

    Off loopback a token must exist. Over UDP, packets leave from ports between `udp_port_first` and `udp_port_last`.
    """

    bind: str = "127.0.0.1"
    port: int = 0
    udp_port_first: int = 61000
    udp_port_last: int = 64999


@dataclass(frozen=True, slots=True)
class SigningConfig:
    """`[signing]`: the heads of all volumes are signed with the Ed25519 key in the PEM file `key`, every `every_h` hours and at the end.

    The documents go to `heads`/<UUID of the volume>/; None: `heads` in state_dir. Neither may lie on a volume.
    """

    key: Path
    heads: Path | None = None
    every_h: float = 24.0


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """One address of a camera; `url` holds no userinfo. `kbps` is the declared bit rate (sizes the buffer).

    `transport`, of RTSP: tcp; auto (TCP, or UDP if the camera insists); udp or multicast (or TCP, if the camera refuses or nothing comes).
    `start`, of an imported file: the RFC 3339 time of its first picture; "" leaves it to the file.
    Beyond `ceiling_kbps` over 10 s its pictures are dropped up to the next key frame; 0: max(3 x kbps, 32,000).
    Over UDP, a packet that is missing for longer than `reorder_ms` is lost.
    """

    url: str
    kbps: int = 4000
    transport: str = "tcp"
    start: str = ""
    ceiling_kbps: int = 0
    reorder_ms: int = 100


@dataclass(frozen=True, slots=True)
class CameraConfig:
    """`[[camera]]`. `main` becomes the tracks main (and audio, metadata), `sub` the track sub. `password` never appears in repr.

    `g726_order`: bit order of G.726, for cameras that misstate it: sdp (as the SDP says), rfc3551, aal2.
    `tls_fingerprint` is the SHA-256 of the one certificate an rtsps camera may show (else a CA must vouch for it); `tls_insecure` takes any.
    """

    id: str
    main: StreamConfig
    sub: StreamConfig | None = None
    name: str = ""
    partner: str = ""
    site: str = ""
    purpose: str = ""
    latitude: float | None = None
    longitude: float | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    basic_without_tls: bool = False
    tls_fingerprint: str = ""
    tls_insecure: bool = False
    audio: bool = True
    metadata: bool = False
    g726_order: str = "sdp"
    enabled: bool = True
    rule: RetentionRule | None = None
    stall_s: float = 10.0


@dataclass(frozen=True, slots=True)
class SiteConfig:
    """The whole file. `state_dir` holds the catalogue and sockets; `live_dir` must lie on tmpfs.

    `retention` is for cameras about which no other rule says anything; `partners` and `sites` are the rules of groups.
    """

    name: str
    state_dir: Path
    live_dir: Path = Path("/dev/shm")  # noqa: S108
    server: ServerConfig = ServerConfig()
    webrtc: WebrtcConfig = WebrtcConfig()
    recording: RecordingConfig = RecordingConfig()
    exports: ExportsConfig = ExportsConfig()
    rtsp_out: RtspOutConfig = RtspOutConfig()
    retention: RetentionRule = RetentionRule(days=DAYS)
    partners: tuple[GroupRule, ...] = ()
    sites: tuple[GroupRule, ...] = ()
    signing: SigningConfig | None = None
    volumes: tuple[VolumeConfig, ...] = ()
    cameras: tuple[CameraConfig, ...] = ()

    @property
    def heads_dir(self) -> Path:
        """Where the signed heads of the volumes lie, in a folder for each."""
        return self.signing.heads if self.signing is not None and self.signing.heads is not None else self.state_dir / "heads"

    @property
    def signed_file(self) -> Path:
        """Which documents were signed last: who puts older ones in their place is found out."""
        return self.state_dir / "signed.json"

    @property
    def catalogue(self) -> Path:
        """The catalogue's file."""
        return self.state_dir / "catalogue.sqlite"

    @property
    def supervisor_socket(self) -> Path:
        """The supervisor's control socket."""
        return self.state_dir / "run" / "supervisor.sock"

    @property
    def exports_dir(self) -> Path:
        """Where exports lie."""
        return self.exports.folder or self.state_dir / "exports"

    def slot_socket(self, slot: int) -> Path:
        """The control socket of a slot's worker."""
        return self.state_dir / "run" / f"slot-{self.worker_of(slot)}.sock"

    def worker_of(self, slot: int) -> int:
        """The worker that has the slot: its own, or, where slots were lowered, the one that it is handed to."""
        return slot % self.recording.slots
