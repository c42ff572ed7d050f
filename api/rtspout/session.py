"""An RTSP session (RFC 2326 3.4, appendix A): what was set up, and whether it plays."""

import secrets
from dataclasses import dataclass, field

from api.authorise import Grant
from api.rtspout.fault import Fault
from api.rtspout.out import Out, UdpOut
from api.rtspout.presentation import Medium, Presentation, Started
from api.rtspout.request import Request

TIMEOUT_S = 60


@dataclass(eq=False)
class Session:
    """`base` is the presentation's address without a slash at its end; `heard_s` when the client was last heard of (monotonic)."""

    base: str
    presentation: Presentation
    grant: Grant
    heard_s: float
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    outs: dict[str, Out] = field(default_factory=dict)
    playing: bool = False
    said_goodbye: bool = False
    closed: bool = False

    @property
    def header(self) -> tuple[str, str]:
        """The Session header of an answer."""
        return "Session", f"{self.id};timeout={TIMEOUT_S}"

    @property
    def udp(self) -> bool:
        """True if its media go as datagrams."""
        return any(isinstance(out, UdpOut) for out in self.outs.values())

    def medium(self, track: str) -> Medium:
        """The stream of this name. Raises Fault 404."""
        found = next((medium for medium in self.presentation.media if medium.track == track), None)
        if found is None:
            raise Fault(404, "the description has no such stream")
        return found

    async def play(self, request: Request) -> Started:
        """Get ready; `go` follows. Raises Fault 455 if nothing was set up."""
        if not self.outs:
            raise Fault(455, "nothing has been set up")
        return await self.presentation.play(request, self.outs)

    def go(self) -> None:
        """The answer is on its way."""
        if not self.closed:
            self.playing, self.said_goodbye = True, False
            self.presentation.go()

    async def pause(self) -> None:
        """Raises Fault 455 if nothing was set up."""
        if not self.outs:
            raise Fault(455, "nothing has been set up")
        self.playing = False
        await self.presentation.pause()

    def heard(self, now_s: float) -> None:
        """The client is there."""
        self.heard_s = now_s

    def look(self) -> None:
        """Say goodbye once nothing more will come."""
        if self.presentation.done and not self.said_goodbye:
            self._goodbye()

    def _goodbye(self) -> None:
        self.said_goodbye = True
        for out in self.outs.values():
            out.goodbye()

    def close(self) -> None:
        """End it; a second time does nothing."""
        if self.closed:
            return
        self.closed = True
        if self.playing and not self.said_goodbye:
            self._goodbye()
        self.presentation.close()
        for out in self.outs.values():
            out.close()
