"""All WebRTC viewers of the API process: one port, one hub for each track that somebody watches, limits, and what ends a session."""

import asyncio
import functools
import ipaddress
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from api.authorise import Grant
from api.edge import Board
from api.guard import is_loopback
from api.problems import RETRY_S, Problem
from api.whep import choice
from api.whep.hub import Hub
from api.whep.viewer import Plan, Rung, Viewer, random_ssrc
from recorder._ext.srtpout import Egress
from recorder.base.clock import Clock
from recorder.base.config import WebrtcConfig
from recorder.base.errors import ConfigError, NotFound, Refused
from recorder.base.media import SampleEntry
from recorder.webrtc.answer import Sending, Transport, build_answer
from recorder.webrtc.dtls import DtlsError, Identity
from recorder.webrtc.mux import Mux
from recorder.webrtc.offer import Medium, Offer
from recorder.webrtc.peer import Peer

log = logging.getLogger("watchroom.api")

LOOK_S = 1.0
OTHER_S = 0.05              # the same of the track that is only taken when the first does not do
PICTURE_S = 0.4             # wait for the edge to say how the camera codes; the newest row's sample entry says most of it
REMEMBERED = 256            # sessions that have ended and can still be asked about
NS = 1e9


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for pictures: who, of which camera (id, number), whether small ones do, the address that asks and the one it came to."""

    grant: Grant
    camera: str
    number: int
    small: bool
    client: str
    host: str


class WhepDesk:
    """`entry(number, track)` is how a track was coded when it was recorded last, None if it never was; `reaches(grant, camera id)` whether the
    camera is there and within reach of the grant. On one loop."""

    def __init__(self, config: WebrtcConfig, clock: Clock, board: Board, entry: Callable[[int, str], SampleEntry | None],
                 reaches: Callable[[Grant, str], bool]) -> None:
        self.config = config
        self._clock, self._board, self._entry, self._reaches = clock, board, entry, reaches
        self._mux: Mux | None = None
        self._egress: Egress | None = None
        self._hubs: dict[tuple[int, str], Hub] = {}
        self._viewers: dict[str, Viewer] = {}
        self._ended: dict[str, tuple[str, Grant, dict[str, Any]]] = {}
        self._holders: Counter[str] = Counter()
        self._joining: Counter[tuple[int, str]] = Counter()
        self.trouble = ""
        self.refused: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.totals: Counter[str] = Counter()

    def open(self) -> None:
        """Listen; nothing where WebRTC is off. A port that cannot be had stops nothing else: it is logged, and who asks is told."""
        if not self.config.port:
            return
        self._mux = Mux(Identity(), self._clock)
        try:
            self._mux.open(self.config.bind, self.config.port)
        except ConfigError as error:
            self._mux = None
            self.trouble = error.message
            log.error("no WebRTC: %s", error)
            return
        self._egress = Egress(self._mux.fileno())
        log.info("WebRTC on UDP port %d", self._mux.port)

    def close(self) -> None:
        """End all sessions and let go of the port."""
        for viewer in list(self._viewers.values()):
            self.end(viewer, "the server ends")
        for hub in self._hubs.values():
            hub.close()
        self._hubs.clear()
        if self._mux is not None:
            self._mux.close()

    async def run(self) -> None:
        """Once a second: tokens and cameras that are no more, reports, congestion; hubs that nobody takes from."""
        while True:
            await asyncio.sleep(LOOK_S)
            for viewer in list(self._viewers.values()):
                if not viewer.grant.alive():
                    self.end(viewer, "the token has ended")
                elif not self._reaches(viewer.grant, viewer.camera):
                    self.end(viewer, "there is no such camera")
                else:
                    viewer.look()
            self._tidy()

    # --- sessions

    async def answer(self, asked: Asked, offer: Offer) -> tuple[Viewer, str]:
        """A session that waits for its peer, and the answer to send. Problem with the reason where there can be none."""
        mux, egress = self._listening(asked)
        place = self._place(asked, offer)
        if self._holders[asked.grant.holder] >= self.config.per_token:
            raise self._no(429, "limit", f"{self.config.per_token} WebRTC sessions of this token are open already", remedy="end one",
                           headers={"Retry-After": str(RETRY_S)})
        self._holders[asked.grant.holder] += 1
        try:
            rungs, plan, sending = await self._pictures(asked, offer.media[place], place)
            sound = self._sound(asked, offer, place, sending)
            return self._seat(asked, offer, place, mux, egress, rungs, plan, sound, sending)
        except BaseException:
            self._leave(asked.grant.holder)
            raise

    def _seat(self, asked: Asked, offer: Offer, place: int, mux: Mux, egress: Egress, rungs: list[Rung], plan: Plan, sound: Plan | None,
              sending: dict[int, Sending]) -> tuple[Viewer, str]:
        medium = offer.media[place]
        viewer = Viewer(secrets.token_hex(16), asked.camera, asked.grant, mux, egress, functools.partial(self._hub, asked.number), rungs, plan,
                        sound, self._now_s, self._done)
        try:
            peer = Peer(mux.identity, medium.ufrag, medium.fingerprints, viewer, server=medium.setup != "passive")
            mux.add(peer)
        except (DtlsError, Refused) as error:
            raise self._no(400 if isinstance(error, DtlsError) else 503, "offer", error.message, remedy=error.remedy) from None
        viewer.peer = peer
        self._viewers[viewer.name] = viewer
        setup = "active" if medium.setup == "passive" else "passive"
        transport = Transport(peer.ufrag, peer.password, mux.identity.fingerprint, setup, self._addresses(asked.host), mux.port)
        return viewer, build_answer(offer, sending, transport, secrets.randbits(62), viewer.cname)

    def _listening(self, asked: Asked) -> tuple[Mux, Egress]:
        if self.trouble:
            raise self._no(503, "off", "the server cannot use its UDP port for WebRTC now", remedy="watch by WebSocket or HLS")
        if self._mux is None or self._egress is None:
            raise self._no(501, "off", "this server does not speak WebRTC", remedy="set webrtc.port, or watch by WebSocket or HLS")
        if is_loopback(self.config.bind) and not self.config.ice_addresses and not is_loopback(asked.client):
            raise self._no(501, "off", "WebRTC is bound to the server's own loopback address",
                           remedy="set webrtc.bind, or watch by WebSocket or HLS")
        return self._mux, self._egress

    def _place(self, asked: Asked, offer: Offer) -> int:
        """The medium that the pictures go to."""
        taken = choice.picture_place(offer)
        if taken is None:
            raise self._no(406, "codec", "the offer takes no H.264 with packetization-mode=1 over UDP/TLS/RTP/SAVPF with rtcp-mux, recvonly",
                           remedy="watch by WebSocket or HLS", ways=other_ways(asked.camera))
        medium = offer.media[taken.place]
        if not medium.ufrag or len(medium.password) < 22 or not medium.fingerprints or not medium.setup:
            raise self._no(400, "offer", "the offer lacks ice-ufrag, ice-pwd, fingerprint or setup",
                           remedy="send what RTCPeerConnection.createOffer gave")
        return taken.place

    async def _pictures(self, asked: Asked, medium: Medium, place: int) -> tuple[list[Rung], Plan, dict[int, Sending]]:
        """The ways to send pictures, the best first, and what to say of them."""
        names = ("sub", "main") if asked.small else ("main", "sub")
        found, reasons = [], {}
        codings = await asyncio.gather(self._coding(asked.number, names[0], PICTURE_S), self._coding(asked.number, names[1], OTHER_S))
        for name, (entry, why) in zip(names, codings, strict=True):
            codec = choice.h264_for(medium, entry) if entry is not None and not why else None
            if codec is not None:
                found.append((name, codec))
            elif why:
                reasons[name] = why
        if not found:
            raise self._unplayable(asked, reasons)
        ways = [Rung(name, codec.payload_type, medium.repair_of(codec.payload_type), False) for name, codec in found]
        repairs = {rung.repair_type for rung in ways if rung.repair_type is not None}
        plan = Plan(ways[0].payload_type, random_ssrc(), random_ssrc() if repairs else 0)
        rungs = [ways[0], replace(ways[0], keys_only=True)]
        if len(ways) > 1 and not asked.small:
            rungs.append(ways[1])
        elif len(ways) > 1:
            plan.spare = ways[1]
        types = {codec.payload_type: codec for _, codec in found} | {repair: medium.codecs[repair] for repair in sorted(repairs)}
        ssrcs = (plan.ssrc, plan.repair_ssrc) if repairs else (plan.ssrc,)
        return rungs, plan, {place: Sending(tuple(types.values()), choice.FEEDBACK, ssrcs, "pictures")}

    def _unplayable(self, asked: Asked, reasons: Mapping[str, str]) -> Problem:
        if not reasons:
            return self._no(404, "nothing", "nothing has been recorded of this camera yet", headers={"Retry-After": str(RETRY_S)})
        why = reasons.get("main") or next(iter(reasons.values()))
        return self._no(406, "codec", why, remedy="watch by WebSocket or HLS, or give the camera an H.264 sub stream without B-frames",
                        ways=other_ways(asked.camera))

    async def _coding(self, number: int, track: str, wait_s: float) -> tuple[SampleEntry | None, str]:
        """How the track is coded now, or was when it was recorded last; and why it cannot be sent, or ""."""
        entry = self._entry(number, track)
        if entry is None:
            return None, ""
        if why := choice.why_not(entry, False):
            return entry, why
        key = (number, track)
        self._joining[key] += 1         # keeps the hub until somebody has attached, or not
        try:
            hub = self._hub(number, track)
            await hub.first(wait_s)
            return hub.entry or entry, hub.refused
        except NotFound:
            return None, ""
        finally:
            self._joining[key] -= 1

    def _sound(self, asked: Asked, offer: Offer, place: int, sending: dict[int, Sending]) -> Plan | None:
        entry = self._entry(asked.number, "audio")
        taken = choice.sound(offer, place, entry) if entry is not None else None
        if taken is None:
            return None
        plan = Plan(taken.codec.payload_type, random_ssrc())
        sending[taken.place] = Sending((taken.codec,), (), (plan.ssrc,), "sound")
        return plan

    def _hub(self, number: int, track: str) -> Hub:
        """The track's hub, joined. NotFound if the track has never been recorded."""
        key = (number, track)
        hub = self._hubs.get(key)
        if hub is None or hub.refused:
            assert self._egress is not None
            if hub is not None:
                hub.close()
            hub = Hub(self._egress, functools.partial(self._cannot, number, track))
            hub.join(self._board, number, track)
            self._hubs[key] = hub
        return hub

    def _cannot(self, number: int, track: str, why: str) -> None:
        """The camera has begun to code in a way that WebRTC does not carry, or that was not answered."""
        hub = self._hubs.get((number, track))
        asyncio.get_running_loop().call_soon(self._give_up, hub, track, why)

    def _give_up(self, hub: Hub | None, track: str, why: str) -> None:
        """Viewers of the track go on with another one, or end."""
        for viewer in [one for one in self._viewers.values() if hub is not None and one.takes(hub)]:
            if track == "audio" or not viewer.without(track):      # another coding of sound takes another answer
                self.end(viewer, why)

    def find(self, name: str, camera: str, grant: Grant) -> Viewer | dict[str, Any]:
        """The session of this name, or the last words about one that has ended. NotFound unless it is the holder's and of this camera."""
        viewer = self._viewers.get(name)
        if viewer is not None and viewer.camera == camera and viewer.grant.holder == grant.holder:
            return viewer
        ended = self._ended.get(name)
        if viewer is None and ended is not None and ended[0] == camera and ended[1].holder == grant.holder:
            return ended[2]
        raise NotFound("there is no such session")

    def end(self, viewer: Viewer, reason: str) -> None:
        """Say goodbye."""
        viewer.farewell()
        if self._mux is not None and viewer.peer is not None:
            self._mux.remove(viewer.peer, reason)

    def _done(self, viewer: Viewer, reason: str) -> None:
        if self._viewers.pop(viewer.name, None) is None:
            return
        self._leave(viewer.grant.holder)
        self.ends[reason] += 1
        for name, count in zip(("packets", "octets", "dropped"), viewer.sent, strict=True):
            self.totals[name] += count
        for name in ("nacked", "repaired", "plis", "restarts"):
            self.totals[name] += getattr(viewer.told, name)
        self._ended[viewer.name] = viewer.camera, viewer.grant, {**viewer.figures(), "reason": reason}
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def _leave(self, holder: str) -> None:
        self._holders[holder] -= 1
        if self._holders[holder] <= 0:
            del self._holders[holder]

    def _tidy(self) -> None:
        """Leave tracks that nobody takes any more. While somebody connects, all stay: it will be one of them."""
        if any(not viewer.streaming for viewer in self._viewers.values()):
            return
        for key, hub in list(self._hubs.items()):
            if not hub.streams and not self._joining[key]:
                hub.close()
                del self._hubs[key]

    def _addresses(self, host: str) -> tuple[str, ...]:
        """What candidates name: as configured; the address that is bound; or, where that is all of them, the one that the request came to."""
        if self.config.ice_addresses:
            return self.config.ice_addresses
        if not ipaddress.ip_address(self.config.bind).is_unspecified:
            return (self.config.bind,)
        return (host,)

    def _no(self, status: int, kind: str, message: str, **more: Any) -> Problem:
        self.refused[kind] += 1
        return Problem(status, message, **more)

    def _now_s(self) -> float:
        return self._clock.mono_ns() / NS

    # --- what others see

    @property
    def viewers(self) -> list[Viewer]:
        """All sessions that have not ended."""
        return list(self._viewers.values())

    @property
    def hubs(self) -> dict[tuple[int, str], Hub]:
        """By camera number and track."""
        return dict(self._hubs)

    @property
    def mux(self) -> Mux | None:
        """The port; None where WebRTC is off."""
        return self._mux


def other_ways(camera: str) -> dict[str, str]:
    """Other ways to the same pictures."""
    return {"websocket": "/api/v1/live", "hls": f"/api/v1/cameras/{camera}/hls/live.m3u8"}


WHEP = web.AppKey("whep", WhepDesk)
