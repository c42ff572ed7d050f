"""A power cut while the slot is closed: the last record is there and the bytes that it names are not."""

import shutil
from pathlib import Path

from rig import Rig, tape

from recorder.base.media import GapCause
from storage.check import check_volume
from storage.store import TapeStore

END = 1 << 62


def test_what_was_lost_while_the_slot_was_closed_is_a_gap_up_to_the_stop(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "volume", tmp_path / "live")
    _, camera = rig.track(size=9_000, gop=25)
    rig.run(camera, 50)
    kept = list(camera.sent)
    camera.put(10)
    rig.turn(commit=False)
    rig.close()
    chunk = tmp_path / "volume/tape.zarr/cam-1/main/c/0"
    data = bytearray(chunk.read_bytes())
    at = data.index(camera.sent[-1])
    data[at:at + 600] = bytes(600)
    chunk.write_bytes(data)
    shutil.rmtree(tmp_path / "live")
    again = Rig(tmp_path / "volume", tmp_path / "live")
    assert again.report.tapes_fallen_back == 1
    assert tape(again.path, again) == kept
    store = TapeStore([again.path], again.live)
    gaps = store.track(1, "main").gaps(0, END)
    lost, stopped = gaps[-2], gaps[-1]
    assert (lost.cause, stopped.cause) == (GapCause.CRASH, GapCause.STOPPED)
    assert lost.start_ns == camera.start_ns + 2_000_000_000 < lost.end_ns == stopped.start_ns and stopped.end_ns is None
    store.close()
    assert not check_volume(again.path, again.live, level=3).findings
    again.close()
