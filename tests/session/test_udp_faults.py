"""A bad network between a camera over UDP and its tape: loss is marked where it was injected, all else costs nothing."""

import asyncio
import random
import struct

import pytest

from recorder.base.media import AuFlag
from tests.session.fake_camera import FPS, Link, clip
from tests.session.rig import Rig
from tests.session.udp_camera import UdpCamera, bound

AT_ONCE = 5
PICTURES = 150
SHIFT_MAX = 8


class BadNetwork(UdpCamera):
    """Sends five pictures at a time, so that no packet's lateness depends on the machine; `lost` are the pictures that lost a packet."""

    def __init__(self, loss: float) -> None:
        super().__init__()
        self.loss = loss
        self.lost: set[int] = set()
        self.duplicates = 0
        self.stranger = bound("127.0.0.2")
        self._rng = random.Random(7)

    async def play(self, link: Link) -> None:
        """Pictures, in groups."""
        for first in range(0, PICTURES, AT_ONCE):
            packets = [packet for index in range(first, first + AT_ONCE) for packet in self.fated(link, index)]
            order = sorted(range(len(packets)), key=lambda i: i + self._rng.uniform(0, SHIFT_MAX))
            for i in order:
                self.datagram(0, packets[i])
                self.datagram(0, packets[i][:12] + b"\x65" + bytes(50), self.stranger)
            await asyncio.sleep(AT_ONCE / FPS)

    def fated(self, link: Link, index: int) -> list[bytes]:
        """The packets of a picture that arrive, some of them twice. Key frames and the last picture arrive whole."""
        found, data = [], link.picture(index)
        while data:
            (size,) = struct.unpack(">H", data[2:4])
            packet, data = data[4:4 + size], data[4 + size:]
            if index % FPS and index < PICTURES - 1 and self._rng.random() < self.loss:
                self.lost.add(index)
                continue
            twice = self._rng.random() < 0.1
            self.duplicates += twice
            found += [packet] * (1 + twice)
        return found


@pytest.mark.parametrize("loss", [0.0, 0.05])
async def test_loss_is_marked_where_it_was_injected_and_nowhere_else(loss: float) -> None:
    async with BadNetwork(loss) as camera, Rig() as rig:
        camera.pairs.append((camera.stranger, bound()))      # closed with the others
        rig.record(camera.url, transport="udp", audio=False)
        await rig.until(lambda: rig.tape().aus and indexes(rig)[-1] == PICTURES - 1)
        stats = rig.stream().feeds["video"].track.stats()  # type: ignore[union-attr]
        media = rig.stream()._session._udp[0].media  # type: ignore[union-attr]
        assert stats["lost"] >= len(camera.lost)
        assert (stats["lost"] > 0, stats["overrun"], stats["restarts"]) == (loss > 0, 0, 0)
        assert stats["duplicates"] == camera.duplicates
        assert stats["reordered"] > 50
        assert media.stats()["foreign"] >= stats["packets"]
        damaged = {index for index, (au, _) in zip(indexes(rig), rig.tape().aus, strict=True) if au["flags"] & AuFlag.DAMAGED}
        after_loss = {index for index in indexes(rig) if any(index - index % FPS <= gone <= index for gone in camera.lost)}
        assert damaged == after_loss
        assert set(range(PICTURES)) - set(indexes(rig)) <= camera.lost
        for index, (_, data) in zip(indexes(rig), rig.tape().aus, strict=True):
            if index not in camera.lost:
                assert data == b"".join(struct.pack(">I", len(nal)) + nal for nal in clip()[index % FPS])


def indexes(rig: Rig) -> list[int]:
    """Numbers of the pictures on the tape."""
    aus = rig.tape().aus
    return [(au["pts"] - aus[0][0]["pts"]) // 3600 for au, _ in aus]
