"""The writing side of one client's connection: what it has taken, and whether it takes anything."""

import asyncio

ROOM_BYTES = 256 << 10


class Wire:
    """Bytes to one client. `written` counts all bytes handed to the transport."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._free = asyncio.Event()
        self._free.set()
        self.written = 0
        self._taken = 0
        self._since_s = 0.0
        transport.set_write_buffer_limits(high=ROOM_BYTES)

    @property
    def closed(self) -> bool:
        """True once nothing can be written any more."""
        return self._transport.is_closing()

    @property
    def waiting(self) -> int:
        """Bytes that the client has not taken yet."""
        return self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """Send in order; keeps a reference and copies nothing while the socket takes it."""
        if not self._transport.is_closing():
            self.written += len(data)
            self._transport.write(data)

    def pause(self) -> None:
        """The transport has more than enough."""
        self._free.clear()

    def resume(self) -> None:
        """It has room again; also called at the end, so that nobody waits for ever."""
        self._free.set()

    async def room(self) -> None:
        """Returns when less than 256 KiB wait."""
        await self._free.wait()

    def stuck_s(self, now_s: float) -> float:
        """For how many seconds something has waited and nothing was taken; to be asked every second or so."""
        waiting = self.waiting
        taken = self.written - waiting
        if not waiting or taken != self._taken or self._since_s == 0.0:
            self._taken, self._since_s = taken, now_s
        return now_s - self._since_s

    def close(self) -> None:
        """Send what waits, then end."""
        self._transport.close()

    def abort(self) -> None:
        """End now."""
        self._transport.abort()
