"""File systems in image files, mounted through loop devices."""

import os
import subprocess
from pathlib import Path

SIZES = {"ext4": 400 << 20, "xfs": 420 << 20}
MKFS = {"ext4": ["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"], "xfs": ["mkfs.xfs", "-q"]}


def make_image(image: Path, kind: str) -> None:
    """A new file system of this kind in a sparse file."""
    assert os.geteuid() == 0 and Path("/dev/loop-control").exists(), "loop devices are needed, and root"
    with image.open("wb") as file:
        file.truncate(SIZES[kind])
    subprocess.run([*MKFS[kind], image], check=True)


def mount(image: Path, point: Path) -> None:
    point.mkdir(exist_ok=True)
    options = "loop,nouuid" if subprocess.run(["blkid", "-o", "value", "-s", "TYPE", image], capture_output=True, text=True,
                                              check=True).stdout.strip() == "xfs" else "loop"
    subprocess.run(["mount", "-o", options, image, point], check=True)


def unmount(point: Path) -> None:
    subprocess.run(["umount", point], check=True)
