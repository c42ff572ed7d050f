"""An export as a value: what is wanted, how far it is, what came of it; and its form on disk."""

import enum
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

FORMATS = ("mp4", "zip", "pack")
PRIORITIES = ("low", "normal", "high")
AUTHOR = "watchroom exports"     # of the holds that jobs take


class State(enum.StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({State.DONE, State.FAILED, State.CANCELLED})


@dataclass(frozen=True, slots=True)
class Item:
    """A stretch of one track: [start_ns, end_ns) UTC. `number` is the camera's, `camera` the id that it had when it was asked for."""

    number: int
    camera: str
    track: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks for. `close_gaps`: gaps take no time."""

    items: tuple[Item, ...]
    format: str
    close_gaps: bool
    audio: bool
    reference: str
    reason: str
    priority: str

    def cameras(self) -> frozenset[int]:
        """The numbers of its cameras."""
        return frozenset(item.number for item in self.items)


@dataclass(frozen=True, slots=True)
class Result:
    """The file that was made. `complete`: nothing of what was asked for could still have come when it was planned."""

    name: str
    media_type: str
    nbytes: int
    sha256: str
    complete: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is none, and what to do."""

    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Call:
    """A webhook to be called when the job has ended (api/exports/webhook.py). `id` is the same at each try; times are UTC ns, 0: not yet."""

    address: str
    id: str
    tries: int = 0
    next_ns: int = 0
    done_ns: int = 0
    given_up: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One export. `by` is who asked, by name; `holder` is the token, since names are not unique.

    `key` and `body` are digests of its Idempotency-Key (with the holder) and of what came with it. `hold` is its hold until that is released,
    `expected_bytes` what was reckoned when it was asked for. Times are UTC ns, 0: not yet.
    """

    id: str
    wanted: Wanted
    by: str
    created_ns: int
    expected_bytes: int
    key: str = ""
    body: str = ""
    hold: str = ""
    state: State = State.QUEUED
    started_ns: int = 0
    ended_ns: int = 0
    expires_ns: int = 0
    result: Result | None = None
    failure: Failure | None = None
    call: Call | None = None
    holder: str = ""

    @property
    def ended(self) -> bool:
        """True once nothing more becomes of it."""
        return self.state in ENDED

    @property
    def reference(self) -> str:
        """What its hold bears."""
        return f"export {self.id}"

    @property
    def nbytes(self) -> int:
        """What it takes, or will, of the room for exports."""
        if not self.ended:
            return self.expected_bytes
        return self.result.nbytes if self.result is not None and not self.gone else 0

    @property
    def gone(self) -> bool:
        """True once its file has been taken away."""
        return self.state is State.DONE and self.expires_ns == 0


def new_id(created_ns: int) -> str:
    """An id that sorts by time and cannot be guessed: 16 hex digits of ns, 16 of chance."""
    return f"{created_ns:016x}{secrets.token_hex(8)}"


def to_json(job: Job) -> dict[str, Any]:
    """For the job's file."""
    return asdict(job)


def from_json(values: Mapping[str, Any]) -> Job:
    """The inverse; KeyError, TypeError or ValueError for what is none."""
    wanted = values["wanted"]
    items = tuple(Item(**item) for item in wanted["items"])
    result, failure, call = values["result"], values["failure"], values.get("call")
    return Job(**{**values, "wanted": Wanted(**{**wanted, "items": items}), "state": State(values["state"]),
                  "result": Result(**result) if result else None, "failure": Failure(**failure) if failure else None,
                  "call": Call(**call) if call else None})
