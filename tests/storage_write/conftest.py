"""Folders for a volume and a live file, and the rig on its path."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from rig import Rig


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Rigs on one volume, or on that in `path`, closed at the end (a crashed one is closed already)."""
    made: list[Rig] = []

    def make(**more: Any) -> Rig:
        path = more.pop("path", tmp_path / "volume")
        path.mkdir(exist_ok=True)
        rig = Rig(path, tmp_path / "live", **more)
        made.append(rig)
        return rig

    yield make
    for rig in made:
        if rig.slot._lock_fd >= 0:
            rig.close()
