"""Sources that libav opens, as recorder/stream.py sees them: a process per session, its AUs through the same kernels as a camera's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from recorder._ext import rtp
from recorder.base.clock import Clock
from recorder.base.config import CameraConfig, StreamConfig
from recorder.base.errors import SourceError
from recorder.base.media import NS, GapCause
from recorder.base.source_url import SourceUrl
from recorder.drainer import Drainer
from recorder.gate import HandshakeGate
from recorder.rtsp.address import AddressBook
from recorder.rtsp.handshake import MakeTrack, PlayingTrack, choose
from recorder.rtsp.message import ServerRequest
from recorder.rtsp.sdp import parse_sdp
from recorder.source import OnEvents, SourceEnded
from recorder.sources.imported import ImportTimeline, open_below
from recorder.sources.job import LIMIT, UNLIMITED, SourceJob
from recorder.sources.process import SourceProcess, whole_number
from recorder.timeline import SessionTimeline, TrackTimeline, WallOffset

GRANT_S = 0.1
LAST_MS = 1000                       # so near its end a file counts as recorded: what is left may hold no access point
PACED = {"hls", "file"}              # pulled as fast as we like: never more than there is room for
ENDED = rtp.EVENT_EOF | rtp.EVENT_ERROR | rtp.EVENT_DAMAGED_STREAM


@dataclass(frozen=True, slots=True)
class Announced:
    """An open source (recorder.source.Opened)."""

    process: SourceProcess
    tracks: tuple[PlayingTrack, ...]
    lost: dict[str, SourceError]


class LibavSource:
    """One stream. `networks` and `import_dir` say where it may lie; all on the loop's thread."""

    def __init__(self, camera: CameraConfig, stream: StreamConfig, url: SourceUrl, kinds: tuple[str, ...], book: AddressBook,
                 gate: HandshakeGate, drainer: Drainer, clock: Clock, wall: WallOffset, import_dir: Path | None) -> None:
        self.transport = "https" if url.tls else url.kind
        self.live = url.kind != "file"
        self._camera = camera
        self._stream = stream
        self._url = url
        self._kinds = kinds
        self._book = book
        self._gate = gate
        self._drainer = drainer
        self._clock = clock
        self._wall = wall
        self._import_dir = import_dir
        self._opened: Announced | None = None
        self._skip_ms = 0

    async def open(self, make_track: MakeTrack, held_ns: int) -> Announced:
        """Start a process, let it open the source and say what there is, make the tracks. Raises SourceError."""
        async with self._gate.enter(f"{self._url.host}:{self._url.port}", keeps=True):
            process = await self._start(await self._job())
            try:
                said = await process.announced(self._clock.mono_ns(), self._wall)
                start_ns = 0 if self.live else self._place(said, held_ns)
                self._opened = await self._set_up(process, said, make_track)
                for playing in self._opened.tracks if not self.live else ():
                    playing.track.set_line(ImportTimeline.OFFSET_S * playing.format.clock_rate, start_ns)
                    playing.track.provisional = False
            except BaseException:
                await process.close()
                raise
        return self._opened

    async def _job(self) -> SourceJob:
        url, camera = self._url, self._camera
        address = url.host
        if url.kind not in {"udp", "file"}:
            found = await self._book.resolve(url.host, url.port)
            if not found:
                raise SourceError("the name has no address", cause=GapCause.OFFLINE, where=url.host)
            address = found[0][1][0]
        password = camera.password if url.kind not in {"http", "hls"} or url.tls or camera.basic_without_tls else ""
        return SourceJob(url.kind, url.host, address, url.port, url.path, url.tls, camera.user if password else "", password,
                         "audio" in self._kinds, camera.stall_s, tuple(map(str, self._book.networks)))

    async def _start(self, job: SourceJob) -> SourceProcess:
        if job.kind != "file":
            return await SourceProcess.start(job)
        file = await asyncio.to_thread(open_below, self._import_dir, job.path)
        try:
            return await SourceProcess.start(job, file)
        finally:
            os.close(file)

    async def _set_up(self, process: SourceProcess, said: ServerRequest, make_track: MakeTrack) -> Announced:
        description = parse_sdp(said.body)
        tracks: list[PlayingTrack] = []
        lost: dict[str, SourceError] = {}
        for kind in self._kinds:
            try:
                media, chosen = choose(description, kind)
            except SourceError as error:
                if kind == "video" or any(m.kind == kind for m in description.medias):
                    lost[kind] = error
                continue
            track = await make_track(kind, chosen, -1)
            process.framing.bind(2 * media.index, 2 * media.index + 1, track)
            tracks.append(PlayingTrack(kind, chosen, track, -1))
        if not tracks:
            raise next(iter(lost.values()))
        return Announced(process, tuple(tracks), lost)

    def _place(self, said: ServerRequest, held_ns: int) -> int:
        """When an imported file begins, UTC. An import that was broken off goes on; SourceEnded if nothing is left of the file."""
        start_ns, length_ms = self._start_ns(said), whole_number(said.headers.get("duration-ms"))
        self._skip_ms = max(0, held_ns - start_ns) // 1_000_000
        if self._skip_ms and length_ms and self._skip_ms > length_ms - LAST_MS:
            raise SourceEnded("the file is recorded", cause=GapCause.STOPPED)
        return start_ns

    def _start_ns(self, said: ServerRequest) -> int:
        text = self._stream.start or said.headers.get("created")
        try:
            return round(datetime.fromisoformat(text).timestamp()) * NS
        except ValueError:
            raise SourceError("the file does not say when it was made", cause=GapCause.UNSUPPORTED, retry_s=60.0,
                              remedy='add: start = "2026-05-01T12:00:00Z" beside its url') from None

    def session(self, on_events: OnEvents) -> LibavSession:
        """The session just opened."""
        assert self._opened is not None
        return LibavSession(self._opened, self._drainer, on_events, live=self.live, paced=self._url.kind in PACED, skip_ms=self._skip_ms)

    def timeline(self, tracks: Sequence[TrackTimeline]) -> SessionTimeline:
        """By arrival; a file's by its start."""
        for each in tracks:
            each.evidence = False        # our own process made these reports up: they hold the media together, and prove nothing
        return SessionTimeline(tracks) if self.live else ImportTimeline(tracks)


