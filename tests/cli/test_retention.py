"""`watchroom retention`: what counts, what another rule would take, and what was taken, without a server."""

import os
import pwd

import pytest

from recorder.__main__ import main
from recorder.base.config import RetentionRule
from recorder.cli.exits import Exit
from tests.cli.conftest import Site
from tests.storage_write.rig import Rig

LONG = "rule = { days = 3660.0 }"
CAMERAS = f"""
[[camera]]
id = "gate"
partner = "East"
{LONG}
main = {{ url = "rtsp://127.0.0.1/1" }}
[[camera]]
id = "yard"
{LONG}
main = {{ url = "rtsp://127.0.0.1/2" }}
"""


@pytest.fixture
def kept(site: Site) -> Site:
    """Two cameras with an hour of footage each, on 1 January 2026, and a catalogue that knows them."""
    site.init()
    site.write(CAMERAS)
    assert site.run("camera", "list").code == 0
    return site


def record(site: Site, **more: float) -> Rig:
    """Ten minutes of two cameras, one picture a second."""
    rig = Rig(site.folder / "volume", site.folder / "rig-live", **more)  # type: ignore[arg-type]
    sources = [rig.track(number, size=60_000, fps=1, gop=4)[1] for number in (1, 2)]
    for _ in range(60):
        for source in sources:
            source.put(10)
        rig.turn()
        rig.clock.advance(10)
    return rig


def test_rules_and_what_others_would_take(kept: Site) -> None:
    record(kept).close()
    rules = {(one["camera"], one["track"]): one for one in kept.run("retention", "show", "--json").json()}
    assert (rules["gate", "main"]["days"], rules["gate", "main"]["by"]) == (3660.0, "camera gate")
    assert rules["yard", "main"]["oldest"].startswith("2026-01-01T00:00:00")
    assert "camera gate" in kept.run("retention", "show").out

    (loss,) = kept.run("retention", "simulate", "--camera", "gate", "--days", "30", "--json").json()
    assert (loss["camera"], loss["track"], loss["rule"]) == ("gate", "main", "camera gate: days = 30")
    assert loss["hours"] == pytest.approx(1 / 6, rel=0.02) and loss["bytes"] > 30_000_000
    assert loss["from"].startswith("2026-01-01T00:00:00") and loss["to"].startswith("2026-01-01T00:")
    shown = kept.run("retention", "simulate", "--partner", "East", "--bytes-max", "20M")
    assert "partner East: bytes_max = 20000000" in shown.out and "1 tracks would lose" in shown.out
    assert kept.run("retention", "simulate", "--days", "30", "--json").json() == [], "each has a rule of its own"
    assert kept.run("retention", "simulate", "--camera", "gate", "--track", "audio", "--days", "1", "--json").json() == []
    other = kept.folder / "other.toml"
    other.write_text(kept.file.read_text().replace(LONG, "rule = { days = 1.0 }", 1))
    assert [one["camera"] for one in kept.run("retention", "simulate", "--with", other, "--json").json()] == ["gate"]
    assert kept.run("clip", "gate", "--start", "2026-01-01T00:00:00Z", "--end", "2026-01-01T00:05:00Z", "-o",
                    kept.folder / "still.mp4").code == 0, "nothing was deleted"


@pytest.mark.parametrize(("words", "code", "says"), [
    (("simulate",), Exit.CONFIG, "no rule is named"),
    (("simulate", "--days", "0"), Exit.CONFIG, "--days"),
    (("simulate", "--days", "nan"), Exit.CONFIG, "--days: must be 0.0001 to 3660"),
    (("simulate", "--days-min", "inf"), Exit.CONFIG, "--days-min: must be 0 to 3660"),
    (("simulate", "--days-min", "-1"), Exit.CONFIG, "--days-min"),
    (("simulate", "--bytes-max", "-5"), Exit.CONFIG, "--bytes-max"),
    (("simulate", "--camera", "nobody", "--days", "3"), Exit.NOT_FOUND, "nobody"),
    (("simulate", "--bytes-max", "much"), Exit.CONFIG, "no size"),
    (("simulate", "--with", "none.toml", "--days", "3"), Exit.CONFIG, "--with"),
    (("deletions", "--camera", "nobody"), Exit.NOT_FOUND, "nobody"),
    (("deletions", "--start", "soon"), Exit.CONFIG, "--start"),
])
def test_what_cannot_be_done_is_said(kept: Site, words: tuple[str, ...], code: Exit, says: str) -> None:
    kept.run("retention", *words).says(code, says)


def test_a_hold_on_a_track_that_no_camera_has_is_refused(kept: Site) -> None:
    """It was taken, and everybody believed in it."""
    words = ("hold", "add", "gate", "--start", "1h", "--reason", "claim", "--track")
    kept.run(*words, "mian").says(Exit.NOT_FOUND, 'there is no track "mian"; a camera\'s tracks are main, sub')
    assert kept.run("hold", "list", "--json").json() == []
    assert kept.run(*words, "main").code == 0


def test_a_user_without_a_name_can_hold_and_is_named_by_number(kept: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under any number."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    assert main(["hold", "add", "gate", "--start", "1h", "--reason", "claim", "--config", str(kept.file)]) == 0
    (hold,) = kept.run("hold", "list", "--json").json()
    assert hold["author"] == f"user {os.getuid()}"
    assert main(["hold", "release", hold["id"], "--config", str(kept.file)]) == 0


def test_the_ledger_is_read_without_a_server(kept: Site) -> None:
    rig = record(kept, quarantine_s=0.0)
    rig.slot._works[1, "main"].set_rule(RetentionRule(days=0.001))
    for _ in range(120):
        rig.clock.advance(10)
        rig.turn()
    rig.close()
    found = kept.run("retention", "deletions", "--start", "2026-01-01T00:00:00Z", "--json").json()
    assert found and {one["camera"] for one in found} == {"gate"} and {one["cause"] for one in found} == {"days"}
    assert all(one["end"] < one["unreadable"] < one["erased"] for one in found)
    assert "camera: days = 0.001" in kept.run("retention", "deletions", "--start", "2026-01-01T00:00:00Z").out
    assert kept.run("retention", "deletions", "--camera", "yard", "--start", "2026-01-01T00:00:00Z", "--json").json() == []
