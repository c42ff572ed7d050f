"""Manners: places in small cameras, many channels of one recorder, a login tried once, complaints said once."""

import logging
import random

import pytest

from recorder.base.clock import SimulatedClock
from recorder.base.errors import SourceError, WrongPassword
from recorder.base.media import NS, GapCause
from recorder.gate import Hosts, Knock
from recorder.repeats import Repeats
from recorder.rtsp import session as playing
from recorder.rtsp.memory import CameraMemory
from recorder.source import RtspSource
from tests.session.fake_camera import FakeCamera, Guard, Request, reply
from tests.session.rig import Rig


def sessions_torn_down(camera: FakeCamera) -> list[tuple[int, str]]:
    """(connection, session) of each TEARDOWN."""
    return [(camera.links.index(r.link), r.headers.get("session", "")) for r in camera.requests if r.method == "TEARDOWN"]


def memory(rig: Rig) -> CameraMemory:
    """What the stream has learnt."""
    source = rig.stream()._source
    assert isinstance(source, RtspSource)
    return source._memory


async def stall_without_goodbye(camera: FakeCamera, rig: Rig) -> None:
    """A session ends whose TEARDOWN nobody answers."""
    camera.answers["TEARDOWN"] = lambda r: None
    rig.record(camera.url, stall_s=0.5, audio=False)
    await rig.recorded()
    camera.links[0].silent = True
    assert (await rig.failed()).cause == GapCause.STALL


async def test_unconfirmed_teardown_is_repeated_on_a_new_connection_before_the_next_session() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        guard = Guard(camera, qop="auth")
        await stall_without_goodbye(camera, rig)
        camera.answers["TEARDOWN"] = lambda r: reply(r, 454) if r.headers.get("authorization") else guard.check(r)
        await rig.until(lambda: any(au["session"] == 2 for au, _ in rig.tape().aus))
        assert sessions_torn_down(camera)[:3] == [(0, camera.session), (1, camera.session), (1, camera.session)]
        assert [r.method for r in camera.links[1].requests] == ["TEARDOWN", "TEARDOWN"], "the second with the login"
        assert camera.methods().index("TEARDOWN") < len(camera.methods()) - 1
        assert memory(rig).leftover is None


async def test_a_channel_that_hangs_up_does_not_keep_the_others_away() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["DESCRIBE"] = lambda r: r.link.writer.close()
        rig.record(camera.url)
        error = await rig.failed()
        assert "closed the connection" in str(error)
        rig.services.gate.hosts.check(Knock(None, f"{camera.host}:{camera.port}", ("", "")))


async def test_a_channel_that_never_answers_its_description_does_not_keep_the_others_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.rtsp.connection.ANSWER_S", 0.2)
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["DESCRIBE"] = lambda r: camera.answer(r) if r.url.endswith("good") else None
        rig.record(camera.url)
        assert "no answer to DESCRIBE" in str(await rig.failed())
        rig.services.gate.hosts.check(Knock(None, f"{camera.host}:{camera.port}", ("", "")))
        rig.record(camera.url + "/good", 2)
        await rig.recorded(number=2)


async def test_channels_that_wait_for_their_turn_at_a_dead_recorder_do_not_all_try_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.rtsp.connection.ANSWER_S", 0.2)
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["OPTIONS"] = lambda r: None
        for number in range(1, 9):
            rig.record(camera.url, number, user="", password="")
        await rig.until(lambda: all(rig.stream(number).failures for number in range(1, 9)))
        assert len(camera.links) < 8


async def test_a_session_is_not_thought_left_over_for_a_day() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.timeout_s = 86_400
        await stall_without_goodbye(camera, rig)
        left = memory(rig).leftover
        assert left is not None and left.until_ns - rig.clock.mono_ns() <= playing.LEFTOVER_MAX_S * NS


async def test_camera_with_few_places_is_left_alone_until_the_lost_session_expires() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        await stall_without_goodbye(camera, rig)
        memory(rig).few_slots = True
        await rig.until(lambda: "last session" in str(rig.stream().error))
        error = rig.stream().error
        assert error is not None and error.cause == GapCause.REFUSED and 30 < error.retry_s <= 65
        assert rig.stream().state == "backoff"


async def test_camera_that_said_it_has_no_room_is_known_to_have_few_places() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["SETUP"] = lambda r: reply(r, 453)
        rig.record(camera.url)
        await rig.failed()
        assert memory(rig).few_slots


async def test_wrong_password_costs_one_try_for_all_channels_of_a_recorder() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        guard = Guard(camera, password="another", fresh_each=True)
        for number in range(1, 9):
            rig.record(f"{camera.url}/{number}", number)
        await rig.until(lambda: all(rig.stream(n).state == "backoff" for n in range(1, 9)))
        errors = [rig.stream(n).error for n in range(1, 9)]
        assert [e is not None and e.cause for e in errors] == [GapCause.AUTH] * 8
        assert sum(bool(sent) for sent in guard.refused) == 1
        assert all(e is not None and 0 < e.retry_s <= 300 for e in errors)


