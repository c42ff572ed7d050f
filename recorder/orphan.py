"""A child never outlives its supervisor: the kernel sends it SIGTERM when the parent dies (prctl(2), PR_SET_PDEATHSIG)."""

import ctypes
import os
import signal

from recorder.base.errors import WatchroomError

PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Ties this process's life to that of `parent`. Raises WatchroomError if the parent is gone already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise WatchroomError(os.strerror(ctypes.get_errno()), where="prctl", remedy="run on Linux")
    if os.getppid() != parent:     # it died before the call
        raise WatchroomError("the supervisor is gone", where="child", remedy="start `watchroom serve`")
