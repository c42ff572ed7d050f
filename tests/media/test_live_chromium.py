"""Debian's Chromium plays what is just being recorded, as low-latency HLS, with hls.js and by itself."""

from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from tests.browser.conftest import ARGUMENTS, CHROMIUM, PATTERN

pytestmark = pytest.mark.browser

HERE = Path(__file__).parent
FPS, SECONDS = 25, 8


async def shown(api, player):
    """[UTC in s, number] of the pictures that the screen got, what was complained of, and the lag that the player knows of."""
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = await (await running.new_context(bypass_csp=True)).new_page()
        await page.goto(str(api.client.make_url("/healthz")))
        await page.set_content("<!doctype html><title>Player</title>")
        for script in (PATTERN, HERE / "hlsjs/hls.light.min.js", HERE / "player.js"):
            await page.add_script_tag(path=script)
        found = await page.evaluate(f"""async () => {{
            const video = await {player}("/api/v1/cameras/yard/hls/live.m3u8?track=main");
            const seen = await live(video, {SECONDS});
            return [seen, video.errors ?? [], video.hls?.latency ?? 0];
        }}""")
        await running.close()
    return found


@pytest.mark.parametrize("growing", [0, 2], indirect=True)
@pytest.mark.parametrize("player", ["byHlsJs", "bySource"])
async def test_chromium_shows_what_has_just_come(player, growing, record_property):
    """By hls.js, and by itself: no picture but rising ones, none from behind the last segment's start, and no complaint but of a machine that
    stood still."""
    api, since_s = growing
    seen, errors, latency_s = await shown(api, player)
    assert [error for error in errors if "bufferStalledError" not in error] == []
    numbers = [number for _, number in seen if number is not None]
    assert len(set(numbers)) > SECONDS * FPS // 2
    assert numbers == sorted(numbers)
    late = sorted(at_s - since_s - number / FPS for at_s, number in seen if number is not None)
    record_property("s from picture to screen, p50", round(late[len(late) // 2], 2))
    record_property("hls.js says", round(latency_s, 2))
