"""The supervisor keeps its children, tells workers their cameras, and refuses to start where it must not."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from recorder.base.clock import SystemClock
from recorder.base.control import ControlClient
from recorder.base.errors import ConfigError, Conflict, NotFound, Refused, VolumeError
from recorder.order import Order
from recorder.supervisor import Supervisor
from storage.volume import Volume
from tests.supervisor.conftest import Place

CAMERA = """
[[camera]]
id = "north-road"
main = { url = "rtsp://10.0.0.1/1" }
user = "u"
password_file = "pw"
"""


class Server:
    """A running supervisor as a test sees it."""

    def __init__(self, place: Place, supervisor: Supervisor) -> None:
        self.place = place
        self.supervisor = supervisor

    def notes(self, *what: str) -> list[list[Any]]:
        """What the stand-ins wrote down: [name, pid, word, ...]."""
        log = self.place.folder / "log"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [line for line in lines if not what or line[2] in what]

    async def until(self, true: Callable[[], Any]) -> None:
        async with asyncio.timeout(120):
            while not true():
                await asyncio.sleep(0.02)

    async def call(self, call: str, **args: Any) -> Any:
        return await ControlClient(self.place.site().supervisor_socket).call(call, args)


@asynccontextmanager
async def serving(place: Place) -> AsyncIterator[Server]:
    supervisor = Supervisor(place.site(), SystemClock(), command=place.command)
    task = asyncio.create_task(supervisor.run())
    server = Server(place, supervisor)
    try:
        await server.until(lambda: task.done() or len(server.notes("up")) >= 2)
        if task.done():
            await task
        yield server
    finally:
        supervisor.stop()
        await asyncio.gather(task, return_exceptions=True)


def with_camera(place: Place) -> None:
    (place.folder / "pw").write_text("s3cret")
    place.write(CAMERA)


async def test_a_killed_worker_is_back_and_told_its_cameras_again(place: Place) -> None:
    with_camera(place)
    async with serving(place) as server:
        for round_ in (1, 2, 3):
            await server.until(lambda round_=round_: len(server.notes("camera.start")) == round_)
            name, pid, _, args = server.notes("camera.start")[-1]
            assert (name, args["number"], args["camera"]["password"]) == ("worker-0", 1, "s3cret")
            assert args["at_once"] is (round_ > 1), "after a death its cameras do not wait for a turn"
            os.kill(pid, signal.SIGKILL)
        await server.until(lambda: len(server.notes("camera.start")) == 4)
        state = (await server.call("status"))["processes"][0]
        assert (state["restarts"], state["last_end"]) == (3, "SIGKILL")
        assert len([note for note in server.notes("up") if note[0] == "api"]) == 1


async def test_a_dead_api_leaves_the_worker_alone(place: Place) -> None:
    async with serving(place) as server:
        api = next(note for note in server.notes("up") if note[0] == "api")
        os.kill(api[1], signal.SIGKILL)
        await server.until(lambda: len(server.notes("up")) == 3)
        assert [note[0] for note in server.notes("up")].count("worker-0") == 1


async def test_the_api_ends_before_the_workers(place: Place) -> None:
    async with serving(place) as server:
        pass
    assert [note[0] for note in server.notes("down")] == ["api", "worker-0"]


async def test_a_child_that_will_not_end_is_killed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.supervisor.API_GRACE_S", 0.2)
    (place.folder / "stubborn").touch()
    async with serving(place) as server:
        pids = [note[1] for note in server.notes("up")]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_camera_added_while_it_runs_is_started_changed_and_stopped(place: Place) -> None:
    async with serving(place) as server:
        added = await server.call("camera.add", id="gate", main={"url": "rtsp://10.0.0.9/1"}, user="u", password="old")
        assert (added["number"], added["owner"], added["slot"]) == (1, "api", 0)
        assert "password" not in added
        await server.call("camera.change", id="gate", changes={"password": "new"})
        await server.call("camera.change", id="gate", changes={"enabled": False})
        await server.call("camera.change", id="gate", changes={"enabled": True})
        await server.call("camera.remove", id="gate")
        calls = server.notes("camera.start", "camera.stop")
        assert [call[2] for call in calls] == ["camera.start", "camera.stop"] * 3
        assert [call[3]["removed"] for call in calls if call[2] == "camera.stop"] == [False, False, True]
        assert [call[3]["camera"]["password"] for call in calls if call[2] == "camera.start"] == ["old", "new", "new"]
        again = await server.call("camera.add", id="gate", main={"url": "rtsp://10.0.0.9/1"})
        assert again["number"] == 2


async def test_a_change_of_the_sub_stream_does_not_stop_the_main_one(place: Place) -> None:
    async with serving(place) as server:
        await server.call("camera.add", id="gate", main={"url": "rtsp://10.0.0.9/1"})
        for sub in ({"url": "rtsp://10.0.0.9/2"}, {"url": "rtsp://10.0.0.9/3", "transport": "udp"}, None):
            await server.call("camera.change", id="gate", changes={"sub": sub})
        calls = server.notes("camera.start", "camera.stop", "camera.update")
        assert [call[2] for call in calls] == ["camera.start", *["camera.update"] * 3]
        assert [bool(call[3]["camera"]["sub"]) for call in calls] == [False, True, True, False]


async def test_words_and_rules_change_without_a_stop(place: Place) -> None:
    async with serving(place) as server:
        await server.call("camera.add", id="gate", main={"url": "rtsp://10.0.0.9/1"})
        await server.call("camera.change", id="gate", changes={"name": "Gate", "partner": "council", "latitude": 51.5, "longitude": 0.0})
        await server.call("camera.change", id="gate", changes={"rule": {"days": 3.0}})
        await server.call("camera.change", id="gate", changes={"main": {"url": "rtsp://10.0.0.9/2"}, "name": "Back gate"})
        await server.call("camera.change", id="gate", changes={"enabled": False, "name": "Gone"})
        await server.call("camera.change", id="gate", changes={"name": "Still gone"})
        calls = server.notes("camera.start", "camera.stop", "camera.update")
        assert [call[2] for call in calls] == ["camera.start", "camera.update", "camera.update", "camera.stop", "camera.start", "camera.stop"]
        assert [call[3]["camera"]["name"] for call in calls[1:3]] == ["Gate", "Gate"] and calls[2][3]["camera"]["rule"]["days"] == 3.0


@pytest.mark.parametrize(("changes", "asked"), [
    ({"main": {"url": "rtsp://10.0.0.66/1"}}, True),
    ({"main": {"url": "rtsp://10.0.0.9:8554/1"}}, True),
    ({"sub": {"url": "rtsp://10.0.0.66/2"}}, True),
    ({"main": {"url": "rtsp://10.0.0.66/1"}, "user": "u2"}, True),
    ({"main": {"url": "http://10.0.0.66/1.ts"}, "basic_without_tls": True}, True),
    ({"main": {"url": "rtsp://10.0.0.66/1"}, "password": "new"}, False),
    ({"main": {"url": "rtsp://10.0.0.66/1"}, "password": "", "user": ""}, False),
    ({"main": {"url": "rtsp://10.0.0.9/2", "kbps": 500}}, False),
    ({"main": {"url": "rtsp://10.0.0.9:554/1"}}, False),
    ({"main": {"url": "rtsps://10.0.0.9/1"}}, False),
    ({"sub": {"url": "rtsp://10.0.0.9/2"}}, False),
    ({"user": "u2"}, False),
])
async def test_a_stored_password_is_not_sent_to_another_host(place: Place, changes: dict[str, Any], asked: bool) -> None:
    """Who may change cameras, and was never told their passwords, had them sent to a host of his own."""
    async with serving(place) as server:
        await server.call("camera.add", id="gate", main={"url": "rtsp://10.0.0.9/1"}, user="u", password="old")
        if asked:
            with pytest.raises(ConfigError, match="for another host") as caught:
                await server.call("camera.change", id="gate", changes=changes)
            assert "give it again" in caught.value.remedy
            assert [call[2] for call in server.notes("camera.start", "camera.stop")] == ["camera.start"]
        else:
            await server.call("camera.change", id="gate", changes=changes)
            assert server.notes("camera.start")[-1][3]["camera"]["password"] == changes.get("password", "old")


async def test_a_password_that_was_sent_over_tls_is_not_sent_without(place: Place) -> None:
    async with serving(place) as server:
        await server.call("camera.add", id="gate", main={"url": "rtsps://10.0.0.9/1"}, user="u", password="old")
        with pytest.raises(ConfigError, match="for a connection with TLS"):
            await server.call("camera.change", id="gate", changes={"main": {"url": "rtsp://10.0.0.9/1"}})
        await server.call("camera.change", id="gate", changes={"main": {"url": "rtsp://10.0.0.9/1"}, "password": "old"})


async def test_a_camera_without_a_password_goes_where_it_is_sent(place: Place) -> None:
    async with serving(place) as server:
        await server.call("camera.add", id="gate", main={"url": "rtsp://10.0.0.9/1"}, user="u")
        await server.call("camera.change", id="gate", changes={"main": {"url": "rtsp://10.0.0.66/1"}})


async def test_a_removal_never_slips_into_a_change(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change is a stop and a start; a removal between them left a camera recorded that nobody could see."""
    give = Supervisor._give

    async def slow(self: Supervisor, order: Order) -> None:
        await give(self, order)
        await asyncio.sleep(0.05)          # long enough for whoever waits to slip in

    monkeypatch.setattr(Supervisor, "_give", slow)
    async with serving(place) as server:
        names = [f"cam-{n}" for n in range(4)]
        await asyncio.gather(*(server.call("camera.add", id=name, main={"url": "rtsp://10.0.0.9/1"}) for name in names))
        changes = [asyncio.create_task(server.call("camera.change", id=name, changes={"stall_s": 5.0})) for name in names]
        removals = await asyncio.gather(*(server.call("camera.remove", id=name) for name in names), return_exceptions=True)
        assert not [error for error in [*removals, *await asyncio.gather(*changes, return_exceptions=True)] if isinstance(error, Exception)]
        last = {call[3]["number"]: call[2] for call in server.notes("camera.start", "camera.stop")}
        assert set(last.values()) == {"camera.stop"}


