"""Senders made by somebody else: ffmpeg as RTMP and SRT server and as UDP sender, a plain HTTP server, and what their media are made of."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av

from recorder.sources.units import adts_header, packaging, without_adts

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "25", "-x264-params", "b-adapt=0:scenecut=0")
AAC = ("-c:a", "aac", "-b:a", "64k")


async def make(path: Path, *options: str, seconds: int = 8) -> Path:
    """A clip of a test picture with a tone."""
    await run("-f", "lavfi", "-i", f"testsrc2=size=320x240:rate=25:duration={seconds}", "-f", "lavfi", "-i",
              f"sine=frequency=440:sample_rate=48000:duration={seconds}", *options, str(path))
    return path


async def run(*arguments: str) -> None:
    """ffmpeg to its end; anything it says fails the test."""
    process = await asyncio.create_subprocess_exec("ffmpeg", "-y", "-v", "error", *arguments, stdin=asyncio.subprocess.DEVNULL,
                                                   stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


@asynccontextmanager
async def ffmpeg(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """ffmpeg while the block runs."""
    process = await asyncio.create_subprocess_exec("ffmpeg", "-y", "-v", "error", *arguments, stdin=asyncio.subprocess.DEVNULL,
                                                   stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port that nobody uses now."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Web:
    """A plain HTTP server: what it has by path, and what it was asked for. A body may be a generator: it is sent as it comes."""

    port: int = 0
    files: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)


@contextmanager
def web() -> Iterator[Web]:
    """It, while the block runs."""
    state = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            state.logins.append(self.headers.get("Authorization", ""))
            body = state.files.get(self.path, 404)
            body = body() if callable(body) else body
            if isinstance(body, int):
                self.send_error(body)
                return
            if isinstance(body, str):
                self.send_response(302)
                self.send_header("Location", body)
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            try:
                for part in [body] if isinstance(body, bytes) else body:
                    self.wfile.write(part)
            except OSError:
                pass

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Content:
    """What a clip holds, its packaging taken off: NAL units of each picture, and bare audio frames, in decode order."""

    pictures: list[list[bytes]]
    sounds: list[bytes]


def content(path: Path) -> Content:
    """Read by libav, here in the test."""
    pictures, sounds = [], []
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        how = packaging({"h264": "h264", "hevc": "h265"}[video.codec_context.name], bytes(video.codec_context.extradata or b""))
        for packet in container.demux():
            if packet.size and packet.stream.type == "video":
                pictures.append(how.nals(bytes(packet)))
            elif packet.size:
                data = bytes(packet)
                sounds.append(without_adts(data) if adts_header(data) else data)
    return Content(pictures, sounds)
