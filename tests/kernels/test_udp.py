"""recorder/_ext/udp, window: datagrams in, in order, from one sender only."""

import socket
import struct
from collections.abc import Iterator

import pytest
import rtpkit
from hypothesis import given
from hypothesis import strategies as st
from rtpkit import DAMAGED
from twin_window import TwinWindow
from udpkit import LOOPBACK, UDP_SEGMENT, UdpCamera, sound

from recorder._ext.auqueue import AuQueue
from recorder._ext.framing import Connection
from recorder._ext.rtp import EVENT_BYE, EVENT_EOF, EVENT_MESSAGE, EVENT_RTCP, RtpTrack
from recorder._ext.udp import UdpMedia
from recorder.base.media import GapCause


@pytest.fixture
def camera() -> Iterator[UdpCamera]:
    camera = UdpCamera()
    yield camera
    camera.close()


def test_datagrams_become_access_units_in_order(camera):
    camera.sounds(*range(100, 200))
    camera.ticks()
    assert camera.numbers == list(range(100, 200))
    assert not any(flags & DAMAGED or gap for _, flags, gap in camera.aus)
    assert camera.track.stats()["lost"] == 0


def test_packets_that_are_60_ms_late_cost_nothing(camera):
    camera.sounds(*range(10))
    camera.ticks(4)
    camera.sounds(*range(11, 20))
    camera.ticks(2)
    camera.sounds(10, 20)
    camera.ticks(4)
    assert camera.numbers == list(range(21))
    assert not any(flags & DAMAGED for _, flags, _ in camera.aus)
    stats = camera.track.stats()
    assert (stats["lost"], stats["duplicates"], stats["reordered"]) == (0, 0, 19)


def test_the_first_packets_of_a_session_may_come_out_of_order(camera):
    camera.sounds(5, 3, 4, 6)
    camera.ticks()
    assert camera.numbers == [3, 4, 5, 6]
    assert camera.track.stats()["lost"] == 0


def test_a_lost_packet_is_given_up_after_100_ms_and_what_follows_is_marked(camera):
    camera.sounds(1, 2)
    camera.ticks(4)
    camera.sounds(4, 5)
    camera.ticks(3)
    assert camera.numbers == [1, 2]
    camera.tick()
    assert camera.numbers == [1, 2, 4, 5]
    assert [flags & DAMAGED != 0 for _, flags, _ in camera.aus] == [False, False, True, False]
    assert camera.track.stats()["lost"] == 1


def test_a_stream_may_wait_longer_for_what_is_missing(camera):
    camera.track.patience_ns = 400_000_000
    camera.sounds(1, 3)
    camera.ticks(9)
    camera.sounds(2, 5)
    camera.ticks(10)
    assert camera.numbers == [1, 2, 3]
    camera.tick()
    assert (camera.numbers, camera.track.stats()["lost"]) == ([1, 2, 3, 5], 1)
    with pytest.raises(ValueError, match="0 ns"):
        camera.track.patience_ns = 0


def test_duplicates_vanish_in_the_window_and_behind_it(camera):
    camera.sounds(1, 1, 2, 4, 4, 4, 3, 3, 2, 5)
    camera.ticks()
    assert camera.numbers == [1, 2, 3, 4, 5]
    assert camera.track.stats()["duplicates"] == 5
    assert not any(flags & DAMAGED for _, flags, _ in camera.aus)


def test_a_packet_that_comes_after_it_was_given_up_is_no_restart(camera):
    """At a high rate a late packet is more than 100 numbers behind, which over TCP means a new sender."""
    camera.sounds(0)
    camera.ticks()
    camera.sounds(*range(2, 300))
    camera.ticks()
    camera.sounds(1, *range(300, 310))
    camera.ticks()
    assert camera.numbers == [0, *range(2, 310)]
    assert (camera.track.stats()["restarts"], camera.track.stats()["lost"]) == (0, 1)


@given(st.integers(0, 65535), st.lists(st.tuples(st.sampled_from("....ldx"), st.integers(0, 5)), max_size=120), st.integers(1, 40))
def test_the_window_does_what_its_twin_does(start: int, fates: list[tuple[str, int]], per_tick: int) -> None:
    """Loss, duplicates and delays of up to five ticks, over the wrap of the sequence number."""
    camera, twin = UdpCamera(), TwinWindow()
    arrivals: dict[int, list[int]] = {}
    for i, (fate, ticks) in enumerate(fates):
        sent, seq = i // per_tick, start + i
        for late in {"l": [], "d": [0, ticks], "x": [ticks]}.get(fate, [0]):
            arrivals.setdefault(sent + late, []).append(seq)
    try:
        for tick in range(max(arrivals, default=0) + 5):
            camera.sounds(*arrivals.get(tick, ()))
            for seq in arrivals.get(tick, ()):
                twin.packet(seq, camera.mono_ns + 40_000_000)
            camera.tick()
            twin.tick(camera.mono_ns)
            assert camera.numbers == twin.used
        stats = camera.track.stats()
        assert (stats["lost"], stats["duplicates"], stats["restarts"]) == (twin.lost, twin.duplicates, twin.restarts)
    finally:
        camera.close()


