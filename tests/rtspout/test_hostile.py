"""Clients that mean harm or have gone: each costs what is bounded, ends by itself, and others do not notice."""

import asyncio
import random
import resource
import socket
import struct
from contextlib import AsyncExitStack

import pytest

from api.rtspout import connection as connection_module
from api.rtspout import server as server_module
from api.rtspout import viewer as viewer_module
from api.rtspout.rtcp import goodbye
from tests.media.conftest import video
from tests.rtspout.conftest import UDP, Client, Lab, Sender, rtp_info, until

MAIN = (1, "main")


async def still_serves(lab):
    client, found = await lab.playing()
    assert found.status == 200
    assert await client.packet(0)
    client.writer.close()


def connections(lab):
    return len(lab.server._connections)


@pytest.mark.parametrize("data", [b"\x16\3\1\2\0\1\0\1\xfc\3\3" + bytes(500), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(40_000),
                                  b"A" * 40_000, b"\r\n\r\nPLAY\r\n\r\n"])
async def test_garbage_is_answered_and_the_connection_ends(lab, data):
    client = await lab.client()
    client.writer.write(data)
    assert (await client.answer()).status in {400, 413}
    assert await client.closed()
    await still_serves(lab)


@pytest.mark.parametrize("sent", [b"", b"DESCRIBE rtsp://h/yard RTSP/1.0\r\nCSeq", b"$\0\xff\xff" + bytes(10), b"\r\n"])
async def test_half_requests_and_silence_end(lab, monkeypatch, sent):
    monkeypatch.setattr(connection_module, "WHOLE_S", 0.3)
    client = await lab.client()
    client.writer.write(sent)
    assert await client.closed()
    await until(lambda: not connections(lab))


async def test_one_that_has_been_answered_may_think_for_a_minute(lab, monkeypatch):
    client = await lab.client()
    assert (await client.ask("DESCRIBE", "yard")).status == 200
    monkeypatch.setattr(connection_module, "WHOLE_S", 0.1)
    await asyncio.sleep(0.5)
    assert (await client.set_up("yard", "main")).status == 200
    monkeypatch.setattr(connection_module, "TIMEOUT_S", 0.2)
    assert await client.closed()


async def test_a_request_that_comes_byte_by_byte_for_ever_ends(lab, monkeypatch):
    monkeypatch.setattr(connection_module, "WHOLE_S", 0.5)
    client = await lab.client()

    async def drip():
        while True:
            client.writer.write(b"x")
            await asyncio.sleep(0.02)

    task = asyncio.create_task(drip())
    assert await client.closed()
    task.cancel()
    await still_serves(lab)


async def test_thousands_of_setups_take_four_sessions_and_nothing_else(lab):
    client = await lab.client()
    statuses = []
    for _ in range(2000):
        statuses.append((await client.ask("SETUP", "yard/track-main", Transport="RTP/AVP/TCP")).status)
    assert statuses[:4] == [200] * 4
    assert set(statuses[4:]) == {453}
    assert lab.relays.open[MAIN].held == 4
    client.writer.close()
    await until(lambda: not lab.relays.open)


async def test_a_flood_of_requests_is_read_only_as_fast_as_it_is_answered(lab):
    client = await lab.client()
    for _ in range(20_000):
        client.write("DESCRIBE", "yard")
    for _ in range(100):
        await asyncio.sleep(0)
        (mine,) = lab.server._connections.values()
        assert mine._reader.waiting < connection_module.UNREAD_MAX + (256 << 10)      # one read more at most
    for number in range(1, 20_001):
        assert (await client.answer())["cseq"] == str(number)
    assert lab.relays.open[MAIN].held == 1


async def test_one_that_asks_on_and_reads_no_answer_is_not_answered_for_ever(lab):
    client = await lab.client()
    client.writer.transport.pause_reading()
    for _ in range(60_000):
        client.write("DESCRIBE", "yard")
        if client.writer.transport.get_write_buffer_size() > 8 << 20:
            break
    await asyncio.sleep(0.5)
    (mine,) = lab.server._connections.values()
    assert mine.wire.waiting < 1 << 20
    assert mine._reader.waiting < 1 << 20
    await still_serves(lab)


async def test_addresses_have_as_many_connections_as_they_may(lab, monkeypatch):
    monkeypatch.setattr(server_module, "PER_CLIENT", 5)
    clients = [await lab.client() for _ in range(5)]
    await until(lambda: connections(lab) == 5)
    assert await (await lab.client()).closed()
    assert lab.server.refused == 1
    clients[0].writer.close()
    await until(lambda: connections(lab) == 4)
    await still_serves(lab)


async def stalled(lab) -> Client:
    client, _ = await lab.playing()
    client.writer.transport.pause_reading()
    return client


