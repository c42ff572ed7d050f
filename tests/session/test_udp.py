"""Sessions over UDP: which transport is asked for when, who may send, what goes back."""

import socket

import pytest

from recorder.base.config import TRANSPORTS
from recorder.base.errors import SourceError
from recorder.base.media import GapCause
from recorder.rtsp import session as playing
from recorder.rtsp import udp
from recorder.rtsp.choice import TransportChoice
from recorder.rtsp.udp import UdpSockets
from tests.session.fake_camera import SDP, FakeCamera, reply
from tests.session.rig import Rig
from tests.session.udp_camera import UdpCamera, bound

WHOLE = SDP.replace("a=rtpmap:96 H264/90000\n", "a=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=0\n")


def transports(camera: FakeCamera) -> list[str]:
    """What was asked for, medium by medium."""
    return [request.headers["transport"].split(";")[0] for request in camera.requests if request.method == "SETUP"]


async def test_pictures_and_sound_are_recorded_over_udp() -> None:
    async with UdpCamera() as camera, Rig() as rig:
        rig.record(camera.url, transport="udp")
        await rig.recorded(30)
        await rig.recorded(30, "audio")
        assert rig.stream().feeds["video"].totals["lost_packets"] == 0
        assert rig.tape().gaps == []
        assert rig.stream()._source.transport == "rtsp/udp"
        ports = camera.clients[0]
        assert ports[0] % 2 == 0 and ports[1] == ports[0] + 1


async def test_holes_are_punched_and_receiver_reports_go_back_by_udp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing, "REPORT_S", 0.2)
    async with UdpCamera() as camera, Rig() as rig:
        rig.record(camera.url, transport="udp")

        def reported() -> bool:
            return any(number == 1 and packet[0] & 31 == 1 for number, packet in camera.heard_udp)
        await rig.until(reported)
        assert {number for number, _ in camera.heard_udp} == {0, 1, 2, 3}
        assert not camera.links[0].rtcp


async def test_auto_goes_udp_after_461_with_a_new_describe_and_stays_there() -> None:
    async with UdpCamera() as camera, Rig() as rig:
        rig.record(camera.url, transport="auto", audio=False)
        await rig.recorded(5)
        assert camera.methods() == ["OPTIONS", "DESCRIBE", "SETUP", "OPTIONS", "DESCRIBE", "SETUP", "PLAY"]
        assert rig.tape().gaps == []
        camera.links[-1].writer.close()
        await rig.until(lambda: camera.methods().count("PLAY") == 2)
        assert transports(camera) == ["RTP/AVP/TCP", "RTP/AVP", "RTP/AVP"]


async def test_auto_goes_udp_when_the_answer_insists_on_it() -> None:
    async with UdpCamera() as camera, Rig() as rig:
        def insist(request):  # type: ignore[no-untyped-def]
            if "interleaved" in request.headers["transport"]:
                return reply(request, 200, "Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001", "Session: 1")
            return camera.answer(request)
        camera.answers["SETUP"] = insist
        rig.record(camera.url, transport="auto")
        await rig.recorded(5)
        assert transports(camera)[:2] == ["RTP/AVP/TCP", "RTP/AVP"]
        assert "TEARDOWN" in camera.methods()


@pytest.mark.parametrize("wanted", ["udp", "multicast"])
async def test_udp_goes_tcp_after_461(wanted: str) -> None:
    async with UdpCamera(tcp=True, udp=False) as camera, Rig() as rig:
        rig.record(camera.url, transport=wanted, audio=False)
        await rig.recorded(5)
        assert transports(camera) == ["RTP/AVP", "RTP/AVP/TCP"]


async def test_udp_goes_tcp_when_the_answer_is_interleaved() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        def insist(request):  # type: ignore[no-untyped-def]
            return reply(request, 200, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1")
        camera.answers["SETUP"] = insist
        rig.record(camera.url, transport="udp", audio=False)
        await rig.recorded(5)
        assert transports(camera) == ["RTP/AVP", "RTP/AVP/TCP"]


async def test_udp_goes_tcp_when_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing, "SILENCE_S", 0.3)
    async with UdpCamera(tcp=True) as camera, Rig() as rig:
        camera.start = lambda link: None if camera.clients else FakeCamera.start(camera, link)  # type: ignore[method-assign]
        rig.record(camera.url, transport="udp", audio=False)
        error = await rig.failed()
        assert "no packet came over UDP" in str(error) and error.cause == GapCause.STALL
        camera.clients.clear()
        await rig.recorded(5)
        assert transports(camera) == ["RTP/AVP", "RTP/AVP/TCP"]


async def test_tcp_only_never_asks_for_udp() -> None:
    async with UdpCamera() as camera, Rig() as rig:
        rig.record(camera.url)
        error = await rig.failed()
        assert error.cause == GapCause.UNSUPPORTED and 'transport = "auto"' in str(error)
        assert transports(camera) == ["RTP/AVP/TCP"]


@pytest.mark.parametrize(("tcp", "asked"), [(True, ["RTP/AVP/TCP"]), (False, ["RTP/AVP/TCP", "RTP/AVP"])])
async def test_pictures_sent_whole_go_over_tcp_if_the_camera_can(tcp: bool, asked: list[str]) -> None:
    async with UdpCamera(sdp=WHOLE, tcp=tcp) as camera, Rig() as rig:
        rig.record(camera.url, transport="udp", audio=False)
        await rig.recorded(5)
        assert transports(camera) == asked


