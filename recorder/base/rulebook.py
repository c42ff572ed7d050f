"""How long each track's footage stays: what track, camera, site and partner say, put together.

Days: the shortest that anybody says, since each is a promise to delete; `[retention]` where nobody says any. Least days: the longest that
anybody says, never beyond the days. Bytes belong to who states them: a partner's are those of all its cameras together.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from recorder.base.config import DAYS, CameraConfig, GroupRule, RetentionRule, SiteConfig, TrackRule
from recorder.base.config_file import TRACK_NAMES, read_rule
from recorder.base.errors import NotFound
from recorder.base.media import NS
from recorder.base.toml_table import Table

DAY_NS = 86_400 * NS
R = TypeVar("R", bound=RetentionRule)


@dataclass(frozen=True, slots=True)
class Member:
    """What rules need to know of a camera."""

    number: int
    id: str
    partner: str = ""
    site: str = ""
    rule: RetentionRule | None = None

    @classmethod
    def of(cls, number: int, config: CameraConfig) -> "Member":
        """The camera with this number."""
        return cls(number, config.id, config.partner, config.site, config.rule)


@dataclass(frozen=True, slots=True)
class Keep:
    """How long a track's rows stay, and who says so."""

    days: float = DAYS
    days_by: str = "site-wide"
    days_min: float = 0.0
    min_by: str = ""

    @property
    def age_ns(self) -> int:
        """The age at which a row goes."""
        return round(self.days * DAY_NS)

    @property
    def least_ns(self) -> int:
        """The age below which a row is the last to make room."""
        return round(self.days_min * DAY_NS)

    @property
    def why(self) -> str:
        """The rule of days in words, as the ledger keeps it."""
        return f"{self.days_by}: days = {self.days:g}"


@dataclass(frozen=True, slots=True)
class Quota:
    """Bytes of some tracks together: `track` "" means all of these cameras."""

    by: str
    bytes_max: int
    bytes_min: int
    cameras: frozenset[int]
    track: str = ""

    def covers(self, camera: int, track: str) -> bool:
        """True if the track counts."""
        return camera in self.cameras and self.track in {"", track}

    @property
    def why(self) -> str:
        """The quota in words, as the ledger keeps it."""
        return f"{self.by}: bytes_max = {self.bytes_max}"


@dataclass(frozen=True, slots=True)
class RuleBook:
    """The rules of a site for the cameras it knows, removed ones among them: their footage stays under its rule."""

    members: Mapping[int, Member]
    general: RetentionRule
    partners: Mapping[str, GroupRule] = field(default_factory=dict)
    sites: Mapping[str, GroupRule] = field(default_factory=dict)

    def keep(self, camera: int, track: str) -> Keep | None:
        """How long the track's rows stay; None for a camera that nobody knows."""
        member = self.members.get(camera)
        if member is None:
            return None
        said = [stated(by, rule, track) for by, rule in self._levels(member)]
        general = stated("site-wide", self.general, track)
        days, days_by = min([(one.days, one.by) for one in said if one.days is not None] or [(general.days or DAYS, general.by)])
        days_min, min_by = max((one.days_min, one.by) for one in (*said, general))
        return Keep(days, days_by, min(days_min, days), min_by)

    def quotas(self) -> tuple[Quota, ...]:
        """All rules of bytes, the narrow ones first."""
        return tuple(sorted(self._quotas(), key=lambda quota: (len(quota.cameras), not quota.track, quota.by)))

    def _quotas(self) -> Iterator[Quota]:
        for member in self.members.values():
            yield from _of(f"camera {member.id}", member.rule or self.general, frozenset({member.number}), self.general)
        for word, groups in (("site", self.sites), ("partner", self.partners)):
            for name, rule in groups.items():
                yield from _of(f"{word} {name}", rule, frozenset(m.number for m in self.members.values() if getattr(m, word) == name))

    def _levels(self, member: Member) -> Iterator[tuple[str, RetentionRule]]:
        if member.rule is not None:
            yield f"camera {member.id}", member.rule
        if member.site in self.sites:
            yield f"site {member.site}", self.sites[member.site]
        if member.partner in self.partners:
            yield f"partner {member.partner}", self.partners[member.partner]


@dataclass(frozen=True, slots=True)
class Stated:
    """What one level says of one track's age; None and 0: nothing."""

    by: str
    days: float | None
    days_min: float


