"""A camera whose footage lies on two volumes is shown, sent and listed as one."""

import re

import numpy as np
import pytest

from api.cursor import Cursor, CursorQuery, GapHere, Init, Part
from api.wanted import find
from recorder.base.media import NS, SampleEntry, TrackKind


@pytest.fixture
async def moved(maker, volume, second, tmp_path):
    """Pictures 0-99 on the first volume, 100-199 on the second after a second without any, 200-299 on the first again, sound beside them."""
    stream, sound = maker.video(frames=300, gop=25), maker.audio(14.0)
    tapes = [(each.track(1, "main", start_ns=maker.T0), each.track(1, "audio", TrackKind.AUDIO, clock_rate=48_000, start_ns=maker.T0))
             for each in (volume, second)]
    for part, place in enumerate((0, 1, 0)):
        main, audio = tapes[place]
        begin_ns = maker.T0 + 4 * NS * part + (NS if part else 0)
        main.session = audio.session = part + 1
        maker.write(main, stream, first=100 * part, stop=100 * part + 100, t_ns=begin_ns)
        first = np.searchsorted([au.dts for au in sound.aus], (begin_ns - maker.T0) * 48_000 // NS)
        maker.write(audio, sound, first=int(first), stop=int(first) + 187, t_ns=begin_ns)
    async with maker.Api(volume, tmp_path, maker.T0 + 3600 * NS, second) as api:
        api.stream = stream
        yield api


async def test_a_clip_holds_every_picture_once_in_order(moved, maker, save):
    answer, body = await moved.get("clip.mp4", start=maker.T0, end=maker.T0 + 20 * NS)
    assert (answer.status, answer.headers["Watchroom-Frames"]) == (200, "300")
    decoded = maker.decode(save(body))
    assert (decoded.numbers, decoded.messages) == (list(range(300)), "")
    assert decoded.times[100] - decoded.times[99] == pytest.approx(1.04, abs=0.001)
    assert len(decoded.sound) / 48_000 == pytest.approx(12.0, abs=0.1)


async def test_part_of_a_clip_is_the_same_bytes(moved, maker):
    _, whole = await moved.get("clip.mp4", start=maker.T0 + 3 * NS, end=maker.T0 + 10 * NS)
    for start in range(0, len(whole), len(whole) // 7):
        _, part = await moved.get("clip.mp4", {"Range": f"bytes={start}-{start + 4999}"}, start=maker.T0 + 3 * NS, end=maker.T0 + 10 * NS)
        assert part == whole[start:start + 5000]


async def test_a_playlist_goes_from_volume_to_volume(moved, maker, save):
    answer, body = await moved.get("hls/vod.m3u8", start=maker.T0, end=maker.T0 + 20 * NS, gaps="close")
    text = body.decode()
    assert (answer.status, text.count("#EXT-X-MAP"), text.count("#EXT-X-DISCONTINUITY")) == (200, 3, 2)
    numbers, init = [], b""
    for line in text.splitlines():
        address = re.search('URI="(.+)"', line)[1] if line.startswith("#EXT-X-MAP") else line
        if line.startswith("#") and not line.startswith("#EXT-X-MAP"):
            continue
        async with moved.client.get(address) as found:
            assert found.status == 200, address
            data = await found.read()
        if line.startswith("#"):
            init = data
        else:
            numbers += maker.decode(save(init + data)).numbers
    assert numbers == list(range(300))


@pytest.mark.parametrize(("at_s", "number"), [(0.5, 12), (3.98, 99), (5.02, 100), (8.99, 199), (9.02, 200), (12.99, 299)])
async def test_the_picture_of_a_time(moved, maker, at_s, number):
    wanted = find(moved.store.whole(1, "main"), maker.T0 + round(at_s * NS))
    offset, size = int(wanted.offset[-1]), int(wanted.size[-1])
    reader, got = moved.store.tape(wanted.camera, wanted.track, wanted.place), bytearray(size)
    with reader.open_chunk(reader.chunk_of(offset)) as lease:
        assert lease.read(got, offset) == size
    assert bytes(got) == moved.stream.aus[number].data


async def test_playback_goes_on_where_the_track_does(moved, maker):
    """Three stretches, each from its own tape, with the gap between the first two told."""
    cursor = Cursor(moved.media, CursorQuery(1, start_ns=maker.T0 + NS, speed=100.0, keys=False, audio=frozenset()))
    cursor._keys = False                     # at this pace only key pictures would be shown
    inits, newest, gaps = [], [], []
    events = cursor.events()
    async for event in events:
        match event:
            case Init():
                inits.append(event.wall_ns)
            case Part():
                newest.append(event.newest_ns)
            case GapHere():
                gaps.append((event.start_ns - maker.T0) // NS)
        if newest and newest[-1] >= maker.T0 + 12 * NS + 900_000_000:
            break
    await events.aclose()
    assert [round((ns - maker.T0) / NS) for ns in inits] == [1, 5, 9]
    assert gaps == [4]
    assert newest == sorted(newest)


async def test_a_live_viewer_follows_to_the_other_volume(moved, maker, second):
    """The newest footage is on the first volume; then it comes on the second."""
    cursor = Cursor(moved.media, CursorQuery(1))
    events, inits = cursor.events(), []
    async for event in events:
        if isinstance(event, Init):
            inits.append(event.wall_ns)
            if len(inits) == 2:
                break
        elif isinstance(event, Part) and len(inits) == 1 and event.newest_ns >= maker.T0 + 12 * NS + 900_000_000:
            main = next(track for track in second.tracks if track.name == "main")
            main.session = 9
            maker.write(main, moved.stream, stop=50, t_ns=maker.T0 + 20 * NS)
    await events.aclose()
    assert round((inits[1] - maker.T0) / NS) == 20


async def test_documents_of_both_volumes(maker, volume, second, tmp_path):
    tracks = [each.track(1, "metadata", TrackKind.METADATA, start_ns=maker.T0) for each in (volume, second)]
    for index, track in enumerate(tracks):
        aus = tuple(maker.Au(f"<a n='{index}-{n}'/>".encode(), n * 90_000, n * 90_000, True) for n in range(5))
        stream = maker.Stream(SampleEntry("metx", b"vnd.onvif.metadata", 90_000), aus, 90_000)
        maker.write(track, stream, t_ns=maker.T0 + 10 * index * NS)
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS, second) as api:
        answer, _ = await api.get("metadata", start=maker.T0, end=maker.T0 + 60 * NS)
        items = (await answer.json())["items"]
    assert [item["text"] for item in items] == [f"<a n='{index}-{n}'/>" for index in (0, 1) for n in range(5)]
