"""Everything on some volumes, for readers. Opens read-only, takes no lock, needs no worker."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from recorder.base.errors import NotFound, VolumeError
from recorder.base.media import valid_id
from storage import zarrmeta
from storage.heldtape import HELD_PLACE, HeldFiles
from storage.live import LiveDir, LiveFile
from storage.reader import TrackReader
from storage.shelfreader import ShelfReader
from storage.sickdisk import SickTapes, sick
from storage.track import Track
from storage.volume import Volume

Expiry = Callable[[int, str], int]      # camera, track -> UTC before which its rule lets nothing be read; 0: no rule
LOOK_NS = 1_000_000_000         # between two looks whether the volumes are where they were
SICK_NS = 5_000_000_000         # a tape that its disk could not read is left out for so long, then tried again

Key = tuple[UUID, int, str]
T = TypeVar("T", int, str, tuple[int, int])


class ReadVolume:
    """One volume opened for reading."""

    def __init__(self, path: Path, live_dir: Path) -> None:
        self._volume = Volume.open(path, on_root=True, lock=False)
        self.path = path
        self.fd = self._volume.dir_fd
        self.uuid: UUID = self._volume.uuid
        self.live = LiveDir(live_dir, self.uuid)
        self.shelf = ShelfReader(self.fd)

    @property
    def present(self) -> bool:
        """True while it lies at its path."""
        try:
            self._volume.check_mounted()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Give the folder's descriptor back."""
        self._volume.close()


