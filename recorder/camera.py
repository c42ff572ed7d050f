"""One camera in its worker: a main stream (tracks `main` and `audio`) and perhaps a sub stream (track `sub`), each a session of its own."""

import asyncio
from typing import Any

from recorder.base.config import CameraConfig, RetentionRule
from recorder.base.media import GapCause
from recorder.feed import TrackFeed
from recorder.stream import NO_KEYFRAME_SAID, Services, Stream

STOP_S = 3.0


class Camera:
    """`run` is the camera's one task; it lasts until it is cancelled."""

    def __init__(self, number: int, config: CameraConfig, rule: RetentionRule, services: Services) -> None:
        self.number = number
        self.config = config
        self._rule = rule
        self._with = services
        self._group: asyncio.TaskGroup | None = None     # while `run` lasts
        self._runs: dict[str, asyncio.Task[None]] = {}   # by stream
        self.streams = [Stream(number, config, "main", config.main, rule, services)]
        if config.sub is not None:
            self.streams.append(Stream(number, config, "sub", config.sub, rule, services))

    async def run(self, spread_s: float = 0.0) -> None:
        """Record all streams until cancelled. A defect in one ends both, and the owner begins the camera anew."""
        try:
            async with asyncio.TaskGroup() as self._group:
                for stream in self.streams:
                    self._begin(stream, spread_s)
        finally:
            self._group = None

    def _begin(self, stream: Stream, spread_s: float = 0.0) -> None:
        if self._group is not None:                      # else `run` begins it with the others
            self._runs[stream.which] = self._group.create_task(stream.run(spread_s), name=f"{self.config.id}/{stream.which}")

    def stopping(self, cause: GapCause | None) -> None:
        """The task will be cancelled: an operator wants it (a gap with this cause) or the process ends (None: the slot writes it)."""
        self._group = None
        for stream in self.streams:
            stream.stop_cause = cause

    def cut_off(self) -> None:
        """`run` has been cancelled and takes too long to end: what it still waits for is given up (a task group ignores a second cancel)."""
        for task in self._runs.values():
            task.cancel()

    def detach(self) -> None:
        """After the end of `run`: let go of the tapes."""
        for stream in self.streams:
            stream.detach()

    def move(self, cause: GapCause, why: str, *, failed: bool) -> None:
        """All its tapes are to be on another volume; the present one has `failed`."""
        for stream in self.streams:
            stream.move(cause, why, failed=failed)

    @property
    def moving(self) -> bool:
        """True while it is on its way."""
        return any(stream.moving for stream in self.streams)

    def sweep(self, mono_ns: int) -> None:
        """Once a second."""
        for stream in self.streams:
            stream.sweep(mono_ns)

    async def update(self, config: CameraConfig, rule: RetentionRule) -> None:
        """The configuration says other things about the camera, has another rule, or another sub stream, which alone begins anew."""
        before, self.config, self._rule = self.config.sub, config, rule
        for stream in self.streams:
            stream.set_rule(rule)
        if config.sub != before:
            await self._change_sub()

    async def _change_sub(self) -> None:
        for stream in [stream for stream in self.streams if stream.which == "sub"]:
            stream.stop_cause = GapCause.OPERATOR
            await _ended(self._runs.get("sub"))
            stream.detach()
            self.streams.remove(stream)
        if self.config.sub is not None:
            self.streams.append(Stream(self.number, self.config, "sub", self.config.sub, self._rule, self._with))
            self._begin(self.streams[-1])

    def step(self, wall_ns: int, step_ns: int) -> None:
        """Our wall clock was set."""
        for stream in self.streams:
            stream.step(wall_ns, step_ns)

    def status(self) -> dict[str, Any]:
        """The camera for `status` (docs/architecture.md): state and cause are the main stream's, tracks are by name."""
        main = self.streams[0]
        tracks = {feed.name: self._track(stream, kind, feed) for stream in self.streams for kind, feed in stream.feeds.items()}
        return {"id": self.config.id, **_state(main), "streams": {s.which: _state(s) for s in self.streams}, "tracks": tracks}

    def _track(self, stream: Stream, kind: str, feed: TrackFeed) -> dict[str, Any]:
        rates, stats = stream.rates[kind], feed.track.stats() if feed.track is not None else None
        last_ns = stats["last_au_ns"] + self._with.wall.offset_ns if stats is not None and stats["last_au_ns"] else feed.last_au_ns
        return {"codec": feed.facts.codec, "width": feed.facts.width, "height": feed.facts.height, "kbps": round(rates.kbps),
                "fps": round(rates.fps, 2), "last_au_ns": last_ns, **feed.totals, "dropped_aus": feed.queue.dropped_aus,
                "gap": feed.gap.word if feed.gap is not None else None}


async def _ended(run: asyncio.Task[None] | None) -> None:
    """Cancel a stream, and cut it off when it takes too long, as `Cameras.stop` does with a camera."""
    while run is not None and not run.done():
        run.cancel()
        await asyncio.wait({run}, timeout=STOP_S)


def _state(stream: Stream) -> dict[str, Any]:
    """While a stream records, or waits for a key frame, the cause is its video's open gap; else why the last session ended."""
    error, video = stream.error, stream.feeds.get("video")
    cause, message = (GapCause(error.cause), str(error)) if error is not None else (None, "")
    if stream.state == "recording":
        cause = video.gap if video is not None else None
    elif stream.state == "connecting" and video is not None and video.gap is GapCause.NO_KEYFRAME:
        cause, message = video.gap, NO_KEYFRAME_SAID
    return {"state": stream.state, "since_ns": stream.since_ns, "cause": cause.word if cause is not None else None,
            "message": message, "failures": {c.word: n for c, n in stream.failures.items()}}
