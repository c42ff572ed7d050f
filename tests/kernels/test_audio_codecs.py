"""recorder/_ext/audio, latm: Opus, L16, G.726 and AAC in LATM, checked against what FFmpeg's encoders and muxers write."""

import io
import random
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rtpkit import DAMAGED, Stream, noise

from recorder._ext.audio import opus_duration
from recorder._ext.latm import stream_mux_config


def bits(data: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in data)


def packed(text: str) -> bytes:
    text += "0" * (-len(text) % 8)
    return bytes(int(text[i:i + 8], 2) for i in range(0, len(text), 8))


def tone(rate: int, count: int) -> np.ndarray:
    return (np.sin(np.arange(count) * 2 * np.pi * 440 / rate) * 12000).astype(np.int16)


# ---- G.726

def g726(encoder: str, bits_per_word: int, pcm: np.ndarray) -> bytes:
    codec = av.CodecContext.create(encoder, "w")
    codec.sample_rate, codec.layout, codec.format, codec.bit_rate = 8000, "mono", "s16", bits_per_word * 8000
    codec.time_base, codec.options = Fraction(1, 8000), {"code_size": str(bits_per_word)}
    frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts = 8000, 0
    return b"".join(bytes(p) for p in [*codec.encode(frame), *codec.encode(None)])


