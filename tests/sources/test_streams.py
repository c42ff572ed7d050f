"""Streams with a fault or a change in them, served over HTTP from made files."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from recorder.base.media import AuFlag
from tests.session.rig import Rig
from tests.sources.oracle import decoded, flags, nals
from tests.sources.senders import AAC, X264, Web, content, make, run

pytestmark = pytest.mark.live
PID_VIDEO = 0x100


@pytest.fixture
def endless() -> Iterator[Callable[[bytes], Callable[[], Iterator[bytes]]]]:
    """A body that does not end before the test does."""
    over = threading.Event()

    def body(data: bytes) -> Callable[[], Iterator[bytes]]:
        def parts() -> Iterator[bytes]:
            yield data
            over.wait(120)

        return parts

    yield body
    over.set()


def pids(data: bytes) -> list[int]:
    return [(data[at + 1] & 31) << 8 | data[at + 2] for at in range(0, len(data), 188)]


@pytest.mark.parametrize("hls", [False, True])
@pytest.mark.parametrize(("hurt", "end"), [(60, 75), (75, 100)])
async def test_lost_packets_of_a_transport_stream_mark_what_they_hurt(hurt: int, end: int, hls: bool, clip: Path, folder: Path, site: Web,
                                                                     endless: Any) -> None:
    """In decode order; every 25th picture is a key frame."""
    await run("-i", str(clip), "-c", "copy", "-f", "mpegts", str(folder / "loss.ts"))
    data = (folder / "loss.ts").read_bytes()
    videos = [at for at, pid in enumerate(pids(data)) if pid == PID_VIDEO]
    starts = [at for at in videos if data[188 * at + 1] & 0x40]
    lost = [at for at in videos if starts[hurt] < at < starts[hurt + 1]][2:4]
    whole = b"".join(data[188 * at:188 * at + 188] for at in range(len(data) // 188) if at not in lost)
    site.files |= {"/loss.ts": whole if hls else endless(whole),
                   "/loss.m3u8": b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:8\n#EXTINF:8,\nloss.ts\n"}
    sent = content(clip).pictures
    async with Rig() as rig:
        rig.record(f"http://127.0.0.1:{site.port}/loss.{'m3u8' if hls else 'ts'}", user="", password="")
        await rig.recorded(150)
        rig.tapes.take()
        damaged = [at for at, flag in enumerate(flags(rig.tape())) if flag & AuFlag.DAMAGED]
        assert damaged == list(range(hurt, end)), "damage reaches from the loss to the next access point"
        for at, (_, data) in enumerate(rig.tape().aus[:150]):
            assert at == hurt or nals(data)[-1] == sent[at][-1]


@pytest.mark.parametrize("form", ["mpegts", "flv"])
async def test_changed_parameter_sets_are_a_new_format(form: str, folder: Path, site: Web, endless: Any) -> None:
    """In a transport stream they stand in band; FLV has them in a tag of their own."""
    parts = []
    for at, size in enumerate(("320x240", "160x128")):
        path = await make(folder / f"part{at}.{form}", *X264, *AAC, "-vf", f"scale={size.replace('x', ':')}", "-output_ts_offset", str(8 * at),
                          "-f", form)
        parts.append(path.read_bytes())
    if form == "flv":
        parts[1] = parts[1][13:]
    name = "/change.flv" if form == "flv" else "/change.ts"
    site.files[name] = endless(b"".join(parts))
    async with Rig() as rig:
        rig.record(f"http://127.0.0.1:{site.port}{name}", user="", password="")
        await rig.recorded(300)
        rig.tapes.take()
        entries = rig.tape().entries
        assert [(entry.width, entry.height) for _, entry in sorted(entries.items())] == [(320, 240), (160, 128)]
        formats = [au["format"] for au, _ in rig.tape().aus]
        assert (formats, formats.count(1)) == (sorted(formats), 200)
        if form == "flv":                # the seam of two transport streams is a jump of their counters: a loss
            assert not any(flag & AuFlag.DAMAGED for flag in flags(rig.tape()))
        assert len(decoded(rig.tape())) == len(formats)


async def test_h265_is_recorded(folder: Path, site: Web, endless: Any) -> None:
    path = await make(folder / "h265.ts", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "bframes=2:keyint=25:log-level=none", *AAC,
                      "-f", "mpegts")
    site.files["/h265.ts"] = endless(path.read_bytes())
    async with Rig() as rig:
        rig.record(f"http://127.0.0.1:{site.port}/h265.ts", user="", password="")
        await rig.recorded(150)
        rig.tapes.take()
        assert [nals(data) for _, data in rig.tape().aus] == content(path).pictures[:len(rig.tape().aus)]
        assert len(decoded(rig.tape())) == len(rig.tape().aus)


async def test_audio_that_is_not_recorded_leaves_the_video(folder: Path, site: Web, endless: Any) -> None:
    path = await make(folder / "mp2.ts", *X264, "-c:a", "mp2", "-f", "mpegts")
    site.files["/mp2.ts"] = endless(path.read_bytes())
    async with Rig() as rig:
        rig.record(f"http://127.0.0.1:{site.port}/mp2.ts", user="", password="")
        await rig.recorded(100)
        assert rig.stream().state == "recording"
        assert "MP2" in str(rig.stream().error)
        assert rig.tape("audio").aus == []
