"""Which volume each camera records to: by declared bit rate and the volumes' weights, with as few moves as can be. Values in, values out."""

from collections.abc import Mapping, Sequence

from recorder.base.config import VolumeConfig

SLACK = 0.05        # of the mean load: a move that gains less is not worth a break in the footage


class Homes:
    """The cameras of a site (declared kbit/s by number) on volumes with UUIDs. Volumes that are drained take none while there is another.

    `of`: UUID by camera number: as in `homes` where that volume takes cameras; the others, the largest first, where there is most room.
    """

    def __init__(self, cameras: Mapping[int, int], homes: Mapping[int, str], volumes: Sequence[VolumeConfig]) -> None:
        self._kbps = cameras
        self._weights = {volume.uuid: volume.weight for volume in volumes if not volume.drain} or {v.uuid: v.weight for v in volumes}
        self._loads = dict.fromkeys(self._weights, 0)
        self.of: dict[int, str] = {}
        for number, home in homes.items():
            if number in cameras and home in self._weights:
                self._put(number, home)
        for number in sorted(cameras.keys() - self.of.keys(), key=lambda number: (-cameras[number], number)):
            self._put(number, self._roomiest(cameras[number]))

    def balance(self) -> None:
        """Move cameras from volumes that have more than their part to those that have less, while that makes a difference."""
        slack = SLACK * sum(self._loads.values()) / sum(self._weights.values())
        for _ in range(len(self.of)):
            fullest = max(self._weights, key=self._part)
            gains = [number for number, home in self.of.items() if home == fullest
                     and self._part(self._roomiest(self._kbps[number]), self._kbps[number]) < self._part(fullest) - slack]
            if not gains:
                break
            number = max(gains, key=lambda number: (self._kbps[number], number))
            self._loads[fullest] -= self._kbps[number]
            self._put(number, self._roomiest(self._kbps[number]))

    def _put(self, number: int, home: str) -> None:
        self.of[number] = home
        self._loads[home] += self._kbps[number]

    def _part(self, uuid: str, more: int = 0) -> float:
        return (self._loads[uuid] + more) / self._weights[uuid]

    def _roomiest(self, kbps: int) -> str:
        return min(self._weights, key=lambda uuid: self._part(uuid, kbps))
