"""Rows and AUs through every place they may lie in: ring, live file, open row, footers, a volume without a worker."""

import os

import numpy as np
import pytest

from recorder.base.errors import FormatError, Gone, NotFound
from recorder.base.media import NS, RowFlag, TrackKind
from storage import items, layout, live
from storage.footage import RowRun
from storage.store import TapeStore
from tests.storage_read.reference_writer import BASE_NS, ENTRY_H264, Au, Chunk, RefVolume, gop, payload

S = NS


def fill(volume: RefVolume, rows: int, *, camera: int = 7, kind: TrackKind = TrackKind.AUDIO, count: int = 5, **options: int):
    track = volume.track(camera, "main", kind, **options)
    track.log(items.SampleEntryItem(1, ENTRY_H264), items.SessionStart(1, BASE_NS, "rtsp-tcp"))
    for _ in range(rows):
        track.write_row(gop(count, size=100, key=300, dur=18_000))      # one second each
    track.commit()
    return track


def test_a_track_that_is_not_there(store: TapeStore, volume: RefVolume):
    fill(volume, 1)
    assert store.cameras() == (7,)
    assert store.tracks(7) == ("main",)
    assert store.tracks(8) == ()
    for camera, name in ((8, "main"), (7, "sub"), (7, "../main"), (7, "")):
        with pytest.raises(NotFound):
            store.track(camera, name)


def test_an_empty_track_has_empty_answers(store: TapeStore, volume: RefVolume):
    volume.track(7, "main", TrackKind.AUDIO)
    track = store.track(7, "main")
    edges = track.edges()
    assert (edges.first_row, edges.next_row, edges.first_ns, edges.visible_offset) == (0, 0, 0, 0)
    assert len(track.rows(0, 1 << 62)) == 0
    assert len(track.rows_from(0, 10)) == 0
    assert len(track.entries(track.rows(0, 1 << 62))) == 0
    assert track.spans(BASE_NS, BASE_NS + S) == []
    assert track.gaps(BASE_NS, BASE_NS + S) == []


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 127, 128, 129, 200])
def test_rows_across_the_border_of_ring_and_live(store: TapeStore, volume: RefVolume, rows: int):
    written = fill(volume, rows)
    written.grow(gop(3, size=100, dur=18_000))
    track = store.track(7, "main")
    run = track.rows(0, 1 << 62)
    assert run.first == 0
    assert len(run) == rows + 1
    assert [row.tobytes() for row in run.rows[:-1]] == written.rows
    assert run.open
    assert run.rows["aus"][-1] == 3
    assert track.edges().has_open


def test_range_borders_are_half_open(store: TapeStore, volume: RefVolume):
    fill(volume, 150)
    track = store.track(7, "main")
    for number in (0, 1, 63, 64, 65, 127, 128, 149):
        at = BASE_NS + number * S
        assert [track.rows(*r).first for r in ((at, at + 1), (at, at + S), (at + S - 1000, at + S))] == [number] * 3
        assert [len(track.rows(*r)) for r in ((at, at + 1), (at, at + S), (at + S - 1000, at + S))] == [1] * 3
        assert len(track.rows(at, at)) == 0
    assert len(track.rows(BASE_NS - 5 * S, BASE_NS)) == 0
    assert len(track.rows(BASE_NS + 150 * S, BASE_NS + 160 * S)) == 0
    assert len(track.rows(BASE_NS - 5 * S, BASE_NS + 1)) == 1


def test_a_range_inside_a_gap_is_empty(store: TapeStore, volume: RefVolume):
    written = fill(volume, 70)
    start, end = written.gap(60)
    written.write_row(gop(5, dur=18_000))
    track = store.track(7, "main")
    assert len(track.rows(start, end)) == 0
    assert track.rows(start - 1000, end).first == 69
    assert track.rows(start, end + 1).first == 70


