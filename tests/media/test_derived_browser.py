"""Debian's Chromium plays derived sound of playlists and streams; the camera's G.711 it refuses."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from recorder.base.media import NS, TrackKind
from tests.browser.conftest import ARGUMENTS, CHROMIUM, PATIENCE_MS
from tests.media.test_derived import HZ, coded

pytestmark = pytest.mark.browser
APPEND = """async ([files, type]) => {
  const source = new MediaSource(), video = document.createElement("video");
  video.src = URL.createObjectURL(source);
  await new Promise(done => source.addEventListener("sourceopen", done, {once: true}));
  const buffer = source.addSourceBuffer(type);
  for (const file of files) {
    const data = await (await fetch(file)).arrayBuffer();
    await new Promise((done, fail) => {
      Object.assign(buffer, {onupdateend: done, onerror: () => fail("refused: " + file)});
      buffer.appendBuffer(data);
    });
  }
  source.endOfStream();
  const ranges = [...Array(buffer.buffered.length).keys()].map(n => [buffer.buffered.start(n), buffer.buffered.end(n)]);
  video.currentTime = ranges[0][0] + 1;
  await video.play();
  window.video = video;
  return ranges;
}"""


@pytest.fixture
async def yard(maker: Any, volume: Any, tmp_path: Any) -> AsyncIterator[Any]:
    """10 s of H.264 with G.711."""
    maker.write(volume.track(1, "main", start_ns=maker.T0), maker.video(frames=250, bframes=2))
    sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=HZ, start_ns=maker.T0)
    maker.write(sound, coded(maker, "alaw", 10.0))
    sound.gap(9.0)
    async with maker.Api(volume, tmp_path, maker.T0 + 3600 * NS) as api:
        yield api


@pytest.fixture
async def page(yard: Any) -> AsyncIterator[Page]:
    """A page of the server's own."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        opened = await browser.new_page()
        await opened.goto(str(yard.client.make_url("/docs")))
        yield opened
        await browser.close()


async def test_segments_play_with_sound(yard: Any, page: Page, maker: Any) -> None:
    _, body = await yard.get("hls/vod.m3u8", start=maker.T0, end=maker.T0 + 10 * NS, audio="aac")
    lines = body.decode().splitlines()
    (init,) = (line.split('"')[1] for line in lines if line.startswith("#EXT-X-MAP"))
    files = [init, *(line for line in lines if "/rows/" in line)]
    async with yard.client.get(init) as answer:
        kind = answer.headers["Content-Type"]
    assert "mp4a.40.2" in kind
    ((begin, end),) = await page.evaluate(APPEND, [files, kind])
    assert begin == pytest.approx(maker.T0 // NS % 86_400, abs=0.2)
    assert end - begin == pytest.approx(10.0, abs=0.3)
    await page.wait_for_function(f"() => video.currentTime > {begin + 4}", timeout=PATIENCE_MS)
    assert await page.evaluate("() => video.webkitAudioDecodedByteCount") > 0
    assert await page.evaluate("() => video.error") is None


async def test_sound_as_the_camera_sends_it_is_refused(yard: Any, page: Page, maker: Any) -> None:
    _, body = await yard.get("hls/vod.m3u8", start=maker.T0, end=maker.T0 + 10 * NS)
    init = next(line.split('"')[1] for line in body.decode().splitlines() if line.startswith("#EXT-X-MAP"))
    async with yard.client.get(init) as answer:
        assert not await page.evaluate("type => MediaSource.isTypeSupported(type)", answer.headers["Content-Type"])


async def test_a_stream_plays_with_sound(yard: Any, page: Page, maker: Any) -> None:
    address = f"/api/v1/cameras/yard/stream.mp4?start={maker.T0}&audio=aac"
    await page.evaluate("""address => {
      window.video = document.createElement("video");
      video.src = address;
      return video.play();
    }""", address)
    await page.wait_for_function("() => video.currentTime > 3 && video.webkitAudioDecodedByteCount > 0", timeout=PATIENCE_MS)
    assert await page.evaluate("() => video.error") is None
