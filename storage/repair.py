"""`watchroom check --repair`: what is in the wrong place is put back or moved aside, what can be made again is made again. Deletes nothing.

Needs the volume for itself. Indexes are made again by the recorder's own recovery, from journal, footers and heads.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from recorder._ext.auqueue import AuQueue
from recorder.base.clock import Clock
from recorder.base.config import RecordingConfig, RetentionRule
from recorder.base.errors import FormatError
from recorder.base.media import TrackKind
from storage import zarrmeta
from storage.aside import Aside, Moved
from storage.check import check_free
from storage.check_journal import foreign_records
from storage.chunkfile import ChunkHead, read_head
from storage.disk import read_at
from storage.items import Tape
from storage.journal import segment_name, segment_numbers
from storage.layout import PAGE, ChunkClass, class_of, index_path, track_path
from storage.numbered import chunk_number, slot_number
from storage.repair_documents import repair_documents
from storage.reseal import reseal
from storage.ringfile import FramesFile, RingFile
from storage.salvage import from_footers
from storage.slot import Slot
from storage.tracklog import TrackLog
from storage.volume import Volume


@dataclass(slots=True)
class Repair:
    """What was done: files moved, documents and heads written anew, tracks put together without a journal; and what could not be."""

    moved: list[Moved] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    resealed: list[str] = field(default_factory=list)
    adopted: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Track:
    camera: int
    name: str
    kind: TrackKind

    @property
    def chunk_class(self) -> ChunkClass:
        return class_of(self.kind)

    @property
    def folder(self) -> str:
        return f"{track_path(self.camera, self.name)}/c"


def repair_volume(volume: Volume, live_dir: Path, clock: Clock, done: Repair | None = None) -> Repair:
    """Repair the volume, which is open and locked. VolumeError if a slot cannot be recovered, OSError if the disk fails.

    `done` is added to as it goes: it is true at any time, also after an error.
    """
    done = done or Repair()
    aside = Aside(volume, clock.wall_ns(), done.moved)
    repair_documents(volume, aside, done.documents, done.left)
    tracks = list(_tracks(volume))
    _files_of_slots(volume, aside)
    _misplaced(volume, aside, tracks)
    for track in tracks:
        _heads(volume, track, done)
        _index(volume, aside, track)
    _recover(volume, live_dir, clock, tracks, done)
    return done


def _tracks(volume: Volume) -> Iterator[_Track]:
    for camera in zarrmeta.list_cameras(volume.dir_fd):
        for name in zarrmeta.list_tracks(volume.dir_fd, camera):
            with contextlib.suppress(FormatError):      # has been left
                yield _Track(camera, name, zarrmeta.read_track(volume.dir_fd, camera, name).kind)


# Pool, quarantine, journal

def _files_of_slots(volume: Volume, aside: Aside) -> None:
    for slot in (name for name in volume.list_dir(".") if slot_number(name) is not None):
        for folder in ("pool", "quarantine"):
            files = set(volume.list_files(f"{slot}/{folder}"))
            for name in volume.list_dir(f"{slot}/{folder}"):
                path = f"{slot}/{folder}/{name}"
                found = _free_file(volume, path, pooled=folder == "pool") if name in files else "is no file"
                if found:
                    aside.move(path, found)
        segments = {segment_name(number) for number in segment_numbers(volume.list_files(f"{slot}/journal"))}
        for name in volume.list_dir(f"{slot}/journal"):
            path = f"{slot}/journal/{name}"
            if name not in segments and not name.endswith(".new"):
                aside.move(path, "is no segment of the journal")
            elif name in segments and foreign_records(volume.path / path, slot):
                aside.move(path, "holds records of another slot")


def _free_file(volume: Volume, path: str, *, pooled: bool) -> str:
    fd = volume.open_file(path, os.O_RDONLY)
    try:
        return next((finding.what for finding in check_free(read_at(fd, PAGE, 0), os.fstat(fd).st_size, path, pooled=pooled)), "")
    finally:
        os.close(fd)


# Chunks

def _head(volume: Volume, path: str) -> ChunkHead | None:
    fd = volume.open_file(path, os.O_RDONLY)
    try:
        return read_head(fd, path)
    except FormatError:
        return None
    finally:
        os.close(fd)


def _misplaced(volume: Volume, aside: Aside, tracks: list[_Track]) -> None:
    """Files that are no chunks go aside; chunks in another one's place go aside, then home, where that is free."""
    homeless: list[tuple[str, str]] = []
    known = {(track.camera, track.name) for track in tracks}
    for track in tracks:
        files = set(volume.list_files(track.folder))
        for name in volume.list_dir(track.folder):
            path = f"{track.folder}/{name}"
            if chunk_number(name) is None or name not in files:
                aside.move(path, "is no chunk")
                continue
            head = _head(volume, path)
            if head is None or (head.camera, head.track, head.chunk) == (track.camera, track.name, int(name)):
                continue
            to = aside.move(path, "its head says that it is another chunk")
            if (head.camera, head.track) in known:
                homeless.append((to, f"{track_path(head.camera, head.track)}/c/{head.chunk}"))
    for path, home in homeless:
        aside.put(path, home, "its head says that it belongs there")


