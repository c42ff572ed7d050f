"""What goes into a queue comes back from the tape, byte for byte, whatever happens between."""

from collections.abc import Callable

import pytest
from rig import Rig, tape

from recorder.base.media import GapCause, TrackKind
from storage import steps
from storage.check import check_volume
from storage.chunkfile import ChunkHead, read_head
from storage.disk import open_direct
from storage.layout import track_path
from storage.steps import Step

Make = Callable[..., Rig]


def test_what_was_put_is_on_the_tape(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track()
    rig.run(camera, 300)
    assert tape(rig.path, rig) == camera.sent
    assert rig.core().durable[0] == rig.core().tape_end


def test_recording_goes_on_after_an_orderly_stop(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track()
    rig.run(camera, 110)
    rig.close()
    again = make_rig()
    assert again.report.clean and again.report.tapes == 1
    _, second = again.track()
    assert second.session == 2
    second.au = 1000
    again.run(second, 60)
    assert tape(again.path, again) == camera.sent + second.sent


def test_a_crash_without_power_loss_loses_nothing_visible(make_rig: Make) -> None:
    rig = make_rig()
    _, camera = rig.track()
    rig.run(camera, 130)
    camera.put(30)
    rig.turn(commit=False)
    rig.crash()
    again = make_rig()
    assert not again.report.clean and again.report.rows_adopted >= 1
    assert tape(again.path, again) == camera.sent


def test_a_lap_over_many_chunks_and_audio(make_rig: Make) -> None:
    rig = make_rig()
    _, video = rig.track(1, size=60_000)
    _, audio = rig.track(1, "audio", TrackKind.AUDIO, gop=1, fps=47, size=700)
    for _ in range(100):
        video.put(10)
        audio.put(19)
        rig.turn()
    assert tape(rig.path, rig) == video.sent
    assert tape(rig.path, rig, 1, "audio") == audio.sent
    assert len(list((rig.path / "tape.zarr/cam-1/main/c").iterdir())) >= 4


@pytest.mark.parametrize("crashes", [1, 2, 5])
def test_a_chunk_whose_seal_was_the_last_word_survives_crashes(make_rig: Make, crashes: int) -> None:
    """The first recovery takes the seal back; a later one must not trust it."""
    rig = make_rig(journal_bytes=64 << 10)
    writer, camera = rig.track()
    rig.run(camera, 30)
    writer.open_gap(GapCause.STALL)
    rig.clock.advance(1000.0)
    while not read_head_of(rig, 0).sealed:
        rig.turn()
    rig.turn()
    rig.crash()
    for _ in range(crashes):
        again = make_rig(journal_bytes=64 << 10)
        assert tape(again.path, again) == camera.sent
        again.crash()
    last = make_rig()
    last.clock.advance(1000.0)
    for _ in range(3):
        last.turn()
    assert not last.slot._works[1, "main"].closed
    assert read_head_of(last, 0).sealed


def test_a_chunk_whose_seal_was_the_last_word_is_not_wiped_when_its_rows_have_left_the_journal(make_rig: Make) -> None:
    """The segment with its rows was used again as soon as the seal was acknowledged, and the next recovery did not believe the seal."""
    rig = make_rig(journal_bytes=64 << 10)
    _, camera = rig.track(gop=20)
    camera.put(1)
    rig.turn(commit=False)
    rig.crash()
    make_rig(journal_bytes=64 << 10, clock=rig.clock).crash()
    again = make_rig(journal_bytes=64 << 10, clock=rig.clock)
    _, second = again.track(gop=20)
    again.clock.advance(1000.0)
    again.turn(commit=False)
    second.au = 20
    second.put(1)
    again.turn()
    again.turn()
    assert read_head_of(again, 0).sealed
    again.crash()
    last = make_rig(journal_bytes=64 << 10, clock=rig.clock)
    last.turn()
    last.turn()
    assert tape(last.path, last) == camera.sent + second.sent


def test_the_keeper_prepares_no_chunk_twice_while_the_writer_takes_it(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its second file took the chunk's name: the tape went on in one that no name led to, and all that was acknowledged was gone."""
    rig = make_rig(bytes_max=1 << 29)

    def keep_meanwhile(fd: int) -> int:
        rig.slot.keep_once()
        return open_direct(fd)

    monkeypatch.setattr("storage.tapebook.open_direct", keep_meanwhile)
    _, camera = rig.track(size=60_000)
    rig.run(camera, 1000)
    assert tape(rig.path, rig) == camera.sent
    assert len(list((rig.path / track_path(1, "main") / "c").iterdir())) >= 4


def test_no_index_is_written_over_a_seals(make_rig: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit marks what it made durable a moment after it is: a chunk that is sealed in between had its last inner chunk unmarked."""
    rig = make_rig()
    writer, camera = rig.track(size=60_000)
    camera.put(20)
    writer.end_session(camera.session, camera.start_ns + 10**9, "test")
    rig.turn(commit=False)

    def close_and_seal(step: Step) -> None:
        if step is Step.MARKED_LIVE:
            monkeypatch.setattr(steps, "hook", None)
            rig.clock.advance(1000.0)
            rig.slot.keep_once()
            rig.slot.pass_once()
            rig.slot.keep_once()

    monkeypatch.setattr(steps, "hook", close_and_seal)
    rig.turn()
    rig.turn()
    assert steps.hook is None and read_head_of(rig, 0).sealed
    assert not check_volume(rig.path, rig.live, level=3).findings


def read_head_of(rig: Rig, chunk: int) -> ChunkHead:
    path = rig.path / track_path(1, "main") / "c" / str(chunk)
    with path.open("rb") as file:
        return read_head(file.fileno(), str(path))
