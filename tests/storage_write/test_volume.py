"""A volume that is not the right one is refused in one clear line."""

import json
from pathlib import Path

import pytest

from recorder.base.errors import VolumeError
from storage.volume import Volume


def test_a_second_opener_is_locked_out(tmp_path: Path) -> None:
    Volume.init(tmp_path / "v", bytes_max=1 << 26, on_root=True).close()
    first = Volume.open(tmp_path / "v", on_root=True)
    with pytest.raises(VolumeError, match="in use by another process"):
        Volume.open(tmp_path / "v", on_root=True)
    Volume.open(tmp_path / "v", on_root=True, lock=False).close()
    first.close()
    Volume.open(tmp_path / "v", on_root=True).close()


def test_a_missing_volume_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"no volume\.json"):
        Volume.open(tmp_path, on_root=True)
    with pytest.raises(VolumeError, match="no such folder"):
        Volume.open(tmp_path / "nothing", on_root=True)


def test_a_foreign_volume_is_refused(tmp_path: Path) -> None:
    Volume.init(tmp_path, on_root=True).close()
    with pytest.raises(VolumeError, match="another volume is mounted"):
        Volume.open(tmp_path, uuid="00000000-0000-0000-0000-000000000001", on_root=True)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    Volume.init(tmp_path, on_root=True).close()
    text = json.loads((tmp_path / "volume.json").read_text())
    (tmp_path / "volume.json").write_text(json.dumps({**text, "format": 2}))
    with pytest.raises(VolumeError, match="format 2"):
        Volume.open(tmp_path, on_root=True)


def test_garbage_for_volume_json_is_refused(tmp_path: Path) -> None:
    for garbage in ("", "[]", "{}", '{"format": "x"}'):
        (tmp_path / "volume.json").write_text(garbage)
        with pytest.raises(VolumeError, match="cannot be understood"):
            Volume.open(tmp_path, on_root=True)


def test_the_root_file_system_is_refused_unless_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.volume.ROOT", tmp_path)
    with pytest.raises(VolumeError, match="root file system"):
        Volume.init(tmp_path / "v")


def test_a_volume_is_not_made_twice(tmp_path: Path) -> None:
    Volume.init(tmp_path, on_root=True).close()
    with pytest.raises(VolumeError, match="a volume already"):
        Volume.init(tmp_path, on_root=True)


def test_a_symlink_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    volume = Volume.init(tmp_path / "v", on_root=True)
    (tmp_path / "secret").write_text("x")
    (tmp_path / "v" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        volume.open_file("link", 0)
    volume.close()
