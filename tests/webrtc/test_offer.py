"""Offers: what is read, what is chosen, what is answered; and the limits."""

import pytest
from aiortc.sdp import SessionDescription

from api.whep import choice
from recorder.base.errors import Refused
from recorder.base.media import SampleEntry
from recorder.webrtc.answer import Sending, Transport, build_answer
from recorder.webrtc.dtls import Fingerprint
from recorder.webrtc.offer import FINGERPRINTS_MAX, FORMATS_MAX, LINES_MAX, MEDIAS_MAX, SIZE_MAX, parse_offer
from tests.webrtc.offers import CHROMIUM

PRINT = Fingerprint("sha-256", ":".join(["AB"] * 32))
TRANSPORT = Transport("ufrag123", "p" * 24, PRINT, "passive", ("192.0.2.7", "2001:db8::7"), 8555)


def avc(profile: int, flags: int) -> SampleEntry:
    return SampleEntry("avc1", bytes([1, profile, flags, 31, 0xFF, 0xE0, 0]), 90000)


def test_what_chromium_offers_is_read():
    offer = parse_offer(CHROMIUM)
    video, audio = offer.media
    assert offer.bundle == {"0", "1"}
    assert (video.kind, video.mid, video.direction, video.rtcp_mux, video.reduced_rtcp) == ("video", "0", "recvonly", True, True)
    assert (video.ufrag, video.password, video.setup) == ("Rs7F", "cQ2d8XqYzfZlUHTm4jPDFf0e", "actpass")
    assert video.fingerprints[0].value.startswith("7B:8B:F0")
    assert video.codecs[102].feedback == {"goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"}
    assert (video.codecs[102].encoding, video.codecs[102].clock_rate) == ("h264", 90000)
    assert video.repair_of(102) == 103
    assert (audio.codecs[111].encoding, audio.codecs[111].channels) == ("opus", 2)


@pytest.mark.parametrize(("profile", "flags", "payload_type"), [
    (66, 0xC0, 106),            # constrained baseline
    (66, 0x00, 102),            # baseline
    (77, 0x00, 116), (77, 0x80, 106),
    (100, 0x00, 116),           # high: nobody offers it, main comes nearest
])
def test_the_payload_type_fits_the_cameras_profile(profile, flags, payload_type):
    codec = choice.h264_for(parse_offer(CHROMIUM).media[0], avc(profile, flags))
    assert codec is not None and codec.payload_type == payload_type
    assert codec.fmtp["packetization-mode"] == "1"


def test_the_answer_is_what_others_understand():
    """aiortc's reader, which is not used for offers."""
    offer = parse_offer(CHROMIUM)
    video, audio = offer.media
    sending = {0: Sending((video.codecs[106], video.codecs[107]), choice.FEEDBACK, (11, 12), "pictures"),
               1: Sending((audio.codecs[111],), (), (13,), "sound")}
    answer = SessionDescription.parse(build_answer(offer, sending, TRANSPORT, 1, "name"))
    pictures, sound = answer.media
    assert [(codec.payloadType, codec.name) for codec in pictures.rtp.codecs] == [(106, "H264"), (107, "rtx")]
    assert pictures.rtp.codecs[0].parameters["profile-level-id"] == "42e01f"
    assert [str(feedback.type) for feedback in pictures.rtp.codecs[0].rtcpFeedback] == ["nack"]      # of 106 no more is offered
    assert (pictures.direction, pictures.rtp.muxId, pictures.rtcp_mux) == ("sendonly", "0", True)
    assert [str(group) for group in answer.group] == ["BUNDLE 0 1"]
    assert [str(group) for group in pictures.ssrc_group] == ["FID 11 12"]
    assert [one.ssrc for one in pictures.ssrc] == [11, 12]
    assert sound.ssrc[0].cname == "name"
    assert (pictures.dtls.role, pictures.ice.iceLite, pictures.ice.usernameFragment) == ("server", True, "ufrag123")
    assert [(one.ip, one.port, one.type) for one in pictures.ice_candidates] == [("192.0.2.7", 8555, "host"), ("2001:db8::7", 8555, "host")]
    assert pictures.ice_candidates[0].priority > pictures.ice_candidates[1].priority


