"""A session that plays, and how it ends: silence, goodbye, broken frames, keep-alives, our own end."""

import asyncio
import struct
from dataclasses import replace

import pytest

import recorder.cameras
from recorder.base.config import StreamConfig
from recorder.base.media import GapCause
from recorder.rtsp import session as playing
from tests.session.fake_camera import SDP, FakeCamera, Guard, Link, Request, reply
from tests.session.rig import Rig


def asked(camera: FakeCamera, method: str) -> int:
    return camera.methods().count(method)


async def test_keepalive_goes_to_the_content_base_with_the_session() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.timeout_s = 1
        rig.record(camera.url)
        await rig.until(lambda: asked(camera, "GET_PARAMETER") >= 2)
        request = next(r for r in camera.requests if r.method == "GET_PARAMETER")
        assert (request.url, request.headers["session"]) == (camera.url + "/", "12345678")


async def test_camera_without_get_parameter_is_kept_alive_by_options() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.timeout_s = 1
        camera.answers["OPTIONS"] = lambda r: reply(r, 200, "Public: OPTIONS, DESCRIBE")
        rig.record(camera.url)
        await rig.until(lambda: asked(camera, "OPTIONS") >= 3)
        assert asked(camera, "GET_PARAMETER") == 0


@pytest.mark.parametrize("status", [405, 454, 501])
async def test_refused_get_parameter_becomes_options_and_is_remembered(status: int) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.timeout_s = 1
        camera.answers["GET_PARAMETER"] = lambda r: reply(r, status)
        rig.record(camera.url)
        await rig.until(lambda: asked(camera, "OPTIONS") >= 3)
        assert asked(camera, "GET_PARAMETER") == 1
        assert rig.stream().state == "recording"


async def test_keepalive_never_answered_does_not_end_a_session_that_flows() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.timeout_s = 1
        camera.answers["GET_PARAMETER"] = lambda r: None
        options = camera.answer
        camera.answers["OPTIONS"] = lambda r: None if asked(camera, "PLAY") else options(r)
        rig.record(camera.url)
        await rig.until(lambda: asked(camera, "OPTIONS") >= 3)
        before = len(rig.tape().aus)
        await rig.recorded(before + 5)
        assert rig.stream().state == "recording" and rig.tape().gaps == []


async def test_keepalives_log_in_anew_when_the_nonce_goes_stale() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        guard = Guard(camera, algorithm="SHA-256", qop="auth")

        camera.timeout_s = 1

        def get_parameter(request: Request) -> bytes | None:
            if asked(camera, "GET_PARAMETER") % 3 == 0:
                guard.expire()
            return guard.check(request)
        camera.answers["GET_PARAMETER"] = get_parameter
        rig.record(camera.url)
        await rig.until(lambda: asked(camera, "GET_PARAMETER") >= 7)
        assert len(guard.refused) >= 3
        assert rig.stream().state == "recording"


@pytest.mark.parametrize("life", [{"GET_PARAMETER"}, {"OPTIONS"}])
async def test_keepalives_that_are_never_answered_still_keep_alive_what_counts_one_method(life: set[str]) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.timeout_s, camera.alive_by = 4, life
        whole = camera.answer
        camera.answers["GET_PARAMETER"] = lambda r: None
        camera.answers["OPTIONS"] = lambda r: None if asked(camera, "PLAY") else whole(r)
        rig.record(camera.url)
        await rig.recorded(250)
        assert len(camera.links) == 1 and rig.tape().gaps == []


async def test_keepalive_refused_for_want_of_rights_becomes_options() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.timeout_s = 1
        guard = Guard(camera)
        camera.answers["GET_PARAMETER"] = lambda r: reply(r, 401, f'WWW-Authenticate: Digest realm="fake", nonce="n{guard.nonce}"')
        rig.record(camera.url)
        await rig.until(lambda: asked(camera, "OPTIONS") >= 4)
        assert asked(camera, "GET_PARAMETER") <= 2 and rig.stream().state == "recording"


async def test_forgotten_session_that_sends_nothing_is_begun_anew_at_once() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.timeout_s = 1
        rig.record(camera.url, stall_s=60.0)
        await rig.recorded()
        camera.answers["GET_PARAMETER"] = camera.answers["OPTIONS"] = lambda r: reply(r, 454)
        camera.links[0].silent = True
        error = await rig.failed()
        assert error.cause == GapCause.SENDER_RESTART and "454" in str(error)


