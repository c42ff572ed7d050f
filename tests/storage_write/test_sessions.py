"""Sessions, gaps with causes, and rows whose time is not yet known."""

import os
from collections.abc import Callable

import numpy as np
import pytest
from rig import Rig, tape

from recorder._ext.auqueue import AuQueue
from recorder.base.config import RetentionRule
from recorder.base.errors import Conflict, StorageError, VolumeError
from recorder.base.media import AuFlag, GapCause, RowFlag, SampleEntry, SenderReport, TrackKind
from storage.layout import ROW
from storage.reader import TrackReader
from storage.store import TapeStore

Make = Callable[..., Rig]
END = 1 << 62
S = 1_000_000_000


def reader(rig: Rig, camera: int = 1, name: str = "main") -> TrackReader:
    return TapeStore([rig.path], rig.live).track(camera, name)


def test_nothing_is_kept_before_the_first_clean_access_point(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track()
    camera.au = 20
    rig.run(camera, 30)
    assert tape(rig.path, rig) == camera.sent[5:]
    assert rig.core().counts[3] == 5


def test_a_gap_waits_for_a_clean_access_point(make_rig: Make) -> None:
    rig = make_rig()
    writer, camera = rig.track()
    rig.run(camera, 50)
    end = rig.core().end_ns
    writer.open_gap(GapCause.STALL, detail="nothing for 10 s")
    rig.turn()
    camera.au = 260
    rig.run(camera, 5)
    camera.put(11, flags=AuFlag.DAMAGED)
    camera.put(24)
    rig.turn()
    assert [g.end_ns for g in reader(rig).gaps(0, END)] == [None], "a damaged key frame must not end a gap"
    rig.run(camera, 25)
    gap, = reader(rig).gaps(0, END)
    assert (gap.start_ns, gap.end_ns, gap.cause, gap.detail) == (end, camera.start_ns + 12 * S, GapCause.STALL, "nothing for 10 s")


def test_a_second_call_changes_the_cause(make_rig: Make) -> None:
    rig = make_rig()
    writer, camera = rig.track()
    rig.run(camera, 30)
    writer.open_gap(GapCause.STALL)
    writer.open_gap(GapCause.OFFLINE, detail="no route")
    rig.turn()
    gap, = reader(rig).gaps(0, END)
    assert (gap.cause, gap.detail, gap.end_ns) == (GapCause.OFFLINE, "no route", None)


def test_an_au_that_bears_a_cause_makes_a_closed_gap(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track()
    rig.run(camera, 50)
    end = rig.core().end_ns
    camera.au = 100
    camera.put(25, gap=GapCause.OVERLOAD)
    rig.turn()
    gap, = reader(rig).gaps(0, END)
    assert (gap.cause, gap.start_ns, gap.end_ns) == (GapCause.OVERLOAD, end, camera.start_ns + 4 * S)
    spans = reader(rig).spans(0, END)
    assert (spans[0].start_ns, spans[0].end_ns, spans[1].start_ns) == (camera.start_ns, end, gap.end_ns)


def test_commands_wait_for_the_aus_before_them(make_rig: Make) -> None:
    rig = make_rig()
    writer, camera = rig.track()
    camera.put(50)
    writer.end_session(camera.session, camera.start_ns + 2 * S, "bye")
    writer.open_gap(GapCause.OFFLINE)
    writer.begin_session(2, camera.start_ns + 10 * S, "again")
    camera.session, camera.au = 2, 250
    camera.put(50)
    rig.turn()
    rig.turn()
    assert tape(rig.path, rig) == camera.sent
    track = reader(rig)
    gap, = track.gaps(0, END)
    assert (gap.start_ns, gap.end_ns) == (camera.start_ns + 2 * S, camera.start_ns + 10 * S)
    assert track.session(1).end_reason == "bye" and track.session(2).transport == "again"


def test_provisional_rows_are_published_once_and_in_order(make_rig: Make) -> None:
    rig = make_rig()
    writer, camera = rig.track()
    camera.put(60, flags=AuFlag.PROVISIONAL)
    rig.turn()
    track = reader(rig)
    assert len(track.rows(0, END)) == 0 and len(track.rows(0, END, provisional=True)) == 3
    writer.publish(1, -40_000_000)
    camera.start_ns -= 40_000_000
    rig.run(camera, 40)
    rows = track.rows(0, END).rows
    assert list(rows["t_ns"]) == [camera.start_ns + k * S for k in range(4)]
    assert not (rows["flags"] & RowFlag.PROVISIONAL).any()
    rig.crash()
    again = make_rig()
    got = np.frombuffer(b"".join(again.slot._works[1, "main"].row(n) or b"" for n in range(4)), ROW)
    assert list(got["t_ns"]) == list(rows["t_ns"]), "the journal must hold the published times"


def test_the_end_of_a_gap_moves_with_its_publication(make_rig: Make) -> None:
    rig = make_rig()
    writer, camera = rig.track()
    rig.run(camera, 50)
    end = rig.core().end_ns
    writer.end_session(1, end, "lost")
    writer.open_gap(GapCause.OFFLINE)
    writer.begin_session(2, end + 9 * S, "test")
    camera.session, camera.au = 2, 250
    camera.put(60, flags=AuFlag.PROVISIONAL)
    rig.turn()
    writer.publish(2, 30_000_000)
    rig.turn()
    gap, = reader(rig).gaps(0, END)
    assert gap.end_ns == camera.start_ns + 10 * S + 30_000_000
    writer.publish(2, 5 * S)
    rig.turn()
    assert reader(rig).gaps(0, END) == [gap], "a second publication must change nothing"


def test_a_shift_never_moves_rows_into_older_footage(make_rig: Make) -> None:
    rig = make_rig()
    writer, camera = rig.track()
    rig.run(camera, 50)
    end = rig.core().end_ns
    writer.end_session(1, end, "lost")
    writer.open_gap(GapCause.OFFLINE)
    writer.begin_session(2, end, "test")
    camera.session, camera.start_ns, camera.au = 2, end + 10_000_000 - 75 * S // 25, 75
    camera.put(30, flags=AuFlag.PROVISIONAL)
    rig.turn()
    writer.publish(2, -5 * S)
    rig.turn()
    rows = reader(rig).rows(0, END).rows
    ends = rows["t_ns"] + rows["wall_dur_us"].astype(np.int64) * 1000
    assert (rows["t_ns"][1:] >= ends[:-1]).all()


def test_rows_are_cut_by_the_rules(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track(gop=500, size=2_000)
    rig.run(camera, 620)
    rows = reader(rig).rows(0, END).rows
    assert list(rows["aus"][:3]) == [250, 250, 120]
    assert [bool(f & RowFlag.CONTINUED) for f in rows["flags"][:3]] == [False, True, False]
    assert tape(rig.path, rig) == camera.sent


def test_a_new_format_starts_a_row_with_its_sample_entry(make_rig: Make) -> None:
    rig = make_rig()
    entries = {1: SampleEntry("avc1", b"one", 90000), 2: SampleEntry("avc1", b"two", 90000), 3: SampleEntry("avc1", b"one", 90000)}
    queue = AuQueue(1 << 20)
    writer = rig.slot.open_track(1, "main", TrackKind.VIDEO, clock_rate=90000, queue=queue, rule=RetentionRule(), describe=entries.get)
    writer.begin_session(1, 5 * S, "test")
    for n, form in enumerate([1, 1, 2, 2, 3, 9]):
        queue.append(b"x" * 100, n * 3600, n * 3600, (5 + n) * S, 1, 1, form, AuFlag.KEY if n % 2 == 0 else 0)
    rig.turn()
    rig.turn()
    track = reader(rig)
    rows = track.rows(0, END).rows
    assert list(rows["sample_entry"]) == [1, 2, 1] and track.sample_entry(2) == entries[2]
    assert queue.waiting_aus == 1, "an AU of an unknown format waits"


def test_a_track_is_opened_once_and_with_its_kind(make_rig: Make) -> None:
    rig = make_rig()
    rig.track()
    with pytest.raises(Conflict, match="open already"):
        rig.track()
    rig.close()
    again = make_rig()
    with pytest.raises(Conflict, match="video at 90000"):
        again.track(kind=TrackKind.AUDIO)


def test_a_full_slot_is_no_conflict_and_keeps_nothing_open(make_rig: Make) -> None:
    rig = make_rig()
    first, _ = rig.track()
    live = rig.slot._live
    live._blocks = live._used
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):                          # tried again every 10 s
        with pytest.raises(StorageError, match="a slot has at most 1 tracks") as full:
            rig.track(camera=2)
        assert not isinstance(full.value, VolumeError), "the volume is well"
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert rig.slot.tracks() == {(1, "main")} and not (rig.path / "tape.zarr/cam-2").exists()
    with pytest.raises(Conflict, match="open already"):
        rig.track()
    first.detach()
    rig.turn()
    writer, camera = rig.track()                # a track that the slot has is opened in a full one too
    rig.run(camera, 60)
    assert writer.counts[0] == 60


def test_a_removed_camera_leaves_no_gap(make_rig: Make) -> None:
    rig = make_rig()
    writer, camera = rig.track()
    rig.run(camera, 60)
    writer.detach()
    rig.turn()
    rig.turn()
    assert reader(rig).gaps(0, END) == []
    rig.close()
    again = make_rig()
    assert reader(again).gaps(0, END) == [] and tape(again.path, again) == camera.sent


def test_an_orderly_stop_is_a_gap_of_its_own_cause(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track()
    rig.run(camera, 60)
    rig.close()
    again = make_rig()
    gap, = reader(again).gaps(0, END)
    assert (gap.cause, gap.end_ns) == (GapCause.STOPPED, None)
    assert reader(again).session(1).end_reason == "stopped"


def test_sender_reports_are_thinned(make_rig: Make) -> None:
    rig = make_rig()
    writer, _ = rig.track()
    before = rig.slot._works[1, "main"].log_bytes
    for k in range(100):
        writer.sender_report(SenderReport(k, k, (k + 1) * S))
    rig.turn()
    assert rig.slot._works[1, "main"].log_bytes == before + 2 * 32


def test_an_au_larger_than_a_chunk_does_not_stop_the_track(make_rig: Make) -> None:
    rig = make_rig()
    _, audio = rig.track(1, "audio", TrackKind.AUDIO, gop=1, fps=10, size=500)
    rig.run(audio, 20)
    kept = list(audio.sent)
    audio.put(1, size=1_000_000)
    rig.turn()
    audio.sent = kept
    rig.run(audio, 20)
    assert tape(rig.path, rig, 1, "audio") == audio.sent
    gap, = reader(rig, 1, "audio").gaps(0, END)
    assert gap.cause is GapCause.OVERLOAD


def test_a_row_of_one_au_does_not_end_the_gap_that_its_crash_made(make_rig: Make) -> None:
    """The row has no length: it begins where the gap after it begins."""
    rig = make_rig()
    _, camera = rig.track()
    camera.put(1)
    rig.turn()
    rig.crash()
    again = make_rig()
    _, second = again.track()
    second.start_ns = camera.start_ns + 2 * S
    second.put(30, flags=AuFlag.PROVISIONAL)
    again.turn()
    again.crash()
    third = make_rig()
    first_gap = reader(third).gaps(0, END)[0]
    assert (first_gap.start_ns, first_gap.end_ns, first_gap.cause) == (camera.start_ns, camera.start_ns + 2 * S, GapCause.CRASH)


@pytest.mark.parametrize("provisional", [0, AuFlag.PROVISIONAL])
def test_footage_older_than_the_track_stays_at_its_time(make_rig: Make, provisional: int) -> None:
    """An imported file, or what a camera had buffered: the gap that awaits the first picture must not move it to the present."""
    rig = make_rig()
    writer, camera = rig.track()
    camera.start_ns -= 90 * 86_400 * S
    camera.put(50, flags=provisional)
    rig.turn()
    if provisional:
        writer.publish(camera.session, 0)
    rig.turn()
    raw = rig.slot._works[1, "main"].row(0)
    assert raw is not None and int.from_bytes(raw[:8], "little", signed=True) == camera.start_ns
