"""A volume in use: chunks that have been written before."""

from pathlib import Path

from storage.erasure import Erasure
from storage.layout import LARGE
from storage.pool import Pool
from storage.volume import Volume


def fill(path: Path, slots: int, used_bytes: int) -> None:
    """Fill a new volume's pools: chunks that are taken from now on have been written before, as on any volume that is in use."""
    volume = Volume.open(path, on_root=True, write=True)
    try:
        for slot in range(slots):
            for folder in ("journal", "pool", "quarantine"):
                volume.make_dirs(f"slot-{slot}/{folder}")
            pool = Pool(volume, slot, used_bytes // slots, 0.0, Erasure(lambda _: None))
            while pool.room(LARGE) and pool.make(LARGE, 0, filled=True):
                pass
    finally:
        volume.close()
