"""Numbers in the names of files and folders, as we write them: anybody may have put another one there."""

import os
import re

_DIGITS = re.compile(r"[0-9]{1,18}")


def number_in(name: str) -> int | None:
    """The number that the name is; None if it is none of ours (other digits than ASCII's, or more than 18)."""
    return int(name) if _DIGITS.fullmatch(name) else None


def chunk_number(name: str) -> int | None:
    """The same without leading zeros: a chunk has one name only."""
    number = number_in(name)
    return number if number is not None and str(number) == name else None


def slot_number(name: str) -> int | None:
    """The number of the slot whose folder this is; None if it is no slot's."""
    return chunk_number(name.removeprefix("slot-")) if name.startswith("slot-") else None


def chunk_numbers(folder_fd: int) -> list[int]:
    """The numbers of the chunk files in an open folder, rising; of regular files only."""
    return sorted(number for name in file_names(folder_fd) if (number := chunk_number(name)) is not None)


def file_names(folder_fd: int) -> list[str]:
    """The names of the regular files in an open folder, sorted: what is a folder, a symlink or a pipe there is nobody's."""
    with os.scandir(folder_fd) as entries:
        return sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
