"""The egress kernel against its twin, with and without UDP segmentation, over real sockets of loopback."""

import ctypes
import random
import socket
import struct
from array import array
from collections.abc import Iterator

import pytest
from twin_srtpout import TwinOutlet, again, send

from recorder._ext.srtpout import KEPT, PACKET_MAX, Egress, Outlet

PROTECT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))


@PROTECT
def clear(context, packet, length):
    """Protects nothing, but writes a trailer of four bytes."""
    ctypes.memmove(packet + length[0], b"tail", 4)
    length[0] += 4
    return 0


@PROTECT
def refusing(context, packet, length):
    return 7


def address_of(function) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value


def outlet(ssrc=7, payload_type=96, sequence=0, function=clear, **more) -> Outlet:
    return Outlet(1, address_of(function), ssrc, payload_type, sequence, function, **more)


class Receiver:
    """A socket, and what has come to it."""

    def __init__(self, family=socket.AF_INET) -> None:
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        self.socket.setblocking(False)

    @property
    def address(self) -> bytes:
        port = self.socket.getsockname()[1]
        if self.socket.family == socket.AF_INET:
            return struct.pack("=H", socket.AF_INET) + struct.pack(">H4s8x", port, socket.inet_aton("127.0.0.1"))
        return struct.pack("=H", socket.AF_INET6) + struct.pack(">HI16s", port, 0, socket.inet_pton(socket.AF_INET6, "::1")) + bytes(4)

    def all(self) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096))
            except BlockingIOError:
                return found


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def pair(request) -> Iterator[tuple[socket.socket, list[Receiver]]]:
    sender = socket.socket(request.param, socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    receivers = [Receiver(request.param) for _ in range(3)]
    yield sender, receivers
    for one in [sender, *(receiver.socket for receiver in receivers)]:
        one.close()


def packets_of(rng: random.Random, count: int) -> list[bytes]:
    """Runs of equal sizes with shorter ones between, as a packetiser makes them."""
    sizes = []
    while len(sizes) < count:
        sizes += [rng.choice([12, 13, 200, 1200, PACKET_MAX])] * rng.choice([1, 2, 9, 70])
    return [struct.pack(">BBHII", 0x80, 0x80 * (rng.random() < .2), rng.randrange(65536), rng.randrange(1 << 32), 1) + rng.randbytes(size - 12)
            for size in sizes[:count]]


def laid(packets: list[bytes]) -> tuple[bytes, array]:
    at, offsets = 0, array("I", [0])
    for packet in packets:
        at += len(packet)
        offsets.append(at)
    return b"".join(packets), offsets


@pytest.mark.parametrize("gso", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_every_receiver_gets_what_the_twin_says(pair, gso, seed):
    sender, receivers = pair
    rng = random.Random(seed)
    egress = Egress(sender.fileno(), gso)
    twins = [TwinOutlet(rng.randrange(1 << 32), rng.randrange(128), rng.randrange(65536), rng.randrange(1 << 32)) for _ in receivers]
    outlets = [outlet(twin.ssrc, twin.payload_type, twin.sequence) for twin in twins]
    for one, twin, receiver in zip(outlets, twins, receivers, strict=True):
        one.shift = twin.shift
        one.aim(receiver.address)
    number = (1 << 32) - 40
    for _ in range(4):
        packets = packets_of(rng, rng.choice([1, 8, 90, 300]))
        stamp = rng.choice([None, rng.randrange(1 << 32)])
        egress.send(tuple(outlets), *laid(packets), number & 0xFFFFFFFF, stamp)
        for one, twin, receiver in zip(outlets, twins, receivers, strict=True):
            assert receiver.all() == [packet + b"tail" for packet in send(twin, packets, number, stamp)]
            assert (one.sequence, one.packets, one.octets, one.dropped, one.failed) == (twin.sequence, twin.packets, twin.octets, 0, 0)
            for sequence in rng.sample(list(twin.ring), min(20, len(twin.ring))):
                if (twin.sequence - sequence) % 65536 <= KEPT:
                    assert one.sent(sequence) == twin.ring[sequence]
        number += len(packets)
    assert egress.gso is gso
    assert egress.datagrams == sum(twin.packets for twin in twins)
    assert not gso or egress.calls < egress.datagrams / 4


@pytest.mark.parametrize("rtx", [True, False])
def test_a_packet_goes_again(pair, rtx):
    sender, receivers = pair
    egress, one = Egress(sender.fileno()), outlet(9, 97, 65535)
    one.aim(receivers[0].address)
    twin = TwinOutlet(9, 97, 65535)
    for packet in packets_of(random.Random(1), 5):
        egress.again(one, packet, 1234, 4321, rtx)
        assert receivers[0].all() == [again(twin, packet, 1234, 4321, rtx) + b"tail"]
    assert one.sequence == twin.sequence


def test_what_was_sent_long_ago_is_forgotten(pair):
    sender, receivers = pair
    egress, one = Egress(sender.fileno()), outlet(sequence=65000)
    one.aim(receivers[0].address)
    egress.send((one,), *laid(packets_of(random.Random(2), KEPT + 1)), 0)
    assert one.sent(65000) is None
    assert one.sent(65001) is not None
    assert one.sent((65000 + KEPT + 1) % 65536) is None
    one.forget()
    assert one.sent(65001) is None


def test_who_has_no_address_yet_is_left_out(pair):
    sender, receivers = pair
    egress, first, second = Egress(sender.fileno()), outlet(1), outlet(2)
    second.aim(receivers[1].address)
    egress.send((first, second), *laid(packets_of(random.Random(3), 4)), 0)
    assert len(receivers[1].all()) == 4
    assert (first.packets, second.packets) == (0, 4)


def test_what_cannot_be_protected_is_not_sent(pair):
    sender, receivers = pair
    egress, one = Egress(sender.fileno()), outlet(function=refusing)
    one.aim(receivers[0].address)
    egress.send((one,), *laid(packets_of(random.Random(4), 4)), 0)
    assert receivers[0].all() == []
    assert one.failed == 4


def test_where_no_route_leads_packets_are_counted_and_the_others_get_theirs():
    sender, receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), Receiver()
    egress, lost, found = Egress(sender.fileno()), outlet(1), outlet(2)
    lost.aim(struct.pack("=H", socket.AF_INET) + struct.pack(">H4s8x", 9, socket.inet_aton("255.255.255.255")))     # needs SO_BROADCAST
    found.aim(receiver.address)
    egress.send((lost, found), *laid(packets_of(random.Random(5), 40)), 0)
    assert len(receiver.all()) == 40
    assert lost.dropped == 40
    sender.close()
    receiver.socket.close()


@pytest.mark.parametrize(("data", "offsets"), [
    (bytes(100), [0, 101]), (bytes(100), [0, 11]), (bytes(100), [20, 0]), (bytes(3000), [0, PACKET_MAX + 1]), (bytes(100), [0, 50, 40]),
    (bytes(100), [90, 200]), (b"", [0, 12]), (bytes(100), [0, 12, 12]), (bytes(100), [4294967295, 12]),
])
def test_offsets_that_are_no_packets_are_refused(pair, data, offsets):
    sender, receivers = pair
    egress, one = Egress(sender.fileno()), outlet()
    one.aim(receivers[0].address)
    with pytest.raises(ValueError, match="packets"):
        egress.send((one,), data, array("I", offsets), 0)
    assert receivers[0].all() == []


def test_nonsense_is_refused(pair):
    egress = Egress(pair[0].fileno())
    with pytest.raises(ValueError, match="context"):
        Outlet(0, 1, 1, 1, 1, None)
    with pytest.raises(ValueError, match="payload type"):
        outlet(payload_type=128)
    with pytest.raises(ValueError, match="sockaddr"):
        outlet().aim(bytes(15))
    with pytest.raises(TypeError):
        egress.send((None,), bytes(12), array("I", [0, 12]), 0)
    with pytest.raises(TypeError):
        egress.send(("no",), bytes(12), array("I", [0, 12]), 0)
    with pytest.raises(ValueError, match="packet"):
        egress.again(outlet(), bytes(PACKET_MAX + 1), 0, 0, True)
    egress.send((), bytes(12), array("I", [0, 12]), 0)
    egress.send((outlet(),), b"", array("I"), 0)
