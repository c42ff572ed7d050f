"""One track for all its WebRTC viewers: units come from the live edge, are packetised once, and go out to every stream in one call.

The picture group in the making is kept for whoever comes or has lost pictures, the last packets for NACK; both are bounded.
"""

import asyncio
import logging
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from api.edge import Board, Seat
from api.ts.elementary import avc_sets
from api.unit import Unit
from api.whep.choice import why_not
from api.whep.timeline import MASK, RtpLine, ahead
from recorder._ext.rtppack import Packer
from recorder._ext.srtpout import KEPT, Egress, Outlet
from recorder._ext.srtpout import PACKET_MAX as WHOLE_MAX
from recorder.base.errors import Conflict
from recorder.base.media import SampleEntry, TrackKind

log = logging.getLogger("watchroom.webrtc")

PACKET_MAX = 1200           # RTP packet; with SRTP, UDP and IPv6 below 1,280, which every path carries
GROUP_BYTES = 16 << 20      # a picture group that grows beyond either is not kept: who comes then waits for the next
GROUP_UNITS = 1200
BURST_BYTES = 48 << 10      # of a group sent again at once, each PACE_S: about 100 Mbit/s
BURST_BYTES_ALL = 512 << 10     # ... of all who are brought up at the same time
PACE_S = 0.004
SETS = 7                    # NAL type of a sequence parameter set


@dataclass(frozen=True, slots=True)
class Packets:
    """A unit as packets: packet k is data[offsets[k]:offsets[k + 1]] and has the number `number` + k."""

    data: bytes
    offsets: "array[int]"
    number: int
    timestamp: int
    wall_ns: int
    key: bool

    @property
    def count(self) -> int:
        """How many."""
        return len(self.offsets) - 1


class Stream:
    """One viewer's share of a hub: its outlet, and how far it is. `keys_only`: nothing but access points. Made by Hub.attach."""

    def __init__(self, outlet: Outlet) -> None:
        self.outlet = outlet
        self.keys_only = False
        self.live = False           # gets what comes; else it is being brought there
        self.begun = False          # something has been sent
        self.repeated = 0           # bytes that were sent to bring it there again
        self.at = 0                 # the unit of the group that is next ...
        self.group = -1             # ... in the group of this number
        self.base = 0               # timestamp of its first unit, and ...
        self.squeezed = 0           # ... how many of its units come a tick apart: they are to be decoded, not waited for


