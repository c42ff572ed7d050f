"""Errors as RFC 9457 problem documents: what went wrong and the remedy, never a path, an address or a secret.

Handlers raise what they know (`recorder.base.errors`, `Problem` for what only HTTP has a word for); one middleware turns it into an answer.
What nobody foresaw becomes a 500 with an incident id; the log has the same id and the rest.
"""

import ipaddress
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from aiohttp import web

from recorder.base import errors
from storage.sickdisk import sick

log = logging.getLogger("watchroom.api")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MEDIA_TYPE = "application/problem+json"
RETRY_S = 5


class Problem(errors.WatchroomError):
    """An answer that only HTTP has a word for; `extra` are members of the document (RFC 9457 3.2)."""

    def __init__(self, status: int, message: str, *, remedy: str = "", headers: dict[str, str] | None = None, **extra: Any) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self.headers = headers or {}
        self.extra = extra


@dataclass(frozen=True, slots=True)
class Mapping:
    """How one error is answered: the status, and whether its words may leave the house."""

    error: type[errors.WatchroomError]
    status: int
    said: bool


# The first that fits wins. Storage errors name files and offsets in their words, so those stay in the log.
MAPPINGS = (
    Mapping(errors.NotFound, 404, True),
    Mapping(errors.Conflict, 409, True),
    Mapping(errors.Refused, 403, True),
    Mapping(errors.Gone, 410, False),
    Mapping(errors.ConfigError, 422, True),
    Mapping(errors.Unreadable, 503, True),
    Mapping(errors.StorageError, 503, False),
)
SILENT = {
    410: "this footage has been retired under its retention rule",
    500: "the server failed in a way that it should not; the incident is in its log",
    503: "the storage cannot answer this now; the incident is in the server's log",
}

_SECRET = (
    (re.compile(r"\bwr_[\w-]+"), "(token)"),
    (re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://\S+"), "(address)"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?:/\d+)?\b"), "(address)"),
    (re.compile(r"(?<![\w/])/(?:[\w.@+-]+/)*[\w.@+-]*[\w@+-]"), "(path)"),
)
_COLONS = re.compile(r"\[?(?<![\w:])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?![\w:])\]?")


def scrub(text: str) -> str:
    """`text` without tokens, URLs, IP addresses and file paths: the last line of defence, not the first."""
    for pattern, word in _SECRET:
        text = pattern.sub(word, text)
    return _COLONS.sub(_address, text)


def _address(found: re.Match[str]) -> str:
    try:
        ipaddress.IPv6Address(found[0].strip("[]"))
    except ValueError:
        return found[0]  # a time of day has colons too
    return "(address)"


def title(status: int) -> str:
    """The status as a phrase."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def document(status: int, detail: str, **extra: Any) -> dict[str, Any]:
    """A problem document (RFC 9457 3.1); `type` is a page that describes the status."""
    return {"type": f"/docs#status-{status}", "title": title(status), "status": status, "detail": scrub(detail), **extra}


def response(status: int, detail: str, headers: dict[str, str] | None = None, **extra: Any) -> web.Response:
    """A problem document as an answer; never cached."""
    body = json.dumps(document(status, detail, **extra)).encode()
    return web.Response(status=status, body=body, content_type=MEDIA_TYPE, headers={"Cache-Control": "no-store", **(headers or {})})


def answer(error: BaseException) -> web.Response:
    """The answer to any exception that a handler let go."""
    if isinstance(error, Problem):
        return response(error.status, _words(error), error.headers, **error.extra)
    if isinstance(error, web.HTTPException):
        return _http(error)
    for mapping in MAPPINGS:
        if isinstance(error, mapping.error):
            headers = {"Retry-After": str(RETRY_S)} if mapping.status == 503 else None
            return response(mapping.status, _words(error), headers) if mapping.said else _silent(mapping.status, error)
    if sick(error):
        return _of_a_disk(error)
    return _silent(500, error)


def _of_a_disk(error: BaseException) -> web.Response:
    """A disk's error is nobody's defect: a line in the log, no traceback."""
    log.warning("a disk cannot be read: %s", scrub_log(str(error)))
    return response(503, "a disk cannot read this now; ask again later", {"Retry-After": str(RETRY_S)})


def _words(error: errors.WatchroomError) -> str:
    return f"{error.message}; {error.remedy}" if error.remedy else error.message


def _http(error: web.HTTPException) -> web.Response:
    if error.status < 400:
        raise error
    details = {404: "there is nothing at this address", 405: "this address does not take that method", 413: "the body is too large"}
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    return response(error.status, details.get(error.status, title(error.status)), headers)


def _silent(status: int, error: BaseException) -> web.Response:
    incident = secrets.token_hex(6)
    if status >= 500:
        log.error("incident %s: %s", incident, scrub_log(str(error)), exc_info=error if status == 500 else None)
    headers = {"Retry-After": str(RETRY_S)} if status == 503 else None
    extra = {"incident": incident} if status >= 500 else {}
    return response(status, SILENT[status], headers, **extra)


def scrub_log(text: str) -> str:
    """`text` fit for the log: paths and addresses stay, tokens and line breaks go."""
    return _SECRET[0][0].sub("(token)", text).replace("\r", " ").replace("\n", " ")


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every exception becomes a problem document; an answer that has begun is cut off instead, so that it cannot pass for whole."""
    try:
        return await handler(request)
    except Exception as error:
        if isinstance(error, ConnectionError):
            raise
        made = answer(error)
        if _begun(request):
            _cut(request)
        return made


def _begun(request: web.Request) -> bool:
    return request.writer.output_size > 0


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