async def test_a_camera_of_the_file_belongs_to_the_file(place: Place) -> None:
    with_camera(place)
    async with serving(place) as server:
        with pytest.raises(Conflict, match="owned by the configuration file"):
            await server.call("camera.remove", id="north-road")
        with pytest.raises(Conflict, match="owned by the configuration file"):
            await server.call("camera.change", id="north-road", changes={"name": "x"})


async def test_a_camera_outside_the_networks_is_refused(place: Place) -> None:
    async with serving(place) as server:
        with pytest.raises(Refused, match=r"127\.0\.0\.1 lies outside camera_networks"):
            await server.call("camera.add", id="gate", main={"url": "rtsp://127.0.0.1:22/"})
        assert not server.notes("camera.start")


@pytest.mark.parametrize("path", ["x" * 2050, "two words"])
async def test_an_address_that_no_camera_can_be_asked_by_is_refused_at_once(place: Place, path: str) -> None:
    async with serving(place) as server:
        with pytest.raises(ConfigError, match=r"sub\.url: not an address of a camera: too long, or it holds blanks or control"):
            await server.call("camera.add", id="gate", main={"url": "rtsp://10.0.0.1/a"}, sub={"url": f"rtsp://10.0.0.1/{path}"})
        assert not server.notes("camera.start")


