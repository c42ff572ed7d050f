"""Retention's orders: tails move first, then chunks that are wholly out of sight leave their tracks.

On the keeper's thread. What changes a tape goes over `call` to the writer's; a chunk's file is touched only when the record that gives it up
is durable. Every way to lose footage leads through `_move`: rules, quotas and room alike, and what a hold keeps stops it there.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from recorder.base.clock import Clock
from recorder.base.config import RetentionRule
from recorder.base.media import DeletionCause
from recorder.base.rulebook import Quota, RuleBook
from storage import retention
from storage.chunkfile import ChunkHead
from storage.erasure import Deleted, Erasure, Past
from storage.events import ClockDoubted, MinimumBroken, Retired, SlotEvent
from storage.heldstore import held_ident
from storage.items import Deletion, Erased, TailMove, encode
from storage.layout import HELD, ChunkClass, track_path
from storage.ledger import Ledger
from storage.pool import Pool
from storage.retention import Candidate, Floors, Usage
from storage.tapework import TapeWork
from storage.trusted import TrustedClock
from storage.volume import Volume

AT_ONCE = 64            # chunks given up in one round: after a week switched off recording goes on meanwhile
QUOTA_AT_ONCE = 256     # tracks that lose footage to one quota in one round
FULL = "the volume is full"


class Rules(Protocol):
    """Where a slot's rules come from."""

    def book(self) -> RuleBook | None: ...
    def elsewhere(self, cameras: Collection[int], own: Collection[tuple[int, str]]) -> list[Usage] | None: ...
    def close(self) -> None: ...


class Holds(Protocol):
    """What holds keep (storage/holdkeeper.py)."""

    def free_until(self, work: TapeWork, first_row: int, end_row: int) -> int: ...
    def whole(self, work: TapeWork, head: ChunkHead) -> bool: ...
    def kept(self, work: TapeWork, head: ChunkHead) -> tuple[int, int]: ...


NO_RULES = RuleBook({}, RetentionRule())


class OwnRules:
    """No rule book: each tape goes by the rule that it was opened with, or that its journal holds."""

    def book(self) -> RuleBook | None:
        """The site's rules; None while they are not known, and nothing goes by rule."""
        return NO_RULES

    def elsewhere(self, cameras: Collection[int], own: Collection[tuple[int, str]]) -> list[Usage] | None:
        """What tracks of these cameras have besides the slot's `own` tapes; None if it cannot be told now."""
        return []

    def close(self) -> None:
        """Nothing is open."""


@dataclass(slots=True)
class Retiring:
    """A chunk that has been ordered away; `epoch` is the record that says so, 0 until the writer has run the order.

    `kept`: rows and bytes of it that a hold has saved.
    """

    work: TapeWork
    head: ChunkHead
    first_kept_ns: int
    kept: tuple[int, int]
    epoch: int = 0

    @property
    def held(self) -> bool:
        """True if nothing of it goes."""
        return self.kept[0] > 0 and self.kept[0] >= self.head.rows


@dataclass(frozen=True, slots=True)
class RetainerDesk:
    """What the retainer needs of its slot."""

    volume: Volume
    clock: Clock
    pool: Pool
    call: Callable[[Callable[[], None]], None]
    next_epoch: Callable[[], int]
    acknowledged: Callable[[], int]
    on_event: Callable[[SlotEvent], None]
    rules: Rules
    holds: Holds
    ledger: Ledger
    erasure: Erasure
    last_ns: int        # UTC of the journal's newest record at the start


