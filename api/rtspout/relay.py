"""A track's newest units as RTP, made once for all who watch it over RTSP.

Timestamps of all sessions of a camera form one line: behind a gap they have risen by the time that passed. Sequence numbers have no holes.
So a viewer stays in its session whatever the camera does, as long as its coding stays what the description said.
"""

import asyncio
import secrets
import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from api.rtspout.coding import coding_of, packer_of, sets_of
from api.unit import Silence, Unit
from recorder._ext.rtppack import Packer
from recorder.base.errors import Conflict, WatchroomError
from recorder.base.media import NS, SampleEntry, TrackKind
from recorder.rtp import h264, h265

GROUP_BYTES = 16 << 20      # of a picture group that is kept for who joins; a longer one makes him wait for the next
SOUND_NS = 12 * NS          # of sound that is kept
NALS_SEEN = 8               # in which parameter sets are looked for, in front of a picture
_AVC, _HEVC = (h264.SPS, h264.nal_type), (h265.SPS, h265.nal_type)
_SETS = {"avc1": _AVC, "avc3": _AVC, "hvc1": _HEVC, "hev1": _HEVC}


@dataclass(slots=True, eq=False)
class Packets:
    """The packets of one unit, with 4 bytes of room before each; `sequence` of the first of them."""

    data: bytes
    offsets: "array[int]"
    sequence: int
    timestamp: int
    wall_ns: int
    key: bool
    leading: bool


class Watcher(Protocol):
    """Who is given packets; on the loop, must not block or raise."""

    def take(self, packets: Packets) -> None:
        """The next unit's."""
        ...

    def end(self) -> None:
        """The coding has changed: nothing more comes."""
        ...


class Leave(Protocol):
    """A seat at the edge of a track (api/edge.py)."""

    @property
    def entry(self) -> SampleEntry | None:
        """How the newest unit is coded."""
        ...

    def leave(self) -> None:
        """Nothing more is told."""
        ...


