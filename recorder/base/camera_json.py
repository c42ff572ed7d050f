"""A camera's configuration as JSON: in the catalogue, on control sockets, in requests. One form, checked by the rules of the TOML file."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recorder.base.config import CameraConfig
from recorder.base.config_file import read_camera
from recorder.base.errors import ConfigError
from recorder.base.media import ID_PATTERN, valid_id
from recorder.base.toml_table import Table, shorten


def camera_to_json(camera: CameraConfig, *, secrets: bool = False) -> dict[str, Any]:
    """All fields, absent ones as None; `password` only with `secrets`."""
    fields = asdict(camera)
    if not secrets:
        del fields["password"]
    return fields


def camera_from_json(values: Mapping[str, Any], where: str = "request") -> CameraConfig:
    """The camera that `camera_to_json` described, or somebody else wrote: strict as the TOML file, ConfigError with the field's name.

    None counts as absent. `where` stands before the field in messages.
    """
    present = without_nulls(values)
    name = present.get("id")
    if not valid_id(name if isinstance(name, str) else ""):
        raise ConfigError(f"{shorten(name)} does not match {ID_PATTERN.pattern}", where=f"{where}: id",
                          remedy="use small letters, digits and dashes")
    return read_camera(Table(Path(where), "", present), plain_password, ())


def plain_password(table: Table) -> str:
    """The password as the table holds it: these channels are ours alone, or TLS's."""
    return str(table.take("password", str)) if "password" in table.values else ""


def without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    """The table without None, on every level."""
    return {key: without_nulls(value) if isinstance(value, Mapping) else value for key, value in values.items() if value is not None}
