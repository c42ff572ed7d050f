"""One track of a camera in its worker: the queue, its tape, the formats of the session that fills it, and whether a gap is open."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recorder._ext.auqueue import AuQueue
from recorder._ext.rtp import RtpTrack
from recorder.base.config import RecordingConfig, RetentionRule, StreamConfig
from recorder.base.errors import VolumeError
from recorder.base.media import GapCause, SampleEntry, TrackKind
from recorder.movable import MovableTape
from recorder.rtp.formats import RtpFormat, sample_entry_for, video_facts
from recorder.tapes import Places, Tape, Tapes
from storage.tape import Come

if TYPE_CHECKING:
    from recorder._ext.rtp import RtpStats

QUEUE_MIN = 1 << 20
QUEUE_MAX = 64 << 20
SMALL_QUEUE = 512 << 10       # below a small chunk's tape (storage.layout.SMALL): an AU never straddles chunks
PICTURES_S = 60             # pictures a second that `buffer_s` must hold
BURST_AUS = 1024            # of what need not come at the pace of time: libav's sources, and 10 s of G.711 in packets of 10 ms
CEILING_MIN_BPS = 32_000_000
EMPTY_WAIT_S = 5.0
EMPTY_LOOKS = 250
COUNTED = (("aus", "aus"), ("bytes", "bytes"), ("damaged_aus", "damaged_aus"), ("lost_packets", "lost"), ("overrun_packets", "overrun"))


@dataclass(frozen=True, slots=True)
class Left:
    """A track whose tape was left for one on another volume: where its rows end and what is kept of them for sure, why it was left, counts."""

    end_ns: int
    kept_ns: int
    cause: GapCause
    detail: str
    totals: dict[str, int]
    last_au_ns: int
    recorded: bool


@dataclass(frozen=True, slots=True)
class TrackFacts:
    """What is known of the running session's format; empty before the first AU."""

    codec: str = ""
    width: int = 0
    height: int = 0


