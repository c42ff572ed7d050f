"""From SDP and parameter sets to depacketiser and sample entry, checked against what FFmpeg's muxer writes."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder._ext.auqueue import AuQueue
from recorder.base.errors import SourceError
from recorder.base.media import GapCause, SampleEntry
from recorder.feed import make_track
from recorder.rtp import aac, h264, h265
from recorder.rtp.audio import in_g726_order, opus_config
from recorder.rtp.formats import RtpFormat, rtp_format, sample_entry_for, split_start_codes, video_facts
from recorder.rtsp.sdp import parse_sdp
from tests.kernels.rtpkit import rtp as rtp_packet

SPS = "Z2QAKKwspQHgCJ+WEAAAAwAQAAADAyDxgxlg"       # 1920x1080, 25 fps
PPS = "aOkJNSU="


def video(fmtp: str, encoding: str = "H264/90000") -> RtpFormat:
    return rtp_format(parse_sdp(f"m=video 0 RTP/AVP 96\na=rtpmap:96 {encoding}\na=fmtp:96 {fmtp}\n".encode()).medias[0])


def audio(rtpmap: str, fmtp: str = "") -> RtpFormat:
    return rtp_format(parse_sdp(f"m=audio 0 RTP/AVP 97\na=rtpmap:97 {rtpmap}\na=fmtp:97 {fmtp}\n".encode()).medias[0])


def muxed(codec: str, size: tuple[int, int], fps: int, options: dict[str, str], pix_fmt: str = "yuv420p") -> tuple[bytes, list[bytes], int]:
    """The configuration record that FFmpeg writes for this encoder, the parameter sets in it, and the pictures' reorder depth."""
    out = io.BytesIO()
    with av.open(out, "w", "mp4") as container:
        stream = container.add_stream(codec, rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.time_base = Fraction(1, fps)
        for index in range(12):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), index * 9, np.uint8), "rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = out.getvalue()
    name = b"avcC" if codec == "libx264" else b"hvcC"
    at = data.index(name)
    record = data[at + 4:at - 4 + int.from_bytes(data[at - 4:at], "big")]
    with av.open(io.BytesIO(data)) as container:
        packets = [p for p in container.demux(video=0) if p.pts is not None]
    order = sorted(p.pts for p in packets)
    depth = max(0, *(i - order.index(p.pts) for i, p in enumerate(packets)))
    return record, (avc_sets(record) if codec == "libx264" else hevc_sets(record)), depth


def avc_sets(record: bytes) -> list[bytes]:
    sets, at = [], 5
    for _ in range(2):
        count, at = record[at] & 31, at + 1
        for _ in range(count):
            size = int.from_bytes(record[at:at + 2], "big")
            sets.append(record[at + 2:at + 2 + size])
            at += 2 + size
    return sets


def hevc_sets(record: bytes) -> list[bytes]:
    sets, at = [], 23
    for _ in range(record[22]):
        count, at = int.from_bytes(record[at + 1:at + 3], "big"), at + 3
        for _ in range(count):
            size = int.from_bytes(record[at:at + 2], "big")
            sets.append(record[at + 2:at + 2 + size])
            at += 2 + size
    return [n for n in sets if h265.nal_type(n) in {h265.VPS, h265.SPS, h265.PPS}]


@pytest.mark.parametrize(("size", "fps", "options", "pix_fmt"), [
    ((640, 360), 15, {"bf": "0", "profile": "baseline"}, "yuv420p"),
    ((1920, 1080), 25, {"bf": "2", "profile": "high"}, "yuv420p"),
    ((352, 288), 50, {"bf": "3", "x264-params": "interlaced=1"}, "yuv420p"),
    ((322, 182), 30, {"profile": "high422", "bf": "0"}, "yuv422p10le"),
    ((128, 128), 30, {"profile": "high444", "bf": "1"}, "yuv444p"),
])
def test_avcc_is_what_ffmpeg_writes(size: tuple[int, int], fps: int, options: dict[str, str], pix_fmt: str) -> None:
    record, sets, depth = muxed("libx264", size, fps, options, pix_fmt)
    assert h264.configuration(sets) == record or pix_fmt == "yuv444p"
    facts = video_facts("h264", sets)
    assert (facts.width, facts.height, round(facts.fps)) == (*size, fps)
    assert facts.reorder_depth >= depth


