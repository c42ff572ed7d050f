"""Whatever a person gets wrong is answered by one line with the thing and the remedy, and an exit code; never by a traceback."""

import json
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Site, watchroom

USAGE, CONFIG, NOT_FOUND, CONFLICT, REFUSED, STORAGE = 2, 3, 4, 5, 6, 7


@pytest.mark.parametrize(("words", "pattern"), [
    (["record"], r"record: no such command; known are serve"),
    (["serve", "--confg", "x"], r"serve --help"),
    (["config", "chek"], r"invalid choice: 'chek'"),
    (["clip"], r"required: camera"),
    (["check", "--level", "9"], r"--level: invalid choice: 9"),
])
def test_wrong_arguments(words: list[str], pattern: str) -> None:
    watchroom(*words).says(USAGE, pattern)


def test_an_unknown_key(site: Site) -> None:
    site.write("[retention]", "day = 3")
    for command in (["serve"], ["config", "check"], ["camera", "list"], ["token", "list"]):
        site.run(*command).says(CONFIG, r"site\.toml: retention\.day: no such key; did you mean days\?")


def test_a_missing_configuration(tmp_path: Path) -> None:
    watchroom("serve", "--config", tmp_path / "none.toml").says(CONFIG, r"none\.toml: cannot be read: No such file or directory")


def test_a_wrong_value_and_a_secret_that_is_not_repeated(site: Site) -> None:
    site.write("[[camera]]", 'id = "a"', 'main = { url = "rtsp://admin:hunter2@10.0.0.1/" }')
    result = site.run("serve")
    result.says(CONFIG, r"camera a\.main\.url: holds a user or password")
    assert "hunter2" not in result.err


def test_a_missing_volume(site: Site) -> None:
    site.run("serve").says(STORAGE, r"/volume: no such folder; .*watchroom volume init")
    (site.folder / "volume").mkdir()
    site.run("serve").says(STORAGE, r"/volume: no volume\.json here; is the disk mounted")


def test_a_foreign_volume(site: Site) -> None:
    site.init()
    site.write(volume='path = "volume"\non_root = true\nuuid = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"')
    site.run("serve").says(STORAGE, r"another volume is mounted here: its UUID is .*, configured is 1b4e28ba")


def test_a_newer_volume(site: Site) -> None:
    site.init()
    file = site.folder / "volume" / "volume.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    site.run("serve").says(STORAGE, r"the volume has format 99, this program knows up to 1; use a newer version")
    assert watchroom("check", site.folder / "volume").code == 1


def test_a_damaged_volume_json(site: Site) -> None:
    site.init()
    (site.folder / "volume" / "volume.json").write_text("{")
    site.run("serve").says(STORAGE, r"volume\.json cannot be understood")


def test_a_volume_on_the_root_file_system(site: Site) -> None:
    site.init()
    site.write(volume='path = "volume"')
    result = site.run("serve")
    if site.folder.stat().st_dev != Path("/").stat().st_dev:
        assert "root file system" not in result.err
        return
    result.says(STORAGE, r"lies on the root file system; .*on_root = true")


def test_a_volume_made_twice_and_a_wrong_size(site: Site) -> None:
    site.init()
    watchroom("volume", "init", site.folder / "volume", "--on-root").says(STORAGE, r"this is a volume already")
    watchroom("volume", "init", site.folder / "other", "--size", "lots").says(CONFIG, r'--size: "lots" is no size')
    for size in ("5", "99999999999999T"):
        watchroom("volume", "init", site.folder / "other", "--size", size).says(CONFIG, "is no size for a volume; give it 17 MiB")
    watchroom("volume", "show", site.folder / "other").says(STORAGE, r"other: no such folder")
    watchroom("check", site.folder / "other").says(STORAGE, r"other: no such folder")


def test_a_port_in_use(site: Site) -> None:
    site.init()
    with socket.create_server(("127.0.0.1", site.port)):
        site.run("serve").says(CONFLICT, rf"server\.port 127\.0\.0\.1:{site.port}: is in use; end the program")


def test_an_address_of_another_machine(site: Site) -> None:
    site.init()
    site.file.write_text(site.file.read_text().replace("[server]", '[server]\nlisten = "192.0.2.1"\nhosts = ["a"]\ntls = "proxy"'))
    site.run("serve").says(CONFLICT, r"192\.0\.2\.1:.*cannot be used")


def test_a_live_dir_on_disk(site: Site) -> None:
    site.init()
    (site.folder / "live").mkdir()
    site.file.write_text('live_dir = "live"\n' + site.file.read_text())
    site.run("serve").says(CONFIG, r"live_dir .*/live: lies on \w+, not on a tmpfs; use /dev/shm")


def test_a_state_dir_that_is_a_file(site: Site) -> None:
    site.init()
    (site.folder / "state").write_text("")
    site.run("serve").says(CONFIG, r"state_dir .*/state: cannot be used")


