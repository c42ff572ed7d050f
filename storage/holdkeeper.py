"""A slot's holds at work: which rows may not go, what is saved of a chunk before its tail passes it, and what goes after a release.

The keeper's thread only. A tail moves past a held row only when the row lies, durably, in its held chunk (storage/heldfile.py); a released
row goes with a line in the ledger, durable before the file is touched. OSError: the volume has failed.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from recorder.base.clock import Clock
from recorder.base.errors import Conflict
from storage.chunkfile import ChunkHead
from storage.events import HeldDamaged, HoldBudget, SlotEvent
from storage.heldstore import HeldStore, Key
from storage.hold import Hold
from storage.holdrows import Held, touched
from storage.holdshelf import Shelf, Taken, release
from storage.retention import retirable, start_ns
from storage.siteholds import SiteHolds
from storage.tapework import TapeWork
from storage.volume import Volume

TIDY_NS = 1_000_000_000     # of a round, for what released holds leave
GB = 1_000_000_000
LEVELS = (60, 80, 100)      # per cent of the budget


@dataclass(frozen=True, slots=True)
class Kept:
    """What a hold found of a track when it was taken: everything from `tail_ns` on, and of what is older the stretches `saved`.

    What of the asked time lies before `tail_ns` and in no stretch was gone. `tail_ns` 0: nothing of the tape has ever gone.
    """

    camera: int
    track: str
    tail_ns: int
    saved: tuple[tuple[int, int], ...]
    first_ns: int = 0       # of the tape's oldest row in sight, 0: it has none


@dataclass(frozen=True, slots=True)
class HoldUsage:
    """Bytes of chunk files: saved ones, those in the ring that hold something held, and what both together should not exceed."""

    saved: int = 0
    waiting: int = 0
    budget: int = 0

    @property
    def level(self) -> int:
        """The highest of LEVELS that is reached, 0: none."""
        return max((level for level in LEVELS if (self.saved + self.waiting) * 100 >= level * self.budget), default=0)


class SlotHolds:
    """See the module. `budget` in bytes; `site`: what the worker was told, None where a slot stands alone."""

    def __init__(self, volume: Volume, slot: int, clock: Clock, store: HeldStore, *, budget: Callable[[], int], site: SiteHolds | None,
                 on_event: Callable[[SlotEvent], None]) -> None:
        self._volume, self._clock, self._store, self._budget, self._site, self._on_event = volume, clock, store, budget, site, on_event
        self._shelf = Shelf(volume, slot)
        self._taken: dict[str, Taken] = {}          # those that stand
        self._past: set[str] = set()                # released ones
        self._saved: set[Key] = set()               # all that is held of these has been saved
        self._loose: set[Key] = set()               # these may hold what nothing keeps any more
        self._told = 0                              # version of the site's holds that has been taken
        self._frozen = False
        self.usage = HoldUsage(budget=budget())

    def open(self, works: Iterable[TapeWork]) -> None:
        """Read the shelf, count the held chunks, end what a crash has left half done."""
        found, damaged = self._shelf.open()
        self._taken = {taken.hold.id: taken for taken in found if not taken.hold.released_ns}
        self._past = {taken.hold.id for taken in found if taken.hold.released_ns}
        self._frozen = bool(damaged)        # nobody knows what it kept: what is saved stays
        for name in damaged:
            self._on_event(HeldDamaged(name))
        for work in works:
            self.adopt(work)

    def adopt(self, work: TapeWork) -> None:
        """Take in what lies there of a tape that the slot has from now on."""
        self._loose |= self._store.scan(work)

    def standing(self) -> list[Hold]:
        """The holds that stand. Any thread."""
        return [taken.hold for taken in list(self._taken.values())]

    # What the site wants

    def sync(self, works: Sequence[TapeWork], tail: Callable[[TapeWork], int]) -> None:
        """Take and release what the site has been told of meanwhile. A hold that only this slot knows stands."""
        site = self._site
        if site is None or site.version == self._told:
            return
        version = site.version
        for hold in site.all():
            if hold.released_ns:
                self.release(hold.id, hold.released_ns, hold.released_by)
            else:
                self.take(hold, works, tail)
        self._told = version

    @property
    def _known(self) -> bool:
        return self._site is None or self._told > 0

    def take(self, hold: Hold, works: Iterable[TapeWork], tail: Callable[[TapeWork], int]) -> list[Kept]:
        """Hold from now on, durably; what was found of each track. `tail`: the row at which a tape begins, ordered moves included.

        A hold that is held already, or has been released here, stays as it is.
        """
        mine = [work for work in works if hold.stretches(work.ident.camera, work.ident.name)]
        if hold.id not in self._taken and hold.id not in self._past:
            older = {_name(work): self._store.older(work, hold, tail(work)) for work in mine}
            taken = Taken(hold, {_name(work): tail(work) for work in mine if tail(work)},
                          {name: tuple((one.first, one.after) for one in runs) for name, runs in older.items() if runs})
            self._shelf.put(taken)
            self._taken[hold.id] = taken
            self._saved.clear()
        found = self._taken.get(hold.id)
        return [self._kept(work, found) for work in mine] if found is not None else []

    def room(self, hold: Hold, works: Iterable[TapeWork]) -> None:
        """Conflict if the budget does not bear what the hold would keep of what is there now, or is used up already."""
        standing = list(self._taken.values())
        new = Taken(hold, {})
        waiting = sum(len(self._waiting(work, Held.of([*standing, new], work.ident.camera, work.ident.name))) * work.chunk_class.file_bytes
                      for work in works)
        kept, budget = self._store.nbytes + waiting, self._budget()
        if hold.id not in self._taken and kept >= budget:
            raise Conflict(f"holds would keep {kept / GB:.2f} GB of this slot's footage, their budget is {budget / GB:.2f} GB",
                           where="hold", remedy="release holds that are not needed, ask for less, or raise hold_share of the volume")

    def _kept(self, work: TapeWork, taken: Taken) -> Kept:
        row = taken.from_row.get(_name(work), 0)
        tail_ns = (start_ns(work, row) or work.core.end_ns) if row else 0
        older = [one for one in self._store.older(work, taken.hold, row) if (one.first, one.after) in taken.kept.get(_name(work), ())]
        return Kept(work.ident.camera, work.ident.name, tail_ns, tuple((one.start_ns, one.end_ns) for one in older),
                    start_ns(work, work.core.tail_row))

    def release(self, hold_id: str, time_ns: int, by: str) -> bool:
        """Hold no more, durably; what it alone had saved goes in the next rounds. False if no such hold stands here."""
        taken = self._taken.get(hold_id)
        if taken is None:
            return False
        self._shelf.put(release(taken, time_ns, by))
        del self._taken[hold_id]
        self._past.add(hold_id)
        self._saved.clear()
        cameras = taken.hold.cameras()
        self._loose |= {key for key in self._store.all() if key[0] in cameras}
        return True

    # What the retainer asks

    def free_until(self, work: TapeWork, first_row: int, end_row: int) -> int:
        """The row up to which [first_row, end_row) may go now: what lies before it is not held, or has been saved."""
        if not self._known or self._frozen:
            return first_row
        for start, stop in touched(work, self._held(work), first_row, end_row):
            row = start
            while row < stop:
                head = self._chunk_of(work, row)
                if head is None:
                    return row
                self._save(work, head)
                row = max(head.first_row + head.rows, row + 1)
        return end_row

    def _held(self, work: TapeWork) -> Held:
        return Held.of(self._taken.values(), work.ident.camera, work.ident.name)

    def _chunk_of(self, work: TapeWork, row: int) -> ChunkHead | None:
        """The head of the sealed, durable chunk that holds the row; None if there is none."""
        raw = work.row(row)
        if raw is not None:
            return retirable(self._volume, work, int.from_bytes(raw[16:24], "little") // work.chunk_class.tape_bytes)
        head = work.lost.head(row)
        return retirable(self._volume, work, head.chunk) if head is not None else None

    def _save(self, work: TapeWork, head: ChunkHead) -> None:
        key = (work.ident.camera, work.ident.name, head.chunk)
        if key not in self._saved:
            if not self._store.save(work, head, self._held(work)):
                self._loose.add(key)
            self._saved.add(key)

    def whole(self, work: TapeWork, head: ChunkHead) -> bool:
        """True if holds keep every row of the chunk: it can be passed, but nothing is won by it."""
        held = self._held(work)
        return bool(held.takens) and self._known and self._store.whole(work, head, held)

    def kept(self, work: TapeWork, head: ChunkHead) -> tuple[int, int]:
        """Rows and bytes of the chunk that are saved."""
        return self._store.kept(work, head)

    # After a release

    def tidy(self, works: Iterable[TapeWork], busy: Collection[Key]) -> None:
        """Let go what nothing keeps any more. `busy`: chunks that are on their way out of their tracks."""
        if self._frozen or not self._known or not self._loose:
            return
        begun_ns = self._clock.mono_ns()
        known = {(work.ident.camera, work.ident.name): work for work in works}
        for key in sorted(self._loose):
            work = known.get(key[:2])
            if work is None or key in busy:
                continue
            if self._store.tidy(work, key[2], self._held(work)):
                self._loose.discard(key)
            if self._clock.mono_ns() - begun_ns > TIDY_NS:
                break

    def look(self, works: Iterable[TapeWork]) -> None:
        """Count what holds take, and tell when a level of the budget is reached or left."""
        before, waiting, budget = self.usage.level, 0, self._budget()
        for work in works:
            held = self._held(work)
            if held.takens:
                waiting += len(self._waiting(work, held)) * work.chunk_class.file_bytes
        self.usage = HoldUsage(self._store.nbytes, waiting, budget)
        if self.usage.level != before:
            self._on_event(HoldBudget(self._volume.path, self.usage.level, self.usage.saved + waiting, budget))

    def _waiting(self, work: TapeWork, held: Held) -> set[int]:
        """Chunks of the ring that hold something held and are not saved."""
        found: set[int] = set()
        for start, stop in touched(work, held, work.core.tail_row, work.core.next_row):
            first, last = work.row(start), work.row(stop - 1)
            if first is not None and last is not None:
                size = work.chunk_class.tape_bytes
                found |= set(range(int.from_bytes(first[16:24], "little") // size, int.from_bytes(last[16:24], "little") // size + 1))
        return found - self._store.numbers(work)


def _name(work: TapeWork) -> str:
    return f"{work.ident.camera}/{work.ident.name}"


