"""What the API and a decoder process say to each other over their socket pair: one job, one answer, in turn."""

import json
import struct
from dataclasses import dataclass

HEAD = struct.Struct("<II")           # bytes of JSON, bytes of body
ANSWER = struct.Struct("<BI")         # a Status, bytes of body
BODY_MAX = 64 << 20                   # of one job: a picture group of half a minute at 16 Mbit/s
JSON_MAX = 1 << 20
PICTURE_MAX = 32 << 20

DONE = 0                              # the body is a JPEG
UNDECODABLE = 1                       # the body says why, in words


@dataclass(frozen=True, slots=True)
class Job:
    """Decode AUs (`sizes` bytes each, back to back in `body`, in decode order) and give the picture of `target_pts` as a JPEG.

    `codec` and `config` are a SampleEntry's; `width` 0 keeps the size.
    """

    codec: str
    config: bytes
    sizes: tuple[int, ...]
    pts: tuple[int, ...]
    target_pts: int
    width: int
    body: bytes

    def encode(self) -> bytes:
        """The job as it goes over the socket."""
        head = json.dumps({"codec": self.codec, "config": self.config.hex(), "sizes": self.sizes, "pts": self.pts,
                           "target_pts": self.target_pts, "width": self.width}).encode()
        return HEAD.pack(len(head), len(self.body)) + head + self.body

    @classmethod
    def decode(cls, head: bytes, body: bytes) -> "Job":
        """The job that came; ValueError, KeyError or TypeError if it is none."""
        said = json.loads(head)
        return cls(said["codec"], bytes.fromhex(said["config"]), tuple(said["sizes"]), tuple(said["pts"]), said["target_pts"],
                   said["width"], body)
