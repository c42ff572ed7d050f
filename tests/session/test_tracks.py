"""Tracks beside H.264 with G.711: metadata, JPEG, sound that is not what the description says. None of them disturbs the others."""

import asyncio
from fractions import Fraction

import av
import numpy as np
import pytest

from bench.camsim import jpeg
from recorder.base.media import GapCause, SampleEntry
from tests.session.fake_camera import SDP, FakeCamera, Link, Request, reply
from tests.session.rig import Rig

META = SDP + "m=application 0 RTP/AVP 107\na=rtpmap:107 vnd.onvif.metadata/90000\na=control:trackID=3\n"
GZIP = META.replace("vnd.onvif.metadata", "vnd.onvif.metadata.gzip")


def picture(width: int = 64, height: int = 48) -> bytes:
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, "yuvj420p", Fraction(1, 25)
    codec.options = {"huffman": "default"}
    frame = av.VideoFrame.from_ndarray(np.full((height * 3 // 2, width), 90, np.uint8), format="yuvj420p")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    return b"".join(bytes(p) for p in [*codec.encode(frame), *codec.encode(None)])


def say(link: Link, timestamp: int, *parts: bytes) -> None:
    """A document on the third medium's channel."""
    link.sequences.setdefault(4, 1)
    for part in parts:
        link.send(link.rtp(4, 107, timestamp, part, marker=part is parts[-1]))


async def test_metadata_is_a_track_of_its_own() -> None:
    async with FakeCamera(sdp=META) as camera, Rig() as rig:
        rig.record(camera.url, metadata=True)
        await rig.recorded()
        for number in range(3):
            say(camera.links[0], number * 45_000, b"<a n='%d'>" % number, b"</a>")
        await rig.recorded(3, "metadata")
    tape = rig.tape("metadata")
    assert [data for _, data in tape.aus] == [b"<a n='%d'></a>" % n for n in range(3)]
    assert tape.entries[1, 1] == SampleEntry("metx", b"vnd.onvif.metadata", 90_000)


async def test_metadata_too_large_to_keep_are_told_as_what_they_are(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("recorder.stream.OVERLOAD_NS", 100_000_000)

    def play(request: Request) -> bytes:
        link = request.link
        link.sequences[4] = 0

        async def endless() -> None:
            while True:
                link.send(b"".join(link.rtp(4, 107, 0, b"<" * 1400, marker=False) for _ in range(100)))
                await link.writer.drain()
                await asyncio.sleep(0.01)
        request.link.playing = asyncio.create_task(endless())
        return reply(request, 200)
    async with FakeCamera(sdp=META) as camera, Rig() as rig:
        camera.answers["PLAY"] = play
        rig.record(camera.url, metadata=True)
        await rig.until(lambda: GapCause.OVERLOAD in rig.tape("metadata").gaps)
    assert "metadata: documents are dropped: its metadata is larger than what is kept in memory" in caplog.text


async def test_compressed_metadata_is_kept_as_it_is_and_named() -> None:
    async with FakeCamera(sdp=GZIP) as camera, Rig() as rig:
        rig.record(camera.url, metadata=True)
        await rig.recorded()
        say(camera.links[0], 0, b"\x1f\x8b\x08", b"rest")
        await rig.recorded(1, "metadata")
    assert rig.tape("metadata").aus[0][1] == b"\x1f\x8b\x08rest"
    assert rig.tape("metadata").entries[1, 1].config == b"vnd.onvif.metadata.gzip"


async def test_metadata_is_not_asked_for_unless_wanted() -> None:
    async with FakeCamera(sdp=META) as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded()
        assert camera.methods().count("SETUP") == 2


async def test_silence_of_metadata_is_no_stall() -> None:
    async with FakeCamera(sdp=META) as camera, Rig() as rig:
        rig.record(camera.url, metadata=True, stall_s=0.5)
        await rig.recorded(50)
        assert rig.tape("metadata").gaps == [] and rig.tape().gaps == []
        assert rig.stream().state == "recording" and len(camera.links) == 1


async def test_sound_that_is_not_what_the_description_says_is_turned_off_and_the_video_goes_on() -> None:
    sdp = SDP.replace("RTP/AVP 8", "RTP/AVP 98\na=rtpmap:98 L16/16000/2")
    async with FakeCamera(sdp=sdp) as camera, Rig() as rig:
        camera.audio = False
        rig.record(camera.url)
        await rig.recorded()
        for number in range(120):
            camera.links[0].send(camera.links[0].rtp(2, 98, number * 320, b"odd"))
        await rig.until(lambda: rig.tape("audio").gaps == [GapCause.UNSUPPORTED])
        before = len(rig.tape().aus)
        await rig.recorded(before + 10)
        assert rig.tape().gaps == [] and rig.stream().state == "recording" and len(camera.links) == 1


async def test_sound_alone_that_is_not_what_the_description_says_ends_the_session() -> None:
    sdp = SDP.replace("m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=control:trackID=1\n", "")
    sdp = sdp.replace("RTP/AVP 8", "RTP/AVP 98\na=rtpmap:98 L16/16000/2")
    async with FakeCamera(sdp=sdp) as camera, Rig() as rig:
        camera.video = camera.audio = False
        rig.record(camera.url)
        await rig.until(lambda: camera.links and camera.links[0].playing)
        link = camera.links[0]
        link.sequences[0] = 1
        for number in range(120):
            link.send(link.rtp(0, 98, number * 320, b"odd"))
        error = await rig.failed()
    assert (error.cause, error.retry_s) == (GapCause.UNSUPPORTED, 60.0)


async def test_a_camera_that_sends_other_payload_types_than_it_describes_is_told_so() -> None:
    async with FakeCamera(sdp=SDP.replace("96", "97")) as camera, Rig() as rig:
        rig.record(camera.url, stall_s=0.5)
        error = await rig.failed()
    assert error.cause == GapCause.STALL and "payload types" in str(error)


async def test_a_motion_jpeg_camera_is_recorded_as_whole_images() -> None:
    sdp = SDP.replace("RTP/AVP 96\na=rtpmap:96 H264/90000", "RTP/AVP 26")
    sent = jpeg.parse(picture())
    async with FakeCamera(sdp=sdp) as camera, Rig() as rig:
        camera.video = False
        rig.record(camera.url)
        await rig.until(lambda: camera.links and camera.links[0].playing)
        for number in range(5):
            for payload in (parts := jpeg.payloads(sent, 100)):
                camera.links[0].send(camera.links[0].rtp(0, 26, number * 3600, payload, marker=payload is parts[-1]))
        await rig.recorded(5)
        status = rig.cameras.status()["cameras"]["cam1"]["tracks"]["main"]
    tape = rig.tape()
    assert [data for _, data in tape.aus] == [jpeg.rebuilt(sent)] * 5
    assert tape.entries[1, 1] == SampleEntry("jpeg", b"", 90_000, 64, 48)
    assert (status["codec"], status["width"], status["height"]) == ("jpeg", 64, 48)


async def test_latm_whose_configuration_comes_in_band_gets_its_entry_then() -> None:
    sdp = SDP.replace("RTP/AVP 8", "RTP/AVP 97\na=rtpmap:97 MP4A-LATM/16000\na=fmtp:97 cpresent=1")
    element = int("0" + f"{0x400028103FC0:048b}"[:44] + f"{3:08b}" + "".join(f"{b:08b}" for b in b"abc") + "000", 2)
    async with FakeCamera(sdp=sdp) as camera, Rig() as rig:
        camera.audio = False
        rig.record(camera.url)
        await rig.recorded()
        for number in range(4):
            camera.links[0].send(camera.links[0].rtp(2, 97, 1024 * number, element.to_bytes(10)))
        await rig.recorded(4, "audio")
    assert {data for _, data in rig.tape("audio").aus} == {b"abc"}
    assert rig.tape("audio").entries[1, 1] == SampleEntry("mp4a", bytes.fromhex("1408"), 16_000, channels=1, sample_rate=16_000)


async def test_a_backchannel_is_never_set_up() -> None:
    """Cameras offer it unasked (mediamtx#5074)."""
    sdp = SDP.replace("m=audio 0 RTP/AVP 8\n", "m=audio 0 RTP/AVP 0\na=sendonly\na=control:back\nm=audio 0 RTP/AVP 8\n")
    async with FakeCamera(sdp=sdp) as camera, Rig() as rig:
        rig.record(camera.url)
        await rig.recorded(5, "audio")
        assert not any(request.url.endswith("back") for request in camera.requests)


async def test_a_camera_whose_gops_last_a_minute_is_no_stall() -> None:
    """"Smart" codecs send a key frame every 10 to 60 s; what counts is that pictures come."""
    async with FakeCamera() as camera, Rig() as rig:
        camera.audio = False
        rig.record(camera.url, stall_s=0.5)
        await rig.recorded(5)
        link = camera.links[0]
        keyless = link.picture

        def inter(index: int) -> bytes:
            return keyless(1 + index % 24)

        link.picture = inter        # type: ignore[method-assign]
        before = len(rig.tape().aus)
        await rig.recorded(before + 50)
        assert rig.tape().gaps == [] and len(camera.links) == 1


