"""What was signed is there, byte for byte; every way to tamper with it is found and named with camera and time."""

import os
import shutil
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recorder.__main__ import main
from recorder.base.errors import ConfigError, FormatError
from recorder.base.media import TrackKind
from storage import heads, items
from storage.journal import pack_record
from storage.layout import CHUNK_HEAD_AT, PAGE, SMALL, track_path
from storage.proof import Proof
from storage.signing import sign
from storage.store import TapeStore
from storage.verify import verify
from tests.storage_read.reference_writer import ENTRY_H264, RefTrack, RefVolume, gop

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))


def fill(track: RefTrack, chunks: int) -> None:
    while len(track.chunks) < chunks:
        track.write_row(gop(5, size=800, key=9000, dur=18_000))
    track.commit()


@pytest.fixture
def track(volume: RefVolume) -> RefTrack:
    """Three sealed chunks and an open one."""
    made = volume.track(7, "main", TrackKind.AUDIO)
    made.log(items.SampleEntryItem(1, ENTRY_H264))
    fill(made, 4)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "heads"
    made.mkdir()
    return made


def signed(volume: RefVolume, folder: Path, key: Ed25519PrivateKey = KEY, mark: heads.Mark | None = None) -> tuple[Proof, int]:
    store = TapeStore([volume.path], volume.live_dir)
    try:
        return sign(store, volume.volume, folder, key, 1, mark)
    finally:
        store.close()


def look(volume: RefVolume, folder: Path, key: Ed25519PrivateKey = KEY, mark: heads.Mark | None = None) -> Proof:
    store = TapeStore([volume.path], volume.live_dir)
    try:
        return verify(store, volume.volume, folder, key.public_key(), mark)
    finally:
        store.close()


def lines(proof: Proof) -> list[str]:
    return [f"{finding.where}: {finding.what}" for finding in proof.findings]


def test_a_sound_volume_is_clean_while_it_records_and_retires(volume: RefVolume, track: RefTrack, folder: Path):
    proof, new = signed(volume, folder)
    assert (lines(proof), new) == ([], 3)
    fill(track, 6)
    assert lines(look(volume, folder)) == []
    proof, new = signed(volume, folder)
    assert (lines(proof), new, proof.documents) == ([], 2, 2)
    assert track.retire()
    write_down(volume, 0)
    proof = look(volume, folder)
    assert (lines(proof), proof.documents, proof.chunks, proof.retired) == ([], 2, 4, 1)


def write_down(volume: RefVolume, number: int) -> None:
    """The ledger's line about a retired chunk."""
    said = items.encode(items.Tape(1, 7, 8000, TrackKind.AUDIO, "main")) + items.encode(items.Deletion(number, 0, 80, 0, 1))
    with (volume.path / "slot-0/ledger").open("ab") as ledger:
        ledger.write(pack_record(0, 1, 1, said, align=8))


def test_the_oldest_chunk_is_missed_unless_a_ledger_says_that_it_was_deleted(volume: RefVolume, track: RefTrack, folder: Path):
    """Without a live file the tail begins at the oldest file that is there: a removed one was taken for retired."""
    signed(volume, folder)
    volume.drop_live_file()
    chunk(volume, 0).unlink()
    found = lines(look(volume, folder))
    assert len(found) == 1
    assert found[0].startswith("cam-7/main chunk 0, ")
    assert "no ledger says that it was deleted" in found[0]
    write_down(volume, 0)
    assert lines(look(volume, folder)) == []


def chunk(volume: RefVolume, number: int) -> Path:
    return volume.path / track_path(7, "main") / "c" / str(number)


def swap(volume: RefVolume) -> None:
    aside = volume.path / "aside"
    chunk(volume, 1).rename(aside)
    chunk(volume, 2).rename(chunk(volume, 1))
    aside.rename(chunk(volume, 2))


def other_footer(volume: RefVolume) -> None:
    """A whole chunk of a parallel life: everything in it holds together, but it is not what was signed."""
    elsewhere = RefVolume(volume.path.parent / "other", volume.live_dir)
    try:
        twin = elsewhere.track(7, "main", TrackKind.AUDIO)
        while len(twin.chunks) < 3:
            twin.write_row(gop(5, size=801, key=9001, dur=18_000))
        shutil.copy(chunk(elsewhere, 1), chunk(volume, 1))
    finally:
        elsewhere.volume.close()


def poke(volume: RefVolume, at: int) -> None:
    fd = os.open(chunk(volume, 1), os.O_RDWR)
    try:
        byte = os.pread(fd, 1, at)[0]
        os.pwrite(fd, bytes([byte ^ 1]), at)
    finally:
        os.close(fd)