async def test_right_password_lets_all_channels_in() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        Guard(camera, algorithm="SHA-256", qop="auth")
        for number in range(1, 6):
            rig.record(f"{camera.url}/{number}", number)
        for number in range(1, 6):
            await rig.recorded(number=number)


async def test_camera_that_answers_each_request_at_the_last_moment_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.source.HANDSHAKE_S", 0.5)
    async with FakeCamera() as camera, Rig() as rig:
        camera.answers["SETUP"] = lambda r: None
        rig.record(camera.url)
        error = await rig.failed()
        assert error.cause == GapCause.OFFLINE and "begun to play" in str(error)


async def test_failure_that_comes_again_and_again_is_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with FakeCamera() as camera, Rig() as rig:
        def answer(request: Request) -> bytes:
            return reply(request, 454, f"X: {len(camera.requests)}")
        camera.answers["PLAY"] = answer
        rig.record(camera.url)
        await rig.until(lambda: rig.stream().failures.get(GapCause.REFUSED, 0) >= 3)
        assert sum("454" in line for line in caplog.messages) == 1
        assert rig.cameras.status()["cameras"]["cam1"]["failures"]["refused"] >= 3


def test_complaint_is_repeated_after_an_hour_with_its_count() -> None:
    clock = SimulatedClock()
    repeats = Repeats(clock)
    assert repeats.add("no answer within 5 s") == "no answer within 5 s"
    assert [repeats.add(f"no answer within {n} s") for n in range(7)] == [None] * 7
    assert repeats.add("another") == "another"
    clock.advance(3600.0)
    assert repeats.add("no answer within 9 s") == "no answer within 9 s (and 7 times before)"
    assert repeats.add("no answer within 9 s") is None


def test_kinds_of_complaints_are_bounded() -> None:
    repeats = Repeats(SimulatedClock())
    for number in range(1000):
        repeats.add("x" * number)
    assert len(repeats._seen) == 32


KNOCKS = [Knock(f"cam{n}/main", "10.0.0.1:554", ("admin", "x")) for n in range(3)]


def test_silent_address_is_knocked_at_by_one_stream_for_all() -> None:
    clock = SimulatedClock()
    hosts = Hosts(clock, random.Random(1))
    hosts.failed(KNOCKS[0], SourceError("no answer", cause=GapCause.OFFLINE))
    hosts.check(KNOCKS[0])
    hosts.check(Knock("other", "10.0.0.1:555", ("admin", "x")))
    with pytest.raises(SourceError) as barred:
        hosts.check(KNOCKS[1])
    assert barred.value.cause == GapCause.OFFLINE and 0 < barred.value.retry_s <= 1
    for _ in range(20):
        hosts.failed(KNOCKS[0], SourceError("no answer", cause=GapCause.OFFLINE))
    clock.advance(61.0)
    hosts.check(KNOCKS[1])
    hosts.failed(KNOCKS[0], SourceError("no answer", cause=GapCause.OFFLINE))
    hosts.reached(KNOCKS[0])
    hosts.check(KNOCKS[1])


async def test_what_is_known_of_hosts_is_bounded() -> None:
    hosts = Hosts(SimulatedClock(), random.Random(1))
    for number in range(5000):
        knock = Knock(None, f"10.0.0.1:{number}", ("admin", "x"))
        async with hosts.alone(knock):
            kind, cause = (SourceError, GapCause.OFFLINE) if number % 2 else (WrongPassword, GapCause.AUTH)
            hosts.failed(knock, kind("no", cause=cause, retry_s=300))
        hosts.reached(Knock(None, f"10.0.0.2:{number}", ("admin", "x")))
        hosts.failed(Knock(None, f"10.0.0.3:{number}", ("admin", "x")), SourceError("no", cause=GapCause.OFFLINE))
    assert max(len(hosts._silent), len(hosts._refused), len(hosts._proven), len(hosts._unproven)) <= 4097


def test_refused_login_is_barred_to_others_and_another_password_is_not() -> None:
    clock = SimulatedClock()
    hosts = Hosts(clock, random.Random(1))
    hosts.failed(KNOCKS[0], WrongPassword("no", cause=GapCause.AUTH, retry_s=300))
    hosts.check(Knock("cam1/main", "10.0.0.1:554", ("admin", "y")))
    with pytest.raises(SourceError) as barred:
        hosts.check(KNOCKS[1])
    assert barred.value.cause == GapCause.AUTH and barred.value.retry_s == 300
    clock.advance(301.0)
    hosts.check(KNOCKS[1])
    assert "x" not in repr(KNOCKS[0]).replace("main", "")
