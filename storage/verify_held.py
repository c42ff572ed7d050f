"""What holds have kept of signed chunks, for `watchroom verify`: each held row is proved by the leaves of its chunk, these by the chunk's seal.

The chunk itself may be gone. How many of its rows should be there, the ledgers say: those that no deletion tells of.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from recorder.base.errors import FormatError
from storage import heldfile, zarrmeta
from storage.heads import Key, Seal
from storage.heldfile import HeldChunk
from storage.layout import PAGE, held_path
from storage.numbered import chunk_number
from storage.verify_bytes import wrong_file, wrong_rows
from storage.volume import Volume

LOOKS = 3                       # at a file that is cut or goes while it is looked at


@dataclass(frozen=True, slots=True)
class HeldFound:
    """What a held chunk holds: how many rows, the span of their time, what is wrong with it (empty if nothing is), and a seal of it."""

    rows: int
    first_ns: int
    end_ns: int
    wrong: str = ""
    seal: Seal | None = None


def held_tracks(volume: Volume) -> Iterator[tuple[int, str]]:
    """Every (camera, track) of which holds have kept something."""
    for camera in zarrmeta.list_cameras(volume.dir_fd):
        for track in zarrmeta.list_held(volume.dir_fd, camera):
            yield camera, track


def held_keys(volume: Volume, camera: int, track: str) -> list[Key]:
    """The held chunks of a track, by the names of their files."""
    names = volume.list_dir(f"{held_path(camera, track)}/c")
    return [(camera, track, number) for name in names if (number := chunk_number(name)) is not None]


def look(volume: Volume, key: Key, seal: Seal | None) -> HeldFound | None:
    """Compare a held chunk with its seal, every row of it; None if there is none. What was cut or released meanwhile is looked at again."""
    found = None
    for _ in range(LOOKS):
        try:
            with _opened(volume, key) as fd:
                found = _look(fd, key, seal)
                if not found.wrong or _named(volume, key, fd):
                    return found
        except FileNotFoundError:
            return None
        except OSError as failed:       # locked: it has gone meanwhile, and is being cleared
            found = _unread(seal, f"cannot be read: {failed.strerror}")
    return found


def _look(fd: int, key: Key, seal: Seal | None) -> HeldFound:
    try:
        chunk = heldfile.read(fd, "held")
        wrong = _wrong(fd, chunk, key, seal)
    except FormatError as failed:
        return _unread(seal, failed.message)
    head = chunk.head
    own = Seal(*key, head.generation, head.first_row, head.rows, head.first_ns, head.end_ns, head.digest.hex())
    return HeldFound(int(chunk.there.sum()), head.first_ns, head.end_ns, wrong, seal or own)


def _unread(seal: Seal | None, why: str) -> HeldFound:
    return HeldFound(0, seal.first_ns if seal else 0, seal.end_ns if seal else 0, why)


def _wrong(fd: int, chunk: HeldChunk, key: Key, seal: Seal | None) -> str:
    """What is not as it was signed; empty if all is. Without a seal: as the file's own digest has it."""
    head = chunk.head
    if (head.camera, head.track, head.chunk) != key:
        return "its head says that it is another chunk"
    if seal is not None and (head.first_row, head.rows) != (seal.first_row, seal.rows):
        return "its head is not that of the signed chunk"
    if chunk.footer.digest().hex() != (seal.digest if seal is not None else head.digest.hex()) or chunk.footer.digest() != head.digest:
        return "its leaves are not those of the signed chunk" if seal is not None else "its digest is not that of its footer"
    start = head.chunk_class.footer_start + head.footer_bytes
    behind = os.pread(fd, head.chunk_class.file_bytes - start, start)
    return wrong_file(head, chunk.footer, os.pread(fd, PAGE, 0), os.fstat(fd).st_size, behind) or wrong_rows(
        head, chunk.footer, lambda first, after: os.pread(fd, after - first, PAGE + first - head.start_offset))


@contextmanager
def _opened(volume: Volume, key: Key) -> Iterator[int]:
    """The file under a shared lock, so that nobody clears it meanwhile. OSError."""
    fd = volume.open_file(_path(key), os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield fd
    finally:
        os.close(fd)


def _named(volume: Volume, key: Key, fd: int) -> bool:
    """True if the file still bears its name."""
    try:
        return os.path.samestat(os.stat(_path(key), dir_fd=volume.dir_fd, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def _path(key: Key) -> str:
    return f"{held_path(key[0], key[1])}/c/{key[2]}"