async def test_a_file_is_never_imported_over_a_socket(place: Place) -> None:
    async with serving(place) as server:
        with pytest.raises(Refused, match="by the configuration file only"):
            await server.call("camera.add", id="gate", main={"url": "file:x.mp4", "start": "2026-05-01T12:00:00Z"})
        await server.call("camera.add", id="gate", main={"url": "udp://239.1.2.3:5000"})
        with pytest.raises(Refused, match="by the configuration file only"):
            await server.call("camera.change", id="gate", changes={"sub": {"url": "file:x.mp4"}})


async def test_a_token_is_made_shown_once_and_revoked(place: Place) -> None:
    async with serving(place) as server:
        token = await server.call("token.add", name="wall", scopes=["view"])
        listed = await server.call("token.list")
        assert token["secret"] not in json.dumps(listed)
        await server.call("token.revoke", number=token["number"])
        assert (await server.call("token.list"))[0]["revoked_ns"]
        with pytest.raises(ConfigError, match="scope"):
            await server.call("token.add", name="wall", scopes=["everything"])
        with pytest.raises(ConfigError, match="name: is missing"):
            await server.call("token.add", scopes=["view"])


async def test_an_unknown_call_is_refused(place: Place) -> None:
    async with serving(place) as server:
        with pytest.raises(NotFound, match="no such call"):
            await server.call("camera.eat")