@pytest.mark.parametrize(("size", "params", "pix_fmt"), [
    ((640, 360), "bframes=0", "yuv420p"),
    ((1920, 1080), "bframes=3:b-adapt=0", "yuv420p"),
    ((326, 182), "bframes=2:scaling-list=default", "yuv420p10le"),
    ((256, 256), "bframes=4:b-pyramid=1:ref=4", "yuv422p10le"),
])
def test_hvcc_is_what_ffmpeg_writes(size: tuple[int, int], params: str, pix_fmt: str) -> None:
    record, sets, depth = muxed("libx265", size, 25, {"x265-params": params + ":log-level=none:pools=1"}, pix_fmt)
    made = h265.configuration(sets)
    assert made[:13] == record[:13]                         # profile, tier, flags, level
    assert [b & m for b, m in zip(made[13:19], record[13:19], strict=True)] == list(record[13:19])
    assert made[16:19] == record[16:19]                     # chroma and bit depths
    assert made[21] & 7 == record[21] & 7                   # nesting, length size
    assert hevc_sets(made) == sets
    facts = video_facts("h265", sets)
    assert (facts.width, facts.height, round(facts.fps)) == (*size, 25)
    assert facts.reorder_depth >= depth


def test_entry_opens_in_a_decoder() -> None:
    record, sets, _ = muxed("libx264", (128, 96), 25, {"bf": "0"})
    rtp = RtpFormat("h264", (96,), 90000)
    entry = sample_entry_for(rtp, sets)
    assert entry == SampleEntry("avc1", record, 90000, 128, 96)


def test_entry_without_sets_is_not_known_yet() -> None:
    assert sample_entry_for(RtpFormat("h264", (96,), 90000), ()) is None
    assert sample_entry_for(RtpFormat("h265", (96,), 90000), (b"\x42\x01\x01",)) is None


@pytest.mark.parametrize("nal", [b"\x67", b"\x67\x64\x00\x28", b"\x67\x64\x00\x28\xac\x2c\xac", b"\x67\x64\x00\x28" + bytes(40)])
def test_unreadable_sps_gives_sizes_unknown_and_still_an_entry(nal: bytes) -> None:
    pps = bytes.fromhex("68ee3cb0")
    assert video_facts("h264", [nal, pps]).width == 0
    entry = sample_entry_for(RtpFormat("h264", (96,), 90000), [nal.ljust(4, b"\x01"), pps])
    assert entry is not None and (entry.width, entry.height) == (0, 0)
    assert video_facts("h265", [b"\x42\x01" + nal[1:]]).width == 0


def test_sprop_sets_are_taken() -> None:
    chosen = video(f"sprop-parameter-sets={SPS},{PPS}")
    facts = video_facts("h264", chosen.sets)
    assert (facts.width, facts.height, facts.fps) == (1920, 1080, 25)


@pytest.mark.parametrize(("value", "count"), [
    (f"{SPS},{PPS}", 2), (f"{SPS}", 1), ("", 0), ("!!!,###", 0), (f"{SPS},!", 1), (f"{SPS.rstrip('=')},{PPS.rstrip('=')}", 2),
    ("AAAAAWdkACisLKUB4AiflhAAAAMAEAAAAwMg8YMZYA==,AAAAAWjpCTUl", 2),                # Annex B prefix
    ("aOkJNSUAAAAB," + SPS, 2),                                                      # a start code at the end
    ("AAAAAWdkACisLKUB4AiflgAAAAFo6Qk1JQ==", 2),                                      # both in one
    ("BgUB," + PPS, 1),                                                              # SEI is no set
    ("A" * 20000, 0),
])
def test_broken_sprop_leaves_the_rest(value: str, count: int) -> None:
    sets = video(f"sprop-parameter-sets={value}").sets
    assert len(sets) == count
    assert all(h264.nal_type(n) in {7, 8} for n in sets)