def test_what_is_not_sent_stays_silent_or_is_refused():
    text = CHROMIUM + b"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\na=sctp-port:5000\r\n"
    offer = parse_offer(text)
    lines = build_answer(offer, {0: Sending((offer.media[0].codecs[106],), (), (1,), "pictures")}, TRANSPORT, 1, "n").splitlines()
    assert [line for line in lines if line.startswith("m=")] == ["m=video 8555 UDP/TLS/RTP/SAVPF 106", "m=audio 8555 UDP/TLS/RTP/SAVPF 111",
                                                                "m=application 0 UDP/DTLS/SCTP webrtc-datachannel"]
    assert [line for line in lines if line in {"a=sendonly", "a=inactive"}] == ["a=sendonly", "a=inactive", "a=inactive"]
    assert "a=group:BUNDLE 0 1" in lines


@pytest.mark.parametrize(("codec", "channels", "payload_type"), [("Opus", 2, 111), ("Opus", 1, 111), ("ulaw", 1, 0), ("alaw", 1, 8)])
def test_sound_goes_as_it_was_recorded(codec, channels, payload_type):
    taken = choice.sound(parse_offer(CHROMIUM), 0, SampleEntry(codec, b"", 8000, channels=channels))
    assert taken is not None and (taken.place, taken.codec.payload_type) == (1, payload_type)


@pytest.mark.parametrize("entry", [SampleEntry("mp4a", b"", 48000), SampleEntry("alaw", b"", 8000, channels=2)])
def test_sound_that_webrtc_has_no_word_for_is_left_out(entry):
    assert choice.sound(parse_offer(CHROMIUM), 0, entry) is None


def test_sound_outside_the_bundle_is_left_out():
    """It would need a transport of its own."""
    offer = parse_offer(CHROMIUM.replace(b"BUNDLE 0 1", b"BUNDLE 0"))
    assert choice.sound(offer, 0, SampleEntry("Opus", b"", 48000, channels=2)) is None


@pytest.mark.parametrize(("old", "new"), [(b"recvonly", b"sendonly"), (b"recvonly", b"inactive"), (b"a=rtcp-mux\r\n", b""),
                                          (b"SAVPF", b"AVPF"), (b"packetization-mode=1", b"packetization-mode=0"), (b"H264", b"H265")])
def test_pictures_have_no_place_in_such_an_offer(old, new):
    assert choice.picture_place(parse_offer(CHROMIUM.replace(old, new))) is None


@pytest.mark.parametrize("body", [
    b"", b"v=0", b"hello", b"\xff\xfe", b"v=0\r\nm=video\r\n", b"v=0\r\nm=video x UDP 1\r\n", b"v=0\r\nm=vid\xc3\xa9o 9 UDP 1\r\n",
    b"v=0\r\n" + b"m=video 9 RTP 96\r\n" * (MEDIAS_MAX + 1), b"v=0\r\n" + b"a=x\r\n" * LINES_MAX + b"m=video 9 RTP 96\r\n",
    b"v=0\r\nm=video 9 RTP" + b" 96" * (FORMATS_MAX + 1) + b"\r\n", b"v=0\r\na=" + b"x" * 3000 + b"\r\n", b"v=0\r\n" + b" " * SIZE_MAX,
    b"v=0\r\nm=video 9 RTP 96\r\na=fmtp:96 x\ra=candidate:1\r\n", b"v=0\r\nm=video 9 RTP 96\r\na=rtpmap:96 H264/90000\0\r\n",
    b"v=0\r\nm=video 9 RTP 96\r\na=mid:0\r\nm=video 9 RTP 96\r\na=mid:0\r\n", b"v=0\r\na=ice-ufrag:a b\r\nm=video 9 RTP 96\r\n",
    b"v=0\r\na=ice-pwd:\r\nm=video 9 RTP 96\r\n", b"v=0\r\na=fingerprint:sha-256 AB\r\nm=video 9 RTP 96\r\n",
    b"v=0\r\nm=video 9 RTP 96\r\n"
    + b"".join(b"a=fingerprint:sha-256 " + b":".join([b"%02X" % n] * 32) + b"\r\n" for n in range(FINGERPRINTS_MAX + 1)),
])
def test_what_is_no_offer_is_refused_with_the_reason(body):
    with pytest.raises(Refused, match="the offer cannot be used"):
        parse_offer(body)
