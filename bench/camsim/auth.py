"""Who may see the simulated cameras: Basic (RFC 7617) and Digest with MD5 or SHA-256 (RFC 7616; without qop as cameras do it)."""

import base64
import hashlib
import hmac
import re
import secrets

from bench.camsim.request import Request
from bench.camsim.spec import AuthSpec

REALM = "camsim"
ALGORITHMS = {"MD5": "md5", "SHA-256": "sha256"}
PAIR = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')


def response_of(algorithm: str, auth: AuthSpec, method: str, fields: dict[str, str]) -> str:
    """The Digest response to be expected (RFC 7616 3.4.1)."""
    def digest(text: str) -> str:
        return hashlib.new(ALGORITHMS[algorithm], text.encode()).hexdigest()

    ha1 = digest(f"{auth.user}:{REALM}:{auth.password}")
    ha2 = digest(f"{method}:{fields.get('uri', '')}")
    if fields.get("qop"):
        return digest(":".join([ha1, fields.get("nonce", ""), fields.get("nc", ""), fields.get("cnonce", ""), fields["qop"], ha2]))
    return digest(f"{ha1}:{fields.get('nonce', '')}:{ha2}")


class Guard:
    """The check of one connection; its nonce is its own."""

    def __init__(self, auth: AuthSpec) -> None:
        self._auth = auth
        self._nonce = secrets.token_hex(16)

    def allows(self, request: Request) -> bool:
        """True if the request shows the right user and password (or none is asked for)."""
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        if self._auth.scheme == "none":
            return True
        if scheme.lower() != self._auth.scheme:
            return False
        return self._basic(rest) if scheme.lower() == "basic" else self._digest(rest, request)

    def _basic(self, token: str) -> bool:
        wanted = base64.b64encode(f"{self._auth.user}:{self._auth.password}".encode()).decode()
        return hmac.compare_digest(token.strip().encode(), wanted.encode())

    def _digest(self, rest: str, request: Request) -> bool:
        fields = {m[1].lower(): re.sub(r"\\(.)", r"\1", m[2]) if m[2] is not None else m[3] for m in PAIR.finditer(rest)}
        algorithm = fields.get("algorithm", "MD5").upper()
        if algorithm not in self._algorithms() or fields.get("nonce") != self._nonce or fields.get("username") != self._auth.user:
            return False
        if fields.get("uri") != request.url:
            return False
        wanted = response_of(algorithm, self._auth, request.method, fields)
        return hmac.compare_digest(fields.get("response", "").lower().encode(), wanted.encode())

    def _algorithms(self) -> tuple[str, ...]:
        return {"md5": ("MD5",), "sha-256": ("SHA-256",), "both": ("SHA-256", "MD5")}[self._auth.algorithm]

    def challenges(self, request: Request) -> str:
        """The value of WWW-Authenticate (several challenges in one list); `stale` if the client's nonce is another connection's."""
        if self._auth.scheme == "basic":
            return f'Basic realm="{REALM}"'
        given = re.search(r'nonce="([^"]*)"', request.headers.get("authorization", ""))
        stale = ", stale=true" if given and given[1] != self._nonce else ""
        return ", ".join(f'Digest realm="{REALM}", nonce="{self._nonce}"' + (f", algorithm={name}" if name != "MD5" else "") + stale
                         for name in self._algorithms())
