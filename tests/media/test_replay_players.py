"""Readers that others wrote replay what is recorded: GStreamer's rtspsrc in onvif-mode, ffmpeg. (VLC of Debian has no RTSP.)"""

import json
from pathlib import Path

import pytest

from recorder.base.media import NS, GapCause, TrackKind
from tests.media.test_players import frames_of, run
from tests.media.test_replay_rtsp import serving

SCRIPT = Path(__file__).parent.parent / "servers" / "gst_replay.py"
FRAME_NS = NS // 25
START_NS = 1_800_000_000 * NS


@pytest.fixture
async def yard(maker, volume, tmp_path):
    """6 s of H.264 with sound, a gap of 3 s, 4 s of it; the same as H.265 in the sub track. Yields the port."""
    main, sound = volume.track(1, "main", start_ns=maker.T0), volume.track(1, "audio", TrackKind.AUDIO, clock_rate=48_000, start_ns=maker.T0)
    sub = volume.track(1, "sub", start_ns=maker.T0)
    for session, frames, first in ((1, 150, 0), (2, 100, 500)):
        main.session = sound.session = sub.session = session
        maker.write(main, maker.video(frames=frames, first=first))
        maker.write(sound, maker.audio(frames / 25))
        maker.write(sub, maker.video(codec="hevc", frames=frames, first=first + 1000))
        if session == 1:
            for track in (main, sound, sub):
                track.gap(3.0, GapCause.STALL)
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as api, serving(api) as port:
        yield port


async def gstreamer(port, tmp_path, start_ns, stop_ns, *more, path="yard"):
    """What it read of header extensions, (UTC in pictures, clean point, discontinuity), and the numbers of the pictures that it showed."""
    raw = tmp_path / "raw"
    address = f"rtsp://127.0.0.1:{port}/replay/{path}"
    status, out, messages = await run("/usr/bin/python3", SCRIPT, address, "--start", start_ns, "--stop", stop_ns, "--raw", raw, *more)
    said = [json.loads(line) for line in out.decode().splitlines()]
    assert (status, messages) == (0, "")
    assert said[-1] == {"eos": True}, "the T bit, or the end of its segment, ends it"
    sought = said[said.index({"sought": True}) + 1:-1]
    return [((one["ns"] - START_NS) / FRAME_NS, one["clean"], one["jump"]) for one in sought], frames_of(raw)


def units(numbers, jumps=(), gop=25, begins=(0,)):
    """As gstreamer() gives them: access points lie `gop` pictures apart from the begins of the sections on."""
    origin = {number: max(begin for begin in begins if begin <= number) for number in numbers}
    return [(number, (number - origin[number]) % gop == 0, number in jumps) for number in numbers]


@pytest.mark.parametrize(("path", "codec", "plus"), [("yard", "h264", 0), ("yard/sub", "h265", 1000)])
@pytest.mark.parametrize("paced", [(), ("--paced",)])
async def test_gstreamer_seeks_by_the_clock(yard, maker, tmp_path, path, codec, plus, paced):
    """Without a gap, from the middle of a picture group on."""
    start_ns = maker.T0 + 62 * FRAME_NS + 7
    read, numbers = await gstreamer(yard, tmp_path, start_ns, maker.T0 + 125 * FRAME_NS, "--codec", codec, *paced, path=path)
    assert read == units(range(50, 125), jumps=(50,))
    assert numbers == [number + plus for number in range(50, 125)]


async def test_gstreamer_reads_over_a_gap(yard, maker, tmp_path):
    """150 pictures, a gap of 75, 100 pictures."""
    read, numbers = await gstreamer(yard, tmp_path, maker.T0 + 130 * FRAME_NS, maker.T0 + 300 * FRAME_NS)
    assert read == units([*range(125, 150), *range(225, 300)], jumps=(125, 225), begins=(0, 225))
    assert numbers == [*range(125, 150), *range(500, 575)]


async def test_gstreamer_seeks_into_a_gap(yard, maker, tmp_path):
    read, numbers = await gstreamer(yard, tmp_path, maker.T0 + 170 * FRAME_NS, maker.T0 + 250 * FRAME_NS)
    assert read == units(range(225, 250), jumps=(225,), begins=(225,))
    assert numbers == list(range(500, 525))


async def test_gstreamer_reads_backwards(yard, maker, tmp_path):
    """Its decoder loses a group at either end of what is played backwards; what it shows runs backwards picture by picture."""
    read, numbers = await gstreamer(yard, tmp_path, maker.T0 + 62 * FRAME_NS, maker.T0 + 140 * FRAME_NS, "--rate", "-1.0")
    wanted = [*range(125, 141), *range(100, 125), *range(75, 100), *range(50, 75)]
    assert read == units(wanted, jumps=(125, 100, 75, 50))
    assert len(numbers) >= 25
    assert numbers == list(range(numbers[0], numbers[0] - len(numbers), -1))


@pytest.mark.parametrize(("rate", "frames", "wanted"), [
    ("1.0", "intra", [50, 75, 100, 125]), ("1.0", "intra/1500", [50, 100]), ("-1.0", "intra", [125, 100, 75, 50]),
    ("-1.0", "intra/1500", [125, 75])])
async def test_gstreamer_reads_access_points_alone(yard, maker, tmp_path, rate, frames, wanted):
    read, numbers = await gstreamer(yard, tmp_path, maker.T0 + 50 * FRAME_NS, maker.T0 + 140 * FRAME_NS, "--rate", rate, "--frames", frames)
    assert read == units(wanted, jumps=wanted if rate == "-1.0" else (50,))
    assert set(numbers) <= set(wanted)


async def ffmpeg(address, tmp_path, count, *more):
    raw = tmp_path / "raw"
    status, _, said = await run("ffmpeg", "-v", "error", "-nostdin", *more, "-i", address, "-an", "-frames:v", count, "-pix_fmt", "gray", "-f",
                                "rawvideo", raw)
    assert (status, said) == (0, "")
    return frames_of(raw)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_ffmpeg_plays_from_a_time_of_the_address(yard, maker, tmp_path, transport):
    address = f"rtsp://127.0.0.1:{yard}/replay/yard?start={maker.T0 + 80 * FRAME_NS}"
    assert await ffmpeg(address, tmp_path, 60, "-rtsp_transport", transport) == list(range(75, 135))


async def test_ffmpeg_plays_from_the_beginning_and_over_the_gap(yard, tmp_path):
    numbers = await ffmpeg(f"rtsp://127.0.0.1:{yard}/replay/yard/sub", tmp_path, 180, "-rtsp_transport", "tcp")
    assert numbers == [*range(1000, 1150), *range(1500, 1530)]
