"""zarr.json of groups and tracks that are damaged or missing: what is there goes aside, a new one is written. Of `watchroom check --repair`."""

import os

from recorder.base.errors import FormatError
from recorder.base.media import TrackKind
from storage import zarrmeta
from storage.aside import Aside
from storage.check_journal import known_tapes
from storage.chunkfile import read_head
from storage.layout import HELD, LARGE, ChunkClass, track_path
from storage.volume import Volume
from storage.zarrmeta import META

DIGITS_MAX = 12         # of a chunk's number: 16 EB of tape
Kinds = dict[tuple[int, str], TrackKind]


def repair_documents(volume: Volume, aside: Aside, done: list[str], left: list[str]) -> None:
    """Adds to `done` the documents that were written anew, to `left` those of tracks whose kind nothing tells. OSError."""
    known = known_tapes(volume.path)
    for camera in zarrmeta.list_cameras(volume.dir_fd):
        _groups(volume, aside, camera, done)
        held = [name + HELD for name in zarrmeta.list_held(volume.dir_fd, camera)]
        for name in [*zarrmeta.list_folders(volume.dir_fd, camera), *held]:
            _track(volume, aside, camera, name, known, done, left)


def _groups(volume: Volume, aside: Aside, camera: int, done: list[str]) -> None:
    for group in zarrmeta.groups(camera):
        if not zarrmeta.is_group(volume.dir_fd, group):
            _away(volume, aside, f"{group}/{META}", "is not the group it should be")
            done.append(f"{group}/{META}")
    zarrmeta.create_groups(volume.dir_fd, camera)


def _track(volume: Volume, aside: Aside, camera: int, name: str, known: Kinds, done: list[str], left: list[str]) -> None:
    where = f"{track_path(camera, name)}/{META}"
    try:
        zarrmeta.read_track(volume.dir_fd, camera, name)
        return
    except FileNotFoundError:
        why = "is missing"
    except FormatError as failed:
        why = failed.message
    names = volume.list_dir(f"{track_path(camera, name)}/c")
    numbers = [int(one) for one in names if one.isascii() and one.isdigit() and len(one) <= DIGITS_MAX]
    kind = known.get((camera, name.removesuffix(HELD))) or _kind(volume, camera, name, numbers)
    if kind is None:
        left.append(f"{where}: {why}, and neither a journal nor a chunk tells of what kind the track is; move its folder away")
        return
    _away(volume, aside, where, why)
    zarrmeta.create_track(volume.dir_fd, camera, name, kind)
    zarrmeta.extend_shape(volume.dir_fd, camera, name, max(numbers, default=0) + 1)
    done.append(where)


def _away(volume: Volume, aside: Aside, path: str, why: str) -> None:
    if volume.exists(path):
        aside.move(path, why)


def _kind(volume: Volume, camera: int, name: str, numbers: list[int]) -> TrackKind | None:
    """By the class of its chunks, and its name; None if no chunk tells."""
    for number in numbers:
        found = _class(volume, f"{track_path(camera, name)}/c/{number}")
        if found is not None:
            small = TrackKind.METADATA if name.removesuffix(HELD) == "metadata" else TrackKind.AUDIO
            return TrackKind.VIDEO if found is LARGE else small
    return None


def _class(volume: Volume, path: str) -> ChunkClass | None:
    try:
        fd = volume.open_file(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return read_head(fd, path).chunk_class
    except (FormatError, OSError):
        return None
    finally:
        os.close(fd)
