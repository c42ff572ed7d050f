"""Random clips, playlists and seeks over all that footage may be: each picture bears its number, sound tells its time: nothing is wrong unseen.

A few in `make test`, hundreds in `make soak`.
"""

import random
import re
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import pytest

from api import cursor as cursor_module
from api import rewind as rewind_module
from api.clipplan import ClipQuery, plan
from api.cursor import Cursor, CursorQuery, Init, Part
from api.rewind import Rewind
from bench.camsim import pattern
from recorder._ext import samples as kernel
from recorder.base.config import CameraConfig, StreamConfig
from recorder.base.errors import Conflict
from recorder.base.media import NS, GapCause, TrackKind
from storage.camera_record import CameraRecord
from tests.ffmpeg import complaints
from tests.media import twin_samples

FRAME_NS = NS // 25
NEAR_S = 0.04                 # one picture
FAR = 3600                    # s
DROPPED_MAX = 16              # pictures that FFmpeg's queue is deep: it takes a count that falls by more for a new beginning


@dataclass(frozen=True)
class Shot:
    """A picture that can be shown: when, which, and whether decoding may begin with it."""

    time_ns: int
    number: int
    key: bool


@dataclass(frozen=True)
class Tone:
    """Sound recorded from `start_ns` to `end_ns`: a pitch that rises each second, or G.711 whose level says its AU."""

    start_ns: int
    end_ns: int
    codec: str


@dataclass
class Camera:
    """What a camera has recorded, in truth."""

    number: int
    name: str
    shots: list[Shot]
    tones: list[Tone]
    anew: list[int]               # first pictures of stretches of H.264 that begin with a picture that is no IDR

    def between(self, start_ns, end_ns):
        return [shot.number for shot in self.shots if start_ns <= shot.time_ns < end_ns]

    def seen(self, expected, numbers):
        """What a decoder shows of the `expected` shots if it showed `numbers`.

        After a break that ended with an open group H.264 has no name that says so (H.265: BLA), so pictures whose count is lower than that of
        the last one before it are dropped, until the counts have passed it. They are in the file; see test_clip_exact.py.
        """
        order = [shot.number for shot in expected]
        for first in (number for number in self.anew if number in order[1:]):
            at = order.index(first)
            for dropped in range(DROPPED_MAX + 1):
                if numbers[at:at + 1] == order[at + dropped:at + dropped + 1]:
                    expected, order = expected[:at] + expected[at + dropped:], order[:at] + order[at + dropped:]
                    break
        return expected


PARTS = {
    # what is recorded of it, its first AU is the first of access point `begin`; pause before it; `new`: another session
    "yard": [("aac", {}, 0, 0, True), ("aac", {"bframes": 3}, 0, 13_000_000, True),
             ("aac", {"bframes": 2, "open_gop": True, "gop": 27}, 2, 4 * NS, True),
             ("aac", {"width": 480, "height": 360, "gop": 50}, 0, 700_000_000, True), ("aac", {"bframes": 2, "gop": 10}, 0, 0, False)],
    "gate": [("alaw", {"codec": "hevc", "bframes": 3, "open_gop": True, "gop": 27}, 0, 0, True),
             ("alaw", {"codec": "hevc", "bframes": 3, "open_gop": True, "gop": 27}, 2, 2 * NS, True),
             ("alaw", {"codec": "hevc", "gop": 15, "width": 480, "height": 360}, 0, 30_000_000, True)],
}


