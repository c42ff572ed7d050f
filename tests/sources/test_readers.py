"""Bytes from sockets, as libav is given them: all of them, in order, however they are cut."""

import socket

import pytest

from recorder.sources.job import SourceJob
from recorder.sources.libav.readers import UdpReader
from tests.sources.senders import free_port


@pytest.mark.parametrize("size", [100, 1316, 262_144])
def test_datagrams_come_out_whole_and_in_order(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    port, datagrams = free_port(socket.SOCK_DGRAM), [bytes([n]) * (200 + n) for n in range(60)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        def first(reader: UdpReader) -> bytes:
            sender.sendto(datagrams[0], ("127.0.0.1", port))
            return real(reader)

        real = UdpReader._first
        monkeypatch.setattr(UdpReader, "_first", first)
        reader = UdpReader(SourceJob("udp", "127.0.0.1", "127.0.0.1", port, networks=("127.0.0.0/8",)))
        for datagram in datagrams[1:]:
            sender.sendto(datagram, ("127.0.0.1", port))
        found = b""
        while len(found) < sum(map(len, datagrams)):
            data = reader.read(size)
            assert 0 < len(data) <= size
            found += data
        reader.close()
    assert found == b"".join(datagrams)
