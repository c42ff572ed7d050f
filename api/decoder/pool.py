"""A few decoder processes, started when they are needed, ended when they are old, stuck or dead."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

from api.decoder.wire import ANSWER, DONE, PICTURE_MAX, Work, encode
from api.problems import Problem

JOB_S = 10.0
JOBS_PER_PROCESS = 200
WAITING_MAX = 64
ROOT = Path(__file__).parents[2]


class DecoderFailed(Problem):
    """The process died over this job or took too long. Nothing else is the matter: the next job gets another process."""

    def __init__(self) -> None:
        super().__init__(503, "the picture's decoder failed", remedy="ask again", headers={"Retry-After": "1"})


class DecoderPool:
    """At most `size` processes. Loop thread only; `close` at the end."""

    def __init__(self, size: int, *, job_s: float = JOB_S) -> None:
        self._free: list[_Decoder] = []
        self._room = asyncio.Semaphore(size)
        self._unwanted: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._job_s = job_s
        self.started = 0
        self.failed = 0
        self.refused = 0

    async def work(self, job: Work) -> bytes:
        """What was asked for. Raises Problem: 503 when too many wait (or DecoderFailed), 404 when nothing can be decoded."""
        if self._waiting >= WAITING_MAX:
            self.refused += 1
            raise Problem(503, "too many pictures are asked for at once", remedy="ask again", headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            async with self._room:
                return await self._work(job)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """End every process that is idle, or whose start nobody waits for any more."""
        await asyncio.gather(*self._unwanted)
        free, self._free = self._free, []
        for decoder in free:
            await decoder.end()

    async def _work(self, job: Work) -> bytes:
        decoder = self._free.pop() if self._free else await self._start()
        healthy = False
        try:
            async with asyncio.timeout(self._job_s):
                status, body = await decoder.ask(job)
            healthy = True
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            self.failed += 1
            raise DecoderFailed from None
        finally:
            if healthy and decoder.jobs < JOBS_PER_PROCESS:
                self._free.append(decoder)
            else:
                await asyncio.shield(decoder.end())
        if status != DONE:
            raise Problem(404, f"the picture cannot be decoded: {body.decode(errors='replace')}")
        return body

    async def _start(self) -> "_Decoder":
        self.started += 1
        starting = asyncio.ensure_future(_Decoder.start())
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:              # the client went meanwhile: neither process nor socket may be left
            ending = asyncio.create_task(_end_started(starting))
            self._unwanted.add(ending)
            ending.add_done_callback(self._unwanted.discard)
            raise


class _Decoder:
    """One process and our end of its socket pair."""

    def __init__(self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process, self._reader, self._writer = process, reader, writer
        self.jobs = 0

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @classmethod
    async def start(cls) -> "_Decoder":
        """A new process; it inherits nothing but its socket."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.get_running_loop().run_in_executor(None, _spawn, theirs.fileno())
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer)

    async def ask(self, job: Work) -> tuple[int, bytes]:
        """Status and body of the answer. Raises OSError or IncompleteReadError if the process is gone or talks nonsense."""
        self.jobs += 1
        self._writer.write(encode(job))
        await self._writer.drain()
        status, count = ANSWER.unpack(await self._reader.readexactly(ANSWER.size))
        if count > PICTURE_MAX:
            raise OSError("the decoder's answer is too large")
        return status, await self._reader.readexactly(count)

    async def end(self) -> None:
        """Kill the process and wait until it is gone."""
        self._writer.close()
        self._process.kill()
        await asyncio.get_running_loop().run_in_executor(None, self._process.wait)


async def _end_started(starting: "asyncio.Future[_Decoder]") -> None:
    """End the process once it has started."""
    try:
        decoder = await starting
    except OSError:
        return                                      # it has not
    await decoder.end()


def _spawn(fd: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "api.decoder", str(fd)], pass_fds=(fd,), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, cwd="/",
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
