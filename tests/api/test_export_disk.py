"""Exports on a disk that fills up, and files whose mark or bytes are not what they were."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from api.exports import shelf
from api.exports.sink import PIECE_BYTES, Pace, Sink, Torn
from recorder.base.config import ExportsConfig
from tests.api.exporting import body, ended, footage, until
from tests.storage_read.reference_writer import RefVolume


@pytest.mark.disk
async def test_a_disk_that_fills_up_fails_the_job_with_the_remedy(small_disk: Path, start: Any, volume: RefVolume, holds: Any) -> None:
    footage(volume)
    api = await start(exports=ExportsConfig(folder=small_disk / "exports", mb_per_s=2.0))
    api.clock.advance(3600)
    key = await api.token("export")
    first = (await api.ask("POST", "exports", token=key, json=body(10, 14))).json
    await until(api, first["id"], key, lambda job: job["state"] == "running" and job["done_bytes"])
    second = (await api.ask("POST", "exports", token=key, json=body())).json
    free = os.statvfs(small_disk)
    with (small_disk / "others").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - (10 << 20))
    refused = await api.ask("POST", "exports", token=key, json=body(20, 25))
    assert refused.status == 409 and "too little room" in refused.json["detail"]
    assert (await ended(api, first["id"], key))["state"] == "done"
    failed = await ended(api, second["id"], key)
    assert failed["state"] == "failed" and "make room" in failed["error"]["remedy"]
    assert failed["error"]["message"] == "the disk of exports is full"
    assert {path.name for path in (small_disk / "exports" / second["id"]).iterdir()} <= {"job.json", "lock", "plan.npz", "part"}
    await until(api, second["id"], key, lambda _: not holds.standing())


DATA = hashlib.shake_128(b"export").digest(5 * PIECE_BYTES + 12_345)


async def written(folder: Path, *, upto: int, asked: list[int]) -> tuple[int, str]:
    """Write DATA, as far as `upto`; `asked` gets the places that are fetched."""
    sink = Sink(folder, len(DATA), Pace(0), lambda _: None)
    sink._marked_s = -10.0          # every piece is marked

    async def fill(view: memoryview, at: int) -> None:
        if at >= upto:
            raise InterruptedError
        asked.append(at)
        sink._marked_s = -10.0
        view[:] = DATA[at:at + len(view)]

    try:
        await sink.write(len(DATA), fill)
        return await sink.finish()
    finally:
        sink.close()


async def test_what_is_marked_is_not_fetched_again_and_the_digest_is_the_same(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        await written(tmp_path, upto=3 * PIECE_BYTES, asked=[])
    asked: list[int] = []
    size, digest = await written(tmp_path, upto=len(DATA), asked=asked)
    assert (size, digest) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    assert asked == [3 * PIECE_BYTES, 4 * PIECE_BYTES, 5 * PIECE_BYTES]
    assert (tmp_path / shelf.PART).read_bytes() == DATA


async def test_bytes_that_are_not_what_the_mark_says_are_found(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        await written(tmp_path, upto=3 * PIECE_BYTES, asked=[])
    with (tmp_path / shelf.PART).open("r+b") as file:
        file.seek(PIECE_BYTES + 7)
        file.write(bytes([DATA[PIECE_BYTES + 7] ^ 1]))
    with pytest.raises(Torn):
        await written(tmp_path, upto=len(DATA), asked=[])


@pytest.mark.parametrize("mark", [
    b"", b"{", b"[]", b'{"bytes": "x"}', b'{"bytes": 7, "sha256": ""}', json.dumps({"bytes": 1 << 60, "sha256": ""}).encode(),
    b'{"bytes": -1048576, "sha256": ""}',
])
async def test_a_mark_that_is_none_counts_for_nothing(tmp_path: Path, mark: bytes) -> None:
    with pytest.raises(InterruptedError):
        await written(tmp_path, upto=2 * PIECE_BYTES, asked=[])
    (tmp_path / shelf.MARK).write_bytes(mark)
    asked: list[int] = []
    assert (await written(tmp_path, upto=len(DATA), asked=asked))[1] == hashlib.sha256(DATA).hexdigest()
    assert asked[0] == 0
