"""The audit of exports: nothing is made or given without its line, whatever the disk does, and nobody hides behind another's name."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.exports import desk, run
from api.exports.job import PRIORITIES
from api.exports.routes import DESK
from api.exports.shelf import Shelf
from recorder.base.config import ExportsConfig, SiteConfig
from recorder.base.errors import Conflict
from tests.api.exporting import Holds, body, ended, footage, until, until_true
from tests.storage_read.reference_writer import RefVolume


@pytest.fixture
async def exporter(start: Any, volume: RefVolume, holds: Holds) -> Any:
    """An API with a minute of footage, and a token."""
    footage(volume, au_bytes=4_000)
    api = await start()
    api.clock.advance(3600)
    api.key = await api.token("export")
    return api


async def ask(api: Any, key: str = "", **more: Any) -> Any:
    return await api.ask("POST", "exports", token=key or api.key, json=body(**more))


def audit(site: SiteConfig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (site.exports_dir / "audit.jsonl").read_text().splitlines()]


@contextmanager
def unwritable(site: SiteConfig) -> Iterator[None]:
    """The audit cannot be written."""
    path, aside = site.exports_dir / "audit.jsonl", site.exports_dir / "aside"
    if path.exists():
        path.rename(aside)
    path.mkdir()
    yield
    path.rmdir()
    if aside.exists():
        aside.rename(path)


async def test_nothing_is_made_that_the_audit_does_not_know_of(exporter: Any, site: SiteConfig, holds: Holds) -> None:
    with unwritable(site):
        assert (await ask(exporter)).status == 503
        assert (await exporter.get("exports", token=exporter.key)).json["items"] == [] and not holds.standing()
    assert (await ask(exporter)).status == 202


async def test_nothing_is_given_that_the_audit_does_not_know_of(exporter: Any, site: SiteConfig) -> None:
    job = await ended(exporter, (await ask(exporter)).json["id"], exporter.key)
    with unwritable(site):
        for name in ("result", "manifest"):
            for _ in range(2):
                assert (await exporter.get(f"exports/{job['id']}/{name}", token=exporter.key)).status == 503
        assert (await exporter.ask("DELETE", f"exports/{job['id']}", token=exporter.key)).status == 503
    assert (await exporter.get(f"exports/{job['id']}/result", token=exporter.key)).status == 200
    assert [entry["event"] for entry in audit(site)] == ["asked", "done", "fetched"]


async def test_an_end_that_cannot_be_written_down_is_written_later_and_once(
        exporter: Any, site: SiteConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(desk, "AGAIN_S", 0.05)
    job = (await ask(exporter)).json
    with unwritable(site):
        await until_true(lambda: "cannot be written down yet" in caplog.text, 60)
        assert (await exporter.get(f"exports/{job['id']}", token=exporter.key)).json["state"] == "running"
    assert (await ended(exporter, job["id"], exporter.key))["state"] == "done"
    assert [entry["event"] for entry in audit(site)] == ["asked", "done"]


async def test_a_process_that_talks_nonsense_ends_its_job(exporter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without end was an error that nobody answered: the job ran for ever, and kept its worker's place."""
    program = "import sys; sys.stdin.buffer.read(); print('x' * 1_000_000)"
    monkeypatch.setattr(run, "own_command", lambda *_: [sys.executable, "-c", program])
    job = await ended(exporter, (await ask(exporter)).json["id"], exporter.key, seconds=60)
    assert job["state"] == "failed" and "understood" in job["error"]["message"]


async def test_what_was_refused_in_the_end_is_told_as_well(exporter: Any, site: SiteConfig, holds: Holds) -> None:
    holds.refuses = Conflict("holds would keep 3.00 GB", remedy="release some")
    assert (await ask(exporter)).status == 409
    assert [entry["event"] for entry in audit(site)] == ["asked", "refused"]


async def test_tokens_of_one_name_are_told_apart(exporter: Any, site: SiteConfig) -> None:
    job = await ended(exporter, (await ask(exporter)).json["id"], exporter.key)
    other = await exporter.token("export")
    for key in (exporter.key, other, other, exporter.key):
        assert (await exporter.get(f"exports/{job['id']}/result", token=key)).status == 200
    fetched = [(entry["by"], entry["holder"]) for entry in audit(site) if entry["event"] == "fetched"]
    assert fetched == [("test", "token 1"), ("test", "token 2")]


async def test_a_tokens_waiting_jobs_are_not_another_ones_of_its_name(
        start: Any, volume: RefVolume, holds: Holds, monkeypatch: pytest.MonkeyPatch) -> None:
    footage(volume, au_bytes=4_000)
    monkeypatch.setattr(desk, "OPEN_PER_HOLDER", 1)
    api = await start(exports=ExportsConfig(workers=0))
    api.clock.advance(3600)
    first, second = await api.token("export"), await api.token("export")
    assert [(await ask(api, key)).status for key in (first, first, second, second)] == [202, 429, 202, 429]


