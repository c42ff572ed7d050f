"""`/holds`: who may hold what, what is asked of the supervisor, what is answered; bodies that are refused."""

from typing import Any

import pytest

from recorder.base.config import SiteConfig
from recorder.base.errors import Conflict, NotFound, Refused, VolumeError, WatchroomError
from recorder.base.media import NS
from recorder.holdbook import HoldBook
from storage.catalogue import Catalogue
from storage.holdfound import kept_to_json
from storage.holdkeeper import Kept

T0 = 1_780_000_000 * NS
RANGE = {"start": T0, "end": T0 + 60 * NS, "reason": "accident"}


@pytest.fixture
def worker(site: SiteConfig, catalogue: Catalogue, supervisor: Any) -> dict[str, Any]:
    """What the site's one worker answers to each call of the supervisor's book of holds, which is the real one."""
    book = HoldBook(catalogue, site)
    answers: dict[str, Any] = {"hold.take": {"found": [], "pending": []}, "hold.release": {"pending": []}, "hold.room": None}

    def carry_out(call: str, args: dict[str, Any]) -> Any:
        made = book.calls[call](args)
        return made.finish([(order, answers[order.call]) for order in made.orders]) if made.finish else made.result

    def add(args: dict[str, Any]) -> Any:
        carry_out("hold.plan", args)
        return carry_out("hold.add", args)

    supervisor.more |= {"hold.add": add, "hold.release": lambda args: carry_out("hold.release", args),
                        "hold.list": lambda args: carry_out("hold.list", args)}
    return answers


async def post(api: Any, token: str = "", **more: Any) -> Any:
    return await api.ask("POST", "holds", token=token or await api.token("hold"), json={**RANGE, "cameras": ["north"], **more})


