"""One stream of a camera (main with audio, or sub): connect, record, watch, write down why it ended, wait, and again.

States: connecting -> recording -> backoff -> connecting ...; stopped at the end, `ended` when a source has given all it had. Whatever
happens to a session ends here as a SourceError whose cause becomes the gap's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from recorder._ext import rtp
from recorder._ext.auqueue import AuQueue
from recorder._ext.rtp import RtpTrack
from recorder.base.clock import Clock
from recorder.base.config import CameraConfig, RecordingConfig, RetentionRule, StreamConfig
from recorder.base.errors import Conflict, OtherKind, SourceError, StorageError
from recorder.base.media import NS, GapCause, TrackKind
from recorder.base.source_url import SCHEMES, source_url
from recorder.drainer import Drainer
from recorder.feed import Left, TrackFeed, ceiling_bps, small_queue, video_queue
from recorder.gate import Backoff, HandshakeGate
from recorder.liveness import Life, Liveness
from recorder.rates import Rates
from recorder.repeats import Repeats
from recorder.rtp.audio import in_g726_order
from recorder.rtp.formats import VIDEO_CLOCK, RtpFormat
from recorder.rtsp.address import AddressBook
from recorder.source import Opened, RtspSource, Session, Source, SourceEnded
from recorder.sources.source import LibavSource
from recorder.tapes import Places
from recorder.timeline import RESTART_STEP_NS, SessionTimeline, TrackTimeline, WallOffset

if TYPE_CHECKING:
    from recorder._ext.rtp import RtpStats

STORAGE_RETRY_S = 10.0
OVERLOAD_NS = 2 * NS
NO_KEYFRAME_SAID = "packets come, but no key frame with its parameter sets"
DROPPED = {"video": "pictures are", "audio": "sound is", "metadata": "documents are"}
BY_DATAGRAM = {"rtsp/udp", "rtsp/multicast"}      # packets that are missing are awaited


@dataclass(frozen=True, slots=True)
class Services:
    """What a worker lends to its streams."""

    clock: Clock
    wall: WallOffset
    drainer: Drainer
    gate: HandshakeGate
    book: AddressBook
    tapes: Places
    recording: RecordingConfig
    log: logging.Logger
    rng: random.Random = field(default_factory=random.Random)


@dataclass(frozen=True, slots=True)
class Move:
    """Why a stream's tapes are to be left for others, and whether nothing more can be written to them."""

    cause: GapCause
    why: str
    failed: bool


