"""A strict reader of TOML tables: each value is checked for type and range, each key must be one that is known."""

import difflib
import math
import tomllib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Union, get_args, get_origin

from recorder.base.errors import ConfigError

FILE_BYTES_MAX = 4 << 20
TEXT_MAX = 4096
SHOWN_MAX = 60
UNSHOWN = frozenset({"password", "url"})    # values that may hold a secret are never repeated
WORDS: dict[object, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes", Path: "a path in quotes",
                            tuple: "a list of texts"}


def read_toml(file: Path) -> dict[str, object]:
    """The file's content. Raises ConfigError, with line and column where TOML itself is broken."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(file), remedy="name the right file with --config") from None
    if len(raw) > FILE_BYTES_MAX:
        raise ConfigError(f"is larger than {FILE_BYTES_MAX >> 20} MiB", where=str(file), remedy="this is no watchroom.toml")
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 at byte {error.start}", where=str(file), remedy="save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"is not valid TOML: {error}", where=str(file), remedy="mend that line") from None


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a file. `name` is its dotted name for messages, "" for the file's top level."""

    file: Path
    name: str
    values: Mapping[str, object]

    def error(self, key: str, message: str, remedy: str = "") -> ConfigError:
        """The error to raise for a key of this table."""
        dotted = ".".join(part for part in (self.name, key) if part)
        return ConfigError(message, where=f"{self.file}: {dotted}", remedy=remedy)

    def refuse_unknown(self, known: Iterable[str]) -> None:
        """Raises ConfigError for the first key that is not known, with the nearest that is."""
        names = sorted(known)
        for key in self.values:
            if key not in names:
                near = difflib.get_close_matches(key, names, 1, 0.5)
                remedy = f"did you mean {near[0]}?" if near else f"known here: {', '.join(names)}"
                raise self.error(key, "no such key", remedy)

    def take(self, key: str, kind: object, limits: tuple[float, float] | None = None) -> object:
        """The value of a key that is there, converted to `kind` (bool, int, float, str, Path, tuple[str, ...] or one of them | None)."""
        value, kind = self.values[key], without_none(kind)
        taken = self._convert(value, kind)
        if taken is None:
            shown = "" if key in UNSHOWN else f", not {shorten(value)}"
            raise self.error(key, f"must be {WORDS[get_origin(kind) or kind]}{shown}", "change the value")
        if limits and isinstance(taken, int | float) and not limits[0] <= taken <= limits[1]:
            raise self.error(key, f"must be from {limits[0]:g} to {limits[1]:g}, not {shorten(value)}", "change the value")
        return taken

    def _convert(self, value: object, kind: object) -> object:
        """The value as `kind`, None if it is none."""
        if kind is Path:
            return self.file.absolute().parent / str(value) if value and plain_text(value) else None
        if get_origin(kind) is tuple:
            return tuple(value) if isinstance(value, list) and all(plain_text(item) for item in value) else None
        if kind is str:
            return value if plain_text(value) else None
        return number(value, kind)

    def table(self, key: str) -> "Table | None":
        """The table under a key, None if there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(key, f"must be a table, not {shorten(value)}", f"write it as [{key}] or {{ ... }}")
        return Table(self.file, ".".join(part for part in (self.name, key) if part), value)

    def tables(self, key: str) -> "list[Table]":
        """The tables of an array of tables."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, "must be an array of tables", f"write each as [[{key}]]")
        name = ".".join(part for part in (self.name, key) if part)
        return [Table(self.file, f"{name}[{number}]", item) for number, item in enumerate(value, 1)]


def without_none(kind: object) -> object:
    """X of a type X | None; other types as they are."""
    if get_origin(kind) in {types.UnionType, Union}:
        return next(part for part in get_args(kind) if part is not type(None))
    return kind


def number(value: object, kind: object) -> object:
    """The value as bool, int or finite float, None if it is none; TOML's true is no number."""
    if kind is bool or isinstance(value, bool):
        return value if isinstance(value, bool) and kind is bool else None
    if kind is float and isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    return value if isinstance(value, int) else None


def plain_text(value: object) -> bool:
    """True for a text of sensible length without control characters."""
    return isinstance(value, str) and len(value) <= TEXT_MAX and all(char.isprintable() for char in value)


def shorten(value: object) -> str:
    """A value as a message shows it."""
    text = f'"{value}"' if isinstance(value, str) else str(value)
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 3] + "..."
