"""What the file of a job is made of, settled once and written down, so that a restarted process makes the same bytes.

A plan names tapes and places on them; no media is read to make it. While the job's hold stands what it names can be read.
"""

import io
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from api.clipplan import Clip, Tape
from api.disks import Disks
from api.exports import shelf
from api.mp4.clip import Extents
from api.tapebytes import TapeBytes, VirtualBytes
from recorder.base.errors import FormatError
from storage.store import TapeStore

COLUMNS = ("track", "offset", "size", "at")

@dataclass(frozen=True, slots=True)
class FilePlan:
    """One file: its first bytes, where the others lie, on which tapes; what the manifest says of it; of a master its rows, and their chunks."""

    head: bytes
    extents: Extents
    tapes: tuple[Tape, ...]
    about: dict[str, Any]
    rows: bytes = b""
    chunks: bytes = b""

    @property
    def size(self) -> int:
        """Bytes in all."""
        return int(self.extents.at[-1] + self.extents.size[-1]) if len(self.extents) else len(self.head)

    def open(self, store: TapeStore, disks: Disks) -> VirtualBytes:
        """Its bytes; where retention has passed a tape meanwhile, those that holds have kept. Close it."""
        readers = [store.tape(*tape) for tape in self.tapes]
        return VirtualBytes(self.head, self.extents, [TapeBytes(reader, disks, partial(store.held, reader)) for reader in readers])


@dataclass(frozen=True, slots=True)
class Plan:
    """All files of a job, and the manifest without their digests."""

    manifest: dict[str, Any]
    files: tuple[FilePlan, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def file_of(clip: Clip, about: dict[str, Any]) -> FilePlan:
    """The file that a clip is."""
    return FilePlan(clip.movie.head, joined(clip.movie.extents), clip.tapes, about)


def joined(extents: Extents) -> Extents:
    """The same bytes in as few extents as possible: what follows on the same tape is one."""
    if not len(extents):
        return extents
    ends = extents.offset[:-1] + extents.size[:-1]
    first = np.flatnonzero(np.concatenate(([True], (np.diff(extents.track) != 0) | (extents.offset[1:] != ends))))
    return Extents(extents.track[first], extents.offset[first], np.add.reduceat(extents.size, first), extents.at[first])


def save(plan: Plan, folder: Path) -> None:
    """Write the plan down, durably."""
    meta = {"manifest": plan.manifest, "files": [{"tapes": file.tapes, "about": file.about} for file in plan.files]}
    arrays: dict[str, Any] = {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)}
    for at, file in enumerate(plan.files):
        arrays[f"{at}-head"] = np.frombuffer(file.head, np.uint8)
        arrays[f"{at}-rows"], arrays[f"{at}-chunks"] = np.frombuffer(file.rows, np.uint8), np.frombuffer(file.chunks, np.uint8)
        arrays |= {f"{at}-{name}": getattr(file.extents, name) for name in COLUMNS}
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    shelf.write_whole(folder / shelf.PLAN, packed.getvalue())


def load(folder: Path) -> Plan | None:
    """The plan that was written down, None if there is none yet. FormatError if it cannot be read."""
    try:
        with np.load(folder / shelf.PLAN, allow_pickle=False) as packed:
            meta = json.loads(packed["meta"].tobytes())
            files = [FilePlan(packed[f"{at}-head"].tobytes(), Extents(*(packed[f"{at}-{name}"] for name in COLUMNS)),
                              tuple((int(number), str(track), int(place)) for number, track, place in said["tapes"]), said["about"],
                              packed[f"{at}-rows"].tobytes(), packed[f"{at}-chunks"].tobytes() if f"{at}-chunks" in packed else b"")
                     for at, said in enumerate(meta["files"])]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"its plan cannot be read ({type(error).__name__})", where="export", remedy="ask for it again") from None
    return Plan(meta["manifest"], tuple(files))
