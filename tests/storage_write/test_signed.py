"""What the recorder seals is what `watchroom verify` finds, also in files that have been another chunk; tampering is named."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rig import Rig

from recorder.base.media import TrackKind
from storage.chunkfile import read_footer, read_head
from storage.layout import LARGE, PAGE, track_path
from storage.proof import Proof
from storage.signing import sign
from storage.store import TapeStore
from storage.verify import verify
from storage.volume import Volume

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
        proof, count = sign(store, rig.volume, folder, KEY, 1)
        assert proof.clean
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


def sealed(rig: Rig) -> list[Path]:
    found = []
    for file in sorted((rig.path / track_path(1, "main") / "c").iterdir(), key=lambda one: int(one.name)):
        with file.open("rb") as opened:
            if read_head(opened.fileno(), file.name).sealed:
                found.append(file)
    return found


def test_a_full_volume_that_turns_over_and_crashes_stays_clean(make_rig: Make, folder: Path) -> None:
    """Files go through the pool, chunks close early, recovery skips a piece of the tape: zeros lie wherever no row does."""
    rng = random.Random(5)
    count = 0
    for _ in range(3):
        rig = make_rig(bytes_max=6 * LARGE.file_bytes, quarantine_s=0.0, chunk_close_s=30.0)
        _, camera = rig.track(size=rng.randrange(60_000, 100_000))
        _, audio = rig.track(name="audio", kind=TrackKind.AUDIO, size=rng.randrange(1_000, 4_000), gop=1, fps=5)
        for _ in range(60):
            camera.put(10)
            audio.put(rng.randrange(1, 6))
            rig.turn()
            rig.clock.advance(0.4)
            if rng.random() < 0.1:
                count += signed(rig, folder)
        count += signed(rig, folder)
        assert lines(look(rig, folder)) == []
        rig.crash()
        rig = make_rig(bytes_max=6 * LARGE.file_bytes, quarantine_s=0.0)
        rig.close()
    rig = make_rig(bytes_max=6 * LARGE.file_bytes, quarantine_s=0.0)
    proof = look(rig, folder)
    assert lines(proof) == []
    assert proof.retired > 0
    assert proof.chunks + proof.retired == count


def test_every_byte_of_a_signed_chunk_counts(make_rig: Make, folder: Path) -> None:
    """One bit anywhere in the file: in a row, between rows, in head page, index, footer, or behind it."""
    rng = random.Random(7)
    rig = make_rig()
    _, camera = rig.track(size=60_000)
    rig.run(camera, 500)
    rig.close()
    rig2 = make_rig()
    assert signed(rig2, folder) >= 1
    victim = sealed(rig2)[0]
    with victim.open("r+b") as opened:
        head = read_head(opened.fileno(), "")
        rows = read_footer(opened.fileno(), head, "").rows
        ends = PAGE + rows["offset"] + rows["bytes"]
        padding = [int(end) for end, start in zip(ends[:-1], PAGE + rows["offset"][1:], strict=True) if end < start] + [int(ends[-1])]
        places = [0, 17, 600, PAGE - 1, *padding[:2], LARGE.footer_start + 1, LARGE.footer_start + head.footer_bytes, LARGE.file_bytes - 1,
                  *(rng.randrange(LARGE.file_bytes) for _ in range(12))]
        for at in places:
            opened.seek(at)
            byte = opened.read(1)[0]
            opened.seek(at)
            opened.write(bytes([byte ^ 1 << rng.randrange(8)]))
            opened.flush()
            found = lines(look(rig2, folder))
            assert len(found) == 1, f"byte {at}"
            assert found[0].startswith(f"cam-1/main chunk {victim.name}, {np.datetime64(head.first_ns, 'ns').astype('datetime64[ms]')}Z to ")
            opened.seek(at)
            opened.write(bytes([byte]))
            opened.flush()
    assert lines(look(rig2, folder)) == []


@pytest.mark.parametrize("running", [True, False])
def test_a_missing_and_a_swapped_chunk_are_named(make_rig: Make, folder: Path, tmp_path: Path, running: bool) -> None:
    rig = make_rig()
    _, camera = rig.track(size=90_000)
    rig.run(camera, 500)
    signed(rig, folder)
    if not running:
        rig.close()
        for file in rig.live.iterdir():
            file.unlink()
    first, second, *_ = sealed(rig)
    first.rename(tmp_path / "aside")
    found = lines(look(rig, folder)) if running else lines(_closed_look(rig, folder))
    assert len(found) == 1
    assert found[0].startswith(f"cam-1/main chunk {first.name}, ")
    second.rename(first)
    (tmp_path / "aside").rename(second)
    found = lines(look(rig, folder)) if running else lines(_closed_look(rig, folder))
    assert [line.split(",")[0] for line in found] == [f"cam-1/main chunk {first.name}", f"cam-1/main chunk {second.name}"]


def _closed_look(rig: Rig, folder: Path) -> Proof:
    """As the command does it while no recorder runs."""
    rig.volume = Volume.open(rig.path, on_root=True, lock=False)
    try:
        return look(rig, folder)
    finally:
        rig.volume.close()
