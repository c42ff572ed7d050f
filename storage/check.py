"""`watchroom check`: is a volume what the format says? Reads only, and may run beside a recording worker.

Level 1 looks at structure (volume.json, zarr.json, heads, indexes, footers, rings, live blocks, gaps, the journal's chain, pool), level 2
also at every row, entry and byte against their CRCs, level 3 also at the BLAKE3 digests of rows and chunks. What a writer changes while
we look is looked at again before it counts as a finding.
"""

import os
import stat
from pathlib import Path

from recorder.base.errors import FormatError, NotFound, VolumeError
from storage import chunkfile
from storage.check_held import check_held
from storage.check_journal import check_journal
from storage.check_pending import Pending
from storage.check_slot import check_names, check_slot, slots
from storage.check_track import TrackCheck
from storage.check_tracks import check_documents, check_known, check_minutes, check_there
from storage.finding import Finding, Meter, Progress, Report, error, twice, warning
from storage.layout import PAGE
from storage.numbered import chunk_numbers
from storage.reader import TrackReader
from storage.store import TapeStore

LEVELS = (1, 2, 3)


def check_volume(path: Path, live_dir: Path, *, level: int = 1, progress: Progress = lambda done, total: None) -> Report:
    """Check the volume at `path`; `live_dir` as the recorder has it. Raises nothing for damage: that is in the report."""
    if level not in LEVELS:
        raise ValueError("a check has level 1, 2 or 3")
    report = Report(level)
    try:
        store = TapeStore([path], live_dir)
    except VolumeError as failed:
        report.findings.append(error("volume.json", failed.message, failed.remedy))
        return report
    try:
        _check_store(store, path, report, progress)
    except VolumeError as failed:   # unmounted meanwhile
        report.findings.append(error(failed.where or str(path), failed.message, failed.remedy))
    except OSError as failed:        # a symlink or a file where a folder belongs, a disk that fails: a finding like others
        report.findings.append(error(str(failed.filename or path), f"cannot be read: {failed.strerror}",
                                     "look at the disk's health; a volume holds no symlinks"))
    finally:
        store.close()
    return report


def _check_store(store: TapeStore, path: Path, report: Report, progress: Progress) -> None:
    tracks = _tracks(store, path, report)
    rounds = max(report.level - 1, 1)       # level 3 reads every byte twice: row by row, and chunk by chunk
    shares = [len(chunk_numbers(track.chunks_fd())) * track.chunk_class.tape_bytes * rounds for track in tracks]
    meter, pending = Meter(progress, sum(shares)), Pending(path)
    for track, share in zip(tracks, shares, strict=True):
        meter.begin(share)
        TrackCheck(track, report, meter.advance, pending).run()
        report.findings += twice(lambda track=track: check_held(track, path, report))    # type: ignore[misc]
        meter.end()
    report.findings += twice(lambda: check_names(path))
    for slot in slots(path):
        report.findings += twice(lambda slot=slot: check_slot(slot))            # type: ignore[misc]
        report.findings += twice(lambda slot=slot: _check_pool(slot))           # type: ignore[misc]
        report.findings += twice(lambda slot=slot: check_journal(slot, report))  # type: ignore[misc]
    report.findings += twice(lambda: check_known(store, path))
    report.findings += twice(lambda: check_there(pending, path))
    report.findings += twice(lambda: check_minutes(store, path))


def _tracks(store: TapeStore, path: Path, report: Report) -> list[TrackReader]:
    """Readers of all tracks whose zarr.json is right."""
    readers = []
    for camera in store.cameras():
        for name in store.tracks(camera):
            try:
                readers.append(store.track(camera, name))
            except (FormatError, NotFound) as failed:
                report.findings.append(error(f"tape.zarr/cam-{camera}/{name}/zarr.json", failed.message, failed.remedy or "restore it"))
    report.findings += twice(lambda: check_documents(path))
    report.tracks = len(readers)
    return readers


def _check_pool(slot: Path) -> list[Finding]:
    """Files of the pool belong to nobody and mark nothing; those in quarantine still tell whose they were."""
    found = []
    for folder in ("pool", "quarantine"):
        for file in sorted((slot / folder).iterdir()) if (slot / folder).is_dir() else ():
            where = f"{slot.name}/{folder}/{file.name}"
            try:
                if not stat.S_ISREG(file.lstat().st_mode):
                    found.append(warning(where, "is no file", "move it away"))
                    continue
                with file.open("rb") as opened:
                    page, size = opened.read(PAGE), os.fstat(opened.fileno()).st_size
                found += check_free(page, size, where, pooled=folder == "pool")
            except FileNotFoundError:
                continue
    return found


def check_free(page: bytes, size: int, where: str, *, pooled: bool) -> list[Finding]:
    """Findings about a file of pool or quarantine, of which `page` is the first page."""
    if where.endswith(".new"):
        return []               # in the making
    remedy = "the recorder removes it when it starts"
    try:
        head = chunkfile.parse_head(page, where)
        marked = chunkfile.read_index(page, head.chunk_class)
    except FormatError as failed:
        return [warning(where, failed.message, remedy)]
    if size != head.chunk_class.file_bytes:
        return [warning(where, f"has {size} bytes, its class {head.chunk_class.file_bytes}", remedy)]
    if pooled and head.camera == 0 and (marked is None or marked.any()):
        return [error(where, "is free and its index still shows bytes", "start the recorder, it clears it before use")]
    return []
