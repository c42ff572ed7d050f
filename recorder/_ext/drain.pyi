from collections.abc import Sequence

from recorder._ext.framing import Connection
from recorder._ext.udp import UdpMedia

class Drain:
    """Receives from a set of non-blocking sockets in one go, without the GIL, into one shared buffer; all calls on one thread.

    `buffer_bytes`: the shared buffer. `budget_bytes`: what one connection may take in one run, so that a flood starves nobody.
    `rest_bytes`, `rest_runs`: a connection is passed over for as many runs, `rest_runs` at most, as leave what will then have come below
    `rest_bytes`, going by what it gave the last time; one of which a track is watched never is. 0 bytes: none ever rests.
    """

    def __init__(self, buffer_bytes: int = 262144, budget_bytes: int = 1048576, rest_bytes: int = 0, rest_runs: int = 1) -> None: ...
    def add(self, connection: Connection, fd: int, media: Sequence[UdpMedia] = ()) -> None:
        """Receive for `connection` from socket `fd`, and from the sockets of `media`, its tracks over UDP (the caller keeps all of them open
        until remove). ValueError if it is in the set already."""
    def remove(self, connection: Connection) -> None:
        """Receive no more; nothing happens if it is not in the set. The socket stays open."""
    def run(self, mono_ns: int, wall_offset_ns: int, watched: bool = False) -> list[tuple[Connection, int]]:
        """Receive all that waits; `watched`: only from connections of which a track is watched, and of those over UDP the media. Returns connections with something rare to tell, as rtp.EVENT_* bits; after EVENT_EOF, EVENT_ERROR or
        EVENT_DAMAGED_STREAM a connection is not read again."""
    def __len__(self) -> int: ...
    @property
    def watched(self) -> int:
        """Connections of which a track was watched at the last run."""
    @property
    def received_bytes(self) -> int: ...
