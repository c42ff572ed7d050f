"""What must hold before anything is started: each check raises one error with the thing and the remedy, and leaves nothing behind."""

import errno
import fcntl
import importlib.metadata
import ipaddress
import os
import resource
import socket
from pathlib import Path

from recorder.base.config import SiteConfig, VolumeConfig
from recorder.base.errors import ConfigError, Conflict, WatchroomError

OUR_NAMES = ("recorder", "storage", "api", "hw", "bench")
OUR_DISTRIBUTION = "watchroom"
FILES_BASE = 1024            # the API's connections, decoders, catalogue
FILES_PER_CAMERA = 24        # of one process: main, sub, sound, each with chunk in work (twice) and the next, ring, frames, log, two sockets
CAMERAS_SPARE = 100          # cameras may be added while it runs
MOUNTS = Path("/proc/self/mountinfo")


def check_names() -> None:
    """No other distribution has put a package with one of our names into this environment (the import would take either)."""
    makers = importlib.metadata.packages_distributions()
    for name in OUR_NAMES:
        others = sorted({maker for maker in makers.get(name, []) if maker != OUR_DISTRIBUTION})
        if others:
            raise ConfigError(f"the distribution {others[0]} brings a package of the same name", where=f"package {name}",
                              remedy=f"run Watchroom in a virtual environment of its own, without {others[0]}")


def make_state_dir(site: SiteConfig) -> int:
    """Makes state_dir (0700) and locks it against a second server; returns the lock's descriptor, which the caller keeps open."""
    try:
        (site.state_dir / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(site.state_dir / "run", 0o700)
        lock = os.open(site.state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot be used: {error.strerror}", where=f"state_dir {site.state_dir}",
                          remedy="choose a folder that this user may write") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise Conflict("another watchroom uses it", where=f"state_dir {site.state_dir}",
                       remedy="end the other one first, or give this one a state_dir of its own") from None
    return lock


def check_live_dir(live_dir: Path) -> None:
    """live_dir is a writable folder on a tmpfs: a crash of the machine must not leave old live files behind."""
    try:
        device = os.stat(live_dir).st_dev
    except OSError as error:
        raise ConfigError(f"cannot be used: {error.strerror}", where=f"live_dir {live_dir}", remedy="use /dev/shm") from None
    kind = file_system_of(device)
    if kind not in {"tmpfs", "ramfs"}:
        raise ConfigError(f"lies on {kind}, not on a tmpfs", where=f"live_dir {live_dir}", remedy="use /dev/shm")
    if not os.access(live_dir, os.W_OK | os.X_OK):
        raise ConfigError("is not writable", where=f"live_dir {live_dir}", remedy="check its permissions")


def file_system_of(device: int) -> str:
    """The type of the mounted file system with this device number (proc(5), mountinfo)."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in MOUNTS.read_text().splitlines():
        fields = line.split()
        if fields[2] == wanted:
            return fields[fields.index("-") + 1]
    return "an unknown file system"


def check_signing(site: SiteConfig) -> None:
    """The signing key is an Ed25519 key that nobody else can read, and neither it nor the heads lie on a volume."""
    if site.signing is None:
        return
    from storage.heads import private_key  # brings OpenSSL, which only sites that sign need
    key, where = site.signing.key, f"signing.key {site.signing.key}"
    try:
        stat = key.stat()
        with key.open("rb"):
            pass
    except OSError as error:
        raise ConfigError("is missing" if error.errno == errno.ENOENT else f"cannot be read: {error.strerror}", where=where,
                          remedy=f"make one with: openssl genpkey -algorithm ed25519 -out {key}; chmod 600 {key}") from None
    if stat.st_mode & 0o077:
        raise ConfigError(f"can be read by others (mode {stat.st_mode & 0o7777:04o})", where=where, remedy=f"run: chmod 600 {key}")
    for volume in site.volumes:
        _outside(volume, key, where, "keep the key where nobody who can write footage can read it")
        _outside(volume, site.heads_dir, f"signing.heads {site.heads_dir}", "keep the heads where nobody who can write footage can write")
    private_key(key)


def _outside(volume: VolumeConfig, path: Path, where: str, remedy: str) -> None:
    """ConfigError if `path`, or the folder that it will be made in, lies on the volume's file system, or below a volume on the root's."""
    real, there = path.resolve(), path.resolve()
    while not there.exists():
        there = there.parent
    below = real.is_relative_to(volume.path.resolve())
    if below or (not volume.on_root and volume.path.exists() and there.stat().st_dev == volume.path.stat().st_dev):
        raise ConfigError(f"lies on the volume {volume.path}" if below else f"lies on the file system of the volume {volume.path}",
                          where=where, remedy=remedy)


def check_port(site: SiteConfig) -> None:
    """Nobody else listens where the API is to listen, and the addresses are this machine's."""
    _check_port("server", site.server.listen, site.server.port)
    if site.rtsp_out.port:
        _check_port("rtsp_out", site.rtsp_out.bind, site.rtsp_out.port)


def loopback(address: str) -> bool:
    """True if only this machine can reach it."""
    return ipaddress.ip_address(address).is_loopback


def _check_port(table: str, address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            what = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
            raise Conflict(what, where=f"{table}.port {address}:{port}",
                           remedy="end the program that listens there, or set another port") from None


def raise_files_limit(cameras: int) -> int:
    """Raises RLIMIT_NOFILE to what that many cameras need, for this process and its children; returns the limit.

    Raises WatchroomError if the hard limit forbids it.
    """
    need = FILES_BASE + (cameras + CAMERAS_SPARE) * FILES_PER_CAMERA
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= need:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard if hard == resource.RLIM_INFINITY else max(hard, need)))
    except (OSError, ValueError):
        raise WatchroomError(f"is {hard}, {cameras} cameras need {need}", where="limit of open files",
                             remedy=f"set LimitNOFILE={need} in the unit file, or ulimit -n {need}") from None
    return need
