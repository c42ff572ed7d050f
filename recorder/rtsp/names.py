"""Asking the system's resolver, in threads that nobody else needs: one that waits for a dead DNS for half a minute keeps no disk waiting."""

import asyncio
import contextlib
import socket
import threading
from typing import Any

from recorder.base.errors import SourceError
from recorder.base.media import GapCause

RESOLVE_S = 5.0
ASKED_MAX = 256          # names that the resolver has not answered yet: a thread each

Found = list[tuple[Any, ...]]        # as of socket.getaddrinfo
Asked = asyncio.Future[Found | OSError | UnicodeError]


class Names:
    """All calls on one loop's thread."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, int], Asked] = {}

    async def ask(self, host: str, port: int) -> Found:
        """The addresses of a name. Raises SourceError (`offline`) if it does not resolve within 5 s; who asks meanwhile shares the answer."""
        asked = self._asked.get((host, port)) or self._begin(host, port)
        try:
            async with asyncio.timeout(RESOLVE_S):
                found = await asyncio.shield(asked)
        except TimeoutError as error:
            raise _unknown(host, f"the DNS does not answer within {RESOLVE_S:.0f} s") from error
        if isinstance(found, Exception):
            raise _unknown(host, "the name does not resolve") from found
        return found

    def _begin(self, host: str, port: int) -> Asked:
        if len(self._asked) >= ASKED_MAX:
            raise _unknown(host, f"the DNS has left {ASKED_MAX} names unanswered")
        loop = asyncio.get_running_loop()
        asked: Asked = loop.create_future()
        threading.Thread(target=self._look_up, args=(loop, asked, host, port), name="resolver", daemon=True).start()
        self._asked[host, port] = asked
        return asked

    def _look_up(self, loop: asyncio.AbstractEventLoop, asked: Asked, host: str, port: int) -> None:
        """In its thread."""
        found: Found | OSError | UnicodeError
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            found = error
        with contextlib.suppress(RuntimeError):      # the loop has ended meanwhile
            loop.call_soon_threadsafe(self._answered, asked, host, port, found)

    def _answered(self, asked: Asked, host: str, port: int, found: Found | OSError | UnicodeError) -> None:
        del self._asked[host, port]
        asked.set_result(found)


def numeric(host: str, port: int) -> Found:
    """The address that is written in numbers; none for a name. Asks nobody."""
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except (OSError, UnicodeError):
        return []


def _unknown(host: str, what: str) -> SourceError:
    return SourceError(what, cause=GapCause.OFFLINE, where=host, remedy="check it and the DNS")