class TimeLine:
    """RTP timestamps: of a session by its media clock, between sessions by UTC."""

    def __init__(self, clock: int, ticks: int) -> None:
        self._clock, self._ticks = clock, ticks
        self._shift = secrets.randbits(31)
        self._newest = (0, 0)           # timestamp, UTC of the unit that is shown last
        self._begun = False

    def at(self, unit: Unit) -> int:
        """The unit's timestamp, not yet cut to 32 bits."""
        media = unit.pts * self._clock // self._ticks
        if unit.breaks and self._begun:
            newest, wall_ns = self._newest
            self._shift = newest + max(1, (unit.wall_ns - wall_ns) * self._clock // NS) - media
        elif not self._begun:
            self._begun = True
            self._shift -= media
        now = media + self._shift
        if now > self._newest[0] or self._newest == (0, 0):
            self._newest = now, unit.wall_ns
        return now


class Relay:
    """One track of one camera. `watchers` may change at any time but within `take`."""

    def __init__(self, join: Callable[..., Leave], camera: int, track: str, channel: int, forget: Callable[[], None]) -> None:
        self.channel, self._forget = channel, forget
        self.ssrc = secrets.randbits(32)
        self.entry: SampleEntry | None = None
        self.group: list[Packets] = []
        self.silent: Silence | None = None
        self.ended = False
        self.known = asyncio.Event()            # there has been a unit, or there is a gap
        self.held = 0                           # presentations that want it to go on
        self.dropped = 0                        # units that could not be packed
        self._watchers: list[Watcher] = []
        self._group_bytes = 0
        self._packer: Packer | None = None
        self._line: TimeLine | None = None
        self._seat = join(camera, track, self._take, self._tell)

    def counters(self) -> tuple[int, int]:
        """Packets and octets sent so far, for sender reports."""
        return (self._packer.packets, self._packer.octets) if self._packer is not None else (0, 0)

    def add(self, watcher: Watcher) -> None:
        """Give it what comes."""
        self._watchers.append(watcher)

    def remove(self, watcher: Watcher) -> None:
        """No more, if it was given any."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    def release(self) -> None:
        """A presentation needs it no more; the last one ends it."""
        self.held -= 1
        if self.held == 0:
            self._seat.leave()
            self._forget()

    def _tell(self, silence: Silence | None) -> None:
        self.silent = silence
        if silence is not None:
            self.known.set()

    def _take(self, units: list[Unit]) -> None:
        for unit in units:
            if self.ended:
                return
            if unit.entry is not self.entry and not self._coded(unit.entry):
                self._end()
                return
            self._pack(unit)
        self.known.set()

    def _coded(self, entry: SampleEntry) -> bool:
        """Take another sample entry; False if it is sent in another way than the one before."""
        before, self.entry = self.entry, entry
        if before is None:
            try:
                self._packer = packer_of(entry, self.ssrc, channel=self.channel, sequence=secrets.randbits(15))
                self._line = TimeLine(coding_of(entry).clock, entry.clock_rate)
            except WatchroomError:
                return False
            return True
        return entry == before or (entry.kind is TrackKind.VIDEO and (entry.codec, entry.clock_rate) == (before.codec, before.clock_rate))

    def _pack(self, unit: Unit) -> None:
        assert self._packer is not None
        assert self._line is not None
        timestamp = self._line.at(unit) & 0xFFFFFFFF
        sequence = self._packer.sequence
        try:
            data, offsets = self._packer.pack(with_sets(unit) if unit.key else unit.data, timestamp)
        except ValueError:
            self.dropped += 1
            return
        if data:
            packets = Packets(data, offsets, sequence, timestamp, unit.wall_ns, unit.key, unit.leading)
            self._keep(packets, breaks=unit.breaks)
            for watcher in tuple(self._watchers):
                watcher.take(packets)

    def _keep(self, packets: Packets, *, breaks: bool) -> None:
        assert self.entry is not None
        video = self.entry.kind is TrackKind.VIDEO
        if (video and packets.key) or (not video and breaks):       # times of before a break may lie ahead: the clock was set back
            self.group.clear()
            self._group_bytes = 0
        elif video and not self.group:
            return
        elif not video and self.group and packets.wall_ns - self.group[0].wall_ns > 2 * SOUND_NS:
            self.group = [one for one in self.group if one.wall_ns > packets.wall_ns - SOUND_NS]
            self._group_bytes = sum(len(one.data) for one in self.group)
        self.group.append(packets)
        self._group_bytes += len(packets.data)
        if self._group_bytes > GROUP_BYTES:
            self.group.clear()
            self._group_bytes = 0

    def _end(self) -> None:
        self.ended = True
        self.group.clear()
        self.known.set()
        for watcher in tuple(self._watchers):
            watcher.end()
        self._watchers.clear()


def with_sets(unit: Unit) -> bytes:
    """The unit, behind the parameter sets of its sample entry if it brings none: cameras may say them in their description alone."""
    wanted, kind_of = _SETS.get(unit.entry.codec, (0, h264.nal_type))
    if not wanted:
        return unit.data
    data, at = unit.data, 0
    for _ in range(NALS_SEEN):
        if at + 5 > len(data):
            break
        if kind_of(data[at + 4:at + 6]) == wanted:
            return data
        at += 4 + int.from_bytes(data[at:at + 4])
    try:
        return b"".join(len(nal).to_bytes(4) + nal for nal in sets_of(unit.entry)) + data
    except (IndexError, struct.error, Conflict):
        return data


class Relays:
    """All relays of a server. `join` as Board.join of api/edge.py."""

    def __init__(self, join: Callable[..., Leave]) -> None:
        self._join = join
        self.open: dict[tuple[int, str], Relay] = {}

    def hold(self, camera: int, track: str) -> Relay:
        """The relay of a track, which goes on until it is released as often as it was held. NotFound if the track was never recorded."""
        key = camera, track
        relay = self.open.get(key)
        if relay is None or relay.ended:
            relay = Relay(self._join, camera, track, 2 if track == "audio" else 0, lambda: self._forget(key, relay))
            self.open[key] = relay
        relay.held += 1
        return relay

    def _forget(self, key: tuple[int, str], relay: Relay | None) -> None:
        if self.open.get(key) is relay:
            del self.open[key]
