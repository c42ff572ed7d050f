"""RTSP addresses: credentials taken out, controls joined the way cameras mean it, Content-Base in all the shapes it comes in.

A password may hold `@ : / ? #`: the userinfo ends at the last `@` that stands before something like a host. What may be a host with a port
just as well is refused. Controls are joined as
`base + "/" + control`, not by RFC 1808: live555, ffmpeg and the cameras made for them do it so, queries included.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote

from recorder.base.errors import SourceError
from recorder.base.hidden_login import ENCODE, hides_login
from recorder.base.media import GapCause

URL_MAX = 2048
DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322}
_SCHEME = re.compile(r"\s*([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9_.-]+)(?::(\d{1,5})?)?$")


@dataclass(frozen=True, slots=True)
class RtspUrl:
    """An address without userinfo. `authority` is host and port as written, `path` all behind it (query included) as written.

    `scheme` is rtsp, or rtsps for RTSP over TLS.
    """

    host: str
    port: int
    authority: str
    path: str
    scheme: str = "rtsp"

    @property
    def text(self) -> str:
        """As it stands on a request line."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def encrypted(self) -> bool:
        """True for RTSP over TLS."""
        return self.scheme == "rtsps"


@dataclass(frozen=True, slots=True)
class UserInfo:
    """User and password of an address, percent-decoded once; never in repr."""

    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return "UserInfo(...)"


def parse_url(text: str) -> tuple[RtspUrl, UserInfo | None]:
    """The address and its userinfo (None if it has none).

    Raises SourceError (cause `refused`) for another scheme than rtsp and rtsps, no host, a bad port, control characters, or a userinfo whose
    end cannot be told; the message never holds the userinfo.
    """
    match = _SCHEME.match(text)
    scheme = match[1].lower() if match is not None else ""
    if match is None or scheme not in DEFAULT_PORTS:
        raise _refused(f"scheme {match[1][:20]!r} is not for cameras" if match else "no scheme", "write rtsp://host/path")
    rest = text[match.end():].strip()
    if len(text) > URL_MAX or any(c <= " " or c == "\x7f" for c in rest):
        raise _refused("too long, or it holds blanks or control characters", "percent-encode them")
    if hides_login(rest) and _AUTHORITY.match(re.split(r"[/?#]", rest, maxsplit=1)[0]):
        raise _refused("where its user and password end cannot be told", ENCODE)
    userinfo, rest = _split_userinfo(rest)
    authority, path = _split_authority(rest)
    host, port = _host_port(authority, DEFAULT_PORTS[scheme])
    return RtspUrl(host, port, authority, path, scheme), userinfo


def join_control(base: str, control: str) -> str:
    """The URL of a media whose SDP says `a=control:control` under the base URL."""
    control = control.strip()
    if control in {"", "*"}:
        return base
    if _SCHEME.match(control):
        return strip_userinfo(control)
    if control.startswith("?"):
        return base + control
    return base.removesuffix("/") + "/" + control.removeprefix("/")


def base_url(request: RtspUrl, content_base: str, content_location: str = "") -> str:
    """The base that the DESCRIBE answer names: its path on the address that we are connected to.

    Host and port of the header are never believed (127.0.0.1, the camera's inner address); absent headers give the request's URL.
    """
    text = strip_userinfo((content_base or content_location).strip())
    if not text or any(c <= " " for c in text):
        return request.text
    return f"{request.scheme}://{request.authority}{_base_path(text, request.host)}"


def strip_userinfo(text: str) -> str:
    """The address without `user:password@`; anything that is no address comes back as it is."""
    match = _SCHEME.match(text)
    if match is None:
        return text
    return text[:match.end()] + _split_userinfo(text[match.end():])[1]


def _base_path(text: str, host: str) -> str:
    scheme = False
    while match := _SCHEME.match(text):          # `rtsp://rtsp://host/x` occurs
        text, scheme = text[match.end():], True
    if scheme or _is_authority(re.split(r"[/?#]", text)[0], host):
        at = re.search(r"[/?#]", text)
        return text[at.start():] if at else ""
    return text if text.startswith("/") else "/" + text


def _is_authority(text: str, host: str) -> bool:
    return text == host or _looks_like_host(text, dotted=False)


def _split_userinfo(rest: str) -> tuple[UserInfo | None, str]:
    first = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" not in rest or ("@" not in first and _AUTHORITY.match(first)):
        return None, rest
    at = _userinfo_end(rest, first)
    user, _, password = rest[:at].partition(":")
    return UserInfo(unquote(user), unquote(password)), rest[at + 1:]


def _userinfo_end(rest: str, first: str) -> int:
    """The last `@` with a host behind it; a path may hold one too (`/stream@2`), so that must look like a host indeed."""
    at = len(rest)
    while (at := rest.rfind("@", 0, at)) >= 0:
        if _looks_like_host(re.split(r"[/?#]", rest[at + 1:], maxsplit=1)[0], dotted=True):
            return at
    return first.rfind("@") if "@" in first else rest.rfind("@")


def _looks_like_host(text: str, *, dotted: bool) -> bool:
    match = _AUTHORITY.match(text)
    if match is None:
        return False
    host, port = match[1], match[2]
    if host.startswith("[") or host == "localhost" or port:
        return True
    return _is_address(host) or (dotted and "." in host.strip("."))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _split_authority(rest: str) -> tuple[str, str]:
    at = re.search(r"[/?#]", rest)
    return (rest[:at.start()], rest[at.start():]) if at else (rest, "")


def _host_port(authority: str, default_port: int) -> tuple[str, int]:
    match = _AUTHORITY.match(authority)
    if match is None:
        raise _refused("no host, or a port that is no number", "write rtsp://host:port/path; IPv6 addresses stand in brackets")
    port = int(match[2]) if match[2] else default_port
    if not 0 < port < 65536:
        raise _refused(f"port {port}", "write a port from 1 to 65535")
    return match[1].strip("[]"), port


def _refused(what: str, remedy: str) -> SourceError:
    return SourceError(f"not an address of a camera: {what}", cause=GapCause.REFUSED, retry_s=60.0, remedy=remedy)
