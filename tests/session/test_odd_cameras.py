"""Cameras that are recorded in spite of what they do, and peers that are no cameras."""

import asyncio
import struct
from collections.abc import Callable

import pytest

from recorder.base.media import GapCause
from tests.session.fake_camera import SDP, FakeCamera, Request, clip, reply
from tests.session.rig import Rig


def set_ups(camera: FakeCamera) -> list[Request]:
    return [r for r in camera.requests if r.method == "SETUP"]


async def test_a_description_with_nearly_everything_wrong_is_recorded() -> None:
    lines = ["m=application/TP-LINK 0 RTP/AVP smart/1/90000", "a=rtpmap:95 TP-LINK/90000", "m=video 0 RTP/AVP 96", "a=control:trackID=1",
             "a=framerate:0S", "a=rtpmap:96 h264/90000 ", "a=fmtp:96"]
    async with FakeCamera(sdp="\r".join(lines)) as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded(30)
        assert rig.tape().gaps == [] and not any(au["flags"] & 4 for au, _ in rig.tape().aus)


async def test_words_of_a_camera_cannot_steer_the_terminal_that_shows_them() -> None:
    async with FakeCamera(sdp="m=video 0 RTP/AVP 96\r\na=rtpmap:96 \x1b[31mEVIL\u202e/90000\r\n") as camera, Rig() as rig:
        rig.record(camera.url)
        error = await rig.failed()
        assert "EVIL" in str(error) and str(error).isprintable()


async def test_a_description_of_100_kib_is_read() -> None:
    async with FakeCamera(sdp=SDP + ("a=x-note:" + "y" * 60 + "\n") * 1500) as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded()


async def test_a_medium_without_a_control_is_set_up_by_the_base() -> None:
    bare = SDP.split("m=audio")[0].replace("a=control:trackID=1\n", "").replace("a=control:*\n", "")
    async with FakeCamera(sdp=bare) as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded()
        assert set_ups(camera)[0].url == camera.url + "/"


async def test_a_control_that_names_an_inner_address_goes_over_our_connection() -> None:
    async with FakeCamera(sdp=SDP.replace("a=control:trackID=1", "a=control:rtsp://192.168.1.10:554/live/trackID=1")) as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded()
        assert len(camera.links) == 1


async def test_a_session_that_is_named_in_the_description_is_sent_on() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["DESCRIBE"] = lambda r: reply(r, 200, "Session: early", body=SDP)
        rig.record(camera.url)
        await rig.recorded()
        assert {r.headers["session"] for r in camera.requests if r.method in {"SETUP", "PLAY"}} == {"early"}


async def test_a_camera_that_names_no_session_is_recorded() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        def play(request: Request) -> bytes:
            camera.start(request.link)
            return reply(request, 200)
        camera.answers["SETUP"] = lambda r: reply(r, 200, f"Transport: {r.headers['transport']}")
        camera.answers["PLAY"] = play
        rig.record(camera.url)
        await rig.recorded()
        assert not any("session" in r.headers for r in camera.requests)


@pytest.mark.parametrize("headers", [(), ("Transport: ",), ("Transport: nonsense;;=",),
                                     ("Transport: RTP/AVP/TCP;unicast;interleaved=999-1000",)])
async def test_an_answer_that_names_no_channels_means_those_asked_for(headers: tuple[str, ...]) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["SETUP"] = lambda r: reply(r, 200, *headers, "Session: 1")
        rig.record(camera.url)
        await rig.recorded()
        await rig.recorded(5, "audio")


async def test_sound_on_the_channels_of_the_video_is_done_without() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["SETUP"] = lambda r: reply(r, 200, "Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1")
        rig.record(camera.url)
        await rig.recorded()
        assert "channel 0 twice" in str(rig.stream().error) and rig.tape().gaps == []


async def test_answers_that_come_twice_and_interim_ones_are_skipped() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        whole = camera.answer
        for method in ("OPTIONS", "DESCRIBE", "SETUP", "PLAY"):
            camera.answers[method] = lambda r: reply(r, 100) + (whole(r) or b"") * 2
        rig.record(camera.url)
        await rig.recorded()


async def test_media_before_any_setup_are_ignored() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        def describe(request: Request) -> bytes:
            frames = b"".join(struct.pack(">cBH", b"$", channel, 1400) + bytes(1400) for channel in range(20))
            return frames + (camera.answer(request) or b"") + frames
        camera.answers["DESCRIBE"] = describe
        rig.record(camera.url)
        await rig.recorded(30)
        assert rig.tape().gaps == [] and not any(au["flags"] & 4 for au, _ in rig.tape().aus)


async def test_garbage_between_frames_is_marked_up_to_the_next_key_frame_in_the_same_session() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url, audio=False)
        await rig.recorded()
        camera.links[0].send(b"\0\1\2garbage" * 100)
        await rig.until(lambda: any(au["flags"] & 4 for au, _ in rig.tape().aus))
        await rig.recorded(len(rig.tape().aus) + 30)
        marked = [au["flags"] & 4 for au, _ in rig.tape().aus]
        assert not marked[-1] and sum(map(bool, marked)) <= 25
        assert len(camera.links) == 1 and rig.tape().gaps == []