async def test_a_hold_says_what_is_kept_and_what_was_too_late(api: Any, worker: dict[str, Any]) -> None:
    tail_ns = T0 + 20 * NS
    worker["hold.take"]["found"] = [kept_to_json(Kept(1, "main", tail_ns, ((T0 + 5 * NS, T0 + 7 * NS), (T0 + 7 * NS, T0 + 9 * NS)), tail_ns)),
                                    kept_to_json(Kept(1, "audio", 0, (), T0))]
    reply = await post(api, reference="case 7", review=T0 + 10**15)
    assert reply.status == 201 and reply.headers["Location"] == f"/api/v1/holds/{reply.json['id']}"
    found = {one["track"]: one for one in reply.json["found"]}
    ranges = {track: {word: [((r["start_ns"] - T0) // NS, (r["end_ns"] - T0) // NS) for r in one[word]] for word in ("kept", "too_late")}
              for track, one in found.items()}
    assert ranges == {"main": {"kept": [(5, 9), (20, 60)], "too_late": [(0, 5), (9, 20)]}, "audio": {"kept": [(0, 60)], "too_late": []}}
    assert reply.json["owner"] == "test" and reply.json["reference"] == "case 7" and reply.json["pending"] == []


async def test_a_slot_that_has_not_taken_it_makes_202(api: Any, worker: dict[str, Any]) -> None:
    worker["hold.take"] = {"found": [], "pending": [3]}
    reply = await post(api)
    assert (reply.status, reply.json["pending"]) == (202, [3])
    worker["hold.release"] = Conflict("busy")
    released = await api.ask("DELETE", f"holds/{reply.json['id']}", token=await api.token("hold"))
    assert (released.status, released.json["pending"]) == (202, [0])
    assert released.json["released"] is not None


async def test_a_full_budget_is_a_conflict_and_nothing_is_held(api: Any, worker: dict[str, Any]) -> None:
    worker["hold.room"] = Conflict("holds would keep 3.00 GB of this slot's footage, their budget is 2.00 GB", remedy="release some")
    reply = await post(api)
    assert reply.status == 409 and "their budget is 2.00 GB; release some" in reply.json["detail"]
    assert (await api.get("holds", token=await api.token("hold"))).json["items"] == []


async def test_a_hold_that_a_worker_refuses_is_no_conflict(api: Any, worker: dict[str, Any]) -> None:
    """409: release something and ask again. 403: this hold never."""
    worker["hold.room"] = Refused("a hold spans at most 64 cameras", remedy="ask for two")
    reply = await post(api)
    assert (reply.status, reply.json["detail"]) == (403, "a hold spans at most 64 cameras; ask for two")
    assert (await api.get("holds", token=await api.token("hold"))).json["items"] == []


@pytest.mark.parametrize("error", [Conflict("busy"), Refused("no"), VolumeError("the volume has failed")])
async def test_a_hold_that_is_written_down_is_pending_whatever_a_slot_says(api: Any, worker: dict[str, Any], error: WatchroomError) -> None:
    """It was asked before whether it may be: from then on a slot that cannot take it takes it later."""
    worker["hold.take"] = error
    reply = await post(api)
    assert (reply.status, reply.json["pending"]) == (202, [0])


async def test_a_worker_that_does_not_answer_cannot_promise(api: Any, worker: dict[str, Any]) -> None:
    worker["hold.room"] = NotFound("no answer")
    assert (await post(api)).status == 503


async def test_lists_come_in_pages_and_without_released_ones(api: Any, worker: dict[str, Any]) -> None:
    token = await api.token("hold")
    ids = sorted([(await post(api, token, reason=f"case {n}")).json["id"] for n in range(5)])
    first = (await api.get("holds", params={"limit": "2"}, token=token)).json
    rest = (await api.get("holds", params={"limit": "100", "cursor": first["next"]}, token=token)).json
    assert [one["id"] for one in first["items"] + rest["items"]] == ids and rest["next"] is None
    assert (await api.ask("DELETE", f"holds/{ids[1]}", token=token)).status == 200
    assert [one["id"] for one in (await api.get("holds", token=token)).json["items"]] == [ids[0], *ids[2:]]
    every = (await api.get("holds", params={"state": "all"}, token=token)).json["items"]
    assert [one["id"] for one in every if one["released"]] == [ids[1]] and len(every) == 5


async def test_holds_stay_within_a_tokens_reach(api: Any, worker: dict[str, Any]) -> None:
    wide, narrow = await api.token("hold"), await api.token("hold", cameras=["north"])
    both = (await post(api, wide, cameras=["north", "yard"])).json["id"]
    own = (await post(api, narrow)).json["id"]
    assert (await post(api, narrow, cameras=["north", "yard"])).status == 400
    assert [one["id"] for one in (await api.get("holds", token=narrow)).json["items"]] == [own]
    assert (await api.ask("DELETE", f"holds/{both}", token=narrow)).status == 404
    assert (await api.ask("DELETE", f"holds/{both}", token=wide)).status == 200
    assert (await post(api, await api.token("view"))).status == 403


async def test_footage_of_a_removed_camera_can_be_held(api: Any, worker: dict[str, Any], catalogue: Catalogue) -> None:
    catalogue.remove_camera("north")
    await api.refresh()
    reply = await post(api)
    assert reply.status == 201 and [(span["camera"], span["number"]) for span in reply.json["spans"]] == [("north", 1)]


@pytest.mark.parametrize("body", [
    {"cameras": []}, {"cameras": "north"}, {"cameras": ["nobody"]}, {"cameras": [7]}, {"start": T0 + 60 * NS}, {"start": "yesterday"},
    {"end": 1 << 62}, {"end": True}, {"reason": ""}, {"reason": "a\nb"}, {"reason": "x" * 201},
    {"track": "../main"}, {"review": []}, {"unknown": 1},
])
async def test_a_body_that_is_none_is_refused_with_its_name(api: Any, worker: dict[str, Any], body: dict[str, Any]) -> None:
    reply = await post(api, **body)
    assert reply.status == 400 and reply.json["parameter"]


@pytest.mark.parametrize("hold_id", ["0" * 32, "0" * 31, "x" * 32, "%2e%2e"])
async def test_an_unknown_hold_is_404(api: Any, worker: dict[str, Any], hold_id: str) -> None:
    assert (await api.ask("DELETE", f"holds/{hold_id}", token=await api.token("hold"))).status == 404
