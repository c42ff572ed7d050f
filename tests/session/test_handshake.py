"""Cameras that answer oddly, from OPTIONS to PLAY: a scripted camera on loopback, recorded into memory."""

import asyncio
import random

import pytest

from recorder.base.media import GapCause
from recorder.gate import Backoff
from recorder.source import RtspSource
from tests.session.fake_camera import PASSWORD, SDP, FakeCamera, Guard, Request, clip, reply
from tests.session.rig import Rig


async def test_video_and_audio_are_recorded_byte_for_byte() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded(30)
        await rig.recorded(10, "audio")
    assert camera.methods()[:5] == ["OPTIONS", "DESCRIBE", "SETUP", "SETUP", "PLAY"]
    assert camera.methods()[-1] == "TEARDOWN"
    assert camera.requests[2].url == camera.url + "/trackID=1"
    tape = rig.tape()
    sent = [b"".join(len(nal).to_bytes(4, "big") + nal for nal in au) for au in clip()]
    for index, (au, data) in enumerate(tape.aus):
        assert data == sent[index % 25]
        assert au["pts"] - tape.aus[0][0]["pts"] == index * 3600
    assert tape.entries[1, 1].codec == "avc1" and (tape.entries[1, 1].width, tape.entries[1, 1].height) == (64, 48)
    assert rig.tape("audio").entries[1, 1].codec == "alaw"
    assert {len(data) for _, data in rig.tape("audio").aus} == {320}
    assert tape.names[0] == "begin_session" and tape.names[-1] == "end_session" and tape.gaps == []


async def test_rtp_before_the_play_answer_is_kept() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        async def play(request: Request) -> bytes:
            for index in range(25):
                request.link.send(request.link.picture(index))
            await asyncio.sleep(0.2)
            camera.video = False
            return camera.answer(request) or b""
        camera.answers["PLAY"] = play
        rig.record(camera.url)
        await rig.recorded(24)          # the last waits for the picture behind it or its marker
        assert rig.tape().aus[0][0]["flags"] & 1


@pytest.mark.parametrize(("header", "timeout_s"), [("Session:        12345678", 60), ("Session: 12345678; timeout=120", 120),
                                                   ("Session: 12345678;timeout=0", 60), ("session:12345678 ;x=y", 60)])
async def test_session_header_oddities(header: str, timeout_s: float) -> None:
    def play(request: Request) -> bytes:
        camera.start(request.link)
        return reply(request, 200, header)
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["SETUP"] = lambda r: reply(r, 200, f"Transport: {r.headers['transport']}", header)
        camera.answers["PLAY"] = play
        camera.answers["GET_PARAMETER"] = lambda r: reply(r, 200, header)
        rig.record(camera.url)
        await rig.recorded()
        source = rig.stream()._source
        assert isinstance(source, RtspSource) and source._played is not None
        assert source._played.state.timeout_s == timeout_s
    assert {r.headers["session"] for r in camera.requests if r.method in {"PLAY", "TEARDOWN"}} == {"12345678"}


async def test_first_session_id_stays_when_it_changes_between_setups() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["SETUP"] = lambda r: reply(r, 200, f"Transport: {r.headers['transport']}", f"Session: s{len(camera.requests)}")
        rig.record(camera.url)
        await rig.recorded()
    assert [r.headers.get("session") for r in camera.requests if r.method in {"SETUP", "PLAY"}] == [None, "s3", "s3"]


async def test_answers_without_cseq_and_unrelated_answers() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["OPTIONS"] = lambda r: b"\r\nRTSP/1.0 200 OK\r\nPublic: OPTIONS\r\n\r\n"
        camera.answers["DESCRIBE"] = lambda r: reply(r, 404, cseq="777") + (camera.answer(r) or b"")
        rig.record(camera.url)
        await rig.recorded()


async def test_flood_in_place_of_an_answer_is_given_up_by_its_bytes() -> None:
    """Blank lines, frames of no channel: a third of a core for 10 s each time the camera was tried."""
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["DESCRIBE"] = lambda r: b"\r\n" * (9 << 20)
        rig.record(camera.url)
        error = await rig.failed()
        assert error.cause == GapCause.OFFLINE and "16 MiB instead of an answer to DESCRIBE" in str(error)


