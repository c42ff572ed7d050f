"""What Watchroom is measured beside does the work that it is said to do."""

from pathlib import Path

import av
import pytest

from bench.camsim.process import SimProcess
from bench.native_program import NativeProgram, build
from bench.pyav_threads import PyavThreads
from bench.site import wait_until

LOOP = 400       # AUs of a loop, whose last NAL marks the end of a sequence: one byte
OPTIONS = ["--count", "2", "--size", "320x180", "--bitrate", "300", "--gop", "25"]


def test_the_c_program_compiles_without_a_warning(tmp_path: Path) -> None:
    assert build(tmp_path).stat().st_mode & 0o100


def sent(sim: SimProcess, camera: int) -> int:
    """AUs that have been sent of a camera's first session."""
    sessions = sim.status()["cameras"][camera]["sessions"]
    return int(sessions[0]["tracks"]["main"]["aus"]) if sessions else 0


@pytest.mark.live
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_the_c_program_stores_every_au_as_it_was_sent(codec: str, tmp_path: Path) -> None:
    with SimProcess([*OPTIONS, "--codec", codec, "--cache", str(tmp_path / "clips")]) as sim:
        with NativeProgram(sim.port, [0, 1], tmp_path / "out", codec=codec) as program:
            wait_until(lambda: all(sent(sim, camera) > LOOP + 60 for camera in (0, 1)), 90, "more than a loop of each camera")
            program.check_alive()
        status = sim.status()
        for camera in (0, 1):
            first = status["cameras"][camera]["sessions"][0]["tracks"]["main"]["first"]
            truth = b"".join(sim.truth(camera).au_bytes(first + i) for i in range(LOOP + 30))
            assert program.file(camera).read_bytes()[:len(truth)] == truth
    assert program.result["lost_packets"] == program.result["malformed"] == program.result["ended"] == 0
    assert program.result["aus"] >= 2 * LOOP + 120


@pytest.mark.live
def test_pyav_threads_record_every_camera(tmp_path: Path) -> None:
    with (SimProcess([*OPTIONS, "--start-key", "--cache", str(tmp_path / "clips")]) as sim,
          PyavThreads([sim.url(0), sim.url(1)], tmp_path / "out") as threads):
        wait_until(lambda: all(sent(sim, camera) > 80 for camera in (0, 1)), 60, "80 AUs of each camera")
        threads.check_alive()
    for number in (0, 1):
        with av.open(str(tmp_path / "out" / f"{number:03}.mp4")) as file:
            assert sum(packet.size > 0 for packet in file.demux(video=0)) > 50
