"""The site's holds in the catalogue, and what the workers must be told of them. Calls of the supervisor's socket, like those of `Roster`.

Belongs to the thread of the catalogue; knows no worker and no loop.
"""

import json
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from recorder.base.config import SiteConfig
from recorder.base.config_file import TRACK_NAMES
from recorder.base.errors import Conflict, NotFound, Refused, VolumeError, WatchroomError
from recorder.order import Answers, Order, Outcome
from storage.catalogue import Catalogue
from storage.hold import Hold, hold_from_json, hold_to_json
from storage.holdfound import found, found_to_json, kept_from_json

PART_BYTES = 400_000        # of holds in one call: control sockets take 1 MiB
PAGE_BYTES = 400_000        # of holds in one answer
PAGE = 100
NEW = "0" * 32


class HoldBook:
    """See the module."""

    def __init__(self, catalogue: Catalogue, site: SiteConfig) -> None:
        self._catalogue, self._site = catalogue, site
        self.calls: dict[str, Callable[[Mapping[str, Any]], Outcome]] = {
            "hold.plan": self._plan, "hold.add": self._add, "hold.release": self._release, "hold.list": self._list}

    def tell(self, workers: Iterable[int]) -> list[Order]:
        """All holds, released ones too, for these workers."""
        parts: list[list[dict[str, Any]]] = [[]]
        room = PART_BYTES
        for hold in self._catalogue.holds():
            values = hold_to_json(hold)
            size = len(json.dumps(values))
            if room < size and parts[-1]:
                parts.append([])
                room = PART_BYTES
            parts[-1].append(values)
            room -= size
        return [Order(worker, "holds", {"holds": part, "part": number, "parts": len(parts)})
                for worker in workers for number, part in enumerate(parts, 1)]

    def _plan(self, args: Mapping[str, Any]) -> Outcome:
        """Ask every worker whether its budget bears the hold; nothing is changed. Conflict, Refused."""
        hold = self._read(args)
        return Outcome(None, self._orders("hold.room", hold), _first_refusal)

    def _add(self, args: Mapping[str, Any]) -> Outcome:
        hold = self._read(args, secrets.token_hex(16))
        self._catalogue.put_hold(hold)
        return Outcome(hold_to_json(hold), self._orders("hold.take", hold), lambda answers: _taken(hold, answers))

    def _release(self, args: Mapping[str, Any]) -> Outcome:
        """Once more of one that is released: as it is, and the workers are told again."""
        hold = self._catalogue.hold(str(args.get("id", "")))
        if not hold.released_ns:
            hold = hold_from_json(hold_to_json(hold.released(self._catalogue.now_ns(), str(args.get("by", "")))))
            self._catalogue.put_hold(hold)
        return Outcome(hold_to_json(hold), self._orders("hold.release", hold),
                       lambda answers: {"hold": hold_to_json(hold), "pending": _pending(answers)})

    def _list(self, args: Mapping[str, Any]) -> Outcome:
        """Holds by id after `after`, the released ones only where `released` says so: a page of at most PAGE, and of some 400 kB."""
        page: list[dict[str, Any]] = []
        size, more = 0, False
        for hold in self._catalogue.holds(str(args.get("after", ""))):
            if hold.released_ns and not args.get("released"):
                continue
            values = hold_to_json(hold)
            size += len(json.dumps(values))
            if page and (len(page) == PAGE or size > PAGE_BYTES):
                more = True
                break
            page.append(values)
        return Outcome({"holds": page, "more": more})

    def _read(self, args: Mapping[str, Any], hold_id: str = NEW) -> Hold:
        values = args.get("hold")
        if not isinstance(values, dict):
            raise Refused("`hold` must be a hold")
        made = {"released_ns": 0, "released_by": "", "id": hold_id, "created_ns": self._catalogue.now_ns()}
        hold = hold_from_json({**values, **made})
        numbers = {record.number for record in self._catalogue.cameras(removed=True)}
        if strangers := hold.cameras() - numbers:
            raise NotFound(f"there is no camera number {min(strangers)}", where="hold", remedy="see the list of cameras")
        if tracks := {span.track for span in hold.spans} - {"", *TRACK_NAMES}:      # a hold on it would be believed in, and keep nothing
            raise NotFound(f'there is no track "{min(tracks)}"', where="hold", remedy=f"a camera's tracks are {', '.join(TRACK_NAMES)}")
        return hold

    def _orders(self, call: str, hold: Hold) -> tuple[Order, ...]:
        return tuple(Order(worker, call, {"hold": hold_to_json(hold)}) for worker in range(self._site.recording.slots))


def _first_refusal(answers: Answers) -> None:
    for _, answer in answers:
        if isinstance(answer, (Conflict, Refused)):
            raise answer
    silent = [order.slot for order, answer in answers if isinstance(answer, WatchroomError)]
    if silent:
        raise VolumeError(f"slot {silent[0]} does not answer, so nobody can say what it still has", where="hold",
                          remedy="see its log; hold again when it records")


def _taken(hold: Hold, answers: Answers) -> dict[str, Any]:
    kepts = [kept_from_json(values) for _, answer in answers if isinstance(answer, dict) for values in answer["found"]]
    return {"hold": hold_to_json(hold), "found": [found_to_json(one) for one in found(hold, kepts)], "pending": _pending(answers)}


def _pending(answers: Answers) -> list[int]:
    """Slots that have not said yes: they will be told when they start again."""
    out: set[int] = set()
    for order, answer in answers:
        out |= set(answer["pending"]) if isinstance(answer, dict) else {order.slot}
    return sorted(out)
