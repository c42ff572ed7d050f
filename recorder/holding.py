"""Holds in a worker: told to all its slots, taken and released there at once. Blocks: call it off the loop."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from recorder.base.errors import Refused, VolumeError
from recorder.rack import Rack
from storage.hold import Hold, hold_from_json
from storage.holdfound import kept_to_json
from storage.slot import Slot

T = TypeVar("T")


class Holding:
    """See the module. What a slot cannot do now it does when it is opened: it is told all holds before anything of it goes."""

    def __init__(self, rack: Rack) -> None:
        self._rack = rack
        self._told: list[Hold] = []
        self.calls: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "holds": self.tell, "hold.room": self.room, "hold.take": self.take, "hold.release": self.release}

    def tell(self, args: Mapping[str, Any]) -> None:
        """All holds of the site, released ones too, in parts."""
        if args.get("part") == 1:
            self._told.clear()
        self._told += [hold_from_json(values) for values in _holds(args)]
        if args.get("part") == args.get("parts"):
            self._rack.holds.tell(self._told)

    def room(self, args: Mapping[str, Any]) -> None:
        """Conflict if what holds keep would exceed the budget of a slot."""
        hold = hold_from_json(args.get("hold"))
        for slot in self._rack.open_slots():
            slot.hold_room(hold)

    def take(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Hold from now on in every slot: `{"found": [...], "pending": [slots that could not]}`."""
        hold = hold_from_json(args.get("hold"))
        self._rack.holds.change(hold)
        done, pending = self._each(lambda slot: slot.hold(hold))
        return {"found": [kept_to_json(kept) for found in done for kept in found], "pending": pending}

    def release(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Hold no more in any slot: `{"pending": [slots that could not]}`."""
        hold = hold_from_json(args.get("hold"))
        self._rack.holds.change(hold)
        return {"pending": self._each(lambda slot: slot.release(hold.id, hold.released_ns, hold.released_by))[1]}

    def figures(self) -> dict[str, int]:
        """Bytes that holds take in all slots, and may."""
        usages = [slot.hold_usage for slot in self._rack.open_slots()]
        return {"held_bytes": sum(usage.saved for usage in usages), "hold_waiting_bytes": sum(usage.waiting for usage in usages),
                "hold_budget_bytes": sum(usage.budget for usage in usages),
                "hold_level": max((usage.level for usage in usages), default=0)}

    def _each(self, do: Callable[[Slot], T]) -> tuple[list[T], list[int]]:
        done: list[T] = []
        pending = []
        for slot in self._rack.open_slots():
            try:
                done.append(do(slot))
            except VolumeError:
                pending.append(slot.number)
        return done, pending


def _holds(args: Mapping[str, Any]) -> list[Any]:
    holds = args.get("holds")
    if not isinstance(holds, list):
        raise Refused("`holds` must be a list of holds")
    return holds