@given(st.lists(st.integers(0, 4000), max_size=150))
def test_numbers_without_any_order_do_not_disturb_the_window(numbers: list[int]) -> None:
    camera, twin = UdpCamera(), TwinWindow()
    try:
        for at in range(0, len(numbers), 10):
            camera.sounds(*numbers[at:at + 10])
            for seq in numbers[at:at + 10]:
                twin.packet(seq, camera.mono_ns + 40_000_000)
            camera.tick()
            twin.tick(camera.mono_ns)
        camera.track.flush()
        camera.take()
        twin.end()
        assert camera.numbers == twin.used
    finally:
        camera.close()


def test_the_end_of_a_session_uses_what_is_held(camera):
    camera.sounds(1, 2)
    camera.ticks(4)
    camera.sounds(4)
    camera.tick()
    camera.track.flush()
    camera.take()
    assert camera.numbers == [1, 2, 4]


def test_a_jump_of_the_sequence_uses_what_is_held_first(camera):
    camera.sounds(1)
    camera.ticks(4)
    camera.sounds(3, 30_000, 30_001)
    camera.ticks(4)
    assert camera.numbers == [1, 3, 30_000, 30_001]
    assert camera.track.stats()["restarts"] == 1


def test_another_ssrc_uses_what_is_held_first(camera):
    camera.sounds(1)
    camera.ticks(4)
    camera.sounds(3)
    camera.rtcp.sendto(rtpkit.goodbye(0x1234), camera.ours_rtcp.getsockname())
    camera.tick()
    camera.send(sound(500, ssrc=0x9999))
    camera.ticks(4)
    assert camera.numbers == [1, 3, 500]


def test_the_window_is_bounded_in_bytes_and_packets(camera):
    track = RtpTrack(AuQueue(1 << 26, 8192), "pcma", 8000, [8], 1)
    other = UdpCamera(rcvbuf=1 << 24, track=track)
    other.send(rtpkit.rtp(1, 0, b"a" * 8, pt=8))
    other.ticks(4)
    for i in range(3, 200):
        other.send(rtpkit.rtp(i, i * 60_000, bytes(60_000), pt=8))
        other.drain.run(other.mono_ns, 0)
    assert track.queue.waiting_aus >= 197 - (4 << 20) // 60_000
    other.close()
    camera.sounds(1)
    camera.ticks(4)
    camera.sounds(*range(3, 700))
    camera.drain.run(camera.mono_ns, 0)
    camera.take()
    assert len(camera.numbers) == 698


