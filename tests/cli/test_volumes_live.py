"""The whole server with several volumes: added, drained and failing while cameras are recorded; no gap without a cause, none of a crash."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bench.powercut.disk import PowerDisk
from storage.store import TapeStore
from storage.volume import Volume
from tests.cli.conftest import Site, until, watchroom
from tests.cli.test_serve_live import camera, frames, probed, simulated

pytestmark = [pytest.mark.live, pytest.mark.disk]
GOP = 10                # of `simulated`


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[PowerDisk]:
    made = PowerDisk(tmp_path, "ext4")
    mount(made)
    Volume.init(made.point, bytes_max=160 << 20).close()
    try:
        yield made
    finally:
        made.ask("heal")
        subprocess.run(["umount", "-l", made.point], check=False, capture_output=True)
        made.close()


def mount(disk: PowerDisk) -> None:
    subprocess.run(["mount", "-t", "ext4", "-o", "loop", disk.files / "disk", disk.point], check=True)


def volumes(site: Site) -> list[dict[str, Any]]:
    return list(site.run("volume", "list", "--json").json()["volumes"])


def lies_on(site: Site, *more: Path) -> list[bool]:
    """On which volumes there is footage of camera 1."""
    return [any((path / "tape.zarr/cam-1/main/c").glob("*")) for path in (site.folder / "volume", *more)]


def grows(site: Site) -> None:
    until(lambda: site.cameras()["north"]["status"]["state"] == "recording", "recording")
    had = frames(site, "north")
    until(lambda: frames(site, "north") > had + 30, "pictures")


def test_a_volume_comes_fails_and_comes_back_while_it_records(site: Site, disk: PowerDisk) -> None:
    site.init()
    with simulated() as port:
        site.write(camera("north", f"rtsp://127.0.0.1:{port}/cam0"))
        site.start("serve", "--config", site.file, log="serve")
        until(lambda: "serve: Test: 1 slots" in site.log(), "serving")
        begun_ns = time.time_ns()
        grows(site)
        assert site.run("volume", "add", disk.point, "--weight", 3, "--json").json()["moved"] in (0, 1)
        assert site.run("volume", "drain", "0", "--json").json()["volumes"][1]["cameras"] == 1
        until(lambda: lies_on(site, disk.point)[1], "footage on the new volume")
        grows(site)

        disk.ask("fail")
        until(lambda: volumes(site)[1]["failed"], "the failure")
        grows(site)
        disk.ask("heal")
        subprocess.run(["umount", "-l", disk.point], check=True)
        until(lambda: str(disk.files) not in subprocess.run(["losetup", "-a"], check=True, capture_output=True, text=True).stdout,
              "everybody has let go of the disk")
        subprocess.run(["e2fsck", "-fy", disk.files / "disk"], check=False, capture_output=True)
        mount(disk)
        until(lambda: not volumes(site)[1]["failed"], "the volume is back")
        grows(site)

        said = site.run("camera", "completeness", "--json").json()
        assert "crash" not in str(said), said
        a_clip_goes_over_all_volumes(site, begun_ns, disk.point)
    assert "Traceback" not in site.log()


def a_clip_goes_over_all_volumes(site: Site, begun_ns: int, *more: Path) -> None:
    """All that was recorded since `begun_ns` in one file: every picture of both volumes, each whole."""
    end_ns = time.time_ns()
    until(lambda: site.cameras()["north"]["status"]["tracks"]["main"]["last_au_ns"] > end_ns + 2_000_000_000, "the range is durable")
    saved = site.folder / "all.mp4"
    site.run("clip", "north", "--start", begun_ns, "--end", end_ns, "-o", saved, "--json").json()
    with closing(TapeStore([site.folder / "volume", *more], Path("/dev/shm"))) as store:
        pieces = store.whole(1, "main").pieces(begun_ns, end_ns)
        wanted = sum(len(piece.tape.entries(piece.run)) for piece in pieces)
    assert {piece.tape.place for piece in pieces} == {0, 1}
    assert abs(probed(saved)["video"] - wanted) <= 2 * GOP, "whole rows reach past both ends"


def test_volumes_are_told_of_without_a_server(site: Site, tmp_path: Path) -> None:
    site.init()
    assert watchroom("volume", "init", tmp_path / "two", "--on-root", "--size", "1G").code == 0
    site.run("volume", "add", tmp_path / "three").says(7, "no such folder")
    site.run("volume", "add", tmp_path / "two").says(7, "root file system")
    assert site.run("volume", "add", tmp_path / "two", "--on-root", "--weight", 2).code == 0
    site.run("volume", "add", tmp_path / "two", "--on-root").says(5, "has this volume already")
    listed = site.run("volume", "list").out.splitlines()
    assert [line.split()[:3] for line in listed[1:]] == [["0", str(site.folder / "volume"), "1"], ["1", str(tmp_path / "two"), "2"]]
    assert site.run("volume", "drain", tmp_path / "two").code == 0
    assert volumes(site)[1]["drain"] is True
    assert "drained" in site.run("volume", "list").out
    site.run("volume", "drain", "9").says(4, "no such volume")