class TrackFeed:
    """The way of one track from its sessions to its tape. Made by `open`; all calls on the loop's thread, but `describe`."""

    def __init__(self, name: str, kind: TrackKind, clock_rate: int, queue: AuQueue) -> None:
        self.name = name
        self.kind = kind
        self.clock_rate = clock_rate
        self.queue = queue
        self.tape: MovableTape
        self.track: RtpTrack | None = None
        self.session = 0
        self.floor_ns = 0                # where the track ended when the session began
        self.come_ns = 0                 # where it ended on another volume
        self.facts = TrackFacts()
        self.gap: GapCause | None = None
        self.recorded = False            # an AU has come in this process
        self.last_au_ns = 0              # UTC; of sessions that have ended
        self.totals = dict.fromkeys((total for total, _ in COUNTED), 0)
        self._format: RtpFormat | None = None
        self._entries: dict[int, SampleEntry] = {}
        self._counted: RtpStats | None = None

    @classmethod
    async def open(cls, tapes: Tapes, camera: int, name: str, kind: TrackKind, clock_rate: int, rule: RetentionRule,
                   queue: AuQueue, left: Left | None = None) -> TrackFeed:
        """The track with its tape, which goes on where it was `left`; the tape is opened off the loop. Raises StorageError, Conflict."""
        feed = cls(name, kind, clock_rate, queue)
        opening = asyncio.ensure_future(asyncio.to_thread(tapes.open_track, camera, name, kind, clock_rate=clock_rate, queue=queue,
                                                          rule=rule, describe=feed.describe))
        try:
            feed.tape = MovableTape(await asyncio.shield(opening))
        except asyncio.CancelledError:
            opening.add_done_callback(_let_go)     # the thread goes on; a tape that nobody knows could never be opened again
            raise
        if left is not None:
            feed.totals, feed.last_au_ns, feed.recorded, feed.come_ns = dict(left.totals), left.last_au_ns, left.recorded, left.end_ns
            if left.kept_ns:
                feed.gap = left.cause
                feed.tape.come_from(left.kept_ns, left.cause, left.detail[:200])
        return feed

    async def hand_over(self, tapes: Places, camera: int, rule: RetentionRule, cause: GapCause, detail: str, *, failed: bool) -> None:
        """Go on in a tape on another volume in the midst of the session: what is not sure to be kept of the present one, whose volume may have
        `failed`, is taken from the queue once more, as far as it still is there; what is not is missing for `cause`.

        Raises StorageError, Conflict: then the tape is to be left.
        """
        au, kept_ns = self.tape.seam if failed else await self._parted()
        self.tape.leave()
        self.queue.rewind(au)
        come = Come(kept_ns, cause, detail[:200], *self.tape.session)
        opening = asyncio.ensure_future(asyncio.to_thread(tapes.open_track, camera, self.name, self.kind, clock_rate=self.clock_rate,
                                                          queue=self.queue, rule=rule, describe=self.describe, come=come))
        try:
            tape = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_let_go)
            raise
        self.tape.arrive(tape)

    async def _parted(self) -> tuple[int, int]:
        """The seam, once the writer takes nothing from the queue any more."""
        found: list[tuple[int, int]] = []
        self.tape.part(found.append)
        await _until(lambda: bool(found))
        if not found:
            raise VolumeError("the writer does not let go of a track", where=self.name, remedy="see the log")
        return found[0]

    @property
    def end_ns(self) -> int:
        """UTC end of the track's newest row or gap, on whatever volume."""
        return max(self.tape.end_ns, self.come_ns)

    async def leave(self, cause: GapCause, detail: str, *, failed: bool) -> Left:
        """Let go of the tape, for one on another volume. What waits for it is written first, unless its volume has failed."""
        kept_ns = self.tape.kept_ns
        if not failed:
            await self._settled()
            kept_ns = self.end_ns
        left = Left(self.end_ns, kept_ns, cause, detail, self.totals, self.last_au_ns, self.recorded)
        self.tape.detach()
        return left

    async def _settled(self) -> None:
        """The writer has taken what waits in the queue, and ended the session; 5 s at most."""
        settled = threading.Event()
        self.tape.then(settled.set)
        await _until(settled.is_set)

    def describe(self, number: int) -> SampleEntry | None:
        """How AUs of format `number` of the present session are coded. Called by the writer's thread; one dict look-up."""
        return self._entries.get(number)

    async def begin(self, chosen: RtpFormat, transport: str, *, ssrc: int, ceiling_bps: int, wall_ns: int) -> RtpTrack:
        """A new session's depacketiser. Waits until the writer has taken what the session before left, because formats are
        numbered anew (at most 5 s: behind a disk that stands still nothing would be lost by a wrong name either)."""
        await _until(lambda: not self.queue.waiting_aus)
        self._entries = {}
        self._format = chosen
        self._counted = None
        self.facts = TrackFacts()
        self.session = self.tape.next_session
        self.floor_ns = self.end_ns
        self.tape.begin_session(self.session, wall_ns, transport)
        self.track = make_track(self.queue, chosen, self.session, ssrc=ssrc, ceiling_bps=ceiling_bps, floor_wall_ns=self.floor_ns)
        if chosen.fixed:
            self.learn_formats()
        return self.track

    def learn_formats(self) -> None:
        """The session has a new format: make its sample entry before the writer asks a second time."""
        if self.track is None or self._format is None:
            return
        known = 1 if self._format.fixed else self.track.stats()["formats"]
        for number in range(1, known + 1):
            entry = self._entries.get(number) or self._entry(number)
            if entry is not None:
                self._entries[number] = entry
                self.facts = TrackFacts(self._format.codec, entry.width, entry.height)

    def _entry(self, number: int) -> SampleEntry | None:
        assert self.track is not None and self._format is not None
        try:
            return sample_entry_for(self._format, self.track.format_sets(number))
        except KeyError:
            return None

    def count(self) -> RtpStats | None:
        """The session's counters, added to the totals; None outside a session."""
        if self.track is None:
            return None
        stats, before = self.track.stats(), self._counted
        self._counted = stats
        for total, counter in COUNTED:
            self.totals[total] += stats[counter] - (before[counter] if before else 0)  # type: ignore[literal-required]
        if stats["aus"] > (before["aus"] if before else 0):
            self.gap = None              # the tape closes it by itself at the next decodable access point
            self.recorded = True
        return stats

    def open_gap(self, cause: GapCause, wall_ns: int, detail: str = "") -> None:
        """Footage is missing: from the end of the newest row on; if a gap is open already, for this cause from `wall_ns` on.

        A tape whose track has not yet recorded in this process has one open (crash, stopped, ...), unless it is new.
        """
        if self.gap is not cause:
            opened = self.gap is not None or (not self.recorded and self.end_ns > 0)
            self.gap = cause
            self.tape.open_gap(cause, wall_ns if opened else None, detail[:200])

    def end(self, wall_ns: int, mono_ns: int, reason: str) -> None:
        """The session is over; its last AU is completed, its counters are kept."""
        if self.track is None:
            return
        self.track.flush()
        stats = self.count()
        if stats is not None and stats["last_au_ns"]:
            self.last_au_ns = stats["last_au_ns"] + wall_ns - mono_ns
        self.tape.end_session(self.session, wall_ns, reason[:200])
        self.track = None


