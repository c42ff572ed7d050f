"""What a disk and this process write, from the kernel's own counts."""

import os
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512


def written_bytes() -> int:
    """Bytes that this process has sent to disks, or dirtied to be sent, so far (proc(5), `write_bytes`)."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


@dataclass(frozen=True, slots=True)
class DiskSample:
    """A block device's counts so far, for everybody: bytes written and read, ms in which it had work."""

    written: int
    read: int
    busy_ms: int


def device_of(folder: Path) -> Path | None:
    """Where the kernel keeps the counts of the folder's block device; None where there is none (tmpfs, network)."""
    number = folder.stat().st_dev
    path = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat")
    return path if path.exists() else None


def disk_sample(device: Path | None) -> DiskSample:
    """Now; zeros without a device."""
    if device is None:
        return DiskSample(0, 0, 0)
    fields = [int(word) for word in device.read_text().split()]
    return DiskSample(fields[6] * SECTOR, fields[2] * SECTOR, fields[9])
