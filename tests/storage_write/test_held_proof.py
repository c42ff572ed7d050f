"""A held row is proved against the signed log when its chunk is long gone; whoever touches one is found, with camera and time."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from held import held_chunks, hold
from rig import Rig
from test_holds import AUDIO, SMALL_CHUNK, fill, settle, sound, times

from recorder._ext.crc32c import crc32c
from storage import heads, heldfile
from storage.chunkpage import head_page, pack_footer
from storage.footage import Rows
from storage.heldfile import HeldChunk
from storage.layout import PAGE, SMALL
from storage.ledger import ledger_path
from storage.proof import Proof
from storage.rowproof import leaf
from storage.signing import sign
from storage.store import TapeStore
from storage.verify import verify
from storage.verify_bytes import utc

Make = Callable[..., Rig]
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "heads"
    made.mkdir()
    return made


def signed(rig: Rig, folder: Path) -> int:
    store = TapeStore([rig.path], rig.live)
    try:
        proof, count = sign(store, rig.volume, folder, KEY, rig.clock.wall_ns())
        assert lines(proof) == []
        return count
    finally:
        store.close()


def look(rig: Rig, folder: Path) -> Proof:
    store = TapeStore([rig.path], rig.live)
    try:
        return verify(store, rig.volume, folder, KEY.public_key())
    finally:
        store.close()


def lines(proof: Proof) -> list[str]:
    return [f"{finding.where}: {finding.what}" for finding in proof.findings]


@pytest.fixture
def kept(make_rig: Make, folder: Path) -> Rig:
    """Footage of two cameras held, signed, and its chunks retired, overwritten and used again; the first of them are held in part."""
    rig = make_rig(bytes_max=40 * SMALL_CHUNK, quarantine_s=0.0)
    cameras = sound(rig, 1), sound(rig, 2)
    fill(rig, *cameras, rounds=60)
    rig.slot.hold(hold(1, *times(cameras[0], 10.5, 21.5), cameras=(1, 2)))
    assert signed(rig, folder) > 10
    fill(rig, *cameras, rounds=160)
    rig.clock.advance(700)
    settle(rig)
    signed(rig, folder)
    for number in held_chunks(rig, 1, AUDIO):
        assert not (rig.path / f"tape.zarr/cam-1/{AUDIO}/c/{number}").exists()
    return rig


def path_of(rig: Rig, number: int, camera: int = 1) -> Path:
    return rig.path / f"tape.zarr/cam-{camera}/{AUDIO}.held/c/{number}"


def read(path: Path) -> HeldChunk:
    with path.open("rb") as file:
        return heldfile.read(file.fileno(), path.name)


def cut(rig: Rig) -> int:
    """The number of a chunk that is held in part."""
    return next(number for number in held_chunks(rig, 1, AUDIO) if not read(path_of(rig, number)).there.all())


def poke(path: Path, at: int, data: bytes | None = None) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(data if data is not None else bytes([byte ^ 4]))


def row_at(rig: Rig, number: int) -> tuple[int, HeldChunk]:
    """A row that is there, and its chunk."""
    chunk = read(path_of(rig, number))
    return int(np.flatnonzero(chunk.there)[0]), chunk


def test_held_rows_are_proved_when_their_chunks_are_gone(kept: Rig, folder: Path) -> None:
    proof = look(kept, folder)
    assert lines(proof) == []
    assert proof.retired > 20
    rows = sum(int(read(path_of(kept, number, camera)).there.sum()) for camera in (1, 2) for number in held_chunks(kept, camera, AUDIO))
    assert proof.held == rows >= 22


def test_they_are_proved_in_a_copy_without_recorder_and_after_a_restart(kept: Rig, folder: Path, make_rig: Make) -> None:
    kept.close()
    again = make_rig(clock=kept.clock, bytes_max=40 * SMALL_CHUNK, quarantine_s=0.0)
    sound(again, 1), sound(again, 2)
    settle(again)
    assert lines(look(again, folder)) == []
    again.slot.release(hold(1, 1, 2).id, again.clock.wall_ns(), "partner")
    settle(again)
    assert held_chunks(again, 1, AUDIO) == []
    assert lines(look(again, folder)) == [], "what was released, the ledger tells of"


def test_what_a_released_hold_leaves_of_a_chunk_is_proved(kept: Rig, folder: Path) -> None:
    """Cut twice: by the first hold when it was retired, by the release again."""
    number = cut(kept)
    index, chunk = row_at(kept, number)
    t_ns = int(chunk.rows["t_ns"][index])
    kept.slot.hold(hold(2, t_ns, t_ns + 1))
    kept.slot.release(hold(1, 1, 2).id, kept.clock.wall_ns(), "partner")
    settle(kept)
    assert int(read(path_of(kept, number)).there.sum()) == 1
    proof = look(kept, folder)
    assert lines(proof) == []
    assert proof.held == 1


def held_bytes(rig: Rig, number: int, chunk: HeldChunk, index: int) -> bytes:
    with path_of(rig, number).open("rb") as file:
        return os.pread(file.fileno(), int(chunk.rows["bytes"][index]), PAGE + int(chunk.rows["offset"][index]) - chunk.head.start_offset)


def row_crc(chunk: HeldChunk, rows: Rows, index: int) -> int:
    return crc32c((chunk.head.first_row + index).to_bytes(8, "little") + rows[index].tobytes()[:60])


def altered_byte(rig: Rig, number: int) -> None:
    index, chunk = row_at(rig, number)
    poke(path_of(rig, number), PAGE + int(chunk.rows["offset"][index]) - chunk.head.start_offset + 777)


def forged(rig: Rig, number: int, *, t_shift: int = 0, leaves: bool = False) -> None:
    """Bytes or times of a row are altered, and every CRC, and with `leaves` every digest, is made to fit."""
    index, chunk = row_at(rig, number)
    rows = chunk.rows.copy()
    path = path_of(rig, number)
    if not t_shift:
        altered_byte(rig, number)
    data = held_bytes(rig, number, chunk, index)
    rows["t_ns"][index] += t_shift
    rows["data_crc"][index] = crc32c(data)
    rows["crc"][index] = row_crc(chunk, rows, index)
    found = bytearray(chunk.footer.leaves)
    if leaves:
        found[index * 32:index * 32 + 32] = leaf(chunk.head.first_row + index, rows[index].tobytes(), chunk.entries(index), data)
    footer, digest = pack_footer(rows.tobytes(), bytes(found), chunk.footer.entries, chunk.footer.items)
    head = replace(chunk.head, digest=digest)
    poke(path, SMALL.footer_start, footer)
    poke(path, 0, head_page(head, -(-head.used_bytes // SMALL.inner_bytes)))


def dropped(rig: Rig, number: int) -> None:
    """A row is taken out as retention would."""
    index, chunk = row_at(rig, number)
    wanted = chunk.there
    wanted[index] = False
    path = path_of(rig, number)
    made = path.with_name("made")
    made.write_bytes(bytes(SMALL.file_bytes))
    with path.open("rb") as source, made.open("r+b") as target:
        heldfile.write(source.fileno(), chunk, wanted, target.fileno(), 99)
    made.rename(path)


def other_camera(rig: Rig, number: int) -> None:
    shutil.copy(path_of(rig, number, 2), path_of(rig, number))


def planted(rig: Rig, number: int) -> None:
    """Another camera's held chunk with a head that says that it is this one's."""
    other_camera(rig, number)
    chunk = read(path_of(rig, number))
    head = replace(chunk.head, camera=1)
    poke(path_of(rig, number), 0, head_page(head, -(-head.used_bytes // SMALL.inner_bytes)))


def swapped(rig: Rig, number: int) -> None:
    other = next(one for one in held_chunks(rig, 1, AUDIO) if one != number)
    aside = path_of(rig, number).with_name("aside")
    path_of(rig, number).rename(aside)
    path_of(rig, other).rename(path_of(rig, number))
    aside.rename(path_of(rig, other))


def halve(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[len(raw) // 2:])


TAMPERED: dict[str, tuple[Callable[[Rig, int], object], str, int]] = {
    "a byte": (altered_byte, "is not as it was signed", 1),
    "a byte and its CRCs": (forged, "is not as it was signed", 1),
    "a time and its CRCs": (lambda r, n: forged(r, n, t_shift=3_600_000_000_000), "is not as it was signed", 1),
    "a byte, its CRCs and its leaf": (lambda r, n: forged(r, n, leaves=True), "its leaves are not those of the signed chunk", 1),
    "a row": (dropped, "1 of its ", 1),
    "a file": (lambda r, n: path_of(r, n).unlink(), "rows are missing, and no ledger", 1),
    "a bit of the head": (lambda r, n: poke(path_of(r, n), 2048 + 20), "the chunk head does not hold together", 1),
    "a bit of the footer": (lambda r, n: poke(path_of(r, n), SMALL.footer_start + 60), "the footer does not hold together", 1),
    "bytes between": (lambda r, n: poke(path_of(r, n), SMALL.footer_start - 1), "there are bytes around its rows", 1),
    "bytes behind": (lambda r, n: poke(path_of(r, n), SMALL.file_bytes - 1), "there are bytes around its rows", 1),
    "a mark of the index": (lambda r, n: poke(path_of(r, n), 3), "its shard index", 1),
    "another camera's": (other_camera, "its head says that it is another chunk", 1),
    "another camera's, with a head that lies": (planted, "its leaves are not those of the signed chunk", 1),
    "swapped files": (swapped, "its head says that it is another chunk", 2),
    "a folder": (lambda r, n: (path_of(r, n).unlink(), path_of(r, n).mkdir()), "cannot be read", 1),
    "a symlink": (lambda r, n: (path_of(r, n).unlink(), path_of(r, n).symlink_to("/dev/zero")), "cannot be read", 1),
    "the ledger": (lambda r, n: os.truncate(r.path / ledger_path(0), 0), "no ledger says that", -1),
    "half of the ledger": (lambda r, n: halve(r.path / ledger_path(0)), "no ledger says that", -1),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampering_with_held_rows_is_found_and_named(kept: Rig, folder: Path, name: str) -> None:
    tamper, what, count = TAMPERED[name]
    number = cut(kept)
    _, chunk = row_at(kept, number)
    tamper(kept, number)
    found = lines(look(kept, folder))
    assert len(found) == count if count > 0 else found
    assert all(what in line and line.startswith("cam-") and "Z to " in line for line in found), found
    if count > 0:
        mine = [line for line in found if f" chunk {number}, " in line]
        assert len(mine) == 1 and mine[0].startswith("cam-1/audio ")
        assert utc(chunk.head.first_ns)[:13] in mine[0], "the hour"


def test_a_held_chunk_that_nobody_signed_is_not_taken_in_later(kept: Rig, folder: Path) -> None:
    """Put beside the real ones, with everything right but the signature: it is no part of the log, and does not become one."""
    chunks = {seal.chunk for file in heads.documents(folder) for seal in heads.read(file, KEY.public_key()).seals if seal.camera == 1}
    number, source = min(set(range(max(chunks))) - chunks), cut(kept)
    shutil.copy(path_of(kept, source), path_of(kept, number))
    chunk = read(path_of(kept, number))
    rows = chunk.rows.copy()
    leaves = bytearray(chunk.footer.leaves)
    rows["offset"][chunk.there] += np.uint64(SMALL.tape_bytes * (number - source))
    for index in np.flatnonzero(chunk.there).tolist():
        rows["crc"][index] = row_crc(chunk, rows, index)
        data = held_bytes(kept, source, chunk, index)
        leaves[index * 32:index * 32 + 32] = leaf(chunk.head.first_row + index, rows[index].tobytes(), chunk.entries(index), data)
    footer, digest = pack_footer(rows.tobytes(), bytes(leaves), chunk.footer.entries, chunk.footer.items)
    head = replace(chunk.head, digest=digest, chunk=number)
    poke(path_of(kept, number), SMALL.footer_start, footer)
    poke(path_of(kept, number), 0, head_page(head, -(-head.used_bytes // SMALL.inner_bytes)))
    before = lines(look(kept, folder))
    assert len(before) == 1 and f"cam-1/audio held chunk {number}" in before[0]
    signed(kept, folder)
    assert lines(look(kept, folder)) == before


def test_held_rows_of_a_chunk_that_was_retired_before_anybody_signed_it(make_rig: Make, folder: Path) -> None:
    rig = make_rig(bytes_max=40 * SMALL_CHUNK, quarantine_s=0.0)
    camera = sound(rig)
    fill(rig, camera, rounds=60)
    rig.slot.hold(hold(1, *times(camera, 10.5, 21.5)))
    fill(rig, camera, rounds=200)
    assert rig.core(1, AUDIO).tail_row > 30
    signed(rig, folder)
    proof = look(rig, folder)
    assert (lines(proof), proof.held >= 11, proof.unsigned) == ([], True, 0)
    altered_byte(rig, cut(rig))
    assert "is not as it was signed" in lines(look(rig, folder))[0]


def test_what_was_not_signed_yet_is_counted(make_rig: Make, folder: Path) -> None:
    rig = make_rig(bytes_max=40 * SMALL_CHUNK, quarantine_s=0.0)
    camera = sound(rig)
    fill(rig, camera, rounds=30)
    signed(rig, folder)
    assert look(rig, folder).unsigned == 0
    fill(rig, camera, rounds=30)
    assert look(rig, folder).unsigned >= 5