async def test_receiver_reports_are_sent_on_the_rtcp_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing, "REPORT_S", 0.3)
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded(10)
        await rig.until(lambda: len(camera.links[0].rtcp) >= 8)
        packet = [p for p in camera.links[0].rtcp if p[0] == 1][-1][1:]
    version, kind, words, _, ssrc, lost, highest = struct.unpack(">BBHIIII", packet[:20])
    assert (version, kind, words, ssrc, lost) == (0x81, 201, 7, 0x1234, 0)
    assert 1000 < highest <= camera.links[0].sequences[0]
    assert packet[32:34] == b"\x81\xca"
    assert {p[0] for p in camera.links[0].rtcp} == {1, 3}


async def test_silence_is_a_stall_though_the_connection_stands() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url, stall_s=0.5)
        await rig.recorded()
        camera.links[0].silent = True
        error = await rig.failed()
        assert error.cause == GapCause.STALL
        assert rig.tape().gaps == [GapCause.STALL] and rig.tape("audio").gaps == [GapCause.STALL]
        assert asked(camera, "TEARDOWN") == 1
        await rig.until(lambda: rig.tape().next_session == 3)


async def test_dead_video_is_a_stall_though_audio_flows() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url, stall_s=0.5)
        await rig.recorded()
        camera.video = False
        assert (await rig.failed()).cause == GapCause.STALL
        assert len(rig.tape("audio").aus) > len(rig.tape().aus)


async def test_dead_audio_is_a_gap_of_its_own_and_the_video_goes_on() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url, stall_s=0.5)
        await rig.recorded()
        camera.audio = False
        await rig.until(lambda: rig.tape("audio").gaps == [GapCause.STALL])
        await rig.recorded(len(rig.tape().aus) + 10)
        assert rig.stream().state == "recording" and rig.tape().gaps == []
        camera.audio = True
        await rig.until(lambda: rig.stream().feeds["audio"].gap is None)
        assert len(camera.links) == 1


async def test_trickling_bytes_are_no_progress() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url, stall_s=0.5, audio=False)
        await rig.recorded()
        link = camera.links[0]
        link.silent = True

        async def drip() -> None:
            link.send(struct.pack(">cBH", b"$", 0, 60000))
            while True:
                link.send(b"\x80")
                await asyncio.sleep(0.02)
        dripping = asyncio.create_task(drip())
        assert (await rig.failed()).cause == GapCause.STALL
        dripping.cancel()


async def test_nothing_after_play_is_a_stall() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["PLAY"] = lambda r: reply(r, 200)
        rig.record(camera.url, stall_s=0.4)
        error = await rig.failed()
        assert error.cause == GapCause.STALL and "nothing came" in str(error)


async def test_pictures_without_a_key_frame_are_a_gap_and_no_stall(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("recorder.liveness.NO_KEYFRAME_NS", 300_000_000)

    async def forever(link: Link) -> None:
        index = 1
        while True:
            link.send(link.picture(index))
            index += 1 + (index % 25 == 24)
            await asyncio.sleep(0.02)
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["PLAY"] = lambda r: [setattr(r.link, "playing", asyncio.create_task(forever(r.link))), reply(r, 200)][1]  # type: ignore[func-returns-value,return-value]
        rig.record(camera.url, stall_s=0.8, audio=False)
        await rig.until(lambda: rig.tape().gaps == [GapCause.NO_KEYFRAME])
        await asyncio.sleep(1.0)             # longer than the stall time: still the same session
        assert len(camera.links) == 1 and rig.tape().aus == []
        status = rig.cameras.status()["cameras"]["cam1"]
        assert (status["state"], status["cause"]) == ("connecting", "no_keyframe") and "no key frame" in status["message"]
        assert caplog.text.count("no key frame") == 1


async def test_close_in_the_middle_of_a_frame_keeps_the_last_whole_picture() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url, audio=False)
        await rig.recorded()
        link = camera.links[0]
        link.silent = True
        link.send(link.picture(25)[:40])
        link.writer.close()
        error = await rig.failed()
        assert error.cause == GapCause.OFFLINE
        assert rig.tape().gaps == [GapCause.OFFLINE]
        await rig.until(lambda: any(au["session"] == 2 for au, _ in rig.tape().aus))
        before = [au for au, _ in rig.tape().aus if au["session"] == 1]
        again = next(au for au, _ in rig.tape().aus if au["session"] == 2)
        assert not any(au["flags"] & 4 for au in before)
        assert again["flags"] & 1 and again["wall_ns"] > before[-1]["wall_ns"]


