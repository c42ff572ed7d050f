#!/usr/bin/env python3
"""Checks an evidence pack of Watchroom: python3 verify.py PACK.zip (or the folder it was unpacked to).

Needs Python 3.8 and nothing else. With the module `blake3` it also proves each row of footage against the seal that the recorder gave it.
Exit code: 0 all is as it was packed, 1 something is not, 2 this is no pack.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import os
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    Read = dict[str, tuple[str, int]]

PIECE = 1 << 20
TEXT_MAX = 1 << 30
SUM_LINE = re.compile(r"([0-9a-f]{64})  ([^\r\n]{1,400})")
U16_MAX, U32_MAX = 0xFFFF, 0xFFFFFFFF
VERSION, FLAGS, UNIX, UNIX_FILE = 45, 0x0808, 3 << 8, 0o100644 << 16
UNREADABLE = (OSError, ValueError, LookupError, TypeError, RuntimeError, EOFError, ArithmeticError, csv.Error, struct.error, zlib.error,
              zipfile.BadZipFile)
SUMS, MANIFEST, SCHEMA = "SHA256SUMS", "manifest.json", "watchroom-export/1"


class NoPack(Exception):
    """What is to be checked is no pack."""


class Pack(Protocol):
    """Files by name."""

    def names(self) -> Iterator[str]:
        """All files."""

    def open(self, name: str) -> IO[bytes]:
        """A file that `names` gave."""


class Folder:
    """A pack that was unpacked."""

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)

    def names(self) -> Iterator[str]:
        """All files, with `/` between folders."""
        for folder, folders, files in os.walk(self.path):
            folders.sort()
            for name in sorted(files):
                yield os.path.relpath(os.path.join(folder, name), self.path).replace(os.sep, "/")

    def open(self, name: str) -> IO[bytes]:
        """A file that `names` gave."""
        return open(os.path.join(self.path, *name.split("/")), "rb")


class Zip:
    """A pack as it came; nothing is unpacked."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.archive = zipfile.ZipFile(path)
        except UNREADABLE as error:
            raise NoPack(f"{path} cannot be read: {error}") from None

    def names(self) -> Iterator[str]:
        """All files."""
        yield from (info.filename for info in self.archive.infolist())

    def open(self, name: str) -> IO[bytes]:
        """A file that `names` gave."""
        return self.archive.open(name)


def text_of(pack: Pack, name: str) -> str:
    """A file of text, whole."""
    with pack.open(name) as file:
        data = file.read(TEXT_MAX + 1)
    if len(data) > TEXT_MAX:
        raise NoPack(f"{name} is larger than 1 GiB")
    return data.decode("utf-8")


def sha256_of(pack: Pack, name: str) -> tuple[str, int]:
    """Digest and size of a file."""
    digest, size = hashlib.sha256(), 0
    with pack.open(name) as file:
        while True:
            piece = file.read(PIECE)
            if not piece:
                return digest.hexdigest(), size
            digest.update(piece)
            size += len(piece)


def sums_of(pack: Pack) -> dict[str, str]:
    """{name: digest} as SHA256SUMS has it."""
    found = {}
    lines = text_of(pack, SUMS).split("\n")
    if lines.pop():
        raise NoPack(f"the last line of {SUMS} has no end")
    for line in lines:
        match = SUM_LINE.fullmatch(line)
        if match is None or match.group(2) in found:
            raise NoPack(f"{SUMS} has a line that is none: {line[:80]!r}")
        found[match.group(2)] = match.group(1)
    return found


def check_sums(pack: Pack) -> tuple[list[str], Read]:
    """What is wrong with the files, and {name: (digest, size)} of all that were read."""
    names = [name for name in pack.names() if not name.endswith("/")]
    if SUMS not in names or MANIFEST not in names:
        raise NoPack(f"there is no {SUMS} or no {MANIFEST} in it")
    wrong = [f"{name} is there twice" for name in sorted(set(names)) if names.count(name) > 1]
    listed, read = sums_of(pack), {}
    wrong += [f"{name} is missing" for name in sorted(listed) if name not in names]
    wrong += [f"{name} is in no list: it was added" for name in sorted(set(names)) if name not in listed and name != SUMS]
    for name in sorted(listed):
        if name in names:
            try:
                read[name] = sha256_of(pack, name)
            except UNREADABLE as error:
                wrong.append(f"{name} cannot be read: {error}")
                continue
            if read[name][0] != listed[name]:
                wrong.append(f"{name} was altered: its SHA-256 is {read[name][0]}")
    return wrong, read


def check_manifest(pack: Pack, read: Read) -> tuple[list[str], dict[str, Any]]:
    """What in the manifest is not so, and the manifest."""
    try:
        manifest = json.loads(text_of(pack, MANIFEST))
        if manifest["schema"] != SCHEMA:
            raise NoPack(f"its manifest is of schema {manifest['schema']!r}; this program knows {SCHEMA}")
        wrong = []
        for file in manifest["files"]:
            said = [(file["name"], file["sha256"], file["bytes"])]
            said += [(file[name], file[name + "_sha256"], None) for name in ("rows", "chunks") if name in file]
            for name, digest, size in said:
                have = read.get(name)
                if have is None or have[0] != digest or size not in (None, have[1]):
                    wrong.append(f"{name} is not the file of the manifest")
        return wrong, manifest
    except UNREADABLE as error:
        raise NoPack(f"its manifest cannot be read: {error!r}") from None


