"""Where a camera's password comes from: a file of its own, a systemd credential, or a TOML that nobody else can read."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import cast

from recorder.base.toml_table import Table, shorten

PASSWORD_BYTES_MAX = 1024
PASSWORD_KEYS = ("password", "password_file", "password_credential")


def read_password(table: Table) -> str:
    """The camera's password from whichever of the three keys is set; "" if none is."""
    keys = [key for key in PASSWORD_KEYS if key in table.values]
    if len(keys) > 1:
        raise table.error(keys[1], f"is set beside {keys[0]}", "set one of them")
    readers: dict[str, Callable[[Table], str]] = {
        "password": inline_password, "password_file": file_password, "password_credential": credential_password}
    return readers[keys[0]](table) if keys else ""


def inline_password(table: Table) -> str:
    """A password in the TOML itself: only if nobody else can read the file."""
    password = str(table.take("password", str))
    mode = stat.S_IMODE(table.file.stat().st_mode)
    if mode & 0o077:
        raise table.error("password", f"stands in a file that others can read (mode {mode:04o})",
                          f"run: chmod 600 {table.file}, or use password_file")
    return password


def file_password(table: Table) -> str:
    """The first line of a file of its own."""
    return first_line(table, "password_file", cast(Path, table.take("password_file", Path)))


def credential_password(table: Table) -> str:
    """A systemd credential (systemd.exec: LoadCredential=)."""
    name = str(table.take("password_credential", str))
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise table.error("password_credential", "is set, but systemd has passed no credentials",
                          f"add LoadCredential={name}:/path to the unit, or use password_file")
    if not name or "/" in name or name.startswith("."):
        raise table.error("password_credential", f"{shorten(name)} is no credential's name", "use the name after LoadCredential=")
    return first_line(table, "password_credential", Path(folder) / name)


def first_line(table: Table, key: str, path: Path) -> str:
    """A secret file's one line, without its line end."""
    try:
        with path.open("rb") as opened:
            raw = opened.read(PASSWORD_BYTES_MAX + 1)
    except OSError as error:
        raise table.error(key, f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from None
    try:
        text = raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        text = ""
    if not text or len(raw) > PASSWORD_BYTES_MAX or not text.isprintable():
        raise table.error(key, f"{path} does not hold one line of at most {PASSWORD_BYTES_MAX} bytes", "put only the password into it")
    return text


