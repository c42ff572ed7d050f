"""A volume: one folder on one file system, named by volume.json.

Everything below it is opened from `dir_fd` and never through a symlink.
"""

import datetime
import errno
import fcntl
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from recorder.base.errors import VolumeError
from storage.document import parsed
from storage.layout import CLASSES, FORMAT_VERSION
from storage.numbered import file_names

ROOT = Path("/")
VOLUME_JSON = "volume.json"
VOLUME_JSON_MAX = 64 << 10
TAPE_ROOT = "tape.zarr"
IDX_ROOT = "idx"
DEFAULT_SHARE = 0.9
BYTES_MAX = 1 << 62
_GROUP = {"attributes": {}, "zarr_format": 3, "node_type": "group"}


@dataclass(slots=True)
class Volume:
    """An open volume. `bytes_max` is what its chunk files may take in all; `dir_fd` lives until `close`."""

    path: Path
    uuid: UUID
    dir_fd: int
    bytes_max: int
    created: str
    lock_fd: int = -1

    @classmethod
    def init(cls, path: Path | str, *, bytes_max: int = 0, on_root: bool = False) -> "Volume":
        """Make `path` (created if missing, must be empty of tapes) a volume; returns it open and unlocked. Pre-fills nothing."""
        path = Path(path)
        if not 0 <= bytes_max <= BYTES_MAX:
            raise VolumeError(f"{bytes_max} bytes are no size for a volume", where=str(path), remedy="give it no more than the disk has")
        path.mkdir(parents=True, exist_ok=True)
        _refuse_root(path, on_root)
        if (path / VOLUME_JSON).exists():
            raise VolumeError("this is a volume already", where=str(path), remedy="use it as it is, or name an empty folder")
        if (path / TAPE_ROOT).exists():
            raise VolumeError("tapes without a volume.json", where=str(path), remedy="restore volume.json from a backup")
        fs = os.statvfs(path)
        size = bytes_max or int(fs.f_blocks * fs.f_frsize * DEFAULT_SHARE)
        text = {
            "format": FORMAT_VERSION, "uuid": str(uuid4()), "bytes_max": size,
            "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "chunk_classes": [{"number": c.number, "name": c.name, "file_bytes": c.file_bytes, "inner_bytes": c.inner_bytes,
                               "inner_count": c.inner_count} for c in CLASSES],
        }
        fd = _open_dir(path)
        try:
            os.mkdir(TAPE_ROOT, 0o750, dir_fd=fd)
            os.mkdir(IDX_ROOT, 0o750, dir_fd=fd)
            write_file(fd, f"{TAPE_ROOT}/zarr.json", json.dumps(_GROUP, indent=2).encode())
            write_file(fd, VOLUME_JSON, json.dumps(text, indent=1).encode())
        except OSError as error:
            raise _readable(path, error) from error
        finally:
            os.close(fd)
        return cls.open(path, on_root=on_root, lock=False)

    @classmethod
    def open(cls, path: Path | str, *, uuid: str = "", on_root: bool = False, lock: bool = True,
             write: bool | None = None) -> "Volume":
        """Open a volume; `lock` keeps every other locking opener out until `close`.

        `write` (default: as `lock`) refuses a read-only file system.
        VolumeError: missing, foreign, newer, locked, read-only, on root.
        """
        path = Path(path)
        try:
            fd = _open_dir(path)
        except OSError as error:
            raise _readable(path, error) from error
        try:
            volume = _read(path, fd, uuid)
            _refuse_root(path, on_root)
            if lock if write is None else write:
                _refuse_read_only(path, fd)
            if lock:
                volume.lock_fd = _lock(path, fd)
        except BaseException:
            os.close(fd)
            raise
        return volume

    def open_file(self, name: str, flags: int, mode: int = 0o640) -> int:
        """A descriptor of the file `name` (relative), never through a symlink at its last part. OSError as os.open."""
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self.dir_fd)

    def make_dirs(self, name: str, *, durable: bool = True) -> None:
        """Make the folder `name` and those above it; `durable`: known to their parents on return, else with the next commit."""
        parts = name.split("/")
        for depth in range(1, len(parts) + 1):
            part = "/".join(parts[:depth])
            try:
                os.mkdir(part, 0o750, dir_fd=self.dir_fd)
            except FileExistsError:
                continue
            if durable:
                fsync_dir(self.dir_fd, part.rpartition("/")[0] or ".")

    def write_file(self, name: str, data: bytes) -> None:
        """Replace the file `name` durably and at once: temporary file, fsync, rename, fsync of the folder."""
        write_file(self.dir_fd, name, data)

    def rename(self, old: str, new: str) -> None:
        """Rename within the volume."""
        os.rename(old, new, src_dir_fd=self.dir_fd, dst_dir_fd=self.dir_fd)

    def link(self, old: str, new: str) -> None:
        """Give the file `old` a second name."""
        os.link(old, new, src_dir_fd=self.dir_fd, dst_dir_fd=self.dir_fd, follow_symlinks=False)

    def names(self, name: str) -> int:
        """How many names the file has. FileNotFoundError."""
        return os.stat(name, dir_fd=self.dir_fd, follow_symlinks=False).st_nlink

    def unlink(self, name: str) -> None:
        """Remove the file `name`; none is fine."""
        try:
            os.unlink(name, dir_fd=self.dir_fd)
        except FileNotFoundError:
            pass

    def list_dir(self, name: str) -> list[str]:
        """The names in the folder `name`, sorted; [] if there is none."""
        try:
            fd = self.open_file(name, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return []
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def list_files(self, name: str) -> list[str]:
        """The names of the regular files in the folder `name`, sorted; [] if there is none."""
        try:
            fd = self.open_file(name, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return []
        try:
            return file_names(fd)
        finally:
            os.close(fd)

    def exists(self, name: str) -> bool:
        """True if `name` is there."""
        try:
            os.stat(name, dir_fd=self.dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def is_folder(self, name: str) -> bool:
        """True if `name` is a folder, and no symlink to one. FileNotFoundError."""
        return stat.S_ISDIR(os.stat(name, dir_fd=self.dir_fd, follow_symlinks=False).st_mode)

    def check_mounted(self) -> None:
        """OSError if something else lies at the volume's path now, or nothing."""
        here = os.fstat(self.dir_fd)
        try:
            there = os.stat(self.path)
        except OSError as error:
            raise OSError(errno.ESTALE, f"is not at its path any more ({error.strerror})") from error
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            raise OSError(errno.ESTALE, "is not mounted at its path any more")

    def check_takes(self, name: str) -> None:
        """OSError if the file system does not take a small file `name`, durably. Leaves nothing behind."""
        fd = self.open_file(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(fd, bytes(4096))
            os.fsync(fd)
        finally:
            os.close(fd)
            self.unlink(name)

    def close(self) -> None:
        """Give up the descriptor and the lock."""
        for fd in (self.lock_fd, self.dir_fd):
            if fd >= 0:
                os.close(fd)
        self.lock_fd = self.dir_fd = -1


def write_file(dir_fd: int, name: str, data: bytes) -> None:
    """Replace a small file durably: temporary file beside it, fsync, rename, fsync of the folder."""
    temporary = f"{name}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640, dir_fd=dir_fd)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    fsync_dir(dir_fd, name.rpartition("/")[0] or ".")


def fsync_dir(dir_fd: int, name: str) -> None:
    """Make the names in a folder durable."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _open_dir(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _read(path: Path, fd: int, uuid: str) -> Volume:
    try:
        file = os.open(VOLUME_JSON, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    except FileNotFoundError:
        raise VolumeError("no volume.json here", where=str(path),
                          remedy="is the disk mounted? make a new volume with `watchroom volume init`") from None
    except OSError as error:
        raise _readable(path, error) from error
    try:
        raw = os.read(file, VOLUME_JSON_MAX) if is_regular(file) else b""
    finally:
        os.close(file)
    return _parse(path, fd, raw, uuid)


def _parse(path: Path, fd: int, raw: bytes, uuid: str) -> Volume:
    try:
        text = parsed(raw)
        number, found, size, created = int(text["format"]), UUID(text["uuid"]), int(text["bytes_max"]), str(text["created"])
        if number < 1 or not 0 < size <= BYTES_MAX or not created.isprintable():
            raise ValueError("out of range")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise VolumeError(f"volume.json cannot be understood ({type(error).__name__})", where=str(path),
                          remedy="restore it from a backup") from error
    if number > FORMAT_VERSION:
        raise VolumeError(f"the volume has format {number}, this program knows up to {FORMAT_VERSION}", where=str(path),
                          remedy="use a newer version of Watchroom")
    if uuid and found != UUID(uuid):
        raise VolumeError(f"another volume is mounted here: its UUID is {found}, configured is {uuid}", where=str(path),
                          remedy="mount the right disk, or correct `uuid` in the configuration")
    known = [{"number": c.number, "name": c.name, "file_bytes": c.file_bytes, "inner_bytes": c.inner_bytes,
              "inner_count": c.inner_count} for c in CLASSES]
    if text.get("chunk_classes") != known:
        raise VolumeError("volume.json names other chunk classes than this program knows", where=str(path),
                          remedy="restore volume.json from a backup, or use the version of Watchroom that made it")
    return Volume(path, found, fd, size, created)


def _refuse_root(path: Path, on_root: bool) -> None:
    if not on_root and os.stat(path).st_dev == os.stat(ROOT).st_dev:
        raise VolumeError("the volume lies on the root file system", where=str(path),
                          remedy="mount a disk there, or set on_root = true if that is meant")


def _refuse_read_only(path: Path, fd: int) -> None:
    if os.fstatvfs(fd).f_flag & os.ST_RDONLY or not os.access(path, os.W_OK):
        raise VolumeError("the volume is read-only", where=str(path), remedy="mount it writable for the user of this service")


def _lock(path: Path, fd: int) -> int:
    file = os.open(VOLUME_JSON, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise VolumeError("the volume is in use by another process", where=str(path),
                          remedy="stop the other `watchroom serve` first") from None
    return file


def _readable(path: Path, error: OSError) -> VolumeError:
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return VolumeError("no such folder", where=str(path), remedy="mount the disk, or make one with `watchroom volume init`")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return VolumeError("this user may not read or write there", where=str(path),
                           remedy="run this as the user of the service, or as one of its group")
    if error.errno == errno.EROFS:
        return VolumeError("the volume is read-only", where=str(path), remedy="mount it writable for the user of this service")
    if error.errno == errno.ELOOP:
        return VolumeError("a symlink where a file belongs", where=str(path), remedy="remove it; volumes hold no symlinks")
    return VolumeError(os.strerror(error.errno or 0), where=str(path), remedy="check the disk and the system log")


def is_regular(fd: int) -> bool:
    """True if `fd` is a regular file (not a device or pipe put in its place)."""
    return stat.S_ISREG(os.fstat(fd).st_mode)
