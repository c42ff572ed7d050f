"""A live edge that a test feeds, and a WHEP viewer that keeps what it gets."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from api.unit import Unit
from api.whep.desk import WHEP, WhepDesk
from bench.site import free_port
from bench.webrtc_viewer import WebrtcViewer
from recorder.base.config import WebrtcConfig
from recorder.base.errors import NotFound
from recorder.base.media import NS, SampleEntry
from recorder.webrtc.dtls import Identity

IDENTITY = Identity()
FPS = 25
STEP = 90_000 // FPS
SETS = b"\x67\x42\xc0\x1e\x11", b"\x68\xce\x3c\x80"
RECORD = b"\x01\x42\xc0\x1e\xff\xe1" + struct.pack(">H", len(SETS[0])) + SETS[0] + b"\x01" + struct.pack(">H", len(SETS[1])) + SETS[1]
AVC = SampleEntry("avc1", RECORD, 90_000, 640, 360)
HEVC = SampleEntry("hvc1", bytes(23), 90_000, 640, 360)
OPUS = SampleEntry("Opus", b"", 48_000, channels=2, sample_rate=48_000)


@dataclass
class FakeSeat:
    """A place at the board."""

    board: "FakeBoard"
    key: tuple[int, str]
    take: Callable[[list[Unit]], None]

    def leave(self) -> None:
        self.board.seats[self.key].remove(self)


@dataclass
class FakeBoard:
    """Tracks by camera number and name; `push` makes units of them. Who joins gets the group so far at once."""

    tracks: dict[tuple[int, str], SampleEntry] = field(default_factory=dict)
    seats: dict[tuple[int, str], list[FakeSeat]] = field(default_factory=dict)
    groups: dict[tuple[int, str], list[Unit]] = field(default_factory=dict)
    numbers: dict[tuple[int, str], int] = field(default_factory=dict)
    wall_ns: int = 1_800_000_000 * NS

    def join(self, camera: int, track: str, take: Any, silent: Any = None) -> FakeSeat:
        key = camera, track
        if key not in self.tracks:
            raise NotFound("nothing")
        seat = FakeSeat(self, key, take)
        self.seats.setdefault(key, []).append(seat)
        if self.groups.get(key):
            take(list(self.groups[key]))
        return seat

    def entry(self, camera: int, track: str) -> SampleEntry | None:
        """How the track was coded last."""
        return self.tracks.get((camera, track))

    def push(self, camera: int = 1, track: str = "main", count: int = 1, *, key: bool = False, size: int = 5000, cts: int = 0) -> list[Unit]:
        """The next pictures; the first of them is an access point with `key`."""
        made = []
        for n in range(count):
            made.append(self._unit((camera, track), key and n == 0, size, cts))
        for seat in list(self.seats.get((camera, track), [])):
            seat.take(made)
        return made

    def _unit(self, place: tuple[int, str], key: bool, size: int, cts: int) -> Unit:
        entry = self.tracks[place]
        number = self.numbers[place] = self.numbers.get(place, 0) + 1
        step = entry.clock_rate // FPS
        nal = bytes([0x65 if key else 0x61]) + number.to_bytes(4) + bytes([number % 251 + 1]) * (size - 5)
        data = len(nal).to_bytes(4) + nal if entry.codec == "avc1" else nal[:200]
        unit = Unit(number, data, entry, number * step, cts, self.wall_ns + number * NS // FPS, key, False, False, number == 1, 0)
        if key or entry.codec != "avc1":
            self.groups[place] = []
        self.groups.setdefault(place, []).append(unit)
        return unit


def furnish(app: web.Application, board: FakeBoard, **config: Any) -> WhepDesk:
    """The application's desk, at a free port and fed by the board."""
    desk = app[WHEP]
    desk.config = WebrtcConfig(**{"port": free_port(), **config})
    desk._board, desk._entry = board, board.entry
    desk.open()
    return desk


REPORTED = 250      # packets that a report is about


class Watcher(WebrtcViewer):
    """A viewer that keeps what it gets: clear packets by SSRC, in order of arrival. `lose(n)`: whether the n-th datagram never came."""

    def __init__(self, **more: Any) -> None:
        super().__init__(IDENTITY, taken=self._keep, **more)
        self.lose: Callable[[int], bool] = lambda _: False
        self.came: dict[int, list[bytes]] = {}
        self.reports: list[bytes] = []
        self.seen = 0
        self.lost: list[int] = []
        self._reported = self._lost = 0

    def _keep(self, data: bytes) -> None:
        if 192 <= data[1] <= 223:
            return
        self.seen += 1
        if self.lose(self.seen):
            self.lost.append(int.from_bytes(data[2:4]))
            return
        assert self.contexts is not None
        packet = self.contexts.unprotect(data)
        self.came.setdefault(int.from_bytes(packet[8:12]), []).append(packet)

    def pictures(self) -> list[bytes]:
        """Of the pictures' SSRC."""
        return self.came.get(self.ssrc, [])

    def repaired(self) -> list[bytes]:
        """RTX packets as what they repeat (RFC 4588 4)."""
        return [packet[:2] + packet[12:14] + packet[4:8] + self.ssrc.to_bytes(4) + packet[14:]
                for ssrc, packets in self.came.items() if ssrc != self.ssrc for packet in packets]

    def want_key(self) -> None:
        """PLI."""
        self.say(struct.pack(">BBHII", 0x81, 206, 2, 1, self.ssrc))

    def nack(self, sequences: list[int]) -> None:
        """Generic NACK, one entry each."""
        self.say(struct.pack(">BBHII", 0x81, 205, 2 + len(sequences), 1, self.ssrc) + b"".join(struct.pack(">HH", one, 0) for one in sequences))

    def report_lost(self, share: float) -> None:
        """A receiver report about the next REPORTED packets."""
        self._reported += REPORTED
        self._lost += round(share * REPORTED)
        self.say(struct.pack(">BBHIIIIIII", 0x81, 201, 7, 1, self.ssrc, int(share * 256) << 24 | self._lost, self._reported, 0, 0, 0))


def units_of(packets: list[bytes]) -> list[tuple[int, list[bytes]]]:
    """(timestamp, NALs) of packets in order (RFC 6184): single NALs, STAP-A, FU-A."""
    units: list[tuple[int, list[bytes]]] = []
    nals: list[bytes] = []
    for packet in packets:
        body, kind = packet[12:], packet[12] & 31
        if kind == 24:
            at = 1
            while at < len(body):
                size = int.from_bytes(body[at:at + 2])
                nals.append(body[at + 2:at + 2 + size])
                at += 2 + size
        elif kind == 28:
            if body[1] & 0x80:
                nals.append(bytes([body[0] & 0xE0 | body[1] & 31]))
            nals[-1] += body[2:]
        else:
            nals.append(body)
        if packet[1] & 0x80:
            units.append((int.from_bytes(packet[4:8]), nals))
            nals = []
    return units
