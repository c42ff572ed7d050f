"""Names of cameras: who answers them late, or never, keeps nobody waiting."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from recorder.base.errors import SourceError
from recorder.rtsp import names
from recorder.rtsp.address import AddressBook, parse_networks
from tests.session.fake_camera import FakeCamera
from tests.session.rig import Rig

BOOK = parse_networks(("127.0.0.0/8", "::1/128"))


class DeadDns:
    """Names that end in `.dead` are answered when `wake` is set, and only then; all others as ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wake = threading.Event()
        self.asked: list[str] = []
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self.getaddrinfo)

    def getaddrinfo(self, host: str, *args: Any, **options: Any) -> Any:
        if not host.endswith(".dead") or options.get("flags") == socket.AI_NUMERICHOST:
            return self._real(host, *args, **options)
        self.asked.append(host)
        self.wake.wait()
        return self._real("127.0.0.1", *args, **options)


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[DeadDns]:
    monkeypatch.setattr(names, "RESOLVE_S", 0.2)
    dead = DeadDns(monkeypatch)
    yield dead
    dead.wake.set()
    for thread in threading.enumerate():
        if thread.name == "resolver":
            thread.join()


async def test_a_dead_dns_keeps_neither_tapes_nor_other_cameras_waiting(dns: DeadDns) -> None:
    async with FakeCamera() as camera, Rig() as rig:
        for number in range(2, 50):
            rig.record(f"rtsp://cam{number}.dead/live", number)
        await rig.until(lambda: all(rig.stream(number).error for number in range(2, 50)))
        assert "the DNS does not answer" in str(rig.stream(2).error)
        rig.record(camera.url)
        rig.record(camera.url.replace("127.0.0.1", "localhost"), 50)
        await rig.recorded()
        await rig.recorded(number=50)
        dns.wake.set()


async def test_a_name_is_asked_once_however_often_it_is_tried(dns: DeadDns) -> None:
    book = AddressBook(BOOK)
    for _ in range(3):
        with pytest.raises(SourceError, match="does not answer within"):
            await book.resolve("front.dead", 554)
    assert dns.asked == ["front.dead"]
    waiting = asyncio.create_task(book.resolve("front.dead", 554))
    await asyncio.sleep(0)
    dns.wake.set()
    assert [address for _, (address, _) in await waiting] == ["127.0.0.1"]


async def test_names_without_an_answer_are_bounded(dns: DeadDns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "ASKED_MAX", 3)
    book = AddressBook(BOOK)
    tries = await asyncio.gather(*(book.resolve(f"cam{number}.dead", 554) for number in range(9)), return_exceptions=True)
    assert sum("has left 3 names unanswered" in str(error) for error in tries) == 6 and len(dns.asked) == 3
    assert [address for _, (address, _) in await book.resolve("127.0.0.1", 554)] == ["127.0.0.1"]


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("127.1", "127.0.0.1")])
async def test_numbers_are_asked_of_nobody(host: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    book = AddressBook(BOOK)
    monkeypatch.setattr(book.names, "ask", None)
    assert [found for _, (found, _) in await book.resolve(host, 554)] == [address]
