"""rtsp:// addresses of this server: what a request's address names (RFC 2326 3.2)."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from api.rtspout.fault import Fault
from api.rtspout.sdp import CONTROL
from recorder.base.media import valid_id

CONTROLS = frozenset(CONTROL + track for track in ("main", "sub", "audio", "metadata"))     # a camera's id may begin like them


@dataclass(frozen=True, slots=True)
class Named:
    """`base` without the stream; `kind` is "" of live, `track` "" of a whole presentation."""

    base: str
    kind: str
    camera: str
    sub: bool
    track: str
    query: str


def parse_address(url: str, kinds: frozenset[str]) -> Named:
    """`kinds` are first parts of a path that say what of a camera is meant. Raises Fault 404."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise Fault(404, "this is no address") from None
    words = [word for word in parts.path.split("/") if word]
    if parts.scheme not in {"rtsp", "rtsps", "rtspu"} or not words or len(words) > 4:
        raise Fault(404, "an address is rtsp://host:port/camera, or .../camera/sub")
    track = words.pop().removeprefix(CONTROL) if words[-1] in CONTROLS else ""
    kind = words.pop(0) if len(words) > 1 and words[0] in kinds else ""
    if words and words[0] == "live" and len(words) > 1 and words[1] != "sub":
        words.pop(0)
    if not words or len(words) > 2 or not valid_id(words[0]) or words[1:] not in ([], ["sub"]):
        raise Fault(404, "an address is rtsp://host:port/camera, or .../camera/sub")
    path = "/".join([*([kind] if kind else []), *words])
    return Named(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{path}", kind, words[0], len(words) == 2, track, parts.query[:500])
