"""A viewer that is slower than its track: what is left out, and that what it gets can be decoded and has no holes in its numbers."""

import struct
from array import array
from itertools import pairwise

import pytest

from api.rtspout import viewer as viewer_module
from api.rtspout.relay import Relays
from api.rtspout.viewer import WAITING_MAX, Viewer
from tests.media.conftest import audio, video
from tests.rtspout.conftest import Board, Sender

MAIN = (1, "main")


class Slow:
    """An Out that keeps what it is sent, and has as much waiting as a test says."""

    ssrc, payload_type, channel = 1, 96, 0

    def __init__(self):
        self.waiting, self.units, self.packets, self.reports, self.over = 0, [], [], [], False

    def send(self, data: bytes, offsets: "array[int]") -> None:
        self.units.append(struct.unpack_from(">I", data, 8)[0])
        self.packets += [data[start + 4:end] for start, end in pairwise(offsets)]

    def report(self, wall_ns, rtp_timestamp, packets, octets):
        self.reports.append((wall_ns, rtp_timestamp, packets, octets))

    def goodbye(self):
        self.over = True


class Clock:
    now_s = 1000.0

    def monotonic(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(viewer_module, "time", made)
    return made


@pytest.fixture
def show(clock):
    def begin(stream, track="main"):
        board = Board({(1, track): stream.entry})
        relay = Relays(board.join).hold(1, track)
        sender = Sender(board, (1, track), stream)
        sender.send(1)
        out = Slow()
        made = Viewer(relay, out)
        made.begin(relay.group, access_point=track == "main")
        first = out.units[0]
        out.numbers = lambda: [(unit - first) % (1 << 32) // stream.dur for unit in out.units]
        return made, sender, out

    return begin


def no_holes(out):
    numbers = [struct.unpack_from(">H", packet, 2)[0] for packet in out.packets]
    assert all((b - a) & 0xFFFF == 1 for a, b in pairwise(numbers))


def test_one_that_keeps_up_gets_all(show):
    viewer, sender, out = show(video())
    sender.send(99)
    assert out.numbers() == list(range(100))
    assert viewer.skipped == 0
    no_holes(out)


def test_one_that_falls_behind_goes_on_at_an_access_point_once_it_has_caught_up(show):
    viewer, sender, out = show(video())
    sender.send(9)
    out.waiting = WAITING_MAX + 1
    sender.send(30)                 # over an access point, at which it still waits
    assert out.numbers() == list(range(11))
    out.waiting = 1000
    sender.send(30)
    assert out.numbers() == [*range(11), *range(50, 70)]
    assert viewer.skipped == 39
    no_holes(out)


def test_one_that_falls_behind_again_gets_access_points_until_it_is_calm(show, clock):
    _, sender, out = show(video())
    for _ in range(2):
        out.waiting = WAITING_MAX + 1
        sender.send(24)
        out.waiting = 0
        sender.send(1)
    assert out.numbers() == [0, 1, 25, 26, 50]
    sender.send(50)
    assert out.numbers()[5:] == [75, 100]
    clock.now_s += 11
    sender.send(50)
    assert out.numbers()[7:] == list(range(125, 151))
    no_holes(out)


def test_pictures_that_refer_to_what_was_left_out_are_left_out(show):
    """Leading pictures follow their access point in decode order and refer to pictures before it: shown only where those were sent."""
    _, sender, out = show(video())

    def send_to(end):
        while sender.sent < end:
            sender.send(1, leading=sender.sent % 25 in {1, 2})

    send_to(5)
    out.waiting = WAITING_MAX + 1
    send_to(15)
    out.waiting = 0
    send_to(80)
    assert out.numbers() == [0, *range(3, 6), 25, *range(28, 80)]
    no_holes(out)


def test_sound_that_falls_behind_goes_on(show):
    stream = audio(codec="alaw")
    _, sender, out = show(stream, "audio")
    out.waiting = WAITING_MAX + 1
    sender.send(50)
    out.waiting = 0
    sender.send(10)
    assert out.numbers() == [0, 1, *range(51, 61)]
    no_holes(out)


def test_other_channels_are_written_into_a_copy(show):
    viewer, sender, out = show(video())
    out.channel = 6
    sender.send(1)
    assert out.packets
    assert all(packet[0] == 0x80 for packet in out.packets)
    assert viewer._relay.group[0].data[1] == 0


def test_reports_come_every_five_seconds_and_count_what_was_sent(show, clock):
    _, sender, out = show(video())
    sender.send(10)
    assert len(out.reports) == 1
    clock.now_s += 5
    sender.send(1)
    assert len(out.reports) == 2
    wall_ns, timestamp, packets, octets = out.reports[1]
    assert wall_ns == sender.unit(11).wall_ns
    assert timestamp == out.units[-1]
    assert packets >= 12
    assert octets > 1000


def test_a_unit_that_is_not_coded_as_its_track_is_left_out_and_counted(show):
    viewer, sender, out = show(video())
    sender.send(1, data=b"\0\0\1\0broken")
    sender.send(1)
    assert out.numbers() == [0, 2]
    assert viewer._relay.dropped == 1
    no_holes(out)
