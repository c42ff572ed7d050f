"""What a client may ask for, method by method (RFC 2326 10), for one connection; the answers are bytes.

Sessions live as long as their connection: none is found from another one.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from api.authorise import Grant, Scope, within_reach
from api.registry import Registry
from api.rtspout.address import Named, parse_address
from api.rtspout.answer import PUBLIC, answer, refusal
from api.rtspout.coding import coding_of
from api.rtspout.fault import Fault, Headers, fault_of
from api.rtspout.login import Login
from api.rtspout.out import Out, TcpOut, UdpOut
from api.rtspout.ports import PortPool
from api.rtspout.presentation import Address, Open, Presentation
from api.rtspout.request import Request
from api.rtspout.sdp import describe
from api.rtspout.session import Session
from api.rtspout.transport import Offer, choose
from api.rtspout.wire import Wire
from recorder.base.errors import WatchroomError
from storage.sickdisk import sick

SESSIONS_MAX = 4            # of a connection
VIEW = frozenset({Scope.VIEW})


@dataclass(frozen=True, slots=True)
class House:
    """What all connections share."""

    registry: Registry
    openers: Mapping[str, Open]
    ports: PortPool
    number: Callable[[], int]       # of a session, for descriptions and ssrc


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer's bytes, and what is to be done once they are written."""

    status: int
    data: bytes
    then: Callable[[], None] = lambda: None


