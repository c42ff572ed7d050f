"""`python -m bench.sources DIR`: what a source process costs beside an RTSP camera, the same clip by every way in, one way after the other."""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bench.machine import describe, memory_kb, sample
from bench.site import Site, free_port

CAMERAS = 4
WARM_UP_S = 8.0
SECONDS = 10.0
KBPS = 4000


def make_clip(path: Path) -> Path:
    """40 s of 1080p25 H.264 at 4 Mbit/s with B-frames, and AAC."""
    subprocess.run(["ffmpeg", "-y", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=25:duration=40", "-f", "lavfi", "-i",
                    "sine=frequency=440:sample_rate=48000:duration=40", "-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "50",
                    "-b:v", f"{KBPS}k", "-minrate", f"{KBPS}k", "-maxrate", f"{KBPS}k", "-bufsize", "4M", "-nal-hrd", "cbr",
                    "-c:a", "aac", str(path)], check=True)
    return path


def sender(clip: Path, *output: str) -> subprocess.Popen[bytes]:
    """ffmpeg that sends the clip in real time; on the other core."""
    command = ["taskset", "-c", "1", "ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", str(clip), "-c", "copy", *output]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def udp(clip: Path, held: ExitStack, folder: Path) -> str:
    """MPEG-TS over UDP."""
    port = free_port()
    _hold(held, sender(clip, "-f", "mpegts", f"udp://127.0.0.1:{port}?pkt_size=1316"))
    return f"udp://127.0.0.1:{port}"


def srt(clip: Path, held: ExitStack, folder: Path) -> str:
    """MPEG-TS over SRT."""
    port = free_port()
    _hold(held, sender(clip, "-f", "mpegts", f"srt://127.0.0.1:{port}?mode=listener"))
    return f"srt://127.0.0.1:{port}"


def rtmp(clip: Path, held: ExitStack, folder: Path) -> str:
    """FLV over RTMP."""
    port = free_port()
    _hold(held, sender(clip, "-f", "flv", "-listen", "1", f"rtmp://127.0.0.1:{port}/live/x"))
    return f"rtmp://127.0.0.1:{port}/live/x"


def hls(clip: Path, held: ExitStack, folder: Path) -> str:
    """HLS with segments of 2 s, over HTTP."""
    place = Path(tempfile.mkdtemp(dir=folder))
    _hold(held, sender(clip, "-f", "hls", "-hls_time", "2", "-hls_list_size", "6", "-hls_flags", "delete_segments",
                       str(place / "x.m3u8")))
    while not (place / "x.m3u8").exists():
        time.sleep(0.1)
    return f"http://127.0.0.1:{held.enter_context(serve(place))}/x.m3u8"


def rtsp(clip: Path, held: ExitStack, folder: Path) -> str:
    """An RTSP camera, for the ratio."""
    port = free_port()
    command = ["taskset", "-c", "1", sys.executable, "-m", "recorder", "camsim", "--count", "1", "--audio", "aac", "--bframes", "2",
               "--bitrate", str(KBPS), "--port", str(port), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _hold(held, process)
    return f"rtsp://127.0.0.1:{port}/cam0"


def _hold(held: ExitStack, process: subprocess.Popen[bytes]) -> None:
    held.callback(process.wait)
    held.callback(process.kill)


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[int]:
    """A plain HTTP server for a folder."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                data = (folder / Path(self.path).name).read_bytes()
            except OSError:
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


WAYS: dict[str, Callable[[Path, ExitStack, Path], str]] = {"rtsp": rtsp, "udp": udp, "srt": srt, "rtmp": rtmp, "hls": hls}


def measure(way: str, clip: Path, folder: Path) -> str:
    """One line of the table: per stream, worker and source process apart."""
    with ExitStack() as held:
        urls = [WAYS[way](clip, held, folder) for _ in range(CAMERAS)]
        time.sleep(1.0)                      # listeners come up
        place = Path(tempfile.mkdtemp(dir=folder))
        cameras = {f"c{n}": [f'main = {{ url = "{url}", kbps = {KBPS} }}'] for n, url in enumerate(urls)}
        site = held.enter_context(Site(place, cameras, core=0, bytes_max=2 << 30))
        time.sleep(WARM_UP_S)
        site.check_alive()
        worker, pids = site.worker_pids(), site.pids()
        sources = [pid for pid in pids if pid not in worker]
        first = sample(worker), sample(sources)
        time.sleep(SECONDS)
        last = sample(worker), sample(sources)
        if site.pids() != pids:
            raise RuntimeError(f"{way}: processes came and went: {site.tail()}")
        spent = [(b.cpu_s - a.cpu_s) * 1e6 / (b.mono_s - a.mono_s) / CAMERAS for a, b in zip(first, last, strict=True)]
        steal = (last[0].steal_s - first[0].steal_s) * 100 / SECONDS
        return f"| {way} | {spent[0]:,.0f} | {spent[1]:,.0f} | {memory_kb(sources) / 1024 / CAMERAS:.1f} | {steal:.1f} |"


def main() -> None:
    """All ways, a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="on a real disk")
    parser.add_argument("--ways", default=",".join(WAYS))
    given = parser.parse_args()
    clip = make_clip(given.folder / "clip.mp4")
    print(describe(given.folder))
    for way in given.ways.split(","):
        print(measure(way, clip, given.folder), flush=True)


if __name__ == "__main__":
    main()
