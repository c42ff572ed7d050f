from typing import TypedDict, type_check_only

from typing_extensions import Buffer

@type_check_only
class Au(TypedDict):
    pos: int
    pts: int
    dts: int
    wall_ns: int
    recv_ns: int
    nbytes: int
    crc: int
    dur: int
    session: int
    format: int
    flags: int
    gap: int

class AuQueue:
    def __init__(self, capacity: int, max_aus: int = 512) -> None: ...
    def append(self, data: Buffer, pts: int, dts: int, wall_ns: int, recv_ns: int, session: int, format: int = 1,
               flags: int = 0, gap: int = 0, dur: int = 0) -> bool: ...
    def take(self, limit: int = ...) -> list[tuple[Au, bytes]]: ...
    def rewind(self, number: int) -> int: ...
    @property
    def capacity(self) -> int: ...
    @property
    def max_aus(self) -> int: ...
    @property
    def waiting_aus(self) -> int: ...
    @property
    def waiting_bytes(self) -> int: ...
    watched: bool
    @property
    def dropped_aus(self) -> int: ...
    @property
    def dropped_bytes(self) -> int: ...
    @property
    def dropping_since_ns(self) -> int: ...
