"""SRT (draft-sharabayko-srt) as a file-like object, by the system's libsrt: the libav that we use is built without it."""

import ctypes
import socket
import struct
from urllib.parse import parse_qs

from recorder.base.errors import SourceError
from recorder.base.media import GapCause
from recorder.sources.job import SourceJob

LIBRARIES = ("libsrt-gnutls.so.1.5", "libsrt-openssl.so.1.5", "libsrt.so.1.5", "libsrt.so.1")
CONNECT_MS = 5000
MESSAGE_MAX = 1500
_RCVTIMEO, _RCVLATENCY, _PASSPHRASE, _CONNTIMEO, _STREAMID = 14, 43, 26, 36, 46      # SRT_SOCKOPT
_REJ_BADSECRET, _REJ_UNSECURE = 10, 11
_ETIMEOUT = 6003                                                                     # SRT_ETIMEOUT: MN(AGAIN, ...)
_ECONNLOST, _ENOCONN = 2001, 2002


def load() -> ctypes.CDLL | None:
    """libsrt, started; None if this machine has none. Before confinement: it is a file."""
    for name in LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.srt_startup()
        library.srt_getlasterror_str.restype = ctypes.c_char_p
        return library
    return None


class SrtReader:
    """A caller's connection to a listener, live mode: messages of MPEG-TS."""

    def __init__(self, job: SourceJob, library: ctypes.CDLL | None) -> None:
        if library is None:
            raise SourceError("SRT needs libsrt", cause=GapCause.UNSUPPORTED, retry_s=60.0, remedy="apt-get install libsrt1.5-gnutls")
        self._srt = library
        self._buffer = ctypes.create_string_buffer(MESSAGE_MAX)
        self._socket = int(library.srt_create_socket())
        self._rest = b""
        try:
            self._connect(job)
        except BaseException:
            self.close()
            raise

    def read(self, size: int) -> bytes:
        """One message; b"" once the other side has closed."""
        if not self._rest:
            count = self._srt.srt_recvmsg(self._socket, self._buffer, MESSAGE_MAX)
            if count < 0:
                return self._failed()
            self._rest = self._buffer.raw[:count]
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def close(self) -> None:
        """Close the socket."""
        self._srt.srt_close(self._socket)

    def _connect(self, job: SourceJob) -> None:
        query = parse_qs(job.path.partition("?")[2])
        self._set(_CONNTIMEO, struct.pack("@i", CONNECT_MS))
        self._set(_RCVTIMEO, struct.pack("@i", round(job.silence_s * 1000)))
        if "latency" in query:
            self._set(_RCVLATENCY, struct.pack("@i", int(query["latency"][0])))
        if "streamid" in query:
            self._set(_STREAMID, query["streamid"][0].encode())
        if job.password:
            self._set(_PASSPHRASE, job.password.encode())
        where = _sockaddr(job.address, job.port)
        if self._srt.srt_connect(self._socket, where, len(where)) < 0:
            raise self._refused()

    def _set(self, option: int, value: bytes) -> None:
        if self._srt.srt_setsockflag(self._socket, option, value, len(value)) < 0:
            raise SourceError("libsrt refuses the options of the address", cause=GapCause.REFUSED, retry_s=60.0,
                              remedy="a passphrase has 10 to 79 characters, a streamid at most 512")

    def _refused(self) -> SourceError:
        reason = int(self._srt.srt_getrejectreason(self._socket))
        if reason in {_REJ_BADSECRET, _REJ_UNSECURE}:
            return SourceError("the passphrase is wrong, or one side has none", cause=GapCause.AUTH, retry_s=300.0,
                               remedy="set the camera's password")
        return SourceError(f"cannot connect over SRT ({self._words()})", cause=GapCause.OFFLINE)

    def _failed(self) -> bytes:
        code = int(self._srt.srt_getlasterror(None))
        if code == _ETIMEOUT:
            raise SourceError("nothing came", cause=GapCause.STALL)
        if code in {_ECONNLOST, _ENOCONN}:
            return b""
        raise SourceError(f"the SRT connection failed ({self._words()})", cause=GapCause.OFFLINE)

    def _words(self) -> str:
        return str((self._srt.srt_getlasterror_str() or b"").decode("ascii", "replace"))[:80]


def _sockaddr(address: str, port: int) -> bytes:
    """A sockaddr_in or sockaddr_in6."""
    if ":" in address:
        return struct.pack("@H", socket.AF_INET6) + struct.pack(">HI", port, 0) + socket.inet_pton(socket.AF_INET6, address) + bytes(4)
    return struct.pack("@H", socket.AF_INET) + struct.pack(">H", port) + socket.inet_aton(address) + bytes(8)
