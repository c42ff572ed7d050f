"""From an address to a playing session: OPTIONS, DESCRIBE (with redirects), SETUP of the wanted media, PLAY.

A medium that cannot be had is lost alone, with its reason. Bytes of media that come before the PLAY answer are kept: the tracks are
bound to their channels at SETUP.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from recorder._ext.rtp import RtpTrack
from recorder.base.clock import Clock
from recorder.base.errors import NoRoom, SourceError, TransportRefused
from recorder.base.media import GapCause
from recorder.rtp.formats import RtpFormat, rtp_format
from recorder.rtsp.address import AddressBook
from recorder.rtsp.auth import AUTH_RETRY_S, Authenticator
from recorder.rtsp.connection import RtspConnection
from recorder.rtsp.leftover import end_leftover
from recorder.rtsp.memory import CameraMemory
from recorder.rtsp.message import Response
from recorder.rtsp.sdp import Media, SessionDescription, parse_sdp
from recorder.rtsp.tls import BY_SYSTEM, TlsTrust
from recorder.rtsp.transport import TransportAnswer, ask_interleaved, ask_multicast, ask_udp, parse_transport
from recorder.rtsp.udp import UdpSockets
from recorder.rtsp.url import RtspUrl, UserInfo, base_url, join_control, parse_url

REDIRECTS_MAX = 5
REDIRECTS = {301, 302, 303, 305, 307, 308}
BUSY_RETRY_S = 30.0
DEFAULT_TIMEOUT_S = 60.0
MEANINGS = {                     # status -> least wait, remedy
    401: (AUTH_RETRY_S, "correct user and password"),
    403: (AUTH_RETRY_S, "give this user the right to view live video"),
    404: (10.0, "check the path of its address"),
    451: (10.0, "check the path of its address"),
    454: (0.0, "it has forgotten the session; a new one is begun"),
    455: (5.0, "it is in another state than it says; restart it if that stays so"),
    459: (5.0, "choose another of its streams"),
    462: (5.0, "it cannot reach us; check the network between"),
}

MakeTrack = Callable[[str, RtpFormat, int], Awaitable[RtpTrack]]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are; never in repr."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    basic_without_tls: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """What to connect to and what to want of it: `kinds` in the order of their importance (the first is SETUP first).

    `transport`: tcp, udp or multicast; `may_be_tcp`: TCP could be asked for instead. `udp_ports`: the range that ours are taken from.
    `home`: the host of the camera's own address, where it has asked us to go to `url` instead.
    """

    url: str
    credentials: Credentials
    kinds: tuple[str, ...] = ("video", "audio")
    transport: str = "tcp"
    may_be_tcp: bool = False
    udp_ports: tuple[int, int] = (32768, 60999)
    trust: TlsTrust = BY_SYSTEM
    home: str = ""


@dataclass(slots=True)
class SessionState:
    """What the server told about the session: the first id counts, the newest timeout."""

    id: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S
    public: frozenset[str] = frozenset()

    def learn(self, answer: Response) -> None:
        """Read the Session header of any answer (`Session:   1234; timeout=20`)."""
        identity, _, rest = answer.headers.get("session").partition(";")
        self.id = self.id or identity.strip()
        match = re.search(r"timeout\s*=\s*(\d{1,5})", rest)
        if match and int(match[1]) > 0:
            self.timeout_s = float(match[1])

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What every further request carries."""
        return [("Session", self.id)] if self.id else []


@dataclass(frozen=True, slots=True)
class PlayingTrack:
    """A medium that plays; over UDP it has sockets of its own, else channels of the connection. `url` is its control's."""

    kind: str
    format: RtpFormat
    track: RtpTrack
    rtcp_channel: int
    udp: UdpSockets | None = None
    url: str = ""


@dataclass(frozen=True, slots=True)
class Played:
    """The result of a handshake. `lost` says by kind what could not be had; the connection still receives by itself."""

    connection: RtspConnection
    state: SessionState
    base: str
    tracks: tuple[PlayingTrack, ...]
    lost: dict[str, SourceError]
    description: SessionDescription