def test_a_catalogue_that_is_none_or_newer(site: Site) -> None:
    site.init()
    state = site.folder / "state"
    state.mkdir()
    (state / "catalogue.sqlite").write_bytes(b"not a database" * 100)
    site.run("serve").says(STORAGE, r"catalogue\.sqlite: is not a catalogue; restore it from a backup")


def test_cameras_that_cannot_be(site: Site) -> None:
    site.write("[[camera]]", 'id = "a"', 'main = { url = "rtsp://127.0.0.1/" }')
    site.run("camera", "add", "../../x", "rtsp://127.0.0.1/").says(CONFIG, r"id: .* does not match")
    site.run("camera", "add", "b", "ftp://127.0.0.1/").says(CONFIG, r"main\.url: scheme \"ftp\" is not supported")
    site.run("camera", "add", "b", "rtsp://10.9.9.9/").says(REFUSED, r"10\.9\.9\.9 lies outside camera_networks")
    site.run("camera", "add", "b", "rtsp://127.0.0.1/", "--user", "u", "--password-file", "/none").says(CONFIG, r"/none cannot be read")
    site.run("camera", "add", "a", "rtsp://127.0.0.1/").says(CONFLICT, r"a: a camera with this id exists")
    site.run("camera", "remove", "a").says(CONFLICT, r"a: the camera is owned by the configuration file")
    site.run("camera", "remove", "b").says(NOT_FOUND, r"b: no such camera")
    site.run("camera", "show", "b").says(NOT_FOUND, r"b: no such camera")
    assert [camera["id"] for camera in site.run("camera", "list", "--json").json()] == ["a"]


def test_tokens_that_cannot_be(site: Site) -> None:
    site.run("token", "add", "x", "--scope", "everything").says(CONFIG, r"unknown scope")
    site.run("token", "add", "x", "--expires", "soon").says(CONFIG, r'--expires: "soon" is no length of time')
    site.run("token", "revoke", "7").says(NOT_FOUND, r"7: no such token")


def test_clips_that_cannot_be(site: Site) -> None:
    site.init()
    site.run("camera", "add", "a", "rtsp://127.0.0.1/")
    out = site.folder / "x.mp4"
    clip = ["clip", "a", "-o", out]
    site.run(*clip, "--start", "yesterday").says(CONFIG, r"--start: must be a time like")
    site.run(*clip, "--start", "1m", "--end", "2m").says(CONFIG, r"--end: lies before --start")
    site.run("clip", "../a", "--start", "1m").says(CONFIG, r"is no camera id")
    site.run("clip", "b", "--start", "1m", "-o", out).says(NOT_FOUND, r"b: no such camera")
    site.run(*clip, "--start", "1m").says(NOT_FOUND, r"no such track")
    site.run("clip", "a", "--start", "1m", "-o", site.folder / "no" / "x.mp4").says(NOT_FOUND, r"its folder does not exist")
    watchroom("clip", "a", "--start", "1m", "--url", "file:///etc/passwd", "-o", out).says(CONFIG, r"--url: is no http")
    watchroom("clip", "a", "--start", "1m", "--url", f"http://127.0.0.1:{site.port}", "-o", out).says(8, r"the download failed: .*refused")
    assert not [path for path in site.folder.iterdir() if ".mp4" in path.name]
    out.write_bytes(b"mine")
    site.run(*clip, "--start", "1m").says(CONFLICT, r"x\.mp4: is there already; .*--force")
    assert out.read_bytes() == b"mine"


def test_a_defect_of_ours_is_one_line_too(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import recorder.cli.version as v\ndef run(args): raise ValueError('x\\ny')\nv.run = run\n")
    watchroom("version", extra_path=tmp_path).says(70, r"version: a defect of this program: ValueError: x y")


def test_a_token_is_made_without_a_server_and_shown_once(site: Site) -> None:
    secret = site.run("token", "add", "wall", "--scope", "view", "--camera", "a", "--expires", "12h").out.strip()
    assert len(secret) >= 43
    (token,) = site.run("token", "list", "--json").json()
    assert (token["name"], token["scopes"], token["cameras"]) == ("wall", ["view"], ["a"])
    assert secret not in json.dumps(token)
    assert 11.9 * 3600 < (token["expires_ns"] - time.time_ns()) / 1e9 < 12.1 * 3600
    site.run("token", "revoke", str(token["number"]))
    assert "revoked" in site.run("token", "list").out


@pytest.mark.disk
def test_a_read_only_disk(site: Site) -> None:
    mount = site.folder / "volume"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64M", "none", mount], check=True)
    try:
        site.init()
        subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
        site.run("serve").says(STORAGE, r"/volume: the volume is read-only")
    finally:
        subprocess.run(["umount", mount], check=True)
