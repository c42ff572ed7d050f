"""zarr.json of groups and arrays, written by us: temporary file, rename; durable with the next commit. A test has zarr itself make the same.

A track is a Zarr v3 array of uint8; a chunk file is one shard (`sharding_indexed`, index at the start, inner codec `bytes`): inner chunk
k lies at byte 4096 + k * inner_bytes, which the index says or denies. `shape` runs ahead of the tape in whole steps of SHAPE_STEP chunks.
"""

import errno
import json
import os
import re
import stat
from dataclasses import dataclass
from typing import Any

from recorder.base.errors import FormatError
from recorder.base.media import TrackKind, valid_id
from storage.document import parsed
from storage.layout import HELD, ChunkClass, class_of, track_path

SHAPE_STEP = 1024
META = "zarr.json"
META_MAX_BYTES = 64 << 10
CAMERA_MAX = (1 << 32) - 1
REPAIR = "end the server, then run watchroom check --repair: it writes it anew"
_CAMERA = re.compile(r"cam-([1-9][0-9]{0,9})")


@dataclass(frozen=True, slots=True)
class TrackMeta:
    """What a track's zarr.json says."""

    camera: int
    track: str
    kind: TrackKind
    chunk_class: ChunkClass
    chunks: int


def group_document() -> dict[str, Any]:
    """A Zarr v3 group."""
    return {"attributes": {}, "zarr_format": 3, "node_type": "group"}


