"""What an RTSP session plays: the seam between the server and what it serves (live: live.py)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from api.authorise import Grant
from api.rtspout.fault import Headers
from api.rtspout.out import Out
from api.rtspout.request import Request
from recorder.base.media import SampleEntry
from storage.camera_record import CameraRecord


@dataclass(frozen=True, slots=True)
class Medium:
    """One stream of a presentation. Its address ends in `track-` and its track's name.

    `attributes` are further lines of its description, without `a=`. `ssrc` 0: the server takes a random one.
    """

    track: str
    entry: SampleEntry
    attributes: tuple[str, ...] = ()
    ssrc: int = 0


@dataclass(frozen=True, slots=True)
class Started:
    """What a PLAY is answered with: headers, and of each track sequence number and RTP timestamp of its first packet, where they are known."""

    headers: Headers
    first: Mapping[str, tuple[int, int]]


class Presentation(Protocol):
    """What one session plays. All calls on the loop."""

    media: tuple[Medium, ...]
    attributes: tuple[str, ...]         # lines of the description's head, without a=
    features: frozenset[str]            # what Require may name

    @property
    def done(self) -> bool:
        """True once nothing more will come."""
        ...

    @property
    def skipped(self) -> int:
        """Units that were left out because the client was too slow."""
        ...

    async def play(self, request: Request, outs: Mapping[str, Out]) -> Started:
        """Get ready for a PLAY, the first or another one, of the tracks that were set up. Nothing is sent before `go`. Raises Fault."""
        ...

    def go(self) -> None:
        """The answer is on its way: send."""
        ...

    async def pause(self) -> None:
        """Send nothing more until the next PLAY."""
        ...

    def close(self) -> None:
        """The session is over, however that came; called once. Must not raise."""
        ...


@dataclass(frozen=True, slots=True)
class Address:
    """What an rtsp:// address names: `kind` is "" of live, else the first part of its path; the camera is within the grant's reach."""

    kind: str
    camera: CameraRecord
    sub: bool
    query: str = ""


Open = Callable[[Address, Grant], Awaitable[Presentation]]
