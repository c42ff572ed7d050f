"""Every error Watchroom raises on purpose.

    WatchroomError              what went wrong and the remedy, in one line; `where` names the thing
    |- ConfigError              a wrong key or value: fix the file, nothing has been started
    |- NotFound                 no such camera, track, token, ...
    |- Conflict                 it exists already, or somebody else owns it
       |- OtherKind             a track of that name is of another kind or clock: take another name
    |- Refused                  understood and not allowed (scope, limit, network)
    |- SourceError              a camera session ended; `cause` is the gap's cause, `retry_s` the least wait before the next try
       |- TransportRefused      not over this transport: the caller may ask for another one at once
       |- NoRoom                all its places for viewers are taken: they are counted from now on
       |- HungUp                it answered and then hung up or said no more: this stream's trouble, not the address's
       |- WrongPassword         our login was tried and refused: nobody tries the same one there for a while
    |- StorageError
       |- VolumeError           the volume cannot be used: missing, foreign, newer, locked, read-only, failed
       |- FormatError           bytes on a volume are not what the format says; `where` names file and offset
       |- Gone                  the footage existed and has been retired
       |- Unreadable            the disk cannot read what may be there: ask again, or for other footage
"""


class WatchroomError(Exception):
    """One line for a person: what, and what to do about it. Never holds a password, token or userinfo.

    The message may repeat words of a camera: what would move a terminal's cursor or turn its text round becomes `?`.
    """

    def __init__(self, message: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message if message.isprintable() else "".join(c if c.isprintable() else "?" for c in message)
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        line = f"{self.where}: {self.message}" if self.where else self.message
        return f"{line}; {self.remedy}" if self.remedy else line


class ConfigError(WatchroomError):
    """A key or value of the configuration is wrong."""


class NotFound(WatchroomError):
    """No such thing."""


class Conflict(WatchroomError):
    """It exists already, or is owned by somebody else."""


class OtherKind(Conflict):
    """The track of that name is of another kind, or counts by another clock."""


class Refused(WatchroomError):
    """Understood and not allowed."""


class SourceError(WatchroomError):
    """A camera session could not start or ended.

    `cause` is a `recorder.base.media.GapCause` value; `retry_s` is the least number of seconds before the next try.
    """

    def __init__(self, message: str, *, cause: int, retry_s: float = 0.0, where: str = "", remedy: str = "") -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.cause = cause
        self.retry_s = retry_s


class TransportRefused(SourceError):
    """The camera does not send over the transport that was asked for, or what it describes does better over TCP (`rather_tcp`)."""

    rather_tcp = False


class NoRoom(SourceError):
    """The camera has no place for another viewer (453, 503)."""


class HungUp(SourceError):
    """The camera has answered on this connection, and then ended it or said no more."""


class WrongPassword(SourceError):
    """The camera has refused this user and password."""


class StorageError(WatchroomError):
    """Something about a volume or its files."""


class VolumeError(StorageError):
    """The volume as a whole cannot be used."""


class FormatError(StorageError):
    """Bytes on a volume are not what the format says."""


class Gone(StorageError):
    """The footage existed and has been retired."""


class Unreadable(StorageError):
    """The disk cannot read what may be there. `place`: of its volume among the site's."""

    def __init__(self, place: int, where: str) -> None:
        super().__init__(f"the disk of volume {place} cannot read this footage now", where=where,
                         remedy="ask again later; the other footage can be read")
        self.place = place
