"""Cameras made by others, over UDP and multicast: recorded by a worker, read back, decoded."""

from dataclasses import replace
from typing import Any

import pytest

from recorder.base.config import CameraConfig, RecordingConfig, SiteConfig, StreamConfig
from recorder.base.media import AuFlag, GapCause
from storage.reader import TrackReader
from tests.worker.netns import CameraNetwork, camera_network
from tests.worker.recorded import ALL, decoded, packets, track, until, worker
from tests.worker.servers import gst_camera
from tests.worker.vlc import vlc_camera

pytestmark = pytest.mark.live


def camera(url: str, transport: str, reorder_ms: int = 100, **more: Any) -> CameraConfig:
    return CameraConfig("cam", StreamConfig(url, transport=transport, reorder_ms=reorder_ms), **more)


def transport_of(reader: TrackReader) -> str:
    return reader.session(int(reader.rows(*ALL).rows["session"][0])).transport


def is_whole(reader: TrackReader, codec: str, aus: int, cut: int = 0) -> None:
    """Nothing is missing or damaged once the first picture has come (but for the last `cut` AUs), and all of it decodes."""
    flags = reader.entries(reader.rows(*ALL)).flags
    assert not (flags[:len(flags) - cut] & AuFlag.DAMAGED).any()
    assert len(decoded(reader, codec, cut)) >= aus - cut
    (span,) = reader.spans(*ALL)
    assert [gap.cause for gap in reader.gaps(*ALL) if gap.start_ns >= span.start_ns] == [GapCause.STOPPED]


@pytest.mark.parametrize(("video", "audio", "decoders"), [("h264", "aac", ("h264", "aac")), ("h265", "pcma", ("hevc", "pcm_alaw"))])
async def test_gst_camera_over_udp_is_whole(site: SiteConfig, video: str, audio: str, decoders: tuple[str, str]) -> None:
    async with gst_camera("--video", video, "--audio", audio) as url, worker(site, {1: camera(url, "udp")}) as client:
        await until(client, "cam", "main", 75)
        status = await until(client, "cam", "audio", 30)
    assert status["tracks"]["main"]["lost_packets"] == status["tracks"]["audio"]["lost_packets"] == 0
    for name, decoder, aus in zip(("main", "audio"), decoders, (75, 30), strict=True):
        is_whole(track(site, 1, name), decoder, aus)
        assert transport_of(track(site, 1, name)) == "rtsp/udp"


async def test_auto_finds_a_camera_that_knows_udp_only(site: SiteConfig) -> None:
    async with gst_camera("--transports", "udp") as url, worker(site, {1: camera(url, "auto")}) as client:
        await until(client, "cam", "main", 30)
    is_whole(track(site, 1, "main"), "h264", 30)
    assert transport_of(track(site, 1, "main")) == "rtsp/udp"


async def test_udp_finds_a_camera_that_knows_tcp_only(site: SiteConfig) -> None:
    async with gst_camera("--transports", "tcp") as url, worker(site, {1: camera(url, "udp")}) as client:
        await until(client, "cam", "main", 30)
    is_whole(track(site, 1, "main"), "h264", 30)
    assert transport_of(track(site, 1, "main")) == "rtsp/tcp"


async def test_reordering_and_duplicates_cost_nothing(site: SiteConfig) -> None:
    """The camera delays packets by 25 ms, a busy machine by any time: the window waits for as long as the stream's `reorder_ms` says."""
    async with gst_camera("--dup", "0.1", "--delay", "25") as url, worker(site, {1: camera(url, "udp", 10_000)}) as client:
        status = await until(client, "cam", "main", 120)
    assert status["tracks"]["main"]["lost_packets"] == 0
    assert transport_of(track(site, 1, "main")) == "rtsp/udp"
    is_whole(track(site, 1, "main"), "h264", 120, cut=4)    # the recording may end while late packets are awaited


async def test_loss_over_udp_is_flagged_and_the_rest_decodes(site: SiteConfig) -> None:
    async with gst_camera("--loss", "0.03", "--dup", "0.05", "--gop", "15") as url, worker(site, {1: camera(url, "udp")}) as client:
        status = await until(client, "cam", "main", 150)
    counted = status["tracks"]["main"]
    assert counted["lost_packets"] > 0 == counted["overrun_packets"]
    assert 0 < counted["damaged_aus"] < counted["aus"]
    reader = track(site, 1, "main")
    damaged = (reader.entries(reader.rows(*ALL)).flags & AuFlag.DAMAGED) != 0
    assert 0 < damaged.sum() < len(damaged) == len(packets(reader))


async def test_vlc_camera_is_recorded(site: SiteConfig) -> None:
    async with vlc_camera() as url, worker(site, {1: camera(url, "auto")}) as client:
        status = await until(client, "cam", "main", 60)
        await until(client, "cam", "audio", 30)
    assert status["tracks"]["main"]["lost_packets"] == 0
    is_whole(track(site, 1, "main"), "h264", 60)
    assert transport_of(track(site, 1, "main")) == "rtsp/udp"
    assert len(decoded(track(site, 1, "audio"), "aac")) >= 30


async def test_multicast_is_joined_on_the_way_to_the_camera(site: SiteConfig) -> None:
    """The camera sits in a network of its own, behind a cable that no route for groups leads to."""
    site = replace(site, recording=RecordingConfig(camera_networks=(CameraNetwork(77).network, "239.0.0.0/8")))
    with camera_network(77) as net:
        options = ("--audio", "aac", "--transports", "multicast", "--group", "239.1.2.3")
        async with gst_camera(*options, inside=net.inside, address=net.camera) as url, \
                worker(site, {1: camera(url, "multicast"), 2: replace(camera(url, "multicast"), id="again")}) as client:
            for name in ("cam", "again"):             # two receivers of one group share its port
                await until(client, name, "main", 45)
                await until(client, name, "audio", 20)
    for number in (1, 2):
        reader = track(site, number, "main")
        is_whole(reader, "h264", 45)
        assert transport_of(reader) == "rtsp/multicast"
