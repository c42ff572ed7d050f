"""Who a client is: tokens by Digest (RFC 7616, and RFC 2069's form for old players), or by Basic where nobody can listen.

A nonce is good on the connection that it was given on, and for 5 minutes: what was overheard is worth nothing elsewhere or later.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from api.authorise import Authority, Grant
from api.registry import Registry
from api.rtspout.fault import Fault, Headers
from api.rtspout.request import Request
from storage.camera_record import TokenRecord
from storage.digest_login import REALM, USER

NONCE_S = 300
WRONG_MAX = 5               # refused logins on a connection before it ends
KEEPING = frozenset({"OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "PAUSE", "TEARDOWN"})      # may bear an old nonce: they begin nothing
_FIELD = re.compile(r'([A-Za-z0-9_-]{1,20})\s*+=\s*+(?:"((?:\\.|[^"\\])*+)"|([^\s,"]*+))\s*+(?:,\s*+|$)')       # nothing is looked at twice
HEADER_MAX = 4096
UNKNOWN = "this token is not known, has expired or was revoked; one that was made before RTSP came must be made anew (watchroom token add)"


@dataclass(frozen=True, slots=True)
class DigestAnswer:
    """What an Authorization header by Digest says; names as in RFC 7616 3.4."""

    username: str
    nonce: str
    uri: str
    response: str
    sha256: bool
    qop: str
    nc: str
    cnonce: str


def parse_digest(text: str) -> DigestAnswer | None:
    """What stands behind `Digest`; None if it cannot be used."""
    found: dict[str, str] = {}
    at = 0
    while (match := _FIELD.match(text, at)) is not None and len(found) < 16:
        found.setdefault(match[1].lower(), match[2] if match[2] is not None else match[3])
        at = match.end()
    algorithm, qop = found.get("algorithm", "MD5").upper(), found.get("qop", "")
    if not {"username", "nonce", "uri", "response"} <= found.keys() or algorithm not in {"MD5", "SHA-256"} or qop not in {"", "auth"}:
        return None
    return DigestAnswer(found["username"], found["nonce"], found["uri"], found["response"].lower(), algorithm == "SHA-256", qop,
                        found.get("nc", ""), found.get("cnonce", ""))


def covers(uri: str, url: str) -> bool:
    """Whether a response for `uri` is good for a request of `url`: some players take the presentation's address for all that lies below it."""
    try:
        asked, signed = urlsplit(url).path.rstrip("/"), urlsplit(uri).path.rstrip("/")
    except ValueError:
        return False
    return asked == signed or (signed != "" and asked.startswith(signed + "/"))


def expected(answer: DigestAnswer, method: str, secret: bytes) -> str:
    """The response that a holder of the token gives; `secret` is the H(A1) of its algorithm (RFC 7616 3.4.1)."""
    def digest(text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        return (hashlib.sha256(data) if answer.sha256 else hashlib.md5(data, usedforsecurity=False)).hexdigest()

    middle = f"{answer.nonce}:{answer.nc}:{answer.cnonce}:{answer.qop}" if answer.qop else answer.nonce
    return digest(f"{secret.hex()}:{middle}:{digest(f'{method}:{answer.uri}')}")


class Login:
    """One connection's. `plain`: Basic may be used, since the connection is encrypted or does not leave this machine."""

    def __init__(self, authority: Authority, registry: Registry, *, open_door: bool, plain: bool) -> None:
        self._authority, self._registry = authority, registry
        self._open_door, self._plain = open_door, plain
        self._key = secrets.token_bytes(16)
        self._last = 0              # the token that was used before
        self.wrong = 0

    async def grant(self, request: Request) -> Grant:
        """What the request may do. Raises Fault 401 with challenges."""
        header = request.headers.get("authorization", "")
        if not header:
            grant = self._authority.nobody() if self._open_door else None
            if grant is None:
                raise self._challenge("a token is needed here: user name token, the token as password")
            return grant
        found = self._check(request, header)
        if found is None and await self._registry.refresh_if_stale():
            found = self._check(request, header)
        if found is None:
            self.wrong += 1
            raise self._challenge(UNKNOWN)
        return found

    def _check(self, request: Request, header: str) -> Grant | None:
        scheme, _, text = header[:HEADER_MAX].partition(" ")
        if scheme.lower() == "basic" and self._plain:
            return self._basic(text)
        answer = parse_digest(text.strip()) if scheme.lower() == "digest" else None
        if answer is None or answer.username != USER or not covers(answer.uri, request.url):
            return None
        age_s = self._age_s(answer.nonce)
        if age_s is None or (age_s > NONCE_S and request.method not in KEEPING):
            raise self._challenge("the nonce is too old, or another connection's", stale=True)
        grant = self._authority.token_that(lambda token: self._holds(token, answer, request.method), first=self._last)
        if grant is not None and grant.token is not None:
            self._last = grant.token.number
        return grant

    @staticmethod
    def _holds(token: TokenRecord, answer: DigestAnswer, method: str) -> bool:
        secret = token.login_sha256 if answer.sha256 else token.login_md5
        return bool(secret) and hmac.compare_digest(expected(answer, method, secret).encode(), answer.response.encode())

    def _basic(self, text: str) -> Grant | None:
        try:
            _, _, password = base64.b64decode(text.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return self._authority.bearer(password)

    def _nonce(self, when_s: int) -> str:
        return f"{when_s:x}-{hmac.new(self._key, str(when_s).encode(), hashlib.sha256).hexdigest()[:32]}"

    def _age_s(self, nonce: str) -> float | None:
        """Seconds since we gave this nonce on this connection; None if we did not."""
        head = nonce.partition("-")[0]
        when_s = int(head, 16) if re.fullmatch(r"[0-9a-f]{1,12}", head) else 0
        return time.monotonic() - when_s if hmac.compare_digest(self._nonce(when_s).encode(), nonce.encode("utf-8", "replace")) else None

    def _challenge(self, words: str, *, stale: bool = False) -> Fault:
        """Strongest first; players that know one way only take the last one that they see, which is MD5 without qop."""
        nonce, old = self._nonce(int(time.monotonic())), ", stale=true" if stale else ""
        ways: Mapping[str, bool] = {
            f'Basic realm="{REALM}"': self._plain,
            f'Digest realm="{REALM}", nonce="{nonce}", algorithm=SHA-256, qop="auth"{old}': True,
            f'Digest realm="{REALM}", nonce="{nonce}", algorithm=MD5{old}': True,
        }
        headers: Headers = tuple(("WWW-Authenticate", way) for way, offered in ways.items() if offered)
        return Fault(401, words, headers)
