"""aiohttp's protocol, but for what it answers to requests that it cannot read: it would quote them, tokens and all, and say what it is."""

from aiohttp import web

from api.guard import contain
from api.problems import response, title


class Protocol(web.RequestHandler):
    """One connection of the HTTP server."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """A problem document with nothing of the request in it; the connection ends. Raises ConnectionError when an answer has begun."""
        super().handle_error(request, status, exc, message)
        made = response(status, "the request is not well-formed HTTP" if status == 400 else title(status).lower())
        contain(made)
        made.force_close()
        return made
