"""`bench retention`: small runs in which every promise is kept, and a witness that sees each one broken."""

import argparse
import json
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import retention
from bench.promises import Promise, Witness
from bench.simulated import SimSite, SimTrack
from recorder.base.config import RetentionRule, SiteConfig
from recorder.base.media import TrackKind
from recorder.base.rulebook import Member, RuleBook, rule_book
from storage.ledger import ledger_path

HOUR_S = 3600
CHUNK_S = 900       # a quiet track's chunk is closed after that


def book(days: float = 31.0, bytes_max: int = 0) -> RuleBook:
    config = SiteConfig("bench", Path("state"), retention=RetentionRule(days=31.0))
    return rule_book(config, [Member(1, "gate", rule=RetentionRule(days=days, bytes_max=bytes_max))])


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., tuple[SimSite, Witness]]]:
    """A site that goes by one book, watched by a witness that may believe in another."""
    made: list[SimSite] = []

    def site(rules: RuleBook, believed: RuleBook | None = None) -> tuple[SimSite, Witness]:
        track = SimTrack(1, "audio", TrackKind.AUDIO, 3000, 10.0)
        found = SimSite(tmp_path / "site", [track], 64 << 20)
        found.rules.tell(rules)
        made.append(found)
        found.start()
        return found, Witness(found, believed or rules)

    yield site
    for found in made:
        found.stop()


def go(site: SimSite, witness: Witness, seconds: float) -> None:
    for _ in range(int(seconds / 20)):
        site.turn(20)
        witness.after_turn()


def broken(witness: Witness) -> list[Promise]:
    return [promise for promise in witness.promises if promise.broken]


Make = Callable[..., tuple[SimSite, Witness]]


def test_a_witness_of_a_sound_site_has_nothing_to_say(make: Make) -> None:
    site, witness = make(book(0.02))
    go(site, witness, 2 * HOUR_S)
    for look in (witness.search, witness.read_ledger, witness.read_all):
        look()
    assert broken(witness) == []
    assert site.events["Retired"] > 3 and witness.gone.looks > 100 and witness.ledger.looks == site.events["Retired"]


def test_footage_that_goes_early_is_seen(make: Make) -> None:
    site, witness = make(book(0.02), believed=book(0.03))
    go(site, witness, HOUR_S)
    assert broken(witness) == [witness.never_early] and 800 < witness.never_early.worst < 900


def test_footage_that_goes_late_is_seen(make: Make) -> None:
    site, witness = make(book(0.03), believed=book(0.02))
    go(site, witness, HOUR_S)
    assert broken(witness) == [witness.unreadable]


def test_a_quota_that_is_not_kept_is_seen_and_one_that_takes_too_much(make: Make) -> None:
    site, witness = make(book(bytes_max=4 << 20), believed=book(bytes_max=2 << 20))
    other = Witness(site, book(bytes_max=8 << 20))
    for _ in range(int(2 * HOUR_S / 20)):
        site.turn(20)
        witness.after_turn()
        other.after_turn()
    assert broken(witness) == [witness.quotas] and broken(other) == [other.thrift]


def test_deleted_footage_that_is_still_on_the_disk_is_seen(make: Make) -> None:
    site, witness = make(book(0.02))
    go(site, witness, CHUNK_S + 100)
    spared = site.path / "slot-0/pool/spared"
    shutil.copy(site.path / "tape.zarr/cam-1/audio/c/0", spared)
    go(site, witness, HOUR_S)
    witness.search()
    assert broken(witness) == [], "not an hour has passed since it was deleted"
    go(site, witness, HOUR_S)
    witness.search()
    assert broken(witness) == [witness.gone]
    spared.unlink()


def test_a_hole_in_the_ledger_is_seen(make: Make) -> None:
    site, witness = make(book(0.02))
    go(site, witness, 2 * HOUR_S)
    ledger = site.path / ledger_path(0)
    whole = ledger.read_bytes()
    ledger.write_bytes(bytes(200) + whole[200:])
    witness.read_ledger()
    assert broken(witness) == [witness.ledger]
    ledger.write_bytes(whole)


def test_footage_that_is_not_what_was_recorded_is_seen(make: Make) -> None:
    site, witness = make(book())
    go(site, witness, 600)
    with (site.path / "tape.zarr/cam-1/audio/c/0").open("r+b") as file:
        file.seek(4096 + 100)
        file.write(b"x")
    witness.read_all()
    assert broken(witness) == [witness.kept] and witness.kept.worst == 1


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    retention.add_arguments(parser)
    return parser.parse_args(words)


def test_a_small_run_keeps_every_promise(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("out.json", "out.md", "out.svg")]
    run = options("--weeks", "0.02", "--off-days", "2", "--laps", "1.5", "--search-hours", "1", "--folder", str(tmp_path),
                  "--json", str(files[0]), "--markdown", str(files[1]), "--svg", str(files[2]))
    code = retention.main(run)
    assert code == 0, files[1].read_text()
    outcomes = json.loads(files[0].read_text())["outcomes"]
    assert [len(found["promises"]) for found in outcomes] == [9, 8]
    assert all(promise["looks"] and not promise["faults"] for found in outcomes for promise in found["promises"])
    assert "| no track waits for a chunk |" in files[1].read_text()
    assert ElementTree.parse(files[2]).findall(".//{*}circle")
    assert sorted(tmp_path.iterdir()) == sorted(files), "the volumes are removed"


@pytest.mark.parametrize("words", [["--weeks", "-1"], ["--weeks", "0", "--laps", "0"], ["--step", "0"], ["--search-hours", "0"],
                                   ["--off-days", "-1"]])
def test_wrong_options_are_refused(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert retention.main(options(*words, "--folder", str(tmp_path))) == 2
    assert words[0] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
