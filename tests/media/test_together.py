"""Several cameras in one file: each picture at its own time on one clock; the archive; what a clip lacks, as JSON."""

import io
import json
import re
import subprocess
import zipfile
import zlib

import av
import pytest

from api.zipstream import Archive, Member
from bench.camsim import pattern
from recorder.base.config import CameraConfig, StreamConfig
from recorder.base.media import NS, GapCause, TrackKind
from storage.camera_record import CameraRecord

FRAME_NS = NS // 25


@pytest.fixture
async def site(maker, volume, tmp_path):
    """yard: pictures 0-249 with sound; gate: 1000-1124, then a gap of 3 s, then 2000-2049; mast: nothing yet."""
    yard, sound = volume.track(1, "main", start_ns=maker.T0), volume.track(1, "audio", TrackKind.AUDIO, clock_rate=48_000, start_ns=maker.T0)
    maker.write(yard, maker.video(frames=250, bframes=2))
    maker.write(sound, maker.audio(10.0))
    gate = volume.track(2, "main", start_ns=maker.T0 + 13 * FRAME_NS // 2)
    maker.write(gate, maker.video(codec="hevc", frames=125, first=1000, bframes=2))
    gate.gap(3.0, GapCause.STALL)
    gate.session = 2
    maker.write(gate, maker.video(codec="hevc", frames=50, first=2000, bframes=2))
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as api:
        known = [CameraRecord(number, name, "file", 0, CameraConfig(name, StreamConfig("rtsp://127.0.0.1/")), 0)
                 for number, name in ((1, "yard"), (2, "gate"), (3, "mast"))]
        api.registry.replace(known, [])
        api.gate = gate
        yield api


async def fetch(site, name, headers=None, method="GET", **query):
    query = {key: str(value) for key, value in query.items()}
    async with site.client.request(method, f"/api/v1/{name}", params=query, headers=headers) as answer:
        return answer, await answer.read()


def pictures(path, index):
    """(number, time in s) of each picture of a file's video stream."""
    with av.open(str(path)) as file:
        return [(pattern.read(frame.to_ndarray(format="gray")), round(float(frame.pts * frame.time_base), 4))
                for frame in file.decode(video=index)]


async def test_tracks_of_several_cameras_run_on_one_clock(site, maker, save):
    start_ns, end_ns = maker.T0 + 50 * FRAME_NS, maker.T0 + 100 * FRAME_NS
    answer, body = await fetch(site, "clip.mp4", cameras="yard,gate", start=start_ns, end=end_ns)
    assert (answer.status, answer.headers["Watchroom-Complete"], answer.headers["Watchroom-Frames"]) == (200, "yes", "100")
    path = save(body)
    assert maker.decode(path).messages == ""
    yard, gate = pictures(path, 0), pictures(path, 1)
    assert [number for number, _ in yard] == list(range(50, 100))
    assert [number for number, _ in gate] == list(range(1044, 1094))
    assert [time for _, time in yard] == pytest.approx([n / 25 for n in range(50)], abs=1e-3)
    assert [time for _, time in gate] == pytest.approx([(n + 0.5) / 25 for n in range(50)], abs=1e-3)
    names = subprocess.run(["ffprobe", "-v", "error", "-show_entries", "stream_tags=handler_name", "-of", "csv=p=0", path],
                           capture_output=True, text=True, check=True).stdout.split()
    assert names == ["yard", "yard", "gate"]


async def test_ranges_of_a_film_of_several_are_the_same_bytes(site, maker):
    query = {"cameras": "gate,yard", "start": maker.T0, "end": maker.T0 + 9 * NS}
    whole, body = await fetch(site, "clip.mp4", **query)
    head, nothing = await fetch(site, "clip.mp4", method="HEAD", **query)
    assert (head.headers["Content-Length"], head.headers["ETag"], nothing) == (str(len(body)), whole.headers["ETag"], b"")
    for start in range(0, len(body), len(body) // 5):
        _, part = await fetch(site, "clip.mp4", {"Range": f"bytes={start}-{start + 999}"}, **query)
        assert part == body[start:start + 1000]


async def test_a_camera_without_footage_is_told_not_hidden(site, maker, save):
    query = {"cameras": "yard,mast", "start": maker.T0, "end": maker.T0 + NS}
    answer, body = await fetch(site, "clip.mp4", **query)
    assert answer.status == 200
    assert maker.decode(save(body)).numbers == list(range(25))
    address = re.fullmatch(r'<(.+)>; rel="describedby"; type="application/json"', answer.headers["Link"])[1]
    async with site.client.get(address) as described:
        told = await described.json()
    assert [one["camera"] for one in told["cameras"]] == ["yard"]
    assert [one["camera"] for one in told["missing"]] == ["mast"]
    none, _ = await fetch(site, "clip.mp4", cameras="mast", start=maker.T0, end=maker.T0 + NS)
    assert none.status == 404


@pytest.mark.parametrize(("query", "status"), [
    ({"cameras": "yard,yard"}, 400), ({"cameras": ""}, 400), ({"cameras": "yard,../x"}, 400), ({"cameras": "yard,nobody"}, 404), ({}, 400),
    ({"cameras": ",".join(f"c{n}" for n in range(17))}, 400), ({"cameras": "yard,gate", "gaps": "close"}, 400),
    ({"cameras": "yard,gate", "seconds": 7 * 3600}, 400), ({"cameras": "yard", "gaps": "close"}, 200)])
async def test_odd_questions_about_several(query, status, site, maker):
    seconds = query.pop("seconds", 1) if "seconds" in query else 1
    answer, _ = await fetch(site, "clip.mp4", start=maker.T0, end=maker.T0 + seconds * NS, **query)
    assert answer.status == status


async def test_archive_holds_a_file_of_each_and_the_gaps(site, maker, save):
    query = {"cameras": "yard,gate,mast", "start": maker.T0, "end": maker.T0 + 10 * NS, "gaps": "close"}
    answer, body = await fetch(site, "clip.zip", **query)
    assert (answer.status, answer.headers["Content-Length"], answer.headers["Accept-Ranges"]) == (200, str(len(body)), "none")
    head, nothing = await fetch(site, "clip.zip", method="HEAD", **query)
    assert (head.headers["Content-Length"], nothing) == (str(len(body)), b"")
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert [name.partition("_")[0] for name in names] == ["yard", "gate", "gaps.json"]
        films = [maker.decode(save(archive.read(name), name)) for name in names[:2]]
        told = json.loads(archive.read("gaps.json"))
    assert [film.messages for film in films] == ["", ""]
    assert films[0].numbers == list(range(250))
    assert films[1].numbers == [*range(1000, 1125), *range(2000, 2044)]
    assert [gap["cause"] for gap in told["clips"][1]["cameras"][0]["tracks"][0]["gaps"]] == ["stall"]
    assert told["missing"][0]["camera"] == "mast"


def test_archive_over_four_gigabytes_keeps_its_directory():
    """The 64-bit forms, checked on a sparse archive by Python's own reader."""
    members = [Member("large.mp4", (5 << 30) + 3), Member("ü.json", 2)]
    archive, crc = Archive(members, 1_800_000_000 * NS), zlib.crc32(b"{}")
    small_at = len(archive.head(0)) + members[0].size + len(archive.tail(0, 7))
    tail = archive.head(1) + b"{}" + archive.tail(1, crc) + archive.end([7, crc])
    assert small_at + len(tail) == archive.size

    class Sparse(io.RawIOBase):
        at = 0

        def seekable(self):
            return True

        def seek(self, offset, whence=0):
            self.at = offset + {0: 0, 1: self.at, 2: archive.size}[whence]
            return self.at

        def tell(self):
            return self.at

        def read(self, size=-1):
            size = archive.size - self.at if size < 0 else size
            known = [(0, archive.head(0)), (small_at, tail)]
            out = b"".join(data[max(0, self.at - at):max(0, self.at + size - at)] for at, data in known)
            self.at += len(out)
            return out
    with zipfile.ZipFile(Sparse()) as found:
        assert [(one.filename, one.file_size) for one in found.infolist()] == [("large.mp4", members[0].size), ("ü.json", 2)]
        assert found.read("ü.json") == b"{}"


async def test_gaps_of_a_clip_are_listed_in_both_times(site, maker):
    start_ns, end_ns = maker.T0 + 4 * NS, maker.T0 + 10 * NS
    gap_ns = maker.T0 + 13 * FRAME_NS // 2 + 5 * NS
    for gaps, lasts_s in (("keep", 3.0), ("close", 0.0)):
        answer, _ = await fetch(site, "cameras/gate/clip.mp4", method="HEAD", start=start_ns, end=end_ns, gaps=gaps)
        address = answer.headers["Link"].partition("<")[2].partition(">")[0]
        async with site.client.get(address) as described:
            told = await described.json()
        (gap,) = told["cameras"][0]["tracks"][0]["gaps"]
        assert (gap["start_ns"], gap["end_ns"], gap["cause"]) == (gap_ns, gap_ns + 3 * NS, "stall")
        assert gap["at_s"] == pytest.approx((gap_ns - told["first_ns"]) / NS, abs=1e-6)
        assert gap["lasts_s"] == pytest.approx(lasts_s, abs=0.05)
        assert (told["gaps"], told["frames"], told["complete"]) == (gaps, int(answer.headers["Watchroom-Frames"]), True)
