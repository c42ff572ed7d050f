"""`/exports`: asked for, made by a real process, fetched, cancelled, expired; who may, and what is refused."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from api.events import EVENTS
from api.exports import routes
from api.exports.manifest import MEDIA
from api.schemas import COMPONENTS
from recorder.base.config import ExportsConfig, SiteConfig, VolumeConfig
from recorder.base.errors import Conflict
from recorder.base.media import NS
from tests.api.exporting import Holds, body, ended, footage, until, until_true
from tests.api.test_description import check
from tests.storage_read.reference_writer import RefVolume


@pytest.fixture
async def exporter(start: Any, volume: RefVolume, holds: Holds) -> Any:
    """An API with a minute of footage, and a token."""
    footage(volume)
    api = await start()
    api.clock.advance(3600)
    api.key = await api.token("export")
    return api


async def ask(api: Any, *, token: str = "", key: str = "", query: str = "", **more: Any) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return await api.ask("POST", f"exports{query}", token=token or api.key, headers=headers, json=body(**more))


async def test_a_range_becomes_a_file_with_its_digest_and_manifest(exporter: Any, holds: Holds, site: SiteConfig) -> None:
    view = await exporter.token("view")
    clip = await exporter.get("cameras/north/clip.mp4", token=view, params={name: str(body()["items"][0][name]) for name in ("start", "end")})
    asked = await ask(exporter, reference="case 7")
    assert asked.status == 202 and asked.headers["Location"] == f"/api/v1/exports/{asked.json['id']}"
    check(asked.json, COMPONENTS["Export"])
    assert [(span.track, hold.reference) for hold in holds.standing() for span in hold.spans] == [
        ("main", f"export {asked.json['id']}"), ("audio", f"export {asked.json['id']}")]
    job = await ended(exporter, asked.json["id"], exporter.key)
    check(job, COMPONENTS["Export"])
    assert (job["state"], job["error"], job["progress"]) == ("done", None, 1.0)
    result = await exporter.get(job["result"]["address"], token=exporter.key)
    sha = hashlib.sha256(result.body).hexdigest()
    assert result.body == clip.body and len(result.body) == job["result"]["bytes"] and sha == job["result"]["sha256"]
    assert result.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(bytes.fromhex(sha)).decode()}:"
    assert result.headers["ETag"] == f'"{sha}"' and result.headers["Content-Type"] == "video/mp4"
    part = await exporter.get(job["result"]["address"], token=exporter.key, headers={"Range": "bytes=1000000-1000999"})
    assert (part.status, part.body) == (206, result.body[1_000_000:1_001_000]) and part.headers["Repr-Digest"] == result.headers["Repr-Digest"]
    check_manifest((await exporter.get(job["result"]["manifest"], token=exporter.key)).json, job)
    await until(exporter, job["id"], exporter.key, lambda _: not holds.standing())
    told = [(event.camera, event.data["state"]) for event in exporter.served.app[EVENTS].since(f"{exporter.served.app[EVENTS].boot}-0")[0]
            if event.kind == "export"]
    assert told == [("north", "queued"), ("north", "running"), ("north", "done")]
    metrics = (await exporter.get("/metrics", token=await exporter.token("metrics"))).body.decode()
    assert 'watchroom_exports{state="done"} 1\n' in metrics and f"watchroom_exports_bytes {len(result.body)}\n" in metrics
    audit = [json.loads(line) for line in (site.exports_dir / "audit.jsonl").read_text().splitlines()]
    assert [(entry["event"], entry.get("file")) for entry in audit] == [
        ("asked", None), ("done", None), ("fetched", "result"), ("fetched", "manifest.json")]
    assert all(entry["reason"] == "accident" and entry["reference"] == "case 7" for entry in audit)
    assert all(entry["by"] == "test" and entry["holder"] == "token 1" for entry in audit if entry["event"] != "done")
    assert (audit[1]["sha256"], audit[1]["bytes"], audit[1]["name"]) == (sha, len(result.body), job["result"]["name"])


def check_manifest(found: dict[str, Any], job: dict[str, Any]) -> None:
    assert found["media"] == MEDIA
    assert (found["export"], found["reason"], found["by"], found["format"]) == (job["id"], "accident", "test", "mp4")
    (file,) = found["files"]
    assert (file["sha256"], file["bytes"], file["complete"]) == (job["result"]["sha256"], job["result"]["bytes"], True)
    (item,) = file["items"]
    assert item["camera"]["name"] == "North Road" and item["frames"] == 1000 and item["gaps"] == []
    (track,) = item["tracks"]
    assert len(track["rows"]) == 40 and [row[0] for row in track["rows"]] == list(range(10, 50))
    assert sum(row[5] is not None for row in track["rows"]) > 20           # those of sealed chunks bear their digest


async def test_a_result_opens_by_a_signed_address(exporter: Any) -> None:
    job = await ended(exporter, (await ask(exporter)).json["id"], exporter.key)
    for name in ("result", "manifest"):
        address = f"/api/v1/exports/{job['id']}/{name}"
        made = await exporter.ask("POST", "links", token=exporter.key, json={"address": address})
        assert made.status == 201 and (await exporter.get(made.json["address"])).status == 200
        assert (await exporter.get(made.json["address"].replace("sig=", "sig=0"))).status in {401, 403}
    for address in (f"/api/v1/exports/{job['id']}", "/api/v1/exports"):
        assert (await exporter.ask("POST", "links", token=exporter.key, json={"address": address})).status == 400


@pytest.mark.parametrize(("named", "status"), [
    ("{etag}", 206), ('"x", {etag}', 206), ("*", 206), ("W/{etag}", 412), ('"x"', 412), ("{bare}", 412), ("", 412), ('"{bare}', 412)])
async def test_what_is_resumed_is_what_was_begun(exporter: Any, named: str, status: int) -> None:
    job = await ended(exporter, (await ask(exporter, last=12)).json["id"], exporter.key)
    etag = f'"{job["result"]["sha256"]}"'
    headers = {"Range": "bytes=5-9", "If-Match": named.format(etag=etag, bare=etag.strip('"'))}
    answer = await exporter.get(job["result"]["address"], token=exporter.key, headers=headers)
    assert (answer.status == status and len(answer.body) == 5) or answer.json["status"] == status == 412


async def test_a_dry_run_says_what_there_is_and_makes_nothing(exporter: Any, holds: Holds) -> None:
    for query in ("?dry_run", "?dry_run=1"):
        found = await ask(exporter, first=-5, last=70, query=query)
        assert found.status == 200
        check(found.json, COMPONENTS["ExportLook"])
        (item,) = found.json["items"]
        assert item["footage_s"] == 60 and [part["end_ns"] - part["start_ns"] for part in item["missing"]] == [5 * NS, 10 * NS]
        assert 60 * 26 * 40_000 < found.json["bytes"] < 60 * 27 * 40_000
    assert not holds.standing() and (await exporter.get("exports", token=exporter.key)).json == {"items": [], "next": None}


async def test_the_same_key_makes_one_export_and_another_body_none(exporter: Any) -> None:
    first = await ask(exporter, key="k-1")
    again = await ask(exporter, key="k-1")
    assert (first.status, again.status) == (202, 200) and first.json["id"] == again.json["id"]
    assert (await ask(exporter, key="k-1", reference="other")).status == 422
    other = await exporter.token("export")
    assert (await ask(exporter, key="k-1", token=other)).status in {200, 202}
    await ended(exporter, first.json["id"], exporter.key)
    assert (await ask(exporter, key="k-1")).json["state"] == "done"


async def test_a_full_budget_of_holds_is_a_conflict_and_nothing_is_left(exporter: Any, holds: Holds, site: SiteConfig) -> None:
    holds.refuses = Conflict("holds would keep 3.00 GB of this slot's footage, their budget is 2.00 GB", remedy="release some")
    refused = await ask(exporter, key="k")
    assert refused.status == 409 and "release some" in refused.json["detail"]
    assert (await exporter.get("exports", token=exporter.key)).json["items"] == []
    assert [path.name for path in site.exports_dir.iterdir() if path.is_dir()] == []
    holds.refuses = None
    assert (await ask(exporter, key="k")).status == 202


async def test_what_exports_take_stays_within_their_quota(start: Any, site: SiteConfig, volume: RefVolume, holds: Holds) -> None:
    footage(volume)
    api = await start(exports=ExportsConfig(bytes_max=90_000_000))
    api.clock.advance(3600)
    api.key = await api.token("export")
    first = (await ask(api)).json
    refused = await ask(api, last=59)
    assert refused.status == 409 and "quota is 0.09 GB" in refused.json["detail"]
    await ended(api, first["id"], api.key)
    assert (await ask(api, last=59)).status == 409
    assert (await api.ask("DELETE", f"exports/{first['id']}", token=api.key)).status == 200
    assert (await ask(api, last=59)).status == 202


async def test_one_tokens_exports_leave_room_for_anothers(start: Any, volume: RefVolume, holds: Holds) -> None:
    footage(volume)
    api = await start(exports=ExportsConfig(workers=0, bytes_max_token=60_000_000))
    api.clock.advance(3600)
    api.key, other = await api.token("export"), await api.token("export")
    assert (await ask(api)).status == 202
    refused = await ask(api)
    assert refused.status == 409 and "exports of this token would take 0.08 GB, their quota is 0.06 GB" in refused.json["detail"]
    assert (await ask(api, token=other)).status == 202


async def test_a_result_goes_when_its_days_are_over(exporter: Any, site: SiteConfig) -> None:
    job = await ended(exporter, (await ask(exporter)).json["id"], exporter.key)
    exporter.clock.advance(7 * 86_400 + 1)
    job = await until(exporter, job["id"], exporter.key, lambda job: job["result"] is None)
    assert job["state"] == "done"
    for name in ("result", "manifest"):
        assert (await exporter.get(f"exports/{job['id']}/{name}", token=exporter.key)).status == 410
    await until(exporter, job["id"], exporter.key, lambda _: files(site, job) == {"job.json", "lock"})


def files(site: SiteConfig, job: dict[str, Any]) -> set[str]:
    folder: Path = site.exports_dir / job["id"]
    return {path.name for path in folder.iterdir() if path.suffix != ".new"} if folder.exists() else set()


async def test_a_cancelled_job_stops_and_leaves_nothing(start: Any, volume: RefVolume, holds: Holds, site: SiteConfig) -> None:
    footage(volume)
    api = await start(exports=ExportsConfig(mb_per_s=2.0))
    api.clock.advance(3600)
    api.key = await api.token("export")
    running, waiting = (await ask(api)).json, (await ask(api)).json
    await until(api, running["id"], api.key, lambda job: job["done_bytes"] > 0)
    assert (await api.get(f"exports/{waiting['id']}", token=api.key)).json["state"] == "queued"     # one worker
    assert (await api.get(f"exports/{running['id']}/result", token=api.key)).status == 409
    for job in (waiting, running):
        assert (await api.ask("DELETE", f"exports/{job['id']}", token=api.key)).json["state"] == "cancelled"
        assert files(site, job) <= {"job.json", "lock"}
    await until(api, running["id"], api.key, lambda _: not holds.standing())
    assert [job["state"] for job in (await api.get("exports", token=api.key)).json["items"]] == ["cancelled", "cancelled"]
    assert (await api.ask("DELETE", f"exports/{running['id']}", token=api.key)).status == 200
    assert (await api.get(f"exports/{running['id']}", token=api.key)).status == 404 and files(site, running) == set()


async def test_exports_stay_within_a_tokens_reach(exporter: Any, volume: RefVolume) -> None:
    footage(volume, 20, camera=2)
    narrow, view = await exporter.token("export", cameras=["yard"]), await exporter.token("view")
    job = (await ask(exporter)).json
    assert (await ask(exporter, token=narrow)).status == 400 and (await ask(exporter, token=view)).status == 403
    for path in ("", "/result", "/manifest"):
        assert (await exporter.get(f"exports/{job['id']}{path}", token=narrow)).status == 404
    assert (await exporter.ask("DELETE", f"exports/{job['id']}", token=narrow)).status == 404
    assert (await exporter.get("exports", token=narrow)).json["items"] == []
    assert [one["id"] for one in (await exporter.get("exports?camera=north", token=exporter.key)).json["items"]] == [job["id"]]
    assert (await exporter.get("exports?camera=yard", token=exporter.key)).json["items"] == []


async def test_lists_come_in_pages_the_newest_first(exporter: Any) -> None:
    ids = []
    for _ in range(5):
        exporter.clock.advance(1)
        ids.insert(0, (await ask(exporter)).json["id"])
    first = (await exporter.get("exports?limit=2", token=exporter.key)).json
    check(first, COMPONENTS["ExportPage"])
    rest = (await exporter.get(f"exports?limit=100&cursor={first['next']}", token=exporter.key)).json
    assert [job["id"] for job in first["items"] + rest["items"]] == ids and rest["next"] is None


async def test_a_page_looks_at_no_more_jobs_than_it_shows(exporter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop looks at them, and waits for nothing meanwhile."""
    for _ in range(5):
        assert (await ask(exporter)).status == 202
    asked: list[Any] = []
    monkeypatch.setattr(routes, "reaches_all", lambda *args: asked.append(args) or True)
    page = (await exporter.get("exports?limit=2", token=exporter.key)).json
    assert len(page["items"]) == 2 and page["next"] and len(asked) == 3


