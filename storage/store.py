"""Everything on some volumes, for readers. Opens read-only, takes no lock, needs no worker."""

import os
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from recorder.base.errors import NotFound
from recorder.base.media import valid_id
from storage import zarrmeta
from storage.live import LiveDir, LiveFile
from storage.reader import TrackReader
from storage.volume import Volume


class ReadVolume:
    """One volume opened for reading."""

    def __init__(self, path: Path, live_dir: Path) -> None:
        self._volume = Volume.open(path, on_root=True, lock=False)
        self.path = path
        self.fd = self._volume.dir_fd
        self.uuid: UUID = self._volume.uuid
        self.live = LiveDir(live_dir, self.uuid)

    def close(self) -> None:
        """Give the folder's descriptor back."""
        self._volume.close()


class TapeStore:
    """The tracks on `volumes`; `live_dir` is where the workers' live files lie. Safe on one thread; give each thread its own.

    Raises VolumeError for a path that is no volume of this format. A track has one tape per volume: `tapes` gives all of them by time,
    `track` the one that is recorded on, or was last.
    """

    def __init__(self, volumes: Sequence[Path], live_dir: Path) -> None:
        self._volumes: list[ReadVolume] = []
        self._readers: dict[tuple[UUID, int, str], TrackReader] = {}
        try:
            for path in volumes:
                self._volumes.append(ReadVolume(Path(path), live_dir))
        except BaseException:
            self.close()
            raise

    def cameras(self) -> tuple[int, ...]:
        """Numbers of all cameras that have footage here, in order."""
        return tuple(sorted({number for volume in self._volumes for number in zarrmeta.list_cameras(volume.fd)}))

    def tracks(self, camera: int) -> tuple[str, ...]:
        """Names of the camera's tracks, in order; empty for a camera without any."""
        return tuple(sorted({name for volume in self._volumes for name in zarrmeta.list_tracks(volume.fd, camera)}))

    def track(self, camera: int, name: str) -> TrackReader:
        """The reader of a track (the same object each time); NotFound."""
        return self.tapes(camera, name)[-1]

    def tapes(self, camera: int, name: str) -> tuple[TrackReader, ...]:
        """The track's tapes over the volumes, the oldest first, the one that is recorded on last; NotFound if there is none."""
        if not valid_id(name):
            raise NotFound("no such track", where=f"cam-{camera}")
        found = [reader for volume in self._volumes if (reader := self._reader(volume, camera, name)) is not None]
        if not found:
            raise NotFound("no such track", where=f"cam-{camera}/{name}", remedy="see the camera's list of tracks")
        if len(found) > 1:
            found.sort(key=lambda reader: ((edges := reader.edges()).live, edges.visible_end_ns))
        return tuple(found)

    def live_files(self) -> list[LiveFile]:
        """The live files of all volumes: slots, commits."""
        return [file for volume in self._volumes for file in volume.live.files()]

    def volumes(self) -> tuple[Path, ...]:
        """Their paths."""
        return tuple(volume.path for volume in self._volumes)

    def close(self) -> None:
        """Close every descriptor; readers and leases handed out must not be used any more."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        for volume in self._volumes:
            volume.close()
        self._volumes.clear()

    def _reader(self, volume: ReadVolume, camera: int, name: str) -> TrackReader | None:
        key = (volume.uuid, camera, name)
        if key not in self._readers:
            try:
                meta = zarrmeta.read_track(volume.fd, camera, name)
            except FileNotFoundError:
                return None
            self._readers[key] = TrackReader(os.fspath(volume.path), volume.fd, volume.live, meta)
        return self._readers[key]
