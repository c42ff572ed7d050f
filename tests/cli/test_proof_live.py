"""Proof through the whole server: it signs by itself, and what a hold has kept is proved when its chunk is long gone."""

import os
import time
from pathlib import Path

import pytest

from recorder.base.media import NS
from storage import heldfile
from storage.layout import PAGE
from tests.cli.conftest import Site, until
from tests.cli.test_hold_live import SHORT
from tests.cli.test_serve_live import camera, frames, simulated

pytestmark = pytest.mark.live


def key(site: Site) -> None:
    """As an operator makes it."""
    assert os.system(f"openssl genpkey -algorithm ed25519 -out {site.folder}/key.pem 2>/dev/null") == 0
    (site.folder / "key.pem").chmod(0o600)


def held_files(site: Site) -> list[Path]:
    return sorted((site.folder / "volume/tape.zarr/cam-1/main.held/c").glob("*[0-9]"), key=lambda file: int(file.name))


def test_held_footage_is_proved_when_its_chunk_is_gone(site: Site) -> None:
    site.init()
    key(site)
    with simulated("--count", 1) as port:
        site.write(*SHORT, "[signing]", 'key = "key.pem"', "every_h = 0.001", camera("one", f"rtsp://127.0.0.1:{port}/cam0"))
        site.file.write_text(site.file.read_text().replace("[recording]", "[recording]\nchunk_close_s = 10"))
        assert site.run("config", "check").code == 0
        process = site.start("serve", "--config", site.file, log="serve")
        until(lambda: "Test: 1 slots" in site.log() and frames(site, "one") > 50, "recording")
        end_ns = time.time_ns()
        held = site.run("hold", "add", "one", "--start", end_ns - 3 * NS, "--end", end_ns, "--reason", "accident", "--json")
        assert held.code == 0, held.err
        until(lambda: held_files(site), "rows are saved")
        chunks = [site.folder / f"volume/tape.zarr/cam-1/main/c/{file.name}" for file in held_files(site)]
        until(lambda: not any(file.exists() for file in chunks), "the chunk has gone")
        (report,) = site.run("verify", "--json").json().values()
        assert report["findings"] == [] and report["held"] >= 3 and report["documents"] >= 2
        process.terminate()
        assert process.wait(60) == 0
    assert "Traceback" not in site.log()
    (report,) = site.run("verify", "--json").json().values()
    assert report["findings"] == [] and report["held"] >= 3 and report["unsigned"] <= 1

    victim = held_files(site)[0]
    with victim.open("r+b") as file:
        chunk = heldfile.read(file.fileno(), victim.name)
        file.seek(PAGE + int(chunk.rows[chunk.there][-1]["offset"]) - chunk.head.start_offset + 99)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    found = site.run("verify")
    assert found.code == 1
    (line,) = [line for line in found.out.splitlines() if "error" in line]
    assert f"cam-1/main held chunk {victim.name}, 20" in line and "is not as it was signed" in line