async def test_request_of_the_server_during_the_handshake_is_answered() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["DESCRIBE"] = lambda r: b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n" + (camera.answer(r) or b"")
        rig.record(camera.url)
        await rig.recorded()
        assert camera.heard == ["RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"]


async def test_other_channels_than_asked_are_used() -> None:
    async with FakeCamera(sdp=SDP.split("m=audio")[0]) as camera, Rig() as rig:
        camera.answers["SETUP"] = lambda r: reply(r, 200, "Transport: RTP/AVP;ssrc= 1234;interleaved=0", "Session: 1")
        rig.record(camera.url)
        await rig.recorded()


async def test_refused_audio_does_not_lose_the_video() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["SETUP"] = lambda r: reply(r, 500) if "trackID=2" in r.url else camera.answer(r)
        rig.record(camera.url)
        await rig.recorded()
        assert rig.stream().state == "recording"
        assert (1, "audio") not in rig.tapes.by_name


async def test_audio_for_which_we_have_no_right_does_not_lose_the_video() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        guard = Guard(camera)
        camera.answers["SETUP"] = lambda r: (reply(r, 401, f'WWW-Authenticate: Digest realm="fake", nonce="n{guard.nonce}"')
                                             if "trackID=2" in r.url else guard.check(r))
        rig.record(camera.url)
        await rig.recorded()
        assert rig.stream().state == "recording" and (1, "audio") not in rig.tapes.by_name


async def test_audio_whose_setup_ends_the_connection_is_done_without() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["SETUP"] = lambda r: r.link.writer.close() if "trackID=2" in r.url else camera.answer(r)
        rig.record(camera.url)
        await rig.recorded()
        assert len(camera.links) == 3 and [r.url[-1] for r in camera.links[-1].requests if r.method == "SETUP"] == ["1"]
        assert "audio ended the connection" in str(rig.stream().error)


async def test_video_that_is_busy_is_waited_for_and_not_replaced_by_its_audio() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["SETUP"] = lambda r: reply(r, 453) if "trackID=1" in r.url else camera.answer(r)
        rig.record(camera.url)
        assert (await rig.failed()).retry_s == 30
        assert "PLAY" not in camera.methods()


async def test_camera_without_aggregate_play_plays_each_medium_by_itself() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["PLAY"] = lambda r: camera.answer(r) if "trackID" in r.url else reply(r, 459)
        rig.record(camera.url)
        await rig.recorded()
        await rig.recorded(5, "audio")
        assert [r.url.rpartition("/")[2] for r in camera.requests if r.method == "PLAY"] == ["", "trackID=1", "trackID=2"]


@pytest.mark.parametrize("info", ["url=trackID=1;seq=0;rtptime=-1", "url=rtsp://x/y;seq=1;rtptime=99999999999;ssrc=7,", ";;,", "url=;"])
async def test_rtp_info_is_not_believed(info: str) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        def play(request: Request) -> bytes:
            camera.start(request.link)
            return reply(request, 200, f"RTP-Info: {info}")
        camera.answers["PLAY"] = play
        rig.record(camera.url)
        await rig.recorded()


@pytest.mark.parametrize("headers", [(), ("Content-Type: application/sdp;charset=utf-8",), ("content-type:text/plain",)])
async def test_content_type_of_a_description_is_not_asked_for(headers: tuple[str, ...]) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["DESCRIBE"] = lambda r: reply(r, 200, *headers, body=SDP)
        rig.record(camera.url)
        await rig.recorded()
        assert camera.requests[2].url == camera.url + "/trackID=1"


@pytest.mark.parametrize("base", ["rtsp://127.0.0.1/live/", "rtsp://10.9.8.7:8554/live/", "/live/", "127.0.0.1:554/live/", "rtsp://rtsp://h/live/",
                                  "rtsp://::ffff:127.0.0.1/live/"])
async def test_content_base_gives_the_path_and_never_the_host(base: str) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["DESCRIBE"] = lambda r: reply(r, 200, f"Content-Base: {base}", body=SDP)
        rig.record(camera.url)
        await rig.recorded()
        assert camera.requests[2].url == camera.url + "/trackID=1"


