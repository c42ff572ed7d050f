"""Writes a job's result out of its plan: the one file itself, or an archive of the files with manifest and SHA-256 list.

All sizes are known before the first byte of media is read: digests come into the manifest's text later, which does not change its length.
"""

import hashlib
import json
import zlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.disks import Disks
from api.exports import verify
from api.exports.job import Job, Result
from api.exports.plan import FilePlan, Plan
from api.exports.sink import Sink
from api.times import rfc3339
from api.zipstream import Archive, Member
from storage.store import TapeStore

NO_DIGEST = "0" * 64
MANIFEST, SUMS, VERIFIER, README = "manifest.json", "SHA256SUMS", "verify.py", "README.txt"
MP4, ZIP = "video/mp4", "application/zip"
WORDS = """Evidence pack of Watchroom.

manifest.json   who asked for it and why; of each file where it is from, its gaps, damage and clocks
SHA256SUMS      the SHA-256 of every other file here: sha256sum -c SHA256SUMS
verify.py       checks all of it: python3 verify.py PACK.zip (Python 3.8 or newer, nothing else; with the module blake3 rows too;
                --heads FOLDER compares with signed heads of the recorder, whose signatures openssl checks)
master/*.mp4    the footage: whole rows (about a second each) as the camera sent them and the recorder stored them, in an MP4 that plays
master/*.csv    each row: its place and length in the MP4, its track and number, UTC in ns, CRC-32C, and what the recorder sealed it with:
                leaf = BLAKE3(row number as 8 bytes, little-endian; record; entries; the row's bytes)
master/*.json   the recorder's chunks that the rows are of, with the leaves of all their rows:
                digest = BLAKE3(count of leaves as 4 bytes, little-endian; leaves; items), which the recorder's signed heads name

Times are UTC. Times of the pictures are those of the recorder's clock.
"""


class Crc:
    """CRC-32 of a file as archives want it."""

    value = 0

    def update(self, data: memoryview | bytes, /) -> None:
        """The next bytes."""
        self.value = zlib.crc32(data, self.value)


@dataclass(frozen=True, slots=True)
class _Part:
    """A member of an archive that is known before it is written: media, or bytes."""

    name: str
    source: FilePlan | bytes
    listing: bool = False

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.size


def size_of(job: Job, plan: Plan) -> int:
    """Bytes of the result."""
    return plan.size if job.wanted.format == "mp4" else _archive(job, plan).size


async def copy(store: TapeStore, sink: Sink, job: Job, plan: Plan) -> tuple[Result, bytes]:
    """Write the result; what it is, and its manifest."""
    with closing(Disks()) as disks:
        if job.wanted.format == "mp4":
            return await _film(store, sink, plan, disks)
        return await _all(store, sink, job, plan, disks)


async def _film(store: TapeStore, sink: Sink, plan: Plan, disks: Disks) -> tuple[Result, bytes]:
    (file,) = plan.files
    source = file.open(store, disks)
    try:
        await sink.write(source.size, source.read_into)
    finally:
        source.close()
    nbytes, sha256 = await sink.finish()
    return Result(file.about["name"], MP4, nbytes, sha256, _complete(plan)), _manifest(plan, [sha256], [])


async def _all(store: TapeStore, sink: Sink, job: Job, plan: Plan, disks: Disks) -> tuple[Result, bytes]:
    archive, crcs, sums = _archive(job, plan), list[int](), list[str]()

    async def member(name: str, source: FilePlan | bytes) -> None:
        crc, sha = Crc(), hashlib.sha256()
        await sink.put(archive.head(len(crcs)))
        if isinstance(source, bytes):
            await sink.put(source, (crc, sha))
        else:
            media = source.open(store, disks)
            try:
                await sink.write(media.size, media.read_into, (crc, sha))
            finally:
                media.close()
        await sink.put(archive.tail(len(crcs), crc.value))
        crcs.append(crc.value)
        sums.append(f"{sha.hexdigest()}  {name}\n")

    known = _parts(job, plan)
    for part in known:
        await member(part.name, part.source)
    digests = [line[:64] for line, part in zip(sums, known, strict=True)]
    text = _manifest(plan, [digest for digest, part in zip(digests, known, strict=True) if isinstance(part.source, FilePlan)],
                     [digest for digest, part in zip(digests, known, strict=True) if part.listing])
    await member(MANIFEST, text)
    await member(SUMS, "".join(sums).encode())
    await sink.put(archive.end(crcs))
    nbytes, sha256 = await sink.finish()
    return Result(name_of(job), ZIP, nbytes, sha256, _complete(plan)), text


def _complete(plan: Plan) -> bool:
    """True if nothing of what was asked for can still come."""
    whole = all(file.about["complete"] for file in plan.files) and all(one["complete"] for one in plan.manifest.get("nothing", []))
    return whole and not plan.manifest["volumes_missing"]


def name_of(job: Job) -> str:
    """What an archive is called."""
    when = rfc3339(job.created_ns)[:19].replace(":", "").replace("-", "")
    return f"{'pack' if job.wanted.format == 'pack' else 'export'}_{when}Z_{job.id[-8:]}.zip"


def _parts(job: Job, plan: Plan) -> Sequence[_Part]:
    found = []
    for file in plan.files:
        found.append(_Part(file.about["name"], file))
        found += [_Part(file.about[word], data, listing=True) for word, data in _lists(file).items()]
    if job.wanted.format == "pack":
        found += [_Part(VERIFIER, Path(verify.__file__).read_bytes()), _Part(README, WORDS.encode())]
    return found


def _lists(file: FilePlan) -> dict[str, bytes]:
    """The lists beside a master, by what the manifest calls them."""
    return {word: data for word, data in (("rows", file.rows), ("chunks", file.chunks)) if data}


def _archive(job: Job, plan: Plan) -> Archive:
    """The archive with the sizes of all its members."""
    known = _parts(job, plan)
    blank = _manifest(plan, [NO_DIGEST] * len(plan.files), [NO_DIGEST] * sum(len(_lists(file)) for file in plan.files))
    names = [part.name for part in known] + [MANIFEST]
    sums = sum(len(f"{NO_DIGEST}  {name}\n".encode()) for name in names)
    return Archive([*(Member(part.name, part.size) for part in known), Member(MANIFEST, len(blank)), Member(SUMS, sums)], job.created_ns)


def _manifest(plan: Plan, digests: Sequence[str], of_lists: Sequence[str]) -> bytes:
    """The manifest's text with the digests of the files and of the lists beside them."""
    lists = iter(of_lists)
    files: list[dict[str, Any]] = []
    for file, digest in zip(plan.files, digests, strict=True):
        about = {**file.about, "bytes": file.size, "sha256": digest}
        files.append({**about, **{f"{word}_sha256": next(lists) for word in _lists(file)}})
    return json.dumps({**plan.manifest, "files": files}, indent=1).encode()
