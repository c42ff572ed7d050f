"""Cameras are shared out over volumes by bit rate and weight, with as few moves as can be; volumes come and go while the server runs."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from recorder.base.config import VolumeConfig
from recorder.base.errors import ConfigError, Conflict, NotFound, VolumeError
from recorder.homes import Homes
from storage.volume import Volume
from tests.supervisor.conftest import Place
from tests.supervisor.test_supervisor import Server, serving


def volume(uuid: str, weight: float = 1.0, *, drain: bool = False) -> VolumeConfig:
    return VolumeConfig(Path("/srv") / uuid, uuid, weight=weight, drain=drain)


def loads(homes: Homes, cameras: dict[int, int]) -> dict[str, int]:
    return {uuid: sum(cameras[number] for number, home in homes.of.items() if home == uuid) for uuid in set(homes.of.values())}


def test_bit_rates_lie_on_volumes_as_their_weights_are() -> None:
    chance = random.Random(7)
    cameras = {number: chance.choice([500, 2_000, 4_000, 8_000]) for number in range(1, 501)}
    found = loads(Homes(cameras, {}, [volume("a"), volume("b", 3)]), cameras)
    assert found["b"] / found["a"] == pytest.approx(3, rel=0.02)


def test_a_new_camera_moves_nobody() -> None:
    cameras = dict.fromkeys(range(1, 11), 4_000)
    homes = dict.fromkeys(range(1, 10), "a")
    found = Homes(cameras, homes, [volume("a"), volume("b")])
    assert found.of == {**homes, 10: "b"}


def test_a_new_volume_takes_its_part_and_no_more_move() -> None:
    cameras = dict.fromkeys(range(1, 301), 4_000)
    homes = {number: "ab"[number % 2] for number in cameras}
    found = Homes(cameras, homes, [volume("a"), volume("b"), volume("c")])
    found.balance()
    moved = [number for number in cameras if found.of[number] != homes[number]]
    assert {found.of[number] for number in moved} == {"c"}
    assert 85 <= len(moved) <= 100
    again = Homes(cameras, found.of, [volume("a"), volume("b"), volume("c")])
    again.balance()
    assert again.of == found.of


def test_a_drained_volume_loses_its_cameras_only() -> None:
    cameras = dict.fromkeys(range(1, 31), 4_000)
    homes = {number: "abc"[number % 3] for number in cameras}
    found = Homes(cameras, homes, [volume("a", drain=True), volume("b"), volume("c")])
    assert all(found.of[number] == home for number, home in homes.items() if home != "a")
    assert "a" not in found.of.values()
    assert max(loads(found, cameras).values()) - min(loads(found, cameras).values()) <= 4_000


def test_two_cameras_are_not_moved_to_and_fro() -> None:
    cameras = {1: 4_000, 2: 8_000}
    found = Homes(cameras, {1: "a", 2: "a"}, [volume("a"), volume("b")])
    found.balance()
    assert sorted(found.of.values()) == ["a", "b"]


def test_when_all_are_drained_cameras_are_recorded_all_the_same() -> None:
    assert Homes({1: 4_000}, {}, [volume("a", drain=True)]).of == {1: "a"}


async def cameras(server: Server, count: int) -> None:
    for number in range(1, count + 1):
        await server.call("camera.add", id=f"c{number}", main={"url": f"rtsp://10.0.0.{number}/1"})


def second(place: Place) -> str:
    made = Volume.init(place.folder / "second", on_root=True)
    made.close()
    return str(made.uuid)


async def test_a_volume_is_added_while_it_runs_and_takes_cameras(place: Place) -> None:
    uuid = second(place)
    async with serving(place) as server:
        await cameras(server, 4)
        said = await server.call("volume.add", path=str(place.folder / "second"), on_root=True)
        assert said["moved"] == 2
        told = server.notes("volumes")[-1][3]["volumes"]
        assert [entry["path"] for entry in told] == [str(place.folder / name) for name in ("volume", "second")]
        moves = server.notes("camera.move")
        assert [move[3]["volume"] for move in moves] == [uuid, uuid]
        assert [(one["cameras"], one["kbps"]) for one in await server.call("volume.list")] == [(2, 8_000), (2, 8_000)]
        with pytest.raises(VolumeError, match="in use"):
            Volume.open(place.folder / "second", on_root=True, lock=True)
        await server.until(lambda: [note[0] for note in server.notes("up")].count("api") == 2)      # it reads from the new one
        assert [note[0] for note in server.notes("up")].count("worker-0") == 1
    async with serving(place) as server:         # and is known ever after
        await server.until(lambda: len(server.notes("camera.start")) == 8)
        homes = {start[3]["number"]: start[3]["volume"] for start in server.notes("camera.start")[4:]}
        assert {number for number, home in homes.items() if home == uuid} == {move[3]["number"] for move in moves}


async def test_a_volume_is_drained_and_taken_back(place: Place) -> None:
    uuid = second(place)
    place.write("[[volume]]", 'path = "second"', "on_root = true", "weight = 3")
    async with serving(place) as server:
        await cameras(server, 4)
        listed = await server.call("volume.list")
        assert [(one["weight"], one["cameras"]) for one in listed] == [(1.0, 1), (3.0, 3)]
        said = await server.call("volume.drain", volume=uuid)
        assert said["moved"] == 3
        assert {move[3]["volume"] for move in server.notes("camera.move")} == {listed[0]["uuid"]}
        with pytest.raises(Conflict, match="only volume"):
            await server.call("volume.drain", volume="0")
    async with serving(place) as server:
        await server.until(lambda: len(server.notes("up")) == 4)
        assert [one["drain"] for one in await server.call("volume.list")] == [False, True]
        assert (await server.call("volume.drain", volume="1", undo=True))["moved"] == 3


@pytest.mark.parametrize(("args", "error", "match"), [
    ({"path": "/srv/none"}, VolumeError, "no such folder"),
    ({"path": "relative"}, ConfigError, "absolute"),
    ({"path": "HERE/volume", "on_root": True}, VolumeError, "in use"),
    ({"path": "HERE/second"}, VolumeError, "root file system"),
    ({"path": "HERE/second", "on_root": True, "weight": 0}, ConfigError, "weight"),
])
async def test_what_cannot_be_added_changes_nothing(place: Place, args: dict[str, Any], error: type[Exception], match: str) -> None:
    second(place)
    args = args | {"path": args["path"].replace("HERE", str(place.folder))}
    async with serving(place) as server:
        with pytest.raises(error, match=match):
            await server.call("volume.add", **args)
        with pytest.raises(NotFound):
            await server.call("volume.drain", volume="7")
        assert len(await server.call("volume.list")) == 1
        await asyncio.sleep(0)
        assert [note[0] for note in server.notes("up")].count("api") == 1
