"""A client that takes its time: `slow_client.py PORT TARGET FILE BYTES_PER_S` writes all that it is sent, headers included, to FILE."""

import socket
import sys
import time

PIECE = 2048


def main(port: int, target: str, path: str, rate: int) -> None:
    """Read until the server ends the connection. The receive buffer is small, so that the server feels it."""
    with socket.socket() as connection, open(path, "wb", buffering=0) as file:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        try:
            while piece := connection.recv(PIECE):
                file.write(piece)
                time.sleep(len(piece) / rate)
        except ConnectionResetError:
            pass


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
