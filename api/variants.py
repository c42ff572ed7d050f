"""The tracks of a camera that a player may choose from over a range, for a multivariant playlist. From rows alone."""

import numpy as np

from api.decoder.wire import bit_rate
from api.derived import aac_entry, derivable
from api.mp4.sample_entry import codec_string
from api.playlist import DAY_NS, Variant
from recorder.base.errors import NotFound
from recorder.base.media import RowFlag, SampleEntry
from storage.store import TapeStore

SHOWN = ("main", "sub")       # tracks that show what the camera's sound is of: a player may go from one to the other
OVERHEAD_BPS = 20_000         # what a fragment's head takes, roughly
LEAST_S = 0.5                 # a shorter row says nothing about a bit rate

Rates = tuple[list[SampleEntry], int, int]


def variants(store: TapeStore, camera: int, start_ns: int, end_ns: int, *, audio: str) -> list[Variant]:
    """Those that have footage in the range, the best first; the address of each is its name. The camera's sound counts in as `audio` says."""
    sound = _rates(store, camera, "audio", start_ns, end_ns) if audio != "none" else None
    if sound is not None and audio == "aac":
        sound = _derived(sound)
    found = ((name, _rates(store, camera, name, start_ns, end_ns)) for name in SHOWN)
    return [_variant(name, rates, sound or ([], 0, 0)) for name, rates in found if rates is not None]


def _derived(sound: Rates) -> Rates:
    """The same as it is sent where AAC is made of what players cannot take."""
    made = [entry for entry in sound[0] if entry.codec != "mp4a" and derivable(entry)]
    bps = max((bit_rate(entry.clock_rate, entry.channels) for entry in made), default=0)
    entries = [aac_entry(entry) if entry in made else entry for entry in sound[0]]
    return (entries, 2 * bps, bps) if made else sound


def _variant(name: str, video: Rates, sound: Rates) -> Variant:
    entries = [*video[0], *sound[0]]
    codecs = tuple(dict.fromkeys(codec_string(entry) for entry in entries))
    return Variant(video[1] + sound[1] + OVERHEAD_BPS, video[2] + sound[2] + OVERHEAD_BPS, codecs, max(one.width for one in entries),
                   max(one.height for one in entries), name)


def _rates(store: TapeStore, camera: int, track: str, start_ns: int, end_ns: int) -> Rates | None:
    """Codings, and bits per second (peak of a row, mean), of a track's closed rows in the range; None if there are none. A day at a time."""
    entries: list[SampleEntry] = []
    peak, bits, seconds, rows = 0.0, 0.0, 0.0, 0
    for at_ns in range(start_ns, end_ns, DAY_NS):
        try:
            pieces = store.whole(camera, track).pieces(at_ns, min(at_ns + DAY_NS, end_ns), durable=True)
        except NotFound:
            return None
        for piece in pieces:
            closed = piece.run.rows[(piece.run.rows["flags"] & RowFlag.OPEN) == 0]
            if not len(closed):
                continue
            entries += [piece.tape.sample_entry(number) for number in np.unique(closed["sample_entry"]).tolist()]
            row_bits, row_s = closed["bytes"] * 8.0, closed["wall_dur_us"] / 1e6
            peak = max(peak, float((row_bits / np.maximum(row_s, LEAST_S)).max()))
            bits, seconds, rows = bits + float(row_bits.sum()), seconds + float(row_s.sum()), rows + len(closed)
    return (list(dict.fromkeys(entries)), round(peak), round(bits / max(seconds, LEAST_S))) if rows else None
