"""VLC as a camera: RTSP out, media over UDP only (461 for TCP)."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import av

from bench.site import free_port

SECONDS, FPS = 20, 15


def make_clip(path: Path) -> None:
    """H.264 with a key frame each second, and AAC."""
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=FPS, options={"bf": "0", "g": str(FPS), "tune": "zerolatency"})
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        sound = file.add_stream("aac", rate=16000)
        sound.layout = "mono"
        silence = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        silence.sample_rate = 16000
        silence.planes[0].update(bytes(4096))
        for index in range(SECONDS * FPS):
            picture = av.VideoFrame(320, 240, "yuv420p")
            for plane in picture.planes:
                plane.update(bytes([index % 200 + 20]) * plane.buffer_size)
            picture.pts = index
            file.mux(video.encode(picture))
        for index in range(SECONDS * 16000 // 1024):
            silence.pts = index * 1024
            file.mux(sound.encode(silence))
        file.mux(video.encode(None))
        file.mux(sound.encode(None))


@asynccontextmanager
async def vlc_camera() -> AsyncIterator[str]:
    """Its address. VLC refuses to run as root, so it runs as nobody, with a home of its own."""
    port = free_port()
    home = Path(tempfile.mkdtemp(prefix="vlc-"))
    try:
        make_clip(home / "clip.mp4")
        for path in (home, home / "clip.mp4"):
            shutil.chown(path, "nobody")
        process = await asyncio.create_subprocess_exec(
            "runuser", "-u", "nobody", "--", "env", f"HOME={home}", "cvlc", "-I", "dummy", "--no-sout-all", "--rtsp-host", "127.0.0.1",
            "--rtsp-port", str(port), "--loop", str(home / "clip.mp4"), "--sout-keep",
            "--sout", f"#gather:rtp{{sdp=rtsp://127.0.0.1:{port}/cam}}",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL)
        try:
            await _listening(port)
            yield f"rtsp://127.0.0.1:{port}/cam"
        finally:
            process.terminate()
            await process.wait()
    finally:
        shutil.rmtree(home)


async def _listening(port: int) -> None:
    async with asyncio.timeout(120):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                await writer.wait_closed()
                return
