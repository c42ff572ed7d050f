"""Which cameras there are, whose they are and which slot records them: the configuration file's and the catalogue's, as one list.

`Roster.call` is what the supervisor's socket offers; it changes the catalogue and says what the workers must be told. It knows no worker
and no loop, so that the command line can use it as well while no server runs.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from recorder.base.camera_json import camera_from_json, camera_to_json
from recorder.base.config import CameraConfig, SiteConfig, volume_to_json
from recorder.base.errors import ConfigError, NotFound, Refused, SourceError
from recorder.base.rulebook import Member, member_to_json
from recorder.base.source_url import PORTS
from recorder.base.toml_table import Table
from recorder.holdbook import HoldBook
from recorder.order import Order, Outcome
from recorder.rtsp.url import DEFAULT_PORTS, parse_url
from recorder.volume_desk import VolumeDesk
from storage.camera_record import CameraRecord, TokenRecord
from storage.catalogue import Catalogue

NAME_MAX = 200
WEIGHT_MAX = 1000
RULES_AT_ONCE = 1000    # cameras in one call: control sockets take 1 MiB
CALL = Path("call")     # what stands before an argument in messages


class Roster:
    """The cameras of a site. Belongs to one thread: the one that opened the catalogue."""

    def __init__(self, catalogue: Catalogue, site: SiteConfig) -> None:
        self._catalogue = catalogue
        self.volumes = VolumeDesk(catalogue, site)
        self._site = site
        self._secrets: dict[str, CameraConfig] = {}
        self._calls: dict[str, Callable[[Mapping[str, Any]], Outcome]] = {
            "camera.add": self._add, "camera.change": self._change, "camera.remove": self._remove, "camera.list": self._list,
            "volume.add": self._add_volume, "volume.drain": self._drain_volume, "volume.list": lambda _: Outcome(self.volumes.described()),
            "token.add": self._add_token, "token.revoke": self._revoke_token, "token.list": self._list_tokens,
        }
        self._holds = HoldBook(catalogue, site)
        self._calls |= self._holds.calls

    def adopt_file(self) -> None:
        """Makes the file's cameras those of the file: new ones get a number and a slot, missing ones are removed. Conflict as the catalogue."""
        records = self._catalogue.adopt_file(self._site.cameras, self._site.recording.slots)
        self._secrets = {record.id: record.config for record in records}

    def cameras(self) -> list[CameraRecord]:
        """All cameras by number, those of the file with the credentials that only the file holds."""
        return [replace(record, config=self._secrets.get(record.id, record.config)) for record in self._catalogue.cameras()]

    def start_orders(self, worker: int, *, at_once: bool = False) -> list[Order]:
        """What this worker must be told at its start: volumes, rules, holds, the cameras of its slot and of slots that have no worker any more.

        `at_once`: it recorded them a moment ago, so nobody waits for a turn.
        """
        records = [record for record in self.cameras() if record.config.enabled]
        starts = [self._start(record, at_once=at_once) for record in records if self._site.worker_of(record.slot) == worker]
        return [self._volumes(worker), *self._rules([worker]), *self._holds.tell([worker]), *starts]

    def strangers(self) -> list[str]:
        """Ids of cameras whose address lies outside camera_networks: they will not be connected to."""
        return [record.id for record in self.cameras() if outside(record.config, self._site)]

    def has_tokens(self) -> bool:
        """True if any token could be valid."""
        return any(token.revoked_ns is None for token in self._catalogue.tokens())

    def has_logins(self) -> bool:
        """True if any token could be valid over RTSP."""
        return any(token.revoked_ns is None and token.login_md5 for token in self._catalogue.tokens())

    def call(self, name: str, args: Mapping[str, Any]) -> Outcome:
        """Does one call. Raises NotFound for a call that does not exist, and what the call raises; nothing is changed then."""
        if name not in self._calls:
            raise NotFound("no such call", where=name)
        return self._calls[name](args)

    # --- cameras

    def _list(self, args: Mapping[str, Any]) -> Outcome:
        return Outcome([describe_camera(record) for record in self.cameras()])

    def _add(self, args: Mapping[str, Any]) -> Outcome:
        config = camera_from_json(args, "camera")
        self._check_address(config)
        record = self._catalogue.add_camera(config, "api", self._catalogue.least_loaded(self._site.recording.slots))
        self.volumes.settle(record.number)
        return Outcome(describe_camera(record), (*self._rules(), *((self._start(record),) if config.enabled else ())))

    def _change(self, args: Mapping[str, Any]) -> Outcome:
        before = self._catalogue.camera(text(args, "id"))
        changes = args.get("changes")
        if not isinstance(changes, dict):
            raise ConfigError("is missing", where="camera: changes", remedy="name the fields to change")
        config = camera_from_json(camera_to_json(before.config, secrets=True) | changes, "camera")
        self._check_address(config)
        if before.config.password and "password" not in changes and elsewhere(before.config, config):
            raise ConfigError("the one that is stored is for another host, or for a connection with TLS, and is not sent there",
                              where="camera: password", remedy="give it again with the new address, or an empty one if it needs none")
        record = self._catalogue.change_camera(before.id, config)
        rules = self._rules() if Member.of(before.number, before.config) != Member.of(record.number, config) else ()
        return Outcome(describe_camera(record), (*rules, *self._changed(before, record)))

    def _changed(self, before: CameraRecord, after: CameraRecord) -> tuple[Order, ...]:
        """What the worker must be told of a change: nothing that stops the recording of its main stream unless that itself is another one."""
        if before.config.enabled and after.config.enabled and recorded_alike(before.config, after.config):
            return (replace(self._start(after), call="camera.update"),)
        stop = (self._stop(before),) if before.config.enabled else ()
        return (*stop, self._start(after)) if after.config.enabled else stop

    def _remove(self, args: Mapping[str, Any]) -> Outcome:
        record = self._catalogue.remove_camera(text(args, "id"))
        return Outcome(describe_camera(record), (self._stop(record, removed=True),) if record.config.enabled else ())

    def _rules(self, workers: Iterable[int] | None = None) -> tuple[Order, ...]:
        """The rules of all cameras, removed ones too, for these workers (None: all): some count what lies in several slots."""
        members = [member_to_json(Member.of(record.number, record.config)) for record in self._catalogue.cameras(removed=True)]
        parts = [members[at:at + RULES_AT_ONCE] for at in range(0, len(members), RULES_AT_ONCE)] or [[]]
        return tuple(Order(worker, "rules", {"cameras": part, "part": number, "parts": len(parts)})
                     for worker in (range(self._site.recording.slots) if workers is None else workers)
                     for number, part in enumerate(parts, 1))

    def _start(self, record: CameraRecord, *, at_once: bool = False) -> Order:
        """Begin to record the camera, in its slot."""
        camera = camera_to_json(record.config, secrets=True)
        args = {"number": record.number, "slot": record.slot, "camera": camera, "at_once": at_once,
                "volume": self.volumes.homes.get(record.number, "")}
        return Order(self._site.worker_of(record.slot), "camera.start", args)

    def _volumes(self, worker: int) -> Order:
        return Order(worker, "volumes", {"volumes": [volume_to_json(volume) for volume in self.volumes.site.volumes]})

    def _moves(self, moved: list[int]) -> Outcome:
        """Every worker knows the volumes; cameras that have another home now go there."""
        records = [record for record in self.cameras() if record.number in set(moved) and record.config.enabled]
        homes = self.volumes.homes
        moves = [Order(self._site.worker_of(record.slot), "camera.move", {"number": record.number, "volume": homes[record.number]})
                 for record in records]
        orders = sorted([*map(self._volumes, range(self._site.recording.slots)), *moves], key=lambda order: order.slot)
        return Outcome({"moved": len(moves), "volumes": self.volumes.described()}, tuple(orders))

    def _add_volume(self, args: Mapping[str, Any]) -> Outcome:
        weight = args.get("weight", 1.0)
        if not isinstance(weight, int | float) or not 0 < weight <= WEIGHT_MAX:
            raise ConfigError(f"must be a number above 0, at most {WEIGHT_MAX}", where="volume: weight", remedy="1 is the weight of any other")
        path = Path(text(args, "path"))
        if not path.is_absolute():
            raise ConfigError("must be absolute", where=f"volume: path {path}", remedy="name it from the root on")
        return self._moves(self.volumes.add(path, weight=float(weight), on_root=bool(args.get("on_root"))))

    def _drain_volume(self, args: Mapping[str, Any]) -> Outcome:
        return self._moves(self.volumes.drain(text(args, "volume"), undo=bool(args.get("undo"))))

    def _stop(self, record: CameraRecord, *, removed: bool = False) -> Order:
        """End the camera's recording; no gap follows if it is `removed`."""
        return Order(self._site.worker_of(record.slot), "camera.stop", {"number": record.number, "removed": removed})

    def _check_address(self, config: CameraConfig) -> None:
        if any(stream.url.startswith("file:") for stream in (config.main, config.sub) if stream):
            raise Refused("files are imported by the configuration file only", where=f"camera {config.id}",
                          remedy="name the camera in watchroom.toml")
        for which, stream in (("main", config.main), ("sub", config.sub)):
            if stream is not None and stream.url.lower().startswith(("rtsp:", "rtsps:")):
                _check_rtsp(which, stream.url)
        if address := outside(config, self._site):
            raise Refused(f"the address {address} lies outside camera_networks", where=f"camera {config.id}",
                          remedy="add its network to recording.camera_networks in the configuration, and restart")

    # --- tokens

    def _list_tokens(self, args: Mapping[str, Any]) -> Outcome:
        return Outcome([describe_token(token) for token in self._catalogue.tokens()])

    def _add_token(self, args: Mapping[str, Any]) -> Outcome:
        name = text(args, "name")
        if not 0 < len(name) <= NAME_MAX or not name.isprintable():
            raise ConfigError(f"must be 1 to {NAME_MAX} printable characters", where="token: name", remedy="say whom it is for")
        token, secret = self._catalogue.add_token(
            name, texts(args, "scopes"), cameras=texts(args, "cameras"), partner=text(args, "partner", ""),
            expires_ns=whole(args, "expires_ns"))
        return Outcome(describe_token(token) | {"secret": secret})

    def _revoke_token(self, args: Mapping[str, Any]) -> Outcome:
        return Outcome(describe_token(self._catalogue.revoke_token(whole(args, "number"))))


