"""What the API and a decoder process say to each other over their socket pair: one piece of work, one answer, in turn."""

import json
import struct
from dataclasses import dataclass
from typing import Any, ClassVar, Self

HEAD = struct.Struct("<II")           # bytes of JSON, bytes of body
ANSWER = struct.Struct("<BI")         # a Status, bytes of body
AAC_SAMPLES = 1024                    # of an AU of AAC-LC
SOUND_LEAD = 3                        # AUs encoded before the first one wanted, and thrown away
SOUND_BPS = 64_000                    # of a channel of AAC; less where the sampling rate bears less
SOUND_BITS_MAX = 4                    # of a sample: what an AU of 6,144 bits a channel allows is more
BODY_MAX = 64 << 20                   # of one job: a picture group of half a minute at 16 Mbit/s
JSON_MAX = 1 << 20
PICTURE_MAX = 32 << 20

DONE = 0                              # the body is what was asked for
UNDECODABLE = 1                       # the body says why, in words


def bit_rate(hz: int, channels: int) -> int:
    """Bits per second of derived sound, on average."""
    return min(SOUND_BPS, SOUND_BITS_MAX * hz) * channels


@dataclass(frozen=True, slots=True)
class Job:
    """Decode AUs (`sizes` bytes each, back to back in `body`, in decode order) and give the picture of `target_pts` as a JPEG.

    `codec` and `config` are a SampleEntry's; `width` 0 keeps the size. With `height` the answer is a cell of a sheet instead: the picture's
    planes (YUV 4:2:0, full range, width x height x 3 / 2 bytes), scaled to fit and black beside it; both are even then.
    """

    kind: ClassVar[str] = "picture"
    codec: str
    config: bytes
    sizes: tuple[int, ...]
    pts: tuple[int, ...]
    target_pts: int
    width: int
    body: bytes
    height: int = 0

    def said(self) -> dict[str, Any]:
        """All but the body."""
        return {"codec": self.codec, "config": self.config.hex(), "sizes": self.sizes, "pts": self.pts, "target_pts": self.target_pts,
                "width": self.width, "height": self.height}

    @classmethod
    def of(cls, said: dict[str, Any], body: bytes) -> Self:
        """The job that was said; ValueError, KeyError or TypeError if it is none."""
        return cls(said["codec"], bytes.fromhex(said["config"]), tuple(said["sizes"]), tuple(said["pts"]), said["target_pts"],
                   said["width"], body, said["height"])


@dataclass(frozen=True, slots=True)
class SheetJob:
    """Put cells of `width` x `height` (both even) into one JPEG, `columns` beside each other.

    `present` says of each cell whether its planes are in `body`; the others stay black.
    """

    kind: ClassVar[str] = "sheet"
    columns: int
    width: int
    height: int
    present: tuple[bool, ...]
    body: bytes

    def said(self) -> dict[str, Any]:
        """All but the body."""
        return {"columns": self.columns, "width": self.width, "height": self.height, "present": self.present}

    @classmethod
    def of(cls, said: dict[str, Any], body: bytes) -> Self:
        """The job that was said; KeyError or TypeError if it is none."""
        return cls(said["columns"], said["width"], said["height"], tuple(said["present"]), body)


@dataclass(frozen=True, slots=True)
class SoundJob:
    """Decode AUs of sound (`sizes` bytes each in `body`, the first sample of each at place `at`, in samples of `hz`) and encode AAC-LC.

    The answer: `count` AUs from `first` on, AU k of samples [1024 (k - 1), 1024 k): u32 count, u32 bytes of each, all of them. Where no AU
    is, there is silence.
    """

    kind: ClassVar[str] = "sound"
    codec: str
    config: bytes
    hz: int
    channels: int
    sizes: tuple[int, ...]
    at: tuple[int, ...]
    first: int
    count: int
    body: bytes

    def said(self) -> dict[str, Any]:
        """All but the body."""
        return {"codec": self.codec, "config": self.config.hex(), "hz": self.hz, "channels": self.channels, "sizes": self.sizes,
                "at": self.at, "first": self.first, "count": self.count}

    @classmethod
    def of(cls, said: dict[str, Any], body: bytes) -> Self:
        """The job that was said; ValueError, KeyError or TypeError if it is none."""
        return cls(said["codec"], bytes.fromhex(said["config"]), said["hz"], said["channels"], tuple(said["sizes"]), tuple(said["at"]),
                   said["first"], said["count"], body)


Work = Job | SheetJob | SoundJob
KINDS: dict[str, type[Job] | type[SheetJob] | type[SoundJob]] = {made.kind: made for made in (Job, SheetJob, SoundJob)}


def encode(work: Work) -> bytes:
    """The work as it goes over the socket."""
    head = json.dumps({"kind": work.kind, **work.said()}).encode()
    return HEAD.pack(len(head), len(work.body)) + head + work.body


def decode(head: bytes, body: bytes) -> Work:
    """The work that came; ValueError, KeyError or TypeError if it is none."""
    said = json.loads(head)
    return KINDS[said["kind"]].of(said, body)
