"""Readers that are slow, idle, gone or greedy cost the others nothing: limits hold, memory and descriptors come back, all of it is counted."""

import asyncio
import os
import socket
import threading
from contextlib import aclosing, asynccontextmanager

import pytest

from api import cursor as cursor_module
from api import disks, media, sending
from api.clips import CLIPS, STREAMS
from api.cursor import Cursor, CursorQuery, Part
from api.looks import Looks
from api.metrics import Page
from api.problems import Problem
from bench.machine import allow_files
from recorder.base.media import NS

FRAME = 3600
GENEROUS_S = 120


def resident() -> int:
    """Bytes of this process that lie in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def until(condition):
    async with asyncio.timeout(GENEROUS_S):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def heavy(maker, volume, tmp_path):
    """Six seconds of 45 MB, and the answers of a server to them."""
    main = volume.track(1, "main", start_ns=maker.T0)
    aus = tuple(maker.Au(bytes([n % 251]) * 300_000, n * FRAME, n * FRAME, n % 5 == 0) for n in range(150))
    maker.write(main, maker.Stream(maker.video().entry, aus, FRAME))
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as api:
        api.main, api.start_ns = main, maker.T0
        yield api


@asynccontextmanager
async def asked(api, path, *, room=4096):
    """A connection whose client has asked for something of the camera, and takes what it likes; its socket holds `room` bytes."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", api.client.server.port))
    await loop.sock_sendall(sock, f"GET /api/v1/cameras/yard/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    try:
        yield sock
    finally:
        sock.close()


def clip_of(api):
    return f"clip.mp4?start={api.start_ns}&end={api.start_ns + 6 * NS}"


async def test_eight_clips_that_take_one_byte_now_and_then_hold_nobody_and_little_memory(heavy):
    """360 MB are asked for and nothing of it is taken: each may hold a piece or two. The ninth clip is refused, everything else goes on."""
    loop = asyncio.get_running_loop()
    before = resident()
    async with _several(heavy, 8) as slow:
        await until(lambda: heavy.app[CLIPS].running == 8)
        for _ in range(3):
            assert all([len(await loop.sock_recv(sock, 1)) == 1 for sock in slow])
            answer, _ = await heavy.get("stream.mp4", start=heavy.start_ns + 5 * NS, speed=64, method="HEAD")
            assert answer.status in {200, 405}
            ninth, _ = await heavy.get("clip.mp4", start=heavy.start_ns, end=heavy.start_ns + NS)
            assert (ninth.status, ninth.headers["Retry-After"]) == (429, "5")
            index, _ = await heavy.get("sheet.json", start=heavy.start_ns, end=heavy.start_ns + NS)
            assert index.status == 200
        assert resident() - before < 64 << 20
    await until(lambda: heavy.app[CLIPS].running == 0)
    assert heavy.app[CLIPS].refused == 3
    whole, body = await heavy.get(clip_of(heavy))
    assert (whole.status, len(body) > 45_000_000) == (200, True)


@asynccontextmanager
async def _several(api, count):
    held = [asked(api, clip_of(api)) for _ in range(count)]
    socks = [await one.__aenter__() for one in held]
    try:
        yield socks
    finally:
        for one in held:
            await one.__aexit__(None, None, None)


async def test_a_client_that_does_not_read_is_cut_and_counted(heavy, monkeypatch):
    monkeypatch.setattr(sending, "SLOW_S", 0.2)
    monkeypatch.setattr(sending, "ALIVE_S", 0.05)
    async with asked(heavy, clip_of(heavy)):
        await until(lambda: heavy.media.counts.slow_closed == 1)
        await until(lambda: heavy.app[CLIPS].running == 0)


@pytest.mark.parametrize("rounds", [5, pytest.param(17, marks=pytest.mark.soak)])
async def test_viewers_that_vanish_leave_nothing_behind(heavy, rounds):
    """Thirty (a hundred) are gone in the middle of an answer, without a word: leases, slots and descriptors come back."""
    await heavy.get("clip.mp4", start=heavy.start_ns, end=heavy.start_ns + NS)
    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(rounds):
        async with _several(heavy, 6) as socks:
            await until(lambda: heavy.app[CLIPS].running == 6)
            for sock in socks:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")     # a reset, not a farewell
        await until(lambda: heavy.app[CLIPS].running == 0)
    await until(lambda: len(os.listdir("/proc/self/fd")) <= open_before)
    assert all(disk.waiting == 0 for _, disk in heavy.media.cold.items())


@pytest.mark.parametrize("viewers", [100, pytest.param(500, marks=pytest.mark.soak)])
async def test_idle_viewers_cost_little(heavy, viewers):
    """They have asked for a stream of 60 Mbit/s and read nothing of it."""
    assert allow_files(4096) >= 4096
    before = resident()
    heavy.app[STREAMS]._per_holder = viewers
    held = [asked(heavy, f"stream.mp4?start={heavy.start_ns}") for _ in range(viewers)]
    for one in held:
        await one.__aenter__()
    await until(lambda: heavy.app[STREAMS].running == viewers)
    answer, body = await heavy.get("clip.mp4", start=heavy.start_ns + NS, end=heavy.start_ns + 2 * NS)
    assert (answer.status, len(body) > 7_000_000) == (200, True)
    assert resident() - before < (64 + viewers) << 20         # a piece in hand, one on its way, and what the transport joins
    for one in held:
        await one.__aexit__(None, None, None)
    await until(lambda: heavy.app[STREAMS].running == 0)


async def test_a_month_is_refused_or_answered_and_the_others_go_on(heavy):
    month = {"start": heavy.start_ns - 30 * 86_400 * NS, "end": heavy.start_ns + 86_400 * NS}
    asking = [heavy.get(path, **month) for path in ("clip.mp4", "hls/vod.m3u8", "sheet.json")]
    asking += [heavy.get("clip.mp4", start=heavy.start_ns, end=heavy.start_ns + NS)]
    statuses = [answer.status for answer, _ in await asyncio.gather(*asking)]
    assert statuses == [400, 200, 200, 200]


async def test_a_reader_who_has_said_nothing_yet_is_refused_while_the_disk_is_full(heavy, monkeypatch):
    monkeypatch.setattr(disks, "WAITING_MAX", 0)
    answer, _ = await heavy.get("clip.mp4", start=heavy.start_ns, end=heavy.start_ns + NS)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    monkeypatch.undo()
    answer, _ = await heavy.get("clip.mp4", start=heavy.start_ns, end=heavy.start_ns + NS)
    assert answer.status == 200
    page = Page()
    media._families(page, heavy.app)
    text = page.text()
    assert 'watchroom_media_refused_total{full="disk"} 1' in text
    assert 'watchroom_media_cold_reads_waiting{volume="0"} 0' in text


async def test_a_look_that_hangs_is_answered_for_and_others_use_the_other_thread(heavy):
    looks, hang = Looks(heavy.media.open_store, answer_s=0.1), threading.Event()
    with pytest.raises(Problem) as caught:
        await looks.run(lambda store: hang.wait(GENEROUS_S))
    assert (caught.value.status, looks.refused) == (503, 1)
    looks._answer_s = GENEROUS_S
    assert await looks.run(lambda store: store.cameras()) == (1,)
    hang.set()
    await asyncio.get_running_loop().run_in_executor(None, looks.close)


async def test_a_live_viewer_who_is_late_twice_gets_key_pictures_only_and_later_all_again(maker, volume, tmp_path, monkeypatch):
    monkeypatch.setattr(cursor_module, "LOOK_AGAIN_S", 0.0)
    main = volume.track(1, "main", start_ns=maker.T0)
    content = maker.video(frames=150)
    async with maker.Api(volume, tmp_path, maker.T0 + 3600 * NS) as api:
        maker.write(main, content)
        counts = api.media.counts
        cursor = Cursor(api.media, CursorQuery(1))
        async with aclosing(cursor.events()) as events:
            async def newest():
                """Take what comes up to the newest picture."""
                async with asyncio.timeout(GENEROUS_S):
                    while True:
                        event = await anext(events)
                        if isinstance(event, Part) and event.newest_ns > main.next_ns - 2 * NS:
                            return

            await newest()
            for times in (1, 2):
                for _ in range(4):
                    maker.write(main, content)
                await newest()
                assert (counts.viewers_late, counts.viewers_keyed) == (times, times - 1)
            assert cursor._keys
            monkeypatch.setattr(cursor, "_slow_until_s", 0.0)
            maker.write(main, content)
            await newest()
            maker.write(main, content)
            await newest()
            assert not cursor._keys

