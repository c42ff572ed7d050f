"""What a source may not do: open files, other hosts or redirects, fill the memory, lie to its worker, outlive it."""

import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder._ext import framing
from recorder._ext.auqueue import AuQueue
from recorder._ext.rtp import RtpTrack
from recorder.base.clock import SystemClock
from recorder.base.errors import SourceError
from recorder.base.media import GapCause
from recorder.rtsp.handshake import choose
from recorder.rtsp.sdp import parse_sdp
from recorder.sources.imported import open_below
from recorder.sources.job import SourceJob
from recorder.sources.process import ROOT, SourceProcess
from recorder.timeline import WallOffset
from tests.session.rig import Rig
from tests.sources.senders import Web, free_port

NOISE = random.Random(1).randbytes(400_000)
TS_OF_NOISE = b"".join(b"\x47" + NOISE[at:at + 187] for at in range(0, 187 * 2000, 187))


def playlist(segment: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{segment}\n#EXTINF:2,\n{segment}\n".encode()


@pytest.mark.parametrize("segment", ["file:///etc/passwd", "/etc/passwd", "concat:/etc/passwd|/etc/hosts", "data:video/mp2t;base64,R0AA",
                                     "http://localhost:{port}/secret.ts", "http://127.0.0.1:{other}/secret.ts",
                                     "subfile,,start,0,end,9,,:/etc/passwd",
                                     "crypto:http://127.0.0.1:{port}/secret.ts"])
async def test_playlist_opens_nothing_but_its_own_server(site: Web, segment: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.setblocking(False)
        site.files |= {"/x.m3u8": playlist(segment.format(port=site.port, other=other.getsockname()[1])), "/secret.ts": TS_OF_NOISE}
        async with Rig() as rig:
            rig.record(f"http://127.0.0.1:{site.port}/x.m3u8", user="", password="")
            error = await rig.failed()
            assert error.cause in {GapCause.REFUSED, GapCause.UNSUPPORTED}
            assert rig.tape().aus == []
        with pytest.raises(BlockingIOError):
            other.accept()
    assert "/secret.ts" not in site.asked


@pytest.mark.parametrize(("body", "cause", "words"), [
    ("http://127.0.0.1:9/elsewhere", GapCause.REFUSED, "redirect"),
    (401, GapCause.AUTH, "401"), (404, GapCause.REFUSED, "404"), (503, GapCause.OFFLINE, "503"),
    (TS_OF_NOISE, GapCause.UNSUPPORTED, "made out"),
    (NOISE, GapCause.UNSUPPORTED, ""),
    (b"", GapCause.UNSUPPORTED, ""),
])
async def test_bad_answer_over_http_says_what_it_is(site: Web, body: Any, cause: GapCause, words: str) -> None:
    site.files["/live.ts"] = body
    async with Rig() as rig:
        rig.record(f"http://127.0.0.1:{site.port}/live.ts", user="", password="")
        error = await rig.failed()
        assert (GapCause(error.cause), words in str(error)) == (cause, True), str(error)
        assert rig.tape().gaps == [cause]


@pytest.mark.parametrize("scheme", ["rtmp", "http", "srt"])
async def test_nobody_there_is_offline(scheme: str) -> None:
    kind = socket.SOCK_DGRAM if scheme == "srt" else socket.SOCK_STREAM
    async with Rig() as rig:
        rig.record(f"{scheme}://127.0.0.1:{free_port(kind)}/a/b", user="", password="")
        error = await rig.failed()
        assert error.cause == GapCause.OFFLINE


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/a.ts", "rtmp://127.0.0.1:{port}/a/b", "http://127.0.0.1:{port}/a.m3u8"])
async def test_address_outside_the_networks_starts_no_process(site: Web, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(SourceProcess, "start", never)
    async with Rig(networks=("10.0.0.0/8",)) as rig:
        rig.record(url.format(port=site.port), user="", password="")
        assert (await rig.failed()).cause == GapCause.REFUSED
    assert site.asked == []


async def test_datagrams_of_strangers_are_not_recorded() -> None:
    port = free_port(socket.SOCK_DGRAM)
    async with Rig(networks=("10.0.0.0/8",)) as rig:
        rig.record(f"udp://127.0.0.1:{port}", user="", password="", stall_s=60)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", port))

            def refused() -> bool:
                for _ in range(50):
                    with contextlib.suppress(OSError):     # nobody listens yet
                        sender.send(TS_OF_NOISE[:1316])
                return rig.stream().error is not None

            await rig.until(refused)
        assert rig.stream().error.cause == GapCause.REFUSED  # type: ignore[union-attr]


async def test_login_travels_in_the_clear_only_where_that_is_allowed(site: Web) -> None:
    site.files["/live.ts"] = 404
    for allowed in (False, True):
        async with Rig() as rig:
            rig.record(f"http://127.0.0.1:{site.port}/live.ts", basic_without_tls=allowed)
            await rig.failed()
    assert [bool(login) for login in site.logins] == [False, True]


def child(code: str) -> str:
    """What Python prints after `confine`."""
    code = f"import socket, os\nfrom recorder.sources.libav.confine import confine\nversion = confine(os.getppid(), 80)\n{code}"
    return subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True).stdout


def test_confined_process_opens_no_file_and_no_other_port() -> None:
    """Files and TCP need Landlock; on a kernel without it the limits alone must hold."""
    said = child("""
def tried(do):
    try:
        do()
    except OSError as error:
        return type(error).__name__
    return "done"
print(version > 0, tried(lambda: open("/etc/passwd")), tried(lambda: os.open("/tmp", os.O_RDONLY)),
      tried(lambda: os.posix_spawn("/bin/true", ["true"], {})), tried(lambda: socket.create_connection(("127.0.0.1", 81))))
""").split()
    if said[0] == "True":
        assert said[1:4] == ["PermissionError"] * 3
        assert said[4] in {"PermissionError", "ConnectionRefusedError"}      # the network's part came with Linux 6.7
    assert child("""
try:
    bytearray(3 << 30)
except MemoryError:
    print("held")
""").strip() == "held"


def test_process_ends_with_its_worker() -> None:
    code = """
import asyncio
from recorder.sources.job import SourceJob
from recorder.sources.process import SourceProcess
async def main():
    process = await SourceProcess.start(SourceJob("udp", "127.0.0.1", "127.0.0.1", 0, networks=("127.0.0.0/8",), silence_s=600))
    print(process.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        worker.kill()
    deadline = time.monotonic() + 120
    while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z":
        assert time.monotonic() < deadline, "the source process outlives its worker"
        time.sleep(0.02)


@pytest.mark.parametrize("path", ["../etc/passwd", "a/../../x", "link", "folder", "folderlink/x", "none", ""])
def test_import_never_leaves_its_folder(tmp_path: Path, path: str) -> None:
    inside = tmp_path / "import"
    (inside / "folder").mkdir(parents=True)
    (tmp_path / "x").write_text("secret")
    (inside / "link").symlink_to(tmp_path / "x")
    (inside / "folderlink").symlink_to(tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(SourceError):
        open_below(inside, path)
    with pytest.raises(SourceError, match="import_dir"):
        open_below(None, path)
    assert len(set(os.listdir("/proc/self/fd"))) == len(before)


# --- a process that has been taken over

ANNOUNCE = (b"ANNOUNCE x RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 60\r\n\r\nv=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n    ")
FRAME = b"$\0\0\x20" + bytes([0x80, 0xE0]) + bytes(10) + bytes([0x65]) + bytes(19)
LEAVE = b"TEARDOWN x RTSP/1.0\r\nCause: 6\r\nRetry: 99999999999\r\nReason: gone\r\n\r\n"


class Lost:
    """Stands for the child's process."""

    pid, returncode = 0, None

    def kill(self) -> None:
        self.returncode = -9

    async def wait(self) -> int:
        return -9


def mutations() -> st.SearchStrategy[bytes]:
    whole = st.sampled_from([ANNOUNCE, FRAME, LEAVE, b"Ended: 1\r\n", b"RTSP/1.0 200 OK\r\n\r\n", b"\r\n"])
    cut = st.tuples(whole, st.integers(0, 150)).map(lambda pair: pair[0][:pair[1]])
    return st.lists(st.one_of(whole, cut, st.binary(max_size=80)), max_size=12).map(b"".join)


@settings(max_examples=150)
@given(mutations())
def test_worker_survives_whatever_a_source_process_says(said: bytes) -> None:
    """Nothing but a SourceError comes of it, and the cause is one of a camera's."""
    asyncio.run(listen(said))


async def listen(said: bytes) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    process = SourceProcess(Lost(), ours)  # type: ignore[arg-type]
    theirs.sendall(said)
    theirs.close()
    try:
        announced = await process.announced(1, WallOffset(SystemClock()))
        media, _ = choose(parse_sdp(announced.body), "video")
        track = RtpTrack(AuQueue(1 << 16, 16), "h264", 90_000, [96], 1)
        process.framing.bind(2 * media.index, 2 * media.index + 1, track)
        process.framing.feed(said, len(said), 1, 0)
        process.heard()
    except SourceError as error:
        assert GapCause(error.cause).word and 0 <= error.retry_s <= 300
    finally:
        await process.close()


async def test_process_that_sends_without_end_before_it_announces_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recorder.sources.process.ANNOUNCE_S", 0.3)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    process = SourceProcess(Lost(), ours)  # type: ignore[arg-type]

    async def flood() -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                await loop.sock_sendall(theirs, FRAME * 50)
                await asyncio.sleep(0)

    flooding = asyncio.create_task(flood())
    with pytest.raises(SourceError):
        await process.announced(1, WallOffset(SystemClock()))
    await process.close()
    theirs.close()
    await flooding
    assert isinstance(process.framing, framing.Connection)


def test_job_comes_back_as_it_went() -> None:
    job = SourceJob("srt", "host", "127.0.0.1", 9, "/?x", password="secret", networks=("10.0.0.0/8",))
    assert SourceJob.decode(job.encode()[4:]) == job
    assert "secret" not in repr(job)
