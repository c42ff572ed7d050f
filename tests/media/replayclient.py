"""A client of RTSP replay that is no player: requests one by one, interleaved packets as AUs with their header extensions."""

import asyncio
import struct
from dataclasses import dataclass

from tests.media.replays import read_extension


@dataclass
class Received:
    """One AU: its packets' payloads, and what their headers say."""

    stream: int
    wall_ns: int
    clean: bool
    end: bool
    jump: bool
    last: bool
    cseq: int
    stamp: int
    first_sequence: int
    payloads: list[bytes]


class ReplayClient:
    """`async with ReplayClient(port) as client`. Channels 2n and 2n + 1 are those of the n-th stream that is set up."""

    def __init__(self, port, path="/replay/yard"):
        self.port, self.address = port, f"rtsp://127.0.0.1:{port}{path}"
        self.cseq = 0
        self.session = ""
        self.units, self.reports, self.sequences = [], [], {}
        self._answers = asyncio.Queue()
        self.reading = asyncio.Event()
        self.reading.set()

    async def __aenter__(self):
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.wait([self._task])
        self._writer.close()

    async def ask(self, method, url=None, **headers):
        """Status, headers by lower-case name, body."""
        self.send(method, url, **headers)
        async with asyncio.timeout(20):
            return await self._answers.get()

    def send(self, method, url=None, **headers):
        """Without waiting."""
        self.cseq += 1
        said = {"CSeq": self.cseq, **({"Session": self.session} if self.session else {}),
                **{name.replace("_", "-"): value for name, value in headers.items()}}
        lines = [f"{method} {url or self.address} RTSP/1.0", *(f"{name}: {value}" for name, value in said.items()), "", ""]
        self._writer.write("\r\n".join(lines).encode())

    async def set_up(self, *tracks):
        """Status of the last SETUP."""
        status = 0
        for number, track in enumerate(tracks):
            transport = f"RTP/AVP/TCP;unicast;interleaved={2 * number}-{2 * number + 1}"
            status, headers, _ = await self.ask("SETUP", f"{self.address.partition('?')[0]}/track-{track}", Transport=transport,
                                                Require="onvif-replay")
            self.session = headers.get("session", "").partition(";")[0]
        return status

    async def play(self, **headers):
        """A PLAY as ONVIF has it; status, headers."""
        status, said, _ = await self.ask("PLAY", **{"Require": "onvif-replay", **headers})
        return status, said

    async def _read(self):
        while True:
            first = await self._reader.readexactly(1)
            if first == b"$":
                channel, size = struct.unpack(">BH", await self._reader.readexactly(3))
                packet = await self._reader.readexactly(size)
                self._packet(channel // 2, packet) if channel % 2 == 0 else self.reports.append(packet)
                await self.reading.wait()
                continue
            head = (first + await self._reader.readuntil(b"\r\n\r\n")).decode()
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:] if line)}
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
            self._answers.put_nowait((int(head.split()[1]), headers, body.decode()))

    def _packet(self, stream, packet):
        flags, _, sequence, stamp, _ = struct.unpack_from(">BBHII", packet)
        assert flags & 0xEF == 0x80
        before = self.sequences.get(stream)
        assert before is None or sequence == before + 1 & 0xFFFF, "a sequence number is missing"
        self.sequences[stream] = sequence
        if flags & 0x10:
            self.units.append(Received(stream, *read_extension(packet[12:28]), stamp, sequence, [packet[28:]]))
        else:
            assert self.units[-1].stamp == stamp
            self.units[-1].payloads.append(packet[12:])

    async def until(self, true, seconds=20):
        """Wait until `true()`."""
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.005)

    async def ended(self):
        """Wait for a T bit of the first stream."""
        await self.until(lambda: any(unit.last and unit.stream == 0 for unit in self.units))