def _heads(volume: Volume, track: _Track, done: Repair) -> None:
    """Heads of sealed chunks that do not hold together: made again from the footers."""
    numbers = _numbers(volume, track)
    heads = {number: _head(volume, f"{track.folder}/{number}") for number in numbers}
    for at, number in enumerate(numbers):
        if heads[number] is not None:
            continue
        path = f"{track.folder}/{number}"
        fd = volume.open_file(path, os.O_RDWR)
        try:
            if reseal(fd, track.chunk_class, track.camera, track.name, number, _first_rows(fd, track, numbers[:at], numbers[at + 1:], heads)):
                done.resealed.append(path)
                heads[number] = read_head(fd, path)
        finally:
            os.close(fd)


def _numbers(volume: Volume, track: _Track) -> list[int]:
    return sorted(number for name in volume.list_files(track.folder) if (number := chunk_number(name)) is not None)


def _first_rows(fd: int, track: _Track, before: list[int], after: list[int], heads: dict[int, ChunkHead | None]) -> list[int]:
    """Numbers that its first row may have: the chunk before ends there, or its rows end where the next one begins."""
    count = int.from_bytes(read_at(fd, 4, track.chunk_class.footer_start + 8), "little")
    last = heads[before[-1]] if before else None
    following = heads[after[0]] if after else None
    found = [0] if not before else []
    if last is not None and last.sealed:
        found.append(last.first_row + last.rows)
    if following is not None and following.sealed:
        found.append(following.first_row - count)
    return [number for number in found if number >= 0]


# Indexes

def _index(volume: Volume, aside: Aside, track: _Track) -> None:
    """An index that is damaged goes aside: recovery makes it again."""
    rings = [index_path(track.camera, track.name, suffix) for suffix in ("ring", "frames")]
    log = index_path(track.camera, track.name, "log")
    wrong = _wrong_rings(volume, track, *rings)
    if wrong:
        for path in rings:
            if volume.exists(path):
                aside.move(path, wrong)
    try:
        TrackLog(volume.dir_fd, log).facts(None)
    except FormatError as failed:
        aside.move(log, failed.message)


def _wrong_rings(volume: Volume, track: _Track, ring: str, frames: str) -> str:
    try:
        FramesFile(volume.dir_fd, frames, track.camera, track.name).close()
        rows = RingFile(volume.dir_fd, ring, track.camera, track.name)
    except FormatError as failed:
        return failed.message
    try:
        heads = [head for number in _numbers(volume, track) if (head := _head(volume, f"{track.folder}/{number}"))]
        sealed = sorted((head for head in heads if head.sealed), key=lambda head: head.first_row)
        newest = sealed[-1].first_row + sealed[-1].rows if sealed else 0
        for head in sealed:
            if newest - rows.capacity <= head.first_row:
                good = rows.copy(head.first_row, head.rows)[1]
                if good < head.rows:
                    return f"row {head.first_row + good} does not hold together"
    finally:
        rows.close()
    return ""


# Recovery

def _recover(volume: Volume, live_dir: Path, clock: Clock, tracks: list[_Track], done: Repair) -> None:
    """Open every slot as the recorder does, which rebuilds what is missing; tracks that no journal knows go to the slot that lost its own."""
    numbers = sorted(number for name in volume.list_dir(".") if (number := slot_number(name)) is not None) or [0]
    slots: list[Slot] = []
    known: set[tuple[int, str]] = set()
    empty: list[Slot] = []
    try:
        for number in numbers:
            slot = Slot(volume, number, config=RecordingConfig(), live_dir=live_dir, clock=clock, on_event=lambda event: None,
                        sharers=lambda: len(numbers))
            report = slot.open()
            slots.append(slot)
            known |= slot.tracks()
            if not report.records:
                empty.append(slot)
        for track in tracks:
            if (track.camera, track.name) not in known:
                _adopt(volume, track, empty or slots[:len(slots) == 1], done)
    finally:
        for slot in slots:
            slot.close()


def _adopt(volume: Volume, track: _Track, slots: list[Slot], done: Repair) -> None:
    """Give the track to the slot that lost its journal, or to the only one there is."""
    where = track_path(track.camera, track.name)
    if len(slots) != 1:
        done.left.append(f"{where}: no journal knows it, and which slot had it cannot be told; it is put together once its camera records")
        return
    entries = from_footers(volume, Tape(0, track.camera, 90_000, track.kind, track.name)).sample_entries.values()
    rate = next((entry.clock_rate for entry in entries), 90_000)
    slots[0].open_track(track.camera, track.name, track.kind, clock_rate=rate, queue=AuQueue(4096, 1), rule=RetentionRule(),
                        describe=lambda _: None)
    done.adopted.append(where)