async def test_audio_that_is_not_recorded_does_not_lose_the_video() -> None:
    async with FakeCamera(sdp=SDP.replace("RTP/AVP 8", "RTP/AVP 98\na=rtpmap:98 AC3/48000")) as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded()
        assert camera.methods().count("SETUP") == 1


async def test_video_that_is_not_recorded_does_not_lose_the_audio() -> None:
    async with FakeCamera(sdp=SDP.replace("96 H264", "96 VP9")) as camera, Rig() as rig:
        camera.answers["SETUP"] = lambda r: reply(r, 200, "Transport: RTP/AVP/TCP;interleaved=2-3", "Session: 1")
        rig.record(camera.url)
        await rig.recorded(5, "audio")
        assert rig.tape().gaps == [GapCause.UNSUPPORTED]


async def test_audio_that_is_switched_off_is_not_asked_for() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url, audio=False)
        await rig.recorded()
        assert camera.methods().count("SETUP") == 1


@pytest.mark.parametrize(("method", "status", "cause", "least_s"), [
    ("DESCRIBE", 404, GapCause.REFUSED, 10), ("DESCRIBE", 453, GapCause.REFUSED, 30), ("PLAY", 453, GapCause.REFUSED, 30),
    ("SETUP", 503, GapCause.REFUSED, 30), ("SETUP", 461, GapCause.UNSUPPORTED, 60), ("PLAY", 454, GapCause.REFUSED, 0),
    ("DESCRIBE", 500, GapCause.REFUSED, 5),
])
async def test_status_decides_cause_and_wait(method: str, status: int, cause: GapCause, least_s: float) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers[method] = lambda r: reply(r, status)
        rig.record(camera.url)
        error = await rig.failed()
        assert (error.cause, error.retry_s) == (cause, least_s)
        assert str(status) in str(error)
        assert rig.tape().gaps == [cause]


async def test_session_that_was_set_up_and_not_played_is_torn_down() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        guard = Guard(camera, qop="auth")
        camera.answers["PLAY"] = lambda r: reply(r, 453)
        rig.record(camera.url)
        await rig.failed()
        await rig.until(lambda: camera.methods()[-1] == "TEARDOWN")
        assert camera.requests[-1].headers["session"] == camera.session and guard.refused == [""]


async def test_udp_only_camera_is_told_apart() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["SETUP"] = lambda r: reply(r, 200, "Transport: RTP/AVP;unicast;client_port=1-2;server_port=3-4", "Session: 1")
        rig.record(camera.url)
        error = await rig.failed()
        assert error.cause == GapCause.UNSUPPORTED and "UDP" in str(error)


async def test_options_may_be_answered_by_anything() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["OPTIONS"] = lambda r: reply(r, 404)
        rig.record(camera.url)
        await rig.recorded()


async def test_description_over_the_limit_is_bad_sdp() -> None:
    async with FakeCamera(sdp=SDP + "a=x\n" * 10_000) as camera, Rig() as rig:
        rig.record(camera.url)
        error = await rig.failed()
        assert (error.cause, error.retry_s) == (GapCause.BAD_SDP, 60)


async def test_body_over_the_limit_ends_the_connection_without_taking_it() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["DESCRIBE"] = lambda r: reply(r, 200, "Content-Length: 4294967296")
        rig.record(camera.url)
        assert (await rig.failed()).cause == GapCause.OFFLINE


# --- who we are

@pytest.mark.parametrize(("algorithm", "qop"), [("", ""), ("MD5", "auth"), ("SHA-256", "auth"), ("SHA-256", "auth-int,auth"), ("SHA-256", "")])
async def test_digest(algorithm: str, qop: str) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        guard = Guard(camera, algorithm=algorithm, qop=qop)
        rig.record(camera.url)
        await rig.recorded()
        assert guard.refused == [""]          # one refusal; then every request is logged in at once
    assert camera.methods()[-1] == "TEARDOWN" and "authorization" in camera.requests[-1].headers


