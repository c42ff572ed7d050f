"""Players that others wrote show what is just being recorded, as live HLS, without a word: FFmpeg, GStreamer, VLC."""

import pytest

from tests.media.test_players import HEIGHT, WIDTH, frames_of, nobody_home, run, vlc

pytestmark = pytest.mark.live
__all__ = ["nobody_home"]

PICTURES = 100


def address(api):
    return api.client.make_url("/api/v1/cameras/yard/hls/live.m3u8?track=main")


def follows(numbers):
    """Each picture once, one after the other."""
    return len(numbers) >= PICTURES // 2 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.parametrize("growing", [0, 2], indirect=True)
async def test_ffmpeg_plays_what_is_live(growing, tmp_path):
    raw = tmp_path / "raw"
    status, _, said = await run("ffmpeg", "-v", "warning", "-nostdin", "-i", address(growing[0]), "-frames:v", PICTURES, "-pix_fmt", "gray",
                                "-f", "rawvideo", raw)
    assert (status, said) == (0, "")
    assert follows(frames_of(raw))


async def test_gstreamer_plays_what_is_live(growing, tmp_path):
    """Its pictures end after some, its wait for more does not."""
    raw = tmp_path / "raw"
    status, out, said = await run(
        "timeout", "15", "gst-launch-1.0", "-q", "uridecodebin", f"uri={address(growing[0])}", "!", "videoconvert", "!", "identity",
        f"eos-after={PICTURES}", "!", f"video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT}", "!", "filesink", f"location={raw}")
    assert (status, out.decode() + said) == (124, "")
    assert follows(frames_of(raw))


async def test_vlc_plays_what_is_live(growing, nobody_home):
    said, numbers, _ = await vlc(address(growing[0]), nobody_home, "--run-time=8")
    assert said == (0, "", "")
    shown = [number for number in numbers if number is not None]
    assert len(set(shown)) >= PICTURES // 2
    assert shown == sorted(shown)
