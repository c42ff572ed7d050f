"""Limits that a client could get round: what waits for one that reads nothing, connections that nobody uses, and addresses that look alike."""

import asyncio
import socket

import pytest

from api.rtspout import connection as connection_module
from api.rtspout import ports as ports_module
from api.rtspout import request as request_module
from api.rtspout.request import RequestReader
from tests.media.conftest import audio, video
from tests.rtspout.conftest import Lab, Sender, rtp_info, until

MAIN = (1, "main")


async def deaf(lab):
    """A client that plays, and reads nothing more; its connection there."""
    client, _ = await lab.playing()
    client.writer.transport.pause_reading()
    (mine,) = lab.server._connections.values()
    return client, mine


async def test_a_connection_that_was_closed_over_bytes_nobody_reads_ends(lab, monkeypatch):
    monkeypatch.setattr(connection_module, "STUCK_S", 1.0)
    client, mine = await deaf(lab)
    while mine.wire.waiting < 300_000:
        lab.main.send(20)
        await asyncio.sleep(0)
    client.writer.write(b"no request\r\n\r\n")
    await until(lambda: not lab.server._connections)


async def test_one_that_plays_and_reads_nothing_is_not_answered_for_ever(lab):
    client, mine = await deaf(lab)
    for _ in range(40_000):
        client.write("DESCRIBE", "yard")
        if client.writer.transport.get_write_buffer_size() > 2 << 20:
            break
        if not client.cseq % 100:
            await asyncio.sleep(0)
    await asyncio.sleep(0.5)
    assert mine.wire.waiting < 4 << 20


async def test_playing_again_and_again_without_reading_piles_up_no_picture_groups(lab):
    lab.main.send(15)
    filler = (200_000).to_bytes(4) + b"\x0c" + bytes(199_999)
    unit = lab.main.unit(lab.main.sent)
    assert unit.key
    lab.main.send(data=unit.data + filler)
    client, mine = await deaf(lab)
    other = await asyncio.wait_for(_second_session(client, mine), 20)
    for _ in range(300):
        for method in ("PAUSE", "PLAY"):
            client.write(method, "yard", Session=other)
        await asyncio.sleep(0.005)
    assert mine.wire.waiting < 6 << 20


async def _second_session(client, mine):
    client.session = ""
    client.write("SETUP", "yard/track-main", Transport="RTP/AVP/TCP")
    while len(mine.desk.sessions) < 2:
        await asyncio.sleep(0.01)
    return list(mine.desk.sessions)[1]


@pytest.mark.parametrize("drip", [b"\r\n", b"$\0\0\4abcd"])
async def test_what_is_no_request_keeps_no_connection(lab, monkeypatch, drip):
    monkeypatch.setattr(connection_module, "WHOLE_S", 0.5)
    client = await lab.client()

    async def send():
        while True:
            client.writer.write(drip)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(send())
    try:
        assert await asyncio.wait_for(client.closed(), 5)
    finally:
        task.cancel()


def test_a_head_is_read_once_however_its_body_comes(monkeypatch):
    read = []
    whole = request_module.parse_head
    monkeypatch.setattr(request_module, "parse_head", lambda head: read.append(head) or whole(head))
    reader = RequestReader()
    reader.feed(b"GET_PARAMETER rtsp://h/yard RTSP/1.0\r\nCSeq: 7\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(999):
        assert reader.take() is None
        reader.feed(b"x")
    assert reader.take() is None
    reader.feed(b"xOPTIONS * RTSP/1.0\r\nCSeq: 8\r\n\r\n")
    found = reader.take()
    assert (found.cseq, found.body) == (7, b"x" * 1000)
    assert reader.take().cseq == 8
    assert len(read) == 2


async def test_a_machine_that_has_gone_is_noticed_though_nothing_is_sent(lab):
    await lab.playing()
    (mine,) = lab.server._connections.values()
    there = mine._transport.get_extra_info("socket")
    assert there.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    idle, step, count = (there.getsockopt(socket.IPPROTO_TCP, one) for one in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT))
    assert idle + step * count <= 120


async def test_sessions_over_udp_have_not_all_files_of_the_process(lab, monkeypatch):
    monkeypatch.setattr(ports_module, "PAIRS_MAX", 2)
    statuses = [(await (await lab.client()).set_up("yard", "main", f"RTP/AVP;client_port={43400 + 2 * i}-{43401 + 2 * i}")).status
                for i in range(4)]
    assert statuses == [200, 200, 503, 503]


async def test_a_connection_that_only_asks_ends(lab, monkeypatch):
    monkeypatch.setattr(connection_module, "UNUSED_S", 0.5)
    client = await lab.client()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        async with asyncio.timeout(10):
            while True:
                await client.ask("OPTIONS", "*")
                await asyncio.sleep(0.05)
    player, _ = await lab.playing()
    for _ in range(20):
        assert (await player.ask("OPTIONS", "*")).status == 200
        await asyncio.sleep(0.05)


async def test_a_stream_that_is_set_up_again_is_sent_again(stack):
    lab = Lab({MAIN: video().entry, (1, "audio"): audio(8).entry}, stack)
    main, sound = Sender(lab.board, MAIN, video()), Sender(lab.board, (1, "audio"), audio(8))
    main.send(10), sound.send(20)
    await lab.start()
    client, _ = await lab.playing(tracks=("main", "audio"))
    await client.ask("PAUSE", "yard")
    assert (await client.ask("TEARDOWN", "yard/track-audio")).status == 200
    found = await client.ask("PLAY", "yard")
    assert set(rtp_info(found)) == {"main"}
    await client.ask("PAUSE", "yard")
    assert (await client.set_up("yard", "audio", "RTP/AVP/TCP;interleaved=6-7")).status == 200
    assert set(rtp_info(await client.ask("PLAY", "yard"))) == {"main", "audio"}
    assert await client.packet(6)


async def test_a_connection_that_cannot_be_looked_after_ends_alone(lab, monkeypatch):
    def broken(now_s):
        raise RuntimeError("broken")

    client, _ = await lab.playing()
    (mine,) = lab.server._connections.values()
    monkeypatch.setattr(mine, "look", broken)
    assert await client.closed()
    monkeypatch.setattr(connection_module, "WHOLE_S", 0.3)
    assert await (await lab.client()).closed()