async def test_nonce_that_goes_stale_is_replaced_once_per_request() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        guard = Guard(camera, algorithm="SHA-256", qop="auth")

        def setup(request: Request) -> bytes | None:
            if len([r for r in camera.requests if r.method == "SETUP"]) in {1, 3}:
                guard.expire()
            return guard.check(request)
        camera.answers["SETUP"] = setup
        rig.record(camera.url)
        await rig.recorded()
        assert len(guard.refused) == 3


@pytest.mark.parametrize("fresh_each", [False, True])
async def test_wrong_password_is_tried_once_and_then_rests(fresh_each: bool) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        guard = Guard(camera, password="another", fresh_each=fresh_each)
        rig.record(camera.url)
        error = await rig.failed()
        assert (error.cause, error.retry_s) == (GapCause.AUTH, 300)
        assert [bool(sent) for sent in guard.refused] == [False, True]
        assert PASSWORD not in str(error)
        assert rig.tape().gaps == [GapCause.AUTH]


async def test_camera_that_changes_its_nonce_with_every_answer_is_recorded() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        guard = Guard(camera)
        original = guard.check

        def check(request: Request) -> bytes | None:
            answer = original(request)
            if answer is not None and b" 200 " in answer[:20]:
                guard.expire()
            return answer
        for method in ("OPTIONS", "DESCRIBE", "SETUP", "PLAY"):
            camera.answers[method] = check
        rig.record(camera.url)
        await rig.recorded()


async def test_basic_is_refused_without_consent_and_used_with_it() -> None:
    def basic(request: Request) -> bytes | None:
        if request.headers.get("authorization", "").startswith("Basic "):
            return camera.answer(request)
        return reply(request, 401, 'WWW-Authenticate: Basic realm="x"')
    async with FakeCamera() as camera, Rig() as rig:
        for method in ("OPTIONS", "DESCRIBE", "SETUP", "PLAY"):
            camera.answers[method] = basic
        rig.record(camera.url)
        assert "Basic" in str(await rig.failed())
        assert not any("authorization" in r.headers for r in camera.requests)
        rig.record(camera.url, 2, basic_without_tls=True)
        await rig.recorded(number=2)


# --- where we go

async def test_redirect_is_followed_and_keeps_the_login() -> None:
    async with FakeCamera() as first, FakeCamera() as second, Rig() as rig:
        guard = Guard(second)
        first.answers["DESCRIBE"] = lambda r: reply(r, 302, f"Location: {second.url}")
        rig.record(first.url)
        await rig.recorded()
        assert guard.refused == [""]
        assert len(first.links) == 1 and first.methods() == ["OPTIONS", "DESCRIBE"]


@pytest.mark.parametrize("by", ["302", "REDIRECT"])
async def test_no_password_goes_to_another_host_that_a_camera_names(by: str) -> None:
    def basic(request: Request) -> bytes | None:
        return camera.answer(request) if "authorization" in request.headers else reply(request, 401, 'WWW-Authenticate: Basic realm="x"')
    async with FakeCamera() as first, FakeCamera(host="127.0.0.2") as second, FakeCamera() as camera, Rig() as rig:
        for method in ("OPTIONS", "DESCRIBE", "SETUP", "PLAY"):
            second.answers[method] = camera.answers[method] = basic
        rig.record(first.url, basic_without_tls=True)
        await rig.recorded()
        if by == "REDIRECT":
            first.links[0].send(f"REDIRECT {first.url} RTSP/1.0\r\nCSeq: 5\r\nLocation: {second.url}\r\n\r\n".encode())
        else:
            first.answers["DESCRIBE"] = lambda r: reply(r, 302, f"Location: {second.url}")
            first.links[0].reset()
        await rig.until(lambda: "would be shown the password" in str(rig.stream().error))
        assert second.requests and not any("authorization" in r.headers for r in second.requests)
        first.answers["DESCRIBE"] = lambda r: reply(r, 302, f"Location: {camera.url}")       # the same host may have it
        rig.record(first.url, 2, basic_without_tls=True)
        await rig.recorded(number=2)


async def test_a_login_in_the_address_of_a_redirect_request_is_the_one_to_use() -> None:
    async with FakeCamera() as first, FakeCamera() as second, Rig() as rig:
        guard = Guard(second, password="other")
        rig.record(first.url)
        await rig.recorded()
        there = second.url.replace("rtsp://", "rtsp://admin:other@")
        first.links[0].send(f"REDIRECT {first.url} RTSP/1.0\r\nCSeq: 5\r\nLocation: {there}\r\n\r\n".encode())
        await rig.until(lambda: "PLAY" in second.methods())
        assert guard.refused == [""]


