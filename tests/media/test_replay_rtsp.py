"""ONVIF replay over RTSP as its clients see it (ONVIF Streaming 6; RFC 2326)."""

import asyncio
import base64
import errno
import hashlib
import random
import re
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from api.metrics import EXTRA, Page
from api.replay.ask import range_text, utc_text
from api.rtspout.server import OPENERS, RtspServer
from recorder.base.config import CameraConfig, RtspOutConfig, StreamConfig
from recorder.base.media import NS, TrackKind
from storage.camera_record import CameraRecord, TokenRecord
from storage.digest_login import logins
from storage.reader import TrackReader
from tests.media.replayclient import ReplayClient
from tests.media.test_random_footage import site
from tests.media.test_replay_plan import Truth, a_time

__all__ = ["site"]


@asynccontextmanager
async def serving(api):
    """The application's RTSP server on a free port."""
    server = RtspServer(api.app, RtspOutConfig(bind="127.0.0.1", port=0), api.app[OPENERS], open_door=True)
    async with server.serving():
        yield server.port


@pytest.fixture
async def api(maker, volume, tmp_path):
    async with maker.Api(volume, tmp_path, maker.T0 + 600 * NS) as made:
        made.main = volume.track(1, "main", start_ns=maker.T0)
        made.sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=48_000, start_ns=maker.T0)
        yield made


@pytest.fixture
async def port(api):
    async with serving(api) as number:
        yield number


def recorded(api, maker, frames=250, **content):
    maker.write(api.main, maker.video(frames=frames, **content))
    maker.write(api.sound, maker.audio(frames / 25))


async def test_describe_says_what_is_replayed(api, maker, port):
    recorded(api, maker)
    async with ReplayClient(port) as client:
        status, _, body = await client.ask("DESCRIBE", Require="onvif-replay", Accept="application/sdp")
        assert status == 200
        lines = body.split("\r\n")
        assert f"a=range:clock={utc_text(maker.T0)}-" in lines
        assert lines.count("a=sendonly") == 2
        assert "a=x-onvif-track:main" in lines
        assert "a=x-onvif-track:audio" in lines
        assert re.search("a=rtpmap:96 H264/90000", body)
        assert (await client.ask("DESCRIBE", Require="www.onvif.org/ver20/backchannel"))[:1] == (551,)


