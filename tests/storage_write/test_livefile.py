"""The live file on a tmpfs that is full: an error that names it, where touching a page without memory would end the process."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from recorder.base.errors import StorageError
from storage.livefile import LiveWriter

pytestmark = pytest.mark.disk


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 16 pages."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_full_tmpfs_is_an_error_that_names_it(small_tmpfs: Path) -> None:
    writer = LiveWriter(small_tmpfs, uuid4(), 0)
    block, lease, number = writer.block()
    block[:], lease[:] = bytes(len(block)), bytes(8)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"No space left.*live_dir"):
            writer.block()
    assert number == 0


def test_blocks_that_were_refused_are_handed_out_when_there_is_room(small_tmpfs: Path) -> None:
    writer = LiveWriter(small_tmpfs, uuid4(), 0)
    ballast = small_tmpfs / "ballast"
    ballast.write_bytes(bytes(16384))
    first = [writer.block()[2]]
    with pytest.raises(StorageError):
        writer.block()
    subprocess.run(["mount", "-o", "remount,size=128k", str(small_tmpfs)], check=True)
    assert [*first, writer.block()[2]] == [0, 1]
