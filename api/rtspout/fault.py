"""A request that is answered with a status of RTSP (RFC 2326 7.1.1, 11), and how the project's own errors are answered."""

import logging

from api.problems import RETRY_S, SILENT, scrub
from recorder.base.errors import Gone, NotFound, Refused, Unreadable, WatchroomError

log = logging.getLogger("watchroom.rtsp")

Headers = tuple[tuple[str, str], ...]
REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    413: "Request Entity Too Large", 451: "Parameter Not Understood", 453: "Not Enough Bandwidth", 454: "Session Not Found",
    455: "Method Not Valid in This State", 456: "Header Field Not Valid", 457: "Invalid Range", 459: "Aggregate Operation Not Allowed",
    461: "Unsupported Transport", 500: "Internal Server Error", 501: "Not Implemented", 503: "Service Unavailable",
    505: "RTSP Version Not Supported", 551: "Option not supported",
}


class Fault(Exception):
    """The answer to a request: `status` is one of REASONS, `words` say what is wrong and the remedy."""

    def __init__(self, status: int, words: str = "", headers: Headers = ()) -> None:
        super().__init__(f"{status} {words}")
        self.status = status
        self.words = words
        self.headers = headers


def fault_of(error: WatchroomError | OSError) -> Fault:
    """How an error of ours, or of a disk, is answered; words that may name files stay in the log."""
    if isinstance(error, OSError):
        log.warning("a disk cannot be read: %s", error.strerror)
        return Fault(503, "a disk cannot read this now; ask again later", (("Retry-After", str(RETRY_S)),))
    if isinstance(error, NotFound | Gone):
        return Fault(404, scrub(str(error)) if isinstance(error, NotFound) else SILENT[410])
    if isinstance(error, Refused):
        return Fault(403, scrub(str(error)))
    return Fault(503, scrub(str(error)) if isinstance(error, Unreadable) else SILENT[503])
