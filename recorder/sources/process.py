"""A source process as its worker sees it: started, heard until it announces what it has, drained like a camera, killed at the end."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from dataclasses import replace
from pathlib import Path

from recorder._ext import framing, rtp
from recorder.base.errors import SourceError
from recorder.base.media import GapCause
from recorder.rtsp.message import ServerRequest, parse_message
from recorder.source import SourceEnded
from recorder.sources.job import REASON_MAX, SourceJob
from recorder.timeline import WallOffset

ROOT = Path(__file__).parents[2]
ANNOUNCE_S = 30.0
RECEIVE_BYTES = 16 << 10
PAIR_BYTES = 1 << 20                 # the kernel gives what it may


class SourceProcess:
    """One process and our end of its socket pair; all on the loop's thread. What it says is read by the kernels that read cameras."""

    def __init__(self, process: asyncio.subprocess.Process, sock: socket.socket) -> None:
        self.sock = sock
        self.framing = framing.Connection()
        self._process = process

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @classmethod
    async def start(cls, job: SourceJob, file: int = -1) -> "SourceProcess":
        """A new process with its job; it inherits its socket and `file`. Raises SourceError if the system has none for us."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PAIR_BYTES)
        ours.setblocking(False)
        given = [theirs.fileno()] + ([file] if file >= 0 else [])
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "recorder.sources.libav", *map(str, given), pass_fds=given, stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, cwd="/", start_new_session=True,
                env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
        except OSError as error:
            ours.close()
            raise SourceError(f"no source process can be started ({os.strerror(error.errno or 0)})", cause=GapCause.OFFLINE) from error
        finally:
            theirs.close()
        started = cls(process, ours)
        ours.send(replace(job, parent=os.getpid()).encode())      # into an empty buffer
        return started

    async def announced(self, mono_ns: int, wall: WallOffset) -> ServerRequest:
        """The announcement. Raises SourceError: what the process says instead, or that it said nothing in 30 s."""
        buffer = bytearray(RECEIVE_BYTES)
        try:
            async with asyncio.timeout(ANNOUNCE_S):
                while True:
                    count = await asyncio.get_running_loop().sock_recv_into(self.sock, buffer)
                    events = self.framing.feed(buffer, count, mono_ns, wall.offset_ns) if count else rtp.EVENT_EOF
                    if (said := self.heard()) is not None:
                        return said
                    if events & (rtp.EVENT_EOF | rtp.EVENT_DAMAGED_STREAM):
                        raise await self.why_gone()
        except TimeoutError as error:
            raise SourceError(f"no media could be made out within {ANNOUNCE_S:.0f} s", cause=GapCause.UNSUPPORTED, retry_s=10.0) from error
        except OSError as error:
            raise await self.why_gone() from error

    def heard(self) -> ServerRequest | None:
        """The newest announcement that has come. Raises SourceError if the process has taken its leave."""
        announced = None
        for raw in self.framing.take_messages():
            message = parse_message(raw)
            if isinstance(message, ServerRequest) and message.method == "ANNOUNCE":
                announced = message
            elif isinstance(message, ServerRequest) and message.method == "TEARDOWN":
                raise last_words(message)
        return announced

    def tell(self, data: bytes) -> None:
        """Send a limit; when there is no room the next one will say more."""
        with contextlib.suppress(OSError):
            self.sock.send(data)

    async def why_gone(self) -> SourceError:
        """The error for a process that has ended without a word, or talks nonsense (which ends it)."""
        self._kill()
        code = await self._process.wait()
        end = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return SourceError(f"the source process has ended {end}", cause=GapCause.CRASH)

    async def close(self) -> None:
        """The process is gone on return."""
        self.sock.close()
        self._kill()
        await self._process.wait()

    def _kill(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()


def last_words(message: ServerRequest) -> SourceError:
    """What a process's leave means; nothing in it is believed further than a camera's words would be."""
    headers = message.headers
    if headers.get("ended"):
        return SourceEnded("the file is recorded", cause=GapCause.STOPPED)
    cause, retry = whole_number(headers.get("cause")), whole_number(headers.get("retry"))
    known = cause in {GapCause.OFFLINE, GapCause.REFUSED, GapCause.AUTH, GapCause.UNSUPPORTED, GapCause.STALL, GapCause.SENDER_RESTART}
    return SourceError(_plain(headers.get("reason")) or "the source ended", cause=GapCause(cause) if known else GapCause.OFFLINE,
                       retry_s=float(min(retry, 300)), remedy=_plain(headers.get("remedy")))


def whole_number(text: str) -> int:
    """The number a header holds, 0 if it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0


def _plain(text: str) -> str:
    return "".join(c for c in text[:REASON_MAX] if c.isprintable())
