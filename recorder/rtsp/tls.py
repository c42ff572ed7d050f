"""RTSPS: whom we trust, the TLS handshake, and records read on the drain's tick.

The socket stays our own: OpenSSL reads it without waiting, once a tick, and the bytes feed the same framing kernel. Measured at 4.2 Mbit/s in
records of 1,400 bytes, CPU us per stream-second: 1,146; with a transport of uvloop 1,238, with memory BIOs 1,207; plain TCP the same way 484.
The arithmetic of the handshake runs in a thread, waiting does not.
"""

import asyncio
import contextlib
import functools
import hashlib
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from recorder._ext import rtp
from recorder._ext.framing import Connection
from recorder.base.errors import SourceError
from recorder.base.media import GapCause

HANDSHAKE_S = 5.0
WRONG_RETRY_S = 60.0
TICK_BYTES_MAX = 1 << 20
RECORD_MAX = 16 << 10

ENDS = rtp.EVENT_EOF | rtp.EVENT_ERROR | rtp.EVENT_DAMAGED_STREAM

Connect = Callable[[], Awaitable[socket.socket]]


@dataclass(frozen=True, slots=True)
class TlsTrust:
    """Which certificates are a camera's: those of a CA (the system's, or of the file `ca`), or the one with this SHA-256 `fingerprint`.

    `insecure` believes any; it protects against listeners only.
    """

    ca: Path | None = None
    fingerprint: str = ""
    insecure: bool = False

    @property
    def by_ca(self) -> bool:
        """True if a chain and the host's name are checked."""
        return not self.fingerprint and not self.insecure


BY_SYSTEM = TlsTrust()


def plain_fingerprint(text: str) -> str:
    """64 lower-case hexadecimal digits, "" if `text` is no SHA-256 fingerprint (colons and blanks between digits are fine)."""
    digits = re.sub(r"[:\s]", "", text).lower()
    return digits if re.fullmatch(r"[0-9a-f]{64}", digits) else ""


def shown_fingerprint(certificate: bytes) -> str:
    """The SHA-256 fingerprint of a certificate (DER) as cameras show it: AB:CD:..."""
    return ":".join(f"{byte:02X}" for byte in hashlib.sha256(certificate).digest())


