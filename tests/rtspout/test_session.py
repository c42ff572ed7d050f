"""A session from OPTIONS to TEARDOWN: what is answered, what is sent, and what is refused with which status."""

import asyncio
import struct

import pytest

from tests.media.conftest import audio, video
from tests.rtspout.conftest import Lab, Sender, rtp_info

MAIN, SOUND, SUB = (1, "main"), (1, "audio"), (1, "sub")


@pytest.fixture
async def lab(stack):
    made = Lab({MAIN: video(sets=True).entry, SOUND: audio(codec="alaw").entry, SUB: video("hevc").entry}, stack)
    made.main, made.sound = Sender(made.board, MAIN, video(sets=True)), Sender(made.board, SOUND, audio(codec="alaw"))
    made.sub = Sender(made.board, SUB, video("hevc"))
    made.main.send(30)
    made.sound.send(60)
    made.sub.send(3)
    return await made.start()


async def test_a_description_says_how_the_tracks_are_coded(lab):
    client = await lab.client()
    assert (await client.ask("OPTIONS", "*"))["public"].startswith("OPTIONS, DESCRIBE, SETUP")
    found = await client.ask("DESCRIBE", "yard", Accept="application/sdp")
    assert (found.status, found["content-type"]) == (200, "application/sdp")
    assert found["content-base"] == client.url("yard/")
    lines = found.body.decode().split("\r\n")
    assert lines[0] == "v=0"
    assert "s=The yard" in lines
    assert "a=range:npt=now-" in lines
    assert lines[lines.index("m=video 0 RTP/AVP 96") + 1] == "a=rtpmap:96 H264/90000"
    assert any(line.startswith("a=fmtp:96 packetization-mode=1;profile-level-id=42") and "sprop-parameter-sets=" in line for line in lines)
    assert lines[lines.index("m=audio 0 RTP/AVP 8") + 1] == "a=rtpmap:8 PCMA/8000"
    assert [line for line in lines if line.startswith("a=control")] == ["a=control:*", "a=control:track-main", "a=control:track-audio"]


async def test_the_first_packet_is_the_newest_access_points(lab):
    client, found = await lab.playing(tracks=("main", "audio"))
    assert found.status == 200
    first = await client.packet(0)
    sequence, when = struct.unpack_from(">HI", first, 2)
    assert rtp_info(found)["main"] == (sequence, when)
    sound = await client.packet(2)
    assert rtp_info(found)["audio"] == struct.unpack_from(">HI", sound, 2)
    report = await client.packet(1)
    assert report[:2] == b"\x80\xc8"
    wall_ns = lab.main.unit(25).wall_ns
    assert abs((struct.unpack_from(">Q", report, 8)[0] / 2**32 - 2_208_988_800) - wall_ns / 1e9) < 1e-6
    assert struct.unpack_from(">I", report, 16)[0] == when


async def test_sound_begins_with_the_pictures(lab):
    client, found = await lab.playing(tracks=("main", "audio"))
    await client.packet(2)
    report = await client.packet(3)
    seconds = struct.unpack_from(">Q", report, 8)[0] / 2**32 - 2_208_988_800
    assert 0 <= seconds - lab.main.unit(25).wall_ns / 1e9 < 0.02
    assert found.status == 200


async def test_what_comes_is_sent_on_and_numbers_have_no_holes(lab):
    client, found = await lab.playing()
    lab.main.send(40)
    numbers, markers = [], 0
    while markers < 45:
        packet = await client.packet(0)
        numbers.append(struct.unpack_from(">H", packet, 2)[0])
        markers += packet[1] >> 7
    assert numbers == [(rtp_info(found)["main"][0] + i) & 0xFFFF for i in range(len(numbers))]


async def test_pause_rests_and_play_goes_on_with_the_newest_picture_group(lab):
    client, _ = await lab.playing()
    assert (await client.ask("PAUSE", "yard")).status == 200
    lab.main.send(50)
    client.packets.clear()
    again = await client.ask("PLAY", "yard")
    assert again.status == 200
    assert rtp_info(again)["main"] == struct.unpack_from(">HI", await client.packet(0), 2)
    report = await client.packet(1)
    assert struct.unpack_from(">Q", report, 8)[0] >> 32 == lab.main.unit(75).wall_ns // 10**9 + 2_208_988_800


