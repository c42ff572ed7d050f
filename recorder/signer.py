"""When the heads of a site's volumes are signed, and what is told about it. A process of its own does it (recorder/signing.py)."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from recorder.base.clock import Clock
from recorder.base.config import SiteConfig
from recorder.base.errors import WatchroomError
from recorder.handover import dump_site
from recorder.notes import Notes
from recorder.signed import Signed, heard, read_last

log = logging.getLogger(__name__)

LOOK_S = 1.0
AGAIN_S = 900.0         # after a failure
LATE = 1.25             # of the time between two signings: then it is overdue
LAST_S = 6.0            # for the last one: systemd waits for us
HOUR_NS = 3_600_000_000_000


class Signer:
    """Belongs to the loop's thread. `site` tells the site as it is now; without `[signing]` it does nothing."""

    def __init__(self, site: Callable[[], SiteConfig], clock: Clock, command: Callable[..., tuple[str, ...]], notes: Notes) -> None:
        self._site, self._clock, self._command, self._notes = site, clock, command, notes
        self._signed_ns: dict[int, int] = {}        # by volume: the newest document's time
        self._wrong: dict[int, str] = {}
        self._overdue: set[int] = set()
        self._again_ns = 0                          # CLOCK_MONOTONIC before which a failed signing is not tried again
        self._begun_ns = clock.wall_ns()

    async def run(self) -> None:
        """Sign whenever it is time, for ever."""
        if self._site().signing is None:
            return
        await self._remember()
        while True:
            if self._due():
                await self.sign()
            self._look()
            await asyncio.sleep(LOOK_S)

    async def last(self) -> None:
        """Sign once more, in bounded time; when `run` has ended."""
        if self._site().signing is None:
            return
        try:
            async with asyncio.timeout(LAST_S):
                await self.sign()
        except TimeoutError:
            log.warning("the volumes' heads were not signed at the end; they will be at the next start")

    async def sign(self) -> None:
        """Sign now, all volumes. A process that is not done when this is cancelled is killed: its document is not there then."""
        site = self._site()
        try:
            results = heard(await self._ask(dump_site(site)))
        except (OSError, ValueError, TypeError) as error:
            results = [Signed(number, wrong=f"the process that signs failed: {error}") for number in range(len(site.volumes))]
        for result in results:
            self._take(result)
        failed = any(result.wrong for result in results)
        self._again_ns = self._clock.mono_ns() + (round(AGAIN_S * 1e9) if failed else 0)

    async def _ask(self, told: bytes) -> bytes:
        process = await asyncio.create_subprocess_exec(*self._command("_sign"), stdin=asyncio.subprocess.PIPE,
                                                       stdout=asyncio.subprocess.PIPE, start_new_session=True)
        try:
            said, _ = await process.communicate(told)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return said

    def status(self) -> list[dict[str, Any]]:
        """Of each volume: when its newest document was signed (0: never), whether that is too long ago, what is wrong."""
        if self._site().signing is None:
            return []
        return [{"volume": number, "signed_ns": self._signed_ns.get(number, 0), "overdue": number in self._overdue,
                 "failed": number in self._wrong, "message": self._wrong.get(number, "")} for number in range(len(self._site().volumes))]

    async def _remember(self) -> None:
        """What state_dir knows of the last signing."""
        try:
            known = await asyncio.to_thread(read_last, self._site().signed_file)
        except (WatchroomError, OSError):
            return          # the process that signs says so
        by_path = {one.path: one.signed_ns for one in known.values()}
        self._signed_ns = {number: by_path[str(volume.path)] for number, volume in enumerate(self._site().volumes)
                           if str(volume.path) in by_path}

    def _every_ns(self) -> int:
        signing = self._site().signing
        return round(signing.every_h * HOUR_NS) if signing is not None else 0

    def _due(self) -> bool:
        """True if a volume's newest document is so old, and no attempt has failed lately. One from the future is none."""
        now_ns = self._clock.wall_ns()
        ages = [now_ns - self._signed_ns.get(number, 0) for number in range(len(self._site().volumes))]
        return self._clock.mono_ns() >= self._again_ns and any(age >= self._every_ns() or age < 0 for age in ages)

    def _look(self) -> None:
        """Tell, once, when a volume's signing is overdue."""
        for number in range(len(self._site().volumes)):
            since_ns = self._signed_ns.get(number) or self._begun_ns
            if number not in self._overdue and self._clock.wall_ns() - since_ns > LATE * self._every_ns():
                self._overdue.add(number)
                self._notes.add("signing", state="overdue", volume=number)
                log.error("volume %d: its heads have not been signed for %.1f hours", number, (self._clock.wall_ns() - since_ns) / HOUR_NS)

    def _take(self, result: Signed) -> None:
        number = result.volume
        if result.signed_ns:
            self._signed_ns[number] = result.signed_ns
        if result.wrong:
            if self._wrong.get(number) != result.wrong:
                log.error("volume %d: its heads are not signed as they should be: %s", number, result.wrong)
                self._notes.add("signing", state="failed", volume=number)
            self._wrong[number] = result.wrong
            return
        log.info("volume %d: %d new seals signed, %d documents", number, result.seals, result.documents)
        if self._wrong.pop(number, None) is not None or number in self._overdue:
            self._notes.add("signing", state="signed", volume=number)
        self._overdue.discard(number)