def test_h265_sets_all_three_or_none() -> None:
    whole = "sprop-vps=QAEMAf//AWAAAAMAAAMAAAMAAAMAlqwJ; sprop-sps=QgEBAWAAAAMAAAMAAAMAAAMAlqADwIARB8u605JlJqk=; sprop-pps=RAHAcsIkRA=="
    assert [h265.nal_type(n) for n in video(whole, "H265/90000").sets] == [32, 33, 34]
    assert video(whole.partition("; ")[2], "H265/90000").sets == ()


@pytest.mark.parametrize(("fmtp", "encoding", "why"), [
    ("sprop-max-don-diff=2", "H265/90000", "interleaved"), ("packetization-mode=2", "H264/90000", "interleaved"),
    ("", "MPV/90000", "MPV"), ("", "MPEG4-GENERIC/16000", "MPEG4-GENERIC"),
])
def test_video_that_is_not_recorded(fmtp: str, encoding: str, why: str) -> None:
    with pytest.raises(SourceError, match=why) as caught:
        video(fmtp, encoding)
    assert caught.value.cause == GapCause.UNSUPPORTED


def test_first_format_that_can_be_recorded_is_chosen() -> None:
    media = parse_sdp(b"m=video 0 RTP/AVP 32 97 96\na=rtpmap:96 H264/90000\na=rtpmap:97 H264/90000\n").medias[0]
    assert rtp_format(media).payload_types == (97, 96)


@pytest.mark.parametrize(("rtpmap", "fmtp", "clock", "duration", "channels", "config"), [
    ("MPEG4-GENERIC/16000/1", "config=1408;sizelength=13", 16000, 1024, 1, "1408"),
    ("mpeg4-generic/48000/2", "mode=AAC-hbr;config=1190", 48000, 1024, 2, "1190"),
    ("MPEG4-GENERIC/16000", "", 16000, 1024, 1, "1408"),                                # config missing: by the clock
    ("MPEG4-GENERIC/8000/1", "config=1408", 16000, 1024, 1, "1408"),                    # the config's rate wins
    ("MPEG4-GENERIC/32000/1", "config=1408", 32000, 2048, 1, "1408"),                   # SBR's output rate stays
    ("MPEG4-GENERIC/44100/2", "config=zz", 44100, 1024, 2, "1210"),
    ("MPEG4-GENERIC/0/1", "config=1408", 16000, 1024, 1, "1408"),
])
def test_aac(rtpmap: str, fmtp: str, clock: int, duration: int, channels: int, config: str) -> None:
    chosen = audio(rtpmap, fmtp)
    assert (chosen.clock_rate, chosen.aac_duration, chosen.channels) == (clock, duration, channels)
    entry = sample_entry_for(chosen)
    assert entry is not None and (entry.codec, entry.config.hex(), entry.clock_rate) == ("mp4a", config, clock)


@pytest.mark.parametrize(("rtpmap", "fmtp"), [
    ("MPEG4-GENERIC/0/1", ""), ("MPEG4-GENERIC/16000/1", "sizelength=99"), ("MPEG4-GENERIC/16000", "mode=CELP-cbr"),
    ("MP4A-LATM/16000", "cpresent=0;config="),
    ("MP4A-LATM/16000", "cpresent=0"), ("MP4A-LATM/90000/1", "cpresent=0;config=zz"), ("MP4A-LATM/0", "cpresent=1"), ("PCMU/8000/9", ""),
    ("L16/16000/3", ""), ("L16/16001/1", ""), ("G726-32/8000/2", ""), ("G726-48/8000", ""), ("AC3/48000", ""),
    ("MPEG4-GENERIC/16000/1", "auxiliaryDataSizeLength=8"),
])
def test_audio_that_is_not_recorded(rtpmap: str, fmtp: str) -> None:
    with pytest.raises(SourceError) as caught:
        audio(rtpmap, fmtp)
    assert caught.value.cause == GapCause.UNSUPPORTED


