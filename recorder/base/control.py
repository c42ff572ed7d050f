"""Control sockets between our own processes: Unix stream sockets of mode 0600, one JSON object a line, the peer's uid checked.

    -> {"id": 1, "call": "camera.start", "args": {...}}
    <- {"id": 1, "result": ...}   or   {"id": 1, "error": {"type": "Conflict", "message": ..., "where": ..., "remedy": ...}}

An error crosses the socket as its class of recorder.base.errors, so the caller sees what a local call would have raised.
"""

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

from recorder.base import errors

REQUEST_MAX = 1 << 20
ANSWER_MAX = 16 << 20
CONNECTIONS_MAX = 64
IDLE_S = 60.0

Handler = Callable[[str, dict[str, Any]], Awaitable[Any]]


class ControlServer:
    """Answers calls on one socket with `handler(call, args)`, which returns what JSON can carry or raises WatchroomError.

    Calls of one connection are answered in order; connections do not wait for one another.
    """

    def __init__(self, path: Path, handler: Handler, log: logging.Logger, *, uids: Collection[int] | None = None) -> None:
        self._path = path
        self._handler = handler
        self._log = log
        self._uids = {0, os.geteuid()} if uids is None else uids
        self._server: asyncio.Server | None = None
        self._peers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. A socket file that nobody listens on is replaced; Conflict if somebody does."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        listener = _listen(self._path)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=REQUEST_MAX)

    async def close(self) -> None:
        """Listen no more, end every connection, remove the socket file."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._peers):
            task.cancel()
        await asyncio.gather(*self._peers, return_exceptions=True)
        self._path.unlink(missing_ok=True)
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._peers.add(task)
        try:
            if len(self._peers) <= CONNECTIONS_MAX and _peer_uid(writer.get_extra_info("socket")) in self._uids:
                await self._converse(reader, writer)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass                       # the peer went away: nobody is left to tell
        except asyncio.CancelledError:
            pass                       # close(): the stream's own task has nothing to undo, and nobody awaits it
        finally:
            self._peers.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await asyncio.wait_for(reader.readline(), IDLE_S)
            except ValueError:         # longer than the limit
                line = b""
            if not line.endswith(b"\n"):
                return
            writer.write(json.dumps(await self._answer(line), separators=(",", ":")).encode() + b"\n")
            await asyncio.wait_for(writer.drain(), IDLE_S)

    async def _answer(self, line: bytes) -> dict[str, Any]:
        number: Any = None
        try:
            number, call, args = _request(line)
            return {"id": number, "result": await self._handler(call, args)}
        except errors.WatchroomError as error:
            return {"id": number, "error": describe_error(error)}
        except Exception:              # one bad call must not end the connection
            self._log.exception("control call failed")
            return {"id": number, "error": {"type": "WatchroomError", "message": "the call failed inside; the process log says where"}}


class ControlClient:
    """Calls to one control socket; a connection per call, so a restarted peer is met without ado."""

    def __init__(self, path: Path, *, timeout_s: float = 10.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    async def call(self, call: str, args: dict[str, Any] | None = None, *, timeout_s: float | None = None) -> Any:
        """The result of the call. Raises what the peer raised; NotFound if nobody listens or no answer came in time."""
        try:
            async with asyncio.timeout(timeout_s if timeout_s is not None else self._timeout_s):
                return _result(await self._exchange({"id": 1, "call": call, "args": args or {}}))
        except (OSError, ValueError) as error:        # TimeoutError is an OSError
            raise errors.NotFound(f"no answer to {call} ({type(error).__name__})", where=self._path.name,
                                  remedy="check that watchroom serve runs, and its log") from error

    async def _exchange(self, request: dict[str, Any]) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(self._path), limit=ANSWER_MAX)
        try:
            writer.write(json.dumps(request, separators=(",", ":")).encode() + b"\n")
            await writer.drain()
            return await reader.readline()
        finally:
            writer.close()


def describe_error(error: errors.WatchroomError) -> dict[str, Any]:
    """The error as JSON."""
    fields: dict[str, Any] = {"type": type(error).__name__, "message": error.message, "where": error.where, "remedy": error.remedy}
    if isinstance(error, errors.SourceError):
        fields |= {"cause": int(error.cause), "retry_s": error.retry_s}
    return fields


def restore_error(fields: dict[str, Any]) -> errors.WatchroomError:
    """The error that `describe_error` described; an unknown class becomes WatchroomError."""
    kind = getattr(errors, str(fields.get("type")), errors.WatchroomError)
    message, where, remedy = (str(fields.get(key, "")) for key in ("message", "where", "remedy"))
    if kind is errors.SourceError:
        return errors.SourceError(message, cause=int(fields.get("cause", 0)), retry_s=float(fields.get("retry_s", 0.0)), where=where,
                                  remedy=remedy)
    known: type[errors.WatchroomError] = errors.WatchroomError
    if isinstance(kind, type) and issubclass(kind, errors.WatchroomError):
        known = kind
    return known(message, where=where, remedy=remedy)


def _request(line: bytes) -> tuple[Any, str, dict[str, Any]]:
    try:
        request = json.loads(line)
        number, call, args = request.get("id"), request["call"], request.get("args", {})
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise errors.Refused("not a control call") from error
    if not isinstance(call, str) or not isinstance(args, dict):
        raise errors.Refused("not a control call")
    return number, call, args


def _result(line: bytes) -> Any:
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ValueError("not an answer")
    if "error" in answer:
        raise restore_error(answer["error"])
    return answer.get("result")


def _listen(path: Path) -> socket.socket:
    if path.is_socket() and _somebody_listens(path):
        raise errors.Conflict("another process listens on this control socket", where=path.name, remedy="stop it first")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)             # the file must never be open to others, not even for a moment
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise errors.ConfigError(f"cannot listen: {error.strerror or error}", where=path.name,
                                 remedy="use a state_dir that is writable and short (107 bytes in all)") from error
    finally:
        os.umask(mask)
    return listener


def _somebody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _peer_uid(peer: Any) -> int:
    """Who is at the other end (SO_PEERCRED: pid, uid, gid)."""
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
