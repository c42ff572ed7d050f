"""What `watchroom verify` has looked at, and what it found."""

from dataclasses import dataclass, field

from storage.finding import Finding, Severity
from storage.heads import Mark


@dataclass(slots=True)
class Proof:
    """What has been verified. `signed_until_ns`, `newest`: the newest document; `retired`: signed chunks that retention has taken since;
    `held`: rows that holds have kept of them, all proved; `unsigned`: sealed chunks, held ones too, that are younger than the newest document.
    """

    documents: int = 0
    signed_until_ns: int = 0
    newest: Mark | None = None
    chunks: int = 0
    retired: int = 0
    held: int = 0
    unsigned: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """True if nothing was found."""
        return all(finding.severity is not Severity.ERROR for finding in self.findings)
