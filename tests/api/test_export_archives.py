"""Exports of several items: one MP4 with all tracks, a zip with a file of each, a pack that anybody can check."""

import csv
import hashlib
import io
import json
import shutil
import subprocess
import sys
import zipfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from api.exports import verify
from api.zipstream import Archive, Member
from recorder.base.config import SiteConfig
from recorder.base.media import NS
from storage.signing import sign
from storage.store import TapeStore
from tests.api.exporting import ended, footage
from tests.storage_read.reference_writer import BASE_NS, RefVolume, gop


@pytest.fixture
async def two(start: Any, volume: RefVolume, holds: Any) -> Any:
    """An API with footage of two cameras, of one with a gap, and a token."""
    footage(volume, 40)
    yard = footage(volume, 20, camera=2, au_bytes=10_000)
    yard.gap(10)
    for _ in range(20):
        yard.write_row(gop(25, size=10_000, key=20_000))
    yard.commit()
    api = await start()
    api.clock.advance(3600)
    api.key = await api.token("export")
    return api


def item(camera: str, first: float, last: float) -> dict[str, Any]:
    return {"camera": camera, "start": BASE_NS + round(first * NS), "end": BASE_NS + round(last * NS)}


async def made(api: Any, *items: dict[str, Any], **more: Any) -> tuple[dict[str, Any], bytes]:
    """The job, done, and its result."""
    asked = await api.ask("POST", "exports", token=api.key, json={"items": list(items), "reason": "case", **more})
    assert asked.status == 202, asked.body
    job = await ended(api, asked.json["id"], api.key)
    assert job["state"] == "done", job
    return job, (await api.get(job["result"]["address"], token=api.key)).body


async def test_several_items_share_one_mp4(two: Any) -> None:
    job, body = await made(two, item("north", 5, 35), item("yard", 5, 35))
    assert body.count(b"trak") == 2 and job["result"]["name"].startswith("2-cameras_main_")
    manifest = (await two.get(job["result"]["manifest"], token=two.key)).json
    assert [one["camera"]["id"] for one in manifest["files"][0]["items"]] == ["north", "yard"]
    (gap,) = manifest["files"][0]["items"][1]["gaps"]
    assert (gap["start_ns"] - BASE_NS, gap["end_ns"] - BASE_NS) == (20 * NS, 30 * NS)


async def test_a_zip_holds_what_clips_are_and_says_what_is_not_there(two: Any) -> None:
    job, body = await made(two, item("north", 5, 35), item("yard", 21, 29), item("yard", 30, 40), format="zip")
    assert job["result"]["media_type"] == "application/zip" and hashlib.sha256(body).hexdigest() == job["result"]["sha256"]
    archive = zipfile.ZipFile(io.BytesIO(body))
    assert archive.testzip() is None
    films = [name for name in archive.namelist() if name.endswith(".mp4")]
    assert archive.namelist() == [*films, "manifest.json", "SHA256SUMS"] and len(films) == 2
    clip = await two.get("cameras/north/clip.mp4", token=await two.token("view"), params={
        name: str(item("north", 5, 35)[name]) for name in ("start", "end")})
    assert archive.read(films[0]) == clip.body
    sums = dict(reversed(line.split("  ")) for line in archive.read("SHA256SUMS").decode().splitlines())
    assert sums == {name: hashlib.sha256(archive.read(name)).hexdigest() for name in [*films, "manifest.json"]}
    manifest = json.loads(archive.read("manifest.json"))
    assert [file["sha256"] for file in manifest["files"]] == [sums[name] for name in films]
    (nothing,) = manifest["nothing"]
    assert nothing["camera"]["id"] == "yard" and [gap["cause"] for gap in nothing["gaps"]] == ["offline"]


async def test_a_pack_holds_whole_rows_each_under_its_seal_and_a_program_that_checks_it(two: Any, tmp_path: Path) -> None:
    _, body = await made(two, item("north", 5.5, 34.5), item("yard", 15, 33), format="pack", reference="case 7")
    file = tmp_path / "pack.zip"
    file.write_bytes(body)
    archive = zipfile.ZipFile(file)
    masters = [name for name in archive.namelist() if name.endswith(".mp4")]
    assert archive.namelist() == [*(master + more for master in masters for more in ("", ".rows.csv", ".chunks.json")),
                                  "verify.py", "README.txt", "manifest.json", "SHA256SUMS"]
    check_rows(archive, masters[0], range(5, 35))
    check_rows(archive, masters[1], [*range(15, 20), *range(20, 23)])
    good = checked(file)
    assert good.returncode == 0 and "GAP 2026-01-01T00:00:20" in good.stdout and "case 7" in good.stdout, good
    assert "30 rows, " in good.stdout and "proved against the recorder's seal" in good.stdout
    bare = checked(file, "-I", "-S")        # nothing but the standard library
    assert bare.returncode == 0 and "no module blake3 here" in bare.stdout, bare


