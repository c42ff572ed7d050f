"""What retention promises, looked at from outside: through readers, the volume's files and the ledger. Faults are in words."""

import itertools
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.disk_search import aus_on_disk, chunk_space
from bench.simulated import SimSite, SimTrack
from bench.tapes import tape_aus
from recorder.base.media import NS
from recorder.base.rulebook import Quota, RuleBook
from storage.items import Deletion
from storage.ledger import ledger_path, records
from storage.siterules import usage_of

UNREADABLE_NS, GONE_NS = 60 * NS, 3600 * NS
ROUNDING_NS = NS // 1000      # of times on the tape
FAULTS_SHOWN = 3


@dataclass(slots=True)
class Promise:
    """One promise: how often it was looked at, how near it came to its limit, and where it was broken."""

    text: str
    limit: float
    unit: str
    looks: int = 0
    worst: float = 0.0
    broken: int = 0
    faults: list[str] = field(default_factory=list)

    def look(self, value: float, fault: str, count: int = 1) -> None:
        """`value` must not be above the limit; `fault` says what it would mean."""
        self.looks += count
        self.worst = max(self.worst, value)
        if value > self.limit:
            self.broken += 1
            if len(self.faults) < FAULTS_SHOWN:
                self.faults.append(fault)


@dataclass(slots=True)
class Seen:
    """Of a track: the number of its first readable AU and when (UTC) that was first seen, the oldest still of use first."""

    tails: deque[tuple[int, int]] = field(default_factory=deque)

    def note(self, now_ns: int, first: int) -> int:
        """The tail is here now; returns by how much it has moved."""
        before = self.tails[-1][1] if self.tails else 0
        if not self.tails or first > before:
            self.tails.append((now_ns, first))
        while len(self.tails) > 1 and self.tails[1][0] <= now_ns - GONE_NS:
            self.tails.popleft()
        return first - before

    def restart(self, now_ns: int) -> None:
        """What had been seen is as if seen now."""
        if self.tails:
            self.tails = deque([(now_ns, self.tails[-1][1])])

    def gone(self, now_ns: int) -> int:
        """The first AU that may still lie on the disk: those before it have been unreadable for an hour."""
        return self.tails[0][1] if self.tails and self.tails[0][0] <= now_ns - GONE_NS else 0


