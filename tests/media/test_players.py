"""Players and a validator that others wrote take clips, playlists and streams without a word: GStreamer, VLC, MediaInfo (FFmpeg elsewhere)."""

import asyncio
import json
import shutil
import tempfile
from pathlib import Path

import av
import numpy as np
import pytest

from bench.camsim import pattern
from recorder.base.media import NS, GapCause, TrackKind
from tests.media.test_derived import HZ, coded, pitch

FRAME_NS = NS // 25
WIDTH, HEIGHT = 320, 240


async def run(*command, patience_s=240):
    """Exit status, output and messages of a program."""
    process = await asyncio.create_subprocess_exec(*map(str, command), stdin=asyncio.subprocess.DEVNULL, stdout=-1, stderr=-1)
    async with asyncio.timeout(patience_s):
        out, messages = await process.communicate()
    return process.returncode, out, messages.decode(errors="replace")


@pytest.fixture
async def yard(maker, volume, tmp_path):
    """6 s of H.264 with B-frames and AAC, a gap of 3 s, 4 s of it; the same as H.265 in the sub track."""
    main, sound = volume.track(1, "main", start_ns=maker.T0), volume.track(1, "audio", TrackKind.AUDIO, clock_rate=48_000, start_ns=maker.T0)
    sub = volume.track(1, "sub", start_ns=maker.T0)
    for session, frames, first in ((1, 150, 0), (2, 100, 500)):
        main.session = sound.session = sub.session = session
        maker.write(main, maker.video(frames=frames, first=first, bframes=2, sets=True))
        maker.write(sound, maker.audio(frames / 25))
        maker.write(sub, maker.video(codec="hevc", frames=frames, first=first + 1000, bframes=2))
        for track in (main, sound, sub):
            track.gap(3.0, GapCause.STALL)
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as api:
        yield api


def frames_of(raw: Path):
    """Numbers of raw grey pictures in a file."""
    data = np.frombuffer(raw.read_bytes(), np.uint8).reshape(-1, HEIGHT, WIDTH)
    return [pattern.read(picture) for picture in data]


async def gstreamer(address, raw: Path, *, sound: bool):
    """All pictures of an address as GStreamer decodes them, and what it says. Its queues have no limits: a full one of pictures would wait
    for sound, and sound for it."""
    queue = ("queue", "max-size-buffers=0", "max-size-time=0", "max-size-bytes=0")
    heard = ("d.", "!", *queue, "!", "audioconvert", "!", "fakesink") if sound else ()
    status, out, messages = await run(
        "gst-launch-1.0", "-q", "uridecodebin", f"uri={address}", "name=d", "d.", "!", *queue, "!", "videoconvert", "!",
        f"video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT}", "!", "filesink", f"location={raw}", *heard)
    return status, (out.decode() + messages).strip(), frames_of(raw)


@pytest.mark.parametrize("track", ["main", "sub"])
@pytest.mark.parametrize(("first", "last"), [(0, 250), (37, 140), (61, 90)])
async def test_gstreamer_shows_the_pictures_of_a_clip(first, last, track, yard, maker, save, tmp_path):
    end_ns = maker.T0 + last * FRAME_NS + (3 * NS if last > 150 else 0)
    _, body = await yard.get("clip.mp4", start=maker.T0 + first * FRAME_NS, end=end_ns, track=track)
    path = save(body)
    status, said, numbers = await gstreamer(path.as_uri(), tmp_path / "raw", sound=track == "main")
    plus = 1000 if track == "sub" else 0
    assert (status, said) == (0, "")
    assert numbers == [n + plus for n in [*range(150), *range(500, 600)][first:last]]


@pytest.mark.parametrize("gaps", ["keep", "close"])
async def test_gstreamer_plays_a_playlist_over_a_gap(gaps, yard, maker, tmp_path):
    query = f"start={maker.T0}&end={maker.T0 + 20 * NS}&track=main&gaps={gaps}"
    address = yard.client.make_url(f"/api/v1/cameras/yard/hls/vod.m3u8?{query}")
    status, said, numbers = await gstreamer(address, tmp_path / "raw", sound=True)
    assert (status, said, numbers) == (0, "", [*range(150), *range(500, 600)])


@pytest.mark.parametrize(("kind", "query"), [("mp4", {}), ("mp4", {"gaps": "close"}), ("mp4", {"track": "sub"}), ("mp4", {"track": "audio"}),
                                             ("fmp4", {}), ("ts", {})])