@pytest.mark.parametrize(("rtpmap", "entry"), [
    ("PCMA/8000", SampleEntry("alaw", b"", 8000, channels=1, sample_rate=8000)),
    ("pcmu/16000/2", SampleEntry("ulaw", b"", 16000, channels=2, sample_rate=16000)),
    ("PCMA/0", SampleEntry("alaw", b"", 8000, channels=1, sample_rate=8000)),
])
def test_g711(rtpmap: str, entry: SampleEntry) -> None:
    assert sample_entry_for(audio(rtpmap)) == entry


@pytest.mark.parametrize(("rtpmap", "fmtp", "codec", "entry"), [
    ("OPUS/48000/2", "", "opus", SampleEntry("Opus", opus_config(2), 48000, channels=2, sample_rate=48000)),
    ("opus/48000/1", "sprop-stereo=1", "opus", SampleEntry("Opus", opus_config(2), 48000, channels=2, sample_rate=48000)),
    ("opus/16000", "", "opus", SampleEntry("Opus", opus_config(2), 48000, channels=2, sample_rate=48000)),       # 48000/2, whatever is declared
    ("L16/44100/2", "", "l16", SampleEntry("twos", b"", 44100, channels=2, sample_rate=44100)),
    ("L16/8000", "", "l16", SampleEntry("twos", b"", 8000, channels=1, sample_rate=8000)),
    ("G726-32/8000", "", "g726-32", SampleEntry("g726", b"\4", 8000, channels=1, sample_rate=8000)),
    ("G726-16/8000/1", "", "g726-16", SampleEntry("g726", b"\2", 8000, channels=1, sample_rate=8000)),
    ("AAL2-G726-40/8000", "", "aal2-g726-40", SampleEntry("g726", b"\5", 8000, channels=1, sample_rate=8000)),
    ("G726-24/0", "", "g726-24", SampleEntry("g726", b"\3", 8000, channels=1, sample_rate=8000)),
    ("X-OPUS/48000/2", "", "opus", SampleEntry("Opus", opus_config(2), 48000, channels=2, sample_rate=48000)),
])
def test_audio_beside_aac_and_g711(rtpmap: str, fmtp: str, codec: str, entry: SampleEntry) -> None:
    chosen = audio(rtpmap, fmtp)
    track = make_track(AuQueue(1 << 16, 64), chosen, 1)
    assert (chosen.codec, track.codec, chosen.clock_rate, chosen.kind) == (codec, codec, entry.clock_rate, "audio")
    assert sample_entry_for(chosen, track.format_sets(1)) == entry


def test_static_l16_has_the_rate_and_channels_of_rfc_3551() -> None:
    for payload_type, channels in ((10, 2), (11, 1)):
        media = parse_sdp(f"m=audio 0 RTP/AVP {payload_type}\n".encode()).medias[0]
        entry = sample_entry_for(rtp_format(media))
        assert entry is not None and (entry.codec, entry.clock_rate, entry.channels) == ("twos", 44100, channels)


def test_a_payload_type_that_has_another_name_goes_by_its_name() -> None:
    """PT 0 as AAC (Anpviz), PT 8 named PCMU, H.264 on a static type (Bosch)."""
    found = parse_sdp(b"m=audio 0 RTP/AVP 0\na=rtpmap:0 MPEG4-GENERIC/16000/2\na=fmtp:0 config=1410\n"
                      b"m=audio 0 RTP/AVP 8\na=rtpmap:8 PCMU/8000\nm=video 0 RTP/AVP 35\na=rtpmap:35 H264/90000\n").medias
    assert [(f.codec, f.payload_types) for f in map(rtp_format, found)] == [("aac", (0,)), ("pcmu", (8,)), ("h264", (35,))]


