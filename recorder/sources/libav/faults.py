"""The ways a source can fail, as the SourceError that its worker will write down."""


import av

from recorder.base.errors import SourceError
from recorder.base.media import GapCause


def fault(error: BaseException, what: str) -> SourceError:
    """What `error`, met while `what` was read, means. Never repeats an address: it may hold a key."""
    if isinstance(error, SourceError):
        return error
    if isinstance(error, TimeoutError | av.error.ExitError):
        return SourceError("no answer in time", cause=GapCause.STALL)
    if isinstance(error, av.error.InvalidDataError | MemoryError | ValueError):
        return SourceError(f"what comes is no {what} that can be read", cause=GapCause.UNSUPPORTED, retry_s=10.0)
    if isinstance(error, EOFError):
        return SourceError("the stream has ended", cause=GapCause.OFFLINE)
    if isinstance(error, OSError):
        words = error.strerror or type(error).__name__
        return SourceError(f"reading {what} failed ({words})", cause=GapCause.OFFLINE)
    return SourceError(f"reading {what} failed ({type(error).__name__})", cause=GapCause.OFFLINE, retry_s=10.0)
