"""A relay when the clock or the camera's words are not what they were."""

from dataclasses import replace

import pytest

from api.rtspout import ports as ports_module
from api.rtspout.fault import Fault
from api.rtspout.ports import PortPool
from api.rtspout.relay import SOUND_NS, Relay
from recorder.base.media import NS
from tests.media.conftest import audio, video
from tests.rtspout.conftest import T0, UDP, Board, Sender

MAIN, SOUND = (1, "main"), (1, "audio")


def relayed(stream, key):
    board = Board({key: stream.entry})
    relay = Relay(board.join, *key, 0, lambda: None)
    return relay, Sender(board, key, stream)


async def test_sound_of_before_a_clock_was_set_back_is_not_kept():
    relay, sender = relayed(audio(30), SOUND)
    sender.send(200)
    sender.start_ns -= 3600 * NS
    sender.send(breaks=True)
    sender.send(300)
    assert max(one.wall_ns for one in relay.group) < T0
    step_ns = 1024 * NS // 48_000
    assert relay.group[-1].wall_ns - relay.group[0].wall_ns <= 2 * SOUND_NS + step_ns


@pytest.mark.parametrize("broken", [lambda config: config[:3], lambda config: config[:30], lambda config: config[:4] + b"\xfc" + config[5:]])
async def test_a_configuration_that_cannot_be_read_costs_its_parameter_sets_alone(broken):
    relay, sender = relayed(video(), MAIN)
    sender.send(25)
    entry = sender.stream.entry
    sender.send(25, entry=replace(entry, config=broken(entry.config)))
    assert not relay.ended
    assert len(relay.group) == 25


async def test_a_server_without_a_file_to_spare_says_so(monkeypatch):
    made = []

    class Full(ports_module.socket.socket):
        def __init__(self, *args):
            if made:
                raise OSError(24, "Too many open files")
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(ports_module.socket, "socket", Full)
    with pytest.raises(Fault) as caught:
        PortPool("127.0.0.1", *UDP).take("127.0.0.1", (43300, 43301))
    assert caught.value.status == 503
    assert made[0].fileno() == -1
