"""Addresses: credentials out, controls joined, Content-Base in the shapes that cameras send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.base.errors import SourceError
from recorder.base.hidden_login import hides_login
from recorder.base.media import GapCause
from recorder.rtsp.url import UserInfo, base_url, join_control, parse_url, strip_userinfo


@pytest.mark.parametrize(("text", "host", "port", "path", "user", "password"), [
    ("rtsp://10.0.0.1/x", "10.0.0.1", 554, "/x", None, None),
    ("RTSP://cam.lan:8554", "cam.lan", 8554, "", None, None),
    ("rtsp://[fd00::1]:8554/a?b=c", "fd00::1", 8554, "/a?b=c", None, None),
    ("rtsp://admin:p@ss:w/ord?#1@10.0.0.1:554/x", "10.0.0.1", 554, "/x", "admin", "p@ss:w/ord?#1"),
    ("rtsp://a%40b:100%25@10.0.0.1/x", "10.0.0.1", 554, "/x", "a@b", "100%"),
    ("rtsp://a:%2540@10.0.0.1/x", "10.0.0.1", 554, "/x", "a", "%40"),            # decoded once
    ("rtsp://admin:@10.0.0.1/x", "10.0.0.1", 554, "/x", "admin", ""),
    ("rtsp://admin@10.0.0.1/x", "10.0.0.1", 554, "/x", "admin", ""),
    ("rtsp://u:p[^&!]@cam.lan:88/x", "cam.lan", 88, "/x", "u", "p[^&!]"),
    ("rtsp://u:pässwort@cam.lan/x", "cam.lan", 554, "/x", "u", "pässwort"),
    ("rtsp://10.0.0.1/stream@2", "10.0.0.1", 554, "/stream@2", None, None),       # a path may hold an @
    ("rtsp://u:p@10.0.0.1/stream@2/x", "10.0.0.1", 554, "/stream@2/x", "u", "p"),
    ("rtsp://camera/x", "camera", 554, "/x", None, None),
    ("rtsp://u:p@camera/x", "camera", 554, "/x", "u", "p"),
])
def test_parts(text: str, host: str, port: int, path: str, user: str | None, password: str | None) -> None:
    url, userinfo = parse_url(text)
    assert (url.host, url.port, url.path) == (host, port, path)
    assert (userinfo.user if userinfo else None, userinfo.password if userinfo else None) == (user, password)
    assert "@" not in url.text.removesuffix(path)


@pytest.mark.parametrize("text", [
    "", "http://h/x", "rtspu://h/x", "file:///etc/passwd", "rtsp://", "rtsp:///x", "rtsp://h:0/x", "rtsp://h:70000/x", "rtsp://h:x/y",
    "rtsp://h/a b", "rtsp://h/a\r\nX: y", "rtsp://" + "h" * 3000, "concat:rtsp://h/x", "rtsp://fd00::1/x",
])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_url(text)
    assert caught.value.cause == GapCause.REFUSED


def test_password_never_shows() -> None:
    assert "geheim" not in repr(UserInfo("u", "geheim"))
    for text in ("rtsp://u:geheim@h:x/y", "http://u:geheim@h/", "rtsp://u:geheim @h/"):
        with pytest.raises(SourceError) as caught:
            parse_url(text)
        assert "geheim" not in str(caught.value)
    assert strip_userinfo("rtsp://u:geheim@10.0.0.1/x") == "rtsp://10.0.0.1/x"


@pytest.mark.parametrize(("base", "control", "joined"), [
    ("rtsp://h/x", "trackID=1", "rtsp://h/x/trackID=1"),                          # not RFC 1808: x stays
    ("rtsp://h/x/", "trackID=1", "rtsp://h/x/trackID=1"),
    ("rtsp://h/x", "/trackID=1", "rtsp://h/x/trackID=1"),
    ("rtsp://h/x/", "/trackID=1", "rtsp://h/x/trackID=1"),
    ("rtsp://h/x?transportmode=unicast", "trackID=1", "rtsp://h/x?transportmode=unicast/trackID=1"),
    ("rtsp://h/x?a=b&proto=Onvif/", "trackID=0", "rtsp://h/x?a=b&proto=Onvif/trackID=0"),
    ("rtsp://h/x", "*", "rtsp://h/x"),
    ("rtsp://h/x", "", "rtsp://h/x"),
    ("rtsp://h/x", "?ctype=video", "rtsp://h/x?ctype=video"),
    ("rtsp://h/x", "rtsp://127.0.0.1:554/x/trackID=1", "rtsp://127.0.0.1:554/x/trackID=1"),
    ("rtsp://h/x", "rtsp://u:p@10.0.0.1/x/t", "rtsp://10.0.0.1/x/t"),
])
def test_control_is_joined_as_cameras_mean_it(base: str, control: str, joined: str) -> None:
    assert join_control(base, control) == joined


@pytest.mark.parametrize(("content_base", "location", "base"), [
    ("", "", "rtsp://10.0.0.9:8554/live/1?q=2"),
    ("rtsp://10.0.0.9:8554/live/1/", "", "rtsp://10.0.0.9:8554/live/1/"),
    ("", "rtsp://10.0.0.9:8554/loc/", "rtsp://10.0.0.9:8554/loc/"),
    ("rtsp://127.0.0.1:554/other/", "", "rtsp://10.0.0.9:8554/other/"),           # a DVR that names its inside
    ("192.168.1.10:554/x/", "", "rtsp://10.0.0.9:8554/x/"),                       # no scheme
    ("rtsp://rtsp://10.0.0.9/x/", "", "rtsp://10.0.0.9:8554/x/"),
    ("rtsp://::ffff:1.2.3.4/x/", "", "rtsp://10.0.0.9:8554/x/"),                  # IPv6 without brackets
    ("rtsp://u:p@10.0.0.9:8554/x/", "", "rtsp://10.0.0.9:8554/x/"),
    ("/live/1/", "", "rtsp://10.0.0.9:8554/live/1/"),
    ("live/1/", "", "rtsp://10.0.0.9:8554/live/1/"),
    ("rtsp://10.0.0.9:8554", "", "rtsp://10.0.0.9:8554"),
    ("rtsp://evil\r\nX: y/", "", "rtsp://10.0.0.9:8554/live/1?q=2"),
])
def test_content_base_gives_only_its_path(content_base: str, location: str, base: str) -> None:
    assert base_url(parse_url("rtsp://10.0.0.9:8554/live/1?q=2")[0], content_base, location) == base


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for candidate in (text, "rtsp://" + text):
        try:
            url, _ = parse_url(candidate)
        except SourceError:
            continue
        assert 0 < url.port < 65536 and url.host
        assert url.text.startswith("rtsp://") and "\n" not in base_url(url, text)


def test_a_scheme_without_end_is_not_told_in_full() -> None:
    with pytest.raises(SourceError, match="is not for cameras") as caught:
        parse_url("btsp" * 1000 + "://10.0.0.1/x")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", [
    "rtsp://admin:1/2@10.0.0.1/x",
    "rtsp://admin:1/2@host/x",
    "rtsp://admin:12345/6@cam.lan:88/x",
    "rtsps://admin:1?2@10.0.0.1/x",
    "rtsp://admin:1#2@10.0.0.1/x",
    "rtsp://admin:/2@10.0.0.1/x",
])
def test_a_password_that_reads_like_a_port_is_not_taken_for_one(text: str) -> None:
    """Host `admin`, port 1 was asked for, with the password in the path, for every log to see."""
    with pytest.raises(SourceError) as caught:
        parse_url(text)
    assert "%2F" in caught.value.remedy
    assert "admin" not in str(caught.value) and "12345" not in str(caught.value)
    assert hides_login(text.partition("://")[2])


@pytest.mark.parametrize("text", [
    "10.0.0.1/stream@2", "10.0.0.1:554/stream@2", "cam.lan:554/a@10.0.0.1/b", "[::1]:554/a@b", "[fe80::1]/a@b", "camera/a@b",
    "localhost:554/a@b",
    "u:p@10.0.0.1/a", "u:p@10.0.0.1:1/a@b", "camera:554/a", "camera:554/a%40b", "",
])
def test_an_at_in_a_path_is_no_login(text: str) -> None:
    assert not hides_login(text)


def test_an_at_that_is_encoded_stays_in_the_path() -> None:
    url, userinfo = parse_url("rtsp://admin:1%2F2@host/x%40y")
    assert (url.host, url.path, userinfo) == ("host", "/x%40y", UserInfo("admin", "1/2"))
