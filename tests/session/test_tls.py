"""RTSPS: whom we believe, what is told of the others, and media through TLS."""

import asyncio
import logging
import socket
import ssl
from pathlib import Path

import pytest

from recorder.base.media import GapCause
from recorder.rtsp import tls
from recorder.rtsp.tls import plain_fingerprint, shown_fingerprint
from recorder.rtsp.url import base_url, parse_url
from tests.session.certificates import Certificate, make
from tests.session.fake_camera import FakeCamera, Guard, Request, reply
from tests.session.rig import Rig


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def ca(folder: Path) -> Certificate:
    return make(folder, "ca")


@pytest.fixture(scope="module")
def signed(folder: Path, ca: Certificate) -> Certificate:
    return make(folder, "signed", ca=ca)


@pytest.fixture(scope="module")
def own(folder: Path) -> Certificate:
    return make(folder, "own")


async def test_camera_that_the_ca_vouches_for_is_recorded(ca: Certificate, signed: Certificate) -> None:
    async with FakeCamera(tls=signed.context()) as camera, Rig(tls_ca=ca.cert) as rig:
        rig.record(camera.url)
        await rig.recorded(30)
        await rig.recorded(10, "audio")
        assert rig.tape().gaps == [] and len(camera.links) == 1
    assert camera.requests[2].url == camera.url + "/trackID=1"
    assert camera.methods()[-1] == "TEARDOWN"
    assert [au["pts"] - rig.tape().aus[0][0]["pts"] for au, _ in rig.tape().aus] == [3600 * n for n in range(len(rig.tape().aus))]


async def test_pinned_camera_is_recorded_though_no_ca_vouches_for_it(own: Certificate) -> None:
    async with FakeCamera(tls=own.context(ssl.TLSVersion.TLSv1_2)) as camera, Rig() as rig:
        rig.record(camera.url, tls_fingerprint=":".join(own.fingerprint.upper()[n:n + 2] for n in range(0, 64, 2)))
        await rig.recorded(30)


async def test_basic_needs_no_consent_inside_tls_unless_anybody_may_be_at_the_other_end(own: Certificate) -> None:
    def basic(request: Request) -> bytes | None:
        if request.headers.get("authorization", "").startswith("Basic "):
            return camera.answer(request)
        return reply(request, 401, 'WWW-Authenticate: Basic realm="x"')
    async with FakeCamera(tls=own.context()) as camera, Rig() as rig:
        for method in ("OPTIONS", "DESCRIBE", "SETUP", "PLAY"):
            camera.answers[method] = basic
        rig.record(camera.url, 1, tls_insecure=True)
        assert (await rig.failed()).cause == GapCause.AUTH
        assert not any("authorization" in r.headers for r in camera.requests)
        rig.record(camera.url, 2, tls_fingerprint=own.fingerprint)
        await rig.recorded(number=2)


async def test_digest_inside_tls_names_the_rtsps_address(own: Certificate) -> None:
    async with FakeCamera(tls=own.context()) as camera, Rig() as rig:
        guard = Guard(camera, algorithm="SHA-256", qop="auth")
        rig.record(camera.url, tls_fingerprint=own.fingerprint)
        await rig.recorded()
        assert guard.refused == [""]


async def test_certificate_that_nobody_vouches_for_is_refused_with_its_fingerprint(own: Certificate) -> None:
    async with FakeCamera(tls=own.context()) as camera, Rig() as rig:
        rig.record(camera.url)
        error = await rig.failed()
        assert (error.cause, error.retry_s) == (GapCause.REFUSED, 60)
        assert plain_fingerprint(str(error).partition("fingerprint is ")[2].partition(";")[0]) == own.fingerprint
        assert camera.requests == []


