"""A job's process as the desk sees it: started, listened to, stopped."""

import asyncio
import json
import signal
import time
from typing import Any

from api.exports.job import Failure
from recorder.base.config import SiteConfig
from recorder.child import own_command
from recorder.handover import dump_site

TRIES = 3                     # a process that dies without a word is started so often in a row without getting on
STOP_S = 5.0
LINE_MAX = 1 << 16


class Run:
    """One job while its process runs. `done` and `total` are bytes, `eta_s` None while nobody can say."""

    def __init__(self, site: SiteConfig, job_id: str) -> None:
        self._site, self._job_id = site, job_id
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._gone = asyncio.Event()
        self._first: tuple[float, int] | None = None
        self.stage = "starting"
        self.done = self.total = 0
        self.failure: Failure | None = None

    @property
    def eta_s(self) -> float | None:
        """Seconds until it is done, by the pace since its process began to write."""
        if self._first is None or self.done <= self._first[1]:
            return None
        per_s = (self.done - self._first[1]) / max(time.monotonic() - self._first[0], 1e-3)
        return (self.total - self.done) / per_s

    async def live(self) -> Failure | None:
        """Have the process do its work; why it failed, None when it says that it did not. A process that is killed is started again."""
        try:
            tries, known = 0, -1
            while tries < TRIES and not self._stopping:
                code = await self._once()
                if code >= 0:
                    return self.failure
                tries = 1 if self.done > known else tries + 1
                known = max(known, self.done)
            return Failure(f"its process was ended {tries} times in a row", "see the server's log for memory, then ask again")
        finally:
            self._gone.set()

    async def stop(self) -> None:
        """End the process now, and wait until it has."""
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()        # what it leaves is good at any moment
        try:
            await asyncio.wait_for(self._gone.wait(), STOP_S)
        except TimeoutError:            # it waits for a disk; what it leaves goes at the next start
            pass

    async def _once(self) -> int:
        """One life of the process; its exit code, negative for a signal."""
        self._first = None
        process = self._process = await asyncio.create_subprocess_exec(
            *own_command("_export", "--job", self._job_id), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            start_new_session=True, limit=LINE_MAX)
        if self._stopping:
            process.kill()
        try:
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(dump_site(self._site))
                await process.stdin.drain()
                process.stdin.close()
            except (BrokenPipeError, ConnectionResetError):
                pass            # it died first
            async for line in process.stdout:
                self._hear(line)
            return await process.wait()
        except BaseException:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
                await process.wait()
            raise

    def _hear(self, line: bytes) -> None:
        try:
            said: dict[str, Any] = json.loads(line)
            if "failed" in said:
                self.failure = Failure(str(said["failed"]["message"]), str(said["failed"]["remedy"]))
                return
            self.stage = str(said["stage"])
            if "done" in said:
                self.done, self.total = int(said["done"]), int(said["total"])
                self._first = self._first or (time.monotonic(), self.done)
        except (ValueError, KeyError, TypeError):
            return              # not a line of ours