def check_rows(archive: zipfile.ZipFile, master: str, numbers: Any) -> None:
    media, lines = archive.read(master), archive.read(master + ".rows.csv").decode().splitlines()
    names = lines[0].split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]
    assert [int(row["row"]) for row in rows] == list(numbers)
    sealed = [row for row in rows if row["leaf"]]
    assert sealed or len(rows) < 10         # a chunk of the small footage may still be open
    for row in sealed:
        data = media[int(row["at"]):int(row["at"]) + int(row["bytes"])]
        leaf = blake3(int(row["row"]).to_bytes(8, "little") + bytes.fromhex(row["record"]) + bytes.fromhex(row["entries"]) + data)
        assert leaf.hexdigest() == row["leaf"]


def checked(path: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """What the pack's own program says of it."""
    program = path.parent / "verify.py"
    if path.suffix == ".zip":
        program.write_bytes(zipfile.ZipFile(path).read("verify.py"))
    return subprocess.run([sys.executable, *options, program, path], capture_output=True, text=True, timeout=120, check=False, cwd=path.parent)


async def test_whatever_is_changed_in_a_pack_is_found(two: Any, tmp_path: Path) -> None:
    _, body = await made(two, item("north", 5, 25), format="pack")
    file, folder = tmp_path / "pack.zip", tmp_path / "unpacked"
    file.write_bytes(body)
    zipfile.ZipFile(file).extractall(folder)
    (master,) = (folder / "master").glob("*.mp4")
    shutil.copy(folder / "verify.py", tmp_path / "verify.py")
    assert checked(folder).returncode == 0
    for name, change in {"altered": lambda: flip(master), "missing": (folder / "README.txt").unlink, "added": (folder / "more").touch}.items():
        change()
        found = checked(folder)
        assert found.returncode == 1 and name in found.stdout, found
    (folder / "manifest.json").unlink()
    assert checked(folder).returncode == 2
    file.write_bytes(body[:-100])
    assert checked_with(tmp_path, file).returncode == 2
    file.write_bytes(body[:2_000_000] + bytes([body[2_000_000] ^ 1]) + body[2_000_001:])
    assert checked_with(tmp_path, file).returncode == 1


def checked_with(folder: Path, path: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, folder / "verify.py", path], capture_output=True, text=True, timeout=120, check=False)


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(1_000_000)
        byte = file.read(1)
        file.seek(1_000_000)
        file.write(bytes([byte[0] ^ 1]))


async def test_forged_sums_do_not_hide_an_altered_row(two: Any, tmp_path: Path) -> None:
    _, body = await made(two, item("north", 5, 25), format="pack")
    file, folder = tmp_path / "pack.zip", tmp_path / "unpacked"
    file.write_bytes(body)
    zipfile.ZipFile(file).extractall(folder)
    shutil.copy(folder / "verify.py", tmp_path / "verify.py")
    (master,) = (folder / "master").glob("*.mp4")
    before = hashlib.sha256(master.read_bytes()).hexdigest()
    flip(master)
    after = hashlib.sha256(master.read_bytes()).hexdigest()
    manifest = folder / "manifest.json"
    old = hashlib.sha256(manifest.read_bytes()).hexdigest()
    manifest.write_text(manifest.read_text().replace(before, after))
    sums = folder / "SHA256SUMS"
    sums.write_text(sums.read_text().replace(before, after).replace(old, hashlib.sha256(manifest.read_bytes()).hexdigest()))
    found = checked(folder)
    assert found.returncode == 1 and "is not what was sealed" in found.stdout, found


SIGNED = """
openssl pkey -in key.pem -pubout -out public.pem
tail -n +2 heads/00000001.heads > document
head -n 1 heads/00000001.heads | tr a-f A-F | basenc -d --base16 > signature
openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in document -sigfile signature
"""


