"""From an open container to the worker: the announcement, then packet after packet, never more than the worker has room for."""

import contextlib
import socket
import time
from datetime import UTC, datetime
from typing import Any

from recorder.base.errors import SourceError
from recorder.base.media import GapCause
from recorder.rtsp.message import build_request
from recorder.sources.describe import describe
from recorder.sources.job import LIMIT, TITLE, SourceJob
from recorder.sources.libav.media import OFFSET_S, MediaStream

REPORT_S = 5.0
PEEK_PACKETS = 500


class Pump:
    """One source from its opening to its end."""

    def __init__(self, sock: socket.socket, container: Any, job: SourceJob) -> None:
        self._sock = sock
        self._container = container
        self._job = job
        self._early: list[Any] = []          # packets read to learn about the audio
        self._limit = (0, 0, 0)
        self._from_s = 0.0                   # of a file: what is before has been recorded
        self._sent = [0, 0]                  # bytes, frames
        self._tail = b""
        self._reported: dict[int, float] = {}
        self._packets = iter(())
        self.streams = self._choose()

    def _choose(self) -> dict[int, MediaStream]:
        """The first video, and the first audio if it is wanted, by libav's index."""
        found = [*self._container.streams.video[:1], *(self._container.streams.audio[:1] if self._job.audio else [])]
        if not found:
            raise SourceError("it holds neither video nor audio", cause=GapCause.UNSUPPORTED, retry_s=10.0)
        self._packets = self._container.demux(found)
        first = self._peek([stream for stream in found if stream.codec_context.name == "aac" and not stream.codec_context.extradata])
        base_s = (self._container.start_time or 0) / 1e6 - OFFSET_S if self._job.kind == "file" else 0.0
        return {stream.index: MediaStream(stream, at, first.get(stream.index), base_s) for at, stream in enumerate(found)}

    def _peek(self, wanted: list[Any]) -> dict[int, Any]:
        """The first packet of each, read ahead."""
        first: dict[int, Any] = {}
        while len(first) < len(wanted) and len(self._early) < PEEK_PACKETS:
            packet = next(self._packets, None)
            if packet is None:
                break
            self._early.append(packet)
            if packet.size and packet.stream in wanted:
                first.setdefault(packet.stream_index, packet)
        return first

    def announce(self) -> None:
        """Say what there is, and wait for the worker's first limit."""
        headers = [("Content-Type", "application/sdp"), ("Duration-Ms", str((self._container.duration or 0) // 1000))]
        if created := _created(self._container.metadata.get("creation_time", "")):
            headers.append(("Created", created))
        body = describe([stream.medium for stream in self.streams.values()])
        message = build_request("ANNOUNCE", TITLE, 1, headers, body)
        self._sock.sendall(message)
        self._sent[0] += len(message)
        self._hear(wait=True)
        if self._limit[2] and self._job.kind == "file":
            self._resume(self._limit[2])

    def _resume(self, skip_ms: int) -> None:
        """Go to the last access point before; what precedes the first one behind is left out."""
        start_us = self._container.start_time or 0
        self._container.seek(start_us + skip_ms * 1000)
        self._early, self._from_s = [], (start_us + skip_ms * 1000) / 1e6
        self._packets = self._container.demux([stream.stream for stream in self.streams.values()])

    def run(self) -> None:
        """All packets, up to the end of a file; raises whatever ends the others."""
        for packet in self._early:
            self._send(packet)
        self._early = []
        for packet in self._packets:
            self._send(packet)
        if self._job.kind != "file":
            raise EOFError

    def _send(self, packet: Any) -> None:
        stream = self.streams.get(packet.stream_index)
        if stream is None or not packet.size or stream.is_before(packet, self._from_s):
            return
        frames = stream.frames(packet)
        if not frames:
            return
        self._hear(wait=False)
        while self._sent[0] >= self._limit[0] or self._sent[1] >= self._limit[1]:
            self._hear(wait=True)
        if time.monotonic() - self._reported.get(packet.stream_index, -REPORT_S) >= REPORT_S:
            self._reported[packet.stream_index] = time.monotonic()
            frames = [*frames, stream.report(packet)]
        data = b"".join(frames)
        self._sock.sendall(data)
        self._sent[0] += len(data)
        self._sent[1] += len(frames)

    def _hear(self, *, wait: bool) -> None:
        """Take the newest limit that the worker has sent."""
        with contextlib.suppress(BlockingIOError):
            data = self._sock.recv(4096, 0 if wait else socket.MSG_DONTWAIT)
            if not data:
                raise BrokenPipeError
            self._tail += data
        whole = len(self._tail) // LIMIT.size * LIMIT.size
        if whole:
            self._limit = LIMIT.unpack_from(self._tail, whole - LIMIT.size)
            self._tail = self._tail[whole:]


def _created(text: str) -> str:
    """The file's own creation time in RFC 3339, "" if it has none that makes sense."""

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return ""
    return moment.astimezone(UTC).isoformat() if moment.tzinfo and moment.year > 1980 else ""