async def test_a_hold_of_no_job_is_released_at_the_start_and_no_other(start: Any, holds: Holds) -> None:
    """An API was killed between taking the hold of a job and telling anybody of the job."""
    span = {"camera": 1, "track": "main", "start_ns": 1, "end_ns": 2}
    hold = {"reason": "export", "reference": "export " + "0" * 32, "review_ns": 0, "spans": [span]}
    for author in ("watchroom exports", "somebody"):
        holds.calls()["hold.add"]({"hold": {**hold, "author": author}})
    api = await start()
    key = await api.token("export")
    await until_true(lambda: [one.author for one in holds.standing()] == ["somebody"])
    taken = {"cameras": ["north"], "start": 1, "end": 2, "reason": "x", "owner": "watchroom exports"}
    assert (await api.ask("POST", "holds", token=await api.token("hold"), json=taken)).status == 400
    assert (await api.get("exports", token=key)).json["items"] == []


async def test_a_token_for_holds_does_not_take_an_exports_footage_away(start: Any, volume: RefVolume, holds: Holds) -> None:
    footage(volume, 20, au_bytes=400)
    api = await start(exports=ExportsConfig(workers=0))
    api.clock.advance(3600)
    api.key = await api.token("export")
    job = (await ask(api, first=2, last=9)).json
    (hold,) = holds.standing()
    refused = await api.ask("DELETE", f"holds/{hold.id}", token=await api.token("hold"))
    assert refused.status == 409 and f"cancel the export {job['id']}" in refused.json["detail"]
    assert [one.id for one in holds.standing()] == [hold.id]
    assert (await api.ask("DELETE", f"exports/{job['id']}", token=api.key)).status == 200
    await until_true(lambda: not holds.standing())
    assert (await api.ask("DELETE", f"holds/{hold.id}", token=await api.token("hold"))).status == 200      # again: it was released before


