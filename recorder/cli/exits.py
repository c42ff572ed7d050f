"""Exit codes: what a script may rely on. docs/operations.md holds the same table."""

import enum

from recorder.base import errors


class Exit(enum.IntEnum):
    """One code per decision that a caller makes."""

    OK = 0
    FINDINGS = 1        # it ran, and the answer is bad: check found damage, a demo was not recorded in full
    USAGE = 2           # wrong arguments
    CONFIG = 3          # wrong configuration; nothing has been started
    NOT_FOUND = 4       # no such camera, token, footage
    CONFLICT = 5        # it exists already, is in use, or belongs to somebody else
    REFUSED = 6         # understood and not allowed
    STORAGE = 7         # a volume cannot be used
    SYSTEM = 8          # the system said no: a file, a socket, a limit
    DEFECT = 70         # a defect of this program
    INTERRUPTED = 130   # Ctrl-C


BY_ERROR: tuple[tuple[type[errors.WatchroomError], Exit], ...] = (
    (errors.ConfigError, Exit.CONFIG),
    (errors.NotFound, Exit.NOT_FOUND),
    (errors.Gone, Exit.NOT_FOUND),
    (errors.Conflict, Exit.CONFLICT),
    (errors.Refused, Exit.REFUSED),
    (errors.StorageError, Exit.STORAGE),
)


def exit_of(error: errors.WatchroomError) -> Exit:
    """The exit code of an error."""
    return next((code for kind, code in BY_ERROR if isinstance(error, kind)), Exit.SYSTEM)
