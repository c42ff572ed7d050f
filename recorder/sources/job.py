"""What a worker tells a source process, and what a source process tells its worker.

Over one socket pair. To the child: a job (length-prefixed JSON), then limits: how many bytes and frames it may have sent in all. From the
child: the dialect that the worker's kernels read from cameras, so that a source process can say no more than a camera can: an ANNOUNCE
with a session description, RTP and RTCP as interleaved frames (RFC 2326 10.12), at the end a TEARDOWN that says why.
"""

import json
import struct
from dataclasses import asdict, dataclass, field
from typing import Any

LENGTH = struct.Struct("<I")
LIMIT = struct.Struct("<QQQ")        # bytes and interleaved frames that may have been sent since the start; ms of a file to leave out
UNLIMITED = LIMIT.pack((1 << 64) - 1, (1 << 64) - 1, 0)
JOB_MAX = 64 << 10
REASON_MAX = 200
TITLE = "watchroom:source"


@dataclass(frozen=True, slots=True)
class SourceJob:
    """One source to open. `address` is numeric and was found in camera_networks; `host` is the name it goes by. `password` is in no repr."""

    kind: str                            # udp, http, hls, rtmp, srt, file
    host: str = ""
    address: str = ""
    port: int = 0
    path: str = ""                       # with its query
    tls: bool = False
    user: str = ""
    password: str = field(default="", repr=False)
    audio: bool = True
    silence_s: float = 10.0
    networks: tuple[str, ...] = ()       # udp: where senders may be
    parent: int = 0                      # the worker, with which the process ends

    def encode(self) -> bytes:
        """The job as it goes over the socket."""
        text = json.dumps(asdict(self)).encode()
        return LENGTH.pack(len(text)) + text

    @classmethod
    def decode(cls, text: bytes) -> "SourceJob":
        """The job that came. ValueError, KeyError or TypeError if it is none."""
        said: dict[str, Any] = json.loads(text)
        return cls(**said | {"networks": tuple(said["networks"])})
