"""Tapes that only remember: what a worker told them and the AUs they took."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from recorder._ext.auqueue import AuQueue
from recorder.base.config import RetentionRule
from recorder.base.media import GapCause, SampleEntry, SenderReport, TrackKind


@dataclass
class MemoryTape:
    """One track. `calls` holds what was called, in order; `take()` moves what waits in the queue into `aus`."""

    queue: AuQueue
    describe: Callable[[int], SampleEntry | None]
    end_ns: int = 0
    next_session: int = 1
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    aus: list[tuple[Any, bytes]] = field(default_factory=list)
    entries: dict[tuple[int, int], SampleEntry] = field(default_factory=dict)

    def take(self) -> None:
        """Be the writer's thread for a moment."""
        for au, data in self.queue.take():
            entry = self.describe(au["format"])
            if entry is not None:
                self.entries[au["session"], au["format"]] = entry
            self.aus.append((au, data))
            self.end_ns = max(self.end_ns, au["wall_ns"])

    def begin_session(self, session: int, start_ns: int, transport: str) -> None:
        self.next_session = session + 1
        self.calls.append(("begin_session", session, transport))

    def end_session(self, session: int, end_ns: int, reason: str) -> None:
        self.calls.append(("end_session", session, reason))

    def publish(self, session: int, shift_ns: int) -> None:
        self.calls.append(("publish", session, shift_ns))

    def open_gap(self, cause: GapCause, start_ns: int | None = None, detail: str = "") -> None:
        self.calls.append(("open_gap", cause, detail))

    def come_from(self, end_ns: int, cause: GapCause, detail: str) -> None:
        self.calls.append(("come_from", cause, detail))

    def then(self, call: Callable[[], None]) -> None:
        call()

    def sender_report(self, report: SenderReport) -> None:
        self.calls.append(("sender_report", report))

    def clock_epoch(self, wall_ns: int, step_ns: int) -> None:
        self.calls.append(("clock_epoch", wall_ns, step_ns))

    def set_rule(self, rule: RetentionRule) -> None:
        self.calls.append(("set_rule", rule))

    def detach(self) -> None:
        self.calls.append(("detach",))

    @property
    def gaps(self) -> list[GapCause]:
        """The causes of the gaps, in order."""
        return [call[1] for call in self.calls if call[0] == "open_gap"]

    @property
    def names(self) -> list[str]:
        """The names of the calls, in order."""
        return [call[0] for call in self.calls]


class MemoryTapes:
    """Stands for a slot."""

    home, path, failed, misplaced, asked = "", None, False, False, False

    def leave(self) -> None:
        """There is one place only."""

    def __init__(self) -> None:
        self.by_name: dict[tuple[int, str], MemoryTape] = {}
        self._begin_ns = 0

    def begin_at(self, end_ns: int) -> None:
        """New tapes hold something that ends there."""
        self._begin_ns = end_ns

    def open_track(self, camera: int, name: str, kind: TrackKind, *, clock_rate: int, queue: AuQueue, rule: RetentionRule,
                   describe: Callable[[int], SampleEntry | None]) -> MemoryTape:
        tape = MemoryTape(queue, describe, self._begin_ns)
        before = self.by_name.get((camera, name))
        if before is not None:
            tape.next_session, tape.end_ns, tape.calls = before.next_session, before.end_ns, before.calls
        self.by_name[camera, name] = tape
        return tape

    def take(self) -> None:
        """Empty every queue."""
        for tape in self.by_name.values():
            tape.take()