async def test_one_that_never_reads_is_bounded_ended_and_nobody_waits_for_it(lab, monkeypatch):
    monkeypatch.setattr(viewer_module, "WAITING_MAX", 200_000)
    monkeypatch.setattr(connection_module, "STUCK_S", 1.0)
    await stalled(lab)
    good, found = await lab.playing()
    taken = []

    async def read():
        while True:
            packet = await good.packet(0)
            taken.append(struct.unpack_from(">H", packet, 2)[0])

    reading = asyncio.create_task(read())
    most = 0
    for _ in range(1500):
        lab.main.send(5)
        most = max(most, *(mine.wire.waiting for mine in lab.server._connections.values()))
        await asyncio.sleep(0.001)
    group = sum(len(packets.data) for packets in lab.relays.open[MAIN].group)
    assert 200_000 < most < 200_000 + 2 * group + 100_000
    await until(lambda: connections(lab) == 1)
    reading.cancel()
    first = rtp_info(found)["main"][0]
    assert len(taken) > 7500
    assert taken == [(first + i) & 0xFFFF for i in range(len(taken))]


async def test_a_session_over_udp_whose_client_has_gone_ends(lab, monkeypatch):
    monkeypatch.setattr(connection_module, "TIMEOUT_S", 0.5)
    client = await lab.client()
    found = await client.set_up("yard", "main", "RTP/AVP;unicast;client_port=43000-43001")
    assert found.status == 200
    assert (await client.ask("PLAY", "yard")).status == 200
    await until(lambda: not lab.relays.open)
    assert lab.server._house.ports.taken == 0
    assert await client.closed()


async def test_receiver_reports_keep_a_session_over_udp(lab, monkeypatch):
    monkeypatch.setattr(connection_module, "TIMEOUT_S", 2.0)
    client = await lab.client()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtcp:
        rtp.bind(("127.0.0.1", 43010))
        rtcp.bind(("127.0.0.1", 43011))
        rtp.setblocking(False)
        found = await client.set_up("yard", "main", "RTP/AVP;unicast;client_port=43010-43011")
        ports = found["transport"].partition("server_port=")[2].partition(";")[0].split("-")
        assert UDP[0] <= int(ports[0]) < UDP[1]
        assert int(ports[0]) % 2 == 0
        assert (await client.ask("PLAY", "yard")).status == 200
        first = await asyncio.get_running_loop().sock_recv(rtp, 2000)
        assert first[:1] == b"\x80"
        assert rtcp.recv(2000)[:2] == b"\x80\xc8"
        for _ in range(30):
            rtcp.sendto(struct.pack(">BBHI", 0x80, 201, 1, 5), ("127.0.0.1", int(ports[1])))
            await asyncio.sleep(0.1)
        assert lab.relays.open
        assert (await client.ask("TEARDOWN", "yard")).status == 200
        rtcp.settimeout(5)
        assert rtcp.recv(2000) == goodbye(lab_ssrc(first))


def lab_ssrc(packet: bytes) -> int:
    return int(struct.unpack_from(">I", packet, 8)[0])


async def test_strangers_cannot_keep_a_session_over_udp(lab, monkeypatch):
    monkeypatch.setattr(connection_module, "TIMEOUT_S", 0.6)
    client = await lab.client()
    found = await client.set_up("yard", "main", "RTP/AVP;unicast;client_port=43020-43021")
    port = int(found["transport"].partition("server_port=")[2].partition("-")[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(60):
            stranger.sendto(b"x", ("127.0.0.1", port + 1))
            await asyncio.sleep(0.03)
            if not lab.relays.open:
                break
    assert not lab.relays.open


async def test_when_ports_are_out_a_client_is_told_and_tcp_still_goes(lab):
    lab.server._house.ports._even = range(43100, 43103, 2)
    clients = [await lab.client() for _ in range(3)]
    statuses = [(await client.set_up("yard", "main", f"RTP/AVP;unicast;client_port={43200 + 2 * i}-{43201 + 2 * i}")).status
                for i, client in enumerate(clients)]
    assert statuses == [200, 200, 503]
    await still_serves(lab)
    clients[0].writer.close()
    await until(lambda: lab.server._house.ports.taken == 1)


async def test_clients_that_come_and_vanish_leave_nothing(lab):
    rng = random.Random(5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def one():
        client = await lab.client()
        for method in rng.choices(["DESCRIBE", "SETUP", "PLAY", "PAUSE", "TEARDOWN"], k=rng.randint(0, 6)):
            path, headers = ("yard/track-main", {"Transport": "RTP/AVP/TCP"}) if method == "SETUP" else ("yard", {})
            client.write(method, path, **headers)
        await asyncio.sleep(rng.random() / 50)
        client.writer.transport.abort()

    for _ in range(20):
        await asyncio.gather(*(one() for _ in range(25)))
        lab.main.send(5)
    await until(lambda: not connections(lab))
    assert not lab.relays.open
    assert not lab.board.seats[MAIN]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10
    await still_serves(lab)


async def test_the_server_ends_with_goodbyes(stack):
    inner = AsyncExitStack()
    lab = Lab({MAIN: video().entry}, inner)
    Sender(lab.board, MAIN, video()).send(3)
    await lab.start()
    lab._stack = stack
    client, _ = await lab.playing()
    await inner.aclose()
    async with asyncio.timeout(20):
        while not any(packet[1] == 201 for packet in client.packets.get(1, [])):
            await client._one()
    assert await client.closed()
