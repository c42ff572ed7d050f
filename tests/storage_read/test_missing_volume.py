"""A volume is unmounted under a reader, which lets go of it, goes on with the others, and finds it again."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recorder.base.errors import NotFound, VolumeError
from storage import store as store_module
from storage.store import TapeStore
from tests.storage_read.reference_writer import RefVolume


@pytest.fixture
def volumes(tmp_path: Path, live_dir: Path) -> Iterator[list[Any]]:
    made = [RefVolume(tmp_path / name, live_dir) for name in ("a", "b")]
    for volume in made:
        volume.track(7, "main")
    yield made
    for volume in made:
        volume.volume.close()


@pytest.fixture
def opened(volumes: list[Any], live_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TapeStore]]:
    monkeypatch.setattr(store_module, "LOOK_NS", -1)
    stores = []

    def make(*, lenient: bool) -> TapeStore:
        stores.append(TapeStore([volume.path for volume in volumes], live_dir, lenient=lenient))
        return stores[-1]
    yield make
    for store in stores:
        store.close()


def places(store: TapeStore) -> list[int]:
    return sorted(tape.place for tape in store.tapes(7, "main"))


def away(volume: Any) -> Path:
    return Path(volume.path.rename(volume.path.with_name("away")))


def test_a_vanished_volume_is_let_go_of_and_found_again(volumes: list[Any], opened: Callable[..., TapeStore]) -> None:
    store = opened(lenient=True)
    assert places(store) == [0, 1]
    tape = store.tape(7, "main", 0)
    gone = away(volumes[0])
    assert places(store) == [1]
    assert store.cameras() == (7,)
    with pytest.raises(NotFound):
        store.tape(7, "main", 0)
    with pytest.raises(OSError):
        tape.chunks_fd()
    gone.rename(volumes[0].path)
    assert places(store) == [0, 1]


def test_readers_begin_without_a_volume_that_is_missing_but_not_without_any(volumes: list[Any], opened: Callable[..., TapeStore]) -> None:
    gone = away(volumes[0])
    assert places(opened(lenient=True)) == [1]
    volumes[1].path.rename(volumes[1].path.with_name("away too"))
    with pytest.raises(VolumeError, match="no such folder"):
        opened(lenient=True)
    gone.rename(volumes[0].path)
    assert places(opened(lenient=True)) == [0]


def test_who_must_know_all_is_told(volumes: list[Any], opened: Callable[..., TapeStore]) -> None:
    store = opened(lenient=False)
    away(volumes[1])
    with pytest.raises(VolumeError, match="no such folder"):
        store.tapes(7, "main")
