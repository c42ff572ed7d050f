"""The live presentation: the camera's pictures and sound as they become visible, from the newest access point on."""

import asyncio
import contextlib
from collections.abc import Mapping

from api.authorise import Grant
from api.rtspout.coding import coding_of
from api.rtspout.fault import Fault
from api.rtspout.out import Out
from api.rtspout.presentation import Address, Medium, Started
from api.rtspout.relay import Packets, Relay, Relays
from api.rtspout.request import Request
from api.rtspout.viewer import Viewer
from recorder.base.errors import NotFound, WatchroomError
from recorder.base.media import NS, TrackKind

KNOWN_S = 3.0               # how long the first unit of a track is waited for
FRESH_NS = 60 * NS          # sound that is older beside the pictures is none
NOW = (("Range", "npt=now-"),)


class Live:
    """A Presentation of main and audio, or of sub."""

    attributes: tuple[str, ...] = ("range:npt=now-", "type:broadcast")
    features: frozenset[str] = frozenset()

    def __init__(self, relays: Mapping[str, Relay]) -> None:
        self._relays = relays
        self._viewers: dict[str, Viewer] = {}
        self._playing = False
        self.media = tuple(Medium(track, relay.entry, ssrc=relay.ssrc) for track, relay in relays.items() if relay.entry is not None)

    @property
    def done(self) -> bool:
        """As Presentation."""
        return any(relay.ended for relay in self._relays.values())

    @property
    def skipped(self) -> int:
        """Units that were left out because the client was too slow."""
        return sum(viewer.skipped for viewer in self._viewers.values())

    async def play(self, request: Request, outs: Mapping[str, Out]) -> Started:
        """As Presentation. While it plays, another PLAY changes nothing."""
        if "clock" in request.headers.get("range", ""):
            raise Fault(457, "live has no past; footage is below /replay/")
        if self._playing:
            return Started(NOW, {})
        known = {track: viewer for track, viewer in self._viewers.items() if outs.get(track) is viewer.out}
        self._viewers = known | {track: Viewer(self._relays[track], out) for track, out in outs.items() if track not in known}
        found = {track: viewer.first(self._group(track)) for track, viewer in self._viewers.items()}
        return Started(NOW, {track: first for track, first in found.items() if first is not None})

    def go(self) -> None:
        """As Presentation."""
        if self._playing:
            return
        self._playing = True
        groups = {track: self._group(track) for track in self._viewers}
        for track, viewer in self._viewers.items():
            viewer.begin(groups[track], access_point=self._video(track))

    def _video(self, track: str) -> bool:
        entry = self._relays[track].entry
        return entry is not None and entry.kind is TrackKind.VIDEO

    def _group(self, track: str) -> list[Packets]:
        """What the track begins with: the newest picture group; sound from there on; nothing of what is long past, or while much waits."""
        relay = self._relays[track]
        if relay.silent is not None or relay.ended or self._viewers[track].late:
            return []
        if self._video(track):
            return relay.group
        starts = [self._relays[other].group[0].wall_ns for other in self._viewers if self._video(other) and self._relays[other].group]
        since_ns = min(starts, default=relay.group[-1].wall_ns if relay.group else 0)
        return [packets for packets in relay.group if packets.wall_ns >= since_ns]

    async def pause(self) -> None:
        """As Presentation."""
        self._playing = False
        for viewer in self._viewers.values():
            viewer.rest()

    def close(self) -> None:
        """As Presentation."""
        for viewer in self._viewers.values():
            viewer.rest()
        for relay in self._relays.values():
            relay.release()


class LiveOpener:
    """An Open: presentations of cameras as they are now."""

    def __init__(self, relays: Relays) -> None:
        self._relays = relays

    async def __call__(self, address: Address, grant: Grant) -> Live:
        """Raises NotFound if there is nothing of the camera, Fault 503 if nothing of it can be described now."""
        number = address.camera.number
        held: dict[str, Relay] = {}
        try:
            for track in ("sub",) if address.sub else ("main", "audio"):
                with contextlib.suppress(*((NotFound,) if track == "audio" else ())):
                    held[track] = self._relays.hold(number, track)
            await self._known(held)
            return self._made(held)
        except BaseException:
            for relay in held.values():
                relay.release()
            raise

    @staticmethod
    async def _known(held: Mapping[str, Relay]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KNOWN_S):
                for relay in held.values():
                    await relay.known.wait()

    @staticmethod
    def _made(held: dict[str, Relay]) -> Live:
        picture = next(iter(held.values()))
        if picture.entry is None or picture.ended:
            raise Fault(503, "nothing of this camera is known yet; try again in a moment", (("Retry-After", "5"),))
        coding_of(picture.entry)
        sound = held.get("audio")
        if sound is not None and not _fits(picture, sound):
            del held["audio"]
            sound.release()
        return Live(held)


def _fits(picture: Relay, sound: Relay) -> bool:
    """Whether the sound belongs to the pictures of now, and can be sent."""
    if sound.entry is None or sound.ended or not sound.group:
        return False
    try:
        coding_of(sound.entry)
    except WatchroomError:
        return False
    return not picture.group or sound.group[-1].wall_ns > picture.group[-1].wall_ns - FRESH_NS