class Handshake:
    """One try. `make_track(kind, format, ssrc)` makes the depacketiser of a medium whose SETUP was accepted."""

    def __init__(self, target: Target, book: AddressBook, clock: Clock, wall_offset: Callable[[], int], make_track: MakeTrack,
                 memory: CameraMemory | None = None) -> None:
        self._target = target
        self._book = book
        self._clock = clock
        self._wall_offset = wall_offset
        self._make_track = make_track
        self._memory = memory or CameraMemory()
        self._state = SessionState()
        self._home = ""

    async def run(self) -> Played:
        """Go all the way. Raises SourceError; nothing stays open then."""
        url, userinfo = parse_url(self._target.url)
        self._home = self._target.home or url.host
        who = self._target.credentials
        if userinfo is not None and (not who.user or self._target.home):
            who = Credentials(userinfo.user, userinfo.password, who.basic_without_tls)
        await self._end_leftover(who)
        seen = {url.text}
        while True:
            connection = await self._open(url, who)
            try:
                answer = await self._describe(connection, url)
                if answer.status not in REDIRECTS:
                    return await self._play(connection, url, answer)
            except BaseException:
                if self._state.id:               # it keeps a place for us that others may need
                    connection.take_leave(url.text, self._state.headers)
                connection.close()
                raise
            connection.close()
            url, userinfo = _redirected(answer, url, seen)
            who = Credentials(userinfo.user, userinfo.password, who.basic_without_tls) if userinfo else who

    async def _open(self, url: RtspUrl, who: Credentials) -> RtspConnection:
        """Where a redirect leads, a login that was given for another host is used by Digest only, which does not show the password."""
        trust = self._target.trust
        proven = url.encrypted and bool(trust.fingerprint)
        away = url.host.lower() != self._home.lower() and who is self._target.credentials and not proven
        basic = not away and (who.basic_without_tls or (url.encrypted and not trust.insecure))
        login = Authenticator(who.user, who.password, basic_allowed=basic, away=away)
        return await RtspConnection.open(url, self._book, login, self._clock, self._wall_offset, trust)

    async def _end_leftover(self, who: Credentials) -> None:
        left = self._memory.leftover
        if left is not None and self._clock.mono_ns() < left.until_ns:
            await end_leftover(self._memory, await self._open(parse_url(left.url)[0], who), self._clock)

    async def _describe(self, connection: RtspConnection, url: RtspUrl) -> Response:
        """OPTIONS, whose answer may be anything, then DESCRIBE."""
        self._state = SessionState()
        options = await connection.request("OPTIONS", url.text)
        if options.status in REDIRECTS:
            return options
        self._state.public = frozenset(m.strip().upper() for m in ",".join(options.headers.all("public")).split(","))
        answer = await connection.request("DESCRIBE", url.text, [("Accept", "application/sdp")])
        self._state.learn(answer)
        return answer

    async def _play(self, connection: RtspConnection, url: RtspUrl, answer: Response) -> Played:
        require(answer, "DESCRIBE", url.host)
        description = parse_sdp(answer.body)
        base = base_url(url, answer.headers.get("content-base"), answer.headers.get("content-location"))
        tracks, lost = await self._set_up_all(connection, base, description)
        await self._start(connection, join_control(base, description.control), tracks)
        return Played(connection, self._state, base, tuple(tracks), lost, description)

    async def _start(self, connection: RtspConnection, aggregate: str, tracks: list[PlayingTrack]) -> None:
        """PLAY of everything at once; of each medium by itself where that is not allowed (459)."""
        for url in (aggregate, *(playing.url for playing in tracks)):
            answer = await connection.request("PLAY", url, [*self._state.headers, ("Range", "npt=0.000-")])
            if answer.status == 459 and url == aggregate != tracks[0].url:
                continue
            require(answer, "PLAY", connection.where)
            self._state.learn(answer)
            if url == aggregate:
                return

    async def _set_up_all(self, connection: RtspConnection, base: str,
                          description: SessionDescription) -> tuple[list[PlayingTrack], dict[str, SourceError]]:
        tracks: list[PlayingTrack] = []
        lost: dict[str, SourceError] = {}
        for kind in self._target.kinds:
            try:
                media, chosen = self._choose(description, kind)
                playing = await self._set_up(connection, base, media, chosen, kind, len(tracks))
                tracks.append(replace(playing, url=join_control(base, media.control)))
            except SourceError as error:
                if error.cause == GapCause.OFFLINE and tracks:
                    self._memory.setup_failed(kind, error, self._clock)
                if self._ends_all(error, kind, tracks):
                    raise
                lost[kind] = error
            else:
                self._memory.setup_worked(kind)
        if not tracks:
            raise next(iter(lost.values()))
        return tracks, lost

    def _ends_all(self, error: SourceError, kind: str, tracks: list[PlayingTrack]) -> bool:
        """True if it is about the connection, or us, or the leading medium at this time, and not about this medium."""
        leading = {GapCause.AUTH, GapCause.REFUSED} if kind == self._target.kinds[0] else {GapCause.AUTH}
        return error.cause == GapCause.OFFLINE or (not tracks and (error.cause in leading or isinstance(error, TransportRefused)))

    def _choose(self, description: SessionDescription, kind: str) -> tuple[Media, RtpFormat]:
        without = self._memory.why_without(kind, self._clock)
        if without is not None:
            raise SourceError(f"its {kind} ended the connection twice", cause=GapCause.UNSUPPORTED, where=without.where,
                              remedy="set audio = false, or mend it in the camera; it is tried again after an hour")
        return choose(description, kind)

    async def _set_up(self, connection: RtspConnection, base: str, media: Media, chosen: RtpFormat, kind: str, index: int) -> PlayingTrack:
        url = join_control(base, media.control)
        if self._transport(connection) == "tcp":
            answer = await self._ask(connection, url, ask_interleaved(index))
            return await self._bind(connection, answer, chosen, kind, index)
        if self._target.may_be_tcp and _sends_whole(media, chosen):
            raise _rather_tcp(connection.where)
        if self._target.transport == "multicast":
            answer = await self._ask(connection, url, ask_multicast())
            return await self._listen(connection, answer, self._group(connection, answer), chosen, kind)
        sockets = connection.keep(UdpSockets.bind(connection.local, self._target.udp_ports))
        return await self._listen(connection, await self._ask(connection, url, ask_udp(sockets.ports)), sockets, chosen, kind)

    def _transport(self, connection: RtspConnection) -> str:
        """What is asked for. Beside TLS no media go in the clear: they come inside it, or not at all."""
        return "tcp" if connection.tls is not None else self._target.transport

    async def _ask(self, connection: RtspConnection, url: str, transport: str) -> TransportAnswer:
        """SETUP; the answer is of the transport asked for. Raises TransportRefused for another one."""
        answer = await connection.request("SETUP", url, [("Transport", transport), *self._state.headers])
        require(answer, "SETUP", connection.where)
        self._state.learn(answer)
        chosen = parse_transport(answer.headers.get("transport"))
        wanted = self._transport(connection)
        if chosen.udp and wanted == "tcp":
            raise refused_transport("the camera insists on UDP", connection.where)
        if (wanted != "tcp" and chosen.channels is not None) or (wanted == "multicast" and not chosen.multicast):
            raise refused_transport(f"the camera does not send by {wanted}", connection.where)
        return chosen

    async def _bind(self, connection: RtspConnection, answer: TransportAnswer, chosen: RtpFormat, kind: str, index: int) -> PlayingTrack:
        """The medium comes on channels of the connection."""
        rtp_channel, rtcp_channel = answer.channels or (2 * index, 2 * index + 1)
        track = await self._make_track(kind, chosen, -1 if answer.ssrc is None else answer.ssrc)
        try:
            connection.framing.bind(rtp_channel, rtcp_channel, track)
        except ValueError as error:
            raise _unsupported(f"the camera gave channel {rtp_channel} twice", connection.where, "restart the camera") from error
        return PlayingTrack(kind, chosen, track, rtcp_channel)

    def _group(self, connection: RtspConnection, answer: TransportAnswer) -> UdpSockets:
        """Joined as the SETUP answer says, not as the SDP does (`c=`), on the interface of the connection."""
        if not answer.destination or answer.ports is None:
            raise _unsupported("the camera names no multicast group and port", connection.where, 'set transport = "tcp"')
        self._allow(connection, answer.destination)
        return connection.keep(UdpSockets.join(answer.destination, answer.ports, connection.local))

    async def _listen(self, connection: RtspConnection, answer: TransportAnswer, sockets: UdpSockets, chosen: RtpFormat,
                      kind: str) -> PlayingTrack:
        """The medium comes to sockets of its own, from the camera's address or the one that it names."""
        if answer.source:
            self._allow(connection, answer.source)
        track = await self._make_track(kind, chosen, -1 if answer.ssrc is None else answer.ssrc)
        peers = [connection.peer, *([answer.source] if answer.source else [])]
        sockets.receive_from(peers, answer.server_ports or (0, 0), track, chosen.payload_types[0])
        sockets.punch()
        return PlayingTrack(kind, chosen, track, -1, sockets)

    def _allow(self, connection: RtspConnection, address: str) -> None:
        if not self._book.allows(address):
            raise SourceError(f"address {address} of its Transport lies outside camera_networks", cause=GapCause.REFUSED, retry_s=60.0,
                              where=connection.where, remedy="add its network to recording.camera_networks if that is meant")


