"""Where bytes come from: UDP and HTTP as file-like objects. We connect, to the one address that the worker has checked; libav only parses."""

import base64
import http.client
import ipaddress
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from typing import NoReturn
from urllib.parse import urlsplit

from recorder.base.errors import SourceError
from recorder.base.media import GapCause
from recorder.sources.job import SourceJob

CONNECT_S = 5.0
RECEIVE_BYTES = 4 << 20
DATAGRAM_MAX = 65_536
GATHER_S = 0.02              # live bytes wait so long for company
PLAYLIST_URL_MAX = 2048
SENDERS_REFUSED_MAX = 1000


class UdpReader:
    """MPEG-TS datagrams to a port or multicast group. The first sender within the networks is the only one from then on (`connect`)."""

    def __init__(self, job: SourceJob) -> None:
        address = ipaddress.ip_address(job.address)
        self._networks = [ipaddress.ip_network(network) for network in job.networks]
        self._sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._silence_s = job.silence_s
        self._sock.settimeout(job.silence_s)
        self._sock.bind((job.address, job.port))
        if address.is_multicast:
            self._join(address)
        self._rest = self._first()

    def read(self, size: int) -> bytes:
        """What has come, at least one datagram's worth; part of one that is too long for `size` waits."""
        if not self._rest:
            self._rest = self._sock.recv(DATAGRAM_MAX)
            time.sleep(GATHER_S)
            self._rest += b"".join(self._waiting(size))
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def _waiting(self, size: int) -> Iterator[bytes]:
        """Datagrams that need no waiting for, up to `size` bytes."""
        self._sock.settimeout(0)         # a socket with a timeout would wait in spite of MSG_DONTWAIT
        try:
            while size > 0:
                data = self._sock.recv(DATAGRAM_MAX)
                size -= len(data)
                yield data
        except BlockingIOError:
            return
        finally:
            self._sock.settimeout(self._silence_s)

    def close(self) -> None:
        """Leave the group, close the socket."""
        self._sock.close()

    def _join(self, group: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        if group.version == 4:
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group.packed + bytes(4))
        else:
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group.packed + struct.pack("@I", 0))

    def _first(self) -> bytes:
        for _ in range(SENDERS_REFUSED_MAX):
            data, sender = self._sock.recvfrom(DATAGRAM_MAX)
            address = ipaddress.ip_address(str(sender[0]).partition("%")[0])
            if data and any(address in network for network in self._networks):
                self._sock.connect(sender)
                return data
        raise SourceError("datagrams come from outside camera_networks", cause=GapCause.REFUSED, retry_s=10.0,
                          remedy="add the sender's network to recording.camera_networks if that is meant")


class HttpReader:
    """The body of one GET. Redirects are refused: they would lead where nobody has checked."""

    def __init__(self, job: SourceJob, path: str, tls: ssl.SSLContext | None, gather_s: float = 0.0) -> None:
        self._gather_s = gather_s
        self._connection = http.client.HTTPConnection(job.host, job.port, timeout=job.silence_s)
        sock = socket.create_connection((job.address, job.port), CONNECT_S)
        sock.settimeout(job.silence_s)
        self._connection.sock = tls.wrap_socket(sock, server_hostname=job.host) if tls else sock
        headers = {"User-Agent": "Watchroom", "Accept": "*/*", "Connection": "close"}
        if job.user:
            headers["Authorization"] = "Basic " + base64.b64encode(f"{job.user}:{job.password}".encode()).decode()
        try:
            self._connection.request("GET", path, headers=headers)
            self._answer = self._connection.getresponse()
        except http.client.HTTPException as error:
            self._connection.close()
            raise SourceError(f"the server talks no HTTP ({type(error).__name__})", cause=GapCause.REFUSED, retry_s=10.0) from error
        _require(self._answer.status)

    def read(self, size: int) -> bytes:
        """What has come, b"" at the end. With `gather_s` it is given time to become more: a wake-up costs more than the bytes."""
        try:
            data = self._answer.read1(size)
            if data and len(data) < size // 2 and self._gather_s:
                time.sleep(self._gather_s)
            return data
        except http.client.HTTPException as error:
            raise SourceError("the connection was cut", cause=GapCause.OFFLINE) from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _require(status: int) -> None:
    if status == 200:
        return
    said = f"the server answers {status}"
    if status in {401, 403}:
        raise SourceError(said, cause=GapCause.AUTH, retry_s=300.0, remedy="check user and password")
    if 300 <= status < 400:
        raise SourceError(f"{said}, a redirect, which is not followed", cause=GapCause.REFUSED, retry_s=60.0, remedy="name the final address")
    raise SourceError(said, cause=GapCause.REFUSED if status < 500 else GapCause.OFFLINE, retry_s=10.0)


class HlsOpener:
    """What a playlist may open: paths of its own server and nothing else, whatever it says.

    libav passes over segments that cannot be opened and asks for more without end; `give_up` is told of those that may not be opened, and
    does not return.
    """

    def __init__(self, job: SourceJob, tls: ssl.SSLContext | None, give_up: Callable[[SourceError], NoReturn]) -> None:
        self._give_up = give_up
        self._job = job
        self._tls = tls
        self._origin = ("https" if job.tls else "http", job.host.lower(), job.port)

    @property
    def url(self) -> str:
        """The playlist's address, as libav shall resolve what it names."""
        scheme, host, port = self._origin
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{self._job.path}"

    def __call__(self, url: str, flags: int, options: dict[str, str]) -> HttpReader:
        """Opens a playlist or segment; gives up for any other place: files, other hosts, other schemes."""
        parts = urlsplit(url) if len(url) <= PLAYLIST_URL_MAX else urlsplit("")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if (parts.scheme, (parts.hostname or "").lower(), port) != self._origin:
            self._give_up(SourceError("the playlist leads to another place than its own server", cause=GapCause.REFUSED, retry_s=60.0))
        if "offset" in options or "end_offset" in options:
            self._give_up(SourceError("the playlist asks for byte ranges, which are not supported", cause=GapCause.UNSUPPORTED, retry_s=60.0))
        return HttpReader(self._job, parts.path + (f"?{parts.query}" if parts.query else ""), self._tls)
