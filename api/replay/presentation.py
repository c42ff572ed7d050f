"""ONVIF replay as what an RTSP session plays: rtsp://host/replay/<camera>, /replay/<camera>/sub (ONVIF Streaming 6)."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import parse_qsl

from aiohttp import web

from api.authorise import Grant
from api.media import MEDIA, Media
from api.metrics import EXTRA, Page
from api.replay.ask import FEATURE, Ask, Rejected, range_text, read_ask
from api.replay.described import Described, described
from api.replay.session import Begun, Session
from api.rtspout.coding import coding_of, packer_of
from api.rtspout.fault import Fault, Headers
from api.rtspout.out import Out
from api.rtspout.presentation import Address, Medium, Presentation, Started
from api.rtspout.request import Request
from api.rtspout.server import OPENERS, Openers
from api.times import parse_time
from recorder._ext.rtppack import Packer
from recorder.base.errors import Conflict, NotFound
from recorder.base.media import NS

KIND = "replay"
REPORT_NS = 5 * NS
TIME_MOST_NS = 1 << 62


@dataclass(slots=True)
class Counts:
    """Counters for /metrics."""

    sessions: int = 0
    plays: int = 0
    rejected: int = 0
    units: int = 0
    broken: int = 0


@dataclass(slots=True)
class _Stream:
    """One track that was set up: its way out and its packets."""

    out: Out
    packer: Packer
    reported_ns: int = 0


class Replay:
    """One session's presentation. Loop thread only."""

    features = frozenset({FEATURE})
    skipped = 0

    def __init__(self, media: Media, tracks: tuple[Described, ...], session: Session, counts: Counts) -> None:
        self._media, self._tracks, self._session, self._counts = media, {track.name: track for track in tracks}, session, counts
        self._streams: dict[str, _Stream] = {}
        self._knows_flags = False
        self.media = tuple(Medium(track.name, track.entry, ("sendonly", f"x-onvif-track:{track.name}")) for track in tracks)
        self.attributes: tuple[str, ...] = (f"range:{range_text(min(track.first_ns for track in tracks), None)}",)
        counts.sessions += 1

    @property
    def done(self) -> bool:
        """True once nothing more will come; never for clients of ONVIF, which are told by the T bit and may ask for another time."""
        return self._session.done and not self._knows_flags

    async def play(self, request: Request, outs: Mapping[str, Out]) -> Started:
        """See api.rtspout.presentation. Raises Fault 400, 456, 457, 501."""
        self._counts.plays += 1
        self._set_up(outs)
        try:
            ask = read_ask(request.headers.get)
            begun = await self._session.play(ask, request.cseq, self, outs.keys())
        except Rejected as error:
            self._counts.rejected += 1
            raise Fault(error.status, str(error)) from None
        self._knows_flags = FEATURE in request.headers.get("require", "") or not ask.paced
        first = {name: (self._streams[name].packer.sequence, begun.stamps[name]) for name in outs}
        return Started(_headers(request, ask, begun), first)

    def _set_up(self, outs: Mapping[str, Out]) -> None:
        """A packetiser for each way out; those that are there go on."""
        known = {name: stream for name, stream in self._streams.items() if outs.get(name) is stream.out}
        self._streams = known | {name: _Stream(out, packer_of(self._tracks[name].entry, out.ssrc, channel=out.channel))
                                 for name, out in outs.items() if name not in known}

    def go(self) -> None:
        """See api.rtspout.presentation."""
        self._session.go()

    async def pause(self) -> None:
        """See api.rtspout.presentation."""
        self._session.pause()

    def close(self) -> None:
        """See api.rtspout.presentation."""
        self._counts.sessions -= 1
        self._session.close()

    # -- the player's outlet --

    def send(self, track: str, unit: bytes | bytearray, timestamp: int, extension: bytes, now: int | None) -> None:
        """An AU as packets. One that cannot be packed (not coded as its index says) is left out and counted."""
        stream = self._streams.get(track)
        if stream is None:
            return                           # it has been torn down
        try:
            data, offsets = stream.packer.pack(unit, timestamp, extension)
        except ValueError:
            self._counts.broken += 1
            return
        self._counts.units += 1
        self._media.counts.bytes_sent += len(data)
        stream.out.send(data, offsets)
        if now is not None:
            self._report(stream, now)

    def _report(self, stream: _Stream, now: int) -> None:
        """A sender report at times: our clock beside the RTP timestamp of this moment (ONVIF Streaming 6.11)."""
        wall_ns = self._media.clock.wall_ns()
        if wall_ns >= stream.reported_ns + REPORT_NS or wall_ns < stream.reported_ns:
            stream.reported_ns = wall_ns
            stream.out.report(wall_ns, now, stream.packer.packets, stream.packer.octets)

    async def room(self) -> None:
        """When the client has taken most of what was sent."""
        for stream in self._streams.values():
            await stream.out.room()


