"""Clips that senders send."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources.senders import AAC, X264, Web, make, web


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture
async def clip(folder: Path) -> Path:
    """MP4 with B-frames and AAC, 8 s."""
    path = folder / "clip.mp4"
    return path if path.exists() else await make(path, *X264, *AAC)


@pytest.fixture
def site() -> Iterator[Web]:
    with web() as state:
        yield state
