"""What bytes of a file cost at least if they are copied out by Python: `python -m bench.copyout FILE`; says its port.

One thread, one buffer that is used again and again, `preadv` and `sendall`, nothing else: no loop, no HTTP but the head.
"""

import os
import socket
import sys
import threading

BUFFER_BYTES = 256 << 10


def serve(path: str) -> None:
    """Answers each connection with the file, until standard input ends."""
    file, buffer = os.open(path, os.O_RDONLY), memoryview(bytearray(BUFFER_BYTES))
    total = os.fstat(file).st_size
    with socket.create_server(("127.0.0.1", 0)) as server:
        sys.stdout.write(f"{server.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            client, _ = server.accept()
            with client:
                client.recv(BUFFER_BYTES)
                client.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {total}\r\nConnection: close\r\n\r\n".encode())
                at = 0
                while at < total:
                    got = os.preadv(file, [buffer], at)
                    client.sendall(buffer[:got])
                    at += got


def main() -> None:
    """Serves from a thread that ends with the process."""
    threading.Thread(target=serve, args=sys.argv[1:], daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