def test_packets_of_strangers_are_dropped_and_counted(camera):
    """Another address (all of 127/8 is ours), and another port of the camera's address: a port that flips is a stranger's."""
    for address in ("127.0.0.2", "127.0.0.1"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind((address, 0))
            camera.send(sound(7), sound(8), sock=stranger)
    camera.sounds(1, 2)
    camera.ticks()
    assert camera.numbers == [1, 2]
    assert camera.media.stats()["foreign"] == 4


def test_an_open_port_is_that_of_the_first_packet_from_the_camera():
    camera = UdpCamera(pinned=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flipped:
        stranger.bind(("127.0.0.2", 0))
        flipped.bind(("127.0.0.1", 0))
        camera.send(sound(90), sock=stranger)
        camera.sounds(1)
        camera.send(sound(2), sock=flipped)
        camera.sounds(2)
        camera.ticks()
    assert camera.numbers == [1, 2]
    assert camera.media.sender_ports[0] == camera.rtp.getsockname()[1]
    assert camera.media.stats()["foreign"] == 2
    camera.close()


def test_the_second_allowed_address_may_send():
    camera = UdpCamera(peers=[socket.inet_aton("127.0.0.3"), LOOPBACK])
    camera.sounds(1)
    camera.ticks()
    assert camera.numbers == [1]
    camera.close()


def test_what_the_kernel_drops_is_overload_and_what_the_camera_loses_is_not():
    camera = UdpCamera(rcvbuf=2048)
    camera.sounds(0)
    camera.ticks(4)
    camera.sounds(2, 3)                  # 1 is lost on its way
    camera.ticks(4)
    stats = camera.track.stats()
    assert (stats["lost"], stats["overrun"]) == (1, 0)
    camera.sounds(*range(4, 200))        # more than the buffer takes
    camera.tick()
    camera.sounds(*range(200, 203))
    camera.ticks(4)
    stats, media = camera.track.stats(), camera.media.stats()
    dropped = 203 - len(camera.numbers) - 1
    assert dropped > 50
    assert (stats["lost"], stats["overrun"], media["overflows"]) == (dropped + 1, dropped, dropped)
    after = camera.numbers.index(200)
    assert [gap for _, _, gap in camera.aus[:after]] == [0] * after
    assert (camera.aus[after][2], camera.aus[after][1] & DAMAGED) == (GapCause.OVERLOAD, DAMAGED)
    assert [gap for _, _, gap in camera.aus[after + 2:]] == [0]
    camera.close()


def test_packets_that_the_kernel_gathered_are_taken_apart(camera):
    packets = [sound(n) for n in range(1, 41)]
    gathered = (socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", len(packets[0])))
    camera.rtp.sendmsg([b"".join(packets)], [gathered], 0, camera.ours.getsockname())
    camera.ticks()
    assert camera.numbers == list(range(1, 41))
    assert camera.media.stats()["datagrams"] == 40


def test_reports_and_goodbyes_come_on_the_second_port(camera):
    camera.sounds(1)
    camera.rtcp.sendto(rtpkit.sender_report(1 << 40, 160), camera.ours_rtcp.getsockname())
    camera.ticks()
    assert camera.events & EVENT_RTCP
    assert camera.track.sender_report is not None
    camera.rtcp.sendto(rtpkit.goodbye(0x1234), camera.ours_rtcp.getsockname())
    camera.tick()
    assert camera.events & EVENT_BYE


def test_empty_and_malformed_datagrams_do_no_harm(camera):
    camera.send(b"", b"\x80", b"\0" * 2000, b"\xff" * 9000, rtpkit.rtp(1, 0, b"", pt=8, first=0xBF))
    camera.sounds(1, 2)
    camera.ticks()
    assert camera.numbers == [1, 2]


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_no_datagrams_do_harm(datagrams: list[bytes]) -> None:
    camera = UdpCamera()
    try:
        camera.send(*datagrams, *(rtpkit.rtp(i, i, data, pt=8) for i, data in enumerate(datagrams)))
        camera.rtcp.sendto(b"\x81\xc8" + b"".join(datagrams), camera.ours_rtcp.getsockname())
        camera.drain.run(camera.mono_ns, 0)
        camera.track.flush()
    finally:
        camera.close()


def test_a_closed_port_at_the_camera_is_no_error(camera):
    """A punched hole is answered by ICMP until the camera listens: a connected socket tells it as ECONNREFUSED."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        nobody = gone.getsockname()
    camera.ours.connect(nobody)
    camera.ours.send(b"")
    camera.ours.connect(camera.rtp.getsockname())
    camera.sounds(1)
    camera.ticks()
    assert camera.numbers == [1]


def test_the_rtsp_connection_is_still_read(camera):
    camera.tcp_peer.sendall(b"RTSP/1.0 200 OK\r\n\r\n")
    camera.ticks(8)
    assert camera.events & EVENT_MESSAGE
    camera.tcp_peer.close()
    camera.ticks(8)
    assert camera.events & EVENT_EOF


def test_a_removed_session_leaves_its_sockets_alone_and_the_others_go_on():
    first = UdpCamera()
    second = UdpCamera(drain=first.drain)
    first.drain.remove(first.connection)
    first.sounds(1)
    second.sounds(1)
    second.ticks()
    first.take()
    assert (first.numbers, second.numbers) == ([], [1])
    first.close()
    second.close()


@pytest.mark.parametrize(("peers", "ports"), [([], {}), ([LOOPBACK] * 3, {}), ([b"abc"], {}), ([LOOPBACK], {"rtp_port": 65536})])
def test_what_cannot_be_is_refused(peers, ports):
    track = RtpTrack(AuQueue(1 << 20), "pcma", 8000, [8], 1)
    with pytest.raises(ValueError, match=r"address|ports"):
        UdpMedia(track, 0, 1, peers, **ports)


def test_more_than_8_tracks_are_refused(camera):
    with pytest.raises(ValueError, match="8 tracks"):
        camera.drain.add(Connection(), camera.tcp.fileno(), [camera.media] * 9)