def test_random_ranges_against_a_plain_search(store: TapeStore, volume: RefVolume):
    written = volume.track(7, "main", TrackKind.AUDIO)
    random = np.random.default_rng(5)
    for _ in range(300):
        if random.random() < 0.1:
            written.next_ns += int(random.integers(1, 100 * S))
        written.write_row(gop(int(random.integers(1, 6)), size=50, key=60, dur=int(random.integers(100, 90_000))))
    track = store.track(7, "main")
    rows = np.frombuffer(b"".join(written.rows), layout.ROW)
    ends = rows["t_ns"] + rows["wall_dur_us"].astype(np.int64) * 1000
    for _ in range(300):
        a, b = sorted(int(t) for t in random.integers(BASE_NS - S, written.next_ns + S, 2))
        wanted = np.flatnonzero((rows["t_ns"] < b) & (ends > a))
        run = track.rows(a, b)
        assert list(range(run.first, run.next)) == wanted.tolist() or (len(run) == 0 and len(wanted) == 0)


def test_entries_of_closed_and_open_rows_with_reordering(store: TapeStore, volume: RefVolume):
    written = volume.track(7, "main", TrackKind.AUDIO)
    pictures = [Au(900, 3600, 7200, 1), Au(300, 3600, 10_800), Au(100, 3600, -3600), Au(50, 3600, 0, 2), Au(70, 3600, 0, 4)]
    for _ in range(100):
        written.write_row(pictures)
    written.grow(pictures[:3])
    track = store.track(7, "main")
    run = track.rows(0, 1 << 62)
    found = track.entries(run)
    assert len(found) == 503
    assert found.size[:5].tolist() == [900, 300, 100, 50, 70]
    assert found.flags[:5].tolist() == [1, 0, 0, 2, 4]
    assert found.cts[:5].tolist() == [7200, 10_800, -3600, 0, 0]
    assert found.dts.tolist() == [i * 3600 for i in range(503)]
    assert found.pts[5] == 5 * 3600 + 7200
    assert found.row[-1] == 100
    assert (found.dur == 3600).all()
    assert found.wall_ns[0] == BASE_NS
    assert found.wall_ns[1] == BASE_NS + (3600 + 10_800 - 7200) * NS // 90_000
    assert found.offset.tolist() == np.concatenate(([0], np.cumsum(found.size)[:-1])).tolist()


def test_wall_time_inside_a_row_is_scaled_by_drift(store: TapeStore, volume: RefVolume):
    written = volume.track(7, "main", TrackKind.AUDIO)
    written.grow(gop(10, dur=9000))
    assert written.open is not None
    written.open["wall_dur_us"] = 1_000_400       # 400 ppm
    written.close_row()
    found = store.track(7, "main").entries(store.track(7, "main").rows(0, 1 << 62))
    assert found.wall_ns[5] == BASE_NS + 500_200_000


def test_what_the_chunks_hold_is_what_the_entries_say(store: TapeStore, volume: RefVolume):
    written = fill(volume, 2600, count=5)
    assert len(written.chunks) > 1
    track = store.track(7, "main")
    run = track.rows(0, 1 << 62)
    for row in run.rows[::97]:
        with track.open_chunk(track.chunk_of(int(row["offset"]))) as lease:
            buffer = bytearray(int(row["bytes"]))
            assert lease.read(buffer, int(row["offset"])) == len(buffer)
        assert bytes(buffer) == payload(7, int(row["offset"]), len(buffer))


def test_provisional_rows_are_for_live_only(store: TapeStore, volume: RefVolume):
    written = fill(volume, 70)
    written.provisional = 0
    for count in (1, 2):
        written.provisional = count
        written.write_row(gop(5, dur=18_000), flags=int(RowFlag.PROVISIONAL))
    written.grow(gop(2, dur=18_000), flags=int(RowFlag.PROVISIONAL))
    track = store.track(7, "main")
    assert track.rows(0, 1 << 62).next == 70
    assert track.rows(0, 1 << 62, provisional=True).next == 73
    assert track.rows_from(69, 100).next == 73
    assert track.rows_from(69, 100, provisional=False).next == 70
    assert track.spans(BASE_NS, BASE_NS + 100 * S)[-1].end_ns == BASE_NS + 70 * S
    written.publish(300_000_000)
    run = track.rows(0, 1 << 62)
    assert run.next == 73
    assert run.rows["t_ns"][70] == BASE_NS + 70 * S + 300_000_000


def test_a_young_session_with_only_an_open_row_is_hidden(store: TapeStore, volume: RefVolume):
    written = volume.track(7, "main", TrackKind.AUDIO)
    written.grow(gop(2), flags=int(RowFlag.PROVISIONAL))
    track = store.track(7, "main")
    assert len(track.rows(0, 1 << 62)) == 0
    assert len(track.rows(0, 1 << 62, provisional=True)) == 1


