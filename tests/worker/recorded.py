"""A worker in the test's process, and what it has put on its tapes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import av

from recorder.base.config import CameraConfig, SiteConfig
from recorder.base.control import ControlClient
from recorder.base.errors import NotFound
from recorder.base.media import Gap, GapCause
from recorder.worker import run_worker
from storage.reader import TrackReader
from storage.store import TapeStore

ALL = (0, 1 << 62)


@asynccontextmanager
async def worker(site: SiteConfig, cameras: dict[int, CameraConfig] | None = None) -> AsyncIterator[ControlClient]:
    """A worker in this process, up when its socket answers; ended in order."""
    stop = asyncio.Event()
    running = asyncio.create_task(run_worker(site, 0, stop=stop, cameras=cameras))
    client = ControlClient(site.slot_socket(0))
    try:
        async with asyncio.timeout(120):
            while True:
                with contextlib.suppress(NotFound):
                    await client.call("status")
                    break
                if running.done():
                    break
                await asyncio.sleep(0.02)
        yield client
    finally:
        stop.set()
        await running


async def until(client: ControlClient, camera: str, track: str, aus: int) -> dict[str, Any]:
    """The camera's status once a track has so many AUs."""
    async with asyncio.timeout(120):
        while True:
            status = (await client.call("status"))["cameras"].get(camera, {})
            if status.get("tracks", {}).get(track, {}).get("aus", 0) >= aus:
                return dict(status)
            await asyncio.sleep(0.1)


def track(site: SiteConfig, camera: int, name: str) -> TrackReader:
    return TapeStore([site.volumes[0].path], site.live_dir).track(camera, name)


def gaps(reader: TrackReader) -> list[Gap]:
    """All gaps but that before the first picture."""
    found = reader.gaps(*ALL)
    return found[1:] if found and found[0].cause is GapCause.NO_KEYFRAME else found


def packets(reader: TrackReader) -> list[tuple[int, int, bytes]]:
    """(dts, cts, bytes) of every AU on the tape."""
    run = reader.rows(*ALL, provisional=True)
    entries = reader.entries(run)
    found = []
    tape_bytes = (31 * (512 << 10)) if reader.kind == "video" else (15 * (64 << 10))
    for index in range(len(entries.size)):
        offset, size = int(entries.offset[index]), int(entries.size[index])
        buffer = bytearray(size)
        with reader.open_chunk(offset // tape_bytes) as lease:
            assert lease.read(memoryview(buffer), offset, nowait=False) == size
        found.append((int(entries.dts[index]), int(entries.cts[index]), bytes(buffer)))
    return found


def decoded(reader: TrackReader, codec: str, cut: int = 0) -> list[Any]:
    """Every picture, or every sound frame, that a decoder makes of the tape without its last `cut` AUs. Raises on the first complaint."""
    entry = reader.sample_entry(int(reader.rows(*ALL).rows["sample_entry"][0]))
    context = av.CodecContext.create(codec, "r")
    context.extradata = entry.config or None
    if codec.startswith("pcm"):
        context.sample_rate, context.layout = entry.sample_rate, "mono"
    aus = packets(reader)
    frames = [frame for _, _, data in aus[:len(aus) - cut] for frame in context.decode(av.Packet(data))]
    return frames + context.decode(None)
