"""A source process: `python -m recorder.sources.libav FD [FILE]`. It alone meets the bytes of such a source, and it can harm nobody.

It inherits one end of a socket pair (and the file to import), learns its job from it, gives up what it does not need, and sends what
recorder/sources/job.py says until the source ends, its worker closes the other end, or it is killed.
"""

import contextlib
import os
import socket
import sys
from typing import NoReturn

import av

from recorder.base.errors import SourceError
from recorder.base.media import GapCause
from recorder.rtsp.message import build_request
from recorder.sources.job import JOB_MAX, LENGTH, REASON_MAX, TITLE, SourceJob
from recorder.sources.libav.confine import confine
from recorder.sources.libav.faults import fault
from recorder.sources.libav.opening import WORDS, Prepared, open_container, prepare
from recorder.sources.libav.pump import Pump


def main() -> None:
    """Load everything, confine, open, pump; the last words are a TEARDOWN."""
    av.logging.set_level(av.logging.PANIC)
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        job = _job(sock)
        ready = prepare(job)
        confine(job.parent, job.port if job.kind in {"http", "hls", "rtmp"} else 0)
        try:
            pump = _open(sock, job, ready)
            pump.announce()
            pump.run()
            said = [("Ended", "1"), ("Reason", "all of it has been read")]
        except BrokenPipeError:
            return                          # the worker is gone, or wants no more
        except Exception as error:
            said = _last_words(fault(error, WORDS.get(job.kind, job.kind)))
        _leave(sock, said)


def _leave(sock: socket.socket, said: list[tuple[str, str]]) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(build_request("TEARDOWN", TITLE, 2, said))


def _open(sock: socket.socket, job: SourceJob, ready: Prepared) -> Pump:
    def give_up(error: SourceError) -> NoReturn:
        _leave(sock, _last_words(error))
        os._exit(0)

    try:
        return Pump(sock, open_container(job, ready, int(sys.argv[2]) if len(sys.argv) > 2 else -1, give_up), job)
    except EOFError as error:
        raise SourceError(f"it ended before any {WORDS[job.kind]} could be made out", cause=GapCause.UNSUPPORTED, retry_s=10.0) from error


def _last_words(error: SourceError) -> list[tuple[str, str]]:
    return [("Cause", str(int(error.cause))), ("Retry", str(round(error.retry_s))), ("Reason", error.message[:REASON_MAX]),
            ("Remedy", error.remedy[:REASON_MAX])]


def _job(sock: socket.socket) -> SourceJob:
    (size,) = LENGTH.unpack(_exactly(sock, LENGTH.size))
    if size > JOB_MAX:
        raise ValueError("the job is too long")
    return SourceJob.decode(_exactly(sock, size))


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data


if __name__ == "__main__":
    main()