@pytest.mark.parametrize(("order", "codec"), [("sdp", "g726-32"), ("rfc3551", "g726-32"), ("aal2", "aal2-g726-32")])
def test_a_camera_that_misstates_its_g726_can_be_overruled(order: str, codec: str) -> None:
    assert in_g726_order(audio("G726-32/8000"), order).codec == codec
    assert in_g726_order(audio("AAL2-G726-32/8000"), "rfc3551").codec == "g726-32"
    assert in_g726_order(audio("PCMA/8000"), order).codec == "pcma"


@pytest.mark.parametrize(("rtpmap", "fmtp", "clock", "ticks"), [
    ("MP4A-LATM/16000/1", "profile-level-id=15;cpresent=0;config=400028103fc0", 16000, 1024),
    ("MP4A-LATM/90000", "cpresent=0;config=400028103fc0", 90000, 5760),              # RFC 3016 5.1
    ("MP4A-LATM/44100", "config=400028103fc0", 16000, 1024),                         # the config's rate wins; no word about cpresent
])
def test_latm_with_its_config_in_the_sdp(rtpmap: str, fmtp: str, clock: int, ticks: int) -> None:
    chosen = audio(rtpmap, fmtp)
    track = make_track(AuQueue(1 << 16, 64), chosen, 1)
    entry = sample_entry_for(chosen, track.format_sets(1))
    assert entry == SampleEntry("mp4a", bytes.fromhex("1408"), clock, channels=1, sample_rate=16000)
    track.packet(rtp_packet(1, 0, b"\3abc", pt=97, marker=True), 1)
    assert [(au["dur"], data) for au, data in track.queue.take()] == [(ticks, b"abc")]


def test_latm_in_band_has_no_entry_before_its_first_configuration() -> None:
    chosen = audio("MP4A-LATM/16000", "cpresent=1;config=400028103fc0")
    assert (chosen.latm_config, sample_entry_for(chosen)) == (b"", None)
    assert not chosen.fixed


def test_he_aac_config_tells_both_rates() -> None:
    found = aac.parse_config(bytes.fromhex("2b118800"))          # SBR 24 kHz -> 48 kHz
    assert found is not None and (found.object_type, found.sample_rate, found.output_rate) == (2, 24000, 48000)


def test_start_codes_are_split_and_trailing_zeros_cut() -> None:
    assert split_start_codes(b"\0\0\0\1\x67ab\0\0\1\x68c\0\0\0\1") == [b"\x67ab", b"\x68c"]


@given(st.binary(max_size=200))
def test_any_bytes_as_sets_never_raise(data: bytes) -> None:
    for kind in (b"\x67", b"\x68", b"\x42\x01", b"\x40\x01", b"\x44\x01"):
        nal = kind + data
        h264.parse_sps(nal)
        h265.parse_sps(nal)
        h264.configuration([nal, b"\x68\x01"])
        h265.configuration([b"\x40\x01\x02", nal, b"\x44\x01\x02"])
    aac.parse_config(data)


@pytest.mark.parametrize("config", ["1440", "1448", "1478"])
def test_an_aac_config_with_a_reserved_channel_layout_falls_back_to_the_rtpmap(config: str) -> None:
    found = audio("MPEG4-GENERIC/16000/1", f"mode=AAC-hbr;config={config}")
    assert found.channels == 1
    make_track(AuQueue(1 << 16, 64), found, 1)


@pytest.mark.parametrize("rtpmap", ["PCMA/8001", "PCMU/1", "PCMA/192000"])
def test_a_clock_that_no_camera_has_makes_no_track_of_its_own(rtpmap: str) -> None:
    with pytest.raises(SourceError):
        audio(rtpmap)


def test_an_aac_config_with_an_odd_explicit_rate_makes_no_track_of_its_own() -> None:
    assert aac.parse_config(bytes.fromhex("1780181c8800")) is None
