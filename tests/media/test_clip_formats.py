"""A clip as fragmented MP4, transport stream and WebM: pictures from the access point on, any part of its bytes, refusals."""

import struct

import numpy as np
import pytest

from api import cursor as cursor_module
from api.ts.elementary import coding, delimiter_bytes, to_annex_b
from api.ts.packets import PACKET, packetise, packets_of
from recorder.base.errors import Conflict
from recorder.base.media import NS, GapCause, SampleEntry, TrackKind
from recorder.rtp.audio import opus_config

FRAME_NS = NS // 25
CONTENT = {
    "h264": {}, "h264-b": {"bframes": 3}, "h264-open": {"bframes": 2, "open_gop": True, "gop": 27}, "hevc": {"codec": "hevc"},
    "hevc-open": {"codec": "hevc", "bframes": 3, "open_gop": True, "gop": 27},
}


@pytest.fixture
async def api(maker, volume, tmp_path):
    async with maker.Api(volume, tmp_path, maker.T0 + 600 * NS) as made:
        made.main = volume.track(1, "main", start_ns=maker.T0)
        made.sound = lambda rate=48_000: volume.track(1, "audio", TrackKind.AUDIO, clock_rate=rate, start_ns=maker.T0)
        yield made


@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize("kind", ["fmp4", "ts"])
async def test_pictures_from_the_access_point_to_the_end_of_the_range(kind, name, api, maker, save):
    content = {"gop": 25, **CONTENT[name]}
    maker.write(api.main, maker.video(frames=250, **content))
    maker.write(api.sound(), maker.audio(10.0))
    for first, last in ((0, 250), (37, 151), (130, 140), (25, 26)):
        answer, body = await api.get("clip.mp4", start=maker.T0 + first * FRAME_NS, end=maker.T0 + last * FRAME_NS, format=kind)
        assert (answer.status, len(body)) == (200, int(answer.headers["Content-Length"]))
        got = maker.decode(save(body, f"clip.{kind}"))
        assert got.messages == ""
        begin = got.numbers[0]
        assert begin == first // content["gop"] * content["gop"]
        assert got.numbers[:last - begin] == list(range(begin, last))
        assert len(got.numbers) <= last - begin + 4          # what the last ones refer to
        assert answer.headers["Watchroom-Start"].endswith(f"{begin * FRAME_NS % NS:09d}Z")
        assert np.diff(got.times[:last - begin]) == pytest.approx(0.04, abs=1e-3)
        assert abs(len(got.sound) / 48_000 - (last - begin) / 25) < 4 * 1024 / 48_000
        assert abs(got.sound_start - got.times[0]) < 0.12