def forged(folder: Path) -> None:
    """Alter a row, and everything in the pack that is over it."""
    (master,) = (folder / "master").glob("*.mp4")
    listed, chunks = folder / f"master/{master.name}.rows.csv", folder / f"master/{master.name}.chunks.json"
    row = next(row for row in csv.DictReader(io.StringIO(listed.read_text())) if row["leaf"])
    media = bytearray(master.read_bytes())
    media[int(row["at"])] ^= 1
    data = media[int(row["at"]):int(row["at"]) + int(row["bytes"])]
    leaf = blake3(int(row["row"]).to_bytes(8, "little") + bytes.fromhex(row["record"]) + bytes.fromhex(row["entries"]) + data).hexdigest()
    known = json.loads(chunks.read_text())
    for chunk in known:
        chunk["leaves"] = chunk["leaves"].replace(row["leaf"], leaf)
        leaves = bytes.fromhex(chunk["leaves"])
        chunk["digest"] = blake3((len(leaves) // 32).to_bytes(4, "little") + leaves + bytes.fromhex(chunk["items"])).hexdigest()
    rewrite(folder, {master: bytes(media), listed: listed.read_text().replace(row["leaf"], leaf).encode(), chunks: json.dumps(known).encode()})


def rewrite(folder: Path, files: dict[Path, bytes]) -> None:
    """Write files of an unpacked pack, and all that tells their digests."""
    manifest, sums = folder / "manifest.json", folder / "SHA256SUMS"
    known = manifest.read_text()
    for path, data in files.items():
        known = known.replace(hashlib.sha256(path.read_bytes()).hexdigest(), hashlib.sha256(data).hexdigest())
    for path, data in [*files.items(), (manifest, known.encode())]:
        sums.write_text(sums.read_text().replace(hashlib.sha256(path.read_bytes()).hexdigest(), hashlib.sha256(data).hexdigest()))
        path.write_bytes(data)


async def test_a_pack_that_was_forged_as_a_whole_is_not_what_was_signed(two: Any, volume: RefVolume, site: SiteConfig, tmp_path: Path) -> None:
    """Whoever recomputes all digests in a pack cannot make up those of the documents, whose signature openssl alone can check."""
    _, body = await made(two, item("north", 2, 9), format="pack")
    file, folder, heads = tmp_path / "pack.zip", tmp_path / "unpacked", tmp_path / "heads"
    file.write_bytes(body)
    zipfile.ZipFile(file).extractall(folder)
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "key.pem"], check=True, capture_output=True)
    heads.mkdir()
    key = load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    with closing(TapeStore([volume.volume.path], site.live_dir)) as store:
        assert isinstance(key, Ed25519PrivateKey) and sign(store, volume.volume, heads, key, 1)[1] > 0
    said = subprocess.run(SIGNED, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True, executable="/bin/bash")
    assert "Signature Verified Successfully" in said.stdout
    assert verify.verify(str(file), str(heads)) == verify.verify(str(folder), str(heads)) == 0
    forged(folder)
    assert verify.verify(str(folder)) == 0 and verify.verify(str(folder), str(heads)) == 1
    document = heads / "00000001.heads"
    document.write_bytes(document.read_bytes().replace(b'"first_row"', b'"first_roW"'))
    assert subprocess.run(SIGNED, shell=True, cwd=tmp_path, capture_output=True, check=False, executable="/bin/bash").returncode != 0


async def test_seals_that_were_taken_away_are_missed(two: Any, tmp_path: Path) -> None:
    """Rows of a chunk that is open have none; whoever wants proof is told."""
    _, body = await made(two, item("north", 2, 9), format="pack")
    folder, heads = tmp_path / "unpacked", tmp_path / "heads"
    zipfile.ZipFile(io.BytesIO(body)).extractall(folder)
    heads.mkdir()
    (listed,) = (folder / "master").glob("*.rows.csv")
    (chunks,) = (folder / "master").glob("*.chunks.json")
    lines = [",".join(line.split(",")[:7]) + ",,," for line in listed.read_text().splitlines()[1:]]
    rewrite(folder, {listed: "\n".join([listed.read_text().splitlines()[0], *lines, ""]).encode(), chunks: b"[]"})
    assert verify.verify(str(folder)) == 0 and verify.verify(str(folder), str(heads)) == 1
    command = [sys.executable, "-I", "-S", folder / "verify.py", "--heads", heads, folder]
    bare = subprocess.run(command, capture_output=True, text=True, check=False)
    assert bare.returncode == 2 and "needs the module blake3" in bare.stderr


@pytest.mark.parametrize(("name", "old", "new"), [
    ("rows.csv", ",main,3,", ",main,77,"), ("chunks.json", '"first_row": 0', '"first_row": 1'), ("chunks.json", '"items": "', '"items": "00')])