async def test_reset_in_the_middle_of_a_frame_keeps_what_was_whole() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url, audio=False)
        await rig.recorded()
        link = camera.links[0]
        link.silent = True
        link.send(link.picture(25)[:40])
        before = len(rig.tape().aus)
        await rig.until(lambda: rig.stream()._session._played.connection.framing.stats()["bytes"] > 0)  # type: ignore[union-attr]
        link.reset()
        assert (await rig.failed()).cause == GapCause.OFFLINE
        assert rig.tape().gaps == [GapCause.OFFLINE] and len(rig.tape().aus) >= before
        assert asked(camera, "TEARDOWN") == 0            # nobody is there to hear it
        await rig.until(lambda: len(camera.links) == 2)
        assert asked(camera, "TEARDOWN") == 0            # and nothing was left over


async def test_bytes_that_come_one_by_one_are_recorded() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        def play(request: Request) -> bytes:
            async def drip() -> None:
                for index in range(25):
                    for byte in request.link.picture(index):
                        request.link.send(bytes([byte]))
                        await asyncio.sleep(0)
            request.link.playing = asyncio.create_task(drip())
            return reply(request, 200)
        camera.answers["PLAY"] = play
        rig.record(camera.url, audio=False)
        await rig.recorded(24)
        assert [au["pts"] - rig.tape().aus[0][0]["pts"] for au, _ in rig.tape().aus] == [3600 * n for n in range(len(rig.tape().aus))]


async def test_messages_between_frames_are_answered_and_cost_no_picture() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded()
        for number in range(5):
            camera.links[0].send(f"\r\nSET_PARAMETER {camera.url} RTSP/1.0\r\nCSeq: {number}\r\nContent-Length: 4\r\n\r\na: b\r\n".encode())
            camera.links[0].send(f"WHAT_IS_THIS * RTSP/1.0\nCSeq: {100 + number}\n\n".encode())
        await rig.until(lambda: len(camera.heard) == 10)
        await rig.recorded(len(rig.tape().aus) + 10)
        assert [answer.split()[1] for answer in camera.heard] == ["200", "501"] * 5
        assert rig.tape().gaps == [] and not any(au["flags"] & 4 for au, _ in rig.tape().aus)


@pytest.mark.parametrize("message", ["SET_PARAMETER * RTSP/1.0\r\nX: y\r\n\r\n", "RTSP/1.0 200 OK\r\nCSeq: 77777\r\n\r\n"])
async def test_messages_that_nobody_asked_for_are_bounded_a_minute(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    monkeypatch.setattr("recorder.rtsp.connection.MESSAGES_MAX", 20)
    async with FakeCamera() as camera, FakeCamera() as good, Rig() as rig:
        rig.record(camera.url)
        rig.record(good.url, 2)
        await rig.recorded()
        camera.links[0].send(message.encode() * 20)
        await rig.recorded(len(rig.tape().aus) + 5)
        assert rig.stream().state == "recording"
        camera.links[0].send(message.encode())
        error = await rig.failed()
        assert error.cause == GapCause.LOSS and "20 messages in a minute that nobody asked for; restart the camera" in str(error)
        await rig.recorded(len(rig.tape(number=2).aus) + 5, number=2)
        assert rig.tape(number=2).gaps == []


async def test_goodbye_reconnects_without_waiting_for_the_stall() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url, stall_s=60.0)
        await rig.recorded()
        link = camera.links[0]
        link.silent = True
        bye = struct.pack(">BBHI", 0x81, 203, 1, 0x1234)
        link.send(struct.pack(">cBH", b"$", 1, len(bye)) + bye)
        assert (await rig.failed()).cause == GapCause.SENDER_RESTART
        await rig.until(lambda: len(camera.links) == 2)


