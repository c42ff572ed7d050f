"""Real content, each picture bearing its number, on tapes; and what comes out of a file when ffmpeg's libraries decode it."""

import asyncio
import functools
import io
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import av
import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from api.application import Parts, make_application
from api.media import MEDIA
from api.registry import Registry
from api.status import StatusBoard
from bench.camsim import pattern
from recorder.base.clock import SimulatedClock
from recorder.base.config import CameraConfig, SiteConfig, StreamConfig
from recorder.base.media import NS, AuFlag, Gap, RowFlag, SampleEntry
from storage import items
from storage.camera_record import CameraRecord
from storage.footage import Edges, Entries, RowRun, row_ends
from storage.layout import ROW, class_of
from storage.store import TapeStore
from tests.ffmpeg import complaints
from tests.media.growing import Growing
from tests.storage_read import reference_writer

T0 = 1_800_000_000 * NS
AUDIO_HZ = 48_000
LIVE_FRAMES, LIVE_BEFORE, LIVE_FPS = 1000, 225, 25


@dataclass(frozen=True)
class Au:
    data: bytes
    pts: int
    dts: int
    key: bool
    leading: bool = False


@dataclass(frozen=True)
class Stream:
    """Encoded content: AUs in decode order with ticks of `entry.clock_rate`, the first picture at pts 0; `dur` ticks per AU."""

    entry: SampleEntry
    aus: tuple[Au, ...]
    dur: int


