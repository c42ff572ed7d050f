"""The catalogue: cameras and tokens in SQLite (WAL, synchronous=FULL). One writer, the supervisor; everybody else opens it read-only.

Camera numbers are given once and for ever: tapes bear them. An id is a name; after its camera was removed it may be given to a new number.
Tokens are kept as SHA-256 of their secret, which is shown once, and as what a login by Digest needs (storage/digest_login.py).
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from recorder.base.clock import Clock
from recorder.base.config import CameraConfig
from recorder.base.errors import ConfigError, Conflict, FormatError, NotFound, StorageError
from recorder.base.media import valid_id
from storage.camera_record import OWNERS, CameraRecord, TokenRecord, VolumeRecord, declared_kbps, dump_config, load_config, valid_scope
from storage.digest_login import logins
from storage.hold import Hold, hold_from_json, hold_to_json

SCHEMA_VERSION = 1
APPLICATION_ID = 0x57_52_43_31      # "WRC1"
BUSY_MS = 5_000
PREFIX = "wr_"                # of tokens: lets people, and scanners of logs and code, see what it is
_SCHEMA = """
CREATE TABLE camera (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL,
  owner TEXT NOT NULL CHECK (owner IN ('file', 'api')),
  slot INTEGER NOT NULL,
  config TEXT NOT NULL,
  added_ns INTEGER NOT NULL,
  removed_ns INTEGER
);
CREATE UNIQUE INDEX camera_id ON camera (id) WHERE removed_ns IS NULL;
CREATE TABLE token (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  sha256 BLOB NOT NULL UNIQUE,
  scopes TEXT NOT NULL,
  cameras TEXT NOT NULL,
  partner TEXT NOT NULL,
  created_ns INTEGER NOT NULL,
  expires_ns INTEGER NOT NULL,
  revoked_ns INTEGER
);
"""
# Came later, and older versions do without: which volume a camera records to, and what was said of volumes while the server ran.
_VOLUMES = """
CREATE TABLE IF NOT EXISTS home (camera INTEGER PRIMARY KEY, volume TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS volume (
  uuid TEXT PRIMARY KEY,
  path TEXT NOT NULL,
  weight REAL NOT NULL,
  on_root INTEGER NOT NULL,
  added INTEGER NOT NULL,
  drain INTEGER NOT NULL
);
"""
# Came later as well: what a token is known by in a login by Digest (storage/digest_login.py).
_LOGIN = "CREATE TABLE IF NOT EXISTS login (token INTEGER PRIMARY KEY, md5 BLOB NOT NULL, sha256 BLOB NOT NULL)"
_HOLD = "CREATE TABLE IF NOT EXISTS hold (id TEXT PRIMARY KEY, hold TEXT NOT NULL)"      # came later than version 1, which ignores it
_CAMERA = "SELECT number, id, owner, slot, config, added_ns, removed_ns FROM camera"
_TOKEN = "SELECT number, name, scopes, cameras, partner, created_ns, expires_ns, revoked_ns, sha256 FROM token"  # noqa: S105


class Catalogue:
    """One connection, for one thread. `open(write=True)` is the supervisor's and keeps every other writer out."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock, lock_fd: int) -> None:
        self._db, self._clock, self._lock_fd = connection, clock, lock_fd

    @classmethod
    def open(cls, path: Path, clock: Clock, *, write: bool = False) -> "Catalogue":
        """Open the catalogue; `write` makes it if there is none.

        Raises Conflict if another process writes to it, NotFound if there is none to read, FormatError if it is not ours or newer.
        """
        lock_fd = _lock(path) if write else -1
        try:
            return cls(_connect(path, write), clock, lock_fd)
        except BaseException:
            if lock_fd >= 0:
                os.close(lock_fd)
            raise

    def close(self) -> None:
        """Close the connection and give the writer's lock back; may be called twice."""
        self._db.close()
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def version(self) -> int:
        """A number that changes when another connection has changed something (a reader's cue to look again)."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    # -- cameras --

    def cameras(self, *, removed: bool = False) -> list[CameraRecord]:
        """All cameras by number; with `removed` also those whose footage may still be there."""
        where = "" if removed else " WHERE removed_ns IS NULL"
        return [_camera(row) for row in self._db.execute(f"{_CAMERA}{where} ORDER BY number")]

    def camera(self, camera_id: str) -> CameraRecord:
        """The camera that bears the id now; NotFound."""
        return self._one(f"{_CAMERA} WHERE id = ? AND removed_ns IS NULL", camera_id)

    def camera_by_number(self, number: int) -> CameraRecord:
        """The camera of this number, removed or not; NotFound."""
        return self._one(f"{_CAMERA} WHERE number = ?", number)

    def add_camera(self, config: CameraConfig, owner: str, slot: int) -> CameraRecord:
        """Add a camera under a new number; Conflict if the id is taken, ConfigError if it is not one."""
        if not valid_id(config.id) or owner not in OWNERS:
            raise ConfigError(f"{config.id!r} is no camera id", where="cameras", remedy="use a-z, 0-9 and -, at most 48, first no -")
        with self._change():
            try:
                number = self._db.execute(
                    "INSERT INTO camera (id, owner, slot, config, added_ns) VALUES (?, ?, ?, ?, ?)",
                    (config.id, owner, slot, dump_config(config, owner), self._clock.wall_ns())).lastrowid
            except sqlite3.IntegrityError:
                raise Conflict("a camera with this id exists", where=config.id, remedy="choose another id or remove that camera") from None
        return self.camera_by_number(int(number or 0))

    def change_camera(self, camera_id: str, config: CameraConfig, *, by: str = "api") -> CameraRecord:
        """Give the camera another configuration, perhaps another id; Conflict if `by` does not own it or the new id is taken."""
        with self._change():
            have = self._owned(camera_id, by)
            if not valid_id(config.id):
                raise ConfigError(f"{config.id!r} is no camera id", where=camera_id, remedy="use a-z, 0-9 and -, at most 48")
            try:
                self._db.execute("UPDATE camera SET id = ?, config = ? WHERE number = ?",
                                 (config.id, dump_config(config, have.owner), have.number))
            except sqlite3.IntegrityError:
                raise Conflict("a camera with this id exists", where=config.id, remedy="choose another id") from None
        return self.camera_by_number(have.number)

    def move_camera(self, camera_id: str, slot: int) -> CameraRecord:
        """Record that another slot owns the camera from now on."""
        with self._change():
            number = self.camera(camera_id).number
            self._db.execute("UPDATE camera SET slot = ? WHERE number = ?", (slot, number))
        return self.camera_by_number(number)

    def remove_camera(self, camera_id: str, *, by: str = "api") -> CameraRecord:
        """Stop and hide it; its number and footage stay. Conflict if `by` does not own it."""
        with self._change():
            have = self._owned(camera_id, by)
            self._db.execute("UPDATE camera SET removed_ns = ? WHERE number = ?", (self._clock.wall_ns(), have.number))
        return replace(self.camera_by_number(have.number))

    def adopt_file(self, configs: Iterable[CameraConfig], slots: int) -> list[CameraRecord]:
        """Make the cameras owned by the file those of `configs`; returns them in that order, each with its credentials from `configs`.

        New ids get a number and the least loaded slot, ids no longer named are removed. Conflict if the API owns an id. All or nothing.
        """
        wanted = list(configs)
        with self._change():
            have = {record.id: record for record in self.cameras()}
            for record in have.values():
                if record.owner == "file" and record.id not in {config.id for config in wanted}:
                    self.remove_camera(record.id, by="file")
            loads = self.loads(slots)
            for config in wanted:
                if config.id not in have:
                    slot = loads.index(min(loads))
                    loads[slot] += declared_kbps(config)
                    self.add_camera(config, "file", slot)
                elif dump_config(have[config.id].config, "file") != dump_config(config, "file") or have[config.id].owner != "file":
                    self.change_camera(config.id, config, by="file")
            return [replace(self.camera(config.id), config=config) for config in wanted]

    def least_loaded(self, slots: int) -> int:
        """The slot, 0 to slots - 1, whose worker's cameras have the lowest declared bit rates together."""
        loads = self.loads(slots)
        return loads.index(min(loads))

    def loads(self, slots: int) -> list[int]:
        """Declared kbit/s of each of `slots` workers. A camera of a slot beyond them is recorded by the worker that has its slot."""
        loads = [0] * max(slots, 1)
        for record in self.cameras():
            loads[record.slot % len(loads)] += declared_kbps(record.config)
        return loads

    # -- volumes --

    def homes(self) -> dict[int, str]:
        """UUID of the volume that each camera records to, by camera number."""
        return dict(self._db.execute("SELECT camera, volume FROM home")) if self._has("home") else {}

    def set_homes(self, homes: Mapping[int, str]) -> None:
        """The cameras of `homes` record there from now on."""
        with self._change():
            self._db.executemany("INSERT OR REPLACE INTO home (camera, volume) VALUES (?, ?)", homes.items())

    def volumes(self) -> list[VolumeRecord]:
        """What is known of volumes, in the order in which they came."""
        rows = self._db.execute("SELECT uuid, path, weight, on_root, added, drain FROM volume ORDER BY rowid") if self._has("volume") else ()
        return [VolumeRecord(uuid, path, weight, bool(on_root), bool(added), bool(drain)) for uuid, path, weight, on_root, added, drain in rows]

    def put_volume(self, record: VolumeRecord) -> None:
        """Know this of a volume; it keeps its place in the order."""
        with self._change():
            self._db.execute(
                "INSERT INTO volume (uuid, path, weight, on_root, added, drain) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (uuid) DO UPDATE SET "
                "path = excluded.path, weight = excluded.weight, on_root = excluded.on_root, added = excluded.added, drain = excluded.drain",
                (record.uuid, record.path, record.weight, record.on_root, record.added, record.drain))

    def _has(self, table: str) -> bool:
        return self._db.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone() is not None

    # -- tokens --

    def tokens(self) -> list[TokenRecord]:
        """All tokens by number, expired and revoked ones as well."""
        known = {row[0]: row[1:] for row in self._db.execute("SELECT token, md5, sha256 FROM login")} if self._has("login") else {}
        found = [_token(row) for row in self._db.execute(f"{_TOKEN} ORDER BY number")]
        return [replace(token, login_md5=known[token.number][0], login_sha256=known[token.number][1]) if token.number in known else token
                for token in found]

    def add_token(self, name: str, scopes: Iterable[str], *, cameras: Iterable[str] = (), partner: str = "",
                  expires_ns: int = 0) -> tuple[TokenRecord, str]:
        """A new token and its secret (256 bit, base64url), which nobody can be told again. ConfigError for an unknown scope."""
        wanted, ids = sorted(set(scopes)), sorted(set(cameras))
        unknown = [scope for scope in wanted if not valid_scope(scope)]
        if unknown or not wanted:
            raise ConfigError(f"unknown scope {unknown[0]!r}" if unknown else "a token needs a scope", where="token",
                              remedy="use view, export, hold, admin, metrics or publish:<camera>")
        if not all(map(valid_id, ids)):
            raise ConfigError("a token's cameras are camera ids", where="token", remedy="see `watchroom camera list`")
        secret = PREFIX + secrets.token_urlsafe(32)
        with self._change():
            number = self._db.execute(
                "INSERT INTO token (name, sha256, scopes, cameras, partner, created_ns, expires_ns) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (name, _digest(secret), json.dumps(wanted), json.dumps(ids), partner, self._clock.wall_ns(), expires_ns)).lastrowid
            self._db.execute("INSERT INTO login (token, md5, sha256) VALUES (?, ?, ?)", (number, *logins(secret)))
        return self.token(int(number or 0)), secret

    def token(self, number: int) -> TokenRecord:
        """A token by number; NotFound."""
        row = self._db.execute(f"{_TOKEN} WHERE number = ?", (number,)).fetchone()
        if row is None:
            raise NotFound("no such token", where=str(number), remedy="see `watchroom token list`")
        return _token(row)

    def revoke_token(self, number: int) -> TokenRecord:
        """Make the token worthless; a second time changes nothing. NotFound."""
        with self._change():
            self.token(number)
            self._db.execute("UPDATE token SET revoked_ns = ? WHERE number = ? AND revoked_ns IS NULL", (self._clock.wall_ns(), number))
        return self.token(number)

    def find_token(self, secret: str) -> TokenRecord | None:
        """The valid token that has this secret; None for an unknown, expired or revoked one."""
        if not secret or len(secret) > 256:
            return None
        row = self._db.execute(f"{_TOKEN} WHERE sha256 = ?", (_digest(secret),)).fetchone()
        found = _token(row) if row is not None else None
        return found if found is not None and found.valid(self._clock.wall_ns()) else None

    # -- holds: a copy of what the slots have (storage/holdshelf.py), so that each can be told what it has missed --

    def holds(self, after: str = "") -> Iterator[Hold]:
        """All holds by id, those behind `after`; released ones too."""
        for (text,) in self._db.execute("SELECT hold FROM hold WHERE id > ? ORDER BY id", (after,)):
            yield hold_from_json(json.loads(text))

    def hold(self, hold_id: str) -> Hold:
        """The hold of this id; NotFound."""
        row = self._db.execute("SELECT hold FROM hold WHERE id = ?", (hold_id,)).fetchone()
        if row is None:
            raise NotFound("there is no such hold", remedy="see the list of holds")
        return hold_from_json(json.loads(row[0]))

    def put_hold(self, hold: Hold) -> None:
        """Write a hold down, a new one or what has become of it."""
        with self._change():
            self._db.execute("INSERT INTO hold (id, hold) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET hold = excluded.hold",
                             (hold.id, json.dumps(hold_to_json(hold))))

    def now_ns(self) -> int:
        """UTC by the catalogue's clock."""
        return self._clock.wall_ns()

    # -- inside --

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        """One transaction, nested calls join it; undone as a whole by an exception."""
        if self._lock_fd < 0:
            raise StorageError("the catalogue was opened for reading", where="catalogue", remedy="ask the supervisor to change it")
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.rollback()
            raise
        self._db.commit()

    def _one(self, query: str, key: str | int) -> CameraRecord:
        row = self._db.execute(query, (key,)).fetchone()
        if row is None:
            raise NotFound("no such camera", where=str(key), remedy="see the list of cameras")
        return _camera(row)

    def _owned(self, camera_id: str, by: str) -> CameraRecord:
        have = self.camera(camera_id)
        if have.owner != by:
            raise Conflict(f"the camera is owned by the {'configuration file' if have.owner == 'file' else 'API'}", where=camera_id,
                           remedy="change it there")
        return have


def _lock(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise Conflict("another process writes to the catalogue", where=path.name, remedy="stop the other `watchroom serve`") from None
    return fd


def _connect(path: Path, write: bool) -> sqlite3.Connection:
    if write:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    elif not path.exists():
        raise NotFound("there is no catalogue", where=path.name, remedy="start `watchroom serve` once")
    mode = "rw" if write else "ro"
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_MS / 1000)
    except sqlite3.OperationalError as error:
        raise _unreadable(path, error) from None
    try:
        _prepare(db, write)
        _check_version(db, path, write)
        if write:
            db.executescript(_VOLUMES)
    except sqlite3.OperationalError as error:       # its disk, or somebody who holds it: the catalogue itself may be well
        db.close()
        raise _unreadable(path, error) from None
    except sqlite3.DatabaseError:
        db.close()
        raise FormatError("is not a catalogue", where=path.name, remedy="restore it from a backup") from None
    except BaseException:
        db.close()
        raise
    return db


def _unreadable(path: Path, error: sqlite3.Error) -> FormatError:
    return FormatError(f"cannot be read: {error}", where=path.name, remedy="look at the disk of state_dir and the system log, then try again")


def _prepare(db: sqlite3.Connection, write: bool) -> None:
    if write:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
    else:
        db.execute("PRAGMA query_only = ON")


def _check_version(db: sqlite3.Connection, path: Path, write: bool) -> None:
    _check_schema(db, path, write)
    if write:
        db.execute(_HOLD)
        db.execute(_LOGIN)


def _check_schema(db: sqlite3.Connection, path: Path, write: bool) -> None:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if version == 0 and empty and write:
        numbers = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
        db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} {numbers} COMMIT;")
        return
    if int(db.execute("PRAGMA application_id").fetchone()[0]) != APPLICATION_ID:
        raise FormatError("is not a catalogue", where=path.name, remedy="restore it from a backup")
    if version != SCHEMA_VERSION:
        raise FormatError(f"the catalogue has schema {version}, this version knows {SCHEMA_VERSION}", where=path.name,
                          remedy="use the version that wrote it")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _camera(row: tuple[int, str, str, int, str, int, int | None]) -> CameraRecord:
    number, camera_id, owner, slot, config, added_ns, removed_ns = row
    return CameraRecord(number, camera_id, owner, slot, replace(load_config(config), id=camera_id), added_ns, removed_ns)


def _token(row: tuple[int, str, str, str, str, int, int, int | None, bytes]) -> TokenRecord:
    number, name, scopes, cameras, partner, created_ns, expires_ns, revoked_ns, sha256 = row
    return TokenRecord(number, name, frozenset(json.loads(scopes)), tuple(json.loads(cameras)), partner, created_ns, expires_ns, revoked_ns,
                       sha256)
