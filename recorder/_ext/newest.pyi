from typing import Any

import numpy.typing as npt
from typing_extensions import Buffer

_Bytes = npt.NDArray[Any] | Buffer
# row, size, flags, dts, cts, offset, wall_ns, sample entry, leads
_Au = tuple[int, int, int, int, int, int, int, int, bool]

class Newest:
    tail_offset: int
    def __init__(self, live: _Bytes, at: int, camera: int, track: bytes) -> None: ...
    @property
    def place(self) -> tuple[int, int]: ...
    def seek(self, row: int, aus: int) -> None: ...
    def take(self, clock_rate: int) -> tuple[_Au, ...] | None: ...