class Retainer:
    """See the module. OSError means that the volume has failed."""

    def __init__(self, desk: RetainerDesk) -> None:
        self._desk = desk
        self._clock = TrustedClock(desk.clock, desk.last_ns)
        self._retiring: list[Retiring] = []
        self._moving: dict[int, int] = {}       # tapes whose tail has been ordered to move, and to where; the writer has not moved it yet
        self._giving: set[int] = set()          # tapes of which a chunk has been ordered away, and the writer has not given it up yet
        self._quotas: Sequence[Quota] = ()
        self._floors = Floors((), ())

    # By rule

    def by_rule(self, works: list[TapeWork]) -> bool:
        """What must go by days and by bytes goes out of sight; False if the writer was not yet done with earlier orders: look again soon."""
        book = self._desk.rules.book()
        if book is None:
            return True
        free = not self._moving
        for work in works:
            work.keep = book.keep(work.ident.camera, work.ident.name) or work.keep
        own = {work.ident.camera for work in works if work.ident.camera not in book.members and work.bytes_max}
        self._quotas = (*book.quotas(), *(_own_quota(work) for work in works if work.ident.camera in own and work.bytes_max))
        self._by_days(works)
        self._by_bytes(works)
        return free

    def _by_days(self, works: Iterable[TapeWork]) -> None:
        doubted, now_ns = self._clock.doubted, self._clock.now_ns()
        if self._clock.doubted and not doubted:
            self._desk.on_event(ClockDoubted((self._desk.clock.wall_ns() - now_ns) / 1e9))
        for work in works:
            row = retention.expired_row(work, now_ns - work.keep.age_ns)
            if row > work.core.tail_row:
                self._move(work, row, DeletionCause.DAYS, work.keep.why)

    def _by_bytes(self, works: list[TapeWork]) -> None:
        usages = [retention.usage(work) for work in works]
        cameras = {number for quota in self._quotas for number in quota.cameras}
        own = {(work.ident.camera, work.ident.name) for work in works}
        others = self._desk.rules.elsewhere(cameras, own) if cameras else []
        self._floors = Floors(self._quotas, [*usages, *(others or ())])
        for quota in self._quotas:
            if quota.bytes_max:
                self._by_quota(quota, works, usages, others)

    def _by_quota(self, quota: Quota, works: Iterable[TapeWork], usages: Iterable[Usage], others: list[Usage] | None) -> None:
        """The oldest of what the quota counts goes, here as long as nobody has older footage of it elsewhere."""
        mine = [work for work in works if quota.covers(work.ident.camera, work.ident.name)]
        there = [usage for usage in others or () if quota.covers(usage.camera, usage.track)]
        if not mine or (others is None and quota.cameras - {work.ident.camera for work in mine}):
            return
        have = sum(u.nbytes for u in [*usages, *there] if quota.covers(u.camera, u.track))
        before_ns = min((usage.first_ns for usage in there if usage.first_ns), default=None)
        for work, row in self._oldest(mine, have - quota.bytes_max, before_ns).items():
            self._move(work, row, DeletionCause.BYTES, quota.why)

    def _oldest(self, works: Iterable[TapeWork], nbytes: int, before_ns: int | None) -> dict[TapeWork, int]:
        """Per track the row before which chunks must go so that `nbytes` are fewer, those that began before `before_ns` only."""
        rows: dict[TapeWork, int] = {}
        tracks = {work.ident.tape: retention.in_sight(self._desk.volume, work) for work in works if work.ident.tape not in self._moving}
        heap: list[Candidate] = []
        for work in works if nbytes > 0 else ():
            self._push(heap, work, tracks)
        while heap and nbytes > 0 and len(rows) < QUOTA_AT_ONCE and (before_ns is None or heap[0].head.first_ns < before_ns):
            found = heapq.heappop(heap)
            rows[found.work] = found.end_row
            self._floors.take(found.work)
            nbytes -= found.work.chunk_class.file_bytes
            self._push(heap, found.work, tracks)
        return rows

    def _push(self, heap: list[Candidate], work: TapeWork, tracks: dict[int, Iterator[ChunkHead]]) -> None:
        """The next chunk of a track that could go."""
        head = next(tracks[work.ident.tape], None) if work.ident.tape in tracks else None
        if head is not None:
            heapq.heappush(heap, self._candidate(work, head))

    def _candidate(self, work: TapeWork, head: ChunkHead) -> Candidate:
        young = head.end_ns > self._desk.clock.wall_ns() - work.keep.least_ns
        return Candidate(young or self._floors.keeps(work), head.end_ns, work, head)

    # To make room

    def retire_oldest(self, kind: ChunkClass, works: list[TapeWork], cause: DeletionCause, count: int = 1) -> int:
        """Order up to `count` chunks of the class away, of each track one: those that are out of sight already, then the oldest; how many.

        All tracks are looked through once, however many must go.
        """
        own = [work for work in works if work.chunk_class is kind and work.ident.tape not in self._moving]
        done = self.collect(own, count)
        if done >= count:
            return done
        passed = {work.ident.tape: self._passed(work) for work in own if work.ident.tape not in self._giving}
        heap = [self._candidate(work, heads[-1]) for work in own if (heads := passed.get(work.ident.tape))]
        heapq.heapify(heap)
        while heap and done < count:
            one = heapq.heappop(heap)
            if not one.young and (again := self._candidate(one.work, one.head)).young:
                heapq.heappush(heap, again)     # by what has gone meanwhile a minimum has been reached
            elif self._move(one.work, one.end_row, cause, FULL if cause is DeletionCause.ROOM else "", passed[one.work.ident.tape]):
                done += 1
                self._floors.take(one.work)
                if one.young:
                    self._desk.on_event(MinimumBroken(one.work.ident.camera, one.work.ident.name, one.work.keep.min_by))
        return done

    def _passed(self, work: TapeWork) -> list[ChunkHead]:
        """The track's oldest chunks in sight up to the first that is not held whole; none if there is no such chunk."""
        heads: list[ChunkHead] = []
        for head in retention.in_sight(self._desk.volume, work):
            heads.append(head)
            if not self._desk.holds.whole(work, head):
                return heads
        return []

    # Orders

    def tail_row(self, work: TapeWork) -> int:
        """The row below which nothing of a tape is, or will be as soon as the writer has run its order, in sight."""
        return max(work.core.tail_row, self._moving.get(work.ident.tape, 0))

    def busy(self) -> set[Deleted]:
        """Chunks that have been ordered away and lie in their tracks still."""
        return {(order.work.ident.camera, order.work.ident.name, order.head.chunk) for order in self._retiring}

    def _move(self, work: TapeWork, row: int, cause: DeletionCause, why: str, heads: Sequence[ChunkHead] = ()) -> bool:
        """Have the writer move the tail to `row`, or as far as holds let it: then False. Chunks of `heads` that are out of sight go with it."""
        if work.ident.tape in self._moving:
            return False
        wanted, row = row, min(row, self._desk.holds.free_until(work, work.core.tail_row, row))
        if row <= work.core.tail_row:
            return False
        offset, start_ns = retention.tail_offset(work, row), retention.start_ns(work, row)
        move = TailMove(row, offset, start_ns, self._desk.clock.wall_ns(), cause, why)
        self._order(work, move, [head for head in heads if head.first_row + head.rows <= row])
        return row == wanted

    def collect(self, works: Iterable[TapeWork], limit: int = AT_ONCE) -> int:
        """Order chunks away that are wholly out of sight, at most `limit` that are not held; how many of these."""
        done = 0
        for work in works:
            if done >= limit:
                break
            if work.ident.tape not in self._giving and (heads := retention.out_of_sight(self._desk.volume, work, limit - done)):
                done += self._order(work, None, heads)
        return done

    def _order(self, work: TapeWork, move: TailMove | None, heads: Sequence[ChunkHead]) -> int:
        """The writer moves the tail and gives the chunks up; their files go when that is durable. How many become free."""
        first_kept_ns = move.start_ns if move is not None else retention.start_ns(work, work.core.tail_row)
        orders = [Retiring(work, head, first_kept_ns, self._desk.holds.kept(work, head)) for head in heads]
        self._retiring += orders
        if move is not None:
            self._moving[work.ident.tape] = move.row
        if orders:
            self._giving.add(work.ident.tape)

        def run() -> None:
            if move is not None:
                work.move_tail(replace(move, time_ns=self._desk.clock.wall_ns()))
                self._moving.pop(work.ident.tape, None)
            for order in orders:
                deletion = _deletion(order, self._desk.clock.wall_ns())
                work.give_up(deletion)
                order.epoch = self._desk.next_epoch()
                if not order.held:
                    self._desk.ledger.expect(work.ident, deletion, order.epoch)
            if orders:
                self._giving.discard(work.ident.tape)

        self._desk.call(run)
        return sum(not order.held for order in orders)

    def coming(self, kind: ChunkClass) -> int:
        """Chunks of the class that are on their way to quarantine."""
        return sum(order.work.chunk_class is kind and not order.held for order in self._retiring)

    def finish(self, mono_ns: int) -> None:
        """Files whose order is durable go into quarantine."""
        for order in list(self._retiring):
            if order.epoch and order.epoch <= self._desk.acknowledged():
                ident = order.work.ident
                path = f"{track_path(ident.camera, ident.name)}/c/{order.head.chunk}"
                past = None if order.held else Past.of((ident.camera, ident.name, order.head.chunk))
                try:
                    self._desk.pool.retire(path, order.work.chunk_class, mono_ns, past)
                except FileNotFoundError:   # a damaged chunk that `check` has taken away
                    self._desk.erasure.overwritten(past)
                self._retiring.remove(order)
                if not order.held:
                    self._desk.on_event(Retired(ident.camera, ident.name, order.head.chunk, order.first_kept_ns))


    def erased(self, works: Iterable[TapeWork], chunks: Iterable[Deleted]) -> None:
        """Nothing is left of these deleted chunks: their tracks' next record says so, whose syncfs makes the zeros durable; then the ledger."""
        known = {(work.ident.camera, work.ident.name): work for work in works}
        now_ns = self._desk.clock.wall_ns()
        found = [(known[camera, track], Erased(chunk, now_ns)) for camera, track, chunk in chunks if (camera, track) in known]
        for camera, track, chunk in chunks:
            if track.endswith(HELD) and (work := known.get((camera, track.removesuffix(HELD)))) is not None:
                self._desk.ledger.say(held_ident(work.ident), Erased(chunk, now_ns))

        def run() -> None:
            for work, item in found:
                work.pending.append(encode(item))
                self._desk.ledger.expect(work.ident, item, self._desk.next_epoch())

        self._desk.call(run)


def _own_quota(work: TapeWork) -> Quota:
    """The bytes that a tape's own rule allows it."""
    return Quota("track", work.bytes_max, 0, frozenset({work.ident.camera}), work.ident.name)


def _deletion(order: Retiring, now_ns: int) -> Deletion:
    """What the ledger says of the chunk: of what no hold has saved. The writer's thread."""
    head = order.head
    if order.held:
        return Deletion(head.chunk, head.first_row, 0, head.first_ns, head.end_ns, 0, now_ns, DeletionCause.HELD)
    move = order.work.passed_by(head.first_row + head.rows)
    time_ns, cause, why = (move.time_ns or now_ns, move.cause, move.why) if move is not None else (now_ns, DeletionCause.UNKNOWN, "")
    rows, nbytes = head.rows - order.kept[0], max(0, head.used_bytes - order.kept[1])
    return Deletion(head.chunk, head.first_row, rows, head.first_ns, head.end_ns, nbytes, time_ns, cause, why)
