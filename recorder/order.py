"""What the workers must be told for a call of the supervisor's socket, and what becomes of their answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from recorder.base.errors import WatchroomError


@dataclass(frozen=True, slots=True)
class Order:
    """One call to the worker of a slot."""

    slot: int
    call: str
    args: dict[str, Any]


Answers = Sequence[tuple[Order, Any | WatchroomError]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call returns to its caller, and what the workers must be told for it; `finish` makes the result of their answers."""

    result: Any
    orders: tuple[Order, ...] = ()
    finish: Callable[[Answers], Any] | None = None
