"""recorder/_ext/drain: sockets in, rare events out."""

import errno
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import rtpkit
from rtpkit import interleaved, rtp

from recorder._ext.auqueue import AuQueue
from recorder._ext.drain import Drain
from recorder._ext.framing import Connection
from recorder._ext.rtp import (
    EVENT_BYE,
    EVENT_DAMAGED_STREAM,
    EVENT_EOF,
    EVENT_ERROR,
    EVENT_FIRST_AU,
    EVENT_FORMAT_CHANGE,
    EVENT_MESSAGE,
    EVENT_RTCP,
    RtpTrack,
)

FIRST = EVENT_FIRST_AU | EVENT_FORMAT_CHANGE


class Camera:
    """Our side's connection and the other side's socket."""

    def __init__(self, drain: Drain) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(True)
        self.connection = Connection()
        self.track = RtpTrack(AuQueue(1 << 22, 8192), "pcma", 8000, [8], 1)
        self.connection.bind(0, 1, self.track)
        drain.add(self.connection, self.ours.fileno())
        self.seq = 0

    def sound(self, size: int = 160) -> bytes:
        self.seq += 1
        return interleaved(0, rtp(self.seq, self.seq * 160, rtpkit.noise(size), pt=8))

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def drain() -> Drain:
    return Drain()


@pytest.fixture
def camera(drain: Drain) -> Iterator[Camera]:
    camera = Camera(drain)
    yield camera
    camera.close()


def test_nothing_to_receive_is_nothing_to_tell(drain, camera):
    assert drain.run(1, 0) == []
    assert len(drain) == 1


def test_access_units_are_in_the_queue_and_only_the_first_is_an_event(drain, camera):
    camera.theirs.sendall(camera.sound() * 1)
    assert drain.run(5, 7) == [(camera.connection, FIRST)]
    camera.theirs.sendall(camera.sound() + camera.sound())
    assert drain.run(9, 7) == []
    aus = [au for au, _ in camera.track.queue.take()]
    assert [au["recv_ns"] for au in aus] == [5, 9, 9]
    assert aus[0]["wall_ns"] == 12
    assert drain.received_bytes == 3 * 176


def test_message_rtcp_and_bye_are_told_and_belong_to_their_connection(drain, camera):
    other = Camera(drain)
    camera.theirs.sendall(b"RTSP/1.0 200 OK\r\n\r\n")
    other.theirs.sendall(other.sound() + interleaved(1, rtpkit.sender_report(1, 2) + rtpkit.goodbye(0x1234)))
    events = dict(drain.run(1, 0))
    assert events == {camera.connection: EVENT_MESSAGE, other.connection: FIRST | EVENT_RTCP | EVENT_BYE}
    assert camera.connection.take_messages() == [b"RTSP/1.0 200 OK\r\n\r\n"]
    other.close()


def test_eof_is_told_once_after_the_last_bytes(drain, camera):
    camera.theirs.sendall(camera.sound())
    camera.theirs.close()
    told = [drain.run(i, 0) for i in range(4)]
    assert [e for events in told for _, e in events] == [FIRST, EVENT_EOF]
    assert camera.track.queue.waiting_aus == 1


def test_a_reset_is_an_error_with_its_number(drain):
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    connection = Connection()
    drain.add(connection, client.fileno())
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    server.close()
    assert drain.run(1, 0) == [(connection, EVENT_ERROR)]
    assert connection.errno == errno.ECONNRESET
    assert drain.run(2, 0) == []
    client.close()
    listener.close()


