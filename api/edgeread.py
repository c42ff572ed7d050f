"""Reads a track's newest AUs with their bytes: at the start from the newest access point on, then what comes.

What comes is usually taken at once, without waiting, out of the live block and the warm chunk (`poll`). All else (another chunk, a cold page,
a place the block has left behind, another tape) is done by `step`, which waits.
"""

from dataclasses import dataclass

from api.feed import Place, elsewhere, newest_access_point
from api.footage import Footage, load
from api.media import Media
from api.tapebytes import TapeBytes
from api.unit import Unit
from recorder._ext.newest import Newest
from recorder.base.errors import Gone
from recorder.base.media import AuFlag, SampleEntry, TrackKind
from storage.layout import LIVE_BLOCK_BYTES, PAGE
from storage.live import LiveFile
from storage.reader import TrackReader

STEP_ROWS = 4                 # at once by the slow way
SOUND_ROWS = 8                # in which sound from before the newest picture lies
READ_BYTES = 8 << 20          # AUs read at once by the slow way
KEY, LEADING, DAMAGED = int(AuFlag.KEY), int(AuFlag.LEADING), int(AuFlag.DAMAGED)
Raw = tuple[int, int, int, int, int, int, int, int, bool]


@dataclass(slots=True)
class _Tape:
    """A tape, its bytes, and its block in the live file, if that is known."""

    reader: TrackReader
    bytes: TapeBytes
    entries: dict[int, SampleEntry]
    newest: Newest | None = None
    file: LiveFile | None = None

    def entry(self, number: int) -> SampleEntry:
        found = self.entries.get(number)
        if found is None:
            found = self.entries[number] = self.reader.sample_entry(number)
        return found


