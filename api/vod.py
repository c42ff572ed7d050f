"""Which segments a playlist lists, found in the index stretch by stretch: memory is bounded by a stretch and the list, whatever the range."""

from dataclasses import replace

from api.clipplan import MARGIN_NS
from api.derived import derivable, refused
from api.footage import load_pieces
from api.playlist import Listed, Segment, segments
from api.problems import Problem
from api.variants import SHOWN
from recorder.base.errors import NotFound
from recorder.base.media import NS
from storage.reader import TrackReader
from storage.store import TapeStore

STRETCH_NS = 2 * 3600 * NS    # of the index that is looked at at once: some 200,000 AUs
SEGMENTS_MAX = 100_000        # of a playlist: some 10 MB of text


def sound_beside(store: TapeStore, camera: int, track: str, place: int) -> TrackReader | None:
    """The sound that was recorded beside a video track, on the same volume."""
    try:
        return store.tape(camera, "audio", place) if track in SHOWN else None
    except NotFound:
        return None


def stretch(store: TapeStore, camera: int, track: str, start_ns: int, end_ns: int, *, day: int, lasts_ns: int, audio: str,
            last: Segment | None) -> list[Listed]:
    """The segments of [start, end), which come after `last`. `audio`: source, aac or none. Raises Problem 400 where no AAC can be made."""
    found: list[Listed] = []
    before_ns = MARGIN_NS if last is not None else 0
    for video in load_pieces(store.whole(camera, track), start_ns - before_ns, end_ns + MARGIN_NS, durable=True):
        reader = sound_beside(store, camera, track, video.reader.place) if audio != "none" else None
        sound = reader.rows(video.run.start_ns, video.run.end_ns, durable=True) if reader is not None else None
        listed = list(segments(video, sound, start_ns, end_ns, day=day, lasts_ns=lasts_ns, last=last))
        found += _derived(listed, reader) if audio == "aac" and reader is not None else listed
        last = found[-1].segment if found else last
    return found


def _derived(listed: list[Listed], sound: TrackReader) -> list[Listed]:
    """The same with sound that players can take. Problem 400 where none can be made."""
    entries = {number: sound.sample_entry(number) for number in {one.segment.sound for one in listed} - {0}}
    made = {number for number, entry in entries.items() if entry.codec != "mp4a"}
    if not all(derivable(entries[number]) for number in made):
        raise refused()
    return [replace(one, segment=replace(one.segment, aac=one.segment.sound in made)) for one in listed]


def bounded(listed: list[Listed]) -> None:
    """Raises Problem 400 when the list is too long for a playlist."""
    if len(listed) > SEGMENTS_MAX:
        raise Problem(400, f"the footage of this range is in more than {SEGMENTS_MAX:,} pieces, too many for one playlist", parameter="end",
                      remedy="ask for it in parts")
