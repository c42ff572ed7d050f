"""Fragments of what is being recorded, one per picture, made once for all tiles that show the track (ISO 14496-12 8.8).

Their media time 0 is where a stretch begins for whoever joined it first: what leads on from there without a break.
"""

import struct
from collections.abc import Sequence
from itertools import pairwise

from api.mp4.fragment import DEFAULT_BASE_IS_MOOF, NON_SYNC, SYNC, TRUN_ALL, FragmentTrack, init_segment
from api.mp4.sample_entry import codec_string
from api.unit import Unit
from recorder.base.media import NS, SampleEntry

VIDEO, SOUND = 1, 2           # numbers of the tracks
VERSION_1 = 1 << 24
SLACK_NS = 40_000_000         # sound that is off the pictures' clock by more is put right
NALS_MAX = 256
CRA, BLA_N_LP = 21, 18        # NAL types (H.265 table 7-1)
_HEAD = struct.Struct(">I4sI4sIII4sI4sIIII4sIQI4sIIi")       # moof up to the samples of its trun
_SAMPLE = struct.Struct(">IIIi")
_MDAT = struct.Struct(">I4s")


def _fragment(track: int, sequence: int, dts: int, samples: bytes, size: int) -> bytes:
    """moof and the head of mdat: `samples` are the rows of its trun, `size` the bytes that follow."""
    trun, count = 20 + len(samples), len(samples) // _SAMPLE.size
    moof = 72 + trun
    head = _HEAD.pack(moof, b"moof", 16, b"mfhd", 0, sequence & 0xFFFFFFFF, 48 + trun, b"traf",
                      20, b"tfhd", DEFAULT_BASE_IS_MOOF | 2, track, 1, 20, b"tfdt", VERSION_1, dts,
                      trun, b"trun", VERSION_1 | TRUN_ALL, count, moof + 8)
    return head + samples + _MDAT.pack(8 + size, b"mdat")


class Stretch:
    """Pictures that lead on from each other, and the sound beside them."""

    def __init__(self, first: Unit) -> None:
        self.entry, self._base, self._hz = first.entry, first.dts, first.entry.clock_rate
        self._last_dts, self._long = first.dts, first.entry.clock_rate
        self._anchor: tuple[int, int] | None = None          # of the sound: DTS, and where it stands
        self._sound: tuple[tuple[int, int], bytes] | None = None

    def wall0_ns(self, unit: Unit) -> int:
        """UTC of media time 0, by this picture."""
        return unit.wall_ns - (unit.pts - self._base) * NS // self._hz

    def init(self, unit: Unit, sound: SampleEntry | None) -> tuple[bytes, str]:
        """The init segment, and its codecs (RFC 6381)."""
        tracks = [FragmentTrack((entry,), entry.clock_rate) for entry in (self.entry, sound) if entry is not None]
        return init_segment(tracks, self.wall0_ns(unit)), ",".join(codec_string(track.entries[0]) for track in tracks)

    def picture(self, unit: Unit) -> bytes:
        """The picture's fragment.

        It is said to last for longer than it will: browsers drop what comes until the next access point when a picture lasts less than half of
        what passes before the next one (MSE, coded frame processing), and how long it will be is not known yet.
        """
        if unit.fragment is None:
            self._long = max(self._hz, self._long if unit.dts <= self._last_dts else 2 * (unit.dts - self._last_dts))
            self._last_dts = unit.dts
            unit.fragment = self._picture(unit, unit.data)
        made: bytes = unit.fragment
        return made

    def first_picture(self, unit: Unit) -> bytes:
        """The same for who sees nothing of what came before: a CRA picture is named a BLA picture (H.265 7.4.2.2)."""
        return self._picture(unit, _as_bla(unit.data)) if unit.entry.codec == "hvc1" else self.picture(unit)

    def _picture(self, unit: Unit, data: bytes) -> bytes:
        size = len(data)
        row = _SAMPLE.pack(min(self._long, 0xFFFFFFFF), size, SYNC if unit.key else NON_SYNC, max(0, unit.cts))
        return _fragment(VIDEO, unit.number + 1, max(0, unit.dts - self._base), row, size) + data

    def sound(self, units: Sequence[Unit], wall0_ns: int) -> bytes:
        """A fragment of sound units that follow each other, on the clock of pictures whose media time 0 is at `wall0_ns`."""
        key = units[0].number, len(units)
        if self._sound is None or self._sound[0] != key:
            self._sound = key, self._sound_fragment(units, wall0_ns)
        return self._sound[1]

    def _sound_fragment(self, units: Sequence[Unit], wall0_ns: int) -> bytes:
        hz = units[0].entry.clock_rate
        due = (units[0].wall_ns - wall0_ns) * hz // NS
        at = due if self._anchor is None else self._anchor[1] + units[0].dts - self._anchor[0]
        if units[0].breaks or abs(at - due) * NS > SLACK_NS * hz:
            at = due
        self._anchor = units[0].dts, at
        steps = [after.dts - unit.dts for unit, after in pairwise(units)]
        steps.append(steps[-1] if steps else _frame(units[0].entry))
        rows = b"".join(_SAMPLE.pack(min(max(0, step), 0xFFFFFFFF), len(unit.data), SYNC, 0) for unit, step in zip(units, steps, strict=True))
        data = b"".join(unit.data for unit in units)
        return _fragment(SOUND, units[0].number + 1, max(0, at), rows, len(data)) + data


def _frame(entry: SampleEntry) -> int:
    """Ticks of one unit of sound: AAC has 1,024 samples, Opus mostly 20 ms."""
    return 1024 if entry.codec == "mp4a" else entry.clock_rate // 50


def _as_bla(data: bytes) -> bytes:
    """An AU of H.265 as one that follows on nothing."""
    out, at = bytearray(data), 0
    for _ in range(NALS_MAX):
        if at + 5 > len(out):
            break
        if out[at + 4] >> 1 & 63 == CRA:
            out[at + 4] = out[at + 4] & 0x81 | BLA_N_LP << 1
        at += 4 + int.from_bytes(out[at:at + 4])
    return bytes(out)