async def test_redirect_in_a_circle_ends() -> None:
    async with FakeCamera() as first, FakeCamera() as second, Rig() as rig:
        first.answers["DESCRIBE"] = lambda r: reply(r, 301, f"Location: {second.url}")
        second.answers["DESCRIBE"] = lambda r: reply(r, 301, f"Location: {first.url}")
        rig.record(first.url)
        error = await rig.failed()
        assert error.cause == GapCause.REFUSED and "circle" in str(error)


async def test_redirects_are_followed_five_times_at_most() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["DESCRIBE"] = lambda r: reply(r, 302, f"Location: {camera.url}{len(camera.requests)}")
        rig.record(camera.url)
        assert "too often" in str(await rig.failed())
        assert camera.methods().count("DESCRIBE") == 6


@pytest.mark.parametrize("location", ["rtsp://10.1.2.3/x", "http://127.0.0.1/x", "file:///etc/passwd", "rtsp://169.254.169.254/", ""])
async def test_redirect_out_of_the_networks_is_refused(location: str) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["DESCRIBE"] = lambda r: reply(r, 302, f"Location: {location}")
        rig.record(camera.url)
        assert (await rig.failed()).cause == GapCause.REFUSED


@pytest.mark.parametrize("url", ["rtsp://127.0.0.1:{port}/x", "rtsp://localhost:{port}/x", "rtsp://[::ffff:127.0.0.1]:{port}/x"])
async def test_address_outside_the_networks_is_never_connected_to(url: str) -> None:
    async with FakeCamera() as camera, Rig(networks=("10.0.0.0/8",)) as rig:
        rig.record(url.format(port=camera.port))
        error = await rig.failed()
        assert error.cause == GapCause.REFUSED and "camera_networks" in str(error)
        assert camera.links == []


async def test_unreachable_camera_is_one_clear_line() -> None:
    async with FakeCamera() as camera:
        url = camera.url
    async with Rig() as rig:
        rig.record(url)
        error = await rig.failed()
        assert error.cause == GapCause.OFFLINE
        assert str(error) == (f"127.0.0.1: cannot connect to port {camera.port}: Connection refused; "
                              "check power, network and address of the camera")


async def test_slow_loris_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        async def drip(request: Request) -> None:
            for byte in camera.answer(request) or b"":
                request.link.send(bytes([byte]))
                await asyncio.sleep(0.05)
        camera.answers["DESCRIBE"] = drip
        monkeypatch.setattr("recorder.rtsp.connection.ANSWER_S", 0.5)
        rig.record(camera.url)
        error = await rig.failed()
        assert error.cause == GapCause.OFFLINE and "no answer to DESCRIBE" in str(error)


async def test_at_most_two_handshakes_per_host_at_a_time() -> None:
    at_once = [0, 0]
    async with FakeCamera() as camera, Rig() as rig:
        async def slow(request: Request) -> bytes:
            at_once[0] += 1
            at_once[1] = max(at_once)
            await asyncio.sleep(0.05)
            at_once[0] -= 1
            return reply(request, 404)
        camera.answers["DESCRIBE"] = slow
        for number in range(1, 9):
            rig.record(camera.url, number)
        await rig.until(lambda: all(rig.stream(n).state == "backoff" for n in range(1, 9)))
    assert at_once[1] == 2


def test_backoff_grows_with_full_jitter_and_begins_anew_after_good_frames_only() -> None:
    backoff = Backoff(random.Random(1))
    waits = [backoff.next_s(0, 0) for _ in range(200)]
    assert max(waits[:1]) <= 1 and max(waits[1:2]) <= 2 and max(waits) <= 60 and max(waits) > 50 and min(waits[10:]) < 5
    assert backoff.next_s(0, 59) > 1 or backoff.next_s(0, 59) > 1 or backoff.next_s(0, 59) > 1
    assert backoff.next_s(0, 61) <= 1
    assert 300 <= backoff.next_s(300, 0) <= 330
