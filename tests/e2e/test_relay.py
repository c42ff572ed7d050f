"""A recorder that records another one's RTSP output has on its tapes what the other one has, byte for byte."""

import time
from collections.abc import Callable

import pytest

from bench.camsim import jpeg
from bench.camsim.process import SimProcess
from bench.site import Site, wait_until
from bench.tapes import tape_aus
from recorder.base.errors import WatchroomError

pytestmark = pytest.mark.live
SMALL = ("--size", "320x176", "--bitrate", "400", "--gop", "25")


def units(site: Site, track: str, codec: str) -> list[bytes]:
    """AUs of a camera's track; of JPEG what its head says is written anew on the way, so only the picture counts."""
    store = site.store()
    try:
        found = [au.data for au in tape_aus(store.track(1, track))]
    finally:
        store.close()
    return [jpeg.parse(data).scan for data in found] if codec == "jpeg" else found


@pytest.mark.parametrize(("codec", "audio", "bframes", "way"), [
    ("h264", "aac", 2, "tcp"), ("h265", "pcma", 0, "udp"), ("jpeg", "opus", 0, "tcp"), ("h264", "g726", 0, "udp"), ("h265", "l16", 0, "tcp")])
def test_a_chain_of_two_recorders_keeps_every_byte(codec: str, audio: str, bframes: int, way: str, simulate: Callable[..., SimProcess],
                                                   make_site: Callable[..., Site]) -> None:
    sim = simulate("--count", "1", "--codec", codec, "--audio", audio, "--bframes", str(bframes), *SMALL)
    first = make_site({"yard": [f'main = {{ url = "{sim.url(0)}", kbps = 400 }}']}, whole=True)
    second = make_site({"copy": [f'main = {{ url = "rtsp://127.0.0.1:{first.rtsp_port}/yard", kbps = 400, transport = "{way}" }}']})

    def recorded(site: Site, track: str, count: int) -> bool:
        site.check_alive()
        try:
            return len(units(site, track, "")) >= count
        except (OSError, WatchroomError):       # its tape is not there yet
            return False

    with first:
        wait_until(lambda: recorded(first, "audio", 50) and recorded(first, "main", 30), 120, "the first one records")
        with second:
            wait_until(lambda: recorded(second, "audio", 60) and recorded(second, "main", 75), 120, "the second one records")
            time.sleep(1)
        assert second.stop() == 0, second.tail()
        time.sleep(1)
    for track in ("main", "audio"):
        whole, copy = (units(site, track, codec if track == "main" else audio) for site in (first, second))
        start = whole.index(copy[0])
        assert copy == whole[start:start + len(copy)]
        assert len(copy) >= 60