async def test_other_certificate_than_the_pinned_one_is_refused_with_its_fingerprint(own: Certificate, signed: Certificate,
                                                                                     ca: Certificate) -> None:
    async with FakeCamera(tls=signed.context()) as camera, Rig(tls_ca=ca.cert) as rig:
        rig.record(camera.url, tls_fingerprint=own.fingerprint)
        error = await rig.failed()
        assert error.cause == GapCause.REFUSED and "not the pinned one" in str(error)
        assert shown_fingerprint(ssl.PEM_cert_to_DER_cert(signed.cert.read_text())) in str(error)
        assert camera.requests == []


@pytest.mark.parametrize(("name", "days", "names", "says"), [
    ("expired", -1, "IP:127.0.0.1", "expired"),
    ("other", 30, "DNS:elsewhere.example.org", "mismatch"),
])
async def test_certificate_of_our_ca_that_does_not_fit_is_refused(folder: Path, ca: Certificate, name: str, days: int, names: str,
                                                                  says: str) -> None:
    certificate = make(folder, name, ca=ca, days=days, names=names)
    async with FakeCamera(tls=certificate.context()) as camera, Rig(tls_ca=ca.cert) as rig:
        rig.record(camera.url)
        error = await rig.failed()
        assert error.cause == GapCause.REFUSED and says in str(error).lower()
        assert camera.requests == []


async def test_any_certificate_is_believed_on_demand_and_that_is_logged(own: Certificate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with FakeCamera(tls=own.context()) as camera, Rig() as rig:
        rig.record(camera.url, tls_insecure=True)
        await rig.recorded()
        assert sum("tls_insecure" in line for line in caplog.messages) == 1


async def test_camera_that_speaks_no_tls_there_is_one_clear_line() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url.replace("rtsp:", "rtsps:"), tls_insecure=True)
        error = await rig.failed()
        assert error.cause == GapCause.OFFLINE and "no TLS session" in str(error)


async def test_handshake_that_is_never_answered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        async with Rig() as rig:
            rig.record(f"rtsps://127.0.0.1:{mute.getsockname()[1]}/x")
            error = await rig.failed()
            assert error.cause == GapCause.OFFLINE and "no answer" in str(error)


async def test_end_of_a_tls_connection_is_an_end_and_half_a_record_is_no_picture(own: Certificate) -> None:
    async with FakeCamera(tls=own.context()) as camera, Rig() as rig:
        rig.record(camera.url, tls_fingerprint=own.fingerprint)
        await rig.recorded()
        camera.links[0].reset()
        assert (await rig.failed()).cause == GapCause.OFFLINE
        await rig.until(lambda: len(camera.links) == 2)
        await rig.recorded(len(rig.tape().aus) + 5)
        camera.links[1].writer.close()
        await rig.until(lambda: len(camera.links) == 3)
        assert not any(au["flags"] & 4 for au, _ in rig.tape().aus)


async def test_garbage_in_place_of_records_ends_the_session_with_a_reason(own: Certificate) -> None:
    async with FakeCamera(tls=own.context()) as camera, Rig() as rig:
        rig.record(camera.url, tls_fingerprint=own.fingerprint)
        await rig.recorded()
        raw = socket.socket(fileno=socket.dup(camera.links[0].writer.get_extra_info("socket").fileno()))
        with raw:
            raw.send(bytes(200))
        error = await rig.failed()
        assert error.cause == GapCause.OFFLINE and "failed (" in str(error)


async def test_silence_inside_tls_is_a_stall_and_is_torn_down(own: Certificate) -> None:
    async with FakeCamera(tls=own.context()) as camera, Rig() as rig:
        rig.record(camera.url, stall_s=0.5, tls_fingerprint=own.fingerprint)
        await rig.recorded()
        camera.links[0].silent = True
        assert (await rig.failed()).cause == GapCause.STALL
        assert camera.methods().count("TEARDOWN") == 1