async def test_redirect_request_is_followed() -> None:
    async with FakeCamera() as first, FakeCamera() as second, Rig() as rig:
        rig.record(first.url)
        await rig.recorded()
        first.links[0].send(f"REDIRECT {first.url} RTSP/1.0\r\nCSeq: 5\r\nLocation: {second.url}\r\n\r\n".encode())
        await rig.until(lambda: asked(second, "PLAY") == 1)
        assert any("CSeq: 5" in answer for answer in first.heard)


async def test_unknown_channels_are_ignored_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded()
        link = camera.links[0]
        for _ in range(3):
            for _ in range(70):
                link.send(struct.pack(">cBH", b"$", 7, 1000) + bytes(1000))
            await rig.recorded(len(rig.tape().aus) + 10)
        assert rig.tape().gaps == []
        assert sum("never set up" in line for line in caplog.messages) == 1


async def test_operators_stop_tears_down_and_leaves_a_gap_on_every_track() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded()
        await rig.recorded(5, "audio")
        await rig.cameras.stop(1)
        assert camera.methods()[-1] == "TEARDOWN"
        for name in ("main", "audio"):
            assert rig.tape(name).gaps == [GapCause.OPERATOR]
            assert rig.tape(name).names[-3:] == ["end_session", "open_gap", "detach"]


async def test_removed_camera_leaves_no_gap() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded()
        await rig.cameras.stop(1, removed=True)
        assert rig.tape().gaps == [] and rig.tape().names[-1] == "detach"


async def test_a_camera_that_asks_for_login_after_login_at_teardown_can_be_begun_anew_at_once() -> None:
    """As when its password was changed: a stop and a start, and the second must not find the first still there."""
    async def slowly(request: Request) -> bytes:
        await asyncio.sleep(0.9 * playing.TEARDOWN_S)
        return reply(request, 401, f'WWW-Authenticate: Digest realm="fake", nonce="n{len(camera.requests)}", stale=true')
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["TEARDOWN"] = slowly
        rig.record(camera.url)
        await rig.recorded()
        await rig.cameras.stop(1)
        rig.record(camera.url)
        del camera.answers["TEARDOWN"]
        await rig.until(lambda: any(au["session"] == 2 for au, _ in rig.tape().aus))


async def test_a_camera_that_takes_too_long_to_stop_is_cut_off_and_has_its_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder.cameras, "STOP_S", 0.5)
    monkeypatch.setattr(playing, "TEARDOWN_S", 60.0)
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["TEARDOWN"] = lambda r: None
        rig.record(camera.url)
        await rig.recorded()
        await rig.cameras.stop(1)
        assert rig.tape().names[-3:] == ["end_session", "open_gap", "detach"] and rig.tape().gaps == [GapCause.OPERATOR]
        assert len(rig.drainer) == 0
        del camera.answers["TEARDOWN"]
        rig.record(camera.url)
        await rig.until(lambda: any(au["session"] == 2 for au, _ in rig.tape().aus))


async def test_a_volume_that_fails_while_a_camera_is_stopped_is_fled_by_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["TEARDOWN"] = lambda r: None
        for number in (1, 2):
            rig.record(camera.url, number)
            await rig.recorded(number=number)
        stopping = asyncio.create_task(rig.cameras.stop(1))
        await rig.until(lambda: asked(camera, "TEARDOWN"))
        monkeypatch.setattr(rig.tapes, "failed", True)
        assert rig.cameras.flee() == 1
        await stopping


async def test_teardown_never_answered_does_not_hold_up_the_end() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["TEARDOWN"] = lambda r: None
        for number in range(1, 6):
            rig.record(camera.url, number)
            await rig.recorded(number=number)
        began = asyncio.get_running_loop().time()
        await rig.cameras.close()
        took_s = asyncio.get_running_loop().time() - began
    assert asked(camera, "TEARDOWN") == 5
    assert took_s < 2 * playing.TEARDOWN_S, "one after the other instead of side by side"


async def test_sessions_times_are_published_once_and_before_they_end() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded(60)
        await rig.until(lambda: "publish" in rig.tape("audio").names)
    for name in ("main", "audio"):
        assert [n for n in rig.tape(name).names if n in {"publish", "end_session"}] == ["publish", "end_session"]
    provisional = [au["flags"] & 16 for au, _ in rig.tape().aus]
    assert provisional[0] and not provisional[-1]


