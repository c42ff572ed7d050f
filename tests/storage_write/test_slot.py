"""What goes into a queue comes back from the tape, byte for byte, whatever happens between."""

from collections.abc import Callable

from rig import Rig, tape

from recorder.base.media import TrackKind

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
