from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

_Bytes = npt.NDArray[Any] | Buffer
_Arrays = tuple[
    npt.NDArray[np.uint32], npt.NDArray[np.uint32], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int32],
    npt.NDArray[np.int64], npt.NDArray[np.uint8], npt.NDArray[np.uint64], npt.NDArray[np.int64],
]

def entry_bytes(data: _Bytes, aus: int) -> int: ...
def decode(data: _Bytes, base: int, rows: _Bytes, clock_rate: int) -> tuple[int, _Arrays]: ...