def choose(description: SessionDescription, kind: str) -> tuple[Media, RtpFormat]:
    """The first medium of this kind that can be recorded. Raises SourceError (`unsupported`) with the reasons of all."""
    error = _unsupported(f"the camera offers no {kind}", "", "choose another of its streams")
    for media in description.received(kind):
        if "SAVP" in media.protocol:         # RFC 3711: its keys would come by MIKEY, which is not spoken here
            error = _unsupported(f"the camera offers its {kind} as SRTP only", "", "turn SRTP off on the camera; rtsps:// encrypts too")
            continue
        try:
            return media, rtp_format(media)
        except SourceError as reason:
            error = reason
    raise error


def _sends_whole(media: Media, chosen: RtpFormat) -> bool:
    """True if it says that no picture is cut into fragments (RFC 6184 6.2); many say nothing and cut them all the same."""
    modes = [f.fmtp.get("packetization-mode") for f in media.formats if f.payload_type in chosen.payload_types]
    return chosen.codec == "h264" and "0" in modes


def require(answer: Response, method: str, where: str) -> None:
    """Raise the SourceError that a status other than 2xx means."""
    if answer.ok:
        return
    said = f"the camera answers {answer.status} {answer.reason[:60]} to {method}"
    if answer.status in {453, 503}:
        raise NoRoom(said, cause=GapCause.REFUSED, retry_s=BUSY_RETRY_S, where=where,
                     remedy="it has no room for another viewer: end other connections to it")
    if answer.status == 415:
        raise _unsupported(said, where, "choose another of its streams")
    if answer.status == 461:
        raise refused_transport(said, where)
    cause = GapCause.AUTH if answer.status in {401, 403} else GapCause.REFUSED
    retry_s, remedy = MEANINGS.get(answer.status, (5.0, "see the camera's log"))
    raise SourceError(said, cause=cause, retry_s=retry_s, where=where, remedy=remedy)