def test_a_stream_that_nobody_understands_is_not_read_again(drain, camera):
    camera.theirs.sendall(b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n")
    assert drain.run(1, 0) == [(camera.connection, EVENT_DAMAGED_STREAM)]
    camera.theirs.sendall(camera.sound())
    assert drain.run(2, 0) == []
    assert drain.received_bytes == 39


def test_a_flood_is_bounded_per_run_and_starves_nobody():
    drain = Drain(buffer_bytes=4096, budget_bytes=8192)
    flood, quiet = Camera(drain), Camera(drain)
    flood.theirs.sendall(b"".join(flood.sound(1000) for _ in range(60)))
    quiet.theirs.sendall(quiet.sound())
    assert dict(drain.run(1, 0)) == {flood.connection: FIRST, quiet.connection: FIRST}
    assert drain.received_bytes == 8192 + 176
    for i in range(10):
        drain.run(i, 0)
    assert flood.track.queue.waiting_aus == 60
    flood.close()
    quiet.close()


@pytest.mark.parametrize(("runs", "expected"), [(1, [1, 1, 3, 3, 5, 5]), (3, [1, 1, 1, 1, 5, 5])])
def test_a_camera_that_gave_little_rests_and_loses_nothing(runs, expected):
    drain = Drain(rest_bytes=1000, rest_runs=runs)
    camera = Camera(drain)
    received = []
    for tick in range(6):
        camera.theirs.sendall(camera.sound())
        drain.run(tick, 0)
        received.append(camera.track.queue.waiting_aus)
    assert received == expected
    camera.close()


def test_a_camera_rests_only_as_long_as_little_will_have_gathered():
    drain = Drain(rest_bytes=1000, rest_runs=3)
    camera = Camera(drain)
    received = []
    for tick in range(7):
        camera.theirs.sendall(camera.sound(384))        # 400 bytes with its header: two runs' worth stays below 1000, three do not
        drain.run(tick, 0)
        received.append(camera.track.queue.waiting_aus)
    assert received == [1, 1, 3, 3, 5, 5, 7]
    camera.close()


def test_a_camera_that_gives_much_or_is_watched_never_rests():
    drain = Drain(rest_bytes=1000)
    much, watched = Camera(drain), Camera(drain)
    watched.track.queue.watched = True
    for tick in range(4):
        much.theirs.sendall(much.sound(2000))
        watched.theirs.sendall(watched.sound())
        drain.run(tick, 0)
        assert (much.track.queue.waiting_aus, watched.track.queue.waiting_aus) == (tick + 1, tick + 1)
    much.close()
    watched.close()


def test_a_run_for_watched_cameras_leaves_the_others_their_turns():
    drain = Drain(rest_bytes=1000, rest_runs=3)
    camera, watched = Camera(drain), Camera(drain)
    assert (drain.run(0, 0), drain.watched) == ([], 0)
    watched.track.queue.watched = True
    for tick in range(1, 9):
        camera.theirs.sendall(camera.sound())
        watched.theirs.sendall(watched.sound())
        told = drain.run(tick, 0, True)
        assert told == ([(watched.connection, FIRST)] if tick == 1 else [])
        assert (camera.track.queue.waiting_aus, watched.track.queue.waiting_aus, drain.watched) == (0, tick, 1)
    assert (camera.connection.watched, watched.connection.watched) == (False, True)
    for _ in range(4):
        drain.run(9, 0)
    assert camera.track.queue.waiting_aus == 8, "its rest is counted in runs of its own"
    camera.close()
    watched.close()


def test_resting_cameras_take_turns():
    drain = Drain(rest_bytes=1000)
    cameras = [Camera(drain) for _ in range(4)]
    for tick in range(2):
        for camera in cameras:
            camera.theirs.sendall(camera.sound())
        before = drain.received_bytes
        drain.run(tick, 0)
        assert drain.received_bytes - before == 2 * (tick + 1) * 176
    for camera in cameras:
        camera.close()


def test_removed_connections_are_left_alone_and_the_others_go_on(drain):
    cameras = [Camera(drain) for _ in range(5)]
    drain.remove(cameras[1].connection)
    drain.remove(cameras[1].connection)
    for camera in cameras:
        camera.theirs.sendall(camera.sound())
    assert {c for c, _ in drain.run(1, 0)} == {c.connection for c in cameras if c is not cameras[1]}
    assert len(drain) == 4
    drain.add(cameras[1].connection, cameras[1].ours.fileno())
    assert [c for c, _ in drain.run(1, 0)] == [cameras[1].connection]
    for camera in cameras:
        camera.close()


def test_a_connection_is_in_the_drain_once(drain, camera):
    with pytest.raises(ValueError, match="already"):
        drain.add(camera.connection, camera.ours.fileno())


@pytest.mark.parametrize("sizes", [(100, 1 << 20), (1 << 20, 4096)])
def test_sizes_that_cannot_be(sizes):
    with pytest.raises(ValueError, match="bytes"):
        Drain(*sizes)


def test_the_writer_takes_while_the_drain_gives(drain, camera):
    """Two threads on one queue: every access unit arrives once, whole, in order."""
    total = 20_000
    got: list[bytes] = []
    given = threading.Event()

    def consume() -> None:
        while not given.is_set() or camera.track.queue.waiting_aus:
            got.extend(data for _, data in camera.track.queue.take(100))

    reader = threading.Thread(target=consume)
    reader.start()
    expected = []
    for i in range(total // 100):
        while camera.track.queue.waiting_aus > 500:      # a queue that is full drops: another test's matter
            time.sleep(0)
        payloads = [rtpkit.noise(100 + i % 7, n) for n in range(3)] * 33 + [b"end"]
        expected += payloads
        camera.theirs.sendall(b"".join(interleaved(0, rtp(i * 100 + n, (i * 100 + n) * 160, p, pt=8)) for n, p in enumerate(payloads)))
        drain.run(i + 1, 0)
    given.set()
    reader.join()
    assert got == expected
