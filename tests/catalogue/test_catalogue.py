"""Numbers are for ever, tokens are secrets, one writer, and what the file owns the API cannot touch."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from recorder.base.clock import SimulatedClock
from recorder.base.config import CameraConfig, RetentionRule, StreamConfig
from recorder.base.errors import ConfigError, Conflict, FormatError, NotFound, StorageError
from storage.camera_record import dump_config, load_config
from storage.catalogue import Catalogue


def config(camera_id: str, **options: object) -> CameraConfig:
    return CameraConfig(camera_id, StreamConfig(f"rtsp://10.0.0.5/{camera_id}"), **options)      # type: ignore[arg-type]


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state/catalogue.db"


@pytest.fixture
def writer(path: Path, clock: SimulatedClock) -> Iterator[Catalogue]:
    with Catalogue.open(path, clock, write=True) as made:
        yield made


@pytest.fixture
def reader(writer: Catalogue, path: Path, clock: SimulatedClock) -> Iterator[Catalogue]:
    with Catalogue.open(path, clock) as made:
        yield made


def test_a_number_is_never_given_again(writer: Catalogue, path: Path, clock: SimulatedClock):
    first = writer.add_camera(config("gate"), "api", 0)
    writer.remove_camera("gate")
    second = writer.add_camera(config("gate"), "api", 0)
    writer.remove_camera("gate")
    writer.close()
    with Catalogue.open(path, clock, write=True) as again:
        third = again.add_camera(config("gate"), "api", 0)
        assert len({first.number, second.number, third.number}) == 3
        assert [record.number for record in again.cameras()] == [third.number]
        assert len(again.cameras(removed=True)) == 3
        assert again.camera_by_number(first.number).removed_ns is not None


def test_an_id_is_taken_once(writer: Catalogue):
    writer.add_camera(config("gate"), "api", 0)
    writer.add_camera(config("yard"), "api", 0)
    with pytest.raises(Conflict):
        writer.add_camera(config("gate"), "api", 0)
    with pytest.raises(Conflict):
        writer.change_camera("yard", config("gate"))
    assert [record.id for record in writer.cameras()] == ["gate", "yard"]


@pytest.mark.parametrize("bad", ["", "Gate", "-gate", "a/b", "../x", "a" * 49, "gate\n", "gäte", "a b", "'; drop table camera; --"])
def test_ids_are_checked_at_this_door_too(writer: Catalogue, bad: str):
    with pytest.raises(ConfigError):
        writer.add_camera(config(bad), "api", 0)
    writer.add_camera(config("yard"), "api", 0)
    with pytest.raises(ConfigError):
        writer.change_camera("yard", config(bad))
    with pytest.raises(NotFound):
        writer.camera(bad)


def test_a_camera_keeps_its_number_when_renamed(writer: Catalogue):
    record = writer.add_camera(config("gate", partner="city"), "api", 2)
    renamed = writer.change_camera("gate", config("north-gate", name="North"))
    assert (renamed.number, renamed.id, renamed.config.name, renamed.slot) == (record.number, "north-gate", "North", 2)
    with pytest.raises(NotFound):
        writer.camera("gate")
    assert writer.move_camera("north-gate", 1).slot == 1


def test_everything_of_a_configuration_comes_back(writer: Catalogue):
    whole = config("gate", sub=StreamConfig("rtsp://10.0.0.5/sub", 512, "udp"), name="Gate", partner="p", site="s", purpose="u", latitude=52.5,
                   longitude=-1.25, user="admin", password="se:cret@\"'é", basic_without_tls=True, audio=False, enabled=False,
                   rule=RetentionRule(7.5, 1 << 40), stall_s=4.0)
    assert writer.add_camera(whole, "api", 0).config == whole
    assert load_config(dump_config(whole, "api").replace("{", '{"of_a_later_version":1,', 1)) == whole


def test_what_the_file_owns_the_api_cannot_touch(writer: Catalogue):
    writer.adopt_file([config("gate")], 1)
    for attempt in (lambda: writer.change_camera("gate", config("gate")), lambda: writer.remove_camera("gate")):
        with pytest.raises(Conflict, match="configuration file"):
            attempt()
    writer.add_camera(config("yard"), "api", 0)
    with pytest.raises(Conflict, match="API"):
        writer.adopt_file([config("gate", name="new"), config("yard")], 1)
    assert writer.camera("gate").config.name == ""          # all or nothing


def test_cameras_are_shared_out_by_their_declared_bit_rates(writer: Catalogue):
    heavy, light = StreamConfig("rtsp://10.0.0.1/", 8000), StreamConfig("rtsp://10.0.0.2/", 1000)
    few = [config("a"), *(config(f"b{n}") for n in range(6)), config("c", sub=light)]
    writer.adopt_file([replace(camera, main=heavy if camera.id == "a" else light) for camera in few], 2)
    slots = {record.id: record.slot for record in writer.cameras()}
    assert slots == {"a": 0, **{f"b{n}": 1 for n in range(6)}, "c": 1}
    assert writer.loads(2) == [8000, 8000]
    writer.add_camera(replace(config("later"), main=heavy), "api", writer.least_loaded(3))
    assert writer.camera("later").slot == 2
    assert writer.loads(2) == [16000, 8000]                 # slot 2 has no worker of its own: worker 0 has it
    assert writer.least_loaded(2) == 1


def test_the_file_is_followed(writer: Catalogue):
    writer.add_camera(config("own"), "api", 0)
    first = {record.id: record.number for record in writer.adopt_file([config("a"), config("b"), config("c")], 2)}
    assert {record.slot for record in writer.cameras()} == {0, 1}
    second = writer.adopt_file([config("c", name="C"), config("d")], 2)
    assert [(record.id, record.config.name) for record in second] == [("c", "C"), ("d", "")]
    assert second[0].number == first["c"]
    assert [record.id for record in writer.cameras()] == ["own", "c", "d"]
    third = writer.adopt_file([config("a")], 2)
    assert third[0].number not in first.values()


def test_credentials_of_the_file_stay_in_the_file(writer: Catalogue, path: Path):
    adopted = writer.adopt_file([config("gate", user="viewer-user", password="hush-hush")], 1)
    assert adopted[0].config.password == "hush-hush"
    assert (writer.camera("gate").config.user, writer.camera("gate").config.password) == ("", "")
    writer.close()
    assert b"hush-hush" not in b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_no_password_in_a_repr(writer: Catalogue):
    assert "hush" not in repr(writer.add_camera(config("gate", password="hush"), "api", 0))


def test_tokens_are_found_by_their_secret_only(writer: Catalogue, path: Path, clock: SimulatedClock):
    record, secret = writer.add_token("wall", ["view", "publish:gate"], cameras=["gate"], partner="city", expires_ns=clock.wall_ns() + 10**9)
    assert len(secret) >= 43
    assert writer.find_token(secret) == record
    for wrong in ("", secret[:-1], secret + "A", secret.swapcase(), "x" * 300):
        assert writer.find_token(wrong) is None
    assert secret.encode() not in b"".join(file.read_bytes() for file in path.parent.iterdir())
    clock.advance(1)
    assert writer.find_token(secret) is None
    assert [token.valid(clock.wall_ns()) for token in writer.tokens()] == [False]


def test_a_revoked_token_is_worthless_for_readers_too(writer: Catalogue, reader: Catalogue):
    record, secret = writer.add_token("wall", ["view"])
    version = reader.version()
    assert reader.find_token(secret) == record
    assert reader.version() == version
    revoked = writer.revoke_token(record.number)
    assert reader.version() != version
    assert reader.find_token(secret) is None
    assert writer.revoke_token(record.number) == revoked
    with pytest.raises(NotFound):
        writer.revoke_token(77)


def test_scopes_and_cameras_of_tokens(writer: Catalogue):
    for scopes, cameras in (([], ()), (["root"], ()), (["publish:"], ()), (["publish:../x"], ()), (["view"], ("Gate",))):
        with pytest.raises(ConfigError):
            writer.add_token("x", scopes, cameras=cameras)
    wall, _ = writer.add_token("wall", ["view"], cameras=["gate"])
    admin, _ = writer.add_token("admin", ["admin"], partner="city")
    assert (wall.allows("view"), wall.allows("export"), admin.allows("export")) == (True, False, True)
    assert (wall.sees("gate", "x"), wall.sees("yard", "x"), admin.sees("yard", "city"), admin.sees("yard", "x")) == (True, False, True, False)


def test_one_writer(writer: Catalogue, path: Path, clock: SimulatedClock):
    with pytest.raises(Conflict, match="another process"):
        Catalogue.open(path, clock, write=True)
    writer.close()
    Catalogue.open(path, clock, write=True).close()


def test_a_reader_sees_and_cannot_change(writer: Catalogue, reader: Catalogue):
    writer.add_camera(config("gate"), "api", 0)
    assert [record.id for record in reader.cameras()] == ["gate"]
    with pytest.raises(StorageError, match="reading"):
        reader.add_camera(config("yard"), "api", 0)
    with pytest.raises(sqlite3.OperationalError):
        reader._db.execute("DELETE FROM camera")


def test_a_reader_without_a_catalogue(path: Path, clock: SimulatedClock):
    with pytest.raises(NotFound):
        Catalogue.open(path, clock)
    assert not path.exists()


def test_only_the_owner_may_read_the_file(writer: Catalogue, path: Path):
    writer.add_camera(config("gate"), "api", 0)
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file.name


def test_commits_are_full_and_logged_ahead(writer: Catalogue):
    assert writer._db.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert writer._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_foreign_file_is_one_clear_line(path: Path, clock: SimulatedClock, content: bytes):
    path.parent.mkdir()
    path.write_bytes(content)
    for write in (True, False):
        with pytest.raises(FormatError, match="not a catalogue"):
            Catalogue.open(path, clock, write=write)
    assert path.read_bytes() == content


def test_a_database_of_somebody_else_is_left_alone(path: Path, clock: SimulatedClock):
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (a)")
    db.close()
    with pytest.raises(FormatError, match="not a catalogue"):
        Catalogue.open(path, clock, write=True)


def test_a_newer_schema_is_refused(writer: Catalogue, path: Path, clock: SimulatedClock):
    writer._db.execute("PRAGMA user_version = 9")
    writer.close()
    for write in (True, False):
        with pytest.raises(FormatError, match="schema 9"):
            Catalogue.open(path, clock, write=write)


def test_a_failed_change_leaves_nothing_behind(writer: Catalogue):
    with pytest.raises(ConfigError):
        writer.adopt_file([config("good"), config("Bad Id")], 1)
    assert writer.cameras() == []
    assert not writer._db.in_transaction


def test_a_kill_between_statements_loses_the_whole_change(path: Path, clock: SimulatedClock):
    Catalogue.open(path, clock, write=True).close()
    pid = os.fork()
    if pid == 0:
        catalogue = Catalogue.open(path, clock, write=True)
        catalogue._db.execute("BEGIN IMMEDIATE")
        catalogue.add_camera(config("half"), "api", 0)
        os._exit(0)
    os.waitpid(pid, 0)
    with Catalogue.open(path, clock, write=True) as catalogue:
        assert catalogue.cameras() == []
        assert catalogue.add_camera(config("whole"), "api", 0).number == 1


def test_a_catalogue_that_the_disk_does_not_give_is_not_said_to_be_none(tmp_path: Path, clock: SimulatedClock) -> None:
    """It was "a defect of this program", or advice to restore from a backup what was well."""
    path = tmp_path / "catalogue.sqlite"
    path.mkdir()
    with pytest.raises(FormatError, match="cannot be read: ") as failed:
        Catalogue.open(path, clock)
    assert failed.value.remedy.startswith("look at the disk of state_dir")
