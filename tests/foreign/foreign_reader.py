"""Readers that know nothing of us: zarr-python, tensorstore and zarrs (in Rust), each reading one inner chunk of a track's array."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorstore
import zarr

U8 = npt.NDArray[np.uint8]


class ArrayReader(Protocol):
    """Bytes [start, stop) of a track."""

    def read(self, start: int, stop: int) -> U8: ...


class ZarrReader:
    """zarr-python, opened anew for each read, as a script would."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, start: int, stop: int) -> U8:
        array: Any = zarr.open_array(self._path, mode="r")
        return np.asarray(array[start:stop])


class TensorstoreReader:
    """tensorstore, without its cache."""

    def __init__(self, path: Path) -> None:
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}, "open": True, "recheck_cached_data": True}
        self._array = tensorstore.open(spec).result()

    def read(self, start: int, stop: int) -> U8:
        return np.asarray(self._array[start:stop].read().result())


class ZarrsReader:
    """zarrs, which reads and decodes in Rust; zarr-python only says which chunks."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, start: int, stop: int) -> U8:
        with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
            array: Any = zarr.open_array(self._path, mode="r")
            return np.asarray(array[start:stop])


READERS = {"zarr": ZarrReader, "tensorstore": TensorstoreReader, "zarrs": ZarrsReader}


@dataclass
class Twice:
    """Reads again once where the shard index was being written (a wrong checksum), and counts that; a second time is an error."""

    reader: ArrayReader
    again: int = 0

    def read(self, start: int, stop: int) -> U8:
        try:
            return self.reader.read(start, stop)
        except (ValueError, RuntimeError) as failed:
            if not any(word in str(failed).lower() for word in ("crc32c", "checksum", "digest mismatch")):
                raise
            self.again += 1
            return self.reader.read(start, stop)