async def _until(ready: Callable[[], bool]) -> None:
    """Wait for the writer's thread, 5 s at most. It does not signal us; this waits 200 ms at worst when all is well."""
    for _ in range(EMPTY_LOOKS):
        if ready():
            break
        await asyncio.sleep(EMPTY_WAIT_S / EMPTY_LOOKS)


def _let_go(opened: asyncio.Future[Tape]) -> None:
    if not opened.cancelled() and opened.exception() is None:
        opened.result().detach()


def make_track(queue: AuQueue, chosen: RtpFormat, session: int, *, ssrc: int = -1, ceiling_bps: int = 0,
               floor_wall_ns: int = 0) -> RtpTrack:
    """The depacketiser for a medium."""
    depth = video_facts(chosen.codec, chosen.sets).reorder_depth if chosen.kind is TrackKind.VIDEO else 0
    return RtpTrack(queue, chosen.codec, chosen.clock_rate, chosen.payload_types, session, channels=chosen.channels,
                    aac_size_length=chosen.size_length, aac_index_length=chosen.index_length,
                    aac_index_delta_length=chosen.index_delta_length, aac_duration=chosen.aac_duration, parameter_sets=chosen.sets,
                    reorder_depth=depth, ssrc=ssrc, ceiling_bps=ceiling_bps, provisional=True, floor_wall_ns=floor_wall_ns,
                    latm_config=chosen.latm_config, width=chosen.width, height=chosen.height)


def video_queue(stream: StreamConfig, recording: RecordingConfig) -> AuQueue:
    """A queue for `buffer_s` at the declared bit rate and 60 pictures a second, rounded up to powers of two: from 1 MiB to 64 MiB."""
    wanted = round(stream.kbps * 125 * recording.buffer_s)
    aus = round(PICTURES_S * recording.buffer_s) if stream.url.startswith("rtsp") else BURST_AUS
    return AuQueue(min(QUEUE_MAX, max(QUEUE_MIN, _power_of_two(wanted))), _power_of_two(aus))


def _power_of_two(least: int) -> int:
    return 1 << max(0, least - 1).bit_length()


def small_queue() -> AuQueue:
    """A queue for audio (8 s at 512 kbit/s) or metadata (documents of at most 508 KiB)."""
    return AuQueue(SMALL_QUEUE, BURST_AUS)


def ceiling_bps(stream: StreamConfig) -> int:
    """Above this for 10 s a stream's AUs are dropped: as configured, else max(3 x declared, 32 Mbit/s)."""
    return stream.ceiling_kbps * 1000 or max(3 * stream.kbps * 1000, CEILING_MIN_BPS)
