"""A site with one volume, for workers."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorder.base.config import RecordingConfig, SiteConfig, VolumeConfig
from storage.volume import Volume


@pytest.fixture
def site(tmp_path: Path) -> Iterator[SiteConfig]:
    Volume.init(tmp_path / "volume", bytes_max=256 << 20, on_root=True).close()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as live:
        yield SiteConfig("test", tmp_path / "state", Path(live), recording=RecordingConfig(camera_networks=("127.0.0.0/8",)),
                         volumes=(VolumeConfig(tmp_path / "volume", on_root=True),))