@functools.lru_cache(maxsize=32)
def video(codec: str = "h264", frames: int = 150, first: int = 0, gop: int = 25, bframes: int = 0, open_gop: bool = False,
          width: int = 320, height: int = 240, fps: int = 25, sets: bool = False) -> Stream:
    """Pictures `first`, `first` + 1, ...; with `sets` parameter sets stand before each access point too, as cameras send them."""
    held = io.BytesIO()
    with av.open(held, "w", format="mp4", options={"movflags": "empty_moov+frag_keyframe", "video_track_timescale": "90000"}) as out:
        stream = out.add_stream({"h264": "libx264", "hevc": "libx265"}[codec], rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        common = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={bframes}:b-adapt=0:open-gop={int(open_gop)}:crf=24"
        extra = ":log-level=none:repeat-headers=1:pools=none:frame-threads=1"
        stream.options = {"x264-params": common, "preset": "ultrafast", "threads": "1"} if codec == "h264" else {
            "x265-params": common + extra, "preset": "ultrafast"}
        if codec == "h264" and bframes:
            stream.options = {**stream.options, "x264-params": common + ":b-pyramid=0"}
        if codec == "h264" and sets:
            stream.options = {**stream.options, "x264-params": stream.options["x264-params"] + ":repeat-headers=1"}
        for number in range(frames):
            picture = av.VideoFrame(width, height, "yuv420p")
            planes = np.full((height * 3 // 2, width), 128, np.uint8)
            planes[:height] = np.arange(width, dtype=np.uint8)[None, :] // 2 + (number * 3) % 64 + 32
            pattern.draw(planes[:height], first + number)
            picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            picture.pts, picture.time_base = number, Fraction(1, fps)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    aus, config = _demux(held, "video")
    name = {"h264": "avc1", "hevc": "hvc1"}[codec]
    return Stream(SampleEntry(name, config, 90_000, width, height), _from_zero(aus), 90_000 // fps)


@functools.lru_cache(maxsize=8)
def audio(seconds: float = 6.0, codec: str = "aac") -> Stream:
    """A tone whose pitch rises second by second: 400 Hz, 500 Hz, ... so that sound tells its time."""
    if codec != "aac":
        aus = tuple(Au(bytes([0xD5 ^ n & 0x7F]) * 160, n * 160, n * 160, True) for n in range(int(seconds * 50)))
        return Stream(SampleEntry(codec, b"", 8000, channels=1, sample_rate=8000), aus, 160)
    held = io.BytesIO()
    with av.open(held, "w", format="mp4", options={"movflags": "empty_moov+frag_keyframe"}) as out:
        stream = out.add_stream("aac", rate=AUDIO_HZ, layout="mono")
        for n in range(int(seconds * AUDIO_HZ / 1024)):
            at = (np.arange(1024) + n * 1024) / AUDIO_HZ
            tone = np.sin(2 * np.pi * (400 + 100 * np.floor(at)) * at).astype(np.float32) * 0.4
            frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = AUDIO_HZ, n * 1024, Fraction(1, AUDIO_HZ)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    aus, config = _demux(held, "audio")
    return Stream(SampleEntry("mp4a", config, AUDIO_HZ, channels=1, sample_rate=AUDIO_HZ), _from_zero(aus[1:]), 1024)  # not the priming


def _demux(held: io.BytesIO, kind: str) -> tuple[list[Au], bytes]:
    held.seek(0)
    with av.open(held) as file:
        stream = file.streams.get({kind: 0})[0]
        aus = [Au(bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in file.demux(stream) if packet.size]
        return aus, bytes(stream.codec_context.extradata)


def _from_zero(aus: list[Au]) -> tuple[Au, ...]:
    zero, key, out = min(au.pts for au in aus), 0, []
    for au in aus:
        key = au.pts if au.key else key
        out.append(replace(au, pts=au.pts - zero, dts=au.dts - zero, leading=not au.key and au.pts < key))
    return tuple(out)


@dataclass
class Part:
    """A stretch of a track: content that starts at UTC `start_ns`, in one session."""

    stream: Stream
    start_ns: int
    session: int = 1
    pts0: int = 100_000
    drift_ppm: float = 0.0


@dataclass
class MemoryTrack:
    """A TrackReader over parts that lie in memory: the oracle's tape. Rows are cut by the format's rule (docs/storage-format.md)."""

    name: str
    parts: list[Part]
    gap_list: list[Gap] = field(default_factory=list)
    camera: int = 1
    retired: int = 0          # chunks below are gone
    row_s: float = 1.0

    def __post_init__(self) -> None:
        self.entries_known = list(dict.fromkeys(part.stream.entry for part in self.parts))
        self.kind = self.parts[0].stream.entry.kind
        tape_bytes = class_of(self.kind).tape_bytes
        rows, columns, offset = [], [], 0
        self.tape: dict[int, bytes] = {}
        for part in self.parts:
            rate = part.stream.entry.clock_rate
            slow = 1 + part.drift_ppm * 1e-6
            for group in self._groups(part):
                size = sum(len(au.data) for au in group)
                if offset % tape_bytes + size > tape_bytes:
                    offset += tape_bytes - offset % tape_bytes
                after = [au for au in part.stream.aus if au.dts > group[-1].dts]
                end = after[0].dts if after else group[-1].dts + part.stream.dur
                row = np.zeros(1, ROW)[0]
                row["t_ns"] = part.start_ns + round(group[0].pts * NS / rate * slow)
                row["media_pts"], row["offset"], row["bytes"] = group[0].pts + part.pts0, offset, size
                row["media_dur"] = end - group[0].dts
                row["wall_dur_us"] = round((end - group[0].dts) * 1e6 / rate * slow)
                row["aus"], row["session"] = len(group), part.session
                row["sample_entry"] = self.entries_known.index(part.stream.entry) + 1
                row["flags"] = 0 if group[0].key else RowFlag.CONTINUED
                for au in group:
                    nxt = [other.dts for other in group if other.dts > au.dts]
                    wall = int(row["t_ns"]) + (au.pts - group[0].pts) * int(row["wall_dur_us"]) * 1000 // int(row["media_dur"])
                    flags = AuFlag.KEY * au.key | AuFlag.LEADING * au.leading
                    columns.append((len(rows), len(au.data), au.dts + part.pts0, au.dts - group[0].dts, au.pts - au.dts,
                                    (nxt[0] if nxt else end) - au.dts, flags, offset, wall))
                    self.tape[offset] = au.data
                    offset += len(au.data)
                rows.append(row)
        self.all_rows = np.array(rows, ROW)
        self.columns = columns
        self.end_offset = offset

    def _groups(self, part: Part) -> list[list[Au]]:
        groups: list[list[Au]] = []
        for au in part.stream.aus:
            if not groups or (au.key and au.dts - groups[-1][0].dts >= self.row_s * part.stream.entry.clock_rate):
                groups.append([])
            groups[-1].append(au)
        return groups

    def edges(self) -> Edges:
        end = int(row_ends(self.all_rows[-1:])[0])
        return Edges(0, len(self.all_rows), int(self.all_rows["t_ns"][0]), end, end, self.end_offset, self.end_offset, 0, False, False)

    def rows(self, start_ns: int, end_ns: int, *, durable: bool = False, provisional: bool = False) -> RowRun:
        hit = np.flatnonzero((self.all_rows["t_ns"] < end_ns) & (row_ends(self.all_rows) > start_ns))
        return RowRun(int(hit[0]), self.all_rows[hit[0]:hit[-1] + 1].copy()) if len(hit) else RowRun(0, np.empty(0, ROW))

    def rows_from(self, number: int, limit: int, *, provisional: bool = True) -> RowRun:
        return RowRun(number, self.all_rows[number:number + limit].copy())

    def entries(self, run: RowRun) -> Entries:
        mine = [column for column in self.columns if run.first <= column[0] < run.next]
        kinds = (np.uint32, np.uint32, np.int64, np.int64, np.int32, np.int64, np.uint8, np.uint64, np.int64)
        arrays = [np.array([column[n] for column in mine], kind) for n, kind in enumerate(kinds)]
        arrays[0] -= np.uint32(run.first)
        return Entries(*arrays)

    def sample_entry(self, number: int) -> SampleEntry:
        return self.entries_known[number - 1]

    def gaps(self, start_ns: int, end_ns: int) -> list[Gap]:
        return [gap for gap in self.gap_list if gap.start_ns < end_ns and (gap.end_ns is None or gap.end_ns > start_ns)]

    def bytes_at(self, offset: int, size: int) -> bytes:
        out = b""
        while len(out) < size:
            out += self.tape[offset + len(out)]
        return out

    def times(self) -> list[int]:
        return sorted(column[8] for column in self.columns)


@dataclass
class MemoryStore:
    """A TapeStore of one camera."""

    by_name: dict[str, MemoryTrack]

    def tracks(self, camera: int) -> tuple[str, ...]:
        return tuple(self.by_name)

    def track(self, camera: int, name: str) -> Any:
        return self.by_name[name]


def whole(movie: Any, readers: Any) -> bytes:
    """All bytes of a Movie or Fragment."""
    extents = movie.extents
    media = (readers[int(extents.track[n])].bytes_at(int(extents.offset[n]), int(extents.size[n])) for n in range(len(extents)))
    return b"".join([movie.head, *media])


@dataclass(frozen=True)
class Decoded:
    """What ffmpeg shows of a file: picture numbers and times in s, sound samples (mono) and the time of the first."""

    numbers: list[int | None]
    times: list[float]
    sound: np.ndarray[Any, Any]
    sound_start: float
    messages: str


def decode(path: Path) -> Decoded:
    """Decode a file with ffmpeg's command line, as strict as it can be made to complain."""
    messages = complaints(path, before=("-copyts",))
    numbers, times, sound, sound_start = [], [], [], 0.0
    with av.open(str(path)) as file:
        for frame in file.decode():
            if isinstance(frame, av.VideoFrame):
                numbers.append(pattern.read(frame.to_ndarray(format="gray")))
                times.append(float(frame.pts * frame.time_base))
            else:
                sound_start = sound_start if sound else float(frame.pts * frame.time_base)
                sound.append(frame.to_ndarray().astype(np.float64).reshape(-1))
    return Decoded(numbers, times, np.concatenate(sound) if sound else np.zeros(0), sound_start, messages)


@pytest.fixture(scope="session")
def maker() -> Any:
    """The names of this file, for tests."""
    class Maker:
        pass
    for name in ("Au", "Stream", "Part", "MemoryTrack", "MemoryStore", "Api"):
        setattr(Maker, name, globals()[name])
    for name in ("video", "audio", "whole", "decode", "write"):
        setattr(Maker, name, staticmethod(globals()[name]))
    Maker.T0, Maker.RefAu = T0, reference_writer.Au
    return Maker


@pytest.fixture
def save(tmp_path: Path) -> Callable[[bytes, str], Path]:
    """Write bytes to a file of this test."""
    def write(data: bytes, name: str = "clip.mp4") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path
    return write


# -- real volumes and the real application --


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A volume of the reference writer, whose tapes hold real content: `tapes.write(track, stream, t_ns=...)`."""
    live_dir = Path(mkdtemp(dir="/dev/shm"))
    made = reference_writer.RefVolume(tmp_path / "volume", live_dir)
    made.data = data = []
    monkeypatch.setattr(reference_writer, "payload", lambda camera, offset, size: data.pop(0))
    yield made
    made.volume.close()
    shutil.rmtree(live_dir)


@pytest.fixture
def second(volume: Any, tmp_path: Path) -> Iterator[Any]:
    """Another volume of the same site."""
    made = reference_writer.RefVolume(tmp_path / "second", volume.live_dir)
    made.data = volume.data
    yield made
    made.volume.close()


def entry_item(number: int, entry: SampleEntry) -> items.SampleEntryItem:
    return items.SampleEntryItem(number, entry)


def write(track: Any, stream: Stream, *, t_ns: int | None = None, close: bool = True, durable: bool = True, first: int = 0,
          stop: int | None = None) -> None:
    """Append content to a track of the reference writer, row by row as the format cuts them."""
    known = track.__dict__.setdefault("known", [])
    if stream.entry not in known:
        known.append(stream.entry)
        track.log(entry_item(len(known), stream.entry))
    number, rate, aus = known.index(stream.entry) + 1, stream.entry.clock_rate, stream.aus[first:stop]
    start_ns = track.next_ns if t_ns is None else t_ns
    group: list[Au] = []
    for index, au in enumerate(aus):
        group.append(au)
        after = aus[index + 1] if index + 1 < len(aus) else None
        if after is None or (after.key and after.dts - group[0].dts >= rate):
            _write_row(track, stream, group, after, start_ns + (group[0].pts - stream.aus[first].pts) * NS // rate, number,
                       close=close or after is not None)
            group = []
    if durable:
        track.commit()


def _write_row(track: Any, stream: Stream, group: list[Au], after: Au | None, t_ns: int, number: int, *, close: bool) -> None:
    ends = [au.dts for au in group[1:]] + [after.dts if after else group[-1].dts + stream.dur]
    track.volume.data[:] = [au.data for au in group]
    track.grow([reference_writer.Au(len(au.data), end - au.dts, au.pts - au.dts, AuFlag.KEY * au.key | AuFlag.LEADING * au.leading)
                for au, end in zip(group, ends, strict=True)], t_ns=t_ns, entry=number)
    if close:
        track.close_row()


class Api:
    """The real application on loopback, and a client for it."""

    def __init__(self, volume: Any, state_dir: Path, wall_ns: int, *more: Any) -> None:
        self.clock = SimulatedClock(wall_ns)
        self.volume = volume
        self.store = TapeStore([each.path for each in (volume, *more)], volume.live_dir, lenient=True)
        site = SiteConfig("test", state_dir, live_dir=volume.live_dir)
        camera = CameraRecord(1, "yard", "file", 0, CameraConfig("yard", StreamConfig("rtsp://127.0.0.1/")), 0)
        self.registry = Registry()
        gate = CameraRecord(2, "gate", "file", 0, CameraConfig("gate", StreamConfig("rtsp://127.0.0.1/")), 0)
        self.registry.replace([camera, gate], [])
        parts = Parts(site, self.clock, self.store, self.registry, StatusBoard(self.clock), None, None, bytes(32))
        self.app = make_application(parts)

    async def __aenter__(self) -> "Api":
        self.client = TestClient(TestServer(self.app))
        await self.client.start_server()
        self.media = self.app[MEDIA]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        self.store.close()

    async def get(self, path: str, headers: dict[str, str] | None = None, method: str = "GET", of: str = "yard", **query: object) -> tuple[
            Any, bytes]:
        """Status, headers and body of a camera's address."""
        async with self.client.request(method, f"/api/v1/cameras/{of}/{path}", params={k: str(v) for k, v in query.items()},
                                       headers=headers) as answer:
            return answer, await answer.read()


async def _record(camera: Growing, since_s: float) -> None:
    while camera.sent < LIVE_FRAMES:
        await asyncio.sleep(max(0.0, since_s + camera.sent / LIVE_FPS - time.time()))
        camera.send(1)


@pytest.fixture
async def growing(maker: Any, volume: Any, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Api, float]]:
    """A camera that is being recorded in its own time: the API, and when (UTC, s) picture 0 came; picture n comes n / 25 s later.

    B-frames as `request.param` says.
    """
    start_ns = time.time_ns() - LIVE_BEFORE * NS // LIVE_FPS
    async with Api(volume, tmp_path, start_ns) as api:
        camera = Growing(volume.track(1, "main", start_ns=start_ns), maker,
                         video(frames=LIVE_FRAMES, gop=50, bframes=getattr(request, "param", 0)), start_ns)
        camera.send(LIVE_BEFORE)
        since_s = start_ns / NS
        task = asyncio.create_task(_record(camera, since_s))
        yield api, since_s
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
