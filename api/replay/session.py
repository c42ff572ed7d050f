"""One client's replay of a camera: PLAYs one after the other on one timeline. Knows no messages of RTSP."""

import asyncio
import logging
import secrets
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from api.media import Media
from api.replay.ask import Ask, Frames, Rejected
from api.replay.described import Described
from api.replay.pace import Pace, Ticks
from api.replay.player import Outlet, Player, Track
from api.replay.reading import Reading
from api.replay.shot import Shot
from api.replay.thin import Thin
from api.replay.walk import Backwards, Forwards, Walk, begin
from api.rtspout.coding import coding_of
from recorder.base.media import NS, TrackKind

log = logging.getLogger("watchroom.api")

AHEAD_NS = 60 * NS            # a start that lies ahead by less, as clocks differ, is waited for
KEYS_FROM = 4.0               # from this pace on only access points are sent, unless frames are named


@dataclass(frozen=True, slots=True)
class Begun:
    """What a PLAY has come to: UTC of its first AU (or of what was asked, while there is none), and each track's RTP timestamp then."""

    start_ns: int
    end_ns: int | None
    scale: float
    stamps: dict[str, int]


class Session:
    """Plays `tracks` of a camera. `zero_ns` is the UTC of NPT 0. Loop thread only; `close` at the end."""

    def __init__(self, media: Media, camera: int, tracks: tuple[Described, ...], zero_ns: int) -> None:
        self._media, self._camera, self._zero_ns = media, camera, zero_ns
        self._tracks = {track.name: track for track in tracks}
        self._pace = Pace()
        self._ticks = {track.name: Ticks(coding_of(track.entry).clock, secrets.randbits(32), sound=track.entry.kind is TrackKind.AUDIO)
                       for track in tracks}
        self._player: Player | None = None
        self._task: asyncio.Task[None] | None = None
        self._ask, self._reached_ns, self._closed = Ask(), 0, False

    async def play(self, ask: Ask, cseq: int, outlet: Outlet, names: Collection[str]) -> Begun:
        """Find where to begin; `go` sends. What was playing ends, or goes on where the request names nothing else.

        Raises Rejected 457 if nothing of the range is recorded.
        """
        if self._player is not None and not self._player.done and not ask.said:
            return self._go_on(cseq)
        start_ns, end_ns = self._times(ask)
        player = Player(await self._walks(ask, start_ns, end_ns, names), self._pace, outlet, cseq)
        try:
            first = await player.first()
            now_ns = self._media.clock.wall_ns()
            if first is None and not ask.backwards and start_ns > now_ns + AHEAD_NS:      # else it is of before the clock was set back
                raise Rejected(457, "the range lies in the future")
            if first is None and player.nothing(now_ns, end_ns):
                raise Rejected(457, "nothing of this range is recorded", remedy="see the camera's timeline")
            await self._end()
            if self._closed:
                raise Rejected(454, "the session has ended")
        except BaseException:
            player.close()
            raise
        self._player, self._ask = player, ask
        self._pace.again(paced=ask.paced, scale=ask.scale)
        if first is not None:
            self._pace.begin(first.due_ns)
        return self._begun(first, start_ns, end_ns, ask.scale)

    def go(self) -> None:
        """Send what was found."""
        if self._player is not None and self._task is None:
            self._task = asyncio.create_task(self._run(self._player))

    def pause(self) -> None:
        """Send nothing more until the next PLAY."""
        if self._player is not None:
            self._player.pause()

    @property
    def done(self) -> bool:
        """True when everything that was asked for has been sent."""
        return self._player is not None and self._player.done

    def close(self) -> None:
        """End at once."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        elif self._player is not None:
            self._player.close()
        self._player = None

    async def _end(self) -> None:
        task, self._task, player, self._player = self._task, None, self._player, None
        if task is not None:
            self._reached_ns = player.reached_ns if player is not None else 0
            task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        elif player is not None:
            player.close()

    async def _run(self, player: Player) -> None:
        try:
            await player.run()
        except Exception:                    # one session's end, not the server's
            log.exception("a replay has failed")
            player.done = True

    def _go_on(self, cseq: int) -> Begun:
        player = self._player
        assert player is not None
        player.go_on(cseq)
        return self._begun(player.next(), player.reached_ns, self._ask.end_ns, self._ask.scale)

    def _begun(self, first: Shot | None, start_ns: int, end_ns: int | None, scale: float) -> Begun:
        wall_ns = start_ns if first is None else first.wall_ns
        play_ns = self._pace.play_ns(wall_ns)
        return Begun(wall_ns, end_ns, scale, {name: ticks.at(play_ns) for name, ticks in self._ticks.items()})

    def _times(self, ask: Ask) -> tuple[int, int | None]:
        """UTC of the start and the end."""
        now_ns = self._media.clock.wall_ns()
        zero_ns = self._zero_ns if ask.npt else 0
        end_ns = None if ask.end_ns is None else ask.end_ns + zero_ns
        start_ns = ask.start_ns + zero_ns if ask.start_ns is not None else now_ns if ask.now else self._here_ns(now_ns, ask)
        return start_ns, end_ns

    def _here_ns(self, now_ns: int, ask: Ask) -> int:
        """Where it stands; before anything has been played the beginning, backwards the end."""
        reached_ns = self._player.reached_ns if self._player is not None else self._reached_ns
        return reached_ns or (now_ns if ask.backwards else self._zero_ns)

    # -- what walks --

    async def _walks(self, ask: Ask, start_ns: int, end_ns: int | None, names: Collection[str]) -> list[Track]:
        chosen = [track for name, track in self._tracks.items() if name in names]
        pictures = [track for track in chosen if track.entry.kind is TrackKind.VIDEO]
        lead = (pictures or chosen)[0]
        out = [await self._lead(lead, ask, start_ns, end_ns)]
        if not ask.backwards and ask.frames is not Frames.INTRA and (ask.scale == 1.0 or not ask.paced):
            from_ns = max(out[0].walk.reached_ns, 0)
            out += [self._beside(track, ask, from_ns, end_ns) for track in chosen if track is not lead]
        return out

    async def _lead(self, told: Described, ask: Ask, start_ns: int, end_ns: int | None) -> Track:
        """The track whose access points the others follow."""
        reading, keys = Reading(self._media, self._camera, told.name), self._keys(ask)
        keys = keys and told.entry.kind is TrackKind.VIDEO
        thin = Thin(Frames.INTRA if keys else ask.frames, ask.interval_ns, reading.part)
        walk: Walk
        if ask.backwards:
            walk = Backwards(self._media, self._camera, told.name, told.entry, thin, start_ns, end_ns, keys=keys)
        else:
            at = await begin(self._media, self._camera, told.name, start_ns)
            walk = Forwards(self._media, self._camera, told.name, told.entry, thin, at, start_ns, end_ns, keys=keys)
        return Track(told.name, walk, reading, self._ticks[told.name])

    def _beside(self, told: Described, ask: Ask, from_ns: int, end_ns: int | None) -> Track:
        """Sound from the first picture on."""
        reading = Reading(self._media, self._camera, told.name)
        thin = Thin(Frames.ALL, 0, reading.part)
        walk = Forwards(self._media, self._camera, told.name, told.entry, thin, None, from_ns, end_ns)
        return Track(told.name, walk, reading, self._ticks[told.name])

    def _keys(self, ask: Ask) -> bool:
        """True if only access points are sent: asked for, or too fast for more (at 4 times and above)."""
        return ask.frames is Frames.INTRA or (ask.paced and abs(ask.scale) >= KEYS_FROM)