async def test_forward_step_of_our_clock_begins_the_session_anew() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded()
        for each in rig.cameras._cameras.values():
            each.step(rig.wall.wall_ns(), 31_000_000_000)
        assert (await rig.failed()).cause == GapCause.CLOCK_STEP
        assert "clock_epoch" in rig.tape().names


async def test_writer_that_does_not_keep_up_is_an_overload_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.stream.OVERLOAD_NS", 100_000_000)
    monkeypatch.setattr("recorder.feed.SMALL_QUEUE", 4096)
    async with FakeCamera() as camera, Rig() as rig:
        rig.tapes.take = lambda: None  # type: ignore[method-assign]
        rig.record(camera.url)
        await rig.until(lambda: rig.tape("audio").gaps == [GapCause.OVERLOAD])
        assert rig.stream().state == "recording" and rig.tape().gaps == []
        rig.tapes.take = lambda: type(rig.tapes).take(rig.tapes)  # type: ignore[method-assign]
        await rig.until(lambda: any(au["gap"] == GapCause.OVERLOAD for au, _ in rig.tape("audio").aus))


async def test_status_tells_what_flows() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded(40)
        status = rig.cameras.status()["cameras"]["cam1"]
        track = status["tracks"]["main"]
    assert (status["number"], status["state"], status["cause"]) == (1, "recording", None)
    assert (track["codec"], track["width"], track["height"], track["dropped_aus"], track["gap"]) == ("h264", 64, 48, 0, None)
    assert track["aus"] >= 30 and 15 < track["fps"] < 35 and track["kbps"] > 0
    assert abs(track["last_au_ns"] - rig.wall.wall_ns()) < 5_000_000_000


async def test_sub_stream_is_a_session_of_its_own() -> None:
    async with FakeCamera() as main, FakeCamera(sdp=SDP) as sub, Rig() as rig:
        rig.record(main.url, sub=StreamConfig(sub.url))
        await rig.recorded(5, "sub")
        await rig.recorded(5, "main")
        assert sub.methods().count("SETUP") == 1
        sub.links[0].writer.close()
        await rig.until(lambda: rig.tape("sub").gaps == [GapCause.OFFLINE])
        assert rig.stream().state == "recording" and rig.tape().gaps == []


async def test_a_sub_stream_is_added_changed_and_taken_away_while_main_goes_on() -> None:
    async with FakeCamera() as main, FakeCamera() as one, FakeCamera() as two, Rig() as rig:
        one.answers["TEARDOWN"] = lambda r: None             # not even while it ends slowly
        rig.record(main.url)
        await rig.recorded()
        config = rig.cameras._cameras[1].config
        await rig.cameras.update(1, replace(config, sub=StreamConfig(one.url)))
        await rig.recorded(name="sub")
        await rig.cameras.update(1, replace(config, sub=StreamConfig(two.url)))
        assert rig.tape("sub").gaps == [GapCause.OPERATOR]
        await rig.until(lambda: "PLAY" in two.methods())
        await rig.recorded(len(rig.tape("sub").aus) + 5, "sub")
        await rig.cameras.update(1, config)
        assert list(rig.cameras.status()["cameras"]["cam1"]["streams"]) == ["main"] and "TEARDOWN" in two.methods()
        await rig.recorded(len(rig.tape().aus) + 5)
        assert rig.tape().gaps == [] and len(main.links) == 1 and main.methods().count("PLAY") == 1


async def test_a_camera_that_ends_while_its_sub_stream_changes_ends_whole() -> None:
    async with FakeCamera() as main, FakeCamera() as sub, Rig() as rig:
        sub.answers["TEARDOWN"] = lambda r: None
        rig.record(main.url, sub=StreamConfig(sub.url))
        await rig.recorded(name="sub")
        config = rig.cameras._cameras[1].config
        changing = asyncio.create_task(rig.cameras.update(1, replace(config, sub=StreamConfig(main.url))))
        await rig.until(lambda: "TEARDOWN" in sub.methods())
        await rig.cameras.stop(1)
        await changing
        assert [r.method for r in main.requests].count("PLAY") == 1
        assert not rig.cameras.status()["cameras"]
