"""Follows the catalogue: looks each second whether another process has changed it, and gives the registry the new snapshot.

SQLite may wait for the writer or the disk, so it has a thread of its own; the loop never waits for it.
"""

import asyncio
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from api.registry import Registry
from recorder.base.clock import Clock
from recorder.base.errors import StorageError, WatchroomError
from storage.camera_record import CameraRecord, TokenRecord
from storage.catalogue import Catalogue

log = logging.getLogger("watchroom.api")

POLL_S = 1.0
Snapshot = tuple[list[CameraRecord], list[TokenRecord]]


class CatalogueFollower:
    """Reads on its own thread, publishes on the loop's."""

    def __init__(self, path: Path, clock: Clock, registry: Registry) -> None:
        self._path = path
        self._clock = clock
        self._registry = registry
        self._thread = ThreadPoolExecutor(1, "catalogue")
        self._catalogue: Catalogue | None = None
        self._version = -1
        self._silent = False
        registry.source(self.refresh)

    async def refresh(self) -> None:
        """Publish what the catalogue holds, if it has changed. Raises WatchroomError if it cannot be read."""
        found = await asyncio.get_running_loop().run_in_executor(self._thread, self._read)
        if found is not None:
            self._registry.replace(*found)

    async def run(self) -> None:
        """Follow for ever; trouble is said once, and the newest snapshot stays."""
        while True:
            try:
                await self.refresh()
                self._silent = False
            except (WatchroomError, OSError) as error:
                if not self._silent:
                    log.error("the catalogue cannot be read: %s", error)
                self._silent = True
            await asyncio.sleep(POLL_S)

    def close(self) -> None:
        """Close the connection."""
        self._thread.submit(self._close)
        self._thread.shutdown(wait=True)

    def _read(self) -> Snapshot | None:
        """On the thread: the snapshot if it differs from the last one."""
        try:
            return self._changed()
        except sqlite3.Error as error:
            self._close()  # a fresh connection next time: the file may have been replaced
            raise StorageError(
                f"cannot be read ({type(error).__name__})", where="catalogue", remedy="see whether its disk is full or gone"
            ) from None

    def _changed(self) -> Snapshot | None:
        if self._catalogue is None:
            self._catalogue = Catalogue.open(self._path, self._clock)
            self._version = -1
        version = self._catalogue.version()
        if version == self._version:
            return None
        found = self._catalogue.cameras(removed=True), self._catalogue.tokens()
        self._version = version
        return found

    def _close(self) -> None:
        if self._catalogue is not None:
            self._catalogue.close()
            self._catalogue = None
