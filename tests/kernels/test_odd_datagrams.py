"""UDP as cameras send it, beyond loss and order: sizes, both ports, and two senders."""

from collections.abc import Iterator

import pytest
import rtpkit
import udpkit

from recorder._ext.auqueue import AuQueue
from recorder._ext.rtp import RtpTrack


@pytest.fixture
def camera() -> Iterator[udpkit.UdpCamera]:
    made = udpkit.UdpCamera()
    yield made
    made.close()


@pytest.mark.parametrize("size", [1, 1472, 10_000, 65_000])
def test_datagrams_of_any_size_arrive_whole(size: int) -> None:
    made = udpkit.UdpCamera(track=RtpTrack(AuQueue(1 << 20), "h264", 90000, [96], 1))
    nal = rtpkit.slice264(5, size=size)
    for i, payload in enumerate([rtpkit.sps264(), rtpkit.pps264(), nal]):
        made.send(rtpkit.rtp(i, 3600, payload))
    made.send(rtpkit.rtp(3, 7200, rtpkit.slice264(1)))
    got = []
    made.take = lambda: got.extend(made.track.queue.take())  # type: ignore[method-assign]
    made.ticks()
    made.close()
    assert [rtpkit.split(data)[-1] for _, data in got] == [nal]


def test_a_camera_that_sends_everything_twice_loses_nothing(camera: udpkit.UdpCamera) -> None:
    for number in range(200):
        camera.sounds(number, number)
        if number % 20 == 19:
            camera.tick()
    camera.ticks()
    assert camera.numbers == list(range(200))
    assert camera.track.stats()["lost"] == 0 and camera.track.stats()["duplicates"] == 200


def test_media_on_the_port_of_reports_are_taken_too(camera: udpkit.UdpCamera) -> None:
    camera.sounds(0, 1)
    camera.rtcp.sendto(udpkit.sound(2), camera.ours_rtcp.getsockname())
    camera.sounds(3)
    camera.ticks()
    assert camera.numbers == [0, 1, 2, 3] and camera.track.stats()["lost"] == 0


def test_two_sessions_to_one_port_are_told_apart_by_their_ssrc(camera: udpkit.UdpCamera) -> None:
    for number in range(50):
        camera.send(udpkit.sound(number), udpkit.sound(30_000 + number, ssrc=7))
    camera.ticks()
    assert camera.numbers == list(range(50))
    assert camera.track.stats()["foreign_ssrc"] == 50 and camera.track.stats()["restarts"] == 0