def test_durable_rows_end_with_the_last_durable_au(store: TapeStore, volume: RefVolume):
    written = fill(volume, 3)
    written.grow(gop(4, size=100, key=300, dur=18_000))
    written.commit()
    written.grow([Au(111, 18_000), Au(112, 18_000)])
    track = store.track(7, "main")
    edges = track.edges()
    assert edges.visible_end_ns == BASE_NS + 3 * S + 1200 * NS // 1000
    assert edges.durable_end_ns == BASE_NS + 3 * S + 800 * NS // 1000
    assert edges.durable_offset < edges.visible_offset
    run = track.rows(0, 1 << 62, durable=True)
    assert (len(run), run.rows["aus"][-1], run.end_ns) == (4, 4, edges.durable_end_ns)
    assert len(track.entries(run)) == 19
    assert track.rows(0, 1 << 62).rows["aus"][-1] == 6


def test_a_mark_inside_an_au_leaves_that_au_out(store: TapeStore, volume: RefVolume):
    written = fill(volume, 3)
    written.grow(gop(4, size=100, key=300, dur=18_000))
    written.durable_offset += 350          # inside the second AU of the open row
    written.show()
    track = store.track(7, "main")
    run = track.rows(0, 1 << 62, durable=True)
    assert (len(run), run.rows["aus"][-1], run.rows["bytes"][-1]) == (4, 1, 300)
    assert track.edges().durable_end_ns == BASE_NS + 3 * S + 200 * NS // 1000
    written.durable_offset -= 100          # inside the first
    written.show()
    assert len(track.rows(0, 1 << 62, durable=True)) == 3
    assert track.edges().durable_end_ns == BASE_NS + 3 * S


def test_without_a_live_file_everything_is_read_from_ring_and_footers(store: TapeStore, volume: RefVolume):
    written = fill(volume, 3100)
    written.gap(5)
    written.write_row(gop(5, size=100))
    written.close()
    before = store.track(7, "main").rows(0, 1 << 62)
    volume.drop_live_file()
    track = store.track(7, "main")
    run = track.rows(0, 1 << 62)
    assert run.first == before.first
    assert run.rows.tobytes() == before.rows.tobytes()
    assert len(track.entries(run)) == int(run.rows["aus"].sum())
    edges = track.edges()
    assert not edges.live
    assert (edges.next_row, edges.visible_offset, edges.durable_offset) == (len(written.rows), written.offset, written.offset)
    assert track.sample_entry(1) == ENTRY_H264
    assert len(track.gaps(BASE_NS, written.next_ns)) == 1


def test_without_a_live_file_the_tail_and_a_chunk_taken_ahead_are_known(store: TapeStore, volume: RefVolume):
    written = fill(volume, 1200)
    written.retire(clear=False)
    tail = written.tail_row
    written.close()
    ahead = volume.path / layout.track_path(7, "main") / "c" / str(written.chunks[-1].number + 1)
    ahead.write_bytes(bytes(layout.SMALL.file_bytes))
    made = Chunk(written.chunks[-1].number + 1, os.open(ahead, os.O_RDWR), 1, 0, 0, 0)
    written._write_head(made)
    volume.drop_live_file()
    run = store.track(7, "main").rows(0, 1 << 62)
    assert (run.first, run.next) == (tail, 1200)
    assert store.track(7, "main").edges().tail_offset == written.tail_offset
    for _ in range(len(written.chunks) - 1):         # only the open chunk is left
        written.retire(clear=False)
    run = store.track(7, "main").rows(0, 1 << 62)
    assert (run.first, run.next) == (written.tail_row, 1200)


def test_without_a_live_file_rows_without_their_data_are_not_believed(store: TapeStore, volume: RefVolume):
    written = fill(volume, 20)
    written.close()
    lost = np.frombuffer(written.rows[15], layout.ROW)
    os.pwrite(written.chunks[-1].fd, bytes(512), layout.PAGE + int(lost["offset"][0]))
    volume.drop_live_file()
    assert store.track(7, "main").rows(0, 1 << 62).next == 15


