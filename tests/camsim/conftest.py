"""Clips of the camsim tests: small, encoded once per session."""

from pathlib import Path

import pytest

from bench.camsim.spec import AudioSpec, CameraSpec, VideoSpec

SMALL = VideoSpec(width=320, height=180, kbps=300)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's folder of clips."""
    return tmp_path_factory.mktemp("camsim-clips")


@pytest.fixture
def small() -> CameraSpec:
    """A cheap camera with sound."""
    return CameraSpec(SMALL, AudioSpec("aac"))