def _check_rtsp(which: str, url: str) -> None:
    """Raises ConfigError for an address that would be refused whenever the camera is asked."""
    try:
        parse_url(url)
    except SourceError as error:
        raise ConfigError(error.message, where=f"camera: {which}.url", remedy=error.remedy) from None


def recorded_alike(a: CameraConfig, b: CameraConfig) -> bool:
    """True if the two differ at most in what is said about the camera, in how long its footage stays, and in the sub stream."""
    said = {"sub": None, "name": "", "partner": "", "site": "", "purpose": "", "latitude": None, "longitude": None, "rule": None}
    return replace(a, **said) == replace(b, **said)  # type: ignore[arg-type]


def elsewhere(before: CameraConfig, after: CameraConfig) -> bool:
    """True if the password would be shown to another host or port than before, or without TLS where it was shown with TLS only."""
    known = places(before)
    return any(place not in known and (place[0], False) not in known for place in places(after))


def places(config: CameraConfig) -> set[tuple[str, bool]]:
    """Host (with its port, if it is not the scheme's own) of every address of a camera, and whether it is asked over TLS."""
    found = set()
    for stream in (config.main, config.sub):
        parts = urlsplit(stream.url) if stream is not None else None
        if parts is not None and parts.hostname:
            usual = parts.port is None or parts.port == {**PORTS, **DEFAULT_PORTS}.get(parts.scheme)
            found.add((parts.hostname if usual else f"{parts.hostname}:{parts.port}", parts.scheme in {"rtsps", "https"}))
    return found