class LibavSession:
    """A source process that plays (recorder.source.Session)."""

    def __init__(self, opened: Announced, drainer: Drainer, on_events: OnEvents, *, live: bool, paced: bool,
                 skip_ms: int) -> None:
        self._process = opened.process
        self._tracks = [playing.track for playing in opened.tracks]
        self._drainer = drainer
        self._on_events = on_events
        self._live = live
        self._paced = paced
        self._skip_ms = skip_ms
        self._granted = b""
        self._ended: asyncio.Future[SourceError | None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Let the process send, up to the end, which is raised."""
        self._drainer.add(self._process.framing, self._process.sock.fileno(), self._take_events)
        if not self._paced:
            self._process.tell(UNLIMITED)
        while not self._ended.done():
            if self._paced:
                self._grant()
            await asyncio.wait([self._ended], timeout=GRANT_S if self._paced else None)
        raise self._ended.result() or await self._process.why_gone()

    def end(self, error: SourceError) -> None:
        """The session is over because of `error`; the first reason counts."""
        if not self._ended.done():
            self._ended.set_result(error)

    def sweep(self, mono_ns: int) -> None:
        """Nothing is due once a second."""

    async def close(self) -> None:
        """Neither socket nor process is left."""
        self._drainer.remove(self._process.framing)
        await self._process.close()

    def _take_events(self, events: int) -> None:
        try:
            if events & rtp.EVENT_MESSAGE:
                self._process.heard()
        except SourceError as error:
            self._on_events(events)
            ended = self._live and isinstance(error, SourceEnded)
            self.end(SourceError("the stream has ended", cause=GapCause.OFFLINE) if ended else error)
            return
        self._on_events(events)
        if events & ENDED and not self._ended.done():
            self._ended.set_result(None)

    def _grant(self) -> None:
        """Half the room that is left in the fullest queue, so that what is under way fits as well."""
        stats = self._process.framing.stats()
        queues = [track.queue for track in self._tracks]
        room = min(queue.capacity - queue.waiting_bytes for queue in queues) // 2
        frames = min(queue.max_aus - queue.waiting_aus for queue in queues) // 2
        limit = LIMIT.pack(stats["bytes"] + room, stats["frames"] + stats["unbound_frames"] + frames, self._skip_ms)
        if limit != self._granted:
            self._granted = limit
            self._process.tell(limit)