async def test_a_row_that_is_in_no_chunk_and_a_digest_of_others_are_found(two: Any, tmp_path: Path, name: str, old: str, new: str) -> None:
    _, body = await made(two, item("north", 2, 9), format="pack")
    zipfile.ZipFile(io.BytesIO(body)).extractall(tmp_path / "unpacked")
    (path,) = (tmp_path / "unpacked/master").glob(f"*.{name}")
    changed = path.read_text().replace(old, new)
    assert changed != path.read_text()
    rewrite(tmp_path / "unpacked", {path: changed.encode()})
    assert verify.verify(str(tmp_path / "unpacked")) == 1


@pytest.mark.parametrize("more", [
    {"items": [item("north", 5, 35), item("north", 5, 35)], "format": "zip"}, {"items": [item("north", 5, 9), item("north", 10, 12)]},
    {"items": [item("north", 5, 35), item("yard", 5, 35)], "gaps": "close"},
    {"items": [item("north", 5, 35)], "format": "pack", "gaps": "close"},
    {"items": [item("north", k, k + 1) for k in range(101)], "format": "zip"},
])
async def test_what_cannot_share_a_file_is_refused(two: Any, more: dict[str, Any]) -> None:
    assert (await two.ask("POST", "exports", token=two.key, json={"reason": "case", **more})).status == 400


@pytest.mark.parametrize("form", ["zip", "pack"])
async def test_items_of_the_same_seconds_have_files_of_their_own(two: Any, form: str) -> None:
    _, body = await made(two, item("yard", 5.1, 9.2), item("yard", 5.3, 9.4), item("yard", 5.5, 9.6), format=form)
    archive = zipfile.ZipFile(io.BytesIO(body))
    films = [file["name"] for file in json.loads(archive.read("manifest.json"))["files"]]
    assert len(set(films)) == 3 and len(set(archive.namelist())) == len(archive.namelist())
    assert [name.rpartition("Z")[2] for name in films] == [".mp4", "-2.mp4", "-3.mp4"] and set(films) < set(archive.namelist())


def found_by(path: Path) -> bool:
    """True if the program finds that a pack is not as it was packed."""
    try:
        return verify.verify(str(path)) != 0
    except (verify.NoPack, *verify.UNREADABLE):
        return True


async def test_no_byte_of_a_pack_changes_unseen(start: Any, volume: RefVolume, holds: Any, tmp_path: Path) -> None:
    """Neither in its files nor around them."""
    footage(volume, 12, au_bytes=60)
    api = await start()
    api.clock.advance(3600)
    api.key = await api.token("export")
    _, body = await made(api, item("north", 5, 8), format="pack")
    file = tmp_path / "pack.zip"
    file.write_bytes(body)
    assert not found_by(file)
    begins = [info.header_offset for info in zipfile.ZipFile(file).infolist()]
    around = {at + n for at in begins for n in range(-16, 90)} | set(range(len(body) - 700, len(body)))
    unseen = []
    for at in sorted({n for n in around if 0 <= n < len(body)} | set(range(0, len(body), 61))):
        file.write_bytes(body[:at] + bytes([body[at] ^ 1 << at % 8]) + body[at + 1:])
        if not found_by(file):
            unseen.append(at)
    assert unseen == []
    for other in (body + b"x", b"x" + body, body[:begins[1]] + b"hidden" + body[begins[1]:], body[:-1], body + body, body[:-2] + b"\1\0c"):
        file.write_bytes(other)
        assert found_by(file)


def test_the_frame_that_is_checked_is_the_one_that_is_written() -> None:
    """Beyond 4 GiB, and of files beyond, as well."""
    when = datetime(2026, 11, 5, 17, 42, 31, tzinfo=UTC)
    for sizes in ([], [0, 7], [0xFFFFFFFE, 3], [0xFFFFFFFF, 3], [1 << 33, 1 << 31, 5]):
        archive = Archive([Member(f"master/{n}.mp4", size) for n, size in enumerate(sizes)], int(when.timestamp()) * NS)
        infos, want, at = [], [], 0
        for n, size in enumerate(sizes):
            info = zipfile.ZipInfo(f"master/{n}.mp4")
            info.file_size, info.CRC = size, 1000 + n
            infos.append(info)
            want += [(at, archive.head(n)), (at + len(archive.head(n)) + size, archive.tail(n, 1000 + n))]
            at = want[-1][0] + len(want[-1][1])
        assert list(verify.frame(infos, when)) == [*want, (at, archive.end([info.CRC for info in infos]))]
