"""The check of what tracks there are: each has its documents, and a journal that knows it; else nobody keeps a rule on it."""

import os
from collections.abc import Iterator
from pathlib import Path

from recorder.base.errors import FormatError
from storage import zarrmeta
from storage.check_journal import known_tapes
from storage.check_pending import Pending
from storage.chunkfile import parse_head, read_index
from storage.finding import Finding, error, warning
from storage.layout import HELD, PAGE, track_path
from storage.minutes import minutes_path
from storage.store import TapeStore
from storage.zarrmeta import META, REPAIR

UNKNOWN = "no journal knows it: no rule is kept on its footage, nothing retires it"
RESTORE = "has somebody moved it away? put it back while no server runs"
ADOPT = "record its camera to this volume, or end the server and run watchroom check --repair: it is put together from its files then"


def check_documents(path: Path) -> list[Finding]:
    """Documents of groups and of what holds have kept, and missing ones of tracks; those of tracks that are there their readers look at.
    A track without a chunk may lack any: the power may have failed while it was made.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return list(_documents(fd))
    finally:
        os.close(fd)


def _documents(fd: int) -> Iterator[Finding]:
    cameras = zarrmeta.list_cameras(fd)
    begun = {camera: any(zarrmeta.has_chunks(fd, camera, name) for name in zarrmeta.list_folders(fd, camera)) for camera in cameras}
    for group in sorted({group for camera in cameras if begun[camera] for group in zarrmeta.groups(camera)}):
        if not zarrmeta.is_group(fd, group):
            yield error(f"{group}/{META}", "is not the group it should be", REPAIR)
    for camera in cameras:
        there = {*zarrmeta.list_tracks(fd, camera)}
        for name in [*zarrmeta.list_folders(fd, camera), *(name + HELD for name in zarrmeta.list_held(fd, camera))]:
            if name in there:
                continue            # its reader says what is wrong with it
            try:
                zarrmeta.read_track(fd, camera, name)
            except FileNotFoundError:
                if zarrmeta.has_chunks(fd, camera, name):
                    yield error(f"{track_path(camera, name)}/{META}", "is missing", REPAIR)
            except FormatError as failed:
                yield error(failed.where, failed.message, failed.remedy)


def check_known(store: TapeStore, path: Path) -> list[Finding]:
    """Tracks with footage that no journal names, and no worker has in work. A journal may be read while it is written.

    A track that a crash took before its first commit holds nothing that was ever acknowledged: its camera goes on with it.
    """
    known = known_tapes(path)
    return [error(track_path(camera, name), UNKNOWN, ADOPT) for camera in store.cameras() for name in store.tracks(camera)
            if (camera, name) not in known and all(file.find(camera, name) is None for file in store.live_files() if _alive(file.pid))
            and any(map(_acknowledged, (path / track_path(camera, name) / "c").glob("[0-9]*")))]


def check_minutes(store: TapeStore, path: Path) -> list[Finding]:
    """What lies in place of figures by the minute."""
    folders = [path / minutes_path(camera, name) for camera in store.cameras() for name in store.tracks(camera)]
    return [warning(str(folder.relative_to(path)), "is no folder: figures by the minute are computed for each question", "move it away")
            for folder in folders if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir())]


def check_there(pending: Pending, path: Path) -> list[Finding]:
    """Tracks whose footage a journal speaks of, and of which nothing is there."""
    return [error(track_path(camera, name), "is gone, and the journal speaks of footage in it", RESTORE) for camera, name in pending.footage()
            if not (path / track_path(camera, name)).is_dir()]


def _alive(pid: int) -> bool:
    """True if the process that made a live file may still be there: what an ended one had in work, a journal must name."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _acknowledged(file: Path) -> bool:
    """True if a chunk is sealed, or its shard index shows something, or that cannot be told."""
    try:
        with file.open("rb") as opened:
            page = opened.read(PAGE)
        head = parse_head(page, file.name)
        marked = read_index(page, head.chunk_class)
    except FileNotFoundError:
        return False
    except (OSError, FormatError):
        return True
    return head.sealed or marked is None or bool(marked.any())
