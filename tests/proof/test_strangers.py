"""Cameras made by somebody else: recorded, and a clip of them that ffmpeg takes without a word, exact to the frame."""

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.site import Site, wait_until
from recorder.base.media import NS, GapCause
from tests.ffmpeg import complaints
from tests.proof.kit import ALL, check_clean, clip, frames_in, recording
from tests.worker.servers import gst_camera

PASSWORD = "p@ss:w/ord?#1"
AUDIO_FRAME_S = {"aac": 1024 / 16000, "pcma": 0.02}


def probe(path: Path, select: str, count: str) -> dict[str, str]:
    """What ffprobe says of a stream, its packets or frames counted."""
    run = subprocess.run(["ffprobe", "-v", "error", "-select_streams", select, f"-count_{count}", "-show_entries",
                          "stream=nb_read_frames,nb_read_packets,duration,start_time", "-of", "json", path],
                         capture_output=True, text=True, check=True, timeout=300)
    (stream,) = json.loads(run.stdout)["streams"]
    return dict(stream)


@pytest.mark.parametrize(("first_s", "last_s", "seconds"), [
    pytest.param(3.3, 10.7, 13, marks=pytest.mark.live),
    pytest.param(10.3, 20.7, 60, marks=pytest.mark.soak),
])
async def test_clip_of_a_strangers_camera(first_s: float, last_s: float, seconds: int, make_site: Callable[..., Site],
                                          tmp_path: Path) -> None:
    async with (gst_camera("--video", "h264", "--audio", "aac") as plain,
                gst_camera("--video", "h265", "--audio", "pcma", "--user", "ad min", "--password", PASSWORD) as guarded):
        site = make_site({"plain": [f'main = {{ url = "{plain}" }}'],
                          "guarded": [f'main = {{ url = "{guarded}" }}', 'user = "ad min"', f'password = "{PASSWORD}"']})
        with site:
            await asyncio.to_thread(wait_until, lambda: recording(site), 30, "both cameras recording")
            await asyncio.sleep(seconds)
            for (name, number), sound in zip(site.numbers().items(), ("aac", "pcma"), strict=True):
                await asyncio.to_thread(judge, site, name, number, sound, (first_s, last_s), tmp_path / f"{name}.mp4")
        assert site.stop() == 0, site.tail()
    assert PASSWORD not in site.log.read_text()
    check_clean(site)


def judge(site: Site, name: str, number: int, sound: str, range_s: tuple[float, float], path: Path) -> None:
    """The clip of a range after the camera's first picture."""
    store = site.store()
    main = store.track(number, "main")
    zero_ns = main.rows(*ALL).start_ns
    start_ns, end_ns = (zero_ns + round(second * NS) for second in range_s)
    wait_until(lambda: main.edges().durable_end_ns > end_ns + NS, 300, "the range is recorded")
    assert end_ns < time.time_ns()
    reply = clip(site, name, start_ns, end_ns)
    assert reply.headers["Watchroom-Complete"] == "yes"
    path.write_bytes(reply.body)
    assert complaints(path) == ""
    expected = frames_in(main, start_ns, end_ns)
    assert expected == pytest.approx((range_s[1] - range_s[0]) * 15, abs=1)
    assert int(probe(path, "v:0", "frames")["nb_read_frames"]) == expected
    video, audio = probe(path, "v:0", "packets"), probe(path, "a:0", "packets")
    assert abs(float(audio["duration"]) - float(video["duration"])) <= AUDIO_FRAME_S[sound]
    assert abs(float(audio["start_time"]) - float(video["start_time"])) <= AUDIO_FRAME_S[sound]
    assert [gap for gap in main.gaps(*ALL) if gap.cause is not GapCause.NO_KEYFRAME] == []
    store.close()