async def test_sound_refused_over_udp_never_stops_the_pictures() -> None:
    async with UdpCamera() as camera, Rig() as rig:
        camera.answers["SETUP"] = lambda r: reply(r, 461) if r.url.endswith("2") else camera.answer(r)
        rig.record(camera.url, transport="udp")
        await rig.recorded(5)
        assert transports(camera) == ["RTP/AVP", "RTP/AVP"]


async def test_strangers_and_a_port_that_flips_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    async with UdpCamera() as camera, Rig() as rig:
        rig.record(camera.url, transport="udp", audio=False)
        await rig.recorded(5)
        media = rig.stream()._session._udp[0].media  # type: ignore[union-attr]
        for address in ("127.0.0.2", "127.0.0.1"):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.bind((address, 0))
                camera.datagram(0, bytes([0x80, 96]) + bytes(30), stranger)
        await rig.until(lambda: media.stats()["foreign"] == 2)
        await rig.until(lambda: "others send to its UDP ports: dropped" in caplog.text)
        before = len(rig.tape().aus)
        await rig.recorded(before + 5)
        assert rig.stream().feeds["video"].totals["lost_packets"] == 0
        assert rig.tape().gaps == []


async def test_a_camera_that_names_no_port_is_pinned_to_its_first() -> None:
    async with UdpCamera(names_ports=False) as camera, Rig() as rig:
        rig.record(camera.url, transport="udp", audio=False)
        await rig.recorded(5)
        media = rig.stream()._session._udp[0].media  # type: ignore[union-attr]
        assert media.sender_ports[0] == camera.pairs[0][0].getsockname()[1]


async def test_a_source_outside_the_networks_is_refused() -> None:
    async with UdpCamera(extra=";source=192.0.2.7") as camera, Rig() as rig:
        rig.record(camera.url, transport="udp")
        error = await rig.failed()
        assert error.cause == GapCause.REFUSED and "192.0.2.7" in str(error)


async def test_another_source_inside_the_networks_may_send() -> None:
    async with UdpCamera(extra=";source=127.0.0.9", names_ports=False) as camera, Rig() as rig:
        camera.pairs[0][0].close()
        camera.pairs[0] = (bound("127.0.0.9"), camera.pairs[0][1])
        rig.record(camera.url, transport="udp", audio=False)
        await rig.recorded(5)


@pytest.mark.parametrize(("answer", "cause", "said"), [
    ("RTP/AVP;multicast;destination=239.1.2.3;port=5000-5001", GapCause.REFUSED, "camera_networks"),
    ("RTP/AVP;multicast;destination=127.0.0.1;port=5000-5001", GapCause.UNSUPPORTED, "no IPv4 multicast group"),
    ("RTP/AVP;multicast;port=5000-5001", GapCause.UNSUPPORTED, "no multicast group"),
])
async def test_groups_that_cannot_be_joined(answer: str, cause: GapCause, said: str) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["SETUP"] = lambda r: reply(r, 200, f"Transport: {answer}", "Session: 1")
        rig.record(camera.url, transport="multicast")
        error = await rig.failed()
        assert (error.cause, said in str(error)) == (cause, True)


async def test_the_session_ends_with_its_tcp_connection_and_its_sockets_are_closed() -> None:
    async with UdpCamera() as camera, Rig() as rig:
        rig.record(camera.url, transport="udp", audio=False)
        await rig.recorded(5)
        sockets = rig.stream()._session._udp[0]  # type: ignore[union-attr]
        camera.links[0].writer.close()
        error = await rig.failed()
        assert error.cause == GapCause.OFFLINE
        assert sockets._rtp.fileno() == sockets._rtcp.fileno() == -1


async def test_silence_in_mid_life_is_a_stall_and_no_change_of_transport() -> None:
    async with UdpCamera(tcp=True) as camera, Rig() as rig:
        rig.record(camera.url, transport="udp", audio=False, stall_s=1)
        await rig.recorded(5)
        camera.links[0].silent = True
        error = await rig.failed()
        assert error.cause == GapCause.STALL
        await rig.until(lambda: camera.methods().count("PLAY") == 2)
        assert transports(camera) == ["RTP/AVP", "RTP/AVP"]


def test_every_transport_of_the_configuration_is_known_and_tcp_is_always_a_way_out() -> None:
    for name in TRANSPORTS:
        choice = TransportChoice(name)
        asked = [choice.current]
        while choice.refused():
            asked.append(choice.current)
        assert "tcp" in asked and choice.current == asked[0]
        assert ("udp" in asked or "multicast" in asked) == (name != "tcp")


def test_sockets_that_the_kernel_keeps_small_are_told_of_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(udp, "RECEIVE_BYTES", 100_000)
    for _ in range(2):
        UdpSockets.bind("127.0.0.1", (32768, 60999)).close()
    assert [record.message.count("net.core.rmem_max") for record in caplog.records] == [1]


def test_a_full_range_of_ports_is_an_error_that_names_the_keys() -> None:
    first = UdpSockets.bind("127.0.0.1", (32768, 60999))
    port = first.ports[0]
    with pytest.raises(SourceError, match="udp_port_first"):
        UdpSockets.bind("127.0.0.1", (port, port + 1))
    first.close()
    first.close()
    UdpSockets.bind("127.0.0.1", (port, port + 1)).close()