class Witness:
    """Looks at a site after each turn. `full`: it lives on a volume that is full, so that room decides what goes."""

    def __init__(self, site: SimSite, book: RuleBook, *, full: bool = False) -> None:
        self._site, self._book = site, book
        self.never_early = Promise("nothing goes before its rule says so", 0, "s too early")
        self.unreadable = Promise("what has expired is unreadable within 60 s", 60, "s")
        self.gone = Promise("what is unreadable is off the disk within an hour", 0, "AUs left")
        self.quotas = Promise("quotas of bytes are kept, to a chunk per track", 1, "chunks above, per track")
        self.thrift = Promise("a quota takes no more than it must", 1, "chunks too many, per look")
        self.space = Promise("chunk files take no more than bytes_max", 0, "bytes above")
        self.pool = Promise("no track waits for a chunk", 0, "times")
        self.ledger = Promise("the ledger has each deleted chunk once, and each erasure within an hour", 0, "chunks at fault")
        self.kept = Promise("what is kept is there, byte for byte", 0, "AUs at fault")
        self._seen = {track.key: Seen() for track in site.tracks}
        self._on_ns = 0
        self._limited = {track.key for track in site.tracks
                         if full or any(quota.bytes_max and quota.covers(*track.key) for quota in book.quotas())}

    @property
    def promises(self) -> list[Promise]:
        """All of them."""
        return [self.never_early, self.unreadable, self.gone, self.quotas, self.thrift, self.space, self.pool, self.ledger, self.kept]

    def switched_on(self) -> None:
        """The site has just been started: minutes and hours count from now."""
        self._on_ns = self._site.clock.wall_ns()
        for seen in self._seen.values():
            seen.restart(self._on_ns)

    def after_turn(self) -> None:
        """The looks of each turn."""
        moved = {track.key: self._tail(track) for track in self._site.tracks if track.number}
        for quota in self._book.quotas():
            if quota.bytes_max:
                self._quota(quota, moved)
        starved = self._site.events["Starved"]
        self.pool.look(starved, f"{starved} events say that a track waits for a chunk")

    def _tail(self, track: SimTrack) -> int:
        """Days, both ways; how far the tail has moved."""
        now_ns, where = self._site.clock.wall_ns(), f"cam-{track.camera}/{track.name}"
        edges = self._site.reader(track).edges()
        first = track.first_from(edges.first_ns - ROUNDING_NS) if edges.first_ns else track.number
        keep = self._book.keep(*track.key)
        assert keep is not None
        limit_ns = now_ns - keep.age_ns
        if edges.first_ns and now_ns - self._on_ns >= UNREADABLE_NS:
            over_s = max(0.0, (limit_ns - edges.first_ns - track.every_ns) / NS)
            self.unreadable.look(over_s, f"{where} at {now_ns}: the oldest row had expired {over_s:.0f} s ago")
        if track.key not in self._limited and first < track.number:
            early_s = (track.time_of(first) - limit_ns) / NS if first and track.first_from(limit_ns) < first else 0.0
            self.never_early.look(max(0.0, early_s), f"{where} at {now_ns}: begins at AU {first}, {early_s:.0f} s after what is to be kept")
        return self._seen[track.key].note(now_ns, first)

    def _quota(self, quota: Quota, moved: Mapping[tuple[int, str], int]) -> None:
        tracks = [track for track in self._site.tracks if track.number and quota.covers(*track.key)]
        if not tracks:
            return
        readers = [self._site.reader(track) for track in tracks]
        size = readers[0].chunk_class.file_bytes
        above = (sum(usage_of(reader).nbytes for reader in readers) - quota.bytes_max) / size
        self.quotas.look(above / len(tracks), f"{quota.why}: {above:.0f} chunks above")
        if any(moved[track.key] for track in tracks):
            self.thrift.look(-above, f"{quota.why}: {-above:.0f} chunks below after something went")

    def search(self) -> None:
        """What lies on the disk, and how much."""
        now_ns, found = self._site.clock.wall_ns(), aus_on_disk(self._site.path)
        for track in self._site.tracks:
            on_disk, bound = found.get(track.key, set()), self._seen[track.key].gone(now_ns)
            left = sorted(number for number in on_disk if number < bound)
            oldest = f"the oldest, {left[0]}, is {(now_ns - track.time_of(left[0])) / NS / 3600:.1f} h old" if left else ""
            self.gone.look(len(left), f"cam-{track.camera}/{track.name} at {now_ns}: {len(left)} AUs below {bound}; {oldest}", len(on_disk))
        above = chunk_space(self._site.path) - self._site.bytes_max
        self.space.look(max(0, above), f"chunk files take {above} bytes more than bytes_max at {now_ns}")

    def read_ledger(self) -> None:
        """The whole ledger beside what is there."""
        told: dict[tuple[int, str], list[Deletion]] = {}
        erased: dict[tuple[int, str, int], int] = {}
        with (self._site.path / ledger_path(0)).open("rb") as file:
            for record in records(file.fileno()):
                for tape, entry in record.entries:
                    if isinstance(entry, Deletion):
                        told.setdefault((tape.camera, tape.name), []).append(entry)
                    else:
                        erased[tape.camera, tape.name, entry.chunk] = entry.time_ns
        for track in self._site.tracks:
            self._told(track, told.get(track.key, []), erased)

    def _told(self, track: SimTrack, told: Sequence[Deletion], erased: Mapping[tuple[int, str, int], int]) -> None:
        where, now_ns = f"ledger, cam-{track.camera}/{track.name}", self._site.clock.wall_ns()
        reader = self._site.reader(track)
        oldest = min((int(path.name) for path in (self._site.path / f"tape.zarr/cam-{track.camera}/{track.name}/c").iterdir()),
                     default=reader.chunk_of(reader.edges().visible_offset) + 1)
        numbers = [entry.chunk for entry in told]
        odd = set(range(oldest)) ^ set(numbers)
        self.ledger.look(len(odd) + len(numbers) - len(set(numbers)),
                         f"{where}: chunks {sorted(odd)[:5]} are deleted and not told, or the other way, or told twice", len(told))
        for entry in told:
            done_ns = erased.get((*track.key, entry.chunk))
            since_ns = max(entry.time_ns, self._on_ns if done_ns is None or done_ns >= self._on_ns else 0)
            late_s = ((now_ns if done_ns is None else done_ns) - since_ns - GONE_NS) / NS
            self.ledger.look(int(late_s > 0), f"{where}: chunk {entry.chunk} was erased {late_s:.0f} s too late, or not yet", 0)
        for before, after in itertools.pairwise(told):
            skipped = after.first_row - before.first_row - before.rows
            self.ledger.look(abs(skipped), f"{where}: {skipped} rows between chunks {before.chunk} and {after.chunk}", 0)

    def read_all(self) -> None:
        """Every AU in sight is the one that was recorded, and none is missing."""
        for track in self._site.tracks:
            found = [(au.wall_ns, au.data) for au in tape_aus(self._site.reader(track))]
            first = track.first_from(found[0][0] - ROUNDING_NS) if found else track.number
            wanted = [track.au_bytes(number) for number in range(first, track.number)]
            wrong = sum(ours != theirs for ours, (_, theirs) in zip(wanted, found, strict=False)) + abs(len(wanted) - len(found))
            self.kept.look(wrong, f"cam-{track.camera}/{track.name}: {wrong} AUs from {first} on are wrong or missing", len(found))
