"""From a request to a grant: a signed URL, else Authorization: Bearer, else the session cookie, else nobody on loopback."""

from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from aiohttp import hdrs, web

from api import keys
from api.authorise import Authority, Grant
from api.guard import GUARD
from api.parameters import DIRECTIVE_NAMES, SIGNATURE_NAMES
from api.problems import Problem

AUTHORITY = web.AppKey("authority", Authority)
COOKIE = "watchroom"
SECURE_COOKIE = "__Host-watchroom"  # RFC 6265bis 4.1.3.2: only over TLS, from this host, for all of it
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="watchroom"'}


def cookie_name(secure: bool) -> str:
    """The session cookie's name."""
    return SECURE_COOKIE if secure else COOKIE


async def find_grant(request: web.Request, *, signable: bool = False) -> Grant:
    """What the request may do; Problem 401 if nothing it brings is good, also not after a fresh look at the catalogue."""
    try:
        return _find(request, signable)
    except Problem:
        if not await request.app[keys.REGISTRY].refresh_if_stale():
            raise
    return _find(request, signable)


def _find(request: web.Request, signable: bool) -> Grant:
    authority = request.app[AUTHORITY]
    if signable and "sig" in request.query:
        return _good(_signed(request, authority), "this link has expired or was changed")
    header = request.headers.get(hdrs.AUTHORIZATION)
    if header is not None:
        scheme, _, text = header.partition(" ")
        return _good(
            authority.bearer(text.strip()) if scheme.lower() == "bearer" else None, "this token is not known, has expired or was revoked"
        )
    cookie = request.cookies.get(cookie_name(request.app[GUARD].scheme == "https"))
    grant = authority.cookie(cookie) if cookie else None
    return _good(grant or authority.nobody(), "a token is needed here")


def _good(grant: Grant | None, words: str) -> Grant:
    if grant is None:
        raise Problem(401, words, headers=CHALLENGE)
    return grant


def _signed(request: web.Request, authority: Authority) -> Grant | None:
    if request.method not in {"GET", "HEAD"}:
        return None
    query = request.query
    return authority.signed(target_of(request.path_qs), query.get("kid", ""), query.get("exp", ""), query["sig"])


def target_of(address: str) -> str:
    """What a signature covers: the path and every parameter but its own and those that a player of live HLS adds, in one spelling."""
    parts, free = urlsplit(address), SIGNATURE_NAMES | DIRECTIVE_NAMES
    pairs = sorted(pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] not in free)
    return f"{parts.path}?{urlencode(pairs, quote_via=quote)}"


def link(request: web.Request, grant: Grant, address: str) -> str:
    """`address` (path and query) as the same holder may fetch it: signed again, with the same end, if the request itself came by a signed URL.

    For playlists, whose segments the same player fetches without any header or cookie.
    """
    if grant.means != "signed":
        return address
    return signed_address(request.app[AUTHORITY], grant, address, grant.until_ns // 1_000_000_000)


def signed_address(authority: Authority, grant: Grant, address: str, until_s: int) -> str:
    """`address` with a signature that holds until `until_s` (UTC seconds)."""
    signature = urlencode(authority.sign(grant, target_of(address), until_s))
    return f"{address}{'&' if '?' in address else '?'}{signature}"
