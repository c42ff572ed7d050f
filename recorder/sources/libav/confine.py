"""What a source process gives up before it meets a byte from outside: files, new programs, memory without end, outliving its worker.

Landlock (Linux 5.13, network from 6.7) takes away every file and, but for the source's own TCP port, every connection; where the kernel has
none the limits remain. Not covered: UDP to anywhere, and TCP to other hosts on the same port. Addresses are checked by the code that connects.
"""

import ctypes
import os
import resource
import struct
import sys

MEMORY_BYTES = 1 << 30
FILES_MAX = 32
NICE = 5
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_SIGKILL = 9
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_NET_PORT = 2
_CONNECT_TCP, _BIND_TCP = 2, 1
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}


def confine(parent: int, tcp_port: int) -> int:
    """Tie our life to `parent`, give up what reading one source does not need; `tcp_port` 0: no TCP at all.

    Returns Landlock's version, 0 where there is none.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent:           # it died before the call
        sys.exit(0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.nice(NICE)
    version = _landlock(libc, tcp_port)
    for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_AS, MEMORY_BYTES),
                         (resource.RLIMIT_NOFILE, FILES_MAX)):
        resource.setrlimit(limit, (value, value))
    return version


def _landlock(libc: ctypes.CDLL, tcp_port: int) -> int:
    version = max(0, int(libc.syscall(_CREATE_RULESET, None, 0, 1)))
    if not version:
        return 0
    files = _FILE_RIGHTS[max(v for v in _FILE_RIGHTS if v <= version)]
    rights = struct.pack("<Q", files) + (struct.pack("<Q", _BIND_TCP | _CONNECT_TCP) if version >= 4 else b"")
    ruleset = int(libc.syscall(_CREATE_RULESET, rights, len(rights), 0))
    if ruleset < 0:
        return 0
    if version >= 4 and tcp_port:
        libc.syscall(_ADD_RULE, ruleset, _RULE_NET_PORT, struct.pack("<QQ", _CONNECT_TCP, tcp_port), 0)
    done = int(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)
    return version if done == 0 else 0
