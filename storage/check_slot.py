"""The check of what lies where in a slot: its folders, lock, ledger, and the files of its holds."""

import os
import stat
from pathlib import Path

from recorder.base.errors import FormatError
from storage.finding import Finding, error, warning
from storage.holdshelf import FILE_MAX, taken_from
from storage.ledger import records
from storage.numbered import slot_number

FOLDERS = ("journal", "pool", "quarantine", "holds")
FILES = ("lock", "ledger")
AWAY = "move it away: the recorder does not start with it"
MEND = "restore it from a backup: until then nothing of the slot is retired or released"
LOST = "restore it from a backup, if it is to say what was deleted and why"


def slots(volume: Path) -> list[Path]:
    """The folders of the volume's slots."""
    return sorted(slot for slot in volume.glob("slot-*") if slot_number(slot.name) is not None and _is_folder(slot))


def check_names(volume: Path) -> list[Finding]:
    """What bears a slot's name and is none."""
    found = []
    for slot in sorted(volume.glob("slot-*")):
        if slot_number(slot.name) is None:
            found.append(warning(slot.name, "is no slot", "move it away"))
        elif not _is_folder(slot):
            found.append(error(slot.name, "is no folder", AWAY))
    return found


def check_slot(slot: Path) -> list[Finding]:
    """Folders that are none, a lock or a ledger that is no file, a ledger of which nothing can be read, holds that nobody understands."""
    there = [name for name in (*FOLDERS, *FILES) if os.path.lexists(slot / name)]
    found = [error(f"{slot.name}/{name}", "is no folder", AWAY) for name in there if name in FOLDERS and not _is_folder(slot / name)]
    found += [error(f"{slot.name}/{name}", "is no file", AWAY) for name in there if name in FILES and not _is_file(slot / name)]
    return found + _ledger(slot) + _shelf(slot)


def _ledger(slot: Path) -> list[Finding]:
    """A ledger may have damaged stretches, as a power cut leaves them; but something must be there."""
    if not _is_file(slot / "ledger"):
        return []
    fd = os.open(slot / "ledger", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        wrong = os.fstat(fd).st_size > 0 and next(records(fd), None) is None
    except FormatError:
        wrong = True
    finally:
        os.close(fd)
    return [error(f"{slot.name}/ledger", "no line of it can be read", LOST)] if wrong else []


def _shelf(slot: Path) -> list[Finding]:
    """Files of holds that cannot be understood: nobody knows what they keep."""
    folder = slot / "holds"
    names = [name for name in sorted(os.listdir(folder)) if not name.endswith(".new")] if _is_folder(folder) else []
    return [error(f"{slot.name}/holds/{name}", "is no hold", MEND) for name in names if not _is_hold(folder / name)]


def _is_hold(file: Path) -> bool:
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True         # replaced meanwhile
    except OSError:
        return False
    try:
        taken_from(os.pread(fd, FILE_MAX, 0), file.name)
    except (ValueError, OSError):
        return False
    finally:
        os.close(fd)
    return True


def _is_folder(path: Path) -> bool:
    return _mode(path, stat.S_IFDIR)


def _is_file(path: Path) -> bool:
    return _mode(path, stat.S_IFREG)


def _mode(path: Path, kind: int) -> bool:
    try:
        return stat.S_IFMT(path.lstat().st_mode) == kind
    except OSError:
        return False
