"""`bench whep`: a small run."""

import argparse
import json
import tempfile
from pathlib import Path

from bench import whep


def test_viewers_get_every_packet_and_nothing_is_lost(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    whep.add_arguments(parser)
    files = [tmp_path / "out.json", tmp_path / "out.md"]
    with tempfile.TemporaryDirectory(prefix="wr-") as folder:       # short: a server's socket lies in it
        run = parser.parse_args(["--cameras", "3", "--kbps", "500", "--apart", "2", "--same", "3,8", "--seconds", "3", "--folder", folder,
                                 "--json", str(files[0]), "--markdown", str(files[1])])
        assert whep.main(run) == 0
        assert list(Path(folder).iterdir()) == [], "the volume is removed"
    found = json.loads(files[0].read_text())
    windows = found["windows"]
    assert {name: one["viewers"] for name, one in windows.items()} == {"nobody": 0, "a camera each": 2, "3 one camera": 3, "8 one camera": 8}
    for one in list(windows.values())[1:]:
        assert one["packets"] > 50 * one["viewers"] and one["missing"] == 0
        assert one["ages_ms"] and one["ages_ms"][0] > -1000 and one["ages_ms"][-1] < 60_000
    assert (found["loss"]["missing"], found["loss"]["wrong"], found["loss"]["dropped"]) == (0, 0, 0)
    assert "byte out" in files[1].read_text()
