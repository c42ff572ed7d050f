"""A UDP way between one client and a server that loses some of what the server sends."""

import random
import selectors
import socket
import threading
from types import TracebackType
from typing import Self


class LossyWay:
    """`with LossyWay(server_port, 0.03) as way:` the client sends to `way.port`. Media alone are lost (first byte 128 to 191), by chance."""

    def __init__(self, server_port: int, share: float) -> None:
        self._share, self._rng = share, random.Random(3)
        self._near, self._far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for one in (self._near, self._far):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            one.bind(("127.0.0.1", 0))
        self._far.connect(("127.0.0.1", server_port))
        self.port = int(self._near.getsockname()[1])
        self.lost = self.passed = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lossy way")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._near.close()
        self._far.close()

    def _run(self) -> None:
        client = None
        with selectors.DefaultSelector() as ready:
            ready.register(self._near, selectors.EVENT_READ)
            ready.register(self._far, selectors.EVENT_READ)
            while not self._over.is_set():
                for key, _ in ready.select(0.2):
                    try:
                        if key.fileobj is self._near:
                            data, client = self._near.recvfrom(4096)
                            self._far.send(data)
                        elif client is not None:
                            self._back(self._far.recv(4096), client)
                    except ConnectionError:
                        continue

    def _back(self, data: bytes, client: object) -> None:
        if 128 <= data[0] < 192 and self._rng.random() < self._share:
            self.lost += 1
            return
        self.passed += 1
        self._near.sendto(data, client)  # type: ignore[arg-type]