async def test_a_second_server_on_the_same_state_is_refused(place: Place) -> None:
    async with serving(place):
        with pytest.raises(Conflict, match="another watchroom uses it"):
            await Supervisor(place.site(), SystemClock(), command=place.command).run()


async def test_a_locked_volume_is_refused_and_nothing_is_started(place: Place) -> None:
    volume = Volume.open(place.folder / "volume", on_root=True, lock=True)
    try:
        with pytest.raises(Exception, match="in use by another process"):
            await Supervisor(place.site(), SystemClock(), command=place.command).run()
    finally:
        volume.close()
    assert not (place.folder / "log").exists()


async def test_a_camera_taken_out_of_the_file_is_removed_and_comes_back_under_a_new_number(place: Place) -> None:
    for camera, expected in ((True, [1]), (False, []), (True, [2])):
        (place.folder / "log").unlink(missing_ok=True)
        with_camera(place) if camera else place.write()
        async with serving(place) as server:
            assert [record["number"] for record in await server.call("camera.list")] == expected


async def test_a_reachable_server_without_a_token_is_refused(place: Place) -> None:
    text = place.file.read_text().replace("[server]", '[server]\nlisten = "0.0.0.0"\ntls = "proxy"\nhosts = ["nvr.example.org"]')
    place.file.write_text(text)
    with pytest.raises(ConfigError, match="there is no token"):
        await Supervisor(place.site(), SystemClock(), command=place.command).run()


async def test_a_camera_removed_while_its_worker_starts_is_not_started_after_all(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's first orders are under way when the camera goes: its stop must come after its start."""
    giving, go = asyncio.Event(), asyncio.Event()
    give = Supervisor._give

    async def slow(self: Supervisor, order: Order) -> None:
        if order.call == "camera.start" and order.args["camera"]["name"] == "first orders":
            giving.set()
            await go.wait()
        await give(self, order)

    monkeypatch.setattr(Supervisor, "_give", slow)
    async with serving(place) as server:
        await server.until(lambda: server.notes("holds"))      # the last of the worker's first orders while there is no camera
        go.set()
        await server.call("camera.add", id="gate", name="first orders", main={"url": "rtsp://10.0.0.9/1"})
        go.clear()
        giving.clear()
        os.kill(next(note[1] for note in server.notes("up") if note[0] == "worker-0"), signal.SIGKILL)
        await giving.wait()
        removing = asyncio.create_task(server.call("camera.remove", id="gate"))
        while await server.call("camera.list"):
            await asyncio.sleep(0.02)
        go.set()
        await removing
        assert [note[2] for note in server.notes("camera.start", "camera.stop")] == ["camera.start", "camera.start", "camera.stop"]


async def test_a_volume_that_is_unmounted_is_let_go_of_and_locked_again(place: Place) -> None:
    async with serving(place) as server:
        async def mounted() -> bool:
            return bool((await server.call("status"))["volumes"][0]["mounted"])
        away = (place.folder / "volume").rename(place.folder / "away")
        async with asyncio.timeout(120):
            while await mounted():
                await asyncio.sleep(0.05)
        Volume.open(away, on_root=True, lock=True).close()
        away.rename(place.folder / "volume")
        async with asyncio.timeout(120):
            while not await mounted():
                await asyncio.sleep(0.05)
        with pytest.raises(VolumeError, match="in use"):
            Volume.open(place.folder / "volume", on_root=True, lock=True)