@pytest.mark.parametrize("kbps", [16, 24, 32, 40])
def test_g726_in_the_rfc_3551_order_is_stored_in_the_order_of_files(kbps):
    pcm = tone(8000, 800)
    sent, stored = g726("g726le", kbps // 8, pcm), g726("g726", kbps // 8, pcm)
    stream = Stream(f"g726-{kbps}", 8000)
    size = kbps // 8 * 20                                      # 160 samples
    for at in range(0, len(sent), size):
        stream.send(sent[at:at + size])
        stream.step(160)
    aus = stream.take()
    assert b"".join(data for _, data in aus) == stored[:len(sent)]
    assert [(au["pts"] - 5000, au["dur"]) for au, _ in aus] == [(160 * i, 160) for i in range(len(aus))]


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=90), st.sampled_from([2, 3, 4, 5]))
def test_each_code_word_is_turned_and_kept(data, width):
    stream = Stream(f"g726-{8 * width}", 8000)
    stream.send(data)
    number = int.from_bytes(data, "little")
    words = [number >> (width * i) & ((1 << width) - 1) for i in range(8 * len(data) // width)]
    ((au, stored),) = stream.take()
    assert stored == packed("".join(f"{word:0{width}b}" for word in words)).ljust(len(data), b"\0")
    assert au["dur"] == len(words)


def test_g726_in_the_aal2_order_is_stored_as_it_comes():
    stream = Stream("aal2-g726-32", 8000)
    stream.send(noise(80))
    assert [(au["dur"], data) for au, data in stream.take()] == [(160, noise(80))]


def test_g726_of_more_than_4_kib_is_refused():
    stream = Stream("g726-32", 8000)
    stream.send(noise(4097))
    assert stream.track.stats()["malformed"] == 1


# ---- L16

@pytest.mark.parametrize("channels", [1, 2])
def test_l16_is_stored_as_it_comes_and_lasts_as_long_as_its_samples(channels):
    stream = Stream("l16", 16000, options={"channels": channels})
    for i in range(4):
        stream.send(noise(640 * channels, i))
        stream.step(320)
    assert [(au["dur"], data) for au, data in stream.take()] == [(320, noise(640 * channels, i)) for i in range(4)]


@pytest.mark.parametrize("size", [1, 3, 6])
def test_l16_with_half_a_sample_is_refused(size):
    stream = Stream("l16", 16000, options={"channels": 2})
    stream.send(noise(size))
    assert (stream.take(), stream.track.stats()["malformed"]) == ([], 1)


# ---- Opus

def toc(config: int, code: int) -> bytes:
    return bytes([config << 3 | code])


def opus_twin(packet: bytes) -> int:
    """RFC 6716 table 2 and 3.2, in ms."""
    config, code = packet[0] >> 3, packet[0] & 3
    ms = ([10, 20, 40, 60] * 3 + [10, 20] * 2 + [2.5, 5, 10, 20] * 4)[config]
    frames = {0: 1, 1: 2, 2: 2}.get(code) or (packet[1] & 63 if len(packet) > 1 else 0)
    return int(ms * frames * 48) if ms * frames <= 120 else 0


@given(st.integers(0, 31), st.integers(0, 3), st.binary(max_size=3))
def test_opus_packets_last_as_their_toc_says(config, code, rest):
    packet = toc(config, code) + rest
    assert opus_duration(packet) == opus_twin(packet)


def test_opus_packets_of_an_encoder_follow_each_other():
    codec = av.CodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format, codec.time_base = 48000, "stereo", "s16", Fraction(1, 48000)
    stream, sent = Stream("opus", 48000, options={"channels": 2}), []
    for i in range(20):
        frame = av.AudioFrame.from_ndarray(np.repeat(tone(48000, 960), 2)[None], format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 48000, 960 * i
        sent += [bytes(p) for p in codec.encode(frame)]
    for packet in sent:
        stream.send(packet, marker=True)
        stream.step(960)
    aus = stream.take()
    assert [data for _, data in aus] == sent
    assert all(au["dur"] == 960 for au, _ in aus)


def test_discontinuous_opus_of_one_byte_is_kept():
    stream = Stream("opus", 48000)
    stream.send(toc(1, 0))
    assert [(au["dur"], data) for au, data in stream.take()] == [(960, toc(1, 0))]


@pytest.mark.parametrize("packet", [toc(1, 3), toc(1, 3) + b"\0", toc(3, 3) + b"\3"])
def test_opus_without_frames_or_over_120_ms_is_refused(packet):
    stream = Stream("opus", 48000)
    stream.send(packet)
    assert (stream.take(), stream.track.stats()["malformed"]) == ([], 1)


# ---- LATM

def aac_frames(rate: int = 16000, count: int = 12) -> tuple[bytes, list[bytes]]:
    """(AudioSpecificConfig, access units)."""
    held = io.BytesIO()
    with av.open(held, "w", format="mp4", options={"movflags": "empty_moov+frag_keyframe"}) as out:
        stream = out.add_stream("aac", rate=rate, layout="mono")
        for i in range(count):
            frame = av.AudioFrame.from_ndarray((tone(rate, 1024) / 32768).astype(np.float32)[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, 1024 * i, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    held.seek(0)
    with av.open(held) as file:
        return bytes(file.streams.audio[0].codec_context.extradata), [bytes(p) for p in file.demux(file.streams.audio[0]) if p.size]


def loas_elements(rate: int = 16000) -> tuple[bytes, list[bytes], list[bytes]]:
    """What FFmpeg's LATM muxer makes of the same frames: audioMuxElements with their configuration in band."""
    held = io.BytesIO()
    with av.open(held, "w", format="latm", options={"smc-interval": "4"}) as out:
        stream = out.add_stream("aac", rate=rate, layout="mono")
        for i in range(12):
            frame = av.AudioFrame.from_ndarray((tone(rate, 1024) / 32768).astype(np.float32)[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, 1024 * i, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    data, at, elements = held.getvalue(), 0, []
    while at < len(data):
        assert data[at] == 0x56 and data[at + 1] >> 5 == 7      # the sync word of LOAS (ISO 14496-3 1.7.2)
        size = (data[at + 1] & 31) << 8 | data[at + 2]
        elements.append(data[at + 3:at + 3 + size])
        at += 3 + size
    config, frames = aac_frames(rate)
    return config, frames, elements


def mux_config(asc: str, *, subframes: int = 1, other: str = "0", version: int = 0) -> str:
    """A StreamMuxConfig (ISO 14496-3 1.7.3) as bits; `asc` as bits."""
    head = "0" if version == 0 else "10" + "00" + "11111111"
    length = "" if version == 0 else "00" + f"{len(asc):08b}"
    return head + "1" + f"{subframes - 1:06b}" + "0000" + "000" + length + asc + "000" + "11111111" + other + "0"


ASC = bits(bytes.fromhex("1408"))                                # AAC-LC, 16 kHz, mono


def element(*frames: bytes) -> bytes:
    return b"".join(b"\xff" * (len(f) // 255) + bytes([len(f) % 255]) + f for f in frames)


def test_latm_with_its_configuration_in_band_gives_the_encoders_frames():
    config, frames, elements = loas_elements()
    stream = Stream("latm", 16000)
    for one in elements:
        stream.send(one, marker=True)
        stream.step(1024)
    aus = stream.take()
    assert [data for _, data in aus] == frames
    assert all(au["dur"] == 1024 and au["format"] == 1 for au, _ in aus)
    assert stream.track.format_sets(1)[0] == config[:2]


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("other", ["0", "1" + "000010000"])
def test_latm_with_its_configuration_in_the_sdp(version, other):
    if version and other != "0":
        other = "1" + "00" + "00010000"
    config = packed(mux_config(ASC, other=other, version=version))
    assert stream_mux_config(config) == (bytes.fromhex("1408"), 1)
    stream = Stream("latm", 90000, options={"latm_config": config})
    for size in (1, 254, 255, 256, 700):
        stream.send(element(noise(size)) + (b"\0\0" if other != "0" else b""), marker=True)
        stream.step(5760)
    aus = stream.take()
    assert [data for _, data in aus] == [noise(size) for size in (1, 254, 255, 256, 700)]
    assert all(au["dur"] == 5760 for au, _ in aus)               # 1024 samples at 16 kHz, in ticks of 90 kHz
    assert stream.track.format_sets(1) == (bytes.fromhex("1408"),)


@pytest.mark.parametrize(("config", "asc"), [
    ("40002810adca00", "140856e500"),              # GStreamer: an SBR extension behind it, and its end is missing
    ("400028103fc0", "1408"),
])
def test_configurations_of_other_senders_are_read(config, asc):
    assert stream_mux_config(bytes.fromhex(config)) == (bytes.fromhex(asc), 1)


def test_several_subframes_follow_each_other():
    stream = Stream("latm", 16000, options={"latm_config": packed(mux_config(ASC, subframes=3))})
    stream.send(element(b"abc", b"de", b"f"), marker=True)
    assert [(au["pts"] - 5000, data) for au, data in stream.take()] == [(0, b"abc"), (1024, b"de"), (2048, b"f")]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 900), st.booleans())
def test_an_element_in_several_packets_is_put_together(size, part, marked):
    """The last one bears the marker; a new timestamp ends it as well."""
    stream = Stream("latm", 16000, options={"latm_config": packed(mux_config(ASC))})
    whole = element(noise(size))
    parts = [whole[i:i + part] for i in range(0, len(whole), part)]
    for i, piece in enumerate(parts):
        stream.send(piece, marker=marked and i == len(parts) - 1)
    stream.step(1024)
    stream.send(element(b"abc"), marker=True)
    assert [data for _, data in stream.take()] == [noise(size), b"abc"]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_an_element_with_a_hole_is_dropped_and_the_next_is_flagged(lost):
    stream = Stream("latm", 16000, options={"latm_config": packed(mux_config(ASC))})
    whole = element(noise(300))
    for number in range(3):
        for i in range(3):
            stream.send(whole[i * 101:(i + 1) * 101], marker=i == 2, lose=number == 1 and i == lost)
        stream.step(1024)
    stream.send(element(b"abc"), marker=True)
    aus = stream.take()
    assert noise(300) == aus[0][1] and aus[-1][1] == b"abc"
    assert all(data in {noise(300), b"abc"} for _, data in aus)
    assert [au["flags"] & DAMAGED for au, _ in aus].count(DAMAGED) == 1


def test_another_configuration_in_band_is_another_format():
    stream = Stream("latm", 16000)
    other = bits(bytes.fromhex("1410"))                          # stereo
    for asc, frame in ((ASC, b"abc"), (other, b"def"), (ASC, b"ghi")):
        stream.send(packed("0" + mux_config(asc) + bits(element(frame))), marker=True)
        stream.step(1024)
        stream.send(packed("1" + bits(element(frame))), marker=True)
        stream.step(1024)
    aus = stream.take()
    assert [(au["format"], data) for au, data in aus] == [(1, b"abc")] * 2 + [(2, b"def")] * 2 + [(1, b"ghi")] * 2
    assert [stream.track.format_sets(n)[0].hex() for n in (1, 2)] == ["1408", "1410"]


def test_elements_before_the_first_configuration_are_not_guessed():
    stream = Stream("latm", 16000)
    stream.send(packed("1" + bits(element(b"abc"))), marker=True)
    assert (stream.take(), stream.track.stats()["early_aus"]) == ([], 1)


@pytest.mark.parametrize("config", [b"", b"\0", bytes(20), b"\xff" * 20, packed("0" + "0" + mux_config(ASC)[2:]),
                                    packed(mux_config(bits(bytes.fromhex("1008")).replace("1", "0", 1)))])
def test_configurations_that_cannot_be_recorded_are_none(config):
    assert stream_mux_config(config) is None
    if config:
        with pytest.raises(ValueError, match="StreamMuxConfig"):
            Stream("latm", 16000, options={"latm_config": config})


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=60), st.booleans(), st.booleans()), max_size=12), st.booleans())
def test_any_bytes_as_latm_give_frames_that_fit(packets, in_band):
    stream = Stream("latm", 16000, options={} if in_band else {"latm_config": packed(mux_config(ASC, subframes=2))})
    for data, marker, step in packets:
        stream.send(data, marker=marker)
        if step:
            stream.step(1024)
    assert all(data for _, data in stream.end())


# ---- a track that is not what the SDP says

def test_a_track_whose_payloads_are_refused_time_after_time_is_turned_off():
    stream = Stream("l16", 16000)
    for i in range(120):
        stream.send(noise(3, i))
        stream.step(320)
    assert stream.track.stats()["malformed"] == 100
    assert stream.track.stats()["off"]
    stream.send(noise(4))
    assert stream.take() == []


def test_now_and_then_a_refused_payload_turns_nothing_off():
    stream, dice = Stream("l16", 16000), random.Random(1)
    good = 0
    for i in range(600):
        odd = dice.random() < 0.8
        good += not odd
        stream.send(noise(3 if odd else 4, i))
        stream.step(320)
    assert not stream.track.stats()["off"]
    assert len(stream.take()) == good