def outside(config: CameraConfig, site: SiteConfig) -> str:
    """The first numeric address of the camera that camera_networks do not hold, "" if there is none; names are checked when resolved."""
    networks = [ipaddress.ip_network(network) for network in site.recording.camera_networks]
    for stream in (config.main, config.sub):
        parts = urlsplit(stream.url) if stream else urlsplit("")
        host = "" if parts.scheme == "udp" else parts.hostname      # where we listen: the source process looks at who sends
        try:
            address = ipaddress.ip_address(host or "")
        except ValueError:
            continue
        if not any(address in network for network in networks):
            return str(address)
    return ""


def describe_camera(record: CameraRecord) -> dict[str, Any]:
    """A camera for callers of the supervisor; no password."""
    return {"number": record.number, "owner": record.owner, "slot": record.slot, **camera_to_json(record.config)}


def describe_token(token: TokenRecord) -> dict[str, Any]:
    """A token for callers of the supervisor; no secret."""
    return {"number": token.number, "name": token.name, "scopes": sorted(token.scopes), "cameras": list(token.cameras),
            "partner": token.partner, "created_ns": token.created_ns, "expires_ns": token.expires_ns, "revoked_ns": token.revoked_ns,
            "rtsp": bool(token.login_md5)}


# --- arguments of calls

def text(args: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """A text of a call's arguments. Raises ConfigError if it is missing or none."""
    if key not in args and default is not None:
        return default
    return str(_take(args, key, str))


def whole(args: Mapping[str, Any], key: str) -> int:
    """A whole number, 0 if it is missing."""
    value = _take(args, key, int) if key in args else 0
    assert isinstance(value, int)
    return value


def texts(args: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A list of texts, empty if it is missing."""
    value = _take(args, key, tuple[str, ...]) if key in args else ()
    assert isinstance(value, tuple)
    return value


def _take(args: Mapping[str, Any], key: str, kind: object) -> object:
    if key not in args:
        raise ConfigError("is missing", where=f"call: {key}", remedy="see docs/architecture.md")
    return Table(CALL, "", args).take(key, kind)
