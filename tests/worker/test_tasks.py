"""Supervised tasks: none dies unseen, all end with their owner."""

import asyncio
import logging

import pytest

from recorder.base import tasks
from recorder.base.errors import Conflict
from recorder.base.tasks import TaskSet

LOG = logging.getLogger("test")


async def test_crashed_task_is_logged_and_begun_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(tasks, "RESTART_S", 0.0)
    runs: list[int] = []
    done = asyncio.Event()

    async def run() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise RuntimeError("a defect")
        done.set()

    owned = TaskSet(LOG)
    owned.start("camera x", run)
    await asyncio.wait_for(done.wait(), 120)
    assert len(runs) == 3
    assert caplog.text.count("task camera x failed") == 2
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(owned) == 0


async def test_name_is_taken_until_the_task_ended() -> None:
    owned = TaskSet(LOG)
    owned.start("a", asyncio.Event().wait)  # type: ignore[arg-type]
    with pytest.raises(Conflict):
        owned.start("a", asyncio.Event().wait)  # type: ignore[arg-type]
    assert await owned.stop("a")
    assert "a" not in owned


async def test_close_ends_all_and_names_the_stubborn(caplog: pytest.LogCaptureFixture) -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()

    owned = TaskSet(LOG)
    owned.start("meek", asyncio.Event().wait)  # type: ignore[arg-type]
    owned.start("stubborn", stubborn)
    await asyncio.sleep(0)
    assert not await owned.close(timeout_s=0.05)
    assert "stubborn does not end" in caplog.text
    release.set()
    assert await owned.close()
