"""Players that others wrote show live streams over RTSP, by TCP and by UDP: what they decode is what lies on the tape."""

import asyncio
import hashlib

import pytest

from tests.media.test_players import HEIGHT, WIDTH, frames_of, run
from tests.rtspout.conftest import Lab, Sender
from tests.rtspout.content import PICTURES, sound

pytestmark = pytest.mark.live
MAIN, SOUND = (1, "main"), (1, "audio")


@pytest.fixture
async def playing(stack):
    """Starts a server whose camera `yard` sends pictures and sound of a coding at their pace."""
    async def begin(picture, heard="", *, open_door=True, ahead=30):
        streams = {MAIN: PICTURES[picture]()} | ({SOUND: sound(heard)} if heard else {})
        lab = Lab({key: stream.entry for key, stream in streams.items()}, stack)
        await lab.start(open_door=open_door)
        for key, stream in streams.items():
            sender = Sender(lab.board, key, stream)
            task = asyncio.create_task(sender.run(ahead=ahead * 2 if key == SOUND else ahead))
            stack.callback(task.cancel)
            await asyncio.sleep(0)
        return lab

    return begin


def annex_b(au):
    """As FFmpeg has H.264 and H.265 from RTP."""
    out, at = b"", 0
    while at < len(au):
        size = int.from_bytes(au[at:at + 4])
        out += b"\0\0\0\1" + au[at + 4:at + 4 + size]
        at += 4 + size
    return out


def digests(text):
    """MD5 of each packet, from FFmpeg's framemd5; more columns tell of the sender reports."""
    return [line.split(",")[5].strip() for line in text.splitlines() if line.startswith("0,")]


def follows_on(found, whole):
    """Whether `found` is a run of the endless repetition of `whole`."""
    starts = [at for at, one in enumerate(whole) if one == found[0]]
    return any(all(one == whole[(start + i) % len(whole)] for i, one in enumerate(found)) for start in starts)


@pytest.mark.parametrize("way", ["tcp", "udp"])
@pytest.mark.parametrize(("picture", "heard"), [("h264", "mp4a"), ("h265", "alaw"), ("h264", "Opus"), ("h264", "twos"), ("h264", "g726"),
                                                ("h265", "ulaw")])
async def test_ffmpeg_has_the_bytes_of_the_tape(way, picture, heard, playing, tmp_path):
    lab, raw = await playing(picture, heard), tmp_path / "raw"
    status, out, said = await run(
        "ffmpeg", "-v", "error", "-nostdin", "-rtsp_transport", way, "-i", f"rtsp://127.0.0.1:{lab.port}/yard", "-map", "0:v", "-c", "copy",
        "-t", 2.5, "-f", {"h264": "h264", "h265": "hevc"}[picture], raw, "-map", "0:a", "-c", "copy", "-t", 2.5, "-f", "framemd5", "-",
        patience_s=60)
    assert (status, said) == (0, "")
    got = raw.read_bytes().rstrip(b"\0")
    assert len(got) > sum(len(au.data) for au in PICTURES[picture]().aus) // 4
    assert got in b"".join(annex_b(au.data) for au in PICTURES[picture]().aus) * 2
    sounds = digests(out.decode())
    assert len(sounds) * sound(heard).dur > 1.2 * sound(heard).entry.clock_rate
    assert follows_on(sounds, [hashlib.md5(au.data if heard != "g726" else swapped(au.data)).hexdigest() for au in sound(heard).aus])


def swapped(data):
    """The bit order of RFC 3551, which FFmpeg keeps."""
    return bytes(byte >> 4 | byte << 4 & 0xF0 for byte in data)


@pytest.mark.parametrize("way", ["tcp", "udp"])
@pytest.mark.parametrize("picture", ["h264", "h265", "jpeg"])
async def test_ffmpeg_shows_each_picture_once(way, picture, playing, tmp_path):
    lab, raw = await playing(picture), tmp_path / "raw"
    status, _, said = await run(
        "ffmpeg", "-v", "error", "-nostdin", "-rtsp_transport", way, "-i", f"rtsp://127.0.0.1:{lab.port}/yard", "-frames:v", 50, "-fps_mode",
        "passthrough", "-pix_fmt", "gray", "-f", "rawvideo", raw, patience_s=60)
    assert (status, said) == (0, "")
    numbers, count = frames_of(raw), len(PICTURES[picture]().aus)
    assert len(numbers) == 50
    assert numbers == [(numbers[0] + i) % count for i in range(50)]


@pytest.mark.parametrize("way", ["tcp", "udp"])
@pytest.mark.parametrize("picture", ["h264", "h265", "jpeg"])
async def test_gstreamer_shows_each_picture_once(way, picture, playing, tmp_path):
    lab, raw = await playing(picture), tmp_path / "raw"
    decoder = {"h264": "avdec_h264", "h265": "avdec_h265", "jpeg": "avdec_mjpeg"}[picture]
    status, out, said = await run(
        "timeout", 15, "gst-launch-1.0", "-q", "rtspsrc", f"location=rtsp://127.0.0.1:{lab.port}/yard", f"protocols={way}", "latency=200", "!",
        f"rtp{picture}depay", "!", decoder, "!", "videoconvert", "!", f"video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT}", "!",
        "identity", "eos-after=50", "!", "filesink", f"location={raw}", patience_s=60)
    assert (status, out.decode() + said) == (0, "")
    numbers, count = frames_of(raw)[:45], len(PICTURES[picture]().aus)      # where it ends it drops what its decoder holds
    assert len(numbers) == 45
    assert numbers == [(numbers[0] + i) % count for i in range(len(numbers))]


async def test_players_log_in_by_digest(playing):
    lab = await playing("h264", open_door=False)
    secret = lab.token()
    url = f"rtsp://token:{secret}@127.0.0.1:{lab.port}/yard"
    status, _, said = await run("ffmpeg", "-v", "error", "-nostdin", "-rtsp_transport", "tcp", "-i", url, "-frames:v", 10, "-f", "null", "-",
                                patience_s=60)
    assert (status, said) == (0, "")
    status, out, said = await run("timeout", 15, "gst-launch-1.0", "-q", "rtspsrc", f"location={url}", "!", "rtph264depay", "!", "identity",
                                  "eos-after=10", "!", "fakesink", patience_s=60)
    assert (status, out.decode() + said) == (0, "")
    wrong = url.replace(secret, "wr_" + "x" * 43)
    status, _, said = await run("ffmpeg", "-v", "error", "-nostdin", "-i", wrong, "-f", "null", "-", patience_s=60)
    assert status != 0
    assert "401" in said