async def test_play_answers_with_where_it_begins(api, maker, port):
    recorded(api, maker)
    async with ReplayClient(port) as client:
        assert await client.set_up("main", "audio") == 200
        status, said = await client.play(Range=range_text(maker.T0 + 3 * NS + NS // 2, maker.T0 + 5 * NS), Rate_Control="no")
        assert status == 200
        assert said["range"] == range_text(maker.T0 + 3 * NS, maker.T0 + 5 * NS)
        assert said["rate-control"] == "no"
        await client.ended()
        first = client.units[0]
        info = re.findall(r"url=(\S+?);seq=(\d+);rtptime=(\d+)", said["rtp-info"])
        assert info[0] == (f"{client.address}/track-main", str(first.first_sequence), str(first.stamp))
        assert info[1][0] == f"{client.address}/track-audio"
        assert first.wall_ns == maker.T0 + 3 * NS
        assert {unit.cseq for unit in client.units} == {client.cseq & 0xFF}
        assert client.reports == []


async def test_random_seeks_over_one_connection_begin_clean_at_or_before_the_time(site):
    dice, truth = random.Random(63), Truth(site, site.cameras[0])
    begun = 0
    async with serving(site) as port, ReplayClient(port) as client:
        await client.set_up("main")
        for _ in range(100):
            time_ns = a_time(dice, truth)
            end_ns = time_ns + dice.randrange(1, NS)
            client.units.clear()
            status, _ = await client.play(Range=range_text(time_ns, end_ns), Rate_Control="no", Immediate="yes")
            expected = truth.forward(time_ns, end_ns)
            assert status == (200 if expected else 457)
            if not expected:
                continue
            await client.ended()
            got = [unit for unit in client.units if unit.cseq == client.cseq & 0xFF]
            assert [(unit.wall_ns, unit.clean, unit.end, unit.jump, unit.last) for unit in got] == expected
            begun += 1
    assert begun > 60


@pytest.mark.parametrize(("headers", "status"), [
    ({"Range": "clock=20270115T080000Z-20270115T075959Z"}, 457),
    ({"Range": "clock=20270115T080000Z-20270115T080010Z", "Scale": "-1.0"}, 457),
    ({"Range": "clock=20690115T080000Z-"}, 457),
    ({"Range": "clock=20150115T080000Z-20150115T080010Z"}, 457),
    ({"Range": "clock=20150115T080010Z-", "Scale": "-1.0"}, 457),
    ({"Range": "clock=99990115T080010Z-"}, 457),
    ({"Range": "clock=20270115T080061Z-"}, 400),
    ({"Range": "clock=2027-01-15T08:00:00Z-"}, 400),
    ({"Range": "npt=" + "9" * 180}, 400),
    ({"Range": "clock=" + "9" * 500}, 400),
    ({"Range": "smpte=10:12:33:20-"}, 501),
    ({"Scale": "0"}, 400),
    ({"Scale": "nan"}, 400),
    ({"Scale": "1e300"}, 400),
    ({"Scale": "2.0", "Rate-Control": "no"}, 456),
    ({"Rate-Control": "perhaps"}, 400),
    ({"Frames": "predicted/100"}, 400),
    ({"Frames": "intra/-1"}, 400),
    ({"Immediate": "now"}, 400),
    ({"Require": "onvif-replay, com.example.more"}, 551),
])
async def test_silly_requests_are_answered_and_the_session_stays(api, maker, port, headers, status):
    recorded(api, maker)
    async with ReplayClient(port) as client:
        await client.set_up("main")
        assert (await client.play(**headers))[0] == status
        assert (await client.play(Range=range_text(maker.T0, maker.T0 + NS), Rate_Control="no"))[0] == 200
        await client.ended()


async def test_a_range_before_all_footage_begins_with_the_oldest(api, maker, port):
    recorded(api, maker)
    async with ReplayClient(port) as client:
        await client.set_up("main")
        status, said = await client.play(Range="clock=20150115T080000Z-", Rate_Control="no")
        assert (status, said["range"]) == (200, range_text(maker.T0, None))


async def test_a_huge_scale_is_answered_with_the_pace_that_is_taken(api, maker, port):
    recorded(api, maker)
    async with ReplayClient(port) as client:
        await client.set_up("main")
        status, said = await client.play(Range=range_text(maker.T0, None), Scale="999999999")
        assert (status, said["scale"]) == (200, "64.0")


async def test_a_thousand_plays_at_once_are_answered_one_by_one_and_the_last_one_plays(api, maker, port):
    recorded(api, maker)
    async with ReplayClient(port) as client:
        await client.set_up("main")
        tasks = len(asyncio.all_tasks())
        for number in range(1000):
            client.send("PLAY", Range=range_text(maker.T0 + number * NS // 200, None), Rate_Control="no", Immediate="yes")
        answers = [await asyncio.wait_for(client._answers.get(), 30) for _ in range(1000)]
        assert {answer[0] for answer in answers} == {200}
        assert len(asyncio.all_tasks()) <= tasks + 3
        last = client.cseq & 0xFF
        await client.until(lambda: client.units and client.units[-1].wall_ns == maker.T0 + 249 * NS // 25 - NS // 25)
        assert client.units[-1].cseq == last


async def test_a_client_that_stops_reading_is_bounded_and_goes_on(api, maker, port):
    aus = tuple(maker.Au(bytes([0, 1, 134, 156, 0x65 if n % 25 == 0 else 0x41]) + bytes(99_995), n * 3600, n * 3600, n % 25 == 0)
                for n in range(500))
    maker.write(api.main, maker.Stream(maker.video().entry, aus, 3600))
    async with ReplayClient(port) as client:
        await client.set_up("main")
        client.reading.clear()
        assert (await client.play(Range=range_text(maker.T0, maker.T0 + 60 * NS), Rate_Control="no"))[0] == 200
        counts, sent = api.app[OPENERS]["replay"].counts, -1
        while sent != counts.units:                  # as far as the sockets of both sides take it
            sent = counts.units
            await asyncio.sleep(0.2)
        assert 0 < sent < 400
        client.reading.set()
        await client.ended()
        assert len(client.units) == 500


async def test_pause_and_play_go_on_over_the_wire(api, maker, port):
    recorded(api, maker)
    async with ReplayClient(port) as client:
        await client.set_up("main")
        await client.play(Range=range_text(maker.T0, maker.T0 + 10 * NS), Scale="2.0")
        await client.until(lambda: len(client.units) > 5)
        assert (await client.ask("PAUSE"))[0] == 200
        await asyncio.sleep(0.1)
        held = len(client.units)
        await asyncio.sleep(0.1)
        assert len(client.units) == held
        status, _ = await client.play()
        assert status == 200
        await client.until(lambda: len(client.units) > held + 5)
        walls = [unit.wall_ns for unit in client.units]
        assert walls == [maker.T0 + n * NS // 25 for n in range(len(walls))]


async def test_paced_replay_reports_our_clock(api, maker, port):
    recorded(api, maker)
    async with ReplayClient(port) as client:
        await client.set_up("main")
        await client.play(Range=range_text(maker.T0, None))
        await client.until(lambda: client.reports)
    seconds = int.from_bytes(client.reports[0][8:12])
    assert seconds - 2_208_988_800 == api.clock.wall_ns() // NS


async def test_a_camera_out_of_reach_is_not_there(api, maker, port):
    recorded(api, maker)
    async with ReplayClient(port, "/replay/nowhere") as client:
        assert (await client.ask("DESCRIBE", Require="onvif-replay"))[0] == 404
        assert await client.set_up("main") == 404
    async with ReplayClient(port, "/replay/gate") as client:
        assert (await client.ask("DESCRIBE", Require="onvif-replay"))[0] == 404      # known, and nothing is recorded


async def test_start_of_an_address_is_npt_zero(api, maker, port):
    recorded(api, maker)
    async with ReplayClient(port, f"/replay/yard?start={maker.T0 + 4 * NS}") as client:
        assert (await client.ask("DESCRIBE"))[0] == 200
        await client.set_up("main")
        status, said = await client.play(Range="npt=0.000-")
        assert (status, said["range"]) == (200, range_text(maker.T0 + 4 * NS, None))
    for bad in ("?start=yesterday", "?end=5", "?start=1&start=2"):
        async with ReplayClient(port, f"/replay/yard{bad}") as client:
            assert (await client.ask("DESCRIBE"))[0] == 400


@pytest.fixture
async def doored(api):
    """A server that lets nobody in without a token: its port, and what makes tokens."""
    tokens, cameras = [], [CameraRecord(number, name, "file", 0, CameraConfig(name, StreamConfig("rtsp://127.0.0.1/")), 0)
                           for number, name in ((1, "yard"), (2, "gate"))]

    def token(**more):
        secret = f"wr_{len(tokens) + 1:043d}"
        md5, sha256 = logins(secret)
        digest = hashlib.sha256(secret.encode()).digest()
        made = TokenRecord(len(tokens) + 1, "test", frozenset({"view"}), (), "", 0, 0, None, digest, md5, sha256)
        tokens.append(replace(made, **more))
        api.registry.replace(cameras, tokens)
        return "Basic " + base64.b64encode(f"token:{secret}".encode()).decode()

    def revoke():
        api.registry.replace(cameras, [])

    server = RtspServer(api.app, RtspOutConfig(port=0), api.app[OPENERS], open_door=False)
    async with server.serving():
        yield server.port, token, revoke


async def test_a_token_without_reach_to_the_camera_gets_nothing(api, maker, doored):
    recorded(api, maker)
    port, token, _ = doored
    others, scopeless, good = token(cameras=("gate",)), token(scopes=frozenset({"metrics"})), token(cameras=("yard",))
    for said, status in (({}, 401), ({"Authorization": others}, 404), ({"Authorization": scopeless}, 403), ({"Authorization": good}, 200)):
        async with ReplayClient(port) as client:
            assert (await client.ask("DESCRIBE", Require="onvif-replay", **said))[0] == status
            setup = await client.ask("SETUP", f"{client.address}/track-main", Transport="RTP/AVP/TCP;unicast;interleaved=0-1", **said)
            assert setup[0] == status
            client.session = setup[1].get("session", "").partition(";")[0]
            played = await client.ask("PLAY", Range=range_text(maker.T0, maker.T0 + NS), Rate_Control="no", **said)
            assert played[0] == (status if status in {200, 401, 403} else 454)
            if status == 200:
                await client.until(lambda: len(client.units) >= 25)
            else:
                await asyncio.sleep(0.05)
                assert client.units == []


async def test_revoking_a_token_ends_its_replay(api, maker, doored):
    recorded(api, maker)
    port, token, revoke = doored
    said = {"Authorization": token()}
    async with ReplayClient(port) as client:
        setup = await client.ask("SETUP", f"{client.address}/track-main", Transport="RTP/AVP/TCP;unicast;interleaved=0-1", **said)
        client.session = setup[1]["session"].partition(";")[0]
        assert (await client.ask("PLAY", Range=range_text(maker.T0, None), **said))[0] == 200
        await client.until(lambda: client.units)
        revoke()
        await client.until(lambda: api.app[OPENERS]["replay"].counts.sessions == 0, seconds=5)


async def test_a_disk_that_cannot_be_read_is_an_answer_and_no_end(api, maker, port, monkeypatch):
    recorded(api, maker)

    def broken(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    async with ReplayClient(port) as client:
        with monkeypatch.context() as patch:
            patch.setattr(TrackReader, "rows_from", broken)
            assert (await client.ask("DESCRIBE"))[0] == 503
        assert (await client.ask("DESCRIBE"))[0] == 200
        await client.set_up("main")
        with monkeypatch.context() as patch:
            patch.setattr(TrackReader, "rows_from", broken)
            assert (await client.ask("PLAY", Range=range_text(maker.T0, None)))[0] == 503
        assert (await client.ask("PLAY", Range=range_text(maker.T0, None)))[0] == 200


async def test_metrics_tell_of_replays(api, maker, port):
    recorded(api, maker)
    async with ReplayClient(port) as client:
        await client.set_up("main")
        await client.play(Range=range_text(maker.T0, maker.T0 + NS), Rate_Control="no")
        await client.play(Range=range_text(maker.T0 - NS, maker.T0 - 1), Rate_Control="no")
        await client.ended()
        page = Page()
        for more in api.app[EXTRA]:
            more(page, api.app)
    assert "watchroom_replay_sessions 1" in page.text()
    assert "watchroom_replay_plays_total 2" in page.text()
    assert "watchroom_replay_rejected_total 1" in page.text()
    assert "watchroom_replay_units_total 25" in page.text()
    assert "watchroom_replay_broken_units_total 0" in page.text()