async def test_a_camera_that_never_stops_sending_leaves_the_loop_its_turns(own: Certificate) -> None:
    flood = 1 << 20
    async with FakeCamera(tls=own.context()) as camera:
        async def connect() -> socket.socket:
            sock = socket.socket()
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, (camera.host, camera.port))
            return sock

        line = await tls.open_tls(connect, camera.host, tls.TlsTrust(insecure=True))
        await line.send_all(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
        buffer, got = bytearray(64 << 10), await line.receive(bytearray(64 << 10))
        camera.links[0].send(bytes(flood))
        while got < flood:
            turns: list[int] = []
            asyncio.get_running_loop().call_soon(turns.append, 1)
            got += await line.receive(buffer)
            assert turns
        line.sock.close()


async def test_redirect_never_leads_out_of_tls(own: Certificate) -> None:
    async with FakeCamera(tls=own.context()) as first, FakeCamera() as second, Rig() as rig:
        first.answers["DESCRIBE"] = lambda r: reply(r, 302, f"Location: {second.url}")
        rig.record(first.url, tls_fingerprint=own.fingerprint)
        error = await rig.failed()
        assert error.cause == GapCause.REFUSED and "from rtsps to rtsp" in str(error)
        assert second.links == []


async def test_redirect_request_never_leads_out_of_tls(own: Certificate) -> None:
    async with FakeCamera(tls=own.context()) as first, FakeCamera() as second, Rig() as rig:
        rig.record(first.url, tls_fingerprint=own.fingerprint)
        await rig.recorded()
        first.links[0].send(f"REDIRECT {first.url} RTSP/1.0\r\nCSeq: 5\r\nLocation: {second.url}\r\n\r\n".encode())
        await rig.until(lambda: len(first.links) == 2)
        assert second.links == []


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_redirect_into_tls_is_followed(own: Certificate, transport: str) -> None:
    async with FakeCamera() as first, FakeCamera(tls=own.context()) as second, Rig() as rig:
        first.answers["DESCRIBE"] = lambda r: reply(r, 302, f"Location: {second.url}")
        rig.record(first.url, tls_fingerprint=own.fingerprint, transport=transport)
        await rig.until(lambda: "SETUP" in second.methods())
        assert next(r for r in second.requests if r.method == "SETUP").headers["transport"].startswith("RTP/AVP/TCP;")
        await rig.recorded()
        assert second.methods().count("PLAY") == 1


async def test_media_outside_of_tls_are_refused(own: Certificate) -> None:
    async with FakeCamera(tls=own.context()) as camera, Rig() as rig:
        camera.answers["SETUP"] = lambda r: reply(r, 200, "Transport: RTP/AVP;unicast;client_port=1-2;server_port=3-4", "Session: 1")
        rig.record(camera.url, tls_fingerprint=own.fingerprint)
        error = await rig.failed()
        assert error.cause == GapCause.UNSUPPORTED and "UDP" in str(error)


async def test_large_pictures_arrive_whole_through_many_records(own: Certificate) -> None:
    """More than the scratch memory of a tick at once."""
    async with FakeCamera(tls=own.context()) as camera, Rig() as rig:
        rig.record(camera.url, tls_fingerprint=own.fingerprint, audio=False)
        await rig.recorded()
        link = camera.links[0]
        link.silent = True
        count = len(rig.tape().aus)
        await asyncio.sleep(0)
        for au in (count + 50, count + 51):
            for n in range(20):
                link.send(link.rtp(0, 96, au * 3600, b"\x41" + bytes([n + 1]) * 40_000, marker=n == 19))
        await rig.until(lambda: sum(len(data) > 800_000 for _, data in rig.tape().aus[count:]) == 2)
        assert rig.stream().state == "recording"


def test_address_with_tls() -> None:
    url, _ = parse_url("RTSPS://cam.example.org/live?x=1")
    assert (url.port, url.text, url.encrypted) == (322, "rtsps://cam.example.org/live?x=1", True)
    assert base_url(url, "rtsp://10.0.0.1:554/live/") == "rtsps://cam.example.org/live/"


@pytest.mark.parametrize("text", ["ab", "g" * 64, "0" * 63, "0" * 65, ""])
def test_what_is_no_fingerprint(text: str) -> None:
    assert plain_fingerprint(text) == ""