async def test_every_request_that_a_camera_may_send_is_answered_and_ends_nothing() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded()
        for number, method in enumerate(("OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "ANNOUNCE", "PLAY_NOTIFY", "RECORD")):
            body = SDP if method == "ANNOUNCE" else ""
            camera.links[0].send(f"{method} {camera.url} RTSP/1.0\r\nCSeq: {number}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await rig.until(lambda: len(camera.heard) == 6)
        await rig.recorded(len(rig.tape().aus) + 10)
        assert [answer.split()[1] for answer in camera.heard] == ["200"] * 5 + ["501"]
        assert len(camera.links) == 1 and rig.tape().gaps == []


async def test_a_camera_that_hangs_up_at_teardown_holds_nobody_up() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["TEARDOWN"] = lambda r: r.link.writer.close()
        rig.record(camera.url)
        await rig.recorded()
        await rig.cameras.stop(1)
        assert rig.tape().gaps == [GapCause.OPERATOR]


async def test_sound_of_another_codec_in_the_next_session_goes_on_in_its_track() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded(5, "audio")
        camera.sdp = SDP.replace("RTP/AVP 8", "RTP/AVP 8\na=rtpmap:8 PCMU/8000")
        camera.links[0].writer.close()
        await rig.until(lambda: any(au["session"] == 2 for au, _ in rig.tape("audio").aus))
        entries = rig.tape("audio").entries
        assert (entries[1, 1].codec, entries[2, 1].codec) == ("alaw", "ulaw")


async def test_sound_of_another_rate_in_the_next_session_has_a_track_of_its_own() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded(5, "audio")
        camera.sdp = SDP.replace("RTP/AVP 8", "RTP/AVP 8\na=rtpmap:8 PCMA/16000")
        camera.links[0].writer.close()
        await rig.until(lambda: rig.stream().state == "recording" and rig.stream().feeds["audio"].clock_rate == 16000)
        await rig.recorded(len(rig.tape().aus) + 5)


@pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.2\r\n", b"220 camera FTP server ready\r\n", b"\xff\xfb\x01\xff\xfb\x03login: ",
                                    b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(64), b"\0" * 5000, b"HTTP/1.0 404 Not Found\r\n\r\n"],
                         ids=["ssh", "ftp", "telnet", "tls", "zeros", "http"])
async def test_a_peer_that_is_no_camera_is_one_clear_line(banner: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.rtsp.connection.ANSWER_S", 0.5)
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["OPTIONS"] = lambda r: banner
        rig.record(camera.url)
        error = await rig.failed()
        assert error.cause in {GapCause.OFFLINE, GapCause.REFUSED} and "RTSP" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("method", ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"])
async def test_a_camera_that_hangs_up_at_any_request_is_tried_again(method: str) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        def once(request: Request) -> bytes | None:
            del camera.answers[method]
            request.link.writer.close()
            return None
        camera.answers[method] = once
        rig.record(camera.url)
        await rig.recorded()
        assert len(camera.links) == 2 and rig.tape().gaps == [GapCause.OFFLINE]


@pytest.mark.parametrize(("body", "cause"), [("", GapCause.BAD_SDP), ("v=0\r\n", GapCause.BAD_SDP), ("<html>login</html>", GapCause.BAD_SDP),
                                             ("m=video 0 RTP/AVP 96\na=rtpmap:96 VP9/90000\n", GapCause.UNSUPPORTED),
                                             ("m=application 0 RTP/AVP 98\na=rtpmap:98 vnd.onvif.metadata/90000\n", GapCause.UNSUPPORTED)])
async def test_a_description_of_nothing_to_record_says_so_and_is_not_asked_for_every_second(body: str, cause: GapCause) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["DESCRIBE"] = lambda r: reply(r, 200, "Content-Type: application/sdp", body=body)
        rig.record(camera.url)
        error = await rig.failed()
        assert (error.cause, error.retry_s) == (cause, 60)


@pytest.mark.parametrize("cut", [lambda data: [data[:1], data[1:]], lambda data: [data[:3], data[3:17], data[17:]],
                                 lambda data: [data[i:i + 7] for i in range(0, len(data), 7)]], ids=["after $", "in the header", "by 7"])
async def test_frames_cut_anywhere_by_the_network_are_whole(cut: Callable[[bytes], list[bytes]]) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        def play(request: Request) -> bytes:
            async def send() -> None:
                for index in range(25):
                    for piece in cut(request.link.picture(index)):
                        request.link.send(piece)
                        await request.link.writer.drain()
                        await asyncio.sleep(0)
            request.link.playing = asyncio.create_task(send())
            return reply(request, 200)
        camera.answers["PLAY"] = play
        rig.record(camera.url, audio=False)
        await rig.recorded(24)
    sent = [b"".join(len(nal).to_bytes(4, "big") + nal for nal in au) for au in clip()]
    assert [data for _, data in rig.tape().aus] == sent[:len(rig.tape().aus)]