async def test_mediainfo_finds_nothing_wrong(kind, query, yard, maker, save):
    _, body = await yard.get("clip.mp4", start=maker.T0 + 7 * FRAME_NS, end=maker.T0 + 11 * NS, format=kind, **query)
    found = await mediainfo(save(body, f"clip.{'ts' if kind == 'ts' else 'mp4'}"))
    assert "Conformance" not in json.dumps(found), found
    kinds = [one["@type"] for one in found["media"]["track"]]
    assert ("Video" in kinds, "Audio" in kinds) == (query.get("track") != "audio", query.get("track") != "sub")
    if kind == "mp4" and "Video" in kinds:
        assert int(found["media"]["track"][kinds.index("Video")]["FrameCount"]) >= 150 - 7 + 50


async def mediainfo(path: Path):
    """Its report."""
    status, out, messages = await run("mediainfo", "--Output=JSON", path)
    assert (status, messages) == (0, "")
    return json.loads(out)


@pytest.fixture
def nobody_home():
    """A folder that the user `nobody`, as whom VLC runs, can reach and write to."""
    with tempfile.TemporaryDirectory(prefix="vlc-") as name:
        shutil.chown(name, "nobody")
        yield Path(name)


async def vlc(address, folder: Path, *more):
    """What VLC says of an address that it plays to its end in its own time, the numbers of the pictures it shows, the sound it plays (WAVE)."""
    raw, wave = folder / "raw.yuv", folder / "sound.wav"
    status, out, messages = await run(
        "runuser", "-u", "nobody", "--", "env", f"HOME={folder}", "cvlc", "-I", "dummy", "-q", "--play-and-exit", "--no-osd",
        "--no-video-title-show", "-V", "yuv", "--yuv-file", raw, "--aout", "afile", "--audiofile-file", wave, "--no-drop-late-frames",
        "--no-skip-frames", *more, address)
    data = raw.read_bytes()
    step, head = WIDTH * HEIGHT * 3 // 2 + len(b"FRAME\n"), data.index(b"\n") + 1
    numbers = [pattern.read(np.frombuffer(data[at + 6:at + 6 + WIDTH * HEIGHT], np.uint8).reshape(HEIGHT, WIDTH))
               for at in range(head, len(data) - step + 1, step)]
    raw.unlink()
    return (status, out.decode(), messages), numbers, wave


async def test_vlc_plays_over_a_gap(yard, maker, nobody_home):
    """A playlist and a clip, in its own time; it shows pictures from before and after the gap, and complains of nothing."""
    query = f"start={maker.T0 + 4 * NS}&end={maker.T0 + 10 * NS}&track=main"
    for path in (f"hls/vod.m3u8?{query}", f"clip.mp4?{query}&gaps=close"):
        said, numbers, _ = await vlc(yard.client.make_url(f"/api/v1/cameras/yard/{path}"), nobody_home)
        assert said == (0, "", "")
        assert {110, 140} <= set(numbers)
        assert {510, 520} <= set(numbers)


@pytest.mark.parametrize("path", ["stream.mp4", "clip.mp4"])
async def test_vlc_plays_derived_sound_to_the_end(path, maker, volume, tmp_path, nobody_home):
    """8 s of H.264 with B-frames and G.711, of which AAC is made; then another coding, where a stream ends. VLC may keep a last picture."""
    main = volume.track(1, "main", start_ns=maker.T0)
    sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=HZ, start_ns=maker.T0)
    maker.write(main, maker.video(frames=200, bframes=2, sets=True))
    maker.write(sound, coded(maker, "alaw", 8.0))
    main.session = 2
    maker.write(main, maker.video(frames=50, width=480, height=360), t_ns=maker.T0 + 9 * NS)
    end = "" if path == "stream.mp4" else f"&end={maker.T0 + 8 * NS}"
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as api:
        address = api.client.make_url(f"/api/v1/cameras/yard/{path}?start={maker.T0}{end}&track=main&audio=aac")
        said, numbers, wave = await vlc(address, nobody_home)
    with av.open(str(wave)) as file:
        stream = file.streams.audio[0]              # VLC plays 8 kHz as 16, twice
        pcm = np.concatenate([frame.to_ndarray().reshape(-1, stream.channels) for frame in file.decode(audio=0)])
    heard = pcm[::stream.rate // HZ, 0].astype(np.float64)
    assert said == (0, "", "")
    assert {150, 180, 195} <= set(numbers)
    assert [round(pitch(heard, second + 0.3), -1) for second in range(7)] == [400 + 100 * second for second in range(7)]
