"""WHEP with an edge that the test feeds: what a viewer gets, what it may ask for, and what it cannot do to others."""

import asyncio
import random
import struct
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import pytest

from api import keys
from api.whep.desk import WHEP, WhepDesk
from api.whep.viewer import AGAIN_BYTES, NACK_BURST
from recorder.base.media import SampleEntry
from recorder.webrtc.offer import SIZE_MAX
from tests.api.watching import AVC, HEVC, OPUS, SETS, STEP, FakeBoard, Watcher, furnish, units_of

SDP = {"Content-Type": "application/sdp"}


@pytest.fixture
def board(catalogue) -> FakeBoard:
    return FakeBoard({(catalogue.camera("north").number, "main"): AVC})


@pytest.fixture
def north(catalogue) -> int:
    return catalogue.camera("north").number


@pytest.fixture
async def desk(api, board) -> AsyncIterator[WhepDesk]:
    yield furnish(api.served.app, board)


@pytest.fixture
async def watchers() -> AsyncIterator[list[Watcher]]:
    made: list[Watcher] = []
    yield made
    for one in made:
        one.close()


async def until(what: Callable[[], Any]) -> None:
    """Waits for something that is on its way over loopback."""
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.002)


async def watch(api, watchers, *, token="", camera="north", query="", **more) -> tuple[Watcher, Any]:
    """A viewer that is connected, and the answer to its POST."""
    watcher = Watcher(**more)
    watchers.append(watcher)
    headers = SDP | ({} if token else {"Origin": api.origin})
    reply = await api.ask("POST", f"cameras/{camera}/whep{query}", token=token, headers=headers, data=watcher.offer())
    assert reply.status == 201, reply.body
    await watcher.connect(reply.body)
    return watcher, reply


async def post(api, body=None, camera="north", **more):
    return await api.ask("POST", f"cameras/{camera}/whep", headers={"Origin": api.origin, **SDP, **more.pop("headers", {})},
                         data=Watcher().offer() if body is None else body, **more)


def sequences(packets) -> list[int]:
    return [int.from_bytes(packet[2:4]) for packet in packets]


def stamps(packets) -> list[int]:
    return [stamp for stamp, _ in units_of(packets)]


async def test_a_viewer_begins_with_the_picture_group_and_gets_what_comes(api, board, desk, north, watchers):
    board.push(north, count=10, key=True)
    watcher, reply = await watch(api, watchers)
    await until(lambda: len(units_of(watcher.pictures())) == 10)
    for _ in range(5):
        board.push(north)
    await until(lambda: len(units_of(watcher.pictures())) == 15)
    units = units_of(watcher.pictures())
    assert [nals[-1][1:5] for _, nals in units] == [n.to_bytes(4) for n in range(1, 16)]
    assert units[0][1][:2] == list(SETS)                                        # which the camera does not send in band
    times = [stamp for stamp, _ in units]
    assert [(b - a) & 0xFFFFFFFF for a, b in pairwise(times)] == [1] * 9 + [STEP] * 5
    numbers = sequences(watcher.pictures())
    assert numbers == [(numbers[0] + n) % 65536 for n in range(len(numbers))]
    assert reply.headers["Location"].startswith("/api/v1/cameras/north/whep/") and reply.headers["ETag"]
    assert reply.headers["Content-Type"].startswith("application/sdp")


