"""Calls of commands to a server's HTTP API: the site's own, or one elsewhere."""

import argparse
import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from recorder.base.errors import ConfigError, NotFound, WatchroomError
from recorder.cli.clip import own_host, token_of
from recorder.cli.clip_source import answered
from recorder.cli.control import server_runs
from recorder.cli.site import add_config, site_of

ANSWER_S = 60.0


class Server:
    """A server by the address of its root, and the token to show it."""

    def __init__(self, base: str, token: str) -> None:
        if not base.startswith(("http://", "https://")):
            raise ConfigError("is no http:// or https:// address", where="--url", remedy="write it like https://nvr.example.org")
        self._base, self._token = base, token
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """The JSON of an answer; `path` below /api/v1. Raises WatchroomError with what the server says."""
        with self.open(method, f"/api/v1/{path}", body, headers) as answer:
            return json.loads(answer.read())

    def open(self, method: str, address: str, body: Any = None, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
        """The answer, to be read and closed."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + address, data, method=method, headers={  # noqa: S310 (checked above)
            **({"Authorization": f"Bearer {self._token}"} if self._token else {}),
            **({"Content-Type": "application/json"} if data else {}), **(headers or {})})
        try:
            answer: http.client.HTTPResponse = self._opener.open(request, timeout=ANSWER_S)
            return answer
        except urllib.error.HTTPError as error:
            raise answered(error, address.partition("?")[0].removeprefix("/api/v1/")) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise WatchroomError(f"does not answer: {reason}", where=self._base, remedy="see that the server runs and can be reached") from None


def add_server(parser: argparse.ArgumentParser, scope: str) -> None:
    """Declares --config, --url and --token-file; the token needs the scope."""
    add_config(parser)
    parser.add_argument("--url", default="", help="of a server elsewhere, such as https://nvr.example.org")
    parser.add_argument("--token-file", type=Path, help=f"a file that holds a token with the scope {scope} (or $WATCHROOM_TOKEN)")


def server_of(args: argparse.Namespace) -> Server:
    """The server that --url names, else the site's own. NotFound if that does not run."""
    if args.url:
        return Server(args.url.rstrip("/"), token_of(args))
    site = site_of(args)
    if not server_runs(site):
        raise NotFound("does not run", where="watchroom serve", remedy="start it, or name another server with --url")
    scheme = "https" if site.server.tls and site.server.tls.cert else "http"
    return Server(f"{scheme}://{own_host(site)}:{site.server.port}", token_of(args))
