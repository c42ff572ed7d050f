"""The sender, on socket pairs: what arrives is what the clip holds, numbered as RTP wants it, also behind a full socket."""

import errno
import itertools
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from bench.camsim.packets import au_hash
from bench.camsim.sender import Connection, Media, Sender, Stream
from bench.camsim.truth import digest

TICK = 3600
AU_NS = 40_000_000
AUS = 12


@dataclass(frozen=True)
class Packet:
    channel: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


def payloads(au: int) -> list[bytes]:
    """Key frames (each fourth AU) have 9 packets, others 3; each byte tells AU and packet."""
    return [bytes([au, p]) * 500 for p in range(9 if au % 4 == 0 else 3)]


def make_media(loop_ticks: int = AUS * TICK) -> Media:
    aus = [payloads(i) for i in range(AUS)]
    flat = [p for au in aus for p in au]
    first = np.cumsum([0, *map(len, aus)]).astype(np.int32)
    marker = np.zeros(len(flat), np.uint8)
    marker[first[1:] - 1] = 1
    ticks = np.arange(AUS, dtype=np.int64) * TICK
    return Media(b"".join(flat), np.cumsum([0, *map(len, flat)]).astype(np.int64), marker, first, ticks, ticks,
                 (np.arange(AUS) % 4 == 0).astype(np.uint8), np.array([au_hash(b"".join(au)) for au in aus], np.uint64),
                 np.cumsum([0, *(len(b"".join(au)) for au in aus)]).astype(np.int64), loop_ticks, 90_000, 96)


def parse(data: bytes) -> tuple[list[Packet], list[bytes]]:
    """(packets, text between them); whatever does not frame fails."""
    packets, texts, at = [], [], 0
    while at < len(data):
        if data[at] != 0x24:
            end = data.index(b"\r\n\r\n", at) + 4
            texts.append(data[at:end])
            at = end
            continue
        size = int.from_bytes(data[at + 2:at + 4], "big")
        rtp = data[at + 4:at + 4 + size]
        assert len(rtp) == size
        packets.append(Packet(data[at + 1], bool(rtp[1] & 128), int.from_bytes(rtp[2:4], "big"), int.from_bytes(rtp[4:8], "big"),
                              int.from_bytes(rtp[8:12], "big"), rtp[12:]))
        at += 4 + size
    return packets, texts


@dataclass
class Rig:
    sender: Sender
    connection: Connection
    near: socket.socket
    far: socket.socket

    def read(self) -> bytes:
        out = bytearray()
        while True:
            try:
                data = self.far.recv(1 << 20)
            except BlockingIOError:
                return bytes(out)
            if not data:
                return bytes(out)
            out += data


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, getattr(request, "param", 1 << 20))
    near.setblocking(False)
    far.setblocking(False)
    sender, connection = Sender(), Connection(near.fileno(), 20_000)
    sender.add(connection)
    with near, far:
        yield Rig(sender, connection, near, far)


def expected_payloads(first: int, stop: int) -> list[bytes]:
    return [p for i in range(first, stop) for p in payloads(i % AUS)]


def test_nothing_is_sent_before_it_is_due_and_everything_after(rig: Rig) -> None:
    rig.connection.add(Stream(make_media(), 0, 0, 4, 0xABCD0123))
    rig.sender.run(AU_NS - 1)
    assert rig.read() == b""
    rig.sender.run(3 * AU_NS)
    packets, _ = parse(rig.read())
    assert [p.payload for p in packets] == expected_payloads(1, 4)
    assert {p.channel for p in packets} == {4}
    assert {p.ssrc for p in packets} == {0xABCD0123}
    assert [p.marker for p in packets] == [False, False, True] * 3


def test_sequence_and_timestamp_wrap(rig: Rig) -> None:
    stream = Stream(make_media(), 0, AU_NS * 5, 0, 1, seq0=65480, ts0=2**32 - 7 * TICK)
    first_seq, first_ts = stream.sequence, stream.timestamp
    rig.connection.add(stream)
    rig.sender.run(AU_NS * 30)
    packets, _ = parse(rig.read())
    assert [p.sequence for p in packets] == [(first_seq + i) % 65536 for i in range(len(packets))]
    assert {p.sequence for p in packets} >= {65535, 0}
    stamps = [p.timestamp for p in packets if p.marker]
    assert stamps == [(first_ts + i * TICK) % 2**32 for i in range(25)]
    assert min(stamps) < TICK < max(stamps)


