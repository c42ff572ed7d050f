"""Sources of every kind, sent by real senders, are recorded: the frames on the tape are those that were sent, in time, and they decode."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from recorder.base.media import GapCause
from recorder.sources.source import LibavSession
from tests.session.rig import Rig
from tests.sources.oracle import decoded, nals, stretch
from tests.sources.senders import AAC, X264, Web, content, ffmpeg, free_port, run

pytestmark = pytest.mark.live
PICTURES, SOUNDS = 60, 100


async def recorded(rig: Rig, url: str, **options: Any) -> None:
    rig.record(url, user="", **{"password": "", **options})
    await rig.recorded(PICTURES)
    await rig.recorded(SOUNDS, "audio")


def own(picture: list[bytes]) -> list[bytes]:
    """Without delimiters and parameter sets: MPEG-TS has them in the stream, MP4 beside it."""
    return [nal for nal in picture if nal[0] & 31 not in {7, 8, 9}]


def check(rig: Rig, sent: Path) -> None:
    """Against the clip the sender read: it copies, so its frames are the clip's."""
    rig.tapes.take()
    video, audio, what = rig.tape(), rig.tape("audio"), content(sent)
    stretch([own(nals(data)) for _, data in video.aus], [own(picture) for picture in what.pictures])
    stretch([data for _, data in audio.aus], what.sounds)
    times = [au["pts"] for au, _ in video.aus]
    shown = sorted(times)[:-3]           # the newest may wait for pictures that are shown before them
    assert shown == list(range(min(times), min(times) + 3600 * len(shown), 3600)), "pictures are not 40 ms apart"
    assert times != sorted(times), "no B-frame was reordered"
    assert all(au["dts"] <= au["pts"] for au, _ in video.aus[3:])
    assert len(decoded(video)) == len(video.aus)
    assert len(decoded(audio)) >= len(audio.aus) - 1
    first_picture, first_sound = min(au["wall_ns"] for au, _ in video.aus), min(au["wall_ns"] for au, _ in audio.aus)
    assert abs(first_picture - first_sound) < 3_000_000_000
    assert rig.stream().state == "recording"


async def test_mpegts_over_udp(clip: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    async with Rig() as rig, ffmpeg("-re", "-i", str(clip), "-c", "copy", "-f", "mpegts", f"udp://127.0.0.1:{port}?pkt_size=1316"):
        await recorded(rig, f"udp://127.0.0.1:{port}")
        check(rig, clip)


async def test_mpegts_over_http(clip: Path, folder: Path, site: Web) -> None:
    await run("-i", str(clip), "-c", "copy", "-f", "mpegts", str(folder / "http.ts"))
    data = (folder / "http.ts").read_bytes()

    over = threading.Event()

    def body() -> Iterator[bytes]:
        yield from (data[at:at + 4096] for at in range(0, len(data), 4096))
        over.wait(120)

    site.files["/live.ts"] = body
    try:
        async with Rig() as rig:
            await recorded(rig, f"http://127.0.0.1:{site.port}/live.ts")
            check(rig, clip)
    finally:
        over.set()


async def test_rtmp(clip: Path) -> None:
    port = free_port()
    async with AsyncExitStack() as held:
        await held.enter_async_context(ffmpeg("-re", "-i", str(clip), "-c", "copy", "-f", "flv", "-listen", "1",
                                              f"rtmp://127.0.0.1:{port}/app/key"))
        rig = await held.enter_async_context(Rig())
        await recorded(rig, f"rtmp://127.0.0.1:{port}/app/key")
        check(rig, clip)


async def test_srt_with_a_passphrase(clip: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    async with AsyncExitStack() as held:
        await held.enter_async_context(ffmpeg("-re", "-i", str(clip), "-c", "copy", "-f", "mpegts",
                                              f"srt://127.0.0.1:{port}?mode=listener&passphrase=open-sesame&pbkeylen=16"))
        rig = await held.enter_async_context(Rig())
        await recorded(rig, f"srt://127.0.0.1:{port}?latency=120", password="open-sesame")
        check(rig, clip)


async def test_hls(folder: Path, site: Web) -> None:
    playlist = folder / "hls"
    playlist.mkdir()

    def read(path: str) -> Any:
        file = playlist / path.removeprefix("/")
        return file.read_bytes() if file.exists() else 404

    async with Rig() as rig, ffmpeg("-re", "-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-f", "lavfi", "-i",
                                    "sine=frequency=440:sample_rate=48000", *X264, *AAC, "-f", "hls", "-hls_time", "1",
                                    "-hls_list_size", "5", str(playlist / "live.m3u8")):
        await rig.until(lambda: len(list(playlist.glob("*.ts"))) > 2)
        for name in ["/live.m3u8", *(f"/live{n}.ts" for n in range(60))]:
            site.files[name] = lambda name=name: read(name)
        await recorded(rig, f"http://127.0.0.1:{site.port}/live.m3u8")
        rig.tapes.take()
        (folder / "all.ts").write_bytes(b"".join(file.read_bytes() for file in sorted(playlist.glob("*.ts"), key=lambda f: int(f.stem[4:]))))
        stretch([nals(data) for _, data in rig.tape().aus], content(folder / "all.ts").pictures)
        assert len(decoded(rig.tape())) == len(rig.tape().aus)


async def test_wrong_srt_passphrase_is_an_authentication_failure(clip: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    async with AsyncExitStack() as held:
        await held.enter_async_context(ffmpeg("-re", "-i", str(clip), "-c", "copy", "-f", "mpegts",
                                              f"srt://127.0.0.1:{port}?mode=listener&passphrase=open-sesame&pbkeylen=16"))
        rig = await held.enter_async_context(Rig())
        rig.record(f"srt://127.0.0.1:{port}", user="", password="close-sesame")
        await rig.until(lambda: rig.stream().error is not None and rig.stream().error.cause == GapCause.AUTH)
        assert rig.tape().gaps[-1] is GapCause.AUTH


async def test_killed_source_process_costs_a_gap_and_is_back(clip: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    async with Rig() as rig, ffmpeg("-re", "-stream_loop", "-1", "-i", str(clip), "-c", "copy", "-f", "mpegts",
                                    f"udp://127.0.0.1:{port}?pkt_size=1316"):
        rig.record(f"udp://127.0.0.1:{port}", user="", password="")
        await rig.recorded()
        session = rig.stream()._session
        assert isinstance(session, LibavSession)
        os.kill(session._process.pid, signal.SIGKILL)
        await rig.failed()
        assert (rig.stream().error.message, rig.tape().gaps) == ("the source process has ended by SIGKILL", [GapCause.CRASH])  # type: ignore[union-attr]
        before = len(rig.tape().aus)
        await rig.recorded(before + 5)