def array_document(camera: int, track: str, kind: TrackKind, chunks: int) -> dict[str, Any]:
    """The array of a track whose shape covers `chunks` chunks, as zarr-python 3.1 writes it."""
    size = class_of(kind)
    little = {"name": "bytes"}
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    sharding = {"chunk_shape": [size.inner_bytes], "codecs": [little], "index_codecs": index, "index_location": "start"}
    return {
        "shape": [chunks * size.tape_bytes],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [size.tape_bytes]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {"watchroom": {"camera": camera, "track": track, "kind": kind.value}},
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def create_track(volume_fd: int, camera: int, track: str, kind: TrackKind, *, durable: bool = False) -> None:
    """Make the groups and the array of a track; leaves an existing array as it is. Nothing is waited for, since hundreds of tracks are made
    at once when a volume has failed: all is durable with the next commit, before which no footage is. A power cut earlier leaves a document
    whole, or empty, which is as good as none. `durable`: that of the array is on the disk on return.

    `volume_fd` is the descriptor of the volume's folder. Raises FormatError if the track exists with another kind.
    """
    path = track_path(camera, track)
    create_groups(volume_fd, camera)
    if not _ensure(volume_fd, path, array_document(camera, track, kind, SHAPE_STEP), durable=durable):
        found = read_track(volume_fd, camera, track)
        if found.kind is not kind:
            raise FormatError(f"holds {found.kind.value}, not {kind.value}", where=path, remedy="give the track another name")
    _folder(volume_fd, f"{path}/c")


def create_groups(volume_fd: int, camera: int) -> None:
    """Make the groups that a camera's tracks lie in, where there are none."""
    for group in groups(camera):
        _ensure(volume_fd, group, group_document())


def groups(camera: int) -> tuple[str, str]:
    """The folders of the groups that a camera's tracks lie in, outermost first."""
    return "tape.zarr", f"tape.zarr/cam-{camera}"


def ensure_array(volume_fd: int, path: str, document: dict[str, Any]) -> None:
    """Make an array that is not a track's beside one, or its document again if a power cut has damaged that. Nothing is waited for: it is
    durable with the next commit.
    """
    _folder(volume_fd, path)
    try:
        if _load(volume_fd, path) == document:
            return
    except (FileNotFoundError, FormatError):
        pass
    _write(volume_fd, path, document, durable=False)


def extend_shape(volume_fd: int, camera: int, track: str, chunks: int) -> bool:
    """Let the array's shape cover at least `chunks` chunks, rounded up to SHAPE_STEP; False if it does already. Durable on return."""
    meta = read_track(volume_fd, camera, track)
    if meta.chunks >= chunks:
        return False
    _write(volume_fd, track_path(camera, track), array_document(camera, track, meta.kind, -(-chunks // SHAPE_STEP) * SHAPE_STEP))
    _sync(volume_fd, track_path(camera, track))
    return True


def read_track(volume_fd: int, camera: int, track: str) -> TrackMeta:
    """What the track's zarr.json says; raises FileNotFoundError, or FormatError if it is not what `array_document` makes."""
    path = track_path(camera, track)
    document = _load(volume_fd, path)
    try:
        own = document["attributes"]["watchroom"]
        kind = TrackKind(own["kind"])
        chunks = int(document["shape"][0]) // class_of(kind).tape_bytes
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        raise FormatError("is not a track of this format", where=f"{path}/{META}", remedy=REPAIR) from None
    if document != array_document(camera, track, kind, chunks):
        raise FormatError("has been changed by somebody else", where=f"{path}/{META}", remedy=REPAIR)
    return TrackMeta(camera, track, kind, class_of(kind), chunks)


def is_group(volume_fd: int, path: str) -> bool:
    """True if the folder's zarr.json is that of a group."""
    try:
        return _load(volume_fd, path) == group_document()
    except (FormatError, FileNotFoundError):
        return False


def list_cameras(volume_fd: int) -> list[int]:
    """Numbers of the cameras that have a folder on the volume."""
    numbers = [int(match[1]) for name in _names(volume_fd, "tape.zarr") if (match := _CAMERA.fullmatch(name))]
    return sorted(number for number in numbers if number <= CAMERA_MAX)


def list_tracks(volume_fd: int, camera: int) -> list[str]:
    """Names of a camera's tracks that have a zarr.json."""
    base = f"tape.zarr/cam-{camera}"
    return sorted(name for name in _names(volume_fd, base) if "." not in name and _exists(volume_fd, f"{base}/{name}/{META}"))


def list_folders(volume_fd: int, camera: int) -> list[str]:
    """Names of the camera's folders that are, or should be, tracks."""
    base = f"tape.zarr/cam-{camera}"
    return sorted(name for name in _names(volume_fd, base) if valid_id(name) and _is_folder(volume_fd, f"{base}/{name}"))


def has_chunks(volume_fd: int, camera: int, track: str) -> bool:
    """True if a chunk lies in the track's folder: before, a power cut may leave any part of a track that was being made."""
    return bool(_names(volume_fd, f"{track_path(camera, track)}/c"))


def list_held(volume_fd: int, camera: int) -> list[str]:
    """Names of the camera's tracks of which holds have kept something."""
    return sorted(name.removesuffix(HELD) for name in _names(volume_fd, f"tape.zarr/cam-{camera}") if name.endswith(HELD))


def _names(volume_fd: int, path: str) -> list[str]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=volume_fd)
    except FileNotFoundError:
        return []
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def _exists(volume_fd: int, path: str) -> bool:
    try:
        return os.stat(path, dir_fd=volume_fd, follow_symlinks=False).st_size > 0
    except FileNotFoundError:
        return False


def _is_folder(volume_fd: int, path: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path, dir_fd=volume_fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _load(volume_fd: int, path: str) -> dict[str, Any]:
    fd = os.open(f"{path}/{META}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=volume_fd)
    try:
        raw = os.pread(fd, META_MAX_BYTES, 0)
    finally:
        os.close(fd)
    if not raw:
        raise FileNotFoundError(errno.ENOENT, "a power cut came before it was written", f"{path}/{META}")
    try:
        document = parsed(raw)
    except ValueError:
        raise FormatError("is not JSON", where=f"{path}/{META}", remedy=REPAIR) from None
    if not isinstance(document, dict):
        raise FormatError("is not a Zarr document", where=f"{path}/{META}", remedy=REPAIR)
    return document


def _ensure(volume_fd: int, path: str, document: dict[str, Any], *, durable: bool = False) -> bool:
    """True if the folder's zarr.json was not there and has been written."""
    _folder(volume_fd, path)
    if _exists(volume_fd, f"{path}/{META}"):
        return False
    _write(volume_fd, path, document, durable=durable)
    return True


def _folder(volume_fd: int, path: str) -> None:
    try:
        os.mkdir(path, 0o755, dir_fd=volume_fd)
    except FileExistsError:
        if not _is_folder(volume_fd, path):         # also a symlink to one: it may lead out of the volume
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None


def _write(volume_fd: int, path: str, document: dict[str, Any], *, durable: bool = True) -> None:
    # Hidden, and gone in a moment: zarr ignores it.
    temporary = f"{path}/.{META}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=volume_fd)
    try:
        os.write(fd, json.dumps(document, indent=2).encode())
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, f"{path}/{META}", src_dir_fd=volume_fd, dst_dir_fd=volume_fd)


def _sync(volume_fd: int, path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=volume_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