async def test_teardown_says_goodbye_and_frees_the_track(lab):
    client, _ = await lab.playing()
    assert lab.relays.open
    assert (await client.ask("TEARDOWN", "yard")).status == 200
    goodbyes = [packet for packet in client.packets[1] if packet[1] == 201 and packet[-8:-4] == b"\x81\xcb\0\1"]
    assert len(goodbyes) == 1
    assert not lab.relays.open
    assert not lab.board.seats[MAIN]
    assert (await client.ask("PLAY", "yard")).status == 454


async def test_a_connection_that_is_cut_frees_the_track(lab):
    client, _ = await lab.playing()
    client.writer.close()
    while lab.relays.open:
        await asyncio.sleep(0.01)
    assert not lab.board.seats[MAIN]


async def test_behind_a_gap_timestamps_have_risen_by_the_time_that_passed(lab):
    client, found = await lab.playing()
    lab.main.send(20)
    before = lab.main.unit(49)
    later = lab.main.start_ns + 7_200 * 10**9
    unit = lab.main.unit(50)
    lab.board.send(MAIN, type(unit)(51, unit.data, unit.entry, 5, 0, later, True, False, False, True, 1))
    seen = set()
    first = rtp_info(found)["main"][1]
    wanted = (first + (before.pts - lab.main.unit(25).pts) + (later - before.wall_ns) * 9 // 100_000) & 0xFFFFFFFF
    while wanted not in seen:
        seen.add(struct.unpack_from(">I", await client.packet(0), 4)[0])
    assert len(seen) == 26


async def test_parameter_sets_that_a_camera_only_describes_are_sent_before_each_access_point(stack):
    lab = Lab({MAIN: video().entry}, stack)
    sender = Sender(lab.board, MAIN, video())
    sender.send(1)
    await lab.start()
    client, _ = await lab.playing()
    first = await client.packet(0)
    assert first[12] & 31 == 24
    assert first[15] & 31 == 7


@pytest.mark.parametrize(("method", "path", "headers", "status"), [
    ("DESCRIBE", "nowhere", {}, 404), ("DESCRIBE", "yard/other", {}, 404), ("DESCRIBE", "yard/track-main", {}, 459), ("DESCRIBE", "", {}, 404),
    ("RECORD", "yard", {}, 501), ("PLAY", "yard", {}, 454), ("PLAY", "yard", {"Session": "abc"}, 454), ("TEARDOWN", "yard", {}, 454),
    ("PAUSE", "yard", {}, 454), ("SETUP", "yard/track-main", {}, 461), ("SETUP", "yard", {"Transport": "RTP/AVP/TCP;interleaved=0-1"}, 459),
    ("SETUP", "yard/track-main", {"Transport": "RTP/AVP;multicast"}, 461), ("SETUP", "yard/track-main", {"Transport": "RTP/AVP;unicast"}, 461),
    ("SETUP", "yard/track-main", {"Transport": "RTP/AVP;unicast;destination=10.0.0.1;client_port=5000-5001"}, 461),
    ("SETUP", "yard/track-other", {"Transport": "RTP/AVP/TCP;interleaved=0-1"}, 404),
    ("SETUP", "yard/track-main", {"Transport": "RTP/AVP/TCP;interleaved=0-1;mode=record"}, 461),
    ("DESCRIBE", "yard", {"Require": "com.example.flux"}, 551), ("GET_PARAMETER", "yard", {}, 200),
    ("GET_PARAMETER", "yard", {"Session": "x"}, 454),
])
async def test_what_cannot_be_is_answered_with_its_status(lab, method, path, headers, status):
    client = await lab.client()
    found = await client.ask(method, path, **headers)
    assert found.status == status
    assert found["server"] == "watchroom"
    if status == 551:
        assert found["unsupported"] == "com.example.flux"
    assert not any(relay.held > 1 for relay in lab.relays.open.values())


async def test_what_a_playing_session_cannot_do(lab):
    client, _ = await lab.playing(tracks=("main", "audio"))
    assert (await client.ask("PLAY", "yard/track-main")).status == 459
    assert (await client.ask("SETUP", "yard/track-main", Transport="RTP/AVP/TCP;interleaved=4-5")).status == 455
    assert (await client.ask("SETUP", "yard/sub/track-sub", Transport="RTP/AVP/TCP;interleaved=4-5")).status == 459
    assert (await client.ask("PLAY", "yard", Range="clock=20260101T000000Z-")).status == 457
    assert (await client.ask("PLAY", "yard", Range="npt=now-")).status == 200
    assert (await client.ask("SET_PARAMETER", "yard")).status == 200
    assert (await client.ask("SETUP", "north/track-main", Transport="RTP/AVP/TCP;interleaved=4-5", Session="zz")).status == 454


async def test_channels_are_those_asked_for_or_the_next_that_are_free(lab):
    client = await lab.client()
    assert "interleaved=6-7" in (await client.set_up("yard", "main", "RTP/AVP/TCP;interleaved=6-7"))["transport"]
    assert "interleaved=0-1" in (await client.set_up("yard", "audio", "RTP/AVP/TCP;interleaved=6-7"))["transport"]
    await client.ask("PLAY", "yard")
    assert await client.packet(6)
    assert await client.packet(0)


async def test_new_parameter_sets_of_the_same_coding_are_sent_and_the_session_goes_on(stack):
    lab = Lab({MAIN: video().entry}, stack)
    sender = Sender(lab.board, MAIN, video())
    sender.send(1)
    await lab.start()
    client, _ = await lab.playing()
    larger = Sender(lab.board, MAIN, video(width=480, height=272))
    larger.send(1)
    sets = {}
    while len(sets) < 2:
        packet = await client.packet(0)
        if packet[12] & 31 == 24:
            size = int.from_bytes(packet[13:15])
            sets[packet[15:15 + size]] = packet
    assert list(sets) == [sps_of(video().entry), sps_of(video(width=480, height=272).entry)]
    assert (await client.ask("GET_PARAMETER", "yard")).status == 200
    assert b"x-dimensions:480,272" in (await (await lab.client()).ask("DESCRIBE", "yard")).body


def sps_of(entry):
    """The first SPS of an AVCDecoderConfigurationRecord."""
    return entry.config[8:8 + int.from_bytes(entry.config[6:8])]


async def test_a_sub_stream_of_h265_is_described_and_sent(lab):
    client = await lab.client()
    found = await client.ask("DESCRIBE", "yard/sub")
    assert b"H265/90000" in found.body
    assert found.body.count(b"m=") == 1
    assert all(f"sprop-{name}=".encode() in found.body for name in ("vps", "sps", "pps"))
    assert (await client.set_up("yard/sub", "sub")).status == 200
    assert (await client.ask("PLAY", "yard/sub")).status == 200
    assert (await client.packet(0))[12] >> 1 & 63 == 48


async def test_a_coding_that_changes_ends_the_stream_with_goodbye(lab):
    client, _ = await lab.playing()
    other = Sender(lab.board, MAIN, video("hevc"))
    other.send(1)
    while True:
        packet = await client.packet(1)
        if packet[1] == 201:
            break
    assert (await client.ask("GET_PARAMETER", "yard")).status == 200
    fresh = await lab.client()
    assert b"H265" in (await fresh.ask("DESCRIBE", "yard")).body


async def test_a_camera_in_a_gap_is_described_and_its_last_pictures_are_not_sent_again(lab):
    from api.unit import Silence
    from recorder.base.media import GapCause

    client = await lab.client()
    assert (await client.ask("DESCRIBE", "yard")).status == 200
    lab.board.silence(MAIN, Silence(0, GapCause.OFFLINE, 0))
    await client.set_up("yard", "main")
    found = await client.ask("PLAY", "yard")
    assert (found.status, rtp_info(found)) == (200, {})
    assert not client.packets
    lab.board.silence(MAIN, None)
    lab.main.send(25)
    packet = await client.packet(0)
    report = await client.packet(1)
    assert struct.unpack_from(">Q", report, 8)[0] >> 32 == lab.main.unit(50).wall_ns // 10**9 + 2_208_988_800
    assert packet