def test_a_live_file_of_another_boot_is_not_believed(store: TapeStore, volume: RefVolume, monkeypatch: pytest.MonkeyPatch):
    fill(volume, 20).close()
    monkeypatch.setattr(live, "_BOOT", b"another boot id!")
    assert not store.track(7, "main").edges().live
    assert store.track(7, "main").rows(0, 1 << 62).next == 20


def test_a_restarted_worker_is_found_again(store: TapeStore, volume: RefVolume):
    written = fill(volume, 10)
    track = store.track(7, "main")
    assert track.edges().next_row == 10
    volume.new_live_file()
    written.write_row(gop(5))
    assert track.edges().next_row == 11
    assert len(track.entries(track.rows(0, 1 << 62))) == 55


def test_a_block_that_went_to_another_track_is_noticed(store: TapeStore, volume: RefVolume):
    first, second = fill(volume, 10), fill(volume, 20, camera=8)
    track = store.track(7, "main")
    assert track.edges().next_row == 10
    first.block, second.block = second.block, first.block
    second.show()
    first.show()
    assert track.edges().next_row == 10
    assert store.track(8, "main").edges().next_row == 20


def test_retired_rows_are_gone_at_once(store: TapeStore, volume: RefVolume):
    written = fill(volume, 3500)
    track = store.track(7, "main")
    run = track.rows(BASE_NS, BASE_NS + 10 * S)
    lease = track.open_chunk(0)
    written.retire(clear=False)
    with pytest.raises(Gone):
        track.entries(run)
    with pytest.raises(Gone):
        lease.read(bytearray(10), 0)
    with pytest.raises(Gone):
        track.open_chunk(0)
    assert len(track.rows(BASE_NS, BASE_NS + 10 * S)) == 0
    assert track.rows(0, 1 << 62).first == written.tail_row
    assert track.rows_from(0, 5).first == written.tail_row
    assert track.edges().first_ns == int(track.rows_from(0, 1).rows["t_ns"][0])


def test_a_ring_of_many_laps(store: TapeStore, volume: RefVolume):
    written = fill(volume, 0, ring_rows=256, frames_bytes=8192)
    for lap in range(1500):
        written.write_row(gop(5, size=100, key=15_000, dur=18_000))
        if len(written.rows) - written.tail_row > 190:
            written.retire()
        if lap % 50 == 0:
            track = store.track(7, "main")
            run = track.rows(0, 1 << 62)
            assert (run.first, run.next) == (written.tail_row, len(written.rows))
            assert [row.tobytes() for row in run.rows] == written.rows[written.tail_row:]
            assert len(track.entries(run)) == 5 * len(run)


@pytest.mark.parametrize("question", ["by time", "by number", "timeline"])
def test_a_larger_ring_that_took_the_name_is_found(store: TapeStore, volume: RefVolume, question: str):
    """Entries are all alike here: those of an older lap would pass every check but the one for the file."""
    written = fill(volume, 0, ring_rows=128, frames_bytes=4096)
    aus = [Au(100, 18_000, 0, 1)] * 5
    for _ in range(100):
        written.write_row(aus)
    track = store.track(7, "main")
    assert len(track.entries(track.rows(0, 1 << 62))) == 500
    for suffix in ("ring", "frames"):
        path = volume.path / layout.index_path(7, "main", suffix)
        os.rename(path, path.with_suffix(".old"))
    written.ring_capacity, written.frames_capacity = 4096, 1 << 20
    written.files |= {suffix: written._index_file(suffix) for suffix in ("ring", "frames")}
    written.ring_rows = written.frames_end = 0
    for _ in range(400):
        written.write_row([Au(100, 18_000, 0, 1 | 4 * (len(written.rows) == 150))] * 5)
    if question == "by time":
        at = BASE_NS + 150 * S
        assert track.rows(at, at + 1).first == 150
        assert (track.entries(track.rows(at, at + 1)).flags == 5).all()
    elif question == "by number":
        assert (track.entries(track.rows_from(150, 1)).flags == 5).all()
        assert track.rows(0, 1 << 62).next == 500
    else:
        assert track.timeline(BASE_NS, BASE_NS + 500 * S).covered_ns == 500 * S


