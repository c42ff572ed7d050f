"""Each check refuses what would fail later, with the thing and the remedy."""

import importlib.metadata
import resource
from pathlib import Path

import pytest

from recorder import preflight
from recorder.base.errors import ConfigError, WatchroomError


def test_a_package_of_the_same_name_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    preflight.check_names()
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {"storage": ["some-cloud-sdk"], "api": ["watchroom"]})
    with pytest.raises(ConfigError, match=r"package storage: the distribution some-cloud-sdk brings a package of the same name"):
        preflight.check_names()


def test_live_dir_must_be_a_tmpfs_that_is_there(tmp_path: Path) -> None:
    preflight.check_live_dir(Path("/dev/shm"))
    with pytest.raises(ConfigError, match="No such file"):
        preflight.check_live_dir(tmp_path / "none")


def test_the_type_of_a_file_system_is_read_from_mountinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n23 22 0:20 / /dev/shm rw - tmpfs none rw\n")
    monkeypatch.setattr(preflight, "MOUNTS", mounts)
    assert preflight.file_system_of(8 << 8 | 1) == "ext4"
    assert preflight.file_system_of(20) == "tmpfs"
    assert preflight.file_system_of(21) == "an unknown file system"


def test_the_limit_of_open_files_is_raised_or_the_remedy_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    need = preflight.FILES_BASE + (600 + preflight.CAMERAS_SPARE) * preflight.FILES_PER_CAMERA
    assert preflight.raise_files_limit(600) == need
    assert asked == [(need, need)]

    def refused(_: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refused)
    with pytest.raises(WatchroomError, match=rf"limit of open files: is 4096, 600 cameras need {need}; set LimitNOFILE={need}"):
        preflight.raise_files_limit(600)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (need, need))
    assert preflight.raise_files_limit(600) == need
