"""The benchmark of a failing disk runs, and several cameras lose not one picture with it."""

from pathlib import Path

import pytest

from bench.failover import measure, row

pytestmark = [pytest.mark.live, pytest.mark.disk]


def test_no_camera_misses_a_picture_when_the_disk_fails(tmp_path: Path) -> None:
    found = measure(tmp_path, "fail", 6, 100, 25)
    assert (found.incomplete, found.missing_s) == (0, {})
    assert 0 < found.first_s <= found.last_s
    assert row("fail", 6, found).startswith("| fail | 6 | ")