def test_rows_and_entries_the_ring_lost_come_from_the_footers(store: TapeStore, volume: RefVolume):
    written = fill(volume, 3200)
    track = store.track(7, "main")
    before, entries = track.rows(0, 1 << 62), track.entries(track.rows(0, 1 << 62))
    for number in (0, 5, 64, 65, 1000):
        os.pwrite(written.files["ring"], b"\xff" * 64, layout.PAGE + number * 64)
    os.pwrite(written.files["frames"], b"\xff" * 512, layout.PAGE)
    after = track.rows(0, 1 << 62)
    assert after.rows.tobytes() == before.rows.tobytes()
    assert track.rows(BASE_NS + 64 * S, BASE_NS + 65 * S).first == 64
    assert track.entries(after).size.tolist() == entries.size.tolist()
    assert track.entries(after).row.tolist() == entries.row.tolist()
    assert track.timeline(BASE_NS, BASE_NS + 3000 * S).covered_ns == 3000 * S


def test_a_row_that_nothing_holds_any_more_is_an_error_not_garbage(store: TapeStore, volume: RefVolume):
    written = fill(volume, 100)
    os.pwrite(written.files["ring"], b"\xff" * 64, layout.PAGE + 5 * 64)
    track = store.track(7, "main")
    with pytest.raises(FormatError, match="row 5"):
        track.rows(0, 1 << 62)
    assert track.rows(BASE_NS + 6 * S, 1 << 62).first == 6
    timeline = track.timeline(BASE_NS, BASE_NS + 100 * S)
    assert timeline.covered_ns == 99 * S
    assert [(gap.start_ns, gap.end_ns) for gap in timeline.gaps] == [(BASE_NS + 5 * S, BASE_NS + 6 * S)]


def test_a_watch_prolongs_and_never_shortens(store: TapeStore, volume: RefVolume):
    fill(volume, 1)
    fill(volume, 1, camera=8)
    lease = volume.live_dir / layout.lease_name(volume.uuid, 0)
    assert live.watch(store.track(8, "main"), 1000)
    assert live.watch(store.track(8, "main"), 500)
    assert lease.read_bytes()[:16] == bytes(8) + (1000).to_bytes(8, "little")
    volume.drop_live_file()
    assert not live.watch(store.track(8, "main"), 2000)


def test_a_block_whose_writer_died_inside_is_waited_for_once_and_then_left(store: TapeStore, volume: RefVolume,
                                                                            monkeypatch: pytest.MonkeyPatch):
    fill(volume, 70).close()
    track = store.track(7, "main")
    assert track.edges().live
    naps: list[float] = []
    monkeypatch.setattr(live.time, "sleep", naps.append)
    monkeypatch.setattr(live, "STUCK_S", 0.02)
    assert volume.map is not None
    volume.map[layout.PAGE] |= 1
    assert not track.edges().live                    # what is on the disk goes on being served
    assert track.rows(0, 1 << 62).next == 70
    waited = len(naps)
    assert waited > 0
    track.edges()
    assert len(naps) == waited
    volume.map[layout.PAGE] &= 0xFE
    assert track.edges().live


def test_empty_run_of_entries(store: TapeStore, volume: RefVolume):
    fill(volume, 1)
    assert len(store.track(7, "main").entries(RowRun(0, np.empty(0, layout.ROW)))) == 0


def test_rows_lapped_during_the_copy_are_left_out_not_an_error(store: TapeStore, volume: RefVolume, monkeypatch: pytest.MonkeyPatch):
    written = fill(volume, 1500)
    track = store.track(7, "main")
    ring = track._ring(0)
    copy = ring.copy

    def retired_meanwhile(first: int, count: int):
        written.retire()
        os.pwrite(written.files["ring"], b"\xff" * 64 * 300, layout.PAGE)      # the next lap
        return copy(first, count)

    monkeypatch.setattr(ring, "copy", retired_meanwhile)
    run = track.rows(0, 1 << 62)
    assert written.tail_row > 300
    assert (run.first, run.next) == (written.tail_row, 1500)
    assert [row.tobytes() for row in run.rows] == written.rows[written.tail_row:]


def test_nothing_durable_yet_ends_where_it_begins(store: TapeStore, volume: RefVolume):
    volume.track(7, "main", TrackKind.AUDIO).grow(gop(3))
    edges = store.track(7, "main").edges()
    assert (edges.first_ns, edges.durable_end_ns) == (BASE_NS, BASE_NS)
    assert edges.visible_end_ns > BASE_NS
    assert len(store.track(7, "main").rows(0, 1 << 62, durable=True)) == 0