TAMPERED: dict[str, tuple[Callable[[RefVolume], object], str, int]] = {
    "a bit of the footage": (lambda v: poke(v, PAGE + 20_000), "is not as it was signed", 1),
    "a bit of the footer": (lambda v: poke(v, SMALL.footer_start + 100), "the footer does not hold together", 1),
    "a bit of the head": (lambda v: poke(v, CHUNK_HEAD_AT + 20), "the chunk head does not hold together", 1),
    "a mark of the shard index": (lambda v: poke(v, 3), "its shard index", 1),
    "a byte beside the head": (lambda v: poke(v, 1000), "its shard index, or what lies around its head", 1),
    "a byte behind the last row": (lambda v: poke(v, SMALL.footer_start - 1), "there are bytes around its rows", 1),
    "a byte behind the footer": (lambda v: poke(v, SMALL.file_bytes - 1), "there are bytes around its rows", 1),
    "a longer file": (lambda v: os.truncate(chunk(v, 1), SMALL.file_bytes + 1), "bytes, its class", 1),
    "a removed chunk": (lambda v: chunk(v, 1).unlink(), "is missing", 1),
    "swapped chunks": (swap, "another chunk lies in its place", 2),
    "a chunk that was made elsewhere": (other_footer, "is not the one that was signed", 1),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampering_is_found_and_named(volume: RefVolume, track: RefTrack, folder: Path, name: str):
    tamper, what, count = TAMPERED[name]
    signed(volume, folder)
    tamper(volume)
    found = lines(look(volume, folder))
    assert len(found) == count
    assert all(what in line and line.startswith("cam-7/main chunk ") and "Z to " in line for line in found)
    assert any("chunk 1, " in line for line in found)


def test_a_forged_document_and_a_wrong_key_prove_nothing(volume: RefVolume, track: RefTrack, folder: Path):
    signed(volume, folder)
    assert "its signature is not this key's" in lines(look(volume, folder, OTHER))[0]
    file = folder / "00000001.heads"
    file.write_bytes(file.read_bytes().replace(b'"chunk":1,', b'"chunk":9,'))
    proof = look(volume, folder)
    assert (proof.documents, proof.chunks) == (0, 0)
    assert lines(proof) == ["00000001.heads: its signature is not this key's"]
    assert signed(volume, folder)[1] == 0
    assert [path.name for path in folder.iterdir()] == ["00000001.heads"]


def test_many_seals_take_several_documents(volume: RefVolume, track: RefTrack, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(heads, "DOCUMENT_SEALS", 2)
    assert signed(volume, folder)[1] == 3
    proof = look(volume, folder)
    assert (lines(proof), proof.documents, proof.chunks) == ([], 2, 3)


@pytest.mark.parametrize("number", [1, 2])
def test_a_document_that_was_taken_away_is_missed(volume: RefVolume, track: RefTrack, folder: Path, number: int):
    for _ in range(3):
        signed(volume, folder)
        fill(track, len(track.chunks) + 1)
    (folder / f"0000000{number}.heads").unlink()
    assert any(f"documents {number} to {number} are missing" in line for line in lines(look(volume, folder)))


def test_a_document_of_another_life_does_not_lead_on(volume: RefVolume, track: RefTrack, folder: Path, tmp_path: Path):
    signed(volume, folder)
    fill(track, 5)
    signed(volume, folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    signed(volume, elsewhere)
    shutil.copy(elsewhere / "00000001.heads", folder)
    assert lines(look(volume, folder)) == ["00000002.heads: does not lead on from the document before"]


def test_a_cut_document_is_found(volume: RefVolume, track: RefTrack, folder: Path):
    signed(volume, folder)
    os.truncate(folder / "00000001.heads", 300)
    assert lines(look(volume, folder)) == ["00000001.heads: its signature is not this key's"]


def test_a_signing_that_was_cut_off_is_done_again(volume: RefVolume, track: RefTrack, folder: Path):
    (folder / "00000001.new").write_bytes(b"half")
    assert signed(volume, folder)[1] == 3
    assert lines(look(volume, folder)) == []


def test_a_number_is_never_signed_twice(volume: RefVolume, track: RefTrack, folder: Path):
    signed(volume, folder)
    with pytest.raises(FormatError, match="exists already"):
        heads.append(folder, KEY, volume.volume.uuid, (), {}, None, 1)


def test_what_is_damaged_is_not_signed(volume: RefVolume, track: RefTrack, folder: Path):
    poke(volume, SMALL.footer_start + 100)
    proof, new = signed(volume, folder)
    assert (len(proof.findings), new) == (1, 2)


def test_nothing_signed_is_not_clean(volume: RefVolume, track: RefTrack, folder: Path):
    signed(volume, folder)
    (folder / "00000001.heads").unlink()
    assert not look(volume, folder).clean


def test_the_command_signs_and_verifies(volume: RefVolume, track: RefTrack, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    private, public = tmp_path / "key.pem", tmp_path / "public.pem"
    private.write_bytes(KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    for file in chunk(volume, 0).parent.iterdir():      # sealed a while ago
        os.utime(file, (file.stat().st_mtime - 60,) * 2)
    common = ["verify", str(volume.path), "--heads", str(folder), "--live-dir", str(volume.live_dir)]
    assert main([*common, "--sign", str(private)]) == 0
    assert main([*common, "--public-key", str(public)]) == 0
    assert "clean: 1 documents" in capsys.readouterr().out
    chunk(volume, 1).unlink()
    assert main([*common, "--public-key", str(public)]) == 1
    assert "cam-7/main chunk 1, " in capsys.readouterr().out
    with pytest.raises(ConfigError):
        heads.public_key(private)
    assert main(["verify", str(volume.path), "--heads", str(volume.path / "heads"), "--sign", str(private)]) == 3


def test_older_documents_in_place_of_newer_ones_are_found_by_the_mark(volume: RefVolume, track: RefTrack, folder: Path, tmp_path: Path):
    """Each holds, and they lead on from each other: only who knows of the newest can tell."""
    signed(volume, folder)
    shutil.copytree(folder, tmp_path / "before")
    fill(track, 6)
    mark = signed(volume, folder)[0].newest
    assert mark is not None
    assert lines(look(volume, folder, mark=mark)) == []
    fork = tmp_path / "before"
    assert "this document was signed, and is not there" in lines(look(volume, fork, mark=mark))[0]
    assert "this document was signed, and is not there" in lines(signed(volume, fork, mark=mark)[0])[0]
    assert len(heads.documents(fork)) == 1
    fill(track, 7)
    signed(volume, fork)                # who has the key can go on with the old ones: the digest tells
    assert "or another one is in its place" in lines(look(volume, fork, mark=mark))[0]
    assert "or another one is in its place" in lines(signed(volume, fork, mark=mark)[0])[0]


def test_signing_goes_on_behind_an_older_mark(volume: RefVolume, track: RefTrack, folder: Path):
    """A crash between a document and its mark."""
    mark = signed(volume, folder)[0].newest
    fill(track, 5)
    signed(volume, folder)
    fill(track, 6)
    proof, new = signed(volume, folder, mark=mark)
    assert (lines(proof), new, proof.documents) == ([], 1, 3)
    shutil.copy(folder / "00000001.heads", folder / "00000002.heads")
    assert not signed(volume, folder, mark=mark)[0].clean


def test_a_chunk_that_turns_up_among_signed_ones_is_told(volume: RefVolume, track: RefTrack, folder: Path):
    """It was damaged when the others were signed: nobody vouches for what it is now."""
    raw = chunk(volume, 1).read_bytes()
    poke(volume, SMALL.footer_start + 100)
    signed(volume, folder)
    chunk(volume, 1).write_bytes(raw)
    assert signed(volume, folder)[1] == 0
    (line,) = lines(look(volume, folder))
    assert line.startswith("cam-7/main chunk 1, ") and line.endswith("was never signed, though later chunks of its track were")


def test_what_was_sealed_just_now_waits_for_the_next_signing(volume: RefVolume, track: RefTrack, folder: Path):
    """Its seal may not be durable yet: after a power cut it might be sealed again, with other items."""
    old_ns = time.time_ns() - 60_000_000_000
    for number in (0, 1):
        os.utime(chunk(volume, number), ns=(old_ns, old_ns))
    store = TapeStore([volume.path], volume.live_dir)
    try:
        now_ns = chunk(volume, 2).stat().st_mtime_ns + 1_000_000_000
        assert sign(store, volume.volume, folder, KEY, now_ns, settled=True)[1] == 2
        assert sign(store, volume.volume, folder, KEY, now_ns + 10_000_000_000, settled=True)[1] == 1
    finally:
        store.close()
    assert lines(look(volume, folder)) == []


def test_a_document_or_key_of_many_gigabytes_takes_no_memory(volume: RefVolume, track: RefTrack, folder: Path, tmp_path: Path) -> None:
    signed(volume, folder)
    for file in (folder / "00000002.heads", tmp_path / "key"):
        with file.open("wb") as opened:
            opened.truncate(1 << 40)
    tracemalloc.start()
    try:
        proof = look(volume, folder)
        with pytest.raises(ConfigError):
            heads.private_key(tmp_path / "key")
        assert tracemalloc.get_traced_memory()[1] < 400 << 20
    finally:
        tracemalloc.stop()
    assert any("its signature is not this key's" in finding.what for finding in proof.findings)
