import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from storage.store import TapeStore
from tests.storage_read.reference_writer import RefVolume


@pytest.fixture
def live_dir() -> Iterator[Path]:
    """A folder on tmpfs, as the product has it."""
    path = Path(mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def volume(tmp_path: Path, live_dir: Path) -> Iterator[RefVolume]:
    made = RefVolume(tmp_path / "volume", live_dir)
    yield made
    made.volume.close()


@pytest.fixture
def store(volume: RefVolume) -> Iterator[TapeStore]:
    made = TapeStore([volume.path], volume.live_dir)
    yield made
    made.close()