def _redirected(answer: Response, now: RtspUrl, seen: set[str]) -> tuple[RtspUrl, UserInfo | None]:
    """Where the answer leads, never out of TLS; its addresses are checked like all others when we connect."""
    url, userinfo = parse_url(answer.headers.get("location"))
    if now.encrypted and not url.encrypted:
        raise SourceError("the camera redirects from rtsps to rtsp", cause=GapCause.REFUSED, retry_s=60.0, where=now.host,
                          remedy="give the address it redirects to, if it may be read by others")
    if url.text in seen or len(seen) > REDIRECTS_MAX:
        raise SourceError("the camera redirects in a circle or too often", cause=GapCause.REFUSED, retry_s=60.0, where=url.host)
    seen.add(url.text)
    return url, userinfo


def refused_transport(said: str, where: str) -> TransportRefused:
    """The error of a transport that cannot be had."""
    return TransportRefused(said, cause=GapCause.UNSUPPORTED, retry_s=60.0, where=where,
                            remedy='allow it on the camera, or set transport = "auto" for it')


def _rather_tcp(where: str) -> TransportRefused:
    error = refused_transport("it sends pictures whole (packetization-mode=0), which UDP would break into IP fragments", where)
    error.rather_tcp = True
    return error


def _unsupported(what: str, where: str, remedy: str) -> SourceError:
    return SourceError(what, cause=GapCause.UNSUPPORTED, retry_s=60.0, where=where, remedy=remedy)