class Expiry:
    """By camera and track the UTC before which its days let nothing be read; 0 for a camera that the book does not know.

    `book` gives the rules of the moment: the same object as long as they are the same.
    """

    def __init__(self, book: Callable[[], RuleBook], wall_ns: Callable[[], int]) -> None:
        self._book, self._wall_ns = book, wall_ns
        self._of: RuleBook | None = None
        self._ages_ns: dict[tuple[int, str], int] = {}

    def __call__(self, camera: int, track: str) -> int:
        """See the class. Any thread."""
        book = self._book()
        if book is not self._of:
            self._of, self._ages_ns = book, {}
        age_ns = self._ages_ns.get((camera, track))
        if age_ns is None:
            keep = book.keep(camera, track)
            age_ns = self._ages_ns[camera, track] = keep.age_ns if keep is not None else 0
        return max(self._wall_ns() - age_ns, 0) if age_ns else 0


def stated(by: str, rule: RetentionRule, track: str) -> Stated:
    """What a level says of a track: what it says of this one alone, else what it says of all."""
    own: TrackRule | None = getattr(rule, track) if track in TRACK_NAMES else None
    if own is None or not (own.days or own.days_min):
        return Stated(by, rule.days, rule.days_min)
    return Stated(f"{by}, {track}", own.days or rule.days, own.days_min or rule.days_min)


def _of(by: str, rule: RetentionRule, cameras: frozenset[int], general: RetentionRule | None = None) -> Iterator[Quota]:
    """What a rule says of bytes, of all tracks and of single ones; what it does not say as `general` has it."""
    for track in ("", *TRACK_NAMES):
        said = [part for level in (rule, general) if level is not None and (part := getattr(level, track) if track else level) is not None]
        bytes_max, bytes_min = (next((value for part in said if (value := getattr(part, name))), 0) for name in ("bytes_max", "bytes_min"))
        if cameras and (bytes_max or bytes_min):
            yield Quota(f"{by}, {track}" if track else by, bytes_max, bytes_min, cameras, track)


def rule_book(site: SiteConfig, members: Iterable[Member]) -> RuleBook:
    """The site's rules for these cameras."""
    return RuleBook({member.number: member for member in members}, site.retention, {group.name: group for group in site.partners},
                    {group.name: group for group in site.sites})


def member_to_json(member: Member) -> dict[str, Any]:
    """A camera's member as control sockets carry it: what says nothing is left out."""
    found: dict[str, Any] = _said(asdict(member))
    return found


def member_from_json(values: Mapping[str, Any]) -> Member:
    """The inverse. Raises ConfigError for a rule that is none."""
    rule = values.get("rule")
    return Member(int(values["number"]), str(values.get("id", "")), str(values.get("partner", "")), str(values.get("site", "")),
                  read_rule(Table(Path("call"), "rule", rule), RetentionRule) if rule is not None else None)


def _said(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _said(value) if isinstance(value, dict) else value for key, value in values.items() if value or isinstance(value, dict)}


@dataclass(frozen=True, slots=True)
class Change:
    """Other words for one rule: of `word` (camera, site, partner, or "" for the site-wide one) `name`, and of one `track` ("" for all).

    `days` and the others as in TrackRule; None leaves them.
    """

    word: str = ""
    name: str = ""
    track: str = ""
    days: float | None = None
    days_min: float | None = None
    bytes_max: int | None = None
    bytes_min: int | None = None

    def of(self, rule: R) -> R:
        """The rule in other words."""
        said = {name: value for name in ("days", "days_min", "bytes_max", "bytes_min") if (value := getattr(self, name)) is not None}
        if not self.track:
            return replace(rule, **said)
        own: dict[str, Any] = {self.track: replace(getattr(rule, self.track) or TrackRule(), **said)}
        return replace(rule, **own)


def with_change(book: RuleBook, change: Change) -> RuleBook:
    """The book with one rule in other words. NotFound for a camera that it does not know."""
    match change.word:
        case "camera":
            member = next((member for member in book.members.values() if member.id == change.name), None)
            if member is None:
                raise NotFound("no such camera", where=change.name, remedy="see watchroom camera list")
            return replace(book, members={**book.members, member.number: replace(member, rule=change.of(member.rule or RetentionRule()))})
        case "partner":
            rule = book.partners.get(change.name) or GroupRule(name=change.name)
            return replace(book, partners={**book.partners, change.name: change.of(rule)})
        case "site":
            rule = book.sites.get(change.name) or GroupRule(name=change.name)
            return replace(book, sites={**book.sites, change.name: change.of(rule)})
    return replace(book, general=change.of(book.general))
