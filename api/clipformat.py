"""The formats of a clip: what each is called, what it can carry, and the words where it cannot."""

from collections.abc import Sequence
from dataclasses import dataclass

from api.mp4.clip import MovieTrack
from api.ts.plan import carries
from recorder.base.errors import Conflict
from recorder.base.media import SampleEntry, TrackKind


@dataclass(frozen=True, slots=True)
class Format:
    """`exact`: it begins with the first picture of the range; else with the access point before it. `video`, `sound`: media types."""

    name: str
    exact: bool
    video: str
    sound: str

    def media_type(self, *, sound_alone: bool) -> str:
        """The type of a file."""
        return self.sound if sound_alone else self.video


FORMATS = {one.name: one for one in (
    Format("mp4", True, "video/mp4", "audio/mp4"),
    Format("fmp4", False, "video/mp4", "audio/mp4"),
    Format("ts", False, "video/mp2t", "video/mp2t"),
    Format("webm", False, "video/webm", "audio/webm"),
)}
EXTENSIONS = {"fmp4": "mp4"}


def extension(name: str) -> str:
    """What files of a format are called."""
    return EXTENSIONS.get(name, name)


def check(name: str, tracks: Sequence[MovieTrack]) -> None:
    """Raises Conflict, with what works, if the format cannot carry these tracks as they were recorded."""
    if name == "fmp4" and any(len(track.entries) > 1 for track in tracks):
        raise Conflict("the coding changes within this range, and many players lose a fragmented file there", remedy="ask for format=mp4 or ts")
    bad = [entry for track in tracks for entry in track.entries if not fits(name, entry)]
    alone = name != "webm" or len(tracks) == 1
    if not bad and alone:
        return
    works = [other for other in FORMATS if all(fits(other, entry) for track in tracks for entry in track.entries) and other != "webm"]
    ways = [f"format={' or '.join(works)}"] if works else []
    if bad and all(entry.kind is TrackKind.AUDIO for entry in bad) and not tracks[0].audio:
        ways.append("audio=none")
    codecs = ", ".join(dict.fromkeys(entry.codec for entry in bad or tracks[0].entries))
    raise Conflict(f"{name} cannot carry {codecs}, and nothing is transcoded here", remedy=f"ask for {', or '.join(ways)}")


def fits(name: str, entry: SampleEntry) -> bool:
    """True if the format has a place for this coding."""
    if name == "ts":
        return carries(entry)
    return name != "webm" or entry.codec == "Opus"