async def test_a_missing_volume_is_told(start: Any, site: SiteConfig, volume: RefVolume, holds: Holds, tmp_path: Path) -> None:
    footage(volume, 20, au_bytes=4_000)
    other = RefVolume(tmp_path / "other", tmp_path / "live")
    other.volume.close()
    api = await start(volumes=(*site.volumes, VolumeConfig(tmp_path / "other", on_root=True)))
    api.clock.advance(3600)
    api.key = await api.token("export")
    (tmp_path / "other").rename(tmp_path / "elsewhere")
    job = await ended(api, (await ask(api, first=5, last=15)).json["id"], api.key)
    assert job["state"] == "done" and job["result"]["complete"] is False
    assert (await api.get(job["result"]["manifest"], token=api.key)).json["volumes_missing"] == [1]


ITEM = body()["items"][0]


@pytest.mark.parametrize(("more", "status"), [
    ({"items": []}, 400), ({"items": {}}, 400), ({"items": [7]}, 400), ({"items": [{**ITEM, "camera": "../x"}]}, 400),
    ({"items": [{**ITEM, "camera": "nobody"}]}, 400), ({"items": [{**ITEM, "track": "../main"}]}, 400),
    ({"items": [{**ITEM, "track": "sub"}]}, 404),
    ({"items": [{**ITEM, "start": ITEM["end"]}]}, 400), ({"items": [{**ITEM, "end": 1 << 62}]}, 416), ({"items": [{**ITEM, "more": 1}]}, 400),
    ({"items": [{**ITEM, "start": 0}]}, 400), ({"reason": ""}, 400), ({"reason": "a\nb"}, 400), ({"reason": "x" * 201}, 400),
    ({"format": "avi"}, 400), ({"gaps": True}, 400), ({"audio": "aac"}, 400), ({"priority": "now"}, 400), ({"unknown": 1}, 400),
    ({"items": [{**ITEM, "start": ITEM["start"] - 20 * NS, "end": ITEM["start"] - 15 * NS}]}, 404),
])
async def test_a_body_that_is_none_is_refused(exporter: Any, more: dict[str, Any], status: int) -> None:
    reply = await ask(exporter, **more)
    assert reply.status == status, reply.body
    assert (await exporter.get("exports", token=exporter.key)).json["items"] == []


@pytest.mark.parametrize("key", ["x" * 256, "a b", "\xe9"])
async def test_a_key_that_is_none_is_refused(exporter: Any, key: str) -> None:
    assert (await ask(exporter, key=key)).status == 400


@pytest.mark.parametrize("export", ["0" * 32, "0" * 31, "..%2f" + "0" * 27, "%2e%2e", "audit.jsonl", "lock"])
async def test_an_unknown_export_is_404(exporter: Any, export: str) -> None:
    for path in ("", "/result", "/manifest"):
        assert (await exporter.get(f"exports/{export}{path}", token=exporter.key)).status == 404
