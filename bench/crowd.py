"""Many who watch one camera over `/live`, cheaply: what comes is thrown away by the kernel. `python -m bench.crowd PORT CAMERA COUNT`.

Each viewer is a WebSocket of its own (RFC 6455) with one tile. Runs until SIGTERM; then one line of JSON on stdout: `viewers` that were still
there, and `bytes` that each of them got in the `seconds` since SIGUSR1 (or the start).
"""

import base64
import json
import os
import select
import signal
import socket
import struct
import sys
import time

ADDRESS_VIEWERS = 150         # of one address: the server takes 200 connections
CREDIT = 64 << 20
ACK_S = 4.0                   # also a sign of life: the server pings who says nothing for 20 s
PIECE = 4 << 20
HANDSHAKE_MAX = 4096


def text_frame(message: dict[str, object]) -> bytes:
    """A text frame of a client, masked with zeros (RFC 6455 5.2, 5.3)."""
    body = json.dumps(message).encode()
    size = bytes([0x80 | len(body)]) if len(body) < 126 else b"\xfe" + struct.pack(">H", len(body))
    return b"\x81" + size + bytes(4) + body


def connect(port: int, number: int) -> socket.socket:
    """An open WebSocket to `/live`, from one of several addresses of loopback. Raises ConnectionError with what the server said."""
    sock = socket.create_connection(("127.0.0.1", port), 30, source_address=(f"127.0.0.{2 + number // ADDRESS_VIEWERS}", 0))
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(f"GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\nConnection: Upgrade\r\n"
                 f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < HANDSHAKE_MAX:
        piece = sock.recv(1)
        if not piece:
            break
        answer += piece
    if not answer.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(f"the server answered {answer[:200].decode(errors='replace')}")
    return sock


class Crowd:
    """`count` viewers of a camera's main track."""

    def __init__(self, port: int, camera: str, count: int) -> None:
        self._viewers = {}
        self._poll = select.epoll()
        for number in range(count):
            sock = connect(port, number)
            sock.sendall(text_frame({"op": "subscribe", "tile": 0, "camera": camera, "track": "main", "play": ["avc1"], "credit": CREDIT}))
            sock.setblocking(False)
            self._viewers[sock.fileno()] = sock
            self._poll.register(sock, select.EPOLLIN)
        self.got = dict.fromkeys(self._viewers, 0)
        self._owed = dict.fromkeys(self._viewers, 0)
        self._buffer = bytearray(PIECE)
        self._ack_s = time.monotonic() + ACK_S
        self._since_s = time.monotonic()

    def turn(self, timeout_s: float) -> None:
        """Take what has come, and acknowledge from time to time."""
        for fd, _ in self._poll.poll(timeout_s):
            self._take(fd)
        if time.monotonic() > self._ack_s:
            self._ack_s = time.monotonic() + ACK_S
            for fd in list(self._owed):
                self._acknowledge(fd)

    def _take(self, fd: int) -> None:
        try:
            size = self._viewers[fd].recv_into(self._buffer, PIECE, socket.MSG_TRUNC)     # of a TCP socket: nothing is copied (tcp(7))
        except BlockingIOError:
            return
        except ConnectionError:
            size = 0
        if size:
            self.got[fd] += size
            self._owed[fd] += size
        else:
            self._leave(fd)

    def _acknowledge(self, fd: int) -> None:
        try:
            self._viewers[fd].send(text_frame({"op": "ack", "tile": 0, "bytes": min(self._owed[fd], CREDIT)}))
        except OSError:
            self._leave(fd)
        else:
            self._owed[fd] = 0

    def _leave(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._viewers.pop(fd).close()
        del self.got[fd], self._owed[fd]

    def count_anew(self) -> None:
        """What has come until now does not count."""
        self.got = dict.fromkeys(self.got, 0)
        self._since_s = time.monotonic()

    def told(self) -> dict[str, object]:
        """What has come since."""
        return {"viewers": len(self.got), "bytes": sorted(self.got.values()), "seconds": time.monotonic() - self._since_s}


def main(port: int, camera: str, count: int) -> None:
    """Watch until SIGTERM."""
    ended: list[int] = []
    crowd = Crowd(port, camera, count)
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    signal.signal(signal.SIGUSR1, lambda *_: crowd.count_anew())
    print(json.dumps({"watching": count}), flush=True)
    while not ended:
        crowd.turn(0.1)
    print(json.dumps(crowd.told()), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