class Hub:
    """One track. All methods on the loop. `refuse` is told, once, why its pictures cannot be sent any more."""

    def __init__(self, egress: Egress, refuse: Callable[[str], None]) -> None:
        self._egress = egress
        self._refuse = refuse
        self._loop = asyncio.get_running_loop()
        self._seat: Seat | None = None
        self._line: RtpLine | None = None
        self._packer: Packer | None = None
        self._sets = b""
        self._number = 0
        self._group: list[Packets] = []
        self._group_bytes = self._group_number = 0
        self._kept: list[Packets] = []
        self._first_numbers: list[int] = []
        self._streams: list[Stream] = []
        self._all: tuple[Outlet, ...] = ()
        self._behind: list[Stream] = []
        self._pump_timer: asyncio.TimerHandle | None = None
        self._came = asyncio.Event()
        self.entry: SampleEntry | None = None
        self.refused = ""
        self.newest: Packets | None = None
        self.bytes = self.spoilt = self.breaks = 0

    def join(self, board: Board, camera: int, track: str) -> None:
        """Take the track's units. NotFound if it has never been recorded."""
        self._seat = board.join(camera, track, self.take)

    def close(self) -> None:
        """Take no more."""
        if self._seat is not None:
            self._seat.leave()
            self._seat = None
        if self._pump_timer is not None:
            self._pump_timer.cancel()

    @property
    def clock_rate(self) -> int:
        """Ticks of its timestamps in a second; 90,000 until that is known."""
        return self.entry.clock_rate if self.entry is not None else 90_000

    async def first(self, timeout_s: float) -> bool:
        """True when something has come, False if nothing did in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._came.wait()
        except TimeoutError:
            return False
        return True

    # --- units in

    def take(self, units: Sequence[Unit]) -> None:
        """What is new, in decode order; called by the board. Of the sound that it gives at first only the newest is of use."""
        first = self.newest is None
        try:
            for unit in units[-1:] if first and units and units[-1].entry.kind is not TrackKind.VIDEO else units:
                if self.refused:
                    return
                self._take(unit)
            self._came.set()
            if self._behind and self._pump_timer is None:
                self._pump()
        except Exception:  # this hub's defect ends its viewers, who are told; the next one gets another hub
            log.exception("WebRTC hub")
            self._end("an error of the server; it is in its log")

    def _end(self, why: str) -> None:
        self.refused = why
        self._came.set()
        self._refuse(why)

    def _take(self, unit: Unit) -> None:
        video = unit.entry.kind is TrackKind.VIDEO
        if video and (why := why_not(unit.entry, unit.cts != 0)):
            self._end(why)
            return
        if not video and self.entry is not None and _coding(unit.entry) != _coding(self.entry):
            self._end("the camera codes its sound in another way than was answered")
            return
        packets = self._pack(unit)
        if packets is not None:
            self._keep(packets, unit.key or not video)
            self._send(packets, unit.key or not video)

    def _pack(self, unit: Unit) -> Packets | None:
        if self._packer is None or unit.entry != self.entry:
            self._recode(unit.entry)
        assert self._packer is not None and self._line is not None
        self.breaks += unit.breaks
        timestamp = self._line.stamp(unit.dts, unit.wall_ns, unit.breaks)
        data = self._sets + unit.data if unit.key and self._sets and not begins_with_sets(unit.data) else unit.data
        try:
            packed, offsets = self._packer.pack(data, timestamp)
        except ValueError:
            self.spoilt += 1
            return None
        if len(offsets) < 2:
            return None
        if len(offsets) == 2 and len(packed) > WHOLE_MAX:       # Opus is never cut (RFC 7587 4.2)
            self.spoilt += 1
            return None
        made = self.newest = Packets(packed, offsets, self._number, timestamp, unit.wall_ns, unit.key)
        self._number += made.count
        self.bytes += len(packed)
        return made

    def _recode(self, entry: SampleEntry) -> None:
        """From the next unit on, another coding; the line of time goes on unless its clock is another."""
        if self._line is None or self.entry is None or self.entry.clock_rate != entry.clock_rate:
            self._line = RtpLine(entry.clock_rate)
        self.entry = entry
        self._packer = Packer(entry.codec, 0, 0, packet_max=PACKET_MAX)
        self._sets = sets_of(entry)

    def _keep(self, packets: Packets, access: bool) -> None:
        if access:
            self._group, self._group_bytes = [], 0
            self._group_number += 1
        if access or self._group:
            self._group.append(packets)
            self._group_bytes += len(packets.data)
            if self._group_bytes > GROUP_BYTES or len(self._group) > GROUP_UNITS:
                self._group = []
        self._kept.append(packets)
        self._first_numbers.append(packets.number)
        if packets.number - self._first_numbers[0] > 2 * KEPT:
            cut = bisect_left(self._first_numbers, packets.number - KEPT)
            del self._kept[:cut], self._first_numbers[:cut]

    def packet(self, number: int) -> memoryview | None:
        """The packet of this number (32 bits of it), if it is still kept."""
        number = self._number - (self._number - number & MASK)
        place = bisect_right(self._first_numbers, number) - 1
        if place < 0 or number - self._first_numbers[place] >= self._kept[place].count:
            return None
        packets = self._kept[place]
        k = number - packets.number
        return memoryview(packets.data)[packets.offsets[k]:packets.offsets[k + 1]]

    # --- streams out

    @property
    def streams(self) -> int:
        """How many are attached."""
        return len(self._streams)

    @property
    def group_bytes(self) -> int:
        """Of the picture group so far; 0 if it is not kept."""
        return self._group_bytes if self._group else 0

    def attach(self, outlet: Outlet, begun: Stream | None = None) -> Stream:
        """A stream that starts with the newest access point; `begun`: the one it goes on from, of another hub."""
        stream = Stream(outlet)
        if begun is not None:
            stream.begun, stream.repeated = begun.begun, begun.repeated
            outlet.forget()
        self._streams.append(stream)
        self.restart(stream)
        return stream

    def detach(self, stream: Stream) -> None:
        """No more of it."""
        if stream in self._streams:
            self._streams.remove(stream)
        self._behind = [one for one in self._behind if one is not stream]
        self._gather()

    def thin(self, stream: Stream, keys_only: bool) -> None:
        """Access points alone from now on, or everything again, from the newest access point on."""
        stream.keys_only = keys_only
        if keys_only:
            self._behind = [one for one in self._behind if one is not stream]
            stream.live = True
            self._gather()
        else:
            self.restart(stream)

    def restart(self, stream: Stream) -> None:
        """Send the picture group so far once more, then what comes: for who begins, and for who has lost pictures."""
        stream.live = False
        stream.group = -1
        if stream not in self._behind:
            self._behind.append(stream)
        self._gather()
        self._pump()

    def _gather(self) -> None:
        self._all = tuple(stream.outlet for stream in self._streams if stream.live and not stream.keys_only)

    def _send(self, packets: Packets, access: bool) -> None:
        if self._all:
            self._egress.send(self._all, packets.data, packets.offsets, packets.number & MASK)
        if access:
            thin = tuple(stream.outlet for stream in self._streams if stream.live and stream.keys_only)
            if thin:
                self._egress.send(thin, packets.data, packets.offsets, packets.number & MASK)

    def _pump(self) -> None:
        """Bring those that are behind a bit further, by turns."""
        if self._pump_timer is not None:
            self._pump_timer.cancel()
            self._pump_timer = None
        left = BURST_BYTES_ALL
        for stream in list(self._behind):
            if left <= 0:
                break
            self._behind.remove(stream)
            self._behind.append(stream)
            left -= self._bring(stream)
        if self._group and self._behind:
            self._pump_timer = self._loop.call_later(PACE_S, self._pump)

    def _bring(self, stream: Stream) -> int:
        """How many bytes it was sent."""
        if not self._group:
            return 0                    # the next access point starts it
        if stream.group != self._group_number:
            self._begin(stream)
        sent = 0
        while stream.at < len(self._group) and sent < BURST_BYTES:
            packets = self._group[stream.at]
            stamp = stream.base + stream.at & MASK if stream.at < stream.squeezed else None
            self._egress.send((stream.outlet,), packets.data, packets.offsets, packets.number & MASK, stamp)
            sent += len(packets.data)
            stream.at += 1
        stream.repeated += sent if stream.begun else 0
        if stream.at == len(self._group):
            stream.live, stream.begun = True, True
            self._behind.remove(stream)
            self._gather()
        return sent

    def _begin(self, stream: Stream) -> None:
        """At the group's access point. Its units so far come a tick apart, so that nobody waits for their times, the last at its own time or,
        if that has been sent already, as soon after it as can be."""
        stream.group, stream.at, stream.squeezed = self._group_number, 0, len(self._group)
        newest = self._group[-1].timestamp + stream.outlet.shift & MASK
        if not stream.begun and not stream.outlet.packets:
            stream.base = newest - (stream.squeezed - 1) & MASK
            return
        last = stream.outlet.timestamp
        behind = ahead(newest, last)
        if behind < 0:
            stream.outlet.shift += -behind
            newest = last
        stream.base = newest - (stream.squeezed - 1) & MASK
        if ahead(stream.base, last) <= 0:
            stream.base = last + 1 & MASK


def _coding(sound: SampleEntry) -> tuple[str, int, int]:
    """What an answer says of sound."""
    return sound.codec, sound.clock_rate, sound.channels


def sets_of(entry: SampleEntry) -> bytes:
    """The parameter sets of H.264 as a unit begins with them (lengths before them); nothing of other codings, or where they cannot be read."""
    if entry.codec not in {"avc1", "avc3"}:
        return b""
    try:
        return b"".join(len(nal).to_bytes(4) + nal for nal in avc_sets(entry.config))
    except (IndexError, struct.error, Conflict):
        return b""


def begins_with_sets(unit: bytes) -> bool:
    """True if a sequence parameter set of H.264 is among the unit's first NALs."""
    at = 0
    for _ in range(6):
        if at + 5 > len(unit):
            return False
        if unit[at + 4] & 31 == SETS:
            return True
        at += 4 + int.from_bytes(unit[at:at + 4])
    return False
