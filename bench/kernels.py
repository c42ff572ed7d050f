"""CPU of the drain alone: N connections of real H.264 at a given bit rate, through socket pairs, as microseconds per stream-second.

    python -m bench.kernels [--count 256] [--kbps 4000] [--rounds 5]

The sender runs between the runs of the drain and is not counted, nor is the emptying of the queues. A first pass fills every page of the
queues once. Beside it, in the same run: the same bytes through `socket.recv_into` alone, which is what the kernel's side costs. The result
is checked: every access unit sent is in its queue.
"""

import argparse
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

from recorder._ext.auqueue import AuQueue
from recorder._ext.drain import Drain
from recorder._ext.framing import Connection
from recorder._ext.rtp import RtpTrack

TICK_S = 0.04
FPS = 25
MTU = 1400


@dataclass(frozen=True, slots=True)
class Report:
    """What a round measured."""

    us_per_stream_second: float
    recv_us: float
    bytes_received: int
    aus: int


def encode(kbps: int, pictures: int = 50) -> list[list[bytes]]:
    """NAL units of each picture: noise that costs about `kbps`, GOPs of 2 s."""
    import av
    import numpy as np

    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = 1280, 720, "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, FPS), Fraction(FPS)
    codec.gop_size, codec.max_b_frames, codec.bit_rate = pictures, 0, kbps * 1000
    codec.options = {"preset": "ultrafast", "tune": "zerolatency", "nal-hrd": "cbr", "maxrate": str(kbps * 1000), "bufsize": str(kbps * 1000)}
    rng = np.random.default_rng(1)
    packets: list[bytes] = []
    for i in range(pictures):
        frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (1080, 1280), dtype=np.uint8), format="yuv420p")
        frame.pts = i
        packets += [bytes(p) for p in codec.encode(frame)]
    packets += [bytes(p) for p in codec.encode(None)]
    return [[n.rstrip(b"\0") for n in p.split(b"\0\0\1") if n.rstrip(b"\0")] for p in packets]


def packets_of(picture: list[bytes]) -> list[bytes]:
    """RTP payloads (RFC 6184, packetization-mode 1)."""
    out: list[bytes] = []
    for nal in picture:
        if len(nal) <= MTU:
            out.append(nal)
            continue
        parts = [nal[i:i + MTU - 2] for i in range(1, len(nal), MTU - 2)]
        out += [bytes([nal[0] & 0x60 | 28, (i == 0) << 7 | (i == len(parts) - 1) << 6 | nal[0] & 31]) + p for i, p in enumerate(parts)]
    return out


def packetise(pictures: list[list[bytes]], seq: int = 0, ts: int = 0) -> list[bytes]:
    """The interleaved frames of each picture as one run of bytes."""
    out = []
    for picture in pictures:
        run = b""
        payloads = packets_of(picture)
        for i, payload in enumerate(payloads):
            marker = 0x80 if i == len(payloads) - 1 else 0
            run += struct.pack(">BBHBBHII", 36, 0, len(payload) + 12, 0x80, marker | 96, seq & 0xFFFF, ts & 0xFFFFFFFF, 7) + payload
            seq += 1
        out.append(run)
        ts += 90000 // FPS
    return out


@dataclass(frozen=True, slots=True)
class Camera:
    """One connection: our socket, the sender's, the track."""

    ours: socket.socket
    theirs: socket.socket
    track: RtpTrack


def connect(drain: Drain) -> Camera:
    """A camera in the drain; its queue holds about two seconds."""
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    connection, track = Connection(), RtpTrack(AuQueue(1 << 20), "h264", 90000, [96], 1)
    connection.bind(0, 1, track)
    drain.add(connection, ours.fileno())
    return Camera(ours, theirs, track)


def one_pass(cameras: list[Camera], runs: list[bytes], receive: Callable[[int], object], start_ns: int) -> int:
    """A picture to every camera each 40 ms of stream time, no waiting in between; the CPU ns of `receive`."""
    cpu = 0
    for i, run in enumerate(runs):
        for camera in cameras:
            camera.theirs.sendall(run)
        before = time.thread_time_ns()
        receive(start_ns + int(i * TICK_S * 1e9))
        cpu += time.thread_time_ns() - before
        if i % 10 == 9:
            for camera in cameras:
                camera.track.queue.take()
    return cpu


def measure(count: int, pictures: list[list[bytes]]) -> Report:
    """One round."""
    drain = Drain()
    cameras = [connect(drain) for _ in range(count)]
    buffer = bytearray(262144)

    def recv_only(_: int) -> None:
        for camera in cameras:
            camera.ours.recv_into(buffer)

    first, second = packetise(pictures), packetise(pictures, sum(len(packets_of(p)) for p in pictures), len(pictures) * 90000 // FPS)
    one_pass(cameras, first, lambda now: drain.run(now, 0), 10**9)
    before = drain.received_bytes
    cpu = one_pass(cameras, second, lambda now: drain.run(now, 0), 10**9 + int(len(first) * TICK_S * 1e9))
    received = drain.received_bytes - before
    base = one_pass(cameras, first, recv_only, 0)
    for camera in cameras:
        camera.track.flush()
    aus, damaged = (sum(camera.track.stats()[name] for camera in cameras) for name in ("aus", "damaged_aus"))
    for camera in cameras:
        camera.ours.close()
        camera.theirs.close()
    if aus != 2 * count * len(pictures) or damaged:
        raise RuntimeError(f"{aus} of {2 * count * len(pictures)} access units arrived, {damaged} damaged")
    stream_seconds = count * len(pictures) * TICK_S
    return Report(cpu / 1000 / stream_seconds, base / 1000 / stream_seconds, received, aus)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--kbps", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    pictures = encode(args.kbps)
    got = sum(map(len, packetise(pictures))) * 8 / 1000 / (len(pictures) * TICK_S)
    pictures = encode(round(args.kbps * args.kbps / got))     # noise costs more than was asked for
    reports = [measure(args.count, pictures) for _ in range(args.rounds)]
    costs, base = sorted(r.us_per_stream_second for r in reports), sorted(r.recv_us for r in reports)
    kbps = reports[0].bytes_received * 8 / 1000 / (args.count * len(pictures) * TICK_S)
    print(f"{args.count} streams of {kbps:.0f} kbit/s on the wire, CPU us per stream-second, median (least to most) of {args.rounds} rounds: "
          f"drain {median(costs):.0f} ({costs[0]:.0f} to {costs[-1]:.0f}); "
          f"recv_into alone {median(base):.0f} ({base[0]:.0f} to {base[-1]:.0f})")


if __name__ == "__main__":
    main()
