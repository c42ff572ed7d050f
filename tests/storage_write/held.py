"""What holds have kept, read from the files alone; fails where a row is not what was recorded."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from rig import Rig

from recorder._ext.crc32c import crc32c
from recorder._ext.entries import decode
from storage import heldfile
from storage.hold import Hold, HoldSpan
from storage.layout import PAGE

NS = 1_000_000_000


def hold(number: int, start_ns: int, end_ns: int, *, cameras: tuple[int, ...] = (1,), track: str = "") -> Hold:
    """Hold `number` of these cameras."""
    spans = tuple(HoldSpan(camera, start_ns, end_ns, track) for camera in cameras)
    return Hold(f"{number:032x}", "accident", f"case {number}", "partner", 1, 0, spans)


def held_chunks(rig: Rig, camera: int = 1, name: str = "main") -> list[int]:
    folder = rig.path / f"tape.zarr/cam-{camera}/{name}.held/c"
    return sorted(int(path.name) for path in folder.iterdir()) if folder.exists() else []


def held_rows(path: Path, camera: int = 1, name: str = "main") -> dict[int, list[bytes]]:
    """The AUs of every held row, by its number; every byte around them in the files of cut chunks is zero."""
    found: dict[int, list[bytes]] = {}
    folder = path / f"tape.zarr/cam-{camera}/{name}.held/c"
    for file in sorted(folder.iterdir()) if folder.exists() else ():
        with file.open("rb") as opened:
            chunk = heldfile.read(opened.fileno(), file.name)
            assert chunk.footer.digest() == chunk.head.digest
            raw = file.read_bytes()
            covered = np.zeros(len(raw), np.bool_)
            for index in np.flatnonzero(chunk.there).tolist():
                row = chunk.rows[index]
                at = PAGE + int(row["offset"]) - chunk.head.start_offset
                data = raw[at:at + int(row["bytes"])]
                covered[at:at + len(data)] = True
                assert crc32c(data) == int(row["data_crc"])
                bad, arrays = decode(chunk.entries(index), int(row["frames_off"]), row.tobytes(), 90_000)
                assert bad == -1
                edges = [0, *np.cumsum(arrays[1], dtype=np.int64).tolist()]
                found[chunk.head.first_row + index] = [data[a:b] for a, b in pairwise(edges)]
            tape = np.frombuffer(raw, np.uint8)[PAGE:chunk.head.chunk_class.footer_start]
            assert not tape[~covered[PAGE:chunk.head.chunk_class.footer_start]].any(), "bytes that no hold keeps"
    return found