def check_archive(path: str, infos: list[zipfile.ZipInfo], asked: str) -> list[str]:
    """What of an archive is not as it was packed beside its files: their headers, and whatever lies before, between or behind them."""
    with open(path, "rb") as file:
        for at, want in frame(infos, datetime.strptime(asked[:19], "%Y-%m-%dT%H:%M:%S")):
            file.seek(at)
            if file.read(len(want)) != want:
                return [f"the archive around its files was altered at byte {at} or after; unpacked, the files can be checked alone"]
        return ["something was added behind the archive"] if file.read(1) else []


def frame(infos: list[zipfile.ZipInfo], when: datetime) -> Iterator[tuple[int, bytes]]:
    """(place, bytes) of everything in an archive that is not in its files, as Watchroom writes it (APPNOTE 6.3.10); the last is the end."""
    time = (when.hour << 11 | when.minute << 5 | when.second // 2, min(when.year - 1980, 127) << 9 | when.month << 5 | when.day)
    at, directory = 0, b""
    for info in infos:
        name, size, begin = info.orig_filename.encode(), info.file_size, at
        wide = size >= U32_MAX
        short, extra = (U32_MAX, struct.pack("<HHQQ", 1, 16, 0, 0)) if wide else (0, b"")
        head = struct.pack("<4s5H3I2H", b"PK\3\4", VERSION, FLAGS, 0, *time, 0, short, short, len(name), len(extra)) + name + extra
        yield at, head
        at += len(head) + size
        tail = struct.pack("<4sIQQ" if wide else "<4sIII", b"PK\7\10", info.CRC, size, size)
        yield at, tail
        at += len(tail)
        long = ([size, size] if wide else []) + ([begin] if begin >= U32_MAX else [])
        extra = struct.pack(f"<HH{len(long)}Q", 1, 8 * len(long), *long) if long else b""
        short = min(size, U32_MAX)
        directory += struct.pack("<4s6H3I5H2I", b"PK\1\2", UNIX | VERSION, VERSION, FLAGS, 0, *time, info.CRC, short, short, len(name),
                                 len(extra), 0, 0, 0, UNIX_FILE, min(begin, U32_MAX)) + name + extra
    yield at, directory + ending(len(infos), len(directory), at)


def ending(count: int, size: int, at: int) -> bytes:
    """What follows the directory of an archive."""
    wide = b""
    if at + size >= U32_MAX or count >= U16_MAX:
        wide = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, UNIX | VERSION, VERSION, 0, 0, count, count, size, at)
        wide += struct.pack("<4sIQI", b"PK\6\7", 0, at + size, 1)
    few = min(count, U16_MAX)
    return wide + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, few, few, min(size, U32_MAX), min(at, U32_MAX), 0)


def blake3_or_none() -> Any:
    """The hash function of the module blake3, if it is there."""
    try:
        from blake3 import blake3
    except ImportError:
        return None
    return blake3


def check_rows(pack: Pack, file: dict[str, Any]) -> tuple[int, int | None, list[str]]:
    """(rows in all, rows proved, what is wrong) of a master; None proved where there is no blake3."""
    blake3 = blake3_or_none()
    rows, proved, wrong, at = 0, 0, [], 0
    with pack.open(file["name"]) as media:
        for row in sorted(csv.DictReader(io.StringIO(text_of(pack, file["rows"]))), key=lambda row: int(row["at"])):
            rows += 1
            if not row["leaf"] or blake3 is None:
                continue
            at = skip(media, int(row["at"]) - at, at)
            data = media.read(int(row["bytes"]))
            at += len(data)
            leaf = blake3(int(row["row"]).to_bytes(8, "little") + bytes.fromhex(row["record"]) + bytes.fromhex(row["entries"]) + data)
            if len(data) != int(row["bytes"]) or leaf.hexdigest() != row["leaf"]:
                wrong.append(f"{file['name']}: row {row['row']} of track {row['track']} is not what was sealed")
            else:
                proved += 1
    return rows, proved if blake3 is not None else None, wrong