def test_a_session_joins_the_running_camera(rig: Rig) -> None:
    late = Stream(make_media(), 1000, 1000 + AU_NS * 10_000_001, 0, 1)
    assert late.first == 10_000_002
    key = Stream(make_media(), 1000, 1000 + AU_NS * 10_000_001, 0, 1, start_at_key=True)
    assert key.first == 10_000_004


def test_two_streams_share_a_connection_in_order_of_time(rig: Rig) -> None:
    rig.connection.add(Stream(make_media(), 0, 0, 0, 1))
    rig.connection.add(Stream(make_media(), AU_NS // 2, AU_NS // 2, 2, 2))
    rig.sender.run(4 * AU_NS)
    packets, _ = parse(rig.read())
    assert [p.channel for p in packets if p.marker] == [0, 2, 0, 2, 0, 2, 0]


def test_digest_is_that_of_the_aus_sent(rig: Rig) -> None:
    stream = Stream(make_media(), 0, 0, 0, 1)
    rig.connection.add(stream)
    rig.sender.run(20 * AU_NS)
    counters = stream.counters()
    assert (counters["first"], counters["next"], counters["aus"]) == (1, 21, 20)
    assert counters["digest"] == f"{digest(b''.join(payloads(i % AUS)) for i in range(1, 21)):016x}"
    assert counters["bytes"] == sum(len(p) for p in expected_payloads(1, 21)) == counters["octets"]
    assert counters["packets"] == len(expected_payloads(1, 21))


@pytest.mark.parametrize("rig", [4096], indirect=True)
def test_full_socket_loses_no_byte_while_the_queue_has_room(rig: Rig) -> None:
    rig.connection.add(Stream(make_media(), 0, 0, 0, 1))
    data = bytearray()
    for step in range(1, 60):
        rig.sender.run(step * AU_NS)
        rig.connection.inject(b"RTSP/1.0 200 OK\r\n\r\n")
        while part := rig.read():
            data += part
            rig.sender.run(step * AU_NS)
    packets, texts = parse(bytes(data))
    assert [p.payload for p in packets] == expected_payloads(1, 60)
    assert texts == [b"RTSP/1.0 200 OK\r\n\r\n"] * 59


@pytest.mark.parametrize("rig", [4096], indirect=True)
def test_client_that_does_not_read_loses_whole_aus_up_to_a_key_frame(rig: Rig) -> None:
    stream = Stream(make_media(), 0, 0, 0, 1)
    rig.connection.add(stream)
    for step in range(1, 200):
        rig.sender.run(step * AU_NS)
    data = bytearray()
    for step in range(200, 230):
        while part := rig.read():
            data += part
            rig.sender.run(step * AU_NS)
        rig.sender.run(step * AU_NS)
    data += rig.read()
    packets, _ = parse(bytes(data))
    counters = stream.counters()
    drops = counters["drops"]
    assert counters["dropped_aus"] == sum(stop - start for start, stop in drops) > 100
    sent = [i for i in range(1, 230) if not any(start <= i < stop for start, stop in drops)]
    assert [p.payload for p in packets] == [p for i in sent for p in payloads(i % AUS)]
    assert all(stop % 4 == 0 for _, stop in drops)
    gaps = [(b.sequence - a.sequence) % 65536 for a, b in itertools.pairwise(packets)]
    assert sum(gaps) - len(gaps) == sum(len(payloads(i % AUS)) for start, stop in drops for i in range(start, stop))


@pytest.mark.parametrize("rig", [4096], indirect=True)
def test_a_dropping_stream_stays_behind_its_queue_for_ever(rig: Rig) -> None:
    """Drops in the middle of an AU must merge, not pile up."""
    stream = Stream(make_media(), 0, 0, 0, 1)
    rig.connection.add(stream)
    for step in range(1, 5000):
        rig.sender.run(step * AU_NS)
    counters = stream.counters()
    assert len(counters["drops"]) == 1
    assert counters["drops"][0][1] == counters["next"]
    assert 5000 - 20 < counters["next"] <= 5004


def test_clear_ends_on_a_packet_border(rig: Rig) -> None:
    rig.connection.add(Stream(make_media(), 0, 0, 0, 1))
    rig.sender.run(2 * AU_NS)
    rig.connection.clear()
    rig.sender.run(10 * AU_NS)
    rig.connection.inject(b"bye\r\n\r\n")
    packets, texts = parse(rig.read())
    assert [p.payload for p in packets] == expected_payloads(1, 3)
    assert texts == [b"bye\r\n\r\n"]


def test_dead_client_is_reported(rig: Rig) -> None:
    rig.connection.add(Stream(make_media(), 0, 0, 0, 1))
    rig.far.close()
    assert rig.sender.run(AU_NS) == [rig.connection]
    assert rig.connection.error in {errno.EPIPE, errno.ECONNRESET}
    rig.sender.remove(rig.connection)
    assert rig.sender.run(2 * AU_NS) == []


def test_removing_one_of_many_leaves_the_others() -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    sender, connections = Sender(), []
    for near, far in pairs:
        far.setblocking(False)
        connection = Connection(near.fileno())
        connection.add(Stream(make_media(), 0, 0, 0, 1))
        sender.add(connection)
        connections.append(connection)
    sender.remove(connections[0])
    sender.run(AU_NS)
    assert [len(parse(far.recv(1 << 20))[0]) for _, far in pairs[1:]] == [3, 3]
    with pytest.raises(BlockingIOError):
        pairs[0][1].recv(1)
    for pair in pairs:
        for sock in pair:
            sock.close()


def test_answers_are_refused_when_too_many_wait(rig: Rig) -> None:
    while rig.connection.inject(b"x" * 30_000):
        assert rig.connection.waiting <= 65536
    assert rig.connection.waiting > 30_000


@pytest.mark.parametrize("wrong", [{"loop_ticks": 0}, {"loop_ticks": -5}])
def test_impossible_clips_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="clip"):
        make_media(**wrong)


@pytest.mark.parametrize("segments", [True, False])
def test_datagrams_hold_what_interleaved_frames_hold(segments: bool) -> None:
    far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ours, theirs = socket.socketpair()
    try:
        far.bind(("127.0.0.1", 0))
        far.setblocking(False)
        near.connect(far.getsockname())
        sender, connection = Sender(), Connection(ours.fileno())
        stream = Stream(make_media(), 0, -1, 0, 0xAB, 65530, 4294967000, udp=near.fileno(), segments=segments)
        connection.add(stream)
        sender.add(connection)
        sender.run(AUS * AU_NS - 1)
        packets = []
        with pytest.raises(BlockingIOError):
            while True:
                packets.append(far.recv(65536))
        wanted = [(au, p, data) for au in range(AUS) for p, data in enumerate(payloads(au))]
        assert [packet[12:] for packet in packets] == [data for _, _, data in wanted]
        assert [int.from_bytes(packet[2:4], "big") for packet in packets] == [(65530 + n) & 0xFFFF for n in range(len(wanted))]
        assert {packet[8:12] for packet in packets} == {b"\0\0\0\xab"}
        assert [packet[1] >> 7 for packet in packets] == [int(p + 1 == len(payloads(au))) for au, p, _ in wanted]
        assert (stream.counters()["aus"], stream.counters()["packets"], connection.error) == (AUS, len(wanted), 0)
    finally:
        for sock in (far, near, ours, theirs):
            sock.close()


def test_datagrams_that_nobody_takes_are_sent_all_the_same() -> None:
    near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    gone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    gone.bind(("127.0.0.1", 0))
    near.connect(gone.getsockname())
    gone.close()
    sender, connection = Sender(), Connection(near.fileno())
    stream = Stream(make_media(), 0, -1, 0, 1, udp=near.fileno())
    connection.add(stream)
    sender.add(connection)
    assert sender.run(AUS * AU_NS - 1) == []
    assert stream.counters()["aus"] == AUS
    near.close()
