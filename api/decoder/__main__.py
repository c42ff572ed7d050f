"""A decoder process: `python -m api.decoder FD`. It alone meets the camera's bytes with a codec, and it can harm nobody.

It inherits one end of a socket pair, then gives up the right to open anything at all (RLIMIT_NOFILE 0: no file, no socket), grow beyond
its memory or compute for ever. It ends when the other end is closed.
"""

import ctypes
import os
import resource
import socket
import sys

import av
import numpy as np

from api.decoder.picture import UndecodableError, picture, sheet, warm_up
from api.decoder.sound import sound, warm_up_sound
from api.decoder.wire import ANSWER, BODY_MAX, DONE, HEAD, JSON_MAX, UNDECODABLE, SheetJob, SoundJob, Work, decode

MEMORY_BYTES = 2 << 30
CPU_S = 300
NICE = 10
NEW_USER_AND_NET = 0x10000000 | 0x40000000    # CLONE_NEWUSER | CLONE_NEWNET
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
SIGKILL = 9


def confine() -> None:
    """Take away what decoding does not need. Namespaces and priority are taken where the system lets us; the limits always."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.unshare(NEW_USER_AND_NET)
    os.nice(NICE)
    for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_AS, MEMORY_BYTES),
                         (resource.RLIMIT_CPU, CPU_S), (resource.RLIMIT_NOFILE, 0)):
        resource.setrlimit(limit, (value, value))


def serve(sock: socket.socket) -> None:
    """One job after the other until the other end is closed, or says something that is no job."""
    while (head := _take(sock, HEAD.size)) is not None:
        json_bytes, body_bytes = HEAD.unpack(head)
        if json_bytes > JSON_MAX or body_bytes > BODY_MAX:
            return
        said, body = _take(sock, json_bytes), _take(sock, body_bytes)
        if said is None or body is None:
            return
        try:
            status, made = DONE, work(decode(bytes(said), bytes(body)))
        except UndecodableError as error:
            status, made = UNDECODABLE, str(error).encode()[:200]
        sock.sendall(ANSWER.pack(status, len(made)) + made)


def work(job: Work) -> bytes:
    """What was asked for. Raises UndecodableError."""
    if isinstance(job, SoundJob):
        return sound(job)
    return sheet(job) if isinstance(job, SheetJob) else picture(job)


def _take(sock: socket.socket, count: int) -> bytearray | None:
    taken, view = bytearray(count), 0
    while view < count:
        got = sock.recv_into(memoryview(taken)[view:])
        if got == 0:
            return None
        view += got
    return taken


def main() -> None:
    """Load everything, then confine, then serve."""
    av.logging.set_level(av.logging.PANIC)
    warm_up(np.zeros((32, 32, 3), np.uint8))
    warm_up_sound()
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        confine()
        serve(sock)


if __name__ == "__main__":
    main()
