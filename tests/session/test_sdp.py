"""Session descriptions as cameras break them: one medium may be lost, the session never."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.base.errors import SourceError
from recorder.base.media import GapCause
from recorder.rtsp.handshake import choose
from recorder.rtsp.sdp import PayloadFormat, SessionDescription, parse_sdp

GOOD = """v=0
o=- 1 1 IN IP4 10.0.0.1
s=camera
c=IN IP4 0.0.0.0
t=0 0
a=control:*
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1;profile-level-id=64001F;sprop-parameter-sets=Z2QAH6zZ,aOvjyyLA
a=control:trackID=1
m=audio 0 RTP/AVP 8
a=control:trackID=2
"""


def sdp(text: str) -> SessionDescription:
    return parse_sdp(text.encode())


def only(text: str) -> PayloadFormat:
    """The only format of the only medium."""
    (media,) = sdp(text).medias
    (found,) = media.formats
    return found


def check_good(found: SessionDescription) -> None:
    video, audio = found.medias
    assert (video.kind, video.formats[0].encoding, video.formats[0].clock_rate, video.control) == ("video", "H264", 90000, "trackID=1")
    assert video.formats[0].fmtp["sprop-parameter-sets"] == "Z2QAH6zZ,aOvjyyLA"
    assert (audio.kind, audio.formats[0], audio.control) == ("audio", PayloadFormat(8, "PCMA", 8000, 1), "trackID=2")


def test_good_description() -> None:
    found = sdp(GOOD)
    check_good(found)
    assert (found.control, found.lost) == ("*", ())


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_line_ends(end: str) -> None:
    check_good(sdp(GOOD.replace("\n", end)))
    check_good(sdp(GOOD.rstrip("\n").replace("\n", end)))


@pytest.mark.parametrize(("old", "new"), [
    ("v=0\n", ""),
    ("v=0\n", " v=0\n"),
    ("v=0\n", "\ufeffv=0\n"),
    ("v=0\n", "Server ready\n\nv=0\n"),
    ("o=- 1 1 IN IP4 10.0.0.1\n", ""),
    ("o=- 1 1 IN IP4 10.0.0.1\n", "o=- 1 1 IP IP4 x.y.z.w\n"),
    ("o=- 1 1 IN IP4 10.0.0.1\n", "o=my cam 0x1f 1.5 IN IP4 10.0.0.1\n"),
    ("s=camera\n", ""),
    ("s=camera\n", "s=\ns=again\n"),
    ("c=IN IP4 0.0.0.0\n", "c=IN 192.168.4.232\n"),
    ("c=IN IP4 0.0.0.0\n", "c=IN \n"),
    ("t=0 0\n", ""),
    ("t=0 0\n", "t=now-later\nr=7d 1h\n"),
    ("t=0 0\n", "t=0 0\nb=RR:0\nb=TIAS:1\nz=?\nk=\n=\n==\nx\n"),
    ("a=control:*\n", ""),
    ("a=control:trackID=1\n", "a=control:trackID=1\na=framerate:0S\na=framerate:25\na\na=\na=:\n"),
    ("m=audio", "m=application/TP-LINK 0 RTP/AVP smart/1/90000\na=rtpmap:95 TP-LINK/90000\nm=audio"),
    ("H264/90000\n", "H264/90000 \n"),
    ("H264/90000\n", "h264/90000\n"),
    ("a=rtpmap:96 H264/90000", "a=rtpmap: 96  H264 / 90000"),
    ("H264/90000\n", "H264/0\n"),
    ("H264/90000\n", "H264\n"),
])
def test_broken_line_costs_nothing(old: str, new: str) -> None:
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    found = sdp(text)
    if "TP-LINK" in new:
        assert [m.kind for m in found.medias] == ["video", "audio"]
        assert found.lost and "no payload type" in found.lost[0]
    check_good(found)


def test_attributes_in_any_order() -> None:
    head, _, rest = GOOD.partition("m=video 0 RTP/AVP 96\n")
    lines = rest.split("m=audio")[0].splitlines()
    check_good(sdp(head + "m=video 0 RTP/AVP 96\n" + "\n".join(reversed(lines)) + "\nm=audio 0 RTP/AVP 8\na=control:trackID=2\n"))


def test_a_control_longer_than_any_address_is_left_out() -> None:
    """One of 120,000 `@` took the loop, and with it all cameras, for a quarter of a minute."""
    (media,) = sdp("m=video 0 RTP/AVP 96\na=control:trackID=1\na=control:rtsp://" + "@" * 120_000 + "\n").medias
    assert media.control == "trackID=1"


def test_duplicate_framerate_takes_the_readable_one() -> None:
    assert sdp("m=video 0 RTP/AVP 96\na=framerate:0S\na=framerate:25.000000\n").medias[0].framerate == 25


@pytest.mark.parametrize("line", ["a=fmtp:96", "a=fmtp:96 ", "a=fmtp:", "a=fmtp", "a=fmtp:x y=z"])
def test_empty_fmtp(line: str) -> None:
    assert only(f"m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\n{line}\n").fmtp == {}


def test_fmtp_keys_in_mixed_case_without_value_and_trailing_semicolon() -> None:
    found = only("m=audio 0 RTP/AVP 97\na=rtpmap:97 MPEG4-GENERIC/16000\na=fmtp:97 SizeLength=13; config = 1408 ;flag;;mode=AAC-hbr;\n")
    assert found.fmtp == {"sizelength": "13", "config": "1408", "flag": "", "mode": "AAC-hbr"}


def test_fmtp_value_keeps_its_padding() -> None:
    assert only("m=video 0 RTP/AVP 96\na=fmtp:96 sprop-parameter-sets=Z00A==,aO4=\n").fmtp["sprop-parameter-sets"] == "Z00A==,aO4="


def test_fmtp_with_the_wrong_payload_type_goes_to_the_only_format() -> None:
    found = only("m=audio 0 RTP/AVP 104\na=rtpmap:104 mpeg4-generic/16000/1\na=fmtp:97 config=1408\n")
    assert (found.encoding, found.fmtp) == ("MPEG4-GENERIC", {"config": "1408"})


def test_fmtp_on_another_medium_goes_home() -> None:
    video, audio = sdp("m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:97 config=1408\n"
                       "m=audio 0 RTP/AVP 97\na=rtpmap:97 MPEG4-GENERIC/16000\n").medias
    assert (video.formats[0].fmtp, audio.formats[0].fmtp) == ({}, {"config": "1408"})


def test_same_payload_type_in_two_media_is_kept_apart() -> None:
    video, audio = sdp("m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\nm=audio 0 RTP/AVP 96\na=rtpmap:96 PCMU/8000\n").medias
    assert (video.formats[0].encoding, audio.formats[0].encoding) == ("H264", "PCMU")


@pytest.mark.parametrize(("line", "expected"), [
    ("a=rtpmap:0 MPEG4-GENERIC/16000/2", PayloadFormat(0, "MPEG4-GENERIC", 16000, 2)),     # a static type with another meaning
    ("", PayloadFormat(0, "PCMU", 8000, 1)),
    ("a=rtpmap:0 PCMU/0", PayloadFormat(0, "PCMU", 0, 1)),
])
def test_static_payload_type(line: str, expected: PayloadFormat) -> None:
    assert only(f"m=audio 0 RTP/AVP 0\n{line}\n") == expected


def test_payload_type_2_is_the_g726_of_old_cameras() -> None:
    assert only("m=audio 0 RTP/AVP 2\n") == PayloadFormat(2, "G726-32", 8000, 1)


@pytest.mark.parametrize(("line", "size"), [
    ("a=x-dimensions:2592,1944", (2592, 1944)),              # Axis
    ("a=framesize:26 2592-1944", (2592, 1944)),              # RFC 6064 3.3
    ("a=framesize:26 1920x1080", (0, 0)),
    ("a=x-dimensions:", (0, 0)),
    ("a=x-dimensions:99999,99999", (65535, 65535)),
    ("a=x-dimensions:2592,1944\na=framesize:26 nonsense", (2592, 1944)),
])
def test_the_size_of_pictures_over_2040_pixels(line: str, size: tuple[int, int]) -> None:
    (media,) = sdp(f"m=video 0 RTP/AVP 26\n{line}\n").medias
    assert (media.width, media.height) == size


def test_metadata_is_found_under_any_kind_of_medium() -> None:
    kinds = ("application", "vnd.onvif.metadata"), ("APPLICATION", "VND.ONVIF.METADATA.GZIP"), ("data", "vnd.onvif.metadata.exi.onvif")
    for kind, encoding in kinds:
        text = f"m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\nm={kind} 0 RTP/AVP 107\na=rtpmap:107 {encoding}/90000\na=control:meta\n"
        assert [m.control for m in sdp(text).received("metadata")] == ["meta"]
        assert len(sdp(text).received("video")) == 1
    assert sdp("m=application 0 RTP/AVP 107\na=rtpmap:107 smart/90000\n").received("metadata") == []


def test_a_parameter_line_for_a_type_that_nobody_has_goes_to_the_only_format() -> None:
    """LATM cameras write `fmtp:40` (mediamtx#3590)."""
    found = only("m=audio 0 RTP/AVP 96\na=rtpmap:96 MP4A-LATM/24000/2\na=fmtp:40 profile-level-id=30;cpresent=0;config=\n")
    assert (found.encoding, found.channels, found.fmtp["cpresent"], found.fmtp["config"]) == ("MP4A-LATM", 2, "0", "")


@pytest.mark.parametrize(("line", "channels"), [("opus/48000/2", 2), ("OPUS/48000/1", 1), ("opus/48000", 1), ("opus/16000/2", 2)])
def test_opus_may_say_what_it_likes(line: str, channels: int) -> None:
    assert only(f"m=audio 0 RTP/AVP 97\na=rtpmap:97 {line}\n").channels == channels


def test_h264_on_a_static_type_and_a_static_type_by_another_name() -> None:
    """Bosch (gortsplib#632); a camera that calls PT 8 PCMU."""
    video, audio = sdp("m=video 0 RTP/AVP 35\na=rtpmap:35 H264/90000\nm=audio 0 RTP/AVP 8\na=rtpmap:8 PCMU/8000\n").medias
    assert (video.formats[0].encoding, audio.formats[0].encoding) == ("H264", "PCMU")


@pytest.mark.parametrize("fmtp", ["profile-level-id=TeAo", "profile-level-id=5046314", "profile-level-id=f40016", "profile-level-id"])
def test_a_profile_that_is_no_hex_costs_nothing(fmtp: str) -> None:
    found = only(f"m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 {fmtp};sprop-parameter-sets=Z00=\n")
    assert found.fmtp["sprop-parameter-sets"] == "Z00="


def test_several_video_media_keep_their_order() -> None:
    """Cameras with several lenses; sound twice, as AAC and Opus."""
    text = "".join(f"m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=control:lens{n}\n" for n in range(3))
    text += "m=audio 0 RTP/AVP 97\na=rtpmap:97 mpeg4-generic/16000\nm=audio 0 RTP/AVP 98\na=rtpmap:98 opus/48000/2\n"
    assert [m.control for m in sdp(text).received("video")] == ["lens0", "lens1", "lens2"]
    assert [m.formats[0].encoding for m in sdp(text).received("audio")] == ["MPEG4-GENERIC", "OPUS"]


def test_several_formats_keep_their_order() -> None:
    (media,) = sdp("m=video 0 RTP/AVP 97 96 97\na=rtpmap:96 H264/90000\na=rtpmap:97 H265/90000\n").medias
    assert media.payload_types == (97, 96)


def test_backchannel_is_not_received() -> None:
    text = ("m=video 0 RTP/AVP 96\na=recvonly\nm=audio 0 RTP/AVP 0\na=recvonly\na=control:in\n"
            "m=audio 0 RTP/AVP 0\na=sendonly\na=control:back\n")
    assert [m.control for m in sdp(text).received("audio")] == ["in"]


def test_camera_that_marks_every_medium_sendonly_means_itself() -> None:
    text = "m=video 0 RTP/AVP 96\na=sendonly\nm=audio 0 RTP/AVP 0\na=sendonly\n"
    assert [len(sdp(text).received(kind)) for kind in ("video", "audio")] == [1, 1]
    assert len(sdp("a=sendonly\n" + text.replace("a=sendonly\n", "")).received("video")) == 1


def test_inactive_medium_is_not_received() -> None:
    assert sdp("m=video 0 RTP/AVP 96\na=inactive\n").received("video") == []


@pytest.mark.parametrize("body", [b"", b"v=0\r\n", b"hello", b"a=x\n" * 5000 + b"m=video 0 RTP/AVP 96\n",
                                  b"m=video 0 RTP/AVP 96\n" + b"a=" + b"x" * (1 << 20)])
def test_no_medium_and_too_much_are_bad_sdp(body: bytes) -> None:
    with pytest.raises(SourceError) as caught:
        parse_sdp(body)
    assert (caught.value.cause, caught.value.retry_s) == (GapCause.BAD_SDP, 60.0)


def test_more_media_than_any_camera_has_are_lost() -> None:
    found = sdp("m=video 0 RTP/AVP 96\n" * 100)
    assert (len(found.medias), len(found.lost)) == (64, 36)


SDP_LINE = st.one_of(st.text(max_size=40), st.builds("{}={}".format, st.sampled_from("vosctmabkzr"), st.text(max_size=40)),
                     st.builds("m={} 0 RTP/AVP {}".format, st.sampled_from(["video", "audio"]), st.text(alphabet="0123456789 ", max_size=12)),
                     st.builds("a={}:{} {}".format, st.sampled_from(["rtpmap", "fmtp"]), st.integers(0, 200), st.text(max_size=30)))


@given(st.lists(SDP_LINE, max_size=30))
def test_any_lines_are_read_or_bad_sdp(lines: list[str]) -> None:
    try:
        found = sdp("\n".join(lines))
    except SourceError as error:
        assert error.cause == GapCause.BAD_SDP
    else:
        assert all(m.formats and all(0 <= p < 128 for p in m.payload_types) for m in found.medias)


def test_a_medium_that_is_encrypted_is_refused_by_name_and_a_plain_one_beside_it_is_taken() -> None:
    """Its ciphertext would be recorded as if it were pictures."""
    secret = GOOD.replace("m=video 0 RTP/AVP 96", "m=video 0 RTP/SAVP 96")
    with pytest.raises(SourceError, match="its video as SRTP only") as caught:
        choose(sdp(secret), "video")
    assert caught.value.cause == GapCause.UNSUPPORTED
    media, _ = choose(sdp(secret + GOOD[GOOD.index("m=video"):GOOD.index("m=audio")]), "video")
    assert media.protocol == "RTP/AVP"