def _headers(request: Request, ask: Ask, begun: Begun) -> Headers:
    """What the answer to a PLAY says of it; the pace as it was taken."""
    found = [("Range", range_text(begun.start_ns, begun.end_ns))]
    if "scale" in request.headers:
        found.append(("Scale", f"{begun.scale:g}" if begun.scale % 1 else f"{begun.scale:.1f}"))
    if "rate-control" in request.headers:
        found.append(("Rate-Control", "yes" if ask.paced else "no"))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class ReplayOpener:
    """Opens replays of an application's tapes."""

    media: Media
    counts: Counts = field(default_factory=Counts)

    async def __call__(self, address: Address, grant: Grant) -> Presentation:
        """The replay of a camera, and its sound beside the main track. Raises NotFound if nothing is recorded, Fault 400 for a bad `start`."""
        names, number = ("sub",) if address.sub else ("main", "audio"), address.camera.number
        zero_ns = _start_of(address.query)
        tracks = await self.media.look_up(partial(described, camera=number, names=names, time_ns=zero_ns, now_ns=self.media.clock.wall_ns()))
        tracks = tuple(track for track in tracks if _sendable(track))
        if not tracks:
            raise NotFound("nothing of this camera can be sent over RTSP")
        first_ns = min(track.first_ns for track in tracks)
        return Replay(self.media, tracks, Session(self.media, number, tracks, zero_ns or first_ns), self.counts)


def _sendable(track: Described) -> bool:
    """True if there is an RTP payload format for it."""
    try:
        coding_of(track.entry)
    except Conflict:
        return False
    return True


def _start_of(query: str) -> int | None:
    """`?start=`: which time NPT 0 is, for players that know nothing of clock ranges."""
    if not query:
        return None
    try:
        (name, value), = parse_qsl(query, strict_parsing=True, max_num_fields=2)
        if name == "start" and (time_ns := parse_time(value)) < TIME_MOST_NS:
            return time_ns
    except ValueError:
        pass
    raise Fault(400, "a replay knows ?start=<RFC 3339 time or nanoseconds> and nothing else")


async def context(app: web.Application) -> AsyncIterator[None]:
    """For `app.cleanup_ctx`, behind that of MEDIA: the application's RTSP server replays."""
    opener = ReplayOpener(app[MEDIA])
    openers: Openers = {KIND: opener}
    app[OPENERS] = openers
    app[EXTRA].append(lambda page, _: _families(page, opener.counts))
    yield


def _families(page: Page, counts: Counts) -> None:
    page.family("watchroom_replay_sessions", "gauge", "ONVIF replays open.", [({}, counts.sessions)])
    for name, value, text in (("plays", counts.plays, "PLAYs of replays."), ("rejected", counts.rejected, "PLAYs that could not be met."),
                              ("units", counts.units, "Access units replayed."),
                              ("broken_units", counts.broken, "Access units that could not be made into packets.")):
        page.family(f"watchroom_replay_{name}_total", "counter", text, [({}, value)])


