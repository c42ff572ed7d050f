"""Readers hear of holds from the slots' folders, whose time of change moves in ticks."""

import os
from pathlib import Path

import pytest

from recorder.base.media import NS
from storage import shelfreader
from storage.hold import Hold, HoldSpan
from storage.holdshelf import Shelf, Taken
from storage.shelfreader import ShelfReader
from tests.storage_read.reference_writer import RefVolume


def _hold(number: int, start_s: int) -> Taken:
    return Taken(Hold(f"{number:032x}", "accident", "", "test", 1, 0, (HoldSpan(1, start_s * NS, (start_s + 10) * NS, ""),), 0))


def test_a_hold_that_comes_in_the_tick_of_the_one_before_is_seen(volume: RefVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelfreader, "LOOK_NS", 0)
    shelf, folder = Shelf(volume.volume, 0), Path(volume.volume.path) / "slot-0/holds"
    shelf.open()
    reader = ShelfReader(volume.volume.dir_fd)
    shelf.put(_hold(1, 100))
    changed_ns = folder.stat().st_mtime_ns
    assert reader.stretches(1, "main") == ((100 * NS, 110 * NS),)
    shelf.put(_hold(2, 200))
    os.utime(folder, ns=(changed_ns, changed_ns))
    assert reader.stretches(1, "main") == ((100 * NS, 110 * NS), (200 * NS, 210 * NS))
