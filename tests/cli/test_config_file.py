"""Bad configuration gets one line with the file, the key and the remedy; the sample shows every key with its true default."""

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from recorder.base.config import (
    CameraConfig,
    ExportsConfig,
    GroupRule,
    RecordingConfig,
    RetentionRule,
    RtspOutConfig,
    ServerConfig,
    SigningConfig,
    SiteConfig,
    StreamConfig,
    TrackRule,
    VolumeConfig,
)
from recorder.base.config_file import read_config
from recorder.base.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SECRET = "p@ss:w/rd%41"
GOOD = """
name = "Test"
state_dir = "state"
[[volume]]
path = "volume"
"""
CAMERA = """
[[camera]]
id = "north-road"
main = { url = "rtsp://10.0.0.1/1" }
"""


def address(url: str, start: str = "") -> str:
    """A camera with this address."""
    return f'[[camera]]\nid = "other"\nmain = {{ url = "{url}", start = "{start}" }}\n'


def write(folder: Path, text: str, mode: int = 0o644) -> Path:
    file = folder / "site.toml"
    file.write_text(text)
    file.chmod(mode)
    return file


def refused(folder: Path, text: str, mode: int = 0o644) -> str:
    with pytest.raises(ConfigError) as caught:
        read_config(write(folder, text, mode))
    line = str(caught.value)
    assert "\n" not in line
    assert caught.value.remedy
    assert "site.toml" in caught.value.where
    return line


def test_the_least_file_gives_the_defaults(tmp_path: Path) -> None:
    site = read_config(write(tmp_path, GOOD))
    assert site == SiteConfig(name="Test", state_dir=tmp_path / "state", volumes=(VolumeConfig(tmp_path / "volume"),))