async def test_nobody_goes_by_the_name_of_the_exports(exporter: Any, holds: Holds) -> None:
    """What bears it is released as soon as the desk finds no job for it."""
    _, key = exporter.catalogue.add_token("watchroom exports", ["hold"])
    await exporter.refresh()
    asked = {"cameras": ["north"], "start": 1, "end": 2, "reason": "x", "reference": "export " + "0" * 32}
    assert (await exporter.ask("POST", "holds", token=key, json=asked)).status == 201
    assert [hold.author for hold in holds.standing()] == ["token 2"]


def test_a_line_that_a_power_cut_left_half_does_not_swallow_the_next(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.open()
    shelf.note({"event": "one"})
    with (tmp_path / "audit.jsonl").open("a") as file:
        file.write('{"event": "ha')
    shelf.note({"event": "two"})
    shelf.note({"event": "three"})
    one, half, *others = (tmp_path / "audit.jsonl").read_text().split("\n")
    assert (one, half, others) == ('{"event": "one"}', '{"event": "ha', ['{"event": "two"}', '{"event": "three"}', ""])
    shelf.close()


def test_only_folders_of_jobs_are_taken_away_at_a_start(tmp_path: Path) -> None:
    """`exports.folder` may be one in which other things lie."""
    for name in ("photos", "0" * 31, "0" * 33, "A" * 32, "0" * 32):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    shelf = Shelf(tmp_path)
    assert shelf.open() == []
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"photos", "0" * 31, "0" * 33, "A" * 32}
    shelf.close()


async def test_a_job_deleted_twice_at_once_goes_once(start: Any, volume: RefVolume, holds: Holds, site: SiteConfig) -> None:
    footage(volume)
    api = await start(exports=ExportsConfig(mb_per_s=2.0))
    api.clock.advance(3600)
    api.key = await api.token("export")
    job = (await ask(api)).json
    await until(api, job["id"], api.key, lambda job: job["done_bytes"] > 0)
    for _ in range(2):
        answers = await asyncio.gather(*(api.ask("DELETE", f"exports/{job['id']}", token=api.key) for _ in range(4)))
        assert {answer.status for answer in answers} <= {200, 404}
    assert (await api.get(f"exports/{job['id']}", token=api.key)).status == 404
    await until_true(lambda: not (site.exports_dir / job["id"]).exists() and not holds.standing())
    assert [entry["event"] for entry in audit(site)] == ["asked", "cancelled", "removed"]


async def test_many_jobs_of_one_holder_do_not_hold_up_anothers(start: Any, volume: RefVolume, holds: Holds, site: SiteConfig) -> None:
    footage(volume, au_bytes=4_000)
    api = await start(exports=ExportsConfig(workers=0))
    api.clock.advance(3600)
    many, few = await api.token("export"), await api.token("export")
    for key, reference, priority in [*((many, str(number), "high") for number in range(5)), *((few, word, word) for word in PRIORITIES)]:
        assert (await ask(api, key, reference=reference, priority=priority)).status == 202
        api.clock.advance(1)
    api.served.app[DESK]._site = replace(api.site, exports=ExportsConfig())      # now there is a worker
    await until_true(lambda: sum(entry["event"] == "done" for entry in audit(site)) == 8)
    order = [entry["reference"] for entry in audit(site) if entry["event"] == "done"]
    assert order == ["0", "high", "1", "normal", "2", "3", "4", "low"]


@pytest.mark.disk
async def test_on_a_full_disk_exports_can_still_be_deleted(small_disk: Path, start: Any, volume: RefVolume, holds: Holds) -> None:
    footage(volume)
    api = await start(exports=ExportsConfig(folder=small_disk / "exports"))
    api.clock.advance(3600)
    api.key = await api.token("export")
    jobs = [await ended(api, (await ask(api, first=10, last=last)).json["id"], api.key) for last in (14, 15)]
    await until_true(lambda: not holds.standing())
    fill(small_disk / "others")
    for job in jobs:
        assert (await api.get(f"exports/{job['id']}/result", token=api.key)).status == 200
        assert (await api.ask("DELETE", f"exports/{job['id']}", token=api.key)).status == 200
    lines = [json.loads(line) for line in (small_disk / "exports/audit.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["asked", "done"] * 2 + ["fetched", "removed"] * 2


@pytest.mark.disk
async def test_a_disk_that_fills_up_fails_no_export_that_has_its_room(small_disk: Path, start: Any, volume: RefVolume, holds: Holds) -> None:
    footage(volume)
    api = await start(exports=ExportsConfig(folder=small_disk / "exports", mb_per_s=2.0))
    api.clock.advance(3600)
    api.key = await api.token("export")
    job = (await ask(api, first=10, last=20)).json
    await until(api, job["id"], api.key, lambda job: job["done_bytes"] > 0)
    fill(small_disk / "others")
    job = await ended(api, job["id"], api.key)
    assert job["state"] == "done", job["error"]
    assert (await api.get(job["result"]["manifest"], token=api.key)).json["export"] == job["id"]


def fill(path: Path) -> None:
    """To the last byte."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    free = os.statvfs(path)
    assert free.f_bavail * free.f_frsize < 4096
