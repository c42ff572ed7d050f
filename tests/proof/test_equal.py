"""What the cameras sent is what is on the tapes, and what a clip or a picture shows is the frame of its time."""

import io
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from bench.camsim import pattern
from bench.camsim.process import SimProcess
from bench.camsim.truth import Truth
from bench.site import Site, wait_until
from bench.tapes import tape_aus
from recorder.base.media import NS
from tests.proof.kit import SMALL, ask, check_clean, clip, compared, recording, shown

FRAME_NS = NS // 25
LATE_NS = 150_000_000       # arrival of the least delayed AU in a session's first 2 s, on a machine that has much to do
DRIFT = 500e-6              # by how much a tape's time may run faster or slower than the camera's
STEP_NS = 100_000           # rounding to ticks and microseconds


@dataclass(frozen=True)
class Shown:
    """When a camera's pictures were taken, as the tape says: `late_ns` after the simulation's own time, by AU from number `first` on."""

    truth: Truth
    first: int
    late_ns: NDArray[np.int64]

    def time_ns(self, index: int) -> int:
        return self.truth.wall_ns(index) + int(self.late_ns[index - self.first])

    def numbers(self, start_ns: int, end_ns: int) -> list[int]:
        """The numbers of the pictures with start <= t < end."""
        indices = range(self.first, self.first + len(self.late_ns))
        return [self.truth.number_of(i) for i in indices if start_ns <= self.time_ns(i) < end_ns]

    def index(self, time_ns: int) -> int:
        """The AU shown at a time."""
        return self.first + int(np.searchsorted([self.time_ns(self.first + n) for n in range(len(self.late_ns))], time_ns, "right")) - 1


def clock_of(site: Site, truth: Truth, camera: int) -> Shown:
    """How the tape's times lie against the camera's: off by an arrival, and never by more than 500 ppm faster or slower."""
    store = site.store()
    try:
        aus = list(tape_aus(store.track(camera, "main")))
    finally:
        store.close()
    first = truth.find(aus[0].data, (aus[0].wall_ns - truth.base_wall_ns) // FRAME_NS - 25)
    assert first is not None
    late = np.array([au.wall_ns - truth.wall_ns(first + n) for n, au in enumerate(aus)])
    assert (np.abs(np.diff(late)) < DRIFT * FRAME_NS + STEP_NS).all()
    assert late.min() > 0
    assert late.max() < LATE_NS
    return Shown(truth, first, late)


def moment(dice: random.Random, clock: Shown, low_ns: int, high_ns: int) -> int:
    """A random time well within a picture's own."""
    index = clock.index(dice.randrange(low_ns, high_ns))
    return clock.time_ns(index) + FRAME_NS // 2 + dice.randrange(-FRAME_NS // 4, FRAME_NS // 4)


@pytest.mark.parametrize(("cameras", "seconds", "looks"), [
    pytest.param(4, 8, 8, marks=pytest.mark.live),
    pytest.param(16, 60, 20, marks=pytest.mark.soak),
])
def test_tapes_clips_and_pictures_are_what_was_sent(cameras: int, seconds: int, looks: int, simulate: Callable[..., SimProcess],
                                                    make_site: Callable[..., Site], tmp_path: Path,
                                                    record_property: Callable[[str, object], None]) -> None:
    sim = simulate("--count", str(cameras), "--codec", "h264,h265,h264", "--audio", "aac,pcma,pcmu,none", "--gop", "25", *SMALL)
    site = make_site({f"cam-{i}": [f'main = {{ url = "{sim.url(i)}", kbps = 400 }}'] for i in range(cameras)})
    dice = random.Random(cameras)
    with site:
        wait_until(lambda: recording(site), 300, "all cameras recording")
        time.sleep(seconds)
        clocks = [clock_of(site, sim.truth(i), number) for i, number in enumerate(site.numbers().values())]
        now_ns = time.time_ns()
        for n in range(looks):
            camera = n % cameras
            clock = clocks[camera]
            low_ns = clock.time_ns(clock.first) + NS // 2
            start_ns = moment(dice, clock, low_ns, now_ns - 5 * NS)
            end_ns = moment(dice, clock, start_ns + NS // 2, now_ns - 2 * NS)
            numbers, messages = shown(clip(site, f"cam-{camera}", start_ns, end_ns).body, tmp_path / f"{n}.mp4")
            assert numbers == clock.numbers(start_ns, end_ns)
            assert messages == ""
            at_ns = moment(dice, clock, low_ns, now_ns - NS)
            reply = ask(site, f"cameras/cam-{camera}/frame.jpg", time=at_ns)
            assert reply.status == 200, reply.body
            assert number_in(reply.body) == clock.truth.number_of(clock.index(at_ns))
        site.check_alive()
    assert site.stop() == 0, site.tail()
    equal = 0
    for name, found, sessions in compared(site, sim, end_s=0.5):
        assert found.whole, f"{name}: {found}"
        assert sessions == 1
        equal += found.recorded
    record_property("AUs equal", equal)
    check_clean(site)


def number_in(jpeg: bytes) -> int | None:
    """The number in a JPEG."""
    with av.open(io.BytesIO(jpeg), format="mjpeg") as file:
        return pattern.read(next(file.decode(video=0)).to_ndarray(format="gray"))
