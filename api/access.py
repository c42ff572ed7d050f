"""The access log: who asked for what and got how much, without secrets; and the counts of answers for /metrics."""

import logging
from collections import Counter

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from api import keys
from api.connections import DOORS
from api.guard import CLIENT
from api.parameters import SIGNATURE_NAMES
from api.problems import Handler, scrub_log

log = logging.getLogger("watchroom.access")

ANSWERS = web.AppKey[Counter[str]]("answers", Counter)
LINE_MAX = 512


def target(request: web.Request) -> str:
    """Path and query fit for a log: signatures and tokens redacted, control characters escaped, at most 512 characters."""
    query = "&".join(f"{name}={'(redacted)' if name in SIGNATURE_NAMES else value}" for name, value in request.query.items())
    text = scrub_log(f"{request.rel_url.raw_path}?{query}" if query else request.rel_url.raw_path)
    return ascii(text[:LINE_MAX])[1:-1]


class NotOurFault(logging.Filter):
    """Keeps aiohttp's tracebacks out of the log for malformed requests (the client has been told, and they quote it, secrets and all) and
    for clients that went away in the middle of an answer."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for what a client did wrong."""
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError | ConnectionError))


def protocol_logger() -> logging.Logger:
    """The logger for aiohttp's own protocol."""
    logger = logging.getLogger("watchroom.http")
    if not any(isinstance(found, NotOurFault) for found in logger.filters):
        logger.addFilter(NotOurFault())
    return logger


@web.middleware
async def access(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One line and one count per request, however it ends."""
    request.app[DOORS].asked(request)
    clock = request.app[keys.CLOCK]
    begun_ns = clock.mono_ns()
    status, sent = "cut", 0
    try:
        response = await handler(request)
        status, sent = str(response.status), response.body_length or response.content_length or 0
        return response
    finally:
        request.app[ANSWERS][status] += 1
        grant = request.get(keys.GRANT)
        log.info(
            "%s %s %s %s %d bytes %.1f ms by %s",
            request.get(CLIENT, "unknown"),
            request.method,
            target(request),
            status,
            sent,
            (clock.mono_ns() - begun_ns) / 1e6,
            grant.holder if grant else "nobody",
        )