@pytest.mark.parametrize(("bind", "told"), [("::1", "::1"), ("::", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1")])
async def test_the_port_speaks_ipv6_and_ipv4(api, board, north, watchers, bind, told):
    """Bound to every address, it tells the one that the request came to."""
    desk = furnish(api.served.app, board, bind=bind)
    board.push(north, count=3, key=True, size=20_000)
    watcher, _ = await watch(api, watchers)
    assert watcher.address == (told, desk.config.port)
    board.push(north)
    await until(lambda: len(units_of(watcher.pictures())) == 4)


async def test_configured_addresses_are_told_instead(api, board, north):
    furnish(api.served.app, board, ice_addresses=("203.0.113.7", "2001:db8::7"))
    board.push(north, key=True)
    answer = (await post(api)).body.decode()
    assert [line.split()[4] for line in answer.splitlines() if line.startswith("a=candidate")] == ["203.0.113.7", "2001:db8::7"]


async def test_viewers_share_one_hub_and_have_numbers_of_their_own(api, board, desk, north, watchers):
    board.push(north, count=3, key=True)
    first, _ = await watch(api, watchers)
    second, _ = await watch(api, watchers, rtx=False)
    board.push(north, count=4)
    await until(lambda: len(units_of(first.pictures())) == 7 and len(units_of(second.pictures())) == 7)
    assert len(desk.hubs) == 1 and len(board.seats[north, "main"]) == 1
    assert [packet[12:] for packet in first.pictures()] == [packet[12:] for packet in second.pictures()]
    assert first.ssrc != second.ssrc


async def test_sound_goes_along_as_opus(api, board, desk, north, watchers):
    board.tracks[north, "audio"] = OPUS
    board.push(north, count=2, key=True)
    board.push(north, "audio", count=40)
    watcher, _ = await watch(api, watchers, audio=True)
    await until(lambda: len(watcher.came) == 2)
    board.push(north, "audio", count=3)
    await until(lambda: sum(map(len, watcher.came.values())) > len(watcher.pictures()) + 3)
    sound = next(packets for ssrc, packets in watcher.came.items() if ssrc != watcher.ssrc)
    assert {packet[1] & 127 for packet in sound} == {111}
    assert len(sound) == 4                    # the newest at the start, then what came
    assert [b - a for a, b in pairwise(stamps_raw(sound))] == [48_000 // 25] * 3


def stamps_raw(packets) -> list[int]:
    return [int.from_bytes(packet[4:8]) for packet in packets]


async def test_sender_reports_say_which_utc_a_picture_is_of(api, board, desk, north, watchers, clock):
    board.push(north, count=2, key=True)
    watcher, _ = await watch(api, watchers)
    await until(watcher.pictures)
    clock.advance(2.0)
    newest = board.push(north)[0]
    desk.viewers[0].look()
    await until(lambda: watcher._utc)
    await until(lambda: len(units_of(watcher.pictures())) == 3)
    timestamp, utc_ns = watcher._utc
    assert timestamp == units_of(watcher.pictures())[-1][0]
    assert abs(utc_ns - newest.wall_ns) < 1000


@pytest.mark.parametrize("rtx", [True, False])
async def test_three_percent_that_are_lost_come_again(api, board, desk, north, watchers, rtx):
    rng = random.Random(3)
    board.push(north, key=True)
    watcher, _ = await watch(api, watchers, rtx=rtx)
    await until(watcher.pictures)
    watcher.lose = lambda _: rng.random() < 0.03
    for _ in range(80):
        board.push(north, size=12_000)
        await asyncio.sleep(0)
    await until(lambda: (watcher.highest - watcher.base + 1) >= desk.viewers[0].figures()["packets"])
    watcher.lose = lambda _: False
    lost = list(watcher.lost)
    assert len(lost) > 10
    watcher.nack(lost)
    if rtx:
        await until(lambda: len(watcher.repaired()) == len(lost))
    else:
        await until(lambda: set(lost) <= set(sequences(watcher.pictures())))
    whole = {int.from_bytes(packet[2:4]): packet for packet in [*watcher.repaired(), *watcher.pictures()]}
    ordered = [whole[(watcher.base + n) % 65536] for n in range(watcher.highest - watcher.base + 1)]
    units = units_of(ordered)
    assert [nals[-1][1:5] for _, nals in units] == [n.to_bytes(4) for n in range(1, 82)]
    assert all(len(nals[-1]) == 12_000 for _, nals in units[1:])
    assert desk.viewers[0].told.repaired == len(lost)


async def test_a_flood_of_nacks_is_answered_up_to_its_measure(api, board, desk, north, watchers):
    board.push(north, key=True)
    watcher, _ = await watch(api, watchers)
    await until(watcher.pictures)
    other, _ = await watch(api, watchers)
    some = sequences(watcher.pictures())
    for _ in range(200):
        watcher.nack(some * 20)
    await until(lambda: desk.viewers[0].told.nacked >= 200 * 20 * len(some))
    assert desk.viewers[0].told.repaired == NACK_BURST
    board.push(north, count=3)
    await until(lambda: len(units_of(other.pictures())) == 4)


async def test_who_wants_a_key_picture_gets_the_group_again_with_rising_times(api, board, desk, north, watchers, clock):
    board.push(north, count=5, key=True)
    watcher, _ = await watch(api, watchers)
    await until(lambda: len(units_of(watcher.pictures())) == 5)
    board.push(north)
    await until(lambda: len(units_of(watcher.pictures())) == 6)
    watcher.want_key()
    await until(lambda: len(units_of(watcher.pictures())) == 12)
    board.push(north)
    await until(lambda: len(units_of(watcher.pictures())) == 13)
    units = units_of(watcher.pictures())
    assert [int.from_bytes(nals[-1][1:5]) for _, nals in units] == [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 7]
    steps = [(b - a) & 0xFFFFFFFF for (a, _), (b, _) in pairwise(units)]
    assert all(0 < step <= STEP for step in steps)
    assert sum(steps[5:]) == STEP                   # 7 comes at its own time


async def test_a_flood_of_pli_costs_little_and_nobody_else(api, board, desk, north, watchers, clock):
    board.push(north, count=10, key=True, size=100_000)
    watcher, _ = await watch(api, watchers)
    other, _ = await watch(api, watchers)
    await until(lambda: len(units_of(watcher.pictures())) == 10 and len(units_of(other.pictures())) == 10)
    before = desk._egress.bytes
    for turn in range(40):
        for _ in range(20):
            watcher.want_key()
        clock.advance(0.3)
        await until(lambda turn=turn: desk.viewers[0].told.plis == 20 * (turn + 1))
        await until(lambda: not desk.hubs[north, "main"]._behind)
    assert desk.viewers[0].told.restarts >= 2
    assert desk._egress.bytes - before < 1.2 * (AGAIN_BYTES + 2_000_000)
    board.push(north)
    await until(lambda: len(units_of(other.pictures())) == 11)


async def test_a_viewer_that_floods_rtcp_is_heard_so_often_a_second(api, board, desk, north, watchers):
    board.push(north, key=True)
    watcher, _ = await watch(api, watchers)
    other, _ = await watch(api, watchers)
    await until(lambda: watcher.pictures() and other.pictures())
    for _ in range(40):
        for _ in range(50):
            watcher.report_lost(0.0)
        await asyncio.sleep(0)
    await until(lambda: desk.mux.counts.flood >= 500)
    board.push(north)
    await until(lambda: len(units_of(other.pictures())) == 2)
    desk.mux._look()
    heard = desk.mux.counts.rtcp
    watcher.report_lost(0.0)
    await until(lambda: desk.mux.counts.rtcp > heard)


async def test_a_sub_track_that_cannot_be_sent_any_more_is_left_for_main(api, board, desk, north, watchers):
    board.tracks[north, "sub"] = AVC
    board.push(north, "sub", count=2, key=True)
    board.push(north, count=3, key=True)
    watcher, _ = await watch(api, watchers, query="?small=1")
    await until(lambda: len(units_of(watcher.pictures())) == 2)
    board.push(north, "sub", key=True, cts=STEP)
    await until(lambda: desk.viewers[0].figures()["track"] == "main")
    await until(lambda: len(units_of(watcher.pictures())) == 5)
    assert not watcher.ended


async def test_congestion_leads_to_key_pictures_then_to_the_sub_track_and_back(api, board, desk, north, watchers, clock):
    board.tracks[north, "sub"] = AVC
    board.push(north, count=2, key=True)
    board.push(north, "sub", count=2, key=True)
    watcher, reply = await watch(api, watchers)
    await until(lambda: len(units_of(watcher.pictures())) == 2)
    told = desk.viewers[0].told

    async def report(share, seconds, step=1.0):
        for _ in range(int(seconds / step)):
            clock.advance(step)
            before = desk.mux.counts.rtcp
            watcher.report_lost(share)
            await until(lambda before=before: desk.mux.counts.rtcp > before)
            desk.viewers[0].look()

    async def seen():
        reply_ = await api.get(reply.headers["Location"])
        return reply_.json["track"], reply_.json["pictures"]

    assert await seen() == ("main", "all")
    await report(0.3, 6)
    assert await seen() == ("main", "key")
    units = len(units_of(watcher.pictures()))
    board.push(north)
    board.push(north, key=True)
    await until(lambda: len(units_of(watcher.pictures())) == units + 1)
    await report(0.3, 6)
    assert await seen() == ("sub", "all")
    await until(lambda: len(units_of(watcher.pictures())) == units + 3)
    board.push(north, "sub")
    await until(lambda: len(units_of(watcher.pictures())) == units + 4)
    await report(0.0, 60)
    assert await seen() == ("main", "all")
    board.push(north)
    await until(lambda: len(units_of(watcher.pictures())) >= units + 5)
    times = stamps(watcher.pictures())
    assert all(0 < (b - a) & 0xFFFFFFFF < 1 << 31 for a, b in pairwise(times))
    numbers = sequences(watcher.pictures())
    assert numbers == [(numbers[0] + n) % 65536 for n in range(len(numbers))]
    assert told.lost == 0.0


async def test_small_takes_the_sub_track(api, board, desk, north, watchers):
    board.tracks[north, "sub"] = AVC
    board.push(north, "sub", count=2, key=True)
    board.push(north, count=4, key=True)
    watcher, _ = await watch(api, watchers, query="?small=1")
    await until(lambda: len(units_of(watcher.pictures())) == 2)
    assert desk.viewers[0].figures()["track"] == "sub"


async def test_an_h265_main_gives_way_to_an_h264_sub(api, board, desk, north, watchers):
    board.tracks |= {(north, "main"): HEVC, (north, "sub"): AVC}
    board.push(north, "sub", count=2, key=True)
    watcher, _ = await watch(api, watchers)
    await until(lambda: len(units_of(watcher.pictures())) == 2)


async def test_h265_is_refused_with_the_reason_and_other_ways(api, board, desk, north):
    board.tracks[north, "main"] = HEVC
    reply = await post(api)
    assert reply.status == 406 and "H.265" in reply.json["detail"]
    assert reply.json["ways"] == {"websocket": "/api/v1/live", "hls": "/api/v1/cameras/north/hls/live.m3u8"}


async def test_b_frames_are_refused_with_the_reason(api, board, desk, north):
    board.push(north, key=True, cts=STEP)
    reply = await post(api)
    assert reply.status == 406 and "B-frames" in reply.json["detail"] and "hls" in reply.json["ways"]
    assert desk.viewers == [] and not desk._holders


async def test_a_camera_that_begins_to_send_b_frames_ends_its_sessions_with_the_reason(api, board, desk, north, watchers):
    board.push(north, key=True)
    watcher, reply = await watch(api, watchers)
    await until(watcher.pictures)
    board.push(north, key=True, cts=STEP)
    await until(lambda: watcher.ended)
    told = (await api.get(reply.headers["Location"])).json
    assert told["state"] == "ended" and "B-frames" in told["reason"]


async def test_a_defect_of_the_hub_ends_its_sessions_with_a_word_and_the_next_one_works(api, board, desk, north, watchers, monkeypatch, caplog):
    board.push(north, key=True)
    watcher, reply = await watch(api, watchers)
    await until(watcher.pictures)
    with monkeypatch.context() as broken:
        broken.setattr("api.whep.hub.Hub._take", lambda *_: 1 / 0)
        board.push(north)
    await until(lambda: watcher.ended)
    assert "error of the server" in (await api.get(reply.headers["Location"])).json["reason"]
    assert "ZeroDivisionError" in caplog.text
    again, _ = await watch(api, watchers)
    await until(again.pictures)


async def test_sound_that_fits_no_packet_is_left_out(api, board, desk, north, watchers):
    board.tracks[north, "audio"] = OPUS
    board.push(north, count=2, key=True)
    board.push(north, "audio")
    watcher, _ = await watch(api, watchers, audio=True)
    await until(lambda: len(watcher.came) == 2)
    for seat in board.seats[north, "audio"]:
        unit = board._unit((north, "audio"), False, 100, 0)
        unit.data = bytes(3000)
        seat.take([unit])
    board.push(north, "audio", count=2)
    await until(lambda: len(next(packets for ssrc, packets in watcher.came.items() if ssrc != watcher.ssrc)) == 3)


async def test_nothing_recorded_is_not_found(api, board, desk):
    reply = await post(api, camera="yard")
    assert reply.status == 404


@pytest.mark.parametrize(("body", "headers", "status"), [
    (b"nonsense", {}, 400), (b"v=0\r\n", {}, 400), (b"v=0\r\n" + b"x" * SIZE_MAX, {}, 413), (b"", {"Content-Type": "application/json"}, 415),
    (Watcher.offer, {}, 201),
])
async def test_what_is_no_offer_is_refused(api, board, desk, north, body, headers, status):
    board.push(north, key=True)
    reply = await post(api, Watcher().offer() if callable(body) else body, headers=headers)
    assert reply.status == status
    assert len(desk.viewers) == int(status == 201)


@pytest.mark.parametrize(("old", "new", "status"), [(b"H264", b"VP8", 406), (b"a=rtcp-mux", b"a=nothing", 406), (b"recvonly", b"sendonly", 406),
                                                    (b"a=ice-pwd", b"a=i", 400),
                                                    (b"a=fingerprint:sha-256", b"a=f:", 400), (b"sha-256", b"sha-1", 400)])
async def test_an_offer_that_lacks_something_is_refused(api, board, desk, north, old, new, status):
    board.push(north, key=True)
    reply = await post(api, Watcher().offer().replace(old, new))
    assert reply.status == status, reply.body
    assert desk.viewers == [] and not desk._holders


async def test_delete_ends_a_session_with_goodbye(api, board, desk, north, watchers):
    board.push(north, key=True)
    watcher, reply = await watch(api, watchers)
    await until(watcher.pictures)
    here = reply.headers["Location"]
    assert (await api.ask("DELETE", here, headers={"Origin": api.origin})).status == 200
    await until(lambda: watcher.ended)
    told = (await api.get(here)).json
    assert (told["state"], told["reason"]) == ("ended", "its viewer has ended it")
    assert desk.viewers == []
    desk._tidy()
    assert desk.hubs == {} and board.seats[north, "main"] == []
    assert (await api.ask("DELETE", here, headers={"Origin": api.origin})).status == 200
    assert (await api.ask("DELETE", here[:-1] + ("0" if here[-1] != "0" else "1"), headers={"Origin": api.origin})).status == 404


async def test_trickled_candidates_are_taken_and_a_restart_is_refused(api, board, desk, north, watchers):
    board.push(north, key=True)
    watcher, reply = await watch(api, watchers)
    fragment = f"a=ice-ufrag:{watcher.ufrag}\r\na=ice-pwd:{watcher.password}\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n"
    head = {"Content-Type": "application/trickle-ice-sdpfrag", "Origin": api.origin}

    async def patch(text, **more):
        return (await api.ask("PATCH", reply.headers["Location"], headers=head | more, data=text.encode())).status

    assert await patch(fragment) == 204
    assert await patch(fragment, **{"If-Match": reply.headers["ETag"]}) == 204
    assert await patch(fragment, **{"If-Match": '"other"'}) == 412
    assert await patch(fragment, **{"If-Match": "*"}) == 422
    assert await patch(fragment.replace(watcher.ufrag, "another1")) == 422
    assert await patch(fragment, **{"Content-Type": "text/plain"}) == 415


async def test_a_token_sees_its_own_sessions_and_ends_with_them(proxied, board, north, watchers):
    desk = furnish(proxied.served.app, board)
    board.push(north, key=True)
    mine, other, none = await proxied.token("view"), await proxied.token("view"), await proxied.token("metrics")
    watcher, reply = await watch(proxied, watchers, token=mine)
    await until(watcher.pictures)
    here = reply.headers["Location"]
    assert (await proxied.get(here, token=other)).status == 404
    assert (await proxied.get(here, token=mine)).status == 200
    assert (await proxied.ask("DELETE", here, token=other)).status == 404
    assert (await proxied.ask("POST", "cameras/north/whep", token=none, headers=SDP, data=Watcher().offer())).status == 403
    proxied.catalogue.revoke_token(desk.viewers[0].grant.token.number)
    await proxied.refresh()
    async with asyncio.timeout(5):              # what is promised, by the desk's own beat
        while not watcher.ended:
            await asyncio.sleep(0.01)
    assert desk.viewers == []


async def test_a_token_has_so_many_sessions(api, board, north, watchers):
    desk = furnish(api.served.app, board, per_token=2)
    board.push(north, key=True)
    assert [(await post(api)).status for _ in range(3)] == [201, 201, 429]
    desk.end(desk.viewers[0], "gone")
    assert (await post(api)).status == 201


async def test_without_a_port_it_is_said_so(api):
    reply = await post(api)
    assert reply.status == 501 and "webrtc.port" in reply.json["detail"]


async def test_who_comes_from_elsewhere_is_told_that_the_port_is_bound_to_loopback(proxied, board, north):
    """Its candidates would lead nowhere, and the browser would wait for them."""
    furnish(proxied.served.app, board)
    board.push(north, key=True)
    head = SDP | {"X-Forwarded-For": "203.0.113.9"}
    token = await proxied.token("view")
    reply = await proxied.ask("POST", "cameras/north/whep", token=token, headers=head, data=Watcher().offer())
    assert reply.status == 501 and "webrtc.bind" in reply.json["detail"]


async def test_sessions_that_never_connect_are_bounded_and_given_up(api, board, desk, north, watchers, clock):
    """400 offers: 256 sessions of the holder are kept for 15 s, the rest is refused; who watches does not notice."""
    board.push(north, key=True)
    watcher, _ = await watch(api, watchers)
    offer = Watcher().offer()
    statuses = [(await post(api, offer)).status for _ in range(400)]
    assert statuses == [201] * 255 + [429] * 145
    board.push(north)
    await until(lambda: len(units_of(watcher.pictures())) == 2)
    watcher.send(watcher.check())
    clock.advance(16)
    desk.mux._look()
    assert len(desk.viewers) == 1 and len(desk.mux) == 1
    assert (await post(api, offer)).status == 201


async def test_a_port_that_is_taken_stops_nothing_else(api, board, desk, start, caplog):
    other = await start()
    furnish(other.served.app, board, port=desk.config.port)
    assert "no WebRTC" in caplog.text
    assert (await post(other)).status == 503
    assert (await other.get("cameras")).status == 200


async def test_a_viewer_that_vanishes_is_given_up_and_the_others_go_on(api, board, desk, north, watchers, clock):
    board.push(north, key=True)
    gone, _ = await watch(api, watchers)
    stays, _ = await watch(api, watchers)
    await until(lambda: gone.pictures() and stays.pictures())
    gone.close()
    clock.advance(29)
    before = desk.mux.counts.stun
    stays.send(stays.check())
    await until(lambda: desk.mux.counts.stun > before)
    clock.advance(2)
    desk.mux._look()
    assert len(desk.viewers) == 1
    board.push(north, count=5)
    await until(lambda: len(units_of(stays.pictures())) == 6)
    assert not stays.ended


async def test_figures_are_told(api, board, desk, north, watchers):
    board.push(north, key=True)
    watcher, _ = await watch(api, watchers)
    await until(watcher.pictures)
    text = (await api.get("/metrics")).body.decode()
    assert 'watchroom_whep_sessions{state="playing"} 1' in text
    packets = desk.viewers[0].figures()["packets"]
    assert f"watchroom_whep_packets_total {packets}" in text
    desk.end(desk.viewers[0], "x")
    text = (await api.get("/metrics")).body.decode()
    assert f"watchroom_whep_packets_total {packets}" in text and 'watchroom_whep_sessions{state="playing"} 0' in text


async def test_a_group_without_end_is_not_kept(api, board, desk, north, watchers):
    """A camera that sends a key picture a day: memory stays bounded; who comes then waits for the next."""
    board.push(north, key=True)
    watcher, _ = await watch(api, watchers)
    await until(watcher.pictures)
    board.groups.clear()
    hub = desk.hubs[north, "main"]
    for _ in range(60):
        board.push(north, count=30, size=1000)
        await asyncio.sleep(0)
    assert hub._group == [] and sum(packets.count for packets in hub._kept) < 5000
    late, _ = await watch(api, watchers)
    board.push(north, count=2)
    board.push(north, key=True)
    await until(late.pictures)
    assert late.pictures()[0][12] & 31 in {24, 28, 7}
    assert struct.unpack(">H", late.pictures()[0][2:4])
    assert api.served.app[WHEP] is desk


async def test_sound_that_is_coded_otherwise_ends_the_session_instead_of_being_sent_as_what_it_is_not(api, board, desk, north, watchers):
    """A-law bytes that are played as mu-law are noise, as loud as can be."""
    board.tracks[north, "audio"] = SampleEntry("ulaw", b"", 8000, channels=1, sample_rate=8000)
    board.push(north, count=2, key=True)
    board.push(north, "audio", count=2)
    watcher, reply = await watch(api, watchers, audio=True)
    await until(lambda: len(watcher.came) == 2)
    sound = next(packets for ssrc, packets in watcher.came.items() if ssrc != watcher.ssrc)
    board.tracks[north, "audio"] = SampleEntry("alaw", b"", 8000, channels=1, sample_rate=8000)
    board.push(north, "audio", count=2)
    await until(lambda: watcher.ended)
    assert len(sound) == 1
    assert "sound" in (await api.get(reply.headers["Location"])).json["reason"]
    board.push(north, "audio", count=2)
    again, _ = await watch(api, watchers, audio=True)
    await until(lambda: len(again.came) == 2)
    assert {packet[1] & 127 for ssrc, packets in again.came.items() if ssrc != again.ssrc for packet in packets} == {8}


async def test_a_camera_that_is_removed_ends_its_sessions(api, board, desk, north, watchers, catalogue):
    board.push(north, count=2, key=True)
    watcher, _ = await watch(api, watchers)
    await until(watcher.pictures)
    registry = api.served.app[keys.REGISTRY]
    registry.replace([camera for camera in registry.cameras() if camera.id != "north"], registry.tokens())
    await until(lambda: watcher.ended)
    assert desk.ends["there is no such camera"] == 1
