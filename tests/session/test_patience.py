"""Streams that wait long for packets over UDP (`reorder_ms`)."""

from typing import Any

from recorder.base.config import CameraConfig, StreamConfig
from tests.session.fake_camera import PASSWORD, USER
from tests.session.rig import Rig
from tests.session.udp_camera import UdpCamera


def record_patiently(rig: Rig, url: str, reorder_ms: int, **options: Any) -> None:
    stream = StreamConfig(url, transport="udp", reorder_ms=reorder_ms)
    rig.cameras.start(1, CameraConfig("cam1", stream, user=USER, password=PASSWORD, audio=False, **options))


def setups(camera: UdpCamera) -> list[str]:
    return [r.headers["transport"].split(";")[0] for r in camera.requests if r.method == "SETUP"]


async def test_the_first_packets_of_a_patient_stream_are_no_silence() -> None:
    """They wait for each other, but never for so long that the stream seems to be silent."""
    async with UdpCamera(tcp=True) as camera, Rig() as rig:
        record_patiently(rig, camera.url, 10_000, stall_s=3)
        await rig.recorded()
        assert setups(camera) == ["RTP/AVP"] and rig.tape().gaps == []


async def test_a_missing_packet_of_a_patient_stream_is_no_stall() -> None:
    async with UdpCamera(tcp=True) as camera, Rig() as rig:
        send = camera.datagram

        def lossy(medium: int, packet: bytes, sock: Any = None) -> None:
            if int.from_bytes(packet[2:4], "big") != 1030:
                send(medium, packet, sock)
        camera.datagram = lossy  # type: ignore[method-assign]
        record_patiently(rig, camera.url, 4_000, stall_s=3)
        await rig.recorded(60)
        assert setups(camera) == ["RTP/AVP"] and rig.tape().gaps == []
