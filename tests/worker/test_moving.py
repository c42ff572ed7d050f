"""A camera whose home becomes another volume goes there while it records: nothing of it is lost but the time to connect again."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from recorder.base.config import CameraConfig, SiteConfig, StreamConfig, VolumeConfig, volume_to_json
from recorder.base.media import GapCause
from storage.store import TapeStore
from storage.volume import Volume
from tests.session.fake_camera import FakeCamera
from tests.worker.recorded import ALL, until, worker


async def test_a_volume_that_comes_takes_a_camera_and_gives_it_back(site: SiteConfig, tmp_path: Path) -> None:
    volumes = []
    for path in (site.volumes[0].path, tmp_path / "second"):
        volume = Volume.open(path, on_root=True, lock=False) if path.exists() else Volume.init(path, bytes_max=160 << 20, on_root=True)
        volume.close()
        volumes.append(VolumeConfig(path, str(volume.uuid), on_root=True))
    site = replace(site, volumes=tuple(volumes[:1]))
    async with FakeCamera() as camera, worker(site, {1: CameraConfig("fake", StreamConfig(camera.url))}) as client:
        await until(client, "fake", "main", 100)
        await client.call("volumes", {"volumes": [volume_to_json(volume) for volume in volumes]})
        for home, aus in ((volumes[1], 300), (volumes[0], 500)):
            await client.call("camera.move", {"number": 1, "volume": home.uuid})
            await until(client, "fake", "main", aus)
    with closing(TapeStore([volume.path for volume in volumes], site.live_dir)) as store:
        track = store.whole(1, "main")
        pieces, gaps = track.pieces(*ALL), track.gaps(*ALL)
    assert [piece.tape.place for piece in pieces] == [0, 1, 0]
    assert {gap.cause for gap in gaps if gap.start_ns >= pieces[0].run.start_ns} <= {GapCause.OPERATOR, GapCause.STOPPED}