class Desk:
    """One connection's."""

    def __init__(self, house: House, login: Login, wire: Wire, peer: str, own: str) -> None:
        self._house, self._login, self._wire, self._peer, self._own = house, login, wire, peer, own
        self.sessions: dict[str, Session] = {}
        self._described: tuple[str, Presentation] | None = None     # what was described last, until it is set up
        self._methods = {"DESCRIBE": self._describe, "SETUP": self._setup, "PLAY": self._play, "PAUSE": self._pause,
                         "TEARDOWN": self._teardown, "GET_PARAMETER": self._keep, "SET_PARAMETER": self._keep}

    async def handle(self, request: Request) -> Reply:
        """Do what is asked."""
        try:
            if request.method == "OPTIONS":
                return self._options(request)
            method = self._methods.get(request.method)
            if method is None:
                raise Fault(501, f"{request.method} is not known here", (("Public", PUBLIC),))
            grant = await self._login.grant(request)
            grant.require(VIEW)
            return await method(request, grant)
        except (Fault, WatchroomError, OSError) as error:
            if isinstance(error, OSError) and not sick(error):
                raise
            fault = error if isinstance(error, Fault) else fault_of(error)
            return Reply(fault.status, refusal(request.cseq, fault, self._session_of(request)))

    def close(self) -> None:
        """The connection is over."""
        for session in tuple(self.sessions.values()):
            session.close()
        self.sessions.clear()
        self._forget_described()

    def end(self, session: Session) -> None:
        """A session is over."""
        session.close()
        self.sessions.pop(session.id, None)

    # -- methods --

    def _options(self, request: Request) -> Reply:
        self._keep_alive(request)
        return self._reply(request, [("Public", PUBLIC), *self._session_of(request)])

    async def _describe(self, request: Request, grant: Grant) -> Reply:
        named = self._named(request)
        if named.track:
            raise Fault(459, "a description is of the whole presentation")
        presentation = await self._open(named, grant)
        self._forget_described()
        self._described = named.base, presentation
        self._require(request, presentation)
        camera = within_reach(grant, self._house.registry, named.camera)
        body = describe(presentation, camera.config.name or camera.id, self._own, self._house.number())
        return self._reply(request, [("Content-Base", f"{named.base}/")], body, "application/sdp")

    async def _setup(self, request: Request, grant: Grant) -> Reply:
        named = self._named(request)
        offer = choose(request.headers.get("transport", ""), self._peer)
        session, fresh = await self._session_for(request, named, grant)
        try:
            self._require(request, session.presentation)
            track = named.track or self._only_track(session)
            out, transport = self._out(session, track, offer)
        except BaseException:
            if fresh:
                session.close()
            raise
        session.outs[track] = out
        self.sessions[session.id] = session
        return self._reply(request, [("Transport", transport), session.header])

    async def _play(self, request: Request, grant: Grant) -> Reply:
        session = self._session(request)
        self._require(request, session.presentation)
        self._whole(request, session)
        within_reach(grant, self._house.registry, self._named_by(session.base).camera)
        started = await session.play(request)
        info = ",".join(f"url={session.base}/track-{track};seq={seq};rtptime={when}" for track, (seq, when) in started.first.items())
        return self._reply(request, [session.header, *started.headers, *([("RTP-Info", info)] if info else [])], then=session.go)

    async def _pause(self, request: Request, grant: Grant) -> Reply:
        session = self._session(request)
        self._whole(request, session)
        await session.pause()
        return self._reply(request, [session.header])

    async def _teardown(self, request: Request, grant: Grant) -> Reply:
        session = self._session(request)
        named = self._named(request)
        if named.track and len(session.outs) > 1 and not session.playing:
            out = session.outs.pop(named.track, None)
            if out is not None:
                out.close()
            return self._reply(request, [session.header])
        self.end(session)
        return self._reply(request, [])

    async def _keep(self, request: Request, grant: Grant) -> Reply:
        """GET_PARAMETER and SET_PARAMETER without a body keep a session alive; there are no parameters."""
        if "session" in request.headers:
            self._session(request)
        if request.body.strip():
            raise Fault(451, "there are no parameters here")
        return self._reply(request, self._session_of(request))

    # -- what they are made of --

    def _named(self, request: Request) -> Named:
        return self._named_by(request.url)

    def _named_by(self, url: str) -> Named:
        return parse_address(url, frozenset(self._house.openers) - {""})

    async def _open(self, named: Named, grant: Grant) -> Presentation:
        camera = within_reach(grant, self._house.registry, named.camera)
        return await self._house.openers[named.kind](Address(named.kind, camera, named.sub, named.query), grant)

    async def _session_for(self, request: Request, named: Named, grant: Grant) -> tuple[Session, bool]:
        """The session that a SETUP means, and whether it is a new one."""
        if "session" in request.headers:
            session = self._session(request)
            if session.base != named.base:
                raise Fault(459, "a session is of one presentation")
            return session, False
        if len(self.sessions) >= SESSIONS_MAX:
            raise Fault(453, f"a connection has at most {SESSIONS_MAX} sessions")
        within_reach(grant, self._house.registry, named.camera)       # also of what was described: with another token, or before a change
        if self._described is not None and self._described[0] == named.base:
            presentation = self._described[1]
            self._described = None
        else:
            presentation = await self._open(named, grant)
        return Session(named.base, presentation, grant, time.monotonic()), True

    @staticmethod
    def _only_track(session: Session) -> str:
        media = session.presentation.media
        if len(media) != 1:
            raise Fault(459, "set up one stream after the other, by its control address")
        return media[0].track

    def _out(self, session: Session, track: str, offer: Offer) -> tuple[Out, str]:
        """Where the track goes, and the Transport header that says so."""
        medium = session.medium(track)
        if track in session.outs:
            raise Fault(455, "this stream has been set up")
        if session.playing:
            raise Fault(455, "the session plays; set its streams up before")
        if session.outs and session.udp != offer.udp:
            raise Fault(461, "the streams of a session go the same way")
        ssrc = medium.ssrc or self._house.number() & 0xFFFFFFFF
        payload_type = coding_of(medium.entry).payload_type
        if not offer.udp:
            channels = self._channels(offer.pair)
            return (TcpOut(self._wire, ssrc, payload_type, channels),
                    f"RTP/AVP/TCP;unicast;interleaved={channels[0]}-{channels[1]};ssrc={ssrc:08X};mode=\"PLAY\"")
        assert offer.pair is not None
        pair = self._house.ports.take(self._peer, offer.pair)
        pair.heard = lambda: session.heard(time.monotonic())
        return (UdpOut(pair, ssrc, payload_type), f"RTP/AVP;unicast;client_port={offer.pair[0]}-{offer.pair[1]};"
                f"server_port={pair.first}-{pair.first + 1};ssrc={ssrc:08X};mode=\"PLAY\"")

    def _channels(self, asked: tuple[int, int] | None) -> tuple[int, int]:
        """The channels asked for, or, where they are taken or left to us, the next free pair (RFC 2326 12.39)."""
        taken = {channel for session in self.sessions.values() for out in session.outs.values() for channel in (out.channel, out.channel + 1)}
        if asked is not None and not taken & set(asked):
            return asked
        first = next(channel for channel in range(0, 254, 2) if not taken & {channel, channel + 1})
        return first, first + 1

    def _require(self, request: Request, presentation: Presentation) -> None:
        names = [name.strip() for name in request.headers.get("require", "").split(",") if name.strip()]
        unknown = [name for name in names if name not in presentation.features]
        if unknown:
            raise Fault(551, f"{unknown[0][:40]} is not supported here", (("Unsupported", ", ".join(unknown)[:200]),))

    def _whole(self, request: Request, session: Session) -> None:
        """PLAY and PAUSE are for all streams at once."""
        if self._named(request).track and len(session.outs) > 1:
            raise Fault(459, "play or pause the whole presentation")

    def _session(self, request: Request) -> Session:
        found = self.sessions.get(request.headers.get("session", "").partition(";")[0].strip())
        if found is None:
            raise Fault(454, "there is no such session on this connection")
        found.heard(time.monotonic())
        return found

    def _keep_alive(self, request: Request) -> None:
        found = self.sessions.get(request.headers.get("session", "").partition(";")[0].strip())
        if found is not None:
            found.heard(time.monotonic())

    def _session_of(self, request: Request) -> Headers:
        found = self.sessions.get(request.headers.get("session", "").partition(";")[0].strip())
        return (found.header,) if found is not None else ()

    def _forget_described(self) -> None:
        if self._described is not None:
            self._described[1].close()
            self._described = None

    @staticmethod
    def _reply(request: Request, headers: "list[tuple[str, str]] | Headers", body: bytes = b"", kind: str = "",
               then: Callable[[], None] = lambda: None) -> Reply:
        return Reply(200, answer(request.cseq, 200, headers, body, kind), then)