class TlsLine:
    """A connected TLS session on a non-blocking socket. One loop owns it; `receive` and `send_all` until the drain calls `pump`."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self.sock = sock
        self.error = ""
        self._over = False

    async def receive(self, buffer: bytearray) -> int:
        """At least one byte into `buffer`; 0 at the end of the stream. Raises OSError.

        Others have their turn before each read: a camera that never stops sending would not let the loop look at its timers.
        """
        await asyncio.sleep(0)
        while True:
            try:
                return self.sock.recv_into(buffer)
            except ssl.SSLWantReadError:
                await ready(self.sock, read=True)
            except ssl.SSLWantWriteError:
                await ready(self.sock, read=False)

    async def send_all(self, data: bytes) -> None:
        """Send everything. Raises OSError."""
        while data:
            try:
                data = data[self.sock.send(data):]
            except ssl.SSLWantWriteError:
                await ready(self.sock, read=False)
            except ssl.SSLWantReadError:
                await ready(self.sock, read=True)

    def send(self, data: bytes) -> int:
        """Bytes taken without waiting. Raises BlockingIOError if none are; the same bytes must then come first again."""
        try:
            return self.sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error

    def pump(self, framing: Connection, buffer: memoryview, mono_ns: int, wall_offset_ns: int) -> int:
        """Feed `framing` with all that has come, at most 1 MiB; EVENT_* bits. `buffer` is scratch memory of at least two records."""
        events = total = 0
        while not self._over and total < TICK_BYTES_MAX:
            used, ended = self._read(buffer)
            if used:
                events |= framing.feed(buffer, used, mono_ns, wall_offset_ns)
            total += used
            events |= ended
            self._over = bool(events & ENDS)
            if used < len(buffer) - RECORD_MAX:
                return events
        return events

    def leave(self) -> None:
        """Say that nothing more comes (RFC 8446 6.1), without waiting for the other side to say so."""
        with contextlib.suppress(OSError, ValueError):
            self.sock.unwrap()

    def _read(self, buffer: memoryview) -> tuple[int, int]:
        """Records into `buffer` until nothing more has come or the next might not fit: (bytes, EVENT_EOF, EVENT_ERROR or 0)."""
        used, recv_into = 0, self.sock.recv_into
        try:
            while used <= len(buffer) - RECORD_MAX:
                count = recv_into(buffer[used:])
                if not count:
                    return used, rtp.EVENT_EOF
                used += count
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return used, 0
        except OSError as error:             # SSLError is one
            self.error = _reason(error)
            return used, rtp.EVENT_ERROR
        return used, 0


async def open_tls(connect: Connect, host: str, trust: TlsTrust) -> TlsLine:
    """A TLS session on a connection that `connect` makes; the handshake takes at most 5 s.

    Raises SourceError: `refused` for a certificate that is not to be trusted, with its fingerprint; `offline` where no TLS is spoken. Raises
    OSError as `connect` does. Nothing stays open then.
    """
    try:
        line, certificate = await _shake(await connect(), host, trust)
    except ssl.SSLCertVerificationError as error:
        raise _untrusted(host, error.verify_message or str(error), await _seen(connect, host)) from error
    if trust.fingerprint and _digest(certificate) != plain_fingerprint(trust.fingerprint):
        line.sock.close()
        raise _refused(host, f"the camera's certificate is not the pinned one; its SHA-256 fingerprint is {shown_fingerprint(certificate)}",
                       "if the camera has a new certificate, compare it on the camera and set tls_fingerprint; if not, somebody is in between")
    return line


async def _shake(sock: socket.socket, host: str, trust: TlsTrust) -> tuple[TlsLine, bytes]:
    """The handshake: the line and the certificate shown. Raises SSLCertVerificationError, and SourceError for all else."""
    try:
        context = await asyncio.to_thread(_context, trust.ca, trust.by_ca)
        wrapped = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    except (OSError, ValueError) as error:
        sock.close()
        raise _no_tls(host, error) from error
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            await _turns(wrapped)
    except ssl.SSLCertVerificationError:
        wrapped.close()
        raise
    except OSError as error:                 # TimeoutError and SSLError are some
        wrapped.close()
        raise _no_tls(host, error) from error
    except BaseException:
        wrapped.close()
        raise
    return TlsLine(wrapped), wrapped.getpeercert(binary_form=True) or b""


async def _turns(sock: ssl.SSLSocket) -> None:
    """Each turn's arithmetic in a thread: a certificate may be made to be dear."""
    while True:
        try:
            return await asyncio.to_thread(sock.do_handshake)
        except ssl.SSLWantReadError:
            await ready(sock, read=True)
        except ssl.SSLWantWriteError:
            await ready(sock, read=False)


async def _seen(connect: Connect, host: str) -> str:
    """The fingerprint of the certificate that the camera shows; "" if it shows none now."""
    try:
        line, certificate = await _shake(await connect(), host, TlsTrust(insecure=True))
    except (OSError, SourceError):
        return ""
    line.sock.close()
    return shown_fingerprint(certificate)


async def ready(sock: socket.socket, *, read: bool) -> None:
    """Wait until the socket can be read, or written."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    (loop.add_reader if read else loop.add_writer)(sock.fileno(), came.set)
    try:
        await came.wait()
    finally:
        (loop.remove_reader if read else loop.remove_writer)(sock.fileno())


@functools.lru_cache(maxsize=8)
def _context(ca: Path | None, verify: bool) -> ssl.SSLContext:
    """TLS 1.2 or later. Reading the system's CAs takes 20 ms: once a process, off the loop."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(ca)
    return context


def _digest(certificate: bytes) -> str:
    return hashlib.sha256(certificate).hexdigest()


def _untrusted(host: str, why: str, fingerprint: str) -> SourceError:
    seen = f"; its SHA-256 fingerprint is {fingerprint}" if fingerprint else ""
    return _refused(host, f"the camera's certificate is not to be trusted: {why}{seen}",
                    "compare the fingerprint on the camera and set tls_fingerprint, or name the CA's file in recording.tls_ca")


def _refused(host: str, what: str, remedy: str) -> SourceError:
    return SourceError(what, cause=GapCause.REFUSED, retry_s=WRONG_RETRY_S, where=host, remedy=remedy)


def _no_tls(host: str, error: Exception) -> SourceError:
    why = f"no answer within {HANDSHAKE_S:.0f} s" if isinstance(error, TimeoutError) else _reason(error)
    return SourceError(f"no TLS session: {why}", cause=GapCause.OFFLINE, where=host,
                       remedy="check that the port is the camera's RTSPS port, and that it speaks TLS 1.2 or later")


def _reason(error: Exception) -> str:
    """What OpenSSL or the system says, in words."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return (error.strerror if isinstance(error, OSError) else "") or str(error)
