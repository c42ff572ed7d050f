"""Debian's Chromium plays clips, streams and playlists without a word: by address, by Media Source Extensions, by hls.js and by itself."""

import re
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from recorder.base.media import NS, GapCause, TrackKind
from tests.browser.conftest import ARGUMENTS, CHROMIUM, PATTERN

pytestmark = pytest.mark.browser

HERE = Path(__file__).parent
CODECS = "avc1.64001f,mp4a.40.2"
SEEKS = (0.5, 3.26, 5.94, 9.02, 11.5, 13.02, 16.9, 4.02, 10.26, 0.02)     # forwards, backwards, beside every break; the middle of a picture
PLAIN, CLOSED, OPEN = {"bframes": 0}, {"bframes": 2}, {"bframes": 3, "open_gop": True, "gop": 27}
RANGES = "[...Array(video.buffered.length).keys()].map((n) => [video.buffered.start(n), video.buffered.end(n)])"
NATIVE = "application/vnd.apple.mpegurl"


def number_at(seconds: float) -> int:
    """The picture that stands at a time after T0 (`yard`)."""
    for begins, first in ((13, 700), (9, 500), (0, 0)):
        if seconds >= begins:
            return first + min(int((seconds - begins) * 25 + 1e-3), 149)
    raise ValueError(seconds)


@pytest.fixture
async def yard(maker, volume, tmp_path, request):
    """6 s of H.264 and AAC, a gap of 3 s, 4 s of it, and 4 s more with a larger picture: other parameter sets. Coded as `request.param`."""
    content = getattr(request, "param", CLOSED)
    main, sound = volume.track(1, "main", start_ns=maker.T0), volume.track(1, "audio", TrackKind.AUDIO, clock_rate=48_000, start_ns=maker.T0)
    for session, frames, first, size in ((1, 150, 0, (320, 240)), (2, 100, 500, (320, 240)), (3, 100, 700, (480, 360))):
        main.session = sound.session = session
        start_ns = maker.T0 + {1: 0, 2: 9, 3: 13}[session] * NS
        maker.write(main, maker.video(frames=frames, first=first, sets=True, **content, width=size[0], height=size[1]), t_ns=start_ns)
        maker.write(sound, maker.audio(frames / 25), t_ns=start_ns)
        if session == 1:
            main.gap(3.0, GapCause.STALL)
            sound.gap(3.0, GapCause.STALL)
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as api:
        yield api


def complains(message):
    """Not of the icon, which a browser asks for beside any address that is no page of ours."""
    return message.type in {"error", "warning"} and not message.location["url"].endswith("/favicon.ico")


@pytest.fixture
async def page(yard):
    """A page of the server's origin that can play; at its end nothing has been complained about."""
    said: list[str] = []
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = await running.new_context(bypass_csp=True)
        opened = await context.new_page()
        opened.on("console", lambda message: said.append(f"{message.text} {message.location['url']}") if complains(message) else None)
        opened.on("pageerror", lambda error: said.append(str(error)))
        await opened.goto(str(yard.client.make_url("/healthz")))
        await opened.set_content("<!doctype html><title>Player</title>")
        for script in (PATTERN, HERE / "hlsjs/hls.light.min.js", HERE / "player.js"):
            await opened.add_script_tag(path=script)
        yield opened
        await running.close()
    assert said == []


def address(maker, path, start_s=0.0, end_s=17.0, **query):
    """A path of the camera's, over seconds after T0."""
    more = "".join(f"&{name}={value}" for name, value in query.items())
    end = "" if end_s is None else f"&end={maker.T0 + round(end_s * NS)}"
    return f"/api/v1/cameras/yard/{path}?start={maker.T0 + round(start_s * NS)}{end}{more}"


async def after_seeks(page, opening, seconds):
    """The numbers on screen after seeks in a video that `opening` (JavaScript) makes."""
    return await page.evaluate(f"""async (seconds) => {{
        const video = await {opening};
        const numbers = [];
        for (const time of seconds) numbers.push(await numberAt(video, time));
        if (video.errors?.length) throw new Error(video.errors.join());
        return numbers;
    }}""", seconds)


async def while_playing(page, opening, begin, end):
    """[media time, number] of what is shown from media time `begin` to `end`."""
    return await page.evaluate(f"""async ([begin, end]) => {{
        const video = await {opening};
        if (begin !== null) await numberAt(video, begin);
        const seen = await played(video, end);
        if (video.errors?.length) throw new Error(video.errors.join());
        return seen;
    }}""", [begin, end])


def test_numbers_of_this_file():
    assert [number_at(s) for s in (0, 5.99, 6.5, 9, 12.99, 13, 16.99)] == [0, 149, 149, 500, 599, 700, 799]


async def test_a_clip_by_its_address(page, maker):
    """Each seek shows the picture of its instant, over the gap and the change of parameter sets; the gap is bridged by the picture before."""
    opening = f"bySource({address(maker, 'clip.mp4', track='main')!r})"
    assert await after_seeks(page, opening, SEEKS) == [number_at(s) for s in SEEKS]


