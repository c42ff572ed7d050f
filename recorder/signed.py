"""What is known of the signing of a site's volumes: how the last one went, and which documents were the newest (state_dir/signed.json)."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recorder.base.errors import FormatError

SIGNED_MAX = 1 << 20
MESSAGE_MAX = 300


@dataclass(frozen=True, slots=True)
class Signed:
    """How it went with one volume: documents and new seals, or what is wrong, in one line. `signed_ns`: the newest document's time, 0: none."""

    volume: int
    seals: int = 0
    documents: int = 0
    signed_ns: int = 0
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class LastSigned:
    """The newest document of the volume at `path`: its number, its digest in hex, its time in UTC ns."""

    path: str
    sequence: int
    digest: str
    signed_ns: int


def said(results: list[Signed]) -> str:
    """The results for the supervisor, one line."""
    return json.dumps([asdict(one) | {"wrong": one.wrong[:MESSAGE_MAX]} for one in results])


def heard(line: bytes) -> list[Signed]:
    """The inverse; ValueError, TypeError."""
    values: list[dict[str, Any]] = json.loads(line)
    return [Signed(**one) for one in values]


def read_last(file: Path) -> dict[str, LastSigned]:
    """By the volumes' UUIDs; empty if nothing was ever signed. FormatError if the file cannot be understood, OSError."""
    try:
        raw = file.read_bytes()[:SIGNED_MAX]
    except FileNotFoundError:
        return {}
    try:
        return {str(uuid): LastSigned(str(one["path"]), int(one["sequence"]), str(one["digest"]), int(one["signed_ns"]))
                for uuid, one in json.loads(raw).items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FormatError("cannot be understood", where=file.name,
                          remedy="restore it from a backup; without it nobody knows which documents were the newest") from None


def write_last(file: Path, known: Mapping[str, LastSigned]) -> None:
    """Whole and durable under its name, or as it was."""
    made = file.with_suffix(".new")
    with made.open("w") as opened:
        json.dump({uuid: asdict(one) for uuid, one in known.items()}, opened, indent=1)
        opened.flush()
        os.fsync(opened.fileno())
    made.rename(file)
