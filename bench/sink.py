"""Plays simulated cameras and throws the bytes away: what the simulation itself costs (`python -m bench.sink --count 256`)."""

import argparse
import json
import re
import socket
import time

from bench.camsim.process import SimProcess
from bench.machine import Sample, memory_kb, sample

TICK_S = 0.02


def set_up(port: int, camera: int) -> tuple[socket.socket, str, str]:
    """A connection on which the camera's first track is set up, its session and URL."""
    url = f"rtsp://127.0.0.1:{port}/cam{camera}"
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    answer = _ask(sock, f"SETUP {url}/trackID=0", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
    session = re.search(r"Session: (\w+)", answer)
    if session is None:
        raise RuntimeError(f"camera {camera} answered: {answer.splitlines()[0]}")
    return sock, session[1], url


def play(port: int, camera: int) -> socket.socket:
    """A connection that plays the camera's first track, non-blocking."""
    sock, session, url = set_up(port, camera)
    sock.sendall(f"PLAY {url} RTSP/1.0\r\nCSeq: 2\r\nSession: {session}\r\n\r\n".encode())
    sock.setblocking(False)
    return sock


def _ask(sock: socket.socket, request: str, header: str) -> str:
    sock.sendall(f"{request} RTSP/1.0\r\nCSeq: 1\r\n{header}\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(4096)
    return data.decode()


def drain(socks: list[socket.socket], seconds: float) -> int:
    """Read everything for `seconds`, all sockets each tick; returns the bytes."""
    buffer, total, end = bytearray(1 << 20), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for sock in socks:
            try:
                total += sock.recv_into(buffer)
            except BlockingIOError:
                continue
        time.sleep(TICK_S)
    return total


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m bench.sink")
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--bitrate", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--core", type=int, help="the CPU that the simulation is pinned to")
    parser.add_argument("options", nargs="*", help="more options of camsim, after --")
    args = parser.parse_args()
    with SimProcess(["--count", str(args.count), "--bitrate", str(args.bitrate), *args.options], core=args.core) as sim:
        socks = [play(sim.port, i) for i in range(args.count)]
        drain(socks, 2)
        before = sample([sim.pid])
        received = drain(socks, args.seconds)
        figures = result(before, sample([sim.pid]), args.count, received, sim.status())
        print(json.dumps({**figures, "sender_pss_mb": round(memory_kb([sim.pid]) / 1024, 1)}))
        for sock in socks:
            sock.close()


def result(before: Sample, after: Sample, count: int, received: int, status: dict[str, object]) -> dict[str, object]:
    """The figures of one run."""
    wall_s, cpu_s = after.mono_s - before.mono_s, after.cpu_s - before.cpu_s
    tracks = [t for c in status["cameras"] for s in c["sessions"] for t in s["tracks"].values()]  # type: ignore[attr-defined]
    return {"cameras": count, "wall_s": round(wall_s, 2), "received_mbit_s": round(received * 8 / wall_s / 1e6, 1),
            "sender_core_percent": round(100 * cpu_s / wall_s, 1), "sender_us_per_stream_s": round(1e6 * cpu_s / wall_s / count),
            "dropped_aus": sum(t["dropped_aus"] for t in tracks),
            "steal_percent": round(100 * (after.steal_s - before.steal_s) / wall_s, 1)}


if __name__ == "__main__":
    main()
