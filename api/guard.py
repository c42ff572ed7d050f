"""The first door: which Host, Origin and proxy headers a request may bear, before anybody asks who it is.

| what | answer |
|---|---|
| a Host that is not ours (a rebinding page) | 421 |
| Forwarded or X-Forwarded-* where no proxy is configured | 403 |
| an Origin that is neither ours nor configured | 403 |
| another site embedding or fetching without CORS (Sec-Fetch-Site) | 403 |
| a change or a WebSocket without our Origin, unless no Origin and a Bearer token | 403 |
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import hdrs, web

from api.problems import Handler, Problem
from recorder.base.config import ServerConfig
from recorder.base.errors import ConfigError

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
PREFLIGHT_S = "600"
API_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
ALLOWED_METHODS = "GET, HEAD, POST, PATCH, PUT, DELETE"
ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Range, If-Range, If-Match, If-None-Match"
EXPOSED_HEADERS = "Content-Range, ETag, Location, Repr-Digest, Retry-After, Watchroom-Complete"


def is_loopback(listen: str) -> bool:
    """True if the address can only be reached from this machine."""
    try:
        return ipaddress.ip_address(listen.strip("[]")).is_loopback
    except ValueError:
        return listen == "localhost"


def check_exposure(server: ServerConfig, tokens: int) -> None:
    """ConfigError unless the server may listen where it is told to: off loopback it takes TLS and at least one token."""
    tls = server.tls
    if tls is not None and not tls.proxy and (tls.cert is None or tls.key is None):
        raise ConfigError("needs both cert and key, or proxy", where="server.tls", remedy='set cert and key, or tls = "proxy"')
    if is_loopback(server.listen) and not (tls and tls.proxy):
        return
    if tls is None:
        raise ConfigError(
            f"{server.listen} can be reached from other machines, and there is no TLS",
            where="server.listen",
            remedy='set server.tls to a cert and key or to "proxy", or listen on 127.0.0.1',
        )
    if tokens == 0:
        raise ConfigError(
            "other machines can reach this server, and no token exists that would let anybody in",
            where="server.listen",
            remedy="make one first: watchroom token add",
        )


@dataclass(frozen=True, slots=True)
class Guard:
    """The rules of one server. `hosts` are lower-case names, `origins` exact origins."""

    hosts: frozenset[str]
    origins: frozenset[str]
    scheme: str
    proxied: bool

    @classmethod
    def of(cls, server: ServerConfig) -> "Guard":
        """The rules that a configuration gives."""
        proxied = server.tls is not None and server.tls.proxy
        return cls(
            frozenset(host.lower() for host in server.hosts),
            frozenset(origin.rstrip("/") for origin in server.origins),
            "https" if server.tls else "http",
            proxied,
        )

    def check(self, request: web.Request) -> None:
        """Problem if the request may not come in."""
        host = self.host(request)
        self._forwarded(request)
        origin = _single(request, hdrs.ORIGIN)
        ours = origin is not None and origin == f"{self.scheme}://{host}"
        if origin is not None and not ours and origin not in self.origins:
            raise Problem(403, "this page's origin may not use this server", remedy="add it to server.origins if it should")
        if origin is None:
            self._embedded(request)
        if request.method not in SAFE_METHODS or request.headers.get(hdrs.UPGRADE):
            self._changing(request, origin, ours)

    def host(self, request: web.Request) -> str:
        """The Host, which is one of ours; Problem 400 or 421."""
        if not request.raw_path.startswith("/"):
            raise Problem(400, "the request must name a path of this server")
        host = (_single(request, hdrs.HOST) or "").lower()
        if host not in self.hosts and _without_port(host) not in self.hosts:
            raise Problem(421, "this server does not answer to that host name", remedy="add the name to server.hosts if it should")
        return host

    def client(self, request: web.Request) -> str:
        """The client's address: the peer's, or behind the configured proxy the last one it wrote down."""
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        address = str(peer[0]) if peer else "unknown"
        if not self.proxied:
            return address
        last = ",".join(request.headers.getall("X-Forwarded-For", [])).rpartition(",")[2].strip()
        try:
            return str(ipaddress.ip_address(last))
        except ValueError:
            return address

    def _forwarded(self, request: web.Request) -> None:
        if self.proxied:
            return
        if any(name.lower() == "forwarded" or name.lower().startswith("x-forwarded-") for name in request.headers):
            raise Problem(403, "the request came through a proxy, and none is configured", remedy='set server.tls = "proxy" behind one')

    def _embedded(self, request: web.Request) -> None:
        site = request.headers.get("Sec-Fetch-Site", "none")
        navigation = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.headers.get("Sec-Fetch-Dest") == "document"
        if site not in {"none", "same-origin"} and not (navigation and request.method in SAFE_METHODS):
            raise Problem(403, "another site may not use this server")

    def _changing(self, request: web.Request, origin: str | None, ours: bool) -> None:
        bearer = request.headers.get(hdrs.AUTHORIZATION, "").lower().startswith("bearer ")
        if not ours and not bearer:
            raise Problem(403, "a change needs a page of this server, or a Bearer token", remedy="send Authorization: Bearer")

    def cors(self, request: web.Request) -> dict[str, str]:
        """The CORS headers of an answer: those of a configured origin, else none. Credentials are never allowed; a token is sent."""
        if not self.origins:
            return {}
        headers = {"Vary": "Origin"}
        origin = request.headers.get(hdrs.ORIGIN)
        if origin in self.origins:
            headers |= {"Access-Control-Allow-Origin": str(origin), "Access-Control-Expose-Headers": EXPOSED_HEADERS}
        return headers

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a configured origin's preflight."""
        asked = request.headers.get("Access-Control-Request-Method")
        if request.method != "OPTIONS" or asked is None or request.headers.get(hdrs.ORIGIN) not in self.origins:
            return None
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": ALLOWED_METHODS,
                "Access-Control-Max-Age": PREFLIGHT_S,
                "Access-Control-Allow-Headers": ALLOWED_HEADERS,
            },
        )


GUARD = web.AppKey("guard", Guard)
CLIENT = web.RequestKey("client", str)


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Checks every request, also those to addresses that do not exist."""
    rules = request.app[GUARD]
    request[CLIENT] = rules.client(request)
    rules.check(request)
    return rules.preflight(request) or await handler(request)


async def seal_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Signal on_response_prepare: what every answer bears, streams and errors included."""
    contain(response)
    response.headers.update(request.app[GUARD].cors(request))


def contain(response: web.StreamResponse) -> None:
    """Headers that keep an answer where it belongs; nothing in them says what the server is made of."""
    headers = response.headers
    headers["Server"] = "watchroom"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["X-Frame-Options"] = "DENY"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers.setdefault("Content-Security-Policy", API_POLICY)
    headers.setdefault("Cache-Control", "no-store")


def page_policy(request: web.Request) -> str:
    """The content security policy of a page: our own files, our own sockets, media made by the page; nothing inline."""
    host = request.headers.get(hdrs.HOST, "")
    sockets = f"{'wss' if request.app[GUARD].scheme == 'https' else 'ws'}://{host}"
    return (
        f"default-src 'self'; connect-src 'self' {sockets}; media-src 'self' blob:; img-src 'self' blob:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


def _single(request: web.Request, name: str) -> str | None:
    values: Iterable[str] = request.headers.getall(name, [])
    found = list(values)
    if len(found) > 1:
        raise Problem(400, f"the {name} header is given more than once")
    return found[0] if found else None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isascii() and port.isdigit() and len(port) <= 5 else host
