"""How cameras are begun, and what of them may change: spread at a site's start, at once after a death of ours; ceilings."""

import random
from dataclasses import replace

import pytest

from recorder.base.config import CameraConfig, RetentionRule, StreamConfig
from recorder.base.errors import NotFound
from recorder.base.media import GapCause
from recorder.cameras import FEW, SPREAD_S
from tests.session.fake_camera import PASSWORD, USER, FakeCamera
from tests.session.rig import Rig


class Dice(random.Random):
    """Notes what was asked for and never waits."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        self.asked.append(b)
        return 0.0


async def spreads(at_once: bool) -> list[float]:
    """For how long each of FEW + 2 cameras may wait before its first try."""
    async with Rig() as rig:
        dice = Dice()
        object.__setattr__(rig.services, "rng", dice)
        for number in range(1, FEW + 3):
            config = CameraConfig(f"cam{number}", StreamConfig("rtsp://127.0.0.1:9/"))
            rig.cameras.start(number, config, at_once=at_once)
        await rig.until(lambda: len(dice.asked) >= FEW + 2)
        return dice.asked[:FEW + 2]


async def test_cameras_of_a_worker_that_died_do_not_wait_for_a_turn() -> None:
    assert await spreads(at_once=True) == [0.0] * (FEW + 2)


async def test_another_rule_or_name_does_not_touch_the_session() -> None:
    async with FakeCamera() as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded()
        with pytest.raises(NotFound):
            await rig.cameras.update(2, CameraConfig("other", StreamConfig(camera.url)))
        before = rig.cameras._cameras[1].config
        await rig.cameras.update(1, replace(before, name="New name", rule=RetentionRule(3.0)))
        await rig.recorded(len(rig.tape().aus) + 10)
        assert camera.methods().count("DESCRIBE") == 1 and rig.tape().gaps == []
        assert rig.stream()._rule == RetentionRule(3.0) and "set_rule" in rig.tape().names
        assert rig.cameras._cameras[1].config.name == "New name"


async def test_many_cameras_are_not_asked_in_the_same_moment() -> None:
    assert await spreads(at_once=False) == [0.0] * FEW + [SPREAD_S] * 2


async def test_a_camera_above_its_own_ceiling_is_told_apart_from_a_writer_that_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are an overload; the first is the camera's doing, touches nobody else, and is mended elsewhere."""
    monkeypatch.setattr("recorder.stream.OVERLOAD_NS", 100_000_000)
    async with FakeCamera() as camera, FakeCamera() as other, Rig() as rig:
        url = camera.url
        rig.cameras.start(1, CameraConfig("wild", StreamConfig(url, ceiling_kbps=1), user=USER, password=PASSWORD))
        rig.record(other.url, number=2)
        await rig.until(lambda: rig.tape().gaps == [GapCause.OVERLOAD])
        await rig.recorded(20, number=2)
        (detail,) = [call[2] for call in rig.tape().calls if call[0] == "open_gap"]
        assert detail == "the camera sends more than its ceiling of 1 kbit/s"
        assert rig.stream(2).state == "recording" and rig.tape(number=2).gaps == []