class Stream:
    """One stream of one camera. `run` is its task; `sweep` and `step` come from the worker's timer."""

    def __init__(self, number: int, camera: CameraConfig, which: str, config: StreamConfig, rule: RetentionRule,
                 services: Services) -> None:
        self.which = which
        self.state = "connecting"
        self.since_ns = services.wall.wall_ns()
        self.error: SourceError | None = None
        self.stop_cause: GapCause | None = None          # set before `run` is cancelled; None: the process ends
        self.feeds: dict[str, TrackFeed] = {}            # by kind: video, audio, metadata
        self.rates = {kind.value: Rates() for kind in TrackKind}
        self._number = number
        self._camera = camera
        self._config = config
        self._rule = rule
        self._with = services
        self._where = f"{camera.id}/{which}"
        self.failures: dict[GapCause, int] = {}          # ends of sessions and of tries, by cause
        self._repeats = Repeats(services.clock)
        self._source = self._make_source()
        self._backoff = Backoff(services.rng)
        self._session: Session | None = None
        self._timeline: SessionTimeline | None = None
        self._liveness: Liveness | None = None
        self._first_au_ns = 0
        self._moving: SourceError | None = None          # why the tapes are to be left for others
        self._failed = False                             # and whether nothing more can be written to them
        self._left: dict[str, Left] = {}                 # by track name
        self._moves: list[Move] = []                     # to be made in the midst of the session
        self._handing: asyncio.Task[None] | None = None  # who makes them
        self._wake = asyncio.Event()

    def move(self, cause: GapCause, why: str, *, failed: bool) -> None:
        """Go to another volume. The session goes on; where that cannot be it ends, and the next begins at once.

        `failed`: nothing more can be written to the present tapes.
        """
        if self.state in {"stopped", "ended"}:
            return
        move = Move(cause, why, failed)
        if self._moving is not None or self._session is None or any(f.track is not None and f.track.provisional for f in self.feeds.values()):
            self._begin_anew(move)       # footage whose time is not settled yet cannot be taken along
            return
        self._moves.append(move)
        if not self.moving:
            self._handing = asyncio.create_task(self._hand_over(), name=f"{self._where} moves")

    @property
    def moving(self) -> bool:
        """True while the tracks go from a volume to another in the midst of a session."""
        return self._handing is not None and not self._handing.done()

    def _begin_anew(self, move: Move) -> None:
        """The session ends, and the next begins at once, with new tapes."""
        self._failed = self._failed or move.failed
        if self._moving is None:
            self._moving = SourceError(move.why, cause=move.cause, where=self._where)
            if self._session is not None:
                self._session.end(self._moving)
            self._wake.set()

    async def _hand_over(self) -> None:
        """Take every track to its new tape."""
        while self._moves:
            move = self._moves.pop(0)
            try:
                for kind, feed in list(self.feeds.items()):
                    if feed.track is not None:
                        await feed.hand_over(self._with.tapes, self._number, self._rule, move.cause, move.why, failed=move.failed)
                    else:
                        self._left[feed.name] = await feed.leave(move.cause, move.why, failed=move.failed)
                        del self.feeds[kind]
            except (StorageError, Conflict) as error:
                self._complain(f"it cannot go to another volume as it is: {error}")
                self._moves.clear()
                self._begin_anew(replace(move, failed=True))

    async def run(self, spread_s: float = 0.0) -> None:
        """Record until cancelled; then everything is told to the camera and to the tapes. Waits up to `spread_s` before the first try."""
        try:
            await asyncio.sleep(self._with.rng.uniform(0, spread_s))
            while True:
                error, good_s = await self._run_once()
                if isinstance(error, SourceEnded):
                    await self._rest(error)
                wait_s = 0.0 if error is self._moving else self._backoff.next_s(error.retry_s, good_s)
                self._note(error, wait_s)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), wait_s)
                self._enter("connecting")
        finally:
            if self._handing is not None:
                self._handing.cancel()
                await asyncio.gather(self._handing, return_exceptions=True)
            self._enter("stopped")

    async def _rest(self, ended: SourceEnded) -> None:
        """Nothing more will come: let go of the tapes, and wait to be cancelled."""
        self.error = ended
        self._enter("ended")
        self.detach()
        await asyncio.get_running_loop().create_future()

    async def _run_once(self) -> tuple[SourceError, float]:
        """One session from connect to its end: why it ended, and for how many seconds its frames were good."""
        try:
            await self._leave_tapes()
            feed = await self._feed("video", VIDEO_CLOCK)
            self._first_au_ns = 0
            opened = await self._source.open(self._make_track, feed.end_ns)
        except SourceError as error:
            self._end_feeds(error)
            return error, 0.0
        except (StorageError, Conflict) as error:
            return SourceError(str(error), cause=GapCause.DISK, retry_s=STORAGE_RETRY_S, where=self._where), 0.0
        except asyncio.CancelledError:
            self._end_feeds(None)
            raise
        return await self._record(opened), self._good_s()

    def _make_source(self) -> Source:
        camera, lent = self._camera, self._with
        beside = {"audio": camera.audio, "metadata": camera.metadata} if self.which == "main" else {}
        kinds = ("video", *(kind for kind, wanted in beside.items() if wanted))
        parts = urlsplit(self._config.url)
        if parts.scheme in SCHEMES:
            return LibavSource(camera, self._config, source_url(parts), kinds, lent.book, lent.gate, lent.drainer, lent.clock, lent.wall,
                               lent.recording.import_dir)
        return RtspSource(camera, self._config, kinds, lent.recording, lent.book, lent.gate, lent.drainer, lent.clock, lent.wall,
                          self._complain)

    async def _make_track(self, kind: str, chosen: RtpFormat, ssrc: int) -> RtpTrack:
        """The depacketiser of a medium whose SETUP was accepted."""
        feed = await self._feed(kind, chosen.clock_rate)
        chosen = in_g726_order(chosen, self._camera.g726_order)
        ceiling = ceiling_bps(self._config) if kind == "video" and self._source.live else 0
        track = await feed.begin(chosen, self._source.transport, ssrc=ssrc, ceiling_bps=ceiling, wall_ns=self._with.wall.wall_ns())
        track.patience_ns = self._config.reorder_ms * 1_000_000
        return track

    async def _feed(self, kind: str, clock_rate: int) -> TrackFeed:
        """The feed of a kind; made on first use, made anew when the camera's clock rate changed."""
        feed = self.feeds.get(kind)
        if feed is not None and feed.clock_rate != clock_rate:
            self._gap(feed, GapCause.UNSUPPORTED, f"the camera's {kind} now has {clock_rate} Hz and a track of its own")
            feed.tape.detach()
            feed = None
        if feed is None:
            try:
                feed = await self._open(self.which if kind == "video" else kind, kind, clock_rate)
            except OtherKind:            # a tape has one clock for ever
                feed = await self._open(f"{kind}-{clock_rate}", kind, clock_rate)
            self.feeds[kind] = feed
        return feed

    async def _open(self, name: str, kind: str, clock_rate: int) -> TrackFeed:
        queue: AuQueue = video_queue(self._config, self._with.recording) if kind == "video" else small_queue()
        feed = await TrackFeed.open(self._with.tapes, self._number, name, TrackKind(kind), clock_rate, self._rule, queue, self._left.get(name))
        self._left.pop(name, None)
        return feed

    async def _leave_tapes(self) -> None:
        """Let go of the tapes that are to be left. A track that is not opened again at once keeps what was left of it."""
        if self._handing is not None:
            await self._handing
            self._handing = None
        self._wake.clear()
        moving, self._moving = self._moving, None
        if moving is not None:
            for feed in list(self.feeds.values()):
                self._left[feed.name] = await feed.leave(GapCause(moving.cause), moving.message, failed=self._failed)
            self.feeds, self._failed = {}, False

    async def _record(self, opened: Opened) -> SourceError:
        """The session up to its end, whose reason is returned."""
        self._begin(opened)
        assert self._session is not None and self._timeline is not None
        error: SourceError | None = None
        if self._moving is not None:
            self._session.end(self._moving)
        try:
            await self._session.run()
        except SourceError as ended:
            error = ended
        finally:
            try:
                await self._session.close()
            finally:                     # also when it takes too long and is cancelled once more
                self._timeline.finish()
                self._session = self._timeline = self._liveness = None
                self._end_feeds(error)
        assert error is not None
        return error

    def _begin(self, opened: Opened) -> None:
        self.error = next(iter(opened.lost.values()), None)
        for kind, reason in opened.lost.items():
            if kind in self.feeds:
                self._gap(self.feeds[kind], GapCause(reason.cause), str(reason))
            self._complain(f"{kind} is not recorded: {reason}")
        feeds = [self.feeds[p.kind] for p in opened.tracks]
        lines = [TrackTimeline(p.track, f.tape, f.session, f.floor_ns) for p, f in zip(opened.tracks, feeds, strict=True)]
        self._timeline = self._source.timeline(lines)
        awaited_ns = max((p.track.patience_ns for p in opened.tracks if self._source.transport in BY_DATAGRAM), default=0)
        self._liveness = Liveness(self._with.clock.mono_ns(), round(self._camera.stall_s * NS) + awaited_ns)
        self._session = self._source.session(self._take_events)

    def _take_events(self, events: int) -> None:
        """Rare things about the session's tracks (recorder._ext.rtp.EVENT_*)."""
        if events & (rtp.EVENT_FORMAT_CHANGE | rtp.EVENT_FIRST_AU):
            for feed in self.feeds.values():
                feed.learn_formats()
        if events & rtp.EVENT_FIRST_AU and self._timeline is not None:
            self._first_au_ns = self._first_au_ns or self._with.clock.mono_ns()
            self._timeline.tick(self._with.clock.mono_ns())
            if self.state != "recording":
                self._enter("recording")
                self._with.log.info("%s: recording", self._where)

    def sweep(self, mono_ns: int) -> None:
        """Once a second: reports, times, counters, stalls."""
        if self._session is None or self._timeline is None or self._liveness is None:
            return
        self._session.sweep(mono_ns)
        self._timeline.tick(mono_ns)
        video_plays = any(f.track is not None for k, f in self.feeds.items() if k == "video")
        for kind, feed in self.feeds.items():
            stats = feed.count()
            if stats is not None:
                self.rates[kind].add(mono_ns, stats["aus"], stats["bytes"])
                self._watch(kind, feed, stats, self._liveness.look(stats, mono_ns), leads=kind == "video" or not video_plays)
                self._watch_queue(kind, feed, mono_ns)

    def _watch(self, kind: str, feed: TrackFeed, stats: RtpStats, life: Life, *, leads: bool) -> None:
        """A dead leading track ends the session; dead audio beside a video is a gap of its own; silent metadata has nothing to say."""
        if not self._source.live:
            return
        if stats["off"]:
            self._turned_off(kind, feed, leads=leads)
        elif kind == "metadata":
            return
        elif life is Life.STALLED and leads:
            assert self._session is not None
            other = "nothing of the payload types in its description" if stats["unknown_pt"] else "nothing"
            what = f"no {kind}" if stats["packets"] else other
            self._session.end(SourceError(f"{what} came for {self._camera.stall_s:.0f} s", cause=GapCause.STALL, where=self._where))
        elif life is Life.STALLED:
            self._gap(feed, GapCause.STALL, f"no {kind} came for {self._camera.stall_s:.0f} s")
        elif life is Life.NO_KEYFRAME:
            self._gap(feed, GapCause.NO_KEYFRAME, NO_KEYFRAME_SAID)
            if kind == "video":
                self._complain(f"{GapCause.NO_KEYFRAME.word}: {NO_KEYFRAME_SAID}")

    def _turned_off(self, kind: str, feed: TrackFeed, *, leads: bool) -> None:
        """Something else is sent than was described: beside a video that is a gap, alone it ends the session."""
        said = f"the camera's {kind} is not what its description says ({feed.facts.codec})"
        if not leads or kind == "metadata":
            self._gap(feed, GapCause.UNSUPPORTED, said)
        elif self._session is not None:
            self._session.end(SourceError(said, cause=GapCause.UNSUPPORTED, retry_s=60.0, where=self._where))

    def _watch_queue(self, kind: str, feed: TrackFeed, mono_ns: int) -> None:
        since_ns = feed.queue.dropping_since_ns
        if since_ns and mono_ns - since_ns > OVERLOAD_NS:
            full = 2 * feed.queue.waiting_bytes > feed.queue.capacity or 2 * feed.queue.waiting_aus > feed.queue.max_aus
            many = f"the camera sends more than its ceiling of {ceiling_bps(self._config) // 1000} kbit/s"
            why = "the writer does not keep up" if full else many if kind == "video" else f"its {kind} is larger than what is kept in memory"
            if feed.gap is not GapCause.OVERLOAD:
                self._complain(f"{feed.name}: {DROPPED[kind]} dropped: {why}")
            self._gap(feed, GapCause.OVERLOAD, why)

    def step(self, wall_ns: int, step_ns: int) -> None:
        """Our wall clock was set. The line goes on; after a long step forward the session begins anew, at the right time."""
        if self._timeline is not None:
            self._timeline.step(wall_ns, step_ns)
        if self._session is not None and step_ns > RESTART_STEP_NS:
            self._session.end(SourceError(f"our clock was set forward by {step_ns / NS:.1f} s", cause=GapCause.CLOCK_STEP,
                                          where=self._where))

    def set_rule(self, rule: RetentionRule) -> None:
        """Another rule of retention, from now on."""
        self._rule = rule
        for feed in self.feeds.values():
            feed.tape.set_rule(rule)

    def detach(self) -> None:
        """After the end of `run`: let go of the tapes."""
        for feed in self.feeds.values():
            feed.tape.detach()
        self.feeds = {}

    def _end_feeds(self, error: SourceError | None) -> None:
        """Every track's session ends; a gap opens with the reason, or with the stop's cause (none when the process ends: the slot does it)."""
        cause = self.stop_cause if error is None or isinstance(error, SourceEnded) else GapCause(error.cause)
        if error is not None and error is self._moving:
            cause = None                 # the tape that the track goes to says so
        for kind, feed in self.feeds.items():
            self.rates[kind].clear()
            feed.end(self._with.wall.wall_ns(), self._with.clock.mono_ns(), str(error) if error is not None else "stopped")
            if cause is not None:
                self._gap(feed, cause, error.message if error is not None else "")

    def _gap(self, feed: TrackFeed, cause: GapCause, detail: str) -> None:
        if not self._source.live and (feed.gap is not None or not feed.recorded):
            return                       # what is missing of a file is missing from where it broke off, whatever happens today
        feed.open_gap(cause, self._with.wall.wall_ns(), detail)

    def _good_s(self) -> float:
        return (self._with.clock.mono_ns() - self._first_au_ns) / NS if self._first_au_ns else 0.0

    def _note(self, error: SourceError, wait_s: float) -> None:
        """One line for every kind of reason, not for every try."""
        cause = GapCause(error.cause)
        self.failures[cause] = self.failures.get(cause, 0) + 1
        self._complain(f"{cause.word}: {error}", f" (next try in {wait_s:.1f} s)")
        self.error = error
        self._enter("backoff")

    def _complain(self, text: str, tail: str = "") -> None:
        line = self._repeats.add(text)
        if line is not None:
            self._with.log.warning("camera %s: %s%s", self._where, line, tail)

    def _enter(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.since_ns = self._with.wall.wall_ns()
