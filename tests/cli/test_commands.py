"""What commands print is true, complete, and the same for people and for programs."""

import json
import shutil
from dataclasses import fields
from pathlib import Path

import pytest

from recorder.__main__ import COMMANDS, HIDDEN
from recorder.base import errors
from recorder.base.config import CameraConfig, RecordingConfig, ServerConfig, SiteConfig
from recorder.cli.exits import Exit, exit_of
from recorder.cli.show import size, table
from recorder.cli.volume import parse_size, row
from tests.cli.conftest import ROOT, Site, watchroom
from tests.storage_write.rig import Rig


def test_config_check_prints_every_setting_and_no_password(site: Site) -> None:
    (site.folder / "pw").write_text("s3cret")
    site.write("[[camera]]", 'id = "gate"', 'main = { url = "rtsp://127.0.0.1/" }', 'user = "u"', 'password_file = "pw"')
    text, parsed = site.run("config", "check").out, site.run("config", "check", "--json").json()
    assert "s3cret" not in text + json.dumps(parsed)
    assert 'camera[gate].password = "(set)"' in text
    assert f"server.port = {site.port}\n" in text
    assert "recording.slots = 1   # default" in text
    for cls, part in ((SiteConfig, parsed), (ServerConfig, parsed["server"]), (RecordingConfig, parsed["recording"]),
                      (CameraConfig, parsed["cameras"][0])):
        assert set(part) == {item.name for item in fields(cls)}


def test_cameras_are_added_listed_and_removed_without_a_server(site: Site) -> None:
    (site.folder / "pw").write_text("s3cret")
    added = site.run("camera", "add", "gate", "rtsp://127.0.0.1/1", "--sub", "rtsp://127.0.0.1/2", "--kbps", "6000", "--reorder-ms", "300",
                     "--name", "North Gate", "--user", "u", "--password-file", site.folder / "pw", "--no-audio", "--json").json()
    assert (added["number"], added["owner"], added["main"]["kbps"], added["audio"]) == (1, "api", 6000, False)
    assert (added["main"]["reorder_ms"], added["sub"]["reorder_ms"]) == (300, 300)
    listed = site.run("camera", "list")
    assert "gate" in listed.out and "stopped" in listed.out
    shown = site.run("camera", "show", "gate")
    assert "North Gate" in shown.out and "rtsp://127.0.0.1/2" in shown.out
    assert "s3cret" not in json.dumps(added) + listed.out + shown.out
    assert "footage stays" in site.run("camera", "remove", "gate").out
    assert site.run("camera", "list", "--json").json() == []


def test_a_new_volume_is_clean_and_shown(site: Site) -> None:
    site.init()
    shown = watchroom("volume", "show", site.folder / "volume", "--json").json()
    assert shown["bytes_max"] == 2 * 10**9
    (report,) = watchroom("check", site.folder / "volume", "--json").json().values()
    assert report["clean"] is True
    assert "clean" in site.run("check").out


@pytest.mark.parametrize(("said", "shown"), [
    ({}, "in use"), ({"failed": "Input/output error", "proven": False}, "Input/output error"), ({"bytes_max": None}, "missing"),
    ({"drain": True, "slow": True}, "drained"), ({"slow": True}, "slow, its cameras stay"), ({"proven": False}, "back, not proven")])
def test_a_volume_that_cameras_wait_for_or_stay_on_is_not_just_in_use(said: dict[str, object], shown: str) -> None:
    volume = {"number": 0, "path": "/v", "weight": 1.0, "cameras": 2, "kbps": 4000, "bytes_max": 10**9, "free_bytes": 10**8, "drain": False,
              "failed": "", "slow": False, "proven": True, **said}
    assert row(volume)[-1] == shown


def test_help_lists_every_command_and_each_has_its_own() -> None:
    shown = watchroom("--help")
    assert shown.code == 0
    assert all(f"  {name} " in shown.out for name in COMMANDS)
    assert not any(name in shown.out for name in HIDDEN)
    assert "--config" in watchroom("serve", "--help").out


def test_docs_list_every_exit_code() -> None:
    text = (ROOT / "docs" / "operations.md").read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    listed = {int(line.split("|")[1]) for line in text.splitlines() if line.startswith("| ") and line.split("|")[1].strip().isdigit()}
    assert listed == {int(code) for code in Exit}


@pytest.mark.parametrize(("error", "code"), [
    (errors.ConfigError, Exit.CONFIG), (errors.NotFound, Exit.NOT_FOUND), (errors.Gone, Exit.NOT_FOUND), (errors.Conflict, Exit.CONFLICT),
    (errors.Refused, Exit.REFUSED), (errors.VolumeError, Exit.STORAGE), (errors.FormatError, Exit.STORAGE),
    (errors.WatchroomError, Exit.SYSTEM),
])
def test_each_error_has_its_exit_code(error: type[errors.WatchroomError], code: Exit) -> None:
    assert exit_of(error("x")) is code


@pytest.mark.parametrize(("text", "count"), [("0", 0), ("8G", 8 * 10**9), ("1.5T", 1_500 * 10**9), ("64Gi", 64 << 30), ("5MB", 5_000_000)])
def test_sizes_are_read(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "G", "-1", "1e9", "1X", "1.G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(errors.ConfigError):
        parse_size(text)


def test_a_table_lines_up() -> None:
    assert table(("a", "n"), [("x", 5), ("long", 1000)]) == "a        n\nx        5\nlong  1000"
    assert [size(count) for count in (0, 999, 1500, 2 * 10**12)] == ["0 B", "999 B", "1.5 kB", "2.0 TB"]


def test_completeness_is_told_without_a_server(site: Site) -> None:
    site.init()
    for camera, partner in (("gate", "council"), ("yard", "council"), ("pier", "")):
        site.run("camera", "add", camera, "rtsp://127.0.0.1/1", *(["--partner", partner] if partner else []))
    footage(site.folder / "volume", 1)
    asked = ("camera", "completeness", "--start", "2025-12-31T12:00:00Z", "--end", "2026-01-01T00:00:04Z")
    found = {item["name"]: item for item in site.run(*asked, "--json").json()}
    assert found["gate"]["completeness"] == 1.0 and found["gate"]["footage_s"] == pytest.approx(4.0, abs=0.1)
    assert [part["completeness"] for part in found["gate"]["periods"]] == [None, 1.0]
    assert found["yard"]["completeness"] is None and found["yard"]["cameras"] == 1
    by = {item["name"]: item for item in site.run(*asked, "--by", "partner", "--per", "range", "--json").json()}
    assert (by["council"]["cameras"], by["council"]["completeness"], by[""]["completeness"]) == (2, 1.0, None)
    shown = site.run(*asked, "--by", "partner")
    assert "council" in shown.out and "100.000" in shown.out and "(none)" in shown.out
    assert len(site.run("camera", "completeness", "gate", "--json").json()) == 1
    site.run("camera", "completeness", "nobody").says(Exit.NOT_FOUND, "no such camera")
    site.run("camera", "completeness", "--start", "2261-01-01T00:00:00Z").says(Exit.CONFIG, "past range")
    site.run("camera", "completeness", "--start", "soon").says(Exit.CONFIG, "--start")


def footage(volume: Path, camera: int) -> None:
    """Four seconds of footage, on 1 January 2026."""
    live = volume.parent / "rig-live"
    rig = Rig(volume, live)
    _, source = rig.track(camera, size=2_000)
    rig.run(source, 100)
    rig.close()
    shutil.rmtree(live)
