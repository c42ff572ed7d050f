"""What the catalogue says of a camera and a token, as values, and their forms at rest."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from recorder.base.config import CameraConfig, RetentionRule, StreamConfig, TrackRule
from recorder.base.errors import FormatError
from recorder.base.media import valid_id

OWNERS = ("file", "api")
SCOPES = frozenset({"view", "export", "hold", "admin", "metrics"})


@dataclass(frozen=True, slots=True)
class CameraRecord:
    """A camera: `number` never changes and is never given again; `removed_ns` None while it is wanted.

    The `config` of a camera owned by the file holds no password and no user: those stay in the file.
    """

    number: int
    id: str
    owner: str
    slot: int
    config: CameraConfig
    added_ns: int
    removed_ns: int | None = None


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token without its secret. `cameras` (ids) and `partner` narrow it; empty means all. `expires_ns` 0: never."""

    number: int
    name: str
    scopes: frozenset[str]
    cameras: tuple[str, ...]
    partner: str
    created_ns: int
    expires_ns: int
    revoked_ns: int | None
    sha256: bytes = dataclasses.field(default=b"", repr=False)
    login_md5: bytes = dataclasses.field(default=b"", repr=False)       # storage/digest_login.py; of older tokens empty
    login_sha256: bytes = dataclasses.field(default=b"", repr=False)

    def valid(self, wall_ns: int) -> bool:
        """True while it is neither revoked nor expired."""
        return self.revoked_ns is None and (self.expires_ns == 0 or wall_ns < self.expires_ns)

    def allows(self, scope: str) -> bool:
        """True if the token bears the scope; `admin` bears every other one."""
        return scope in self.scopes or "admin" in self.scopes

    def sees(self, camera: str, partner: str) -> bool:
        """True if the token may touch a camera of this id and partner."""
        return (not self.cameras or camera in self.cameras) and (not self.partner or self.partner == partner)


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """A volume that cameras have been given to. `added`: while the server ran, not by the configuration; `drain`: asked for then."""

    uuid: str
    path: str
    weight: float
    on_root: bool = False
    added: bool = False
    drain: bool = False


def declared_kbps(config: CameraConfig) -> int:
    """What the camera's streams are declared to send together, at least 1: a disabled camera may come back, so it counts as well."""
    return max(1, config.main.kbps + (config.sub.kbps if config.sub is not None else 0))


def valid_scope(scope: str) -> bool:
    """True for a known scope or `publish:<camera>`."""
    return scope in SCOPES or (scope.startswith("publish:") and valid_id(scope.removeprefix("publish:")))


def dump_config(config: CameraConfig, owner: str) -> str:
    """The configuration as JSON; without credentials for a camera owned by the file."""
    document = dataclasses.asdict(config)
    if owner == "file":
        document.update(user="", password="")
    return json.dumps(document, separators=(",", ":"))


def load_config(text: str) -> CameraConfig:
    """The inverse; keys of a later version are left out. Raises FormatError."""
    try:
        document = json.loads(text)
        known = {field.name: document[field.name] for field in dataclasses.fields(CameraConfig) if field.name in document}
        known["main"] = _stream(document["main"])
        known["sub"] = _stream(document["sub"]) if document.get("sub") else None
        known["rule"] = _rule(document["rule"]) if document.get("rule") else None
        return CameraConfig(**known)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FormatError("a camera's record cannot be understood", where="catalogue", remedy="restore it from a backup") from None


def _rule(document: dict[str, Any]) -> RetentionRule:
    known: dict[str, Any] = {key: TrackRule(**value) if isinstance(value, dict) else value for key, value in document.items()}
    return RetentionRule(**known)


def _stream(document: dict[str, Any]) -> StreamConfig:
    return StreamConfig(url=str(document["url"]), kbps=int(document["kbps"]), transport=str(document.get("transport", "tcp")),
                        ceiling_kbps=int(document.get("ceiling_kbps", 0)), reorder_ms=int(document.get("reorder_ms", 100)))