class EdgeReader:
    """One track. `poll` and `step` give units in decode order, numbered from 0 on; loop thread only; `close` at the end."""

    def __init__(self, media: Media, camera: int, name: str) -> None:
        self._media = media
        self.track = media.store.whole(camera, name)
        self._tape: _Tape | None = None
        self.number = 0                           # of the next unit
        self._row, self._aus = 0, 0
        self._last: SampleEntry | None = None
        self._newest: Raw | None = None           # the last that was given
        self._pending: list[Raw] = []             # known, but their bytes have not been read
        self._broken = True                       # the next unit leads on from nothing

    @property
    def reader(self) -> TrackReader | None:
        """The tape that is read; None before the start."""
        return self._tape.reader if self._tape is not None else None

    def poll(self) -> list[Unit] | None:
        """What is new; None when `step` is needed."""
        tape = self._tape
        if tape is None or tape.newest is None or self._pending:
            return None
        raw = tape.newest.take(self._last.clock_rate if self._last is not None else 90_000)
        if not raw:
            return [] if raw is not None else None
        self._row, self._aus = tape.newest.place
        size = raw[0][1] if len(raw) == 1 else _joined_size(raw)
        data = tape.bytes.warm(raw[0][5], size, tape.newest.tail_offset) if size else None
        if data is None:
            self._pending = list(raw)
            return None
        return self._units(tape, raw, data)

    async def step(self) -> list[Unit]:
        """What is new, by the way that waits. The first time from the newest access point on; [] while there is none.

        Raises Gone, Unreadable or OSError, NotFound while the track's volumes are out: `restart` then.
        """
        if self._tape is None:
            self._start()
        tape = self._tape
        if tape is None:
            return []
        if not self._pending:
            self._pending = self._read_rows(tape)
        raw, self._pending = self._pending, []
        done, at = [], 0
        while at < len(raw):
            part = _part(raw, at)
            data = memoryview(bytearray(sum(one[1] for one in part)))
            await tape.bytes.read_into(data, part[0][5])
            done += self._units(tape, part, bytes(data))
            at += len(part)
        self._relocate(tape)
        return done

    def look(self) -> None:
        """Now and then: whether the block still lies where it did, and the track has not gone on on another tape (then `step` begins there)."""
        tape = self._tape
        if tape is None:
            return
        found = tape.reader.live.locate()
        if tape.file is not None and (found is None or found[0] is not tape.file):
            tape.newest = tape.file = None
        if not self._pending and elsewhere(self.track, tape.reader, self._row):
            tape.bytes.close()
            self._tape = None

    def restart(self) -> None:
        """Begin again at the newest access point, with the next number."""
        self.close()
        self._pending, self._broken = [], True

    def close(self) -> None:
        """Give the chunk back."""
        if self._tape is not None:
            self._tape.bytes.close()
            self._tape = None

    def _start(self) -> None:
        start = newest_access_point(self.track)
        if start is None:
            return
        place = start.place
        if start.reader.kind is not TrackKind.VIDEO:
            place = Place(max(start.reader.edges().first_row, place.row - SOUND_ROWS), 0)
        self._tape = _Tape(start.reader, self._media.tape_bytes(start.reader), {})
        self._row, self._aus, self._broken = place.row, place.sent, True

    def _read_rows(self, tape: _Tape) -> list[Raw]:
        """AUs behind the place as the tape's reader tells them, of a few rows."""
        back = 1 if self._aus == 0 and self._row > tape.reader.edges().first_row else 0      # the row before tells whether it leads on
        run = tape.reader.rows_from(self._row - back, STEP_ROWS + back)
        if len(run) and run.first != self._row - back:
            raise Gone("the footage has been retired", where=tape.reader.where, remedy="ask for a later time")
        footage = load(tape.reader, run)
        self._recognise(footage, back)
        if len(footage.run) <= back:
            return []
        aus, first, breaks = footage.aus, footage.first_au, footage.breaks
        numbers = footage.run.rows["sample_entry"].tolist()
        raw = []
        for at in range(int(first[back]) + self._aus, len(footage)):
            index = int(aus.row[at])
            leads = not (breaks[index] and at == first[index]) or index == 0
            raw.append((run.first + index, int(aus.size[at]), int(aus.flags[at]), int(aus.dts[at]), int(aus.cts[at]), int(aus.offset[at]),
                        int(aus.wall_ns[at]), numbers[index], leads))
        self._row, self._aus = run.first + len(footage.run) - 1, len(footage) - int(first[-1])
        return raw

    def _recognise(self, footage: Footage, back: int) -> None:
        """The AU before the place is the one that was given. Gone if a killed worker has lost it: its row's number is then given again."""
        last = self._newest
        if last is None or self._broken:
            return
        at = (int(footage.first_au[back]) if len(footage.run) > back else len(footage)) + self._aus - 1
        aus, known = footage.aus, (last[0], last[3], last[5])
        if not 0 <= at < len(footage) or (footage.run.first + int(aus.row[at]), int(aus.dts[at]), int(aus.offset[at])) != known:
            raise Gone("the newest footage was lost when its recorder ended", where=self.track.where, remedy="begin anew")

    def _relocate(self, tape: _Tape) -> None:
        """Go on in the live block, if there is one and all before it has been taken."""
        found = tape.reader.live.locate()
        if found is None:
            tape.newest = tape.file = None
            return
        file, block, _ = found
        if tape.newest is None or tape.file is not file:
            tape.file = file
            tape.newest = Newest(file.bytes, PAGE + block * LIVE_BLOCK_BYTES, tape.reader.camera, tape.reader.name.encode())
        if tape.newest.place != (self._row, self._aus):
            tape.newest.seek(self._row, self._aus)

    def _units(self, tape: _Tape, raw: list[Raw] | tuple[Raw, ...], data: bytes) -> list[Unit]:
        made, at = [], 0
        for row, size, flags, dts, cts, _, wall_ns, number, leads in raw:
            entry = tape.entry(number)
            breaks = self._broken or not leads or entry is not self._last
            own = data if len(raw) == 1 else data[at:at + size]
            made.append(Unit(self.number, own, entry, dts, cts, wall_ns, bool(flags & KEY), bool(flags & LEADING), bool(flags & DAMAGED),
                             breaks, row))
            self._last, self._broken = entry, False
            self.number += 1
            at += size
        self._newest = raw[-1] if raw else self._newest
        return made


def _joined_size(raw: tuple[Raw, ...]) -> int:
    """Bytes of the AUs together, if they follow each other on the tape; else 0."""
    size = sum(one[1] for one in raw)
    return size if raw[-1][5] + raw[-1][1] - raw[0][5] == size else 0


def _part(raw: list[Raw], first: int) -> list[Raw]:
    """AUs from `first` on that follow each other on the tape, of some bytes together."""
    stop, size = first + 1, raw[first][1]
    while stop < len(raw) and raw[stop][5] == raw[stop - 1][5] + raw[stop - 1][1] and size + raw[stop][1] <= READ_BYTES:
        size += raw[stop][1]
        stop += 1
    return raw[first:stop]
