"""One viewer: what it says over RTCP is answered here, and how much it is sent is decided here."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from api.authorise import Grant
from api.whep.congestion import Ladder, Losses
from api.whep.hub import Hub, Stream
from api.whep.timeline import MASK
from recorder._ext.srtpout import Egress, Outlet
from recorder.base.errors import NotFound
from recorder.webrtc.mux import Mux, sockaddr
from recorder.webrtc.peer import Address, Peer
from recorder.webrtc.rtcp import Estimate, Goodbye, Nack, Report, WantKey, goodbye, read, sender_report
from recorder.webrtc.srtp import Contexts, protect_address

log = logging.getLogger("watchroom.webrtc")

START_S = 0.012
REPORT_S = 5.0
AGAIN_S = 0.2               # between two answers to the wish for a key picture
AGAIN_BYTES = 4 << 20       # which may be so many beyond what was sent as it came
NACK_BURST, NACK_PER_S = 500.0, 250.0
FIRST_S = 1.0               # a report soon, so that players know UTC


@dataclass(slots=True)
class Rung:
    """A way to send: of which track, with which payload types (of RTX None, if it was not offered), key pictures alone or all."""

    track: str
    payload_type: int
    repair_type: int | None
    keys_only: bool


@dataclass(slots=True)
class Plan:
    """What one medium is sent with; `repair_ssrc` 0: no RTX. `spare`: a way that is taken only when those of the ladder are gone."""

    payload_type: int
    ssrc: int
    repair_ssrc: int = 0
    spare: Rung | None = None


@dataclass(slots=True)
class Told:
    """What the viewer has reported, and what became of it."""

    lost: float = 0.0
    jitter_ms: float = 0.0
    estimate: int | None = None
    nacked: int = 0
    repaired: int = 0
    plis: int = 0
    restarts: int = 0
    thinned: int = 0


def random_ssrc() -> int:
    """An SSRC that is not 0 (some receivers take that for none)."""
    return secrets.randbelow(MASK) + 1


class Viewer:
    """A session. `hubs(track)` gives the hub of a track, joined; `done` is called once at its end."""

    def __init__(self, name: str, camera: str, grant: Grant, mux: Mux, egress: Egress, hubs: Callable[[str], Hub], rungs: list[Rung],
                 pictures: Plan, sound: Plan | None, now: Callable[[], float], done: Callable[["Viewer", str], None]) -> None:
        self.name, self.camera, self.grant = name, camera, grant
        self.rungs, self.pictures, self.sound = rungs, pictures, sound
        self.told = Told()
        self.cname = secrets.token_hex(8)
        self.peer: Peer | None = None
        self.reason = ""
        self._mux, self._egress, self._hubs, self._done = mux, egress, hubs, done
        self._now = now
        self._ladder, self._losses = Ladder(len(rungs), now()), Losses()
        self._address: bytes | None = None
        self._contexts: Contexts | None = None
        self._outlets: dict[str, Outlet] = {}
        self._streams: dict[str, tuple[Hub, Stream]] = {}
        self._repair: Outlet | None = None
        self._reported_s = self._restarted_s = self._told_s = now()
        self._bits = 0.0
        self._octets = 0
        self._allowance = NACK_BURST

    # --- Listener of the peer

    def ready(self, contexts: Contexts) -> None:
        """Keys are there: send, a moment later. What comes with the end of the handshake browsers lose: they make their keys only then."""
        asyncio.get_running_loop().call_later(START_S, self._start, contexts)

    def _start(self, contexts: Contexts) -> None:
        if self.reason:
            return
        self._contexts = contexts
        rung = self.rungs[self._ladder.step]
        outlet = self._outlet(self.pictures, contexts, rung.payload_type)
        if self.pictures.repair_ssrc:
            self._repair = Outlet(contexts.outbound, protect_address(), self.pictures.repair_ssrc, rung.repair_type or 0,
                                  secrets.randbelow(1 << 16), contexts, keeps=False)
            self._aim(self._repair)
        self._outlets["video"] = outlet
        if self.sound is not None:
            self._outlets["audio"] = self._outlet(self.sound, contexts, self.sound.payload_type)
        for kind, track in (("video", rung.track), ("audio", "audio")):
            if kind in self._outlets:
                with suppress(NotFound):        # removed meanwhile: silence, and the end of the session is somebody else's matter
                    hub = self._hubs(track)
                    self._streams[kind] = hub, hub.attach(self._outlets[kind])
        self._reported_s = self._now() - REPORT_S + FIRST_S
        self._restarted_s = float("-inf")

    def _outlet(self, plan: Plan, contexts: Contexts, payload_type: int) -> Outlet:
        outlet = Outlet(contexts.outbound, protect_address(), plan.ssrc, payload_type, secrets.randbelow(1 << 15), contexts)
        self._aim(outlet)
        return outlet

    def moved(self, address: Address) -> None:
        """Send there from now on."""
        self._address = sockaddr(self._mux.family, address)
        for outlet in [*self._outlets.values(), *([self._repair] if self._repair else [])]:
            self._aim(outlet)

    def _aim(self, outlet: Outlet) -> None:
        if self._address is not None:
            outlet.aim(self._address)

    def rtp(self, packet: bytes) -> None:
        """Viewers send no media; what comes is not looked at."""

    def rtcp(self, packet: bytes) -> None:
        """Answer what the viewer says."""
        for said in read(packet):
            match said:
                case Report():
                    self._reported(said)
                case Nack():
                    self._nacked(said)
                case WantKey():
                    self._wants_key(said.ssrc)
                case Estimate():
                    self.told.estimate = said.bits_per_s
                    self._ladder.estimate(said.bits_per_s, self._bits, self._now())
                case Goodbye():
                    pass        # of one SSRC of its own; the session ends by DTLS, DELETE or silence

    def gone(self, reason: str) -> None:
        """The peer is no more."""
        self.reason = reason
        for hub, stream in self._streams.values():
            hub.detach(stream)
        self._streams.clear()
        self._done(self, reason)

    # --- feedback

    def _reported(self, report: Report) -> None:
        if report.ssrc != self.pictures.ssrc or "video" not in self._streams:
            return
        self.told.lost = report.fraction_lost
        self.told.jitter_ms = 1000 * report.jitter / self._streams["video"][0].clock_rate
        share = self._losses.share(report.lost, report.highest)
        if share is not None:
            self._ladder.lost(share, self._now())

    def _nacked(self, nack: Nack) -> None:
        kind = "video" if nack.ssrc == self.pictures.ssrc else "audio"
        if kind not in self._streams or nack.ssrc != self._outlets[kind].ssrc:
            return
        outlet, hub = self._outlets[kind], self._streams[kind][0]
        self.told.nacked += len(nack.sequences)
        for sequence in nack.sequences:
            if self._allowance < 1:
                return
            sent = outlet.sent(sequence)
            packet = hub.packet(sent[0]) if sent is not None else None
            if sent is None or packet is None:
                continue
            self._allowance -= 1
            self.told.repaired += 1
            rtx = kind == "video" and self._repair is not None and self.rung.repair_type is not None
            self._egress.again(self._repair if rtx and self._repair else outlet, packet, sent[1], sequence, rtx)

    def _wants_key(self, ssrc: int) -> None:
        """The group so far once more: not more often than AGAIN_S, and hardly more bytes in all than were sent as they came."""
        if ssrc != self.pictures.ssrc or "video" not in self._streams:
            return
        self.told.plis += 1
        hub, stream = self._streams["video"]
        fresh = self._outlets["video"].octets - stream.repeated
        spent = stream.repeated + hub.group_bytes > fresh + AGAIN_BYTES
        if not stream.live or stream.keys_only or self._now() - self._restarted_s < AGAIN_S or spent:
            return
        self._restarted_s = self._now()
        self.told.restarts += 1
        hub.restart(stream)

    # --- once a second

    def look(self) -> None:
        """Rates, reports and the ladder."""
        now_s = self._now()
        self._allowance = min(NACK_BURST, self._allowance + NACK_PER_S * (now_s - self._told_s))
        if "video" in self._outlets:
            octets = self._outlets["video"].octets
            self._bits = 0.5 * self._bits + 0.5 * 8 * (octets - self._octets) / max(0.1, now_s - self._told_s)
            self._octets = octets
        self._told_s = now_s
        if not self._streams:
            return
        if self._ladder.look(now_s):
            self._losses = Losses()         # what was lost on the way before says nothing of this one
            self._climb(self.rungs[self._ladder.step])
        if now_s - self._reported_s >= REPORT_S:
            self._reported_s = now_s
            self._report()

    def _climb(self, rung: Rung) -> None:
        hub, stream = self._streams["video"]
        try:
            wanted = self._hubs(rung.track)
        except NotFound:
            return
        self.told.thinned += rung.keys_only
        if wanted is not hub:
            hub.detach(stream)
            outlet = self._outlets["video"]
            outlet.retype(rung.payload_type)
            if self._repair is not None and rung.repair_type is not None:
                self._repair.retype(rung.repair_type)
            stream = wanted.attach(outlet, stream)
            self._streams["video"] = wanted, stream
        if rung.keys_only != stream.keys_only:
            wanted.thin(stream, rung.keys_only)

    def without(self, track: str) -> bool:
        """Go on without a track that cannot be sent any more; False if there is no other."""
        ways = [*self.rungs, *([self.pictures.spare] if self.pictures.spare else [])]
        left = [rung for rung in ways if rung.track != track]
        if left:
            self.rungs, self._ladder = left, Ladder(len(left), self._now())
            self._climb(left[0])
        return bool(left)

    def _report(self) -> None:
        """Sender reports: how the media's clocks stand to UTC."""
        assert self._contexts is not None and self.peer is not None
        for kind, (hub, _) in self._streams.items():
            outlet, newest = self._outlets[kind], hub.newest
            if newest is None or self.peer.address is None or not outlet.packets:
                continue
            packet = sender_report(outlet.ssrc, newest.wall_ns, newest.timestamp + outlet.shift, outlet.packets, outlet.octets, self.cname)
            self._mux.send(self._contexts.protect_rtcp(packet), self.peer.address)

    def farewell(self) -> None:
        """BYE, before DTLS says goodbye."""
        if self._contexts is not None and self.peer is not None and self.peer.address is not None:
            for plan in (self.pictures, self.sound):
                if plan is not None:
                    self._mux.send(self._contexts.protect_rtcp(goodbye(plan.ssrc)), self.peer.address)

    # --- what others see

    def takes(self, hub: Hub) -> bool:
        """True if it is sent something of this hub."""
        return any(mine is hub for mine, _ in self._streams.values())

    @property
    def streaming(self) -> bool:
        """True once its keys were there."""
        return self._contexts is not None

    @property
    def state(self) -> str:
        """connecting, waiting (for a picture), playing, ended."""
        if self.reason:
            return "ended"
        if "video" not in self._streams:
            return "connecting"
        return "playing" if self._outlets["video"].packets else "waiting"

    @property
    def rung(self) -> Rung:
        """How it is sent now."""
        return self.rungs[self._ladder.step]

    def figures(self) -> dict[str, Any]:
        """As its resource tells them."""
        outlet = self._outlets.get("video")
        return {"state": self.state, "track": self.rung.track, "pictures": "key" if self.rung.keys_only else "all",
                "sound": self.sound is not None, "packets": outlet.packets if outlet else 0, "dropped_packets": outlet.dropped if outlet else 0,
                "kbps": round(self._bits / 1000), "lost": round(self.told.lost, 3), "jitter_ms": round(self.told.jitter_ms, 1),
                "estimate_kbps": round(self.told.estimate / 1000) if self.told.estimate is not None else None,
                "nacked": self.told.nacked, "repaired": self.told.repaired, "key_wishes": self.told.plis, "restarts": self.told.restarts}

    @property
    def sent(self) -> tuple[int, int, int]:
        """Packets, payload octets and packets that were not taken, of all its streams."""
        outlets = self._outlets.values()
        return sum(one.packets for one in outlets), sum(one.octets for one in outlets), sum(one.dropped for one in outlets)