def test_every_key_arrives(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text(SECRET + "\n")
    (tmp_path / "pem").write_text("x")
    site = read_config(write(tmp_path, """
name = "Test"
state_dir = "/state"
live_dir = "/run/shm"
[server]
listen = "0.0.0.0"
port = 9000
hosts = ["nvr.example.org"]
origins = ["https://wall.example.org:8443"]
tls = { cert = "pem", key = "pem" }
[recording]
slots = 2
camera_networks = ["127.0.0.0/8"]
tls_ca = "pem"
[retention]
days = 2.5
bytes_max = 1000000
[[volume]]
path = "/v"
uuid = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
on_root = true
[[camera]]
id = "a"
main = { url = "rtsp://[fd00::1]:8554/x?y=1", kbps = 8000 }
sub = { url = "rtsp://10.0.0.1/2" }
user = "u"
password_file = "pw"
tls_fingerprint = "AB:CD:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00"
latitude = 51
rule = { days = 1 }
enabled = false
"""))
    assert site.server.tls is not None and site.server.tls.cert == tmp_path / "pem"
    assert (site.recording.slots, site.retention.days, site.volumes[0].on_root) == (2, 2.5, True)
    assert site.recording.tls_ca == tmp_path / "pem"
    camera = site.cameras[0]
    assert camera.tls_fingerprint.startswith("AB:CD:")
    assert (camera.password, camera.latitude, camera.enabled, camera.rule) == (SECRET, 51.0, False, RetentionRule(days=1.0))
    assert camera.main == StreamConfig("rtsp://[fd00::1]:8554/x?y=1", 8000)
    assert SECRET not in repr(site)


@pytest.mark.parametrize(("text", "says"), [
    (GOOD.replace("state_dir", "statedir"), r"statedir: no such key; did you mean state_dir\?"),
    (GOOD + "[serve]\nport=1", r"serve: no such key; did you mean server\?"),
    (GOOD + "[server]\nprot = 1", r"server\.prot: no such key; did you mean port\?"),
    (GOOD + "[server]\nzzzzzz = 1", r"server\.zzzzzz: no such key; known here: hosts, listen, origins, port, tls"),
    (GOOD + "[server]\nport = \"80\"", r'server\.port: must be a whole number, not "80"'),
    (GOOD + "[server]\nport = true", r"server\.port: must be a whole number, not True"),
    (GOOD + "[server]\nport = 70000", r"server\.port: must be from 1 to 65535, not 70000"),
    (GOOD + "[server]\nlisten = \"localhost\"", r'server\.listen: must be an IP address, not "localhost"'),
    (GOOD + "[server]\nlisten = \"0.0.0.0\"", r"server\.tls: is missing while listen is 0\.0\.0\.0"),
    (GOOD + "[server]\nlisten = \"0.0.0.0\"\ntls = \"proxy\"", r"server\.hosts: is missing while listen is 0\.0\.0\.0"),
    (GOOD + "[server]\ntls = \"yes\"", r'server\.tls: "yes" is no known way'),
    (GOOD + "[server]\ntls = { cert = \"none.pem\", key = \"none.pem\" }", r"server\.tls\.cert: .*none\.pem cannot be read"),
    (GOOD + "[server]\ntls = { cert = \"site.toml\" }", r"server\.tls\.key: is missing"),
    (GOOD + "[webrtc]\nbind = \"localhost\"", r'webrtc\.bind: must be an IP address, not "localhost"'),
    (GOOD + "[webrtc]\nbind = \"0.0.0.0\"", r"webrtc\.bind: 0\.0\.0\.0 can be reached from other machines, and the API has no TLS"),
    (GOOD + "[webrtc]\nbind = \"::\"\n[server]\ntls = \"proxy\"", r"webrtc\.ice_addresses: is missing behind a proxy"),
    (GOOD + "[webrtc]\nice_addresses = [\"nvr.example.org\"]", r'webrtc\.ice_addresses: "nvr\.example\.org" is no IP address'),
    (GOOD + "[webrtc]\nice_addresses = [" + "\"10.0.0.1\"," * 9 + "]", r"webrtc\.ice_addresses: has more than 8"),
    (GOOD + "[webrtc]\nport = 70000", r"webrtc\.port: must be from 0 to 65535, not 70000"),
    (GOOD + "[server]\nhosts = [1]", r"server\.hosts: must be a list of texts"),
    (GOOD + "[server]\nhosts = [\"a/b\"]", r'server\.hosts: "a/b" cannot be used'),
    (GOOD + "[server]\norigins = [\"*\"]", r'server\.origins: "\*" cannot be used'),
    (GOOD + "[server]\norigins = [\"https://a.org/x\"]", r"server\.origins: .* cannot be used"),
    (GOOD.replace("[[volume]]", "[volume]"), r"volume: must be an array of tables"),
    (GOOD.replace('path = "volume"', ""), r"volume\[1\]\.path: is missing"),
    (GOOD.partition("[[")[0], r"volume: is missing"),
    (GOOD + "[[volume]]\npath = \"volume\"", r"volume\[2\]\.path: .* is there twice"),
    (GOOD + "uuid = \"1b4e\"", r'volume\[1\]\.uuid: "1b4e" is no UUID'),
    (GOOD + "[recording]\nslots = 0", r"recording\.slots: must be from 1 to 64, not 0"),
    (GOOD + "[recording]\ncommit_ms = 100", r"recording\.commit_ms: 100 is below gather_ms = 200"),
    (GOOD + "[recording]\nbuffer_s = nan", r"recording\.buffer_s: must be a number, not nan"),
    (GOOD + "[recording]\ncamera_networks = [\"10.0.0.1/8\"]", r"recording\.camera_networks: 10\.0\.0\.1/8 has host bits set"),
    (GOOD + "[recording]\nudp_port_first = 50000\nudp_port_last = 50010", r"recording\.udp_port_last: leaves fewer than 64 ports"),
    (GOOD + CAMERA.replace("1/1\"", "1/1\", transport = \"rtp\""), r'north-road\.main\.transport: "rtp" is not known; use one of tcp'),
    (GOOD + CAMERA.replace("rtsp:", "rtsps:").replace("1/1\"", "1/1\", transport = \"udp\""), r"north-road\.main\.transport: udp would carry"),
    (GOOD + "[recording]\ntls_ca = \"none.pem\"", r"recording\.tls_ca: .*none\.pem cannot be read"),
    (GOOD + CAMERA + 'tls_fingerprint = "ab:cd"', r"camera north-road\.tls_fingerprint: is no SHA-256 fingerprint"),
    (GOOD + CAMERA + f'tls_fingerprint = "{"0" * 64}"\ntls_insecure = true', r"camera north-road\.tls_insecure: contradicts"),
    (GOOD + "[retention]\ndays = -1", r"retention\.days: must be from 0\.0001 to 3660, not -1"),
    (GOOD + "[retention]\ndays = \"31\"", r'retention\.days: must be a number, not "31"'),
    (GOOD + CAMERA.replace("north-road", "North Road"), r'camera\[1\]\.id: "North Road" does not match'),
    (GOOD + CAMERA.replace("north-road", "../../etc"), r"camera\[1\]\.id: "),
    (GOOD + CAMERA + CAMERA, r'camera\[2\]\.id: "north-road" is there twice'),
    (GOOD + CAMERA + "rul = { days = 1 }", r"camera north-road\.rul: no such key; did you mean rule\?"),
    (GOOD + "[retention]\nday = 3", r"retention\.day: no such key; did you mean days\?"),
    (GOOD + "[retention]\ndays = 2\ndays_min = 3", r"retention\.days_min: 3 is above days = 2; make it"),
    (GOOD + "[retention]\nbytes_max = 2\nbytes_min = 3", r"retention\.bytes_min: 3 is above bytes_max = 2; make it"),
    (GOOD + "[retention]\naudio = 7", r"retention\.audio: must be a table, not 7"),
    (GOOD + "[retention]\naudio = { days = 0 }", r"retention\.audio\.days: must be from 0\.0001 to 3660, not 0"),
    (GOOD + "[[retention.partner]]\ndays = 7", r"retention\.partner\[1\]\.name: is missing"),
    (GOOD + '[[retention.site]]\nname = ""', r'retention\.site\[1\]\.name: "" names nobody'),
    (GOOD + '[[retention.partner]]\nname = "a"\n' * 2, r'retention\.partner\[2\]\.name: "a" is there twice'),
    (GOOD.replace('"volume"', '"volume"\nweight = 0'), r"volume\[1\]\.weight: must be from 0\.001 to 1000"),
    (GOOD.replace('"volume"', '"volume"\nfree_min = 0.9'), r"volume\[1\]\.free_min: must be from 0 to 0\.5"),
    (GOOD + "[recording]\nchunk_close_s = 1000", r"recording\.chunk_close_s: must be from 10 to 900"),
    (GOOD + CAMERA + "rule = { sub = { days = 1, days_min = 2 } }", r"camera north-road\.rule\.sub\.days_min: 2 is above days = 1"),
    (GOOD + CAMERA + "rule = 3", r"camera north-road\.rule: must be a table, not 3"),
    (GOOD + CAMERA + "user = \"a\\u0000b\"", r"camera north-road\.user: must be a text"),
    (GOOD + "[[camera]]\nid = \"a\"", r"camera a\.main: is missing"),
    (GOOD + CAMERA.replace("rtsp:", "ftp:"), r'camera north-road\.main\.url: scheme "ftp" is not supported; use rtsp://'),
    (GOOD + CAMERA.replace("rtsp:", "srt:"), r"camera north-road\.main\.url: needs a host and a port"),
    (GOOD + address("udp://239.1.1.1"), "needs a host and a port"),
    (GOOD + address("udp://encoder.example:5000"), "as a number"),
    (GOOD + address("udp://239.1.1.1:5000?fifo=1"), "more than an address and a port"),
    (GOOD + address("srt://10.1.1.1:900?mode=listener"), "option mode is not known; known are latency, streamid"),
    (GOOD + address("srt://10.1.1.1:900?latency=99999"), "latency must lie between 0 and 10000"),
    (GOOD + address("http://10.1.1.1/x.ts#y"), "must not hold a #"),
    (GOOD + address("rtmp://user:secret@10.1.1.1/live"), "holds a user or password"),
    (GOOD + address("file:../x.mp4"), "a path below import_dir"),
    (GOOD + address("file:///etc/passwd"), "a path below import_dir"),
    (GOOD + address("file:x.mp4", start="yesterday"), r'start: "yesterday" is no time'),
    (GOOD + address("file:x.mp4", start="2026-05-01T12:00:00"), "is no time"),
    (GOOD + address("srt://10.1.1.1:900", start="2026-05-01T12:00:00Z"), "start: is for files"),
    (GOOD + CAMERA.replace('/1"', '/1", start = "2026-05-01T12:00:00Z"'), "start: is for files"),
    (GOOD + CAMERA.replace("rtsp://10.0.0.1/1", "10.0.0.1"), r"camera north-road\.main\.url: is no address"),
    (GOOD + CAMERA.replace("10.0.0.1", "10.0.0.1:99999"), r"camera north-road\.main\.url: is no address"),
    (GOOD + CAMERA.replace("rtsp:", "file:"), r"camera north-road\.main\.url: "),
    (GOOD + CAMERA + "password_file = \"a\"\npassword = \"b\"", r"password_file: is set beside password|password: is set beside"),
    (GOOD + CAMERA + "user = \"u\"\npassword_file = \"none\"", r"camera north-road\.password_file: .*none cannot be read"),
    (GOOD + CAMERA + "user = \"u\"\npassword_credential = \"c\"", r"password_credential: is set, but systemd has passed no credentials"),
    ("name = \n" + GOOD, r"is not valid TOML: .*line 1"),
    (GOOD.replace('"Test"', "3"), r"name: must be a text in quotes, not 3"),
    ("state_dir = \"s\"", r"name: is missing"),
])
def test_a_wrong_key_or_value_is_named(tmp_path: Path, text: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert re.search(says, refused(tmp_path, text))


@pytest.mark.parametrize("text", [
    GOOD + CAMERA.replace("10.0.0.1", f"admin:{SECRET}@10.0.0.1").replace("%41", ""),
    GOOD + CAMERA + f'user = "u"\npassword = "{SECRET}"',
    GOOD + CAMERA.replace('"rtsp://10.0.0.1/1"', f'["{SECRET}"]'),
    GOOD + CAMERA + f'user = "u"\npassword = ["{SECRET}"]',
])
def test_an_error_never_repeats_a_secret(tmp_path: Path, text: str) -> None:
    assert "w/rd" not in refused(tmp_path, text)


def test_a_password_in_the_file_needs_mode_0600(tmp_path: Path) -> None:
    text = GOOD + CAMERA + f'user = "u"\npassword = "{SECRET}"'
    assert "chmod 600" in refused(tmp_path, text, 0o640)
    assert read_config(write(tmp_path, text, 0o600)).cameras[0].password == SECRET


def test_a_systemd_credential_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cam").write_text(SECRET)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    text = GOOD + CAMERA + 'user = "u"\npassword_credential = "cam"'
    assert read_config(write(tmp_path, text)).cameras[0].password == SECRET
    assert "no credential's name" in refused(tmp_path, text.replace('"cam"', '"../cam"'))


@pytest.mark.parametrize("content", [b"", b"a\nb\n", b"\xff\xfe", b"x" * 2000])
def test_a_password_file_that_is_no_single_line_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pw").write_bytes(content)
    assert "does not hold one line" in refused(tmp_path, GOOD + CAMERA + 'user = "u"\npassword_file = "pw"')


def test_a_missing_file_and_a_binary_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "bin.toml").write_bytes(b"\xff\x00")
    with pytest.raises(ConfigError, match="is not UTF-8 at byte 0"):
        read_config(tmp_path / "bin.toml")


# --- the sample

def sample_with_every_line() -> str:
    """The sample with its commented settings switched on."""
    return re.sub(r"^#(?=[\[a-z])", "", (ROOT / "watchroom.toml").read_text(), flags=re.MULTILINE)


def defaults(cls: type) -> dict[str, Any]:
    return {item.name: item.default for item in fields(cls) if item.default is not MISSING}


@pytest.fixture
def sample(tmp_path: Path) -> SiteConfig:
    (tmp_path / "north-road.password").write_text("secret")
    (tmp_path / "cameras-ca.pem").write_text("CAs")
    (tmp_path / "webhook.secret").write_text("a long random line\n")
    return read_config(write(tmp_path, sample_with_every_line()))


def test_the_sample_as_it_is_can_be_used() -> None:
    site = read_config(ROOT / "watchroom.toml")
    assert site == SiteConfig(name="Control room", state_dir=Path("/var/lib/watchroom"), volumes=(VolumeConfig(Path("/srv/watchroom")),))


TABLES = {"server", "webrtc", "recording", "exports", "rtsp_out", "retention", "signing", "volumes", "cameras", "partners", "sites"}
EXAMPLES = {
    ServerConfig: {"tls"},
    RecordingConfig: {"tls_ca", "import_dir"},
    ExportsConfig: {"folder", "webhook_secret_file"},
    SigningConfig: {"heads"},
    CameraConfig: {"sub", "latitude", "longitude", "rule", "user", "password"},
    RetentionRule: {"days", "audio"},
}


def test_the_sample_shows_true_defaults(sample: SiteConfig) -> None:
    for value in (sample, sample.server, sample.webrtc, sample.recording, sample.exports, sample.rtsp_out, sample.retention, sample.signing,
                  sample.volumes[0], sample.cameras[0], sample.cameras[0].main):
        for key, default in defaults(type(value)).items():
            if key not in EXAMPLES.get(type(value), set()) | TABLES:
                assert getattr(value, key) == default, f"{type(value).__name__}.{key}"
    assert sample.retention == RetentionRule(days=31.0, audio=TrackRule(days=7.0))
    assert sample.cameras[0].rule == sample.retention
    assert sample.partners == (GroupRule(days=14.0, bytes_max=4 * 10**12, name="East"),)
    assert sample.sites == (GroupRule(days_min=7.0, name="Harbour"),)


def test_the_sample_shows_every_key() -> None:
    text = sample_with_every_line()
    known = {item.name for cls in (SiteConfig, ServerConfig, RecordingConfig, ExportsConfig, RtspOutConfig, SigningConfig, GroupRule,
                                   VolumeConfig, CameraConfig, StreamConfig)
             for item in fields(cls)}
    shown = set(re.findall(r"(\w+) =", text)) | {name + "s" for name in re.findall(r"^\[\[(?:retention\.)?(\w+)\]\]", text, re.MULTILINE)} \
        | set(re.findall(r"^\[(\w+)\]", text, re.MULTILINE))
    assert known - shown == {"password"} - shown


@pytest.mark.parametrize(("lines", "words"), [
    ('bind = "wall.example.org"', "rtsp_out.bind: must be an IP address"), ("port = 70000", "rtsp_out.port"),
    ("udp_port_first = 61000\nudp_port_last = 61010", "rtsp_out.udp_port_last: leaves fewer than 64 ports"), ("ports = 1", "rtsp_out")])
def test_rtsp_out_with_a_slip_is_refused(tmp_path: Path, lines: str, words: str) -> None:
    assert words in refused(tmp_path, f"{GOOD}[rtsp_out]\n{lines}\n")


def test_sub_stream_with_the_address_of_main_is_refused(tmp_path: Path) -> None:
    line = refused(tmp_path, GOOD + CAMERA + 'sub = { url = "rtsp://10.0.0.1/1" }\n')
    assert "camera north-road.sub" in line and "once" in line


@pytest.mark.parametrize("url", ["rtsp://admin:1/2@10.0.0.1/x", "rtsp://admin:se/cret@10.0.0.1/x", "rtsps://admin:1?se@cam.lan/x",
                                 "http://admin:8/cret@10.0.0.1/live.ts"])
def test_a_password_with_a_slash_is_not_taken_for_a_port(tmp_path: Path, url: str) -> None:
    line = refused(tmp_path, GOOD + address(url))
    assert "seems to hold a user and a password; set user and password_file" in line
    assert "%2F" in line and "%40" in line
    assert "admin" not in line and "cret" not in line
