"""The supervisor's hold on the site's volumes: locked against a second server, let go of when they are unmounted, locked again when back."""

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any

from recorder.base.config import VolumeConfig
from recorder.base.errors import VolumeError
from storage.volume import Volume

log = logging.getLogger(__name__)

LOOK_S = 1.0


class VolumeLocks:
    """Blocks on disks: `open`, `look` and `status` belong off the loop. `watch` is a task."""

    def __init__(self, volumes: Sequence[VolumeConfig]) -> None:
        self._configs = tuple(volumes)
        self._volumes: list[Volume | None] = [None] * len(self._configs)

    def open(self) -> None:
        """Lock them all. Raises VolumeError if one is not there or in use; then none is locked."""
        try:
            for place, config in enumerate(self._configs):
                self._volumes[place] = _locked(config)
        except BaseException:
            self.close()
            raise

    def uuids(self) -> list[str]:
        """Theirs, in order; all must be open."""
        return [str(volume.uuid) for volume in self._volumes if volume is not None]

    def add(self, config: VolumeConfig) -> None:
        """One more; locked at once, or by the next `look`."""
        self._configs += (config,)
        self._volumes.append(None)
        self.look()

    def close(self) -> None:
        """Let go of all."""
        for place, volume in enumerate(self._volumes):
            self._volumes[place] = None
            if volume is not None:
                volume.close()

    def look(self) -> None:
        """Let go of what is not mounted any more: its disk may be taken away or repaired. What has come back is locked again."""
        for place, (config, volume) in enumerate(zip(self._configs, list(self._volumes), strict=True)):
            if volume is None:
                self._try(place, config)
                continue
            try:
                volume.check_mounted()
            except OSError as error:
                log.error("volume %s %s", config.path, error.strerror)
                self._volumes[place] = None
                volume.close()

    def _try(self, place: int, config: VolumeConfig) -> None:
        try:
            self._volumes[place] = _locked(config)
        except VolumeError:
            return
        log.info("volume %s is locked", config.path)

    async def watch(self) -> None:
        """`look` once a second, for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            await asyncio.to_thread(self.look)

    def status(self) -> list[dict[str, Any]]:
        """What is known of each without reading it."""
        return [_status(config, volume) for config, volume in zip(self._configs, self._volumes, strict=True)]


def _locked(config: VolumeConfig) -> Volume:
    return Volume.open(config.path, uuid=config.uuid, on_root=config.on_root, lock=True)


def _status(config: VolumeConfig, volume: Volume | None) -> dict[str, Any]:
    said = {"path": str(config.path), "weight": config.weight, "drain": config.drain}
    if volume is None:
        return {**said, "uuid": config.uuid or None, "mounted": False}
    fs = os.fstatvfs(volume.dir_fd)
    return {**said, "uuid": str(volume.uuid), "mounted": True, "bytes_max": volume.bytes_max, "fs_bytes": fs.f_blocks * fs.f_frsize,
            "fs_free_bytes": fs.f_bavail * fs.f_frsize}
