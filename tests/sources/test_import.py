"""A file is imported once, at its own time, whole, faster than it plays."""

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from recorder.base.config import CameraConfig, RetentionRule, SiteConfig, StreamConfig
from recorder.base.media import NS
from storage.store import TapeStore
from tests.session.rig import Rig
from tests.sources.oracle import decoded, nals
from tests.sources.senders import AAC, X264, content, make
from tests.worker.conftest import site
from tests.worker.recorded import ALL, packets, worker

pytestmark = pytest.mark.live
START = "2026-05-01T12:00:00Z"
START_NS = 1_777_636_800 * NS
__all__ = ["site"]


async def test_file_with_bframes_and_audio_is_recorded_at_its_time(clip: Path) -> None:
    what = content(clip)
    async with Rig(import_dir=clip.parent) as rig:
        rig.record(f"file:{clip.name}", start=START, user="", password="")
        await rig.until(lambda: rig.stream().state == "ended")
        rig.tapes.take()
        video, audio = rig.tape(), rig.tape("audio")
        assert [nals(data) for _, data in video.aus] == what.pictures
        assert [data for _, data in audio.aus] == what.sounds
        assert sorted(au["wall_ns"] for au, _ in video.aus) == [START_NS + 40_000_000 * n for n in range(200)]
        assert abs(audio.aus[0][0]["wall_ns"] - START_NS) < 50_000_000
        assert all(not au["flags"] & 16 for au, _ in video.aus), "times of a file are never provisional"
        assert len(decoded(video)) == 200
        assert (video.gaps, audio.gaps, video.names[-1]) == ([], [], "detach")


async def test_long_file_is_held_back_instead_of_overflowing_the_queue(folder: Path) -> None:
    path = await make(folder / "long.mp4", *X264, "-b:v", "3M", *AAC, seconds=120)
    async with Rig(import_dir=folder, sweep_s=0.2) as rig:
        rig.record("file:long.mp4", start=START, user="", password="")
        await rig.until(lambda: rig.stream().state == "ended")
        rig.tapes.take()
        assert [nals(data) for _, data in rig.tape().aus] == content(path).pictures
        assert len(rig.tape("audio").aus) == len(content(path).sounds)


async def test_broken_off_import_goes_on_at_the_next_access_point(folder: Path, clip: Path) -> None:
    async with Rig(import_dir=folder) as rig:
        rig.tapes.begin_at(START_NS + 2_500 * 1_000_000)
        rig.record(f"file:{clip.name}", start=START, user="", password="")
        await rig.until(lambda: rig.stream().state == "ended")
        rig.tapes.take()
        assert [nals(data) for _, data in rig.tape().aus] == content(clip).pictures[75:]
        assert rig.tape().aus[0][0]["wall_ns"] == START_NS + 3 * NS


@pytest.mark.parametrize(("name", "start", "words"), [
    ("none.mp4", START, "cannot be opened"),
    ("link.mp4", START, "cannot be opened"),
    ("clip.mp4", "", "does not say when"),
    ("broken.mp4", START, "can be read"),
    ("huge.mp4", START, "neither video nor audio"),
])
async def test_file_that_cannot_be_imported_says_why(folder: Path, clip: Path, name: str, start: str, words: str) -> None:
    (folder / "broken.mp4").write_bytes(clip.read_bytes()[:20_000])
    (folder / "huge.mp4").write_bytes(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + b"\0\0\0\1moov\0\0\0\1\0\0\0\0" + b"\xff" * 100_000)
    with contextlib.suppress(FileExistsError):
        (folder / "link.mp4").symlink_to("/etc/passwd")
    async with Rig(import_dir=folder) as rig:
        rig.record(f"file:{name}", start=start, user="", password="")
        error = await rig.failed()
        assert words in str(error)
        assert rig.tape().gaps == []


async def test_imported_file_lies_in_a_real_volume_and_is_not_imported_again(site: SiteConfig, clip: Path) -> None:
    """A second worker finds all of it there."""
    site = replace(site, recording=replace(site.recording, import_dir=clip.parent))
    camera = CameraConfig("old", StreamConfig(f"file:{clip.name}", start=START), rule=RetentionRule(days=3600))
    for _ in range(2):
        async with worker(site, {1: camera}) as client, asyncio.timeout(120):
            while (await client.call("status"))["cameras"]["old"]["state"] != "ended":
                await asyncio.sleep(0.05)
    track = TapeStore([site.volumes[0].path], site.live_dir).track(1, "main")
    assert len(packets(track)) == 200
    assert [gap.cause for gap in track.gaps(*ALL)] == []
    (span,) = track.spans(*ALL)
    assert (span.start_ns, round((span.end_ns - START_NS) / NS, 1)) == (START_NS, 8.0)
