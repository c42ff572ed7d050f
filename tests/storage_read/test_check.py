"""Every kind of damage is found at its level, names its place, and nothing else is."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from recorder.base.media import TrackKind
from storage import items
from storage.check import check_volume
from storage.finding import Report, Severity
from storage.layout import CHUNK_HEAD_AT, PAGE, SMALL, index_path, track_path
from tests.storage_read.reference_writer import ENTRY_H264, RefTrack, RefVolume, gop


@pytest.fixture
def track(volume: RefVolume) -> RefTrack:
    """Two sealed chunks, an open one with a few rows."""
    made = volume.track(7, "main", TrackKind.AUDIO)
    made.log(items.SampleEntryItem(1, ENTRY_H264))
    while len(made.chunks) < 3:
        made.write_row(gop(5, size=800, key=9000, dur=18_000))
    made.write_row(gop(5, size=800, key=9000, dur=18_000))
    made.commit()
    volume.record(1, items.Checkpoint(0), at=0)
    volume.record(2, items.CheckpointEnd(), at=PAGE)
    return made


def look(volume: RefVolume, level: int = 1) -> Report:
    return check_volume(volume.path, volume.live_dir, level=level)


def lines(report: Report) -> list[str]:
    return [f"{finding.severity} {finding.where}: {finding.what}" for finding in report.findings]


def poke(chunk_fd: int, at: int, data: bytes = b"\xff\xfe\xfd\xfc") -> None:
    os.pwrite(chunk_fd, data, at)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_sound_volume_has_no_findings(volume: RefVolume, track: RefTrack, level: int):
    seen: list[tuple[int, int]] = []
    report = check_volume(volume.path, volume.live_dir, level=level, progress=lambda done, total: seen.append((done, total)))
    assert lines(report) == []
    assert report.clean
    assert (report.tracks, report.chunks, report.records) == (1, 3, 3)
    assert report.rows == (len(track.rows) if level > 1 else 0)
    total = 3 * SMALL.tape_bytes * max(level - 1, 1)
    assert {whole for _, whole in seen} == {total}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (total, total)


@pytest.mark.parametrize("level", [1, 3])
def test_a_sound_stopped_volume_has_no_findings(volume: RefVolume, track: RefTrack, level: int):
    track.gap(10)
    track.write_row(gop(5))
    track.retire()
    track.close()
    volume.drop_live_file()
    assert lines(look(volume, level)) == []


def test_an_unknown_level_is_the_callers_mistake(volume: RefVolume):
    with pytest.raises(ValueError):
        look(volume, 4)


def test_no_volume(tmp_path: Path):
    assert lines(check_volume(tmp_path, tmp_path)) == ["error volume.json: no volume.json here"]


DAMAGE: dict[str, tuple[int, Callable[[RefVolume, RefTrack], object], str]] = {
    "a chunk head": (1, lambda v, t: poke(t.chunks[1].fd, CHUNK_HEAD_AT + 20), "c/1: the chunk head does not hold together"),
    "a shard index": (1, lambda v, t: poke(t.chunks[1].fd, 20), "c/1: the shard index does not match its CRC"),
    "a footer": (1, lambda v, t: poke(t.chunks[0].fd, SMALL.footer_start + 100), "c/0: the footer does not hold together"),
    "a cut chunk": (1, lambda v, t: os.ftruncate(t.chunks[2].fd, 70_000), "c/2: has 70000 bytes"),
    "a chunk of another camera": (1, lambda v, t: t._write_head(t.chunks[2], camera=9), "c/2: its head says that it is another chunk"),
    "an index that marks too few": (1, lambda v, t: t._write_index(t.chunks[0], 3), "c/0: the shard index marks 3 inner chunks"),
    "a stranger": (1, lambda v, t: (v.path / track_path(7, "main") / "c/0.bak").touch(), "c/0.bak: is no chunk"),
    "zarr.json of a track": (1, lambda v, t: (v.path / track_path(7, "main") / "zarr.json").write_text("{}"), "zarr.json: is not a track"),
    "zarr.json of a group": (1, lambda v, t: (v.path / "tape.zarr/cam-7/zarr.json").unlink(), "cam-7/zarr.json: is not the group"),
    "a ring head": (1, lambda v, t: poke(t.files["ring"], 10), "main.ring: its head does not hold together"),
    "a missing ring": (1, lambda v, t: (v.path / index_path(7, "main", "ring")).unlink(), "main.ring: is missing"),
    "a log": (1, lambda v, t: (v.path / index_path(7, "main", "log")).write_bytes(b""), "the log does not know sample entry 1"),
    "a free file with marks": (1, lambda v, t: free_with_marks(t), "pool/x: is free and its index still shows bytes"),
    "a journal with a hole": (1, lambda v, t: v.record(4, at=2 * PAGE), "record 4 follows 2"),
    "a record of another slot": (1, lambda v, t: v.record(3, at=2 * PAGE, slot=5), "is a record of slot 5"),
    "an item": (1, lambda v, t: bad_item(v), "does not fit"),
    "a byte of an open chunk": (2, lambda v, t: poke(t.chunks[2].fd, PAGE + 50), "row 152: its bytes in chunk 2 do not match their CRC"),
    "a byte of a sealed chunk": (2, lambda v, t: poke(t.chunks[1].fd, PAGE + 50), "its bytes in chunk 1 do not match their CRC"),
    "a sealed byte and its row's CRC": (3, lambda v, t: poke(t.chunks[0].fd, PAGE + 50), "row 0 is not as it was sealed"),
    "a sealed digest": (3, lambda v, t: reseal(t), "c/0: its digest is not that of its footer"),
}


def free_with_marks(track: RefTrack) -> None:
    pool = track.volume.path / "slot-0/pool/x"
    pool.write_bytes((track.volume.path / track_path(7, "main") / "c/0").read_bytes())
    with pool.open("r+b") as file:
        old = track.chunks[0].fd
        track.chunks[0].fd = file.fileno()
        track._write_head(track.chunks[0], camera=0)
        track.chunks[0].fd = old


def bad_item(volume: RefVolume) -> None:
    volume.record(3, items.SessionEnd(1, 2, "x" * 30), at=2 * PAGE)
    path = volume.path / "slot-0/journal/00000001"
    raw = bytearray(path.read_bytes())
    body = bytearray(raw[2 * PAGE + 40:])
    struct.pack_into("<I", body, 4, 5000)
    from recorder._ext.crc32c import crc32c
    head = bytearray(raw[2 * PAGE:2 * PAGE + 40])
    struct.pack_into("<I", head, 32, crc32c(bytes(body)))
    struct.pack_into("<I", head, 36, crc32c(bytes(head[:36])))
    path.write_bytes(raw[:2 * PAGE] + head + body)


def reseal(track: RefTrack) -> None:
    """The head of a sealed chunk with another digest and a right CRC."""
    from storage import chunkfile
    head = chunkfile.read_head(track.chunks[0].fd, "")
    track._write_head(track.chunks[0], sealed=1, rows=head.rows, used_bytes=head.used_bytes, footer_bytes=head.footer_bytes,
                      first_ns=head.first_ns, end_ns=head.end_ns, digest=bytes(32))


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_where_it_is(volume: RefVolume, track: RefTrack, kind: str):
    level, damage, wanted = DAMAGE[kind]
    wanted = wanted.replace("152", str(len(track.rows) - len(track.chunks[2].rows)))
    damage(volume, track)
    found = lines(look(volume, level))
    assert any(wanted in line for line in found), found
    if level > 1:
        assert lines(look(volume, level - 1)) == [] or kind == "a sealed byte and its row's CRC"


def test_a_row_that_the_ring_lost_is_not_lost_while_its_footer_lives(volume: RefVolume, track: RefTrack):
    poke(track.files["ring"], PAGE + 3 * 64)
    assert lines(look(volume, 3)) == []


def test_a_row_that_nothing_holds_is_named(volume: RefVolume, track: RefTrack):
    while track.ring_rows <= len(track.rows) - len(track.chunks[2].rows):
        track.write_row(gop(5, size=100, key=300, dur=18_000))
    track.write_row(gop(5, size=100, key=300, dur=18_000))
    track.commit()
    lost = track.ring_rows - 1
    poke(track.files["ring"], PAGE + lost * 64)
    report = look(volume, 2)
    assert any(f"row {lost}" in line for line in lines(report))
    assert any("neither footage nor a recorded cause" in line for line in lines(report))
    assert {finding.severity for finding in report.findings} == {Severity.ERROR, Severity.WARNING}
    assert not report.clean


def test_old_records_behind_the_chains_end_are_no_break(volume: RefVolume, track: RefTrack):
    volume.record(90, segment=3)                    # a recycled segment's earlier life is below the newest epoch
    assert "record 90 follows 2" in "".join(lines(look(volume)))
    for epoch in range(3, 120):
        volume.record(epoch, segment=2, at=(epoch - 3) * PAGE)
    assert lines(look(volume)) == []


def test_every_finding_has_a_remedy(volume: RefVolume, track: RefTrack):
    for name in ("a stranger", "a shard index", "a cut chunk", "a free file with marks"):
        DAMAGE[name][1](volume, track)
    report = look(volume, 3)
    assert len(report.findings) >= 4
    assert all(finding.remedy and finding.where for finding in report.findings)


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("place", ["main/c/0", "main/c/2", "main/c", ""])
def test_a_symlink_in_the_volume_is_a_finding_and_no_end_of_the_check(
        volume: RefVolume, track: RefTrack, tmp_path: Path, place: str, live: bool):
    if not live:
        for file in volume.live_dir.iterdir():
            file.unlink()
    victim = (volume.path / track_path(7, "main")).parent / place
    victim.rename(tmp_path / "elsewhere")
    victim.symlink_to(tmp_path / "elsewhere")
    assert look(volume, 2).findings
