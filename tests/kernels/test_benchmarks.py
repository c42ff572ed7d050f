"""The kernels' micro-benchmarks, run once as tests: each checks its result. `pytest --benchmark-enable --benchmark-only` measures."""

import pytest
import rtpkit
from rtpkit import WALL, Stream, interleaved

from bench import kernels
from recorder._ext.auqueue import AuQueue
from recorder._ext.framing import Connection
from recorder._ext.nal import start_code
from recorder._ext.rtp import RtpTrack


def test_depacketising_a_group_of_pictures(benchmark):
    """A GOP of 25 pictures of 20 kB, packets in place in one buffer."""
    stream = Stream(mtu=1400)
    stream.key(size=60_000)
    packets: list[bytes] = []
    for i in range(25):
        nals = [rtpkit.sps264(), rtpkit.pps264(), rtpkit.slice264(5, size=60_000)] if i == 0 else [rtpkit.slice264(1, size=20_000, seed=i)]
        payloads = stream.payloads(nals)
        for n, payload in enumerate(payloads):
            packets.append(interleaved(0, rtpkit.rtp(len(packets), i * 3600, payload, marker=n == len(payloads) - 1)))
    data = b"".join(packets)

    def whole_gop() -> tuple[int, int]:
        queue = AuQueue(1 << 20)
        track, connection = RtpTrack(queue, "h264", 90000, [96], 1), Connection()
        connection.bind(0, 1, track)
        connection.feed(data, len(data), 10**9, WALL)
        track.flush()
        return queue.waiting_aus, track.stats()["damaged_aus"]

    assert benchmark(whole_gop) == (25, 0)


def test_scanning_for_start_codes(benchmark):
    data = rtpkit.noise(1 << 20)
    assert benchmark(start_code, data) == 1 << 20


@pytest.mark.parametrize("count", [16])
def test_draining_real_pictures(benchmark, count):
    pictures = kernels.encode(4000, 10)
    report = benchmark.pedantic(kernels.measure, (count, pictures), rounds=1)
    assert report.aus == 2 * count * len(pictures)
    assert report.us_per_stream_second > 0
