"""What a check finds, as values."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

Progress = Callable[[int, int], None]      # bytes of footage looked at, in all


class Severity(enum.StrEnum):
    """How bad: `error` means that footage or proof is missing or wrong; `warning` that something needs a look."""

    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. `where` is relative to the volume."""

    severity: Severity
    where: str
    what: str
    remedy: str


@dataclass(slots=True)
class Report:
    """What has been looked at, and what was found."""

    level: int
    tracks: int = 0
    chunks: int = 0
    rows: int = 0
    bytes_read: int = 0
    records: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """True if there is no error (warnings may be)."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)


def error(where: str, what: str, remedy: str) -> Finding:
    """A finding that footage or proof is missing or wrong."""
    return Finding(Severity.ERROR, where, what, remedy)


def warning(where: str, what: str, remedy: str) -> Finding:
    """A finding that needs a look."""
    return Finding(Severity.WARNING, where, what, remedy)


def twice(look: Callable[[], list[Finding]]) -> list[Finding]:
    """What both of two looks find: a writer may have been in the middle of the first."""
    found = look()
    again = set(look()) if found else set()
    return [finding for finding in found if finding in again]


class Meter:
    """Tells how far a check is: bytes of footage looked at, one track's share after another."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._done = self._limit = 0

    def begin(self, nbytes: int) -> None:
        """The next share."""
        self._limit = min(self._limit + nbytes, self._total)

    def advance(self, nbytes: int) -> None:
        """So much more of it."""
        self._done = min(self._done + nbytes, self._limit)
        self._progress(self._done, self._total)

    def end(self) -> None:
        """All of it, also what needed no look."""
        self.advance(self._limit)
