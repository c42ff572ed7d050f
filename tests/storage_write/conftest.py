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
    """Rigs on one volume, closed at the end (a crashed one is closed already)."""
    made: list[Rig] = []

    def make(**more: Any) -> Rig:
        rig = Rig(tmp_path / "volume", tmp_path / "live", **more)
        made.append(rig)
        return rig

    (tmp_path / "volume").mkdir()
    yield make
    for rig in made:
        if rig.slot._lock_fd >= 0:
            rig.close()