async def test_a_clip_with_closed_gaps_plays_through(page, maker):
    """From before the gap to its end: only pictures of their instants, from all three stretches, and sound with them."""
    opening = f"bySource({address(maker, 'clip.mp4', start_s=4.0, gaps='close', track='main')!r})"
    seen = await while_playing(page, opening, 0.02, 99)
    assert {number // 100 for _, number in seen} == {1, 5, 7}
    assert off(seen, lambda t: number_at(t + 4 if t < 2 else t + 7)) == []
    assert await page.evaluate("() => document.querySelector('video').webkitAudioDecodedByteCount") > 0


def off(seen, expected, lasts_s=0.04):
    """What was shown at another instant than its own; a screen may already have one of the next two pictures when it is read."""
    return [(time, number) for time, number in seen if number not in {expected(time + lasts_s * (n + 0.5)) for n in range(3)}]


async def test_fragments_by_media_source(page, maker):
    """An fMP4 clip begins at the access point before its start. Media Source Extensions know no edit list: its first picture is at 0."""
    path = address(maker, "clip.mp4", start_s=3.2, end_s=12.9, format="fmp4", track="main")
    assert await after_seeks(page, f"byMediaSource({path!r}, {CODECS!r})", [0.1, 2.5, 6.1, 7.5, 1.26]) == [
        number_at(3 + s) for s in (0.1, 2.5, 6.1, 7.5, 1.26)]


@pytest.mark.parametrize("speed", [1, 2, 0.5])
async def test_a_stream_by_media_source(speed, page, maker):
    """stream.mp4 from a time at a speed, appended as it comes: at each instant its picture, counted from the time that the answer names."""
    path, codecs = address(maker, "stream.mp4", start_s=4.0, end_s=None, track="main", speed=speed), CODECS if speed == 1 else "avc1.64001f"
    seen = await while_playing(page, f"byMediaSource({path!r}, {codecs!r}, 30_000)", None, 0.9)
    start_s = (await page.evaluate("() => document.querySelector('video').startMs") - maker.T0 / 1e6) / 1000
    seen = [(time, number) for time, number in seen if start_s + time * speed < 5.8]      # after that the gap, which takes no time
    assert len(seen) > 3
    assert off(seen, lambda t: number_at(start_s + t * speed), 0.04 / speed) == []


@pytest.mark.parametrize("yard", [CLOSED, OPEN], indirect=True)
async def test_a_stream_of_b_frames_begins_with_its_first_picture(page, maker):
    """Media time 0 is the picture of `Watchroom-Start`, and nothing is missing up to where the coding changes: there the stream ends."""
    path = address(maker, "stream.mp4", start_s=4.0, end_s=None, track="main", audio="none")
    seen = await while_playing(page, f"byMediaSource({path!r}, 'avc1.64001f')", None, 99)
    start_s = (await page.evaluate("() => document.querySelector('video').startMs") - maker.T0 / 1e6) / 1000
    assert off(seen, lambda t: number_at(start_s + t if t < 6 - start_s else start_s + t + 3)) == []
    assert {number // 100 for _, number in seen} >= {1, 5}
    (range_s,) = await buffered(page)
    assert range_s == pytest.approx([0, 10 - start_s], abs=0.025)


@pytest.mark.parametrize("yard", [PLAIN, CLOSED, OPEN], indirect=True)
@pytest.mark.parametrize("gaps", ["keep", "close"])
async def test_a_playlist_by_hls_js(gaps, page, maker):
    """A gap (EXT-X-GAP or a discontinuity) and another init segment: seeks beside them show the pictures of their instants."""
    plus = {"keep": 0.0, "close": 3.0}[gaps]
    seconds = [s for s in SEEKS if not 5.9 <= s < 9]       # Media Source Extensions wait for more, less than 0.06 s before a hole
    asked = [s if s < 6 else s - plus for s in seconds]
    path = address(maker, "hls/vod.m3u8", gaps=gaps, track="main")
    assert await after_seeks(page, f"byHlsJs({path!r})", asked) == [number_at(s) for s in seconds]


async def buffered(page):
    """What the video that plays holds: [from, to] in media time."""
    return await page.evaluate(f"() => {{ const video = document.querySelector('video'); return {RANGES}; }}")


@pytest.mark.parametrize("yard", [PLAIN, CLOSED, OPEN], indirect=True)
async def test_a_playlist_plays_through_by_hls_js(page, maker):
    """To its end, over both breaks, which leave no hole; it tells the wall clock's time of each picture (EXT-X-PROGRAM-DATE-TIME).

    With B-frames it showed pictures later than their time, stood still at each break, and did not end: it takes the first decode time of what
    follows a discontinuity for the time at which the playlist says that its first picture is shown.
    """
    path = address(maker, "hls/vod.m3u8", start_s=4.0, gaps="close", track="main")
    text = await page.evaluate("async (path) => (await fetch(path)).text()", path)
    begin_s = 4.0 - (float(re.search(r"TIME-OFFSET=([\d.]+)", text)[1]) if "TIME-OFFSET" in text else 0.0)
    seen = await while_playing(page, f"byHlsJs({path!r})", 1.0, 99)
    assert {number // 100 for _, number in seen} == {1, 5, 7}
    assert off(seen, lambda t: number_at(t + begin_s if t < 6 - begin_s else t + begin_s + 3)) == []
    (range_s,) = await buffered(page)
    assert range_s == pytest.approx([0, 14 - begin_s], abs=0.025)
    date_ms = await page.evaluate("""async () => {
        const video = document.querySelector('video');
        await numberAt(video, 6.5);
        return [video.hls.playingDate.getTime(), numberOf(video)];
    }""")
    assert number_at((date_ms[0] - maker.T0 / 1e6) / 1000) == date_ms[1]


@pytest.mark.parametrize("gaps", ["keep", "close"])
async def test_a_playlist_by_the_browser_itself(gaps, page, maker):
    """Chromium's own player of HLS gives a gap no time, EXT-X-GAP or not; each picture is at the place that it has with gaps closed."""
    assert await page.evaluate(f"() => document.createElement('video').canPlayType('{NATIVE}')") == "maybe"
    seconds = [s for s in SEEKS if not 6 <= s < 9]
    asked = [s if s < 6 else s - 3 for s in seconds]
    path = address(maker, "hls/vod.m3u8", gaps=gaps, track="main")
    assert await after_seeks(page, f"bySource({path!r})", asked) == [number_at(s) for s in seconds]