def check_chunks(pack: Pack, file: dict[str, Any], signed: set[tuple[Any, ...]] | None) -> list[str]:
    """What is wrong with the chunks that the rows of a master are said to be of: each digest is over all its leaves, each leaf in its place.

    With `signed` (`signed_by`) each row must be under a seal, and each chunk be named by a document.
    """
    blake3, wrong, leaves = blake3_or_none(), [], {}
    for chunk in json.loads(text_of(pack, file["chunks"])):
        all_of_it, name = bytes.fromhex(chunk["leaves"]), f"{file['name']}: chunk {chunk['chunk']} of track {chunk['track']}"
        count = len(all_of_it) // 32
        said = count.to_bytes(4, "little") + all_of_it + bytes.fromhex(chunk["items"])
        if blake3 is not None and blake3(said).hexdigest() != chunk["digest"]:
            wrong.append(f"{name} has another digest than its leaves")
        key = (file["items"][0]["camera"]["number"], chunk["track"], chunk["chunk"], chunk["first_row"], chunk["digest"])
        if signed is not None and key not in signed:
            wrong.append(f"{name} is named by no signed document")
        leaves.update({(chunk["track"], chunk["first_row"] + at): all_of_it[32 * at:32 * at + 32].hex() for at in range(count)})
    for row in csv.DictReader(io.StringIO(text_of(pack, file["rows"]))):
        if signed is not None and not row["leaf"]:
            wrong.append(f"{file['name']}: row {row['row']} of track {row['track']} is under no seal: its chunk was open, or it was removed")
        if row["leaf"] and leaves.get((row["track"], int(row["row"]))) != row["leaf"]:
            wrong.append(f"{file['name']}: row {row['row']} of track {row['track']} is in no chunk")
    return wrong


def signed_by(folder: str) -> set[tuple[Any, ...]]:
    """What documents in a folder and those below name: (camera, track, chunk, first row, digest). Their signatures are not looked at here."""
    found = set()
    for path in (os.path.join(place, name) for place, _, names in os.walk(folder) for name in names if name.endswith(".heads")):
        with open(path, "rb") as file:
            document = json.loads(file.read().split(b"\n", 1)[1])
        found |= {tuple(seal[key] for key in ("camera", "track", "chunk", "first_row", "digest")) for seal in document["seals"]}
    return found


def skip(media: IO[bytes], count: int, at: int) -> int:
    """Pass over bytes of a stream; where it then stands."""
    if count < 0:
        raise NoPack("its rows overlap")
    while count:
        got = len(media.read(min(count, PIECE)))
        if not got:
            raise NoPack("a list of rows goes beyond its file")
        count, at = count - got, at + got
    return at


def tell(manifest: dict[str, Any]) -> None:
    """What the pack says of itself."""
    for name in ("site", "export", "made", "by", "reason", "reference"):
        say(f"{name + ':':<10} ", manifest.get(name, ""))
    if manifest.get("volumes_missing"):
        say("MISSING when it was made: ", f"{len(manifest['volumes_missing'])} of the recorder's volumes")
    for file in manifest["files"]:
        say("", file["name"])
        for item in file["items"]:
            say("    camera ", item["camera"]["id"], f"{item['frames']} pictures", item["first"], item["last"])
            for gap in item["gaps"]:
                say("    GAP ", gap["start"], gap["end"], gap["cause"])
            for word in ("damage", "expired", "missing"):
                for part in item[word]:
                    say(f"    {word.upper()} ", part["start"], part["end"])
    for item in manifest.get("nothing", []):
        say("NOTHING of camera ", item["camera"]["id"], item["asked"]["start"], item["asked"]["end"], item["why"])


def say(word: str, *values: object) -> None:
    """One line; the words of a file as a terminal may show them."""
    print(word + ", ".join(printable(value) for value in values))


def printable(value: object) -> str:
    """Words of a file as a terminal may show them."""
    return "".join(char if char.isprintable() else "?" for char in str(value))


def verify(path: str, heads: str = "") -> int:
    """Check a pack and say what was found; the exit code. `heads`: a folder of the recorder's signed documents."""
    if heads and blake3_or_none() is None:
        raise NoPack("--heads needs the module blake3")
    pack: Pack = Folder(path) if os.path.isdir(path) else Zip(path)
    wrong, read = check_sums(pack)
    more, manifest = check_manifest(pack, read)
    wrong += more
    if isinstance(pack, Zip):
        wrong += check_archive(pack.path, pack.archive.infolist(), manifest["asked"])
    tell(manifest)
    for file in manifest["files"] if not wrong else []:
        if "rows" in file:
            rows, proved, more = check_rows(pack, file)
            wrong += more
            if "chunks" in file or heads:
                wrong += check_chunks(pack, file, signed_by(heads) if heads else None)
            words = f"{proved} proved against the recorder's seal" if proved is not None else "not proved one by one: no module blake3 here"
            say("", f"{file['name']}: {rows} rows, {words}")
    for line in wrong:
        say("WRONG: ", line)
    print(f"{len(read)} files: {'NOT as they were packed' if wrong else 'all as they were packed'}")
    return 1 if wrong else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Checks an evidence pack of Watchroom.")
    parser.add_argument("pack", help="the .zip, or the folder it was unpacked to")
    parser.add_argument("--heads", default="", help="a folder of the recorder's signed heads (*.heads) to compare with")
    try:
        asked = parser.parse_args()
        return verify(asked.pack, asked.heads)
    except (NoPack, *UNREADABLE) as error:
        print("this is no pack that can be checked: " + printable(error), file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
