"""Who we are to a camera: Digest (RFC 7616, RFC 2617) and Basic (RFC 7617), from challenges as cameras really send them.

Several WWW-Authenticate headers, or one header with a list: the strongest known challenge is taken (SHA-256, MD5, Basic), unknown
ones are skipped. A header goes with every request once a challenge is known. Basic goes out only where it was agreed to.
"""

import base64
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recorder.base.errors import SourceError, WrongPassword
from recorder.base.media import GapCause

AUTH_RETRY_S = 300.0      # cameras lock the account after some wrong tries
CHALLENGES_MAX = 16
_ITEM = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*+(?:"|\\?$))++')   # a quote that never ends takes the rest: no character is looked at twice
_PARAMETER = re.compile(r'([A-Za-z0-9_-]++)\s*+=\s*+("(?:\\.|[^"\\])*+"|[^\s,]*+)\s*+$')


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge. Values are what stood between the quotes, unchanged: that is what gets hashed."""

    scheme: str                 # lower case
    realm: str = ""
    nonce: str = ""
    opaque: str | None = None
    algorithm: str = "MD5"      # upper case; MD5 when the camera names none
    quoted_algorithm: str | None = None    # as the camera spelt it, None if it named none
    qop: str = ""               # "auth", "auth-int", or "" for RFC 2069
    stale: bool = False

    @property
    def rank(self) -> int:
        """Strength, 0 = unusable."""
        if self.scheme == "basic":
            return 1
        if self.scheme != "digest" or not self.nonce or self.qop == "?":
            return 0
        return {"MD5": 2, "MD5-SESS": 2, "SHA-256": 3, "SHA-256-SESS": 3}.get(self.algorithm, 0)


def parse_challenges(values: Sequence[str]) -> list[Challenge]:
    """The challenges in the WWW-Authenticate values, in order, 16 at most; what cannot be read is left out."""
    found: list[tuple[str, dict[str, str]]] = []
    for value in values[:CHALLENGES_MAX]:
        for item in _ITEM.findall(value):
            _read_item(item.strip(), found)
    return [_challenge(scheme, parameters) for scheme, parameters in found[:CHALLENGES_MAX]]


def _read_item(item: str, found: list[tuple[str, dict[str, str]]]) -> None:
    head = re.match(r"([A-Za-z][A-Za-z0-9_-]*)(?:\s+(?!=)|$)", item)
    if head and not re.match(r"[A-Za-z0-9_-]+\s*=", item):
        found.append((head[1].lower(), {}))
        item = item[head.end():]
    match = _PARAMETER.match(item.strip())
    if match and found:
        found[-1][1].setdefault(match[1].lower(), match[2].removeprefix('"').removesuffix('"'))


def _challenge(scheme: str, parameters: dict[str, str]) -> Challenge:
    algorithm = parameters.get("algorithm")
    offered = [q.strip().lower() for q in parameters.get("qop", "").split(",") if q.strip()]
    qop = next((q for q in ("auth", "auth-int") if q in offered), "?" if offered else "")
    return Challenge(scheme, parameters.get("realm", ""), parameters.get("nonce", ""), parameters.get("opaque"),
                     (algorithm or "MD5").upper(), algorithm, qop, parameters.get("stale", "").lower() == "true")


class Authenticator:
    """Answers the challenges of one camera with one user and password. Not shared between connections that overlap.

    `away`: it is not the host that they were given for.
    """

    def __init__(self, user: str, password: str, *, basic_allowed: bool, away: bool = False,
                 entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._user = user
        self._password = password
        self._basic_allowed = basic_allowed
        self._away = away
        self._entropy = entropy
        self._challenge: Challenge | None = None
        self._cnonce = ""
        self._count = 0

    @property
    def nonce(self) -> str:
        """The nonce in use, "" before the first challenge."""
        return self._challenge.nonce if self._challenge else ""

    def accept(self, values: Sequence[str]) -> Challenge:
        """Take the strongest of the challenges in `values` for all that follows, and return it.

        Raises SourceError (cause `auth`): no password is known, nothing offered is usable, or only Basic without consent.
        """
        if not self._user and not self._password:
            raise _refused("the camera asks for a user and password", "set user and password_file of this camera")
        offers = parse_challenges(values)
        best = max(offers, key=lambda c: c.rank, default=None)
        if best is None or not best.rank:
            raise _refused(f"the camera offers no known way to log in ({', '.join(c.scheme[:20] for c in offers[:4]) or 'none'})",
                           "allow logins by Digest on the camera")
        if best.scheme == "basic" and self._away:
            raise _refused("the camera redirects to a host that offers Basic only, which would be shown the password",
                           "if that is meant, give its address in place of the camera's")
        if best.scheme == "basic" and not self._basic_allowed:
            raise _refused("the camera offers Basic only, which shows the password to the network",
                           "allow digest on the camera, or set basic_without_tls = true")
        if self._challenge is None or best.nonce != self._challenge.nonce:
            self._count = 0
            self._cnonce = self._entropy(8).hex()
        self._challenge = best
        return best

    def header(self, method: str, uri: str, body: bytes = b"") -> str | None:
        """The Authorization value for a request with exactly this request line; None before the first challenge."""
        if self._challenge is None:
            return None
        if self._challenge.scheme == "basic":
            token = base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
            return f"Basic {token}"
        self._count += 1
        return self._digest(self._challenge, method, uri, body)

    def _digest(self, c: Challenge, method: str, uri: str, body: bytes) -> str:
        algorithm = c.algorithm.removesuffix("-SESS")
        nc = f"{self._count:08x}"
        ha1 = _hash(algorithm, f"{self._user}:{c.realm}:{self._password}".encode())
        if c.algorithm.endswith("-SESS"):
            ha1 = _hash(algorithm, f"{ha1}:{c.nonce}:{self._cnonce}".encode())
        a2 = f"{method}:{uri}" + (f":{_hash(algorithm, body)}" if c.qop == "auth-int" else "")
        middle = f"{c.nonce}:{nc}:{self._cnonce}:{c.qop}" if c.qop else c.nonce
        response = _hash(algorithm, f"{ha1}:{middle}:{_hash(algorithm, a2.encode())}".encode())
        parts = [f'username="{_escape(self._user)}"', f'realm="{c.realm}"', f'nonce="{c.nonce}"', f'uri="{uri}"',
                 f'response="{response}"']
        if c.quoted_algorithm:
            parts.append(f"algorithm={c.quoted_algorithm}")
        if c.opaque is not None:
            parts.append(f'opaque="{c.opaque}"')
        if c.qop:
            parts += [f"qop={c.qop}", f"nc={nc}"]
        if c.qop or c.algorithm.endswith("-SESS"):
            parts.append(f'cnonce="{self._cnonce}"')
        return "Digest " + ", ".join(parts)


def wrong_password(where: str = "") -> WrongPassword:
    """The error for credentials that were refused although the challenge was fresh."""
    return WrongPassword("the camera refuses this user and password", cause=GapCause.AUTH, retry_s=AUTH_RETRY_S, where=where,
                         remedy=f"correct them; the next try is in {AUTH_RETRY_S:.0f} s, because cameras lock accounts")


def _hash(algorithm: str, data: bytes) -> str:
    if algorithm == "SHA-256":
        return hashlib.sha256(data).hexdigest()
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _refused(what: str, remedy: str) -> SourceError:
    return SourceError(what, cause=GapCause.AUTH, retry_s=AUTH_RETRY_S, remedy=remedy)