class TapeStore:
    """The tracks on `volumes`; `live_dir` is where the workers' live files lie. Safe on one thread; give each thread its own.

    Raises VolumeError for a path that is no volume of this format. A track has one tape per volume it was ever recorded on: `whole` puts
    them together by time. The order of `volumes` numbers them, so it must stay; new ones come at the end. With an `expiry` nothing is read of
    rows that end before the UTC it gives for a track: rules count although nobody may have moved tails (a worker that is down, a volume read
    without a server).

    Once a second it looks whether they are still mounted. One that is not is closed, so that its disk can be taken; that is a VolumeError,
    or, if `lenient`, its tapes are missing until it is back (but not all volumes may be missing at the start). So is then, for 5 s each time
    and said by `left_out` and `sickness`, a tape that its disk cannot read (EIO), as long as the track has another one; of a track's only tape
    it is an OSError.
    """

    def __init__(self, volumes: Sequence[Path], live_dir: Path, expiry: Expiry | None = None, *, lenient: bool = False,
                 sickness: SickTapes | None = None) -> None:
        self._paths, self._live_dir, self._expiry, self._lenient = tuple(Path(path) for path in volumes), live_dir, expiry, lenient
        self._volumes: list[ReadVolume | None] = [None] * len(self._paths)
        self._readers: dict[tuple[UUID, int, str], TrackReader] = {}
        self._held: dict[tuple[UUID, int, str], HeldFiles] = {}
        self._sick: dict[Key, int] = {}         # tapes that are left out, and until when
        self.sickness = sickness or SickTapes()
        self._looked_ns = time.monotonic_ns()
        try:
            self._open_missing(strict=not lenient)
        except BaseException:
            self.close()
            raise
        if self._paths and not any(self._volumes):
            self._open_missing(strict=True)

    def _open_missing(self, *, strict: bool) -> None:
        for place, path in enumerate(self._paths):
            if self._volumes[place] is None:
                with contextlib.nullcontext() if strict else contextlib.suppress(VolumeError):
                    self._volumes[place] = ReadVolume(path, self._live_dir)

    def look(self) -> None:
        """Let go of volumes that were unmounted, take back those that are mounted again. For stores that nobody may ask for long."""
        self._here()

    def _here(self) -> list[ReadVolume]:
        """The volumes that are there, looked at once a second."""
        if time.monotonic_ns() - self._looked_ns > LOOK_NS:
            self._looked_ns = time.monotonic_ns()
            for place, volume in enumerate(self._volumes):
                if volume is not None and not volume.present:
                    self._drop(place, volume)
            self._open_missing(strict=not self._lenient)
        return [volume for volume in self._volumes if volume is not None]

    def _drop(self, place: int, volume: ReadVolume) -> None:
        for key in [key for key in self._held if key[0] == volume.uuid]:
            self._held.pop(key).close()
        for key in [key for key in self._readers if key[0] == volume.uuid]:
            self._readers.pop(key).close()
        for key in [key for key in self._sick if key[0] == volume.uuid]:
            del self._sick[key]
        self._volumes[place] = None
        volume.close()

    def cameras(self) -> tuple[int, ...]:
        """Numbers of all cameras that have footage here, in order."""
        return self._over_volumes(lambda volume: zarrmeta.list_cameras(volume.fd))

    def tracks(self, camera: int) -> tuple[str, ...]:
        """Names of the camera's tracks, in order; empty for a camera without any."""
        return self._over_volumes(lambda volume: zarrmeta.list_tracks(volume.fd, camera))

    def _over_volumes(self, ask: Callable[[ReadVolume], Iterable[T]]) -> tuple[T, ...]:
        """What the volumes say, in order, each answer once; if lenient, without those that cannot be read, unless that is all."""
        found, failed, volumes = set[T](), list[OSError](), self._here()
        for volume in volumes:
            try:
                found.update(ask(volume))
            except OSError as error:
                if not (self._lenient and sick(error)):
                    raise
                failed.append(error)
        if failed and len(failed) == len(volumes):
            raise failed[0]
        return tuple(sorted(found))

    def whole(self, camera: int, name: str) -> Track:
        """A track over all its tapes; NotFound."""
        return Track(lambda: self.tapes(camera, name), lambda: self._held_tapes(camera, name), self.leave_out,
                     lambda: self.left_out(camera, name))

    def track(self, camera: int, name: str) -> TrackReader:
        """The tape that a track is recorded on, or was last (the same object each time); NotFound."""
        return self.tapes(camera, name)[-1]

    def tape(self, camera: int, name: str, place: int) -> TrackReader:
        """The track's tape on the volume at `place` of the list, from HELD_PLACE on what holds have kept of it; NotFound."""
        self._here()
        at = place % HELD_PLACE
        found = self._reader(at, camera, name) if valid_id(name) and 0 <= place < 2 * HELD_PLACE and at < len(self._volumes) else None
        if found is not None and place >= HELD_PLACE:
            return self._files(found).whole()
        if found is None:
            raise NotFound("no such track", where=f"cam-{camera}", remedy="see the camera's list of tracks")
        return found

    def tapes(self, camera: int, name: str) -> tuple[TrackReader, ...]:
        """The track's tapes over the volumes, the one with the newest footage last; NotFound if there is none."""
        if not valid_id(name):
            raise NotFound("no such track", where=f"cam-{camera}")
        self._here()
        found, failed = self._found(camera, name)
        well = [reader for reader in found if not self._left_out(reader)]
        if len(well) > 1:
            ends = [end for reader in well if (end := self._end(reader, failed)) is not None]
            well = [reader for _, reader in sorted(ends, key=lambda end: end[0])]
        if not well and failed:
            raise failed[0]
        if not found:
            raise NotFound("no such track", where=f"cam-{camera}/{name}", remedy="see the camera's list of tracks")
        return tuple(well or found)         # if none is well, whoever asks is told what is wrong

    def _found(self, camera: int, name: str) -> tuple[list[TrackReader], list[OSError]]:
        """The track's readers, and the errors of disks that cannot tell whether it has a tape there."""
        found, failed = [], []
        for place in range(len(self._volumes)):
            try:
                if (reader := self._reader(place, camera, name)) is not None:
                    found.append(reader)
            except OSError as error:
                self._bear(error, place, camera, name)
                failed.append(error)
        return found, failed

    def _end(self, reader: TrackReader, failed: list[OSError]) -> tuple[int, TrackReader] | None:
        try:
            return reader.edges().visible_end_ns, reader
        except OSError as error:
            self._bear(error, reader.place, reader.camera, reader.name)
            failed.append(error)
            return None

    def _bear(self, error: OSError, place: int, camera: int, name: str) -> None:
        """Leave the tape out, or raise the error."""
        if not (self._lenient and sick(error)):
            raise error
        self._say(place, camera, name, error)

    def leave_out(self, tape: TrackReader, error: OSError) -> bool:
        """Leave a tape out for a while: its disk has answered with this error. False if it must be read: errors of another kind, a store that
        is not lenient, no other tape of the track that is well."""
        place = tape.place % HELD_PLACE
        if sick(error):
            self.sickness.add((place, tape.camera, tape.name), tape.volume, error)
        reader = self._reader(place, tape.camera, tape.name) if self._lenient and sick(error) else None
        if reader is None or self._left_out(reader) or not any(
                other is not reader and not self._left_out(other) for at in range(len(self._volumes))
                if (other := self._reader(at, tape.camera, tape.name)) is not None):
            return False
        self._say(place, tape.camera, tape.name, error)
        return True

    def _say(self, place: int, camera: int, name: str, error: OSError) -> None:
        volume, now_ns = self._volumes[place], time.monotonic_ns()
        if volume is None:
            return
        self._sick[volume.uuid, camera, name] = now_ns + SICK_NS
        self.sickness.add((place, camera, name), volume.path, error)

    def left_out(self, camera: int, name: str) -> tuple[int, ...]:
        """Places of the volumes that cannot tell now what they have of a track: it is left out of every answer."""
        now_ns = time.monotonic_ns()
        return tuple(place for place, volume in enumerate(self._volumes)
                     if volume is not None and self._sick.get((volume.uuid, camera, name), 0) > now_ns)

    def _left_out(self, reader: TrackReader) -> bool:
        volume = self._volumes[reader.place]
        return volume is not None and self._sick.get((volume.uuid, reader.camera, reader.name), 0) > time.monotonic_ns()

    def _held_tapes(self, camera: int, name: str) -> tuple[TrackReader, ...]:
        """What holds have kept of the tapes, each run of rows by itself."""
        return tuple(held for tape in self.tapes(camera, name) for held in self._held_of(tape))

    def _held_of(self, tape: TrackReader) -> Sequence[TrackReader]:
        try:
            return self._files(tape).tapes()
        except OSError as error:
            if not self.leave_out(tape, error):
                raise
            return ()

    def held(self, tape: TrackReader) -> TrackReader | None:
        """What holds have kept of a tape, as one tape with holes; None if that is nothing. NotFound while its volume is missing."""
        files = self._files(tape) if tape.place < HELD_PLACE else None
        return files.whole() if files is not None and files.folder() >= 0 else None

    def held_times(self, camera: int, name: str) -> list[tuple[int, int]]:
        """The times of a track that standing holds keep, by start; they may overlap."""
        return list(self._over_volumes(lambda volume: volume.shelf.stretches(camera, name)))

    def _files(self, tape: TrackReader) -> HeldFiles:
        volume = self._volumes[tape.place]
        if volume is None:
            raise NotFound("the volume is not there", where=tape.where, remedy="mount it again")
        key = (volume.uuid, tape.camera, tape.name)
        if key not in self._held:
            self._held[key] = HeldFiles(tape, volume.live, zarrmeta.read_track(tape.volume_fd, tape.camera, tape.name))
        return self._held[key]

    def live_files(self) -> list[LiveFile]:
        """The live files of all volumes: slots, commits."""
        return [file for volume in self._here() for file in volume.live.files()]

    def again(self, live_dir: Path) -> "TapeStore":
        """The same volumes and rules, for another thread."""
        return TapeStore(self.volumes(), live_dir, self._expiry, lenient=self._lenient, sickness=self.sickness)

    def volumes(self) -> tuple[Path, ...]:
        """Their paths, of missing ones as well."""
        return self._paths

    def close(self) -> None:
        """Close every descriptor; readers and leases handed out must not be used any more."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        for files in self._held.values():
            files.close()
        self._held.clear()
        for place, volume in enumerate(self._volumes):
            self._volumes[place] = None
            if volume is not None:
                volume.close()

    def _reader(self, place: int, camera: int, name: str) -> TrackReader | None:
        volume = self._volumes[place]
        if volume is None:
            return None
        key = (volume.uuid, camera, name)
        if key not in self._readers:
            try:
                meta = zarrmeta.read_track(volume.fd, camera, name)
            except FileNotFoundError:
                return None
            expiry = self._expiry
            expires = (lambda: expiry(camera, name)) if expiry is not None else None
            self._readers[key] = TrackReader(os.fspath(volume.path), volume.fd, volume.live, meta, place, expires,
                                              lambda: volume.shelf.stretches(camera, name))
        return self._readers[key]
