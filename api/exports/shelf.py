"""The folder of exports: one folder per job with its record, its file and what leads there. Every change is whole or not there.

    FOLDER/lock  audit.jsonl  reserve    the last is room for records on a full disk: without it nothing could be deleted there any more
    FOLDER/<id>/job.json                 the record; the API process alone writes it
    FOLDER/<id>/lock plan.npz mark.json part     what the job's process works with (api/exports/worker.py)
    FOLDER/<id>/result manifest.json made.json   what it has made
"""

import errno
import fcntl
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from api.exports.job import Job, Result, from_json, to_json
from recorder.base.errors import ConfigError, Conflict

log = logging.getLogger("watchroom.exports")
T = TypeVar("T")

RECORD, LOCK, PLAN, MARK, PART = "job.json", "lock", "plan.npz", "mark.json", "part"
RESULT, MANIFEST, MADE = "result", "manifest.json", "made.json"
AUDIT, RESERVE = "audit.jsonl", "reserve"
RESERVE_BYTES = 4 << 20
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
ID = re.compile(r"[0-9a-f]{32}")


def write_whole(path: Path, data: bytes, *, durable: bool = True) -> None:
    """The file with these bytes or, after a crash, as it was; with `durable` also after a power cut."""
    fresh = path.with_name(path.name + ".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    fresh.replace(path)
    if durable:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Names in the folder are durable on return."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Shelf:
    """See the module. Waits for the disk: never on the loop. `open` before anything else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = -1
        self._aside = False         # whether there is room set aside

    def open(self) -> list[Job]:
        """Make the folder if it is missing, keep other processes out, and read all records, the oldest first. ConfigError, Conflict."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot be used: {error.strerror}", where="exports.folder", remedy="name one that this user may write") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise Conflict("another process uses it", where="exports.folder", remedy="give each site a folder of its own") from None
        self.set_room_aside()
        names = [name for name in sorted(os.listdir(self.folder)) if ID.fullmatch(name)]       # what else lies here is not ours to take away
        return [job for name in names if (self.folder / name).is_dir() and (job := self._read(name)) is not None]

    def close(self) -> None:
        """Let others in."""
        fd, self._lock = self._lock, -1
        if fd >= 0:
            os.close(fd)

    def put(self, job: Job) -> None:
        """Write the record down, durably."""
        self._write(self._put, job)

    def _put(self, job: Job) -> None:
        folder = self.folder / job.id
        if not folder.exists():
            folder.mkdir(mode=0o700)
            sync_folder(self.folder)
        write_whole(folder / RECORD, json.dumps(to_json(job)).encode())

    def made(self, job_id: str) -> Result | None:
        """What the job's process says that it has made, None until it has."""
        try:
            return Result(**json.loads((self.folder / job_id / MADE).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def clear(self, job_id: str) -> None:
        """Take away everything of a job but its record and its lock; all of it may be gone already."""
        folder = self.folder / job_id
        for path in list(folder.iterdir()) if folder.exists() else []:
            if path.name not in {RECORD, LOCK}:
                path.unlink(missing_ok=True)

    def remove(self, job_id: str) -> None:
        """Take the job away, its record first."""
        (self.folder / job_id / RECORD).unlink(missing_ok=True)
        shutil.rmtree(self.folder / job_id, ignore_errors=True)

    def free_bytes(self) -> int:
        """What the folder's file system still takes."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def note(self, entry: Mapping[str, Any]) -> None:
        """Add a line to the audit, durably, or none of it."""
        self._write(self._note, entry)

    def _note(self, entry: Mapping[str, Any]) -> None:
        fd = os.open(self.folder / AUDIT, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            cut_off = size > 0 and os.pread(fd, 1, size - 1) != b"\n"       # by a power cut; it must not swallow the next line
            line = b"\n" * cut_off + json.dumps(entry).encode() + b"\n"
            try:
                while line:
                    line = line[os.write(fd, line):]
            except OSError:
                os.ftruncate(fd, size)
                raise
            os.fdatasync(fd)
        finally:
            os.close(fd)

    def set_room_aside(self) -> None:
        """See that there is room for records when the disk has none any more; a full disk gets it back later."""
        if self._aside:
            return
        fd = os.open(self.folder / RESERVE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, RESERVE_BYTES)
            self._aside = True
        except OSError:
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)

    def _write(self, work: Callable[[T], None], what: T) -> None:
        """Write a record; on a full disk in the room that was set aside."""
        try:
            work(what)
        except OSError as error:
            if error.errno not in NO_SPACE or not self._give_room():
                raise
            work(what)

    def _give_room(self) -> bool:
        """True if there was room set aside; now it is free."""
        given, self._aside = self._aside, False
        if given:
            os.truncate(self.folder / RESERVE, 0)
        return given

    def _read(self, name: str) -> Job | None:
        """The job of a folder; what has no record was never acknowledged, or is being removed, and goes."""
        path = self.folder / name / RECORD
        if not path.exists():
            shutil.rmtree(self.folder / name, ignore_errors=True)
            return None
        try:
            job = from_json(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("the record of export %s cannot be read (%s) and is left alone", name, type(error).__name__)
            return None
        return job if job.id == name else None