@pytest.mark.parametrize("kind", ["fmp4", "ts"])
async def test_any_part_of_it_is_the_same_bytes(kind, api, maker):
    maker.write(api.main, maker.video(frames=250, bframes=2))
    maker.write(api.sound(), maker.audio(10.0))
    query = {"start": maker.T0 + NS, "end": maker.T0 + 9 * NS, "format": kind}
    whole, body = await api.get("clip.mp4", **query)
    head, _ = await api.get("clip.mp4", method="HEAD", **query)
    assert (head.headers["ETag"], head.headers["Content-Length"]) == (whole.headers["ETag"], str(len(body)))
    for start in [*range(0, len(body), len(body) // 23), len(body) - 1]:
        _, part = await api.get("clip.mp4", {"Range": f"bytes={start}-{start + 1999}", "If-Range": whole.headers["ETag"]}, **query)
        assert part == body[start:start + 2000], start
    tags = {(await api.get("clip.mp4", method="HEAD", **{**query, "format": other}))[0].headers["ETag"] for other in ("mp4", "fmp4", "ts")}
    assert len(tags) == 3


@pytest.mark.parametrize(("kind", "other"), [("fmp4", {}), ("ts", {}), ("ts", {"width": 480, "height": 360})])
async def test_gaps_and_other_codings_in_it(kind, other, api, maker, save):
    maker.write(api.main, maker.video(frames=75, bframes=2))
    api.main.gap(5.0, GapCause.STALL)
    api.main.session = 2
    maker.write(api.main, maker.video(frames=75, first=500, bframes=2, **other))
    for gaps, pause_s in (("keep", 5.04), ("close", 0.04)):
        _, body = await api.get("clip.mp4", start=maker.T0, end=maker.T0 + 20 * NS, format=kind, gaps=gaps)
        got = maker.decode(save(body, f"{gaps}.{kind}"))
        assert (got.messages, got.numbers) == ("", [*range(75), *range(500, 575)])
        assert got.times[75] - got.times[74] == pytest.approx(pause_s, abs=0.09)


@pytest.mark.parametrize("kind", ["mp4", "fmp4", "ts", "hls", "stream"])
async def test_a_session_that_begins_with_a_cra_picture_is_in_order(kind, api, maker, save, monkeypatch):
    """Decoders would place it, and what follows, by the picture counts of the session before: some came too early, or in no order."""
    whole = maker.video(codec="hevc", frames=150, bframes=3, open_gop=True, gop=27)
    first = [n for n, au in enumerate(whole.aus) if au.key][3]
    maker.write(api.main, whole, stop=100)
    api.main.gap(1.0, GapCause.STALL)
    api.main.session = 2
    maker.write(api.main, whole, first=first)
    seen = sorted(au.pts // 3600 for au in whole.aus[:100] if au.pts // 3600 <= 99)
    later = list(range(81, 150))
    if kind == "hls":
        _, text = await api.get("hls/vod.m3u8", start=maker.T0, end=maker.T0 + 20 * NS)
        addresses = [line.removeprefix('#EXT-X-MAP:URI="').removesuffix('"') for line in text.decode().splitlines()
                     if line.startswith("#EXT-X-MAP") or not line.startswith("#")]
        body = b""
        for address in addresses:
            async with api.client.get(address) as answer:
                body += await answer.read()
    elif kind == "stream":
        monkeypatch.setattr(cursor_module, "LEAD_S", 1e6)
        body = b""
        async with api.client.get("/api/v1/cameras/yard/stream.mp4", params={"start": str(maker.T0)}) as answer:
            while body.count(b"moof") < 7 and (piece := await answer.content.readany()):
                body += piece
            answer.close()
        body = body[:body.rindex(b"moof") - 4]      # the last fragment may not be whole
    else:
        _, body = await api.get("clip.mp4", start=maker.T0, end=maker.T0 + 20 * NS, format=kind)
    got = maker.decode(save(body, f"x.{'ts' if kind == 'ts' else 'mp4'}"))
    assert got.messages == ""
    cut = got.numbers.index(81, 90)
    assert set(seen) - set(range(96, 100)) <= set(got.numbers[:cut])
    assert got.numbers[:cut] == sorted(got.numbers[:cut])
    assert got.numbers[cut:] == later[:len(got.numbers) - cut]
    assert len(got.numbers) - cut > 20


async def test_fragments_do_not_go_over_another_coding(api, maker):
    """FFmpeg does not follow the sample entry of a fragment, so it is said before."""
    maker.write(api.main, maker.video(frames=75))
    api.main.session = 2
    maker.write(api.main, maker.video(frames=75, first=500, width=480, height=360))
    answer, _ = await api.get("clip.mp4", start=maker.T0, end=maker.T0 + 20 * NS, format="fmp4")
    assert (answer.status, "format=mp4 or ts" in (await answer.json())["detail"]) == (409, True)


@pytest.mark.parametrize("change", [{"width": 480, "height": 360}, {"codec": "hevc"}])
async def test_a_coding_beside_the_range_is_nothing_to_it(change, api, maker, save):
    """The rows of 2 s around a clip are looked at: that another coding begins or ends there refused it."""
    maker.write(api.main, maker.video(frames=75))
    api.main.session = 2
    maker.write(api.main, maker.video(frames=75, first=500, **change))
    for start_s, end_s, numbers in ((0.4, 2.8, range(75)), (4.0, 6.0, range(500, 575))):
        bounds = {"start": maker.T0 + int(start_s * NS), "end": maker.T0 + int(end_s * NS)}
        answer, body = await api.get("clip.mp4", **bounds, format="fmp4", track="main")
        assert answer.status == 200, body
        got = maker.decode(save(body))
        assert (got.messages, set(got.numbers) <= set(numbers), len(got.numbers) > 40) == ("", True, True)


async def test_sound_alone(api, maker, save):
    maker.write(api.sound(), maker.audio(10.0))
    for kind, media_type in (("mp4", "audio/mp4"), ("fmp4", "audio/mp4"), ("ts", "video/mp2t")):
        answer, body = await api.get("clip.mp4", start=maker.T0 + NS, end=maker.T0 + 3 * NS, track="audio", format=kind)
        assert (answer.status, answer.content_type) == (200, media_type)
        got = maker.decode(save(body, f"sound.{kind}"))
        assert got.messages == ""
        assert abs(len(got.sound) - 96_000) <= (1024 if kind == "mp4" else 3 * 1024)      # what decoding needs before it is in them


def opus(maker, seconds: float):
    """Real Opus of a tone."""
    from tests.media.test_clip_codecs import encoded, made
    packets = encoded("libopus", 48000, "stereo", 960)[:int(seconds * 50)]
    return made(maker, SampleEntry("Opus", opus_config(2), 48000, channels=2, sample_rate=48000), packets, 960)


async def test_webm_holds_opus_and_nothing_else(api, maker, save):
    maker.write(api.main, maker.video(frames=75))
    maker.write(api.sound(), opus(maker, 3.0))
    query = {"start": maker.T0 + NS, "end": maker.T0 + 3 * NS, "format": "webm"}
    answer, body = await api.get("clip.mp4", track="audio", **query)
    assert (answer.status, answer.content_type, len(body)) == (200, "audio/webm", int(answer.headers["Content-Length"]))
    got = maker.decode(save(body, "sound.webm"))
    assert got.messages == ""
    assert abs(len(got.sound) / 2 - 96_000) <= 2 * 960
    _, part = await api.get("clip.mp4", {"Range": "bytes=100-1099"}, track="audio", **query)
    assert part == body[100:1100]
    refused, _ = await api.get("clip.mp4", **query)
    detail = (await refused.json())["detail"]
    assert (refused.status, "avc1" in detail, "format=mp4 or fmp4" in detail) == (409, True, True)


@pytest.mark.parametrize(("kind", "codec", "words"), [("ts", "alaw", "audio=none"), ("webm", "aac", "format=mp4 or fmp4 or ts")])
async def test_refusals_name_what_works(kind, codec, words, api, maker, save):
    maker.write(api.main, maker.video(frames=100))
    maker.write(api.sound(48_000 if codec == "aac" else 8000), maker.audio(4.0, codec))
    query = {"start": maker.T0, "end": maker.T0 + 3 * NS, "format": kind}
    refused, _ = await api.get("clip.mp4", **query)
    assert (refused.status, words in (await refused.json())["detail"]) == (409, True)
    if kind == "ts":
        answer, body = await api.get("clip.mp4", audio="none", **query)
        assert (answer.status, maker.decode(save(body, "x.ts")).messages) == (200, "")
    wrong, _ = await api.get("clip.mp4", **{**query, "format": "avi"})
    assert wrong.status == 400


@pytest.mark.parametrize("size", [1, 18, 19, 175, 176, 177, 183, 184, 185, 359, 360, 361, 5000])
@pytest.mark.parametrize("pcr", [None, 12345])
def test_packets_hold_the_payload_and_nothing_else(size, pcr):
    data = bytes(n % 251 for n in range(size))
    packets = packetise(0x101, 14, data, pcr, key=True)
    assert packets.shape == (packets_of(size, pcr=pcr is not None), PACKET)
    payload = b""
    for number, packet in enumerate(packets.tolist()):
        assert (packet[0], (packet[1] & 31) << 8 | packet[2], packet[3] & 15) == (0x47, 0x101, (14 + number) % 16)
        at = 4 + (1 + packet[4] if packet[3] & 0x20 else 0)
        payload += bytes(packet[at:])
    assert payload == data


def test_lengths_that_lead_out_of_a_picture_stay():
    """A damaged AU: what can be told apart is, the rest is left as it is, and nothing is read outside of it."""
    au = bytearray(struct.pack(">I", 2) + b"\x65a" + struct.pack(">I", 99) + b"xyz")
    to_annex_b(au)
    assert au == b"\0\0\0\1\x65a" + struct.pack(">I", 99) + b"xyz"
    assert delimiter_bytes("avc1", bytearray(struct.pack(">I", 500) + b"\x09\xf0")) == 6
    assert delimiter_bytes("avc1", bytearray(b"\0\0")) == 0
    with pytest.raises(Conflict, match="cannot be read"):
        coding(SampleEntry("avc1", b"\x01\x64\x00\x28\xff\xe1\x00", 90_000, 320, 240))


async def test_a_delimiter_that_the_camera_sent_is_not_doubled(api, maker, save):
    stream = maker.video(frames=50)
    aus = tuple(maker.Au(b"\0\0\0\2\x09\xf0" + au.data, au.pts, au.dts, au.key) for au in stream.aus)
    maker.write(api.main, maker.Stream(stream.entry, aus, stream.dur))
    _, body = await api.get("clip.mp4", start=maker.T0, end=maker.T0 + 2 * NS, format="ts", audio="none")
    got = maker.decode(save(body, "x.ts"))
    assert (got.messages, got.numbers) == ("", list(range(50)))
    assert body.count(b"\0\0\0\1\x09\xf0") == 50
