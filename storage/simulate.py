"""What a rule book would take of the footage that is there now: storage/retainer.py's choices, made on paper.

Days cut a track between rows. A quota lets chunks go whole, the oldest of all its tracks first; which ones follows from one instant, so that is
searched for. Minima in days are heeded as the retainer heeds them; minima in bytes are not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from recorder.base.rulebook import Keep, Quota, RuleBook
from storage.reader import TrackReader
from storage.store import TapeStore

EVERYTHING_NS = 1 << 62
STEP_NS = 1_000_000     # how closely an instant is searched for


@dataclass(frozen=True, slots=True)
class Cut:
    """Rows of a track that end at or before `to_ns` go; `why` is the rule in words."""

    to_ns: int
    why: str


@dataclass(frozen=True, slots=True)
class Loss:
    """What a track would lose: [from_ns, to_ns), with so much footage in it (time and media bytes)."""

    camera: int
    track: str
    from_ns: int
    to_ns: int
    covered_ns: int
    nbytes: int
    why: str


class Tape:
    """One tape, as far as rules care for it."""

    def __init__(self, reader: TrackReader, now_ns: int) -> None:
        edges = reader.edges()
        self.reader, self.camera, self.track = reader, reader.camera, reader.name
        self.first_ns, self._now_ns = edges.first_ns, now_ns
        self._size, self.file_bytes = reader.chunk_class.tape_bytes, reader.chunk_class.file_bytes
        self._next_chunk = -(-edges.visible_offset // self._size)

    def chunk_after(self, t_ns: int) -> int:
        """The chunk that would be the oldest if all chunks that end at or before `t_ns` went; the newest one stays."""
        run = self.reader.first_after(t_ns)
        return min(int(run.rows["offset"][0]) // self._size if len(run.rows) else self._next_chunk, max(self._next_chunk - 1, 0))

    def left(self, t_ns: int) -> int:
        """Bytes of its chunk files then."""
        return (self._next_chunk - self.chunk_after(t_ns)) * self.file_bytes

    def begin(self, chunk: int) -> int:
        """UTC of the first row that lies in `chunk` or behind it; `first_ns` if that is the oldest."""
        edges = self.reader.edges()
        low, high = edges.first_row, edges.next_row
        while low < high:
            middle = (low + high) // 2
            run = self.reader.rows_from(middle, 1)
            if len(run.rows) and int(run.rows["offset"][0]) < chunk * self._size:
                low = middle + 1
            else:
                high = middle
        run = self.reader.rows_from(low, 1)
        return run.start_ns if len(run.rows) else self.first_ns


def losses(store: TapeStore, now: RuleBook, then: RuleBook, now_ns: int) -> list[Loss]:
    """What `then` would take that `now` leaves, by camera and track. Reads indexes, no footage."""
    tapes = [Tape(reader, now_ns) for camera in store.cameras() for name in store.tracks(camera) for reader in store.tapes(camera, name)]
    before, after = cuts(tapes, now, now_ns), cuts(tapes, then, now_ns)
    found = []
    for tape, old, new in zip(tapes, before, after, strict=True):
        start_ns = max(tape.first_ns, old.to_ns)
        if tape.first_ns and new.to_ns > start_ns:
            line = tape.reader.timeline(start_ns, min(new.to_ns, now_ns))
            if line.covered_ns:
                found.append(Loss(tape.camera, tape.track, line.spans[0].start_ns, line.spans[-1].end_ns, line.covered_ns,
                                  int(line.nbytes.sum()), new.why))
    return found


def cuts(tapes: Sequence[Tape], book: RuleBook, now_ns: int) -> list[Cut]:
    """Where each tape would begin under the book; a camera that the book does not know loses nothing."""
    out = []
    for tape in tapes:
        keep = book.keep(tape.camera, tape.track)
        out.append(Cut(now_ns - keep.age_ns, keep.why) if keep is not None else Cut(0, ""))
    for quota in book.quotas():
        if quota.bytes_max:
            _apply(quota, tapes, out, book, now_ns)
    return out


def _apply(quota: Quota, tapes: Sequence[Tape], out: list[Cut], book: RuleBook, now_ns: int) -> None:
    mine = [number for number, tape in enumerate(tapes) if tape.first_ns and quota.covers(tape.camera, tape.track)]
    keeps = {number: book.keep(tapes[number].camera, tapes[number].track) or Keep() for number in mine}

    def cut(number: int, t_ns: int, *, young: bool) -> int:
        old_ns = now_ns - keeps[number].least_ns        # what is younger goes only when nothing else is left
        return max(out[number].to_ns, max(t_ns, old_ns) if young else min(t_ns, old_ns))

    def left(t_ns: int, *, young: bool) -> int:
        return sum(tapes[number].left(cut(number, t_ns, young=young)) for number in mine)

    young = left(EVERYTHING_NS, young=False) > quota.bytes_max
    low, high = 0, now_ns
    if left(low, young=young) <= quota.bytes_max:
        return
    while high - low > STEP_NS:
        middle = (low + high) // 2
        if left(middle, young=young) > quota.bytes_max:
            low = middle
        else:
            high = middle
    for number in mine:
        begin_ns = tapes[number].begin(tapes[number].chunk_after(cut(number, high, young=young)))
        if begin_ns > max(out[number].to_ns, tapes[number].first_ns):
            out[number] = Cut(begin_ns, quota.why)


def total(found: Iterable[Loss]) -> tuple[int, int, int]:
    """Tracks, ns of footage and bytes of all losses together."""
    each = list(found)
    return len({(loss.camera, loss.track) for loss in each}), sum(loss.covered_ns for loss in each), sum(loss.nbytes for loss in each)