def record(maker: Any, volume: Any, number: int, name: str) -> Camera:
    """Writes a camera's parts and returns the truth about them."""
    codec = PARTS[name][0][0]
    main = volume.track(number, "main", start_ns=maker.T0)
    sound = volume.track(number, "audio", TrackKind.AUDIO, clock_rate=48_000 if codec == "aac" else 8000, start_ns=maker.T0)
    made, at, session = Camera(number, name, [], [], []), maker.T0, 0
    for index, (_, content, begin, pause_ns, new) in enumerate(PARTS[name]):
        if pause_ns >= NS // 2:
            main.gap(pause_ns / NS, GapCause.STALL)
            sound.gap(pause_ns / NS, GapCause.STALL)
        at, session = at + pause_ns, session + new
        main.session = sound.session = session
        stream = maker.video(frames=150, first=10_000 * number + 1000 * index, sets=True, **content)
        first = [n for n, au in enumerate(stream.aus) if au.key][begin]
        maker.write(main, stream, t_ns=at, first=first)
        aus = stream.aus[first:]
        lasts_ns = len([au for au in aus if au.pts >= aus[0].pts]) * FRAME_NS
        tone = maker.audio(lasts_ns / NS, codec)
        maker.write(sound, tone, t_ns=at)
        made.tones.append(Tone(at, at + len(tone.aus) * tone.dur * NS // tone.entry.clock_rate, codec))
        made.shots += [Shot(at + (au.pts - aus[0].pts) * NS // 90_000, 10_000 * number + 1000 * index + au.pts // 3600, au.key)
                       for au in aus if au.pts >= aus[0].pts]
        if begin and content.get("codec") != "hevc":
            made.anew.append(10_000 * number + 1000 * index + aus[0].pts // 3600)
        at += lasts_ns
    made.shots.sort(key=lambda shot: shot.time_ns)
    return made


@pytest.fixture
async def site(maker, volume, tmp_path, monkeypatch):
    for module in (cursor_module, rewind_module):
        monkeypatch.setattr(module, "LEAD_S", 1e6)
    cameras = [record(maker, volume, number, name) for number, name in enumerate(PARTS, 1)]
    async with maker.Api(volume, tmp_path, maker.T0 + 600 * NS) as api:
        api.registry.replace([CameraRecord(one.number, one.name, "file", 0, CameraConfig(one.name, StreamConfig("rtsp://127.0.0.1/")), 0)
                              for one in cameras], [])
        api.cameras = cameras
        yield api


async def fetch(site, camera, path, **query):
    address = path if path.startswith("/") else f"/api/v1/cameras/{camera.name}/{path}"
    async with site.client.get(address, params={key: str(value) for key, value in query.items()}) as answer:
        return answer, await answer.read()


def shown(path):
    """Numbers and times in s of a file's pictures, and its sound as samples by time (nan: none; from the first on if that is late)."""
    numbers, times, pieces, rate = [], [], [], 1
    with av.open(str(path)) as file:
        for frame in file.decode():
            if isinstance(frame, av.VideoFrame):
                numbers.append(pattern.read(frame.to_ndarray(format="gray")))
                times.append(float(frame.pts * frame.time_base))
            else:
                rate = frame.sample_rate
                pieces.append((round(float(frame.pts * frame.time_base) * rate), frame.to_ndarray().astype(np.float64).reshape(-1)))
    zero = 0 if not pieces or pieces[0][0] < FAR * rate else pieces[0][0]        # media time of playlists begins at midnight
    pieces = [(at - zero, piece) for at, piece in pieces]
    size = max((at + len(piece) for at, piece in pieces), default=0)
    sound = np.full(max(size, 0), np.nan)
    for at, piece in pieces:
        sound[max(at, 0):at + len(piece)] = piece[max(-at, 0):]
    return numbers, times, sound, rate


# -- sound --


def alaw(byte):
    """ITU-T G.711 A-law."""
    byte ^= 0x55
    exponent, mantissa = byte >> 4 & 7, byte & 15
    value = (mantissa << 4) + 8 if exponent == 0 else (mantissa << 4) + 0x108 << exponent - 1
    return value if byte & 0x80 else -value


def check_sound(camera, sound, rate, zero_ns, end_ns):
    """What is heard of each stretch is what was recorded then, to one picture's time. Returns how many places were looked at."""
    looked = 0
    for tone in camera.tones:
        begin, stop = max(tone.start_ns, zero_ns), min(tone.end_ns, end_ns)
        if tone.codec == "aac":
            looked += _rises(tone, sound, rate, zero_ns, begin, stop)
            continue
        for time_ns in range(begin + FRAME_NS, stop - FRAME_NS, 330_000_000):
            at = int((time_ns - zero_ns) * rate / NS)
            n = (time_ns - tone.start_ns) // (NS // 50)
            assert sound[at] in {alaw(0xD5 ^ near & 0x7F) for near in (n - 1, n, n + 1)}, (tone, time_ns)
            looked += 1
    return looked


def _rises(tone, sound, rate, zero_ns, begin, stop):
    """The pitch is the lower one until just before each whole second, the higher one from just after it on."""
    looked = 0
    for second in range(1, 10):
        at = tone.start_ns + second * NS
        if begin + 100_000_000 < at < stop - 100_000_000:
            middle = int((at - zero_ns) * rate / NS)
            half, off = int(0.025 * rate), int((0.025 + NEAR_S) * rate)
            for centre, hertz in ((middle - off, 300 + 100 * second), (middle + off, 400 + 100 * second)):
                window = sound[centre - half:centre + half]
                spectrum = np.abs(np.fft.rfft(window * np.hanning(len(window)), 8 * len(window)))
                assert abs(spectrum.argmax() * rate / (8 * len(window)) - hertz) < 30, (tone, second, hertz)
                looked += 1
    return looked


# -- the questions --


def a_range(dice, camera):
    """Some range with something in it: long, short, at or between pictures, into and out of gaps."""
    begin, end = camera.shots[0].time_ns - NS, camera.shots[-1].time_ns + NS
    while True:
        one = dice.choice(camera.shots).time_ns if dice.random() < 0.4 else dice.randrange(begin, end)
        other = one + dice.choice((1, FRAME_NS, dice.randrange(1, 3 * NS), dice.randrange(1, 12 * NS)))
        if camera.between(one, other):
            return one, other


async def clip_is_exact(site, camera, dice, save):
    start_ns, end_ns = a_range(dice, camera)
    close = dice.random() < 0.3
    answer, body = await fetch(site, camera, "clip.mp4", start=start_ns, end=end_ns, gaps="close" if close else "keep")
    assert answer.status == 200
    path, expected = save(body), [shot for shot in camera.shots if start_ns <= shot.time_ns < end_ns]
    assert complaints(path, before=("-copyts",)) == ""
    numbers, times, sound, rate = shown(path)
    expected = camera.seen(expected, numbers)
    assert numbers == [shot.number for shot in expected]
    if close:
        return
    zero_ns = expected[0].time_ns
    assert times == pytest.approx([(shot.time_ns - zero_ns) / NS for shot in expected], abs=1e-3)
    check_sound(camera, sound, rate, zero_ns, expected[-1].time_ns + FRAME_NS)


async def other_formats_are_exact_from_the_access_point(site, camera, dice, save):
    start_ns, end_ns = a_range(dice, camera)
    kind = dice.choice(("fmp4", "ts"))
    audio = "source" if camera.tones[0].codec == "aac" or kind == "fmp4" else "none"
    query = {"start": start_ns, "end": end_ns, "format": kind, "audio": audio}
    answer, body = await fetch(site, camera, "clip.mp4", **query)
    if answer.status == 409 and kind == "fmp4":              # two codings: it says what works
        kind, query = "ts", {**query, "format": "ts", "audio": "none"}
        answer, body = await fetch(site, camera, "clip.mp4", **query)
    assert answer.status == 200
    path = save(body, f"clip.{kind}")
    assert complaints(path) == ""
    numbers, *_ = shown(path)
    at = numbers.index(camera.between(start_ns, end_ns)[0])
    seen = camera.seen([shot for shot in camera.shots if numbers[0] <= shot.number and shot.time_ns < end_ns], numbers)
    wanted = [shot.number for shot in seen if start_ns <= shot.time_ns]
    assert numbers[at:at + len(wanted)] == wanted
    rest = [shot for shot in camera.shots if shot.time_ns >= end_ns]
    whole = [shot.number for shot in [*(shot for shot in camera.shots if shot.number < numbers[0]), *seen, *rest]]
    begin = whole.index(numbers[0])
    assert numbers[:at + len(wanted)] == whole[begin:begin + at + len(wanted)]
    assert numbers[at + len(wanted):] == sorted(numbers[at + len(wanted):])[:4]      # what the last ones refer to
    keys = {shot.number for shot in camera.shots if shot.key}
    assert whole[begin] in keys
    assert not keys & set(whole[begin + 1:begin + at + 1])


async def playlist_is_whole(site, camera, dice, save):
    start_ns, end_ns = a_range(dice, camera)
    answer, body = await fetch(site, camera, "hls/vod.m3u8", start=start_ns, end=end_ns, gaps=dice.choice(("keep", "close")))
    assert answer.status == 200
    files, init = [], b""
    for line in body.decode().splitlines():
        if line.startswith("#EXT-X-MAP"):
            init = (await fetch(site, camera, re.search('"(.+)"', line)[1]))[1]
            files.append(init)
        elif line == "#EXT-X-DISCONTINUITY":
            files.append(init)
        elif not line.startswith("#"):
            files[-1] += (await fetch(site, camera, line))[1]
    numbers = []
    for file in (one for one in files if b"moof" in one):
        path = save(file)
        assert complaints(path) == ""
        numbers += shown(path)[0]
    seen = camera.seen([shot for shot in camera.shots if numbers[0] <= shot.number], numbers)
    wanted, whole = [shot.number for shot in seen if start_ns <= shot.time_ns < end_ns], [shot.number for shot in seen]
    begin = whole.index(numbers[0])
    assert numbers == whole[begin:begin + len(numbers)]
    assert numbers.index(wanted[0]) <= 2 * 55
    assert set(wanted) <= set(numbers)


async def seek_shows_what_belongs_there(site, camera, dice, save):
    start_ns, _ = a_range(dice, camera)
    speed = dice.choice((1.0, 0.5, 2.0, 8.0, 64.0, -1.0, -16.0))
    query = CursorQuery(camera.number, start_ns=start_ns, speed=speed, scaled=True)
    data, shot_at = b"", [shot for shot in camera.shots if shot.time_ns <= start_ns]
    async with aclosing((Cursor if speed > 0 else Rewind)(site.media, query).events()) as events:
        async for event in events:
            data += event.data if isinstance(event, Init | Part) else b""
            if isinstance(event, Part) and data.count(b"moof") >= (1 if speed > 0 else 3):     # what follows may not be recorded
                break
    numbers = shown(save(data))[0] if data else []
    keys = [shot for shot in camera.shots if shot.key]
    if speed < 0:
        wanted = [shot.number for shot in keys if shot.time_ns <= start_ns][::-1]
        assert numbers == wanted[:len(numbers)]
        assert bool(numbers) == bool(shot_at)
        return
    later = [shot for shot in camera.shots if shot.time_ns >= start_ns]
    first = [shot for shot in keys if shot.time_ns <= later[0].time_ns][-1]
    source = keys if abs(speed) >= 4 else camera.shots
    wanted = [shot.number for shot in camera.seen([shot for shot in source if shot.time_ns >= first.time_ns], numbers)]
    # Decoders order pictures by counts that wrap; where all between two access points are left out, two of open GOPs may come out swapped.
    assert (numbers if source is camera.shots else sorted(numbers)) == wanted[:len(numbers)]
    assert numbers


QUESTIONS = (clip_is_exact, clip_is_exact, other_formats_are_exact_from_the_access_point, playlist_is_whole, seek_shows_what_belongs_there)


async def ask(site, save, count, seed, only=None):
    """Asks `count` questions. Dice of each are its own: question n of a seed is the same whatever was asked before, also alone (`only`)."""
    for number in range(count) if only is None else (only,):
        dice = random.Random(f"{seed}/{number}")
        question, camera = dice.choice(QUESTIONS), dice.choice(site.cameras)
        try:
            await question(site, camera, dice, save)
        except AssertionError as error:
            raise AssertionError(f"question {number} of seed {seed} ({question.__name__}, {camera.name}): {error}") from error


async def test_random_questions_are_answered_right(site, save):
    await ask(site, save, 16, 1)


def test_heads_are_those_without_kernels(site, monkeypatch):
    """Byte for byte what numpy makes of the same footage."""
    dice, made = random.Random(11), []
    asked = []
    for _ in range(60):
        camera = dice.choice(site.cameras)
        start_ns, end_ns = a_range(dice, camera)
        asked.append(ClipQuery(camera.number, "main", start_ns, end_ns, close_gaps=dice.random() < 0.4,
                               format=dice.choice(("mp4", "mp4", "fmp4"))))

    def heads():
        for query in asked:
            try:
                found = plan(site.media.store, query, query.end_ns + NS)
                made.append((found.etag, found.movie.head, found.shown[0].frames, found.shown[0].end_ns))
            except Conflict as error:
                made.append(str(error))

    heads()
    for name in ("place", "decodable", "reached", "sounding", "smooth", "steps", "chunks", "runs", "words"):
        monkeypatch.setattr(kernel, name, getattr(twin_samples, name))
    heads()
    assert made[:60] == made[60:]
    assert len({one[0] for one in made}) > 30


async def test_sound_is_looked_at(site, maker, save):
    """The check of sound finds sound: else it could not fail."""
    for camera in site.cameras:
        _, body = await fetch(site, camera, "clip.mp4", start=maker.T0, end=maker.T0 + 60 * NS)
        _, times, sound, rate = shown(save(body))
        assert check_sound(camera, sound, rate, maker.T0, maker.T0 + 60 * NS) >= 20
        with pytest.raises(AssertionError):
            check_sound(camera, sound[rate // 10:], rate, maker.T0, maker.T0 + 60 * NS)
        assert times


@pytest.mark.soak
async def test_hundreds_of_random_questions(site, save, questions, seed, question):
    await ask(site, save, questions, seed, question)
