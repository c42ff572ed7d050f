"""The simulation: an RTSP server on loopback (`watchroom camsim`); `CamSim` for use in a test's own loop."""

import argparse
import asyncio
import contextlib
import itertools
import json
import signal
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvloop

from bench.camsim.arguments import spec_of
from bench.camsim.camera import Camera, build
from bench.camsim.connection import Client
from bench.camsim.report import report, summary
from bench.camsim.request import BadRequest, Request, RequestReader, answer
from bench.camsim.sender import Connection, Sender
from bench.camsim.spec import SimSpec
from bench.camsim.truth import Truth

CLIENTS_MAX = 4096
GONE = "the client has gone"


class CamSim:
    """`async with CamSim(spec) as sim:` serves until the block ends. One event loop owns it."""

    def __init__(self, spec: SimSpec) -> None:
        self.spec = spec
        self.port = 0
        self._cameras: dict[str, Camera] = {}
        self._sender = Sender()
        self._clients: dict[Connection, tuple[Client, asyncio.Task[None]]] = {}
        self._numbers = itertools.count(1)
        self._tasks: list[asyncio.Task[None]] = []
        self._wall_offset_ns = 0

    async def __aenter__(self) -> Self:
        now_ns, self._wall_offset_ns = time.monotonic_ns(), time.time_ns() - time.monotonic_ns()
        cameras = await asyncio.to_thread(build, self.spec.cameras, self.spec.cache, now_ns)
        self._cameras = {camera.name: camera for camera in cameras}
        self._listener = socket.create_server((self.spec.host, self.spec.port), backlog=1024)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._tasks = [asyncio.create_task(job) for job in (self._accept(), self._tick(), self._watch())]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        tasks = [*self._tasks, *(task for _, task in self._clients.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()

    def url(self, number: int, *, sub: bool = False, userinfo: bool = False) -> str:
        """The address of a camera."""
        auth = self.spec.auth
        login = f"{auth.user}:{auth.password}@" if userinfo and auth.scheme != "none" else ""
        return f"rtsp://{login}{self.spec.host}:{self.port}/cam{number}{'/sub' if sub else ''}"

    def status(self) -> dict[str, Any]:
        """The report so far (see bench/camsim/report.py)."""
        return report(self.port, self._cameras.values(), self._wall_offset_ns)

    def truth(self, number: int, track: str = "main") -> Truth:
        """What a recorder must store of a camera's track."""
        return Truth.of(self.status(), f"cam{number}", track)

    def disconnect(self, number: int) -> None:
        """Cut all connections that play a camera, as a camera does that loses power."""
        for client, task in self._clients.values():
            if client.record and client.record in self._cameras[f"cam{number}"].sessions:
                task.cancel()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, where = await loop.sock_accept(self._listener)
            if len(self._clients) >= CLIENTS_MAX:
                sock.close()
            else:
                self._admit(sock, where[0])

    def _admit(self, sock: socket.socket, address: str) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock.fileno(), self.spec.queue_bytes)
        client = Client(self.spec, self._cameras, connection, lambda: next(self._numbers), address)
        task = asyncio.create_task(self._serve(sock, client))
        task.add_done_callback(lambda _: self._forget(sock, client))
        self._sender.add(connection)
        self._clients[connection] = client, task

    def _forget(self, sock: socket.socket, client: Client) -> None:
        """Whatever ended the connection's task, also before its first step."""
        client.end("closed by us")
        self._sender.remove(client.connection)
        del self._clients[client.connection]
        sock.close()

    async def _serve(self, sock: socket.socket, client: Client) -> None:
        """Read requests until the client goes."""
        try:
            client.end(await self._read(sock, client))
        except (OSError, BadRequest) as error:
            client.end(str(error))

    async def _read(self, sock: socket.socket, client: Client) -> str:
        loop, reader = asyncio.get_running_loop(), RequestReader()
        while data := await loop.sock_recv(sock, 16 << 10):
            for request in reader.feed(data):
                if request.version.startswith("HTTP"):
                    await loop.sock_sendall(sock, self._http(request))
                    return "status"
                if not client.handle(request):
                    return GONE if client.connection.error else "the client reads no answers"
                if client.finished:
                    return "finished"
        return "closed by the client"

    def _http(self, request: Request) -> bytes:
        if (request.method, request.url) != ("GET", "/status"):
            return answer("HTTP/1.1", 404, {"Connection": "close"})
        headers = {"Content-Type": "application/json", "Connection": "close"}
        return answer("HTTP/1.1", 200, headers, json.dumps(self.status()).encode())

    async def _tick(self) -> None:
        while True:
            for connection in self._sender.run(time.monotonic_ns()):
                if connection in self._clients:
                    client, task = self._clients[connection]
                    client.end(GONE)
                    task.cancel()
            await asyncio.sleep(self.spec.tick_ms / 1000)

    async def _watch(self) -> None:
        """Sender reports, and the end of sessions that nobody keeps alive."""
        for beat in itertools.count():
            await asyncio.sleep(min(1.0, self.spec.report_s))
            now_ns = time.monotonic_ns()
            for client, task in list(self._clients.values()):
                if client.timed_out(now_ns):
                    client.end("timeout")
                    task.cancel()
                elif beat % max(1, round(self.spec.report_s)) == 0:
                    client.report()


async def run(args: argparse.Namespace) -> None:
    """Serve until SIGINT, SIGTERM or `--seconds`; the first line on stdout is `{"port": n}`."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with CamSim(spec_of(args)) as sim:
        print(json.dumps({"port": sim.port, "first": sim.url(0), "cameras": len(sim.spec.cameras)}), flush=True)
        deadline = time.monotonic() + (args.seconds or float("inf"))
        while not stop.is_set() and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), max(0.0, min(1.0, deadline - time.monotonic())))
            if not args.quiet:
                print(summary(sim.status()), file=sys.stderr, flush=True)
        if args.report:
            await asyncio.to_thread(Path(args.report).write_text, json.dumps(sim.status(), indent=1))


def main(args: argparse.Namespace) -> int:
    """The command; `args` as from `bench.camsim.arguments.add_arguments`. Returns the exit code."""
    try:
        uvloop.run(run(args))
    except (ValueError, OSError, RuntimeError) as error:
        print(f"camsim: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    from bench.camsim.arguments import add_arguments

    parser = argparse.ArgumentParser(prog="camsim")
    add_arguments(parser)
    raise SystemExit(main(parser.parse_args()))
