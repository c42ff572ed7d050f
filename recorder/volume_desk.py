"""The site's volumes as the catalogue knows them: added and drained while the server runs, and which of them each camera records to."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recorder.base.config import SiteConfig, VolumeConfig
from recorder.base.errors import Conflict, NotFound
from recorder.homes import Homes
from storage.camera_record import VolumeRecord, declared_kbps
from storage.catalogue import Catalogue
from storage.volume import Volume


class VolumeDesk:
    """Belongs to the thread of the catalogue. `site` has all volumes: the file's, then those that were added, in their order."""

    def __init__(self, catalogue: Catalogue, site: SiteConfig) -> None:
        self._catalogue = catalogue
        self.site = replace(site, volumes=with_added(site.volumes, catalogue.volumes()))
        self.homes = catalogue.homes()

    def adopt(self, uuids: Sequence[str]) -> None:
        """The volumes bear these UUIDs, in order: what was asked of them is so, and every camera gets a home by their weights."""
        asked = {record.uuid: record.drain for record in self._catalogue.volumes()}
        self._set([replace(volume, uuid=uuid, drain=volume.drain or asked.get(uuid, False))
                   for volume, uuid in zip(self.site.volumes, uuids, strict=True)])
        for volume in self.site.volumes:
            self._put(volume, drain=asked.get(volume.uuid, False))
        if not self.homes:          # recorded by an older version: there
            volumes = self.site.volumes
            self.homes = {record.number: volumes[record.slot % len(volumes)].uuid for record in self._catalogue.cameras()}
        self._settle(balance=True)

    def settle(self, number: int) -> str:
        """The home of a camera that is new; UUID, "" while no volume has one."""
        self._settle(balance=False)
        return self.homes.get(number, "")

    def add(self, path: Path, *, weight: float, on_root: bool) -> list[int]:
        """Cameras record to this volume as well; numbers of those that move. Raises VolumeError, Conflict. Opens it."""
        volume = Volume.open(path, on_root=on_root, lock=True)
        volume.close()
        uuid = str(volume.uuid)
        if any(path == other.path or uuid == other.uuid for other in self.site.volumes):
            raise Conflict("the site has this volume already", where=str(path), remedy="see watchroom volume list")
        config = VolumeConfig(path, uuid, on_root=on_root, weight=weight)
        self._put(config, drain=False, added=True)
        self._set([*self.site.volumes, config])
        return self._settle(balance=True)

    def drain(self, which: str, *, undo: bool) -> list[int]:
        """No camera records to this volume (path, UUID or number) any more, or again; numbers of those that move. NotFound, Conflict."""
        volume = self.find(which)
        if not undo and all(other.drain or other is volume for other in self.site.volumes):
            raise Conflict("it is the only volume that takes cameras", where=str(volume.path), remedy="add another one first")
        self._put(volume, drain=not undo)
        self._set([replace(other, drain=not undo) if other is volume else other for other in self.site.volumes])
        return self._settle(balance=undo)

    def find(self, which: str) -> VolumeConfig:
        """A volume by path, UUID or number; NotFound."""
        for number, volume in enumerate(self.site.volumes):
            if volume.uuid and which in {str(volume.path), volume.uuid, str(number)}:
                return volume
        raise NotFound("no such volume", where=which, remedy="see watchroom volume list; a new one is known once `watchroom serve` has started")

    def described(self) -> list[dict[str, Any]]:
        """Each volume: what was said of it, and how many cameras of what declared bit rate are at home there."""
        kbps = self._kbps()
        return [{"number": at, "path": str(volume.path), "uuid": volume.uuid or None, "weight": volume.weight, "drain": volume.drain,
                 "cameras": sum(home == volume.uuid for number, home in self.homes.items() if number in kbps),
                 "kbps": sum(kbps[number] for number, home in self.homes.items() if home == volume.uuid and number in kbps)}
                for at, volume in enumerate(self.site.volumes)]

    def _kbps(self) -> Mapping[int, int]:
        return {record.number: declared_kbps(record.config) for record in self._catalogue.cameras()}

    def _settle(self, *, balance: bool) -> list[int]:
        if not all(volume.uuid for volume in self.site.volumes):
            return []
        found = Homes(self._kbps(), self.homes, self.site.volumes)
        if balance:
            found.balance()
        moved = [number for number, home in found.of.items() if self.homes.get(number) != home]
        self._catalogue.set_homes({number: found.of[number] for number in moved})
        self.homes = found.of
        return moved

    def _set(self, volumes: Sequence[VolumeConfig]) -> None:
        self.site = replace(self.site, volumes=tuple(volumes))

    def _put(self, volume: VolumeConfig, *, drain: bool, added: bool | None = None) -> None:
        known = {record.uuid: record.added for record in self._catalogue.volumes()}
        self._catalogue.put_volume(VolumeRecord(volume.uuid, str(volume.path), volume.weight, volume.on_root,
                                                known.get(volume.uuid, False) if added is None else added, drain))


def with_added(volumes: Sequence[VolumeConfig], records: Sequence[VolumeRecord]) -> tuple[VolumeConfig, ...]:
    """The configuration's volumes, and those that were added while the server ran and are not in it."""
    paths, uuids = {volume.path for volume in volumes}, {volume.uuid for volume in volumes}
    return (*volumes, *(VolumeConfig(Path(record.path), record.uuid, on_root=record.on_root, weight=record.weight, drain=record.drain)
                        for record in records if record.added and Path(record.path) not in paths and record.uuid not in uuids))
