"""Makes tests/fuzz/corpus anew where its files are missing: what gst-rtsp-server, VLC and camsim send over loopback, and a few that are built.

A capture is what one short session brings, requests not included; it is small because the pictures are.
"""

import argparse
import contextlib
import itertools
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
STREAM_MAX, PACKETS, UDP_S = 48 << 10, 60, 6.0
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "fuzz"), str(ROOT / "tests" / "kernels")]


class Session:
    """An RTSP session over TCP, just good enough to record from servers that behave."""

    def __init__(self, url: str) -> None:
        self.url, self.cseq, self.session = url, 0, ""
        match = re.match(r"rtsp://([^:/]+):(\d+)", url)
        assert match
        self.sock = socket.create_connection((match[1], int(match[2])), timeout=10)
        self.rest = b""
        self.answers: list[bytes] = []

    def ask(self, method: str, url: str, *headers: str) -> tuple[bytes, bytes]:
        """(head, body) of the answer."""
        self.cseq += 1
        lines = [f"{method} {url} RTSP/1.0", f"CSeq: {self.cseq}", "User-Agent: Watchroom", *headers]
        lines += [f"Session: {self.session}"] if self.session else []
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode())
        while b"\r\n\r\n" not in self.rest:
            self.rest += self.sock.recv(65536)
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        size = int((re.search(rb"(?i)content-length:\s*(\d+)", head) or [b"", b"0"])[1])
        while len(self.rest) < size:
            self.rest += self.sock.recv(65536)
        body, self.rest = self.rest[:size], self.rest[size:]
        self.answers.append(head + b"\r\n\r\n" + body)
        return head, body

    def play(self, sdp: bytes, transports: Iterator[str]) -> None:
        """SETUP of all media, and PLAY."""
        for control in re.findall(rb"(?m)^m=.*?^a=control:(\S+)", sdp, re.DOTALL):
            target = control.decode()
            target = target if target.startswith("rtsp") else f"{self.url}/{target}"
            head, _ = self.ask("SETUP", target, f"Transport: {next(transports)}")
            found = re.search(rb"(?i)session:\s*([^;\s]+)", head)
            self.session = found[1].decode() if found else ""
        self.ask("PLAY", self.url, "Range: npt=0-")

    def stream(self, sdp: bytes) -> bytes:
        """What comes over TCP after PLAY of all media, the answer in front."""
        self.play(sdp, (f"RTP/AVP/TCP;unicast;interleaved={2 * i}-{2 * i + 1}" for i in itertools.count()))
        data = self.answers[-1] + self.rest
        while len(data) < STREAM_MAX:
            data += self.sock.recv(65536)
        return data[:STREAM_MAX]


def packets_of(stream: bytes) -> dict[int, list[bytes]]:
    """Packets by channel of an interleaved stream."""
    found: dict[int, list[bytes]] = {}
    at = stream.find(b"$")
    while at + 4 <= len(stream) and stream[at] == 0x24:
        size = int.from_bytes(stream[at + 2:at + 4], "big")
        if at + 4 + size <= len(stream):
            found.setdefault(stream[at + 1], []).append(stream[at + 4:at + 4 + size])
        at += 4 + size
    return found


def put(target: str, name: str, data: bytes) -> None:
    """A file of the corpus; one that is there stays."""
    path = CORPUS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() and data:
        path.write_bytes(data)


def with_type(packets: list[bytes]) -> list[bytes]:
    """The packets with payload type 96, which the targets expect."""
    return [packet[:1] + bytes([packet[1] & 0x80 | 96]) + packet[2:] for packet in packets]


def over_udp(session: Session, sdp: bytes) -> dict[int, list[bytes]]:
    """Packets by channel, as they would be numbered over TCP, of some seconds."""
    with contextlib.ExitStack() as held:
        socks = []
        for _ in range(4):
            socks.append(held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
            socks[-1].bind(("127.0.0.1", 0))
        ports = [sock.getsockname()[1] for sock in socks]
        session.play(sdp, (f"RTP/AVP;unicast;client_port={ports[2 * i]}-{ports[2 * i + 1]}" for i in itertools.count()))
        found: dict[int, list[bytes]] = {}
        deadline = time.monotonic() + UDP_S
        while time.monotonic() < deadline:
            for sock in select.select(socks, [], [], 0.2)[0]:
                found.setdefault(socks.index(sock), []).append(sock.recv(2048))
    return found


def capture(name: str, url: str, codecs: tuple[str, ...], *, udp: bool = False) -> None:
    """A session's messages, description and packets."""
    import mutation

    session = Session(url)
    session.ask("OPTIONS", url)
    _, sdp = session.ask("DESCRIBE", url, "Accept: application/sdp")
    if udp:
        channels = over_udp(session, sdp)
    else:
        stream = session.stream(sdp)
        put("framing", name, stream[:12 << 10])
        channels = packets_of(stream)
    put("sdp", name, sdp)
    for number, answer in enumerate(session.answers):
        put("rtsp-message", f"{name}-{number}", answer)
        if match := re.search(rb"(?i)\r\ntransport:([^\r]*)", answer):
            put("transport", f"{name}-{number}", match[1].strip())
    for index, codec in enumerate(codecs):
        put(f"rtp-{codec}", name, mutation.pack(with_type(channels.get(2 * index, [])[:PACKETS]), 10))
    rtcp = [packet for index in range(len(codecs)) for packet in channels.get(2 * index + 1, [])]
    if rtcp:
        put("rtcp", name, mutation.pack([*with_type(channels.get(0, [])[:6]), *rtcp, *with_type(channels.get(0, [])[6:12])], 10))
    session.sock.close()


@contextlib.contextmanager
def gst(video: str, audio: str, *more: str) -> Iterator[str]:
    """gst-rtsp-server with small pictures; its address."""
    command = ["/usr/bin/python3", str(ROOT / "tests" / "servers" / "gst_server.py"), "--video", video, "--width", "160", "--height", "96",
               "--gop", "8", *(["--audio", audio] if audio else []), *more]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdin
        try:
            yield f"rtsp://127.0.0.1:{process.stdout.readline().split()[1]}/cam"
        finally:
            process.stdin.close()


@contextlib.contextmanager
def vlc(codec: str, folder: Path) -> Iterator[str]:
    """VLC's RTSP server with a looped file; its address. VLC refuses root, so nobody runs it."""
    from bench.site import free_port, wait_until

    clip, port = folder / f"{codec}.mp4", free_port()
    encoder = ["-c:v", "libx264", "-g", "8"] if codec == "h264" else ["-c:v", "libx265", "-x265-params", "keyint=8:log-level=none"]
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=size=160x96:rate=15", "-f", "lavfi", "-i", "sine=sample_rate=16000",
                    "-t", "20", *encoder, "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "16k", str(clip)], check=True)
    folder.chmod(0o755)
    command = ["cvlc", "-q", "--loop", str(clip), "--sout", f"#rtp{{sdp=rtsp://127.0.0.1:{port}/cam}}", "--sout-keep"]
    prefix = ["setpriv", "--reuid", "nobody", "--clear-groups"] if os.geteuid() == 0 else []
    with subprocess.Popen([*prefix, *command], env=os.environ | {"HOME": str(folder)}, stderr=subprocess.DEVNULL) as process:
        url = f"rtsp://127.0.0.1:{port}/cam"
        try:
            wait_until(lambda: answers(url), 30, "VLC")
            yield url
        finally:
            process.kill()


def answers(url: str) -> bool:
    """True if the server describes its stream."""
    try:
        return b"200" in Session(url).ask("DESCRIBE", url, "Accept: application/sdp")[0][:20]
    except OSError:
        return False


def camsim() -> None:
    """Our own simulation: every codec that it has, Digest and Basic challenges."""
    from bench.camsim.process import SimProcess

    with tempfile.TemporaryDirectory() as folder:
        small = ["--size", "160x96", "--bitrate", "64", "--gop", "10", "--cache", folder]
        with SimProcess(["--count", "3", "--codec", "jpeg,h264,h264", "--audio", "opus,l16,g726", *small]) as sim:
            for camera, codecs in enumerate((("jpeg", "opus"), ("h264", "l16"), ("h264", "g726-24"))):
                capture(f"camsim-{'-'.join(codecs)}", sim.url(camera), codecs)
        with SimProcess(["--count", "4", "--codec", "h264,h265", "--audio", "aac,pcma,pcmu,none", "--bframes", "2", *small]) as sim:
            for camera, codecs in enumerate((("h264", "aac"), ("h265", "pcma"), ("h264", "pcma"), ("h265",))):
                capture(f"camsim-{camera}", sim.url(camera), codecs)
        for scheme, algorithm in (("digest", "both"), ("digest", "md5"), ("basic", "md5")):
            with SimProcess(["--auth", scheme, "--digest-algorithm", algorithm, *small]) as sim:
                head, _ = Session(sim.url(0)).ask("DESCRIBE", sim.url(0))
                lines = re.findall(rb"(?i)www-authenticate:\s*([^\r]*)", head)
                put("auth", f"camsim-{scheme}-{algorithm}", b"\n".join(lines))
                put("rtsp-message", f"camsim-401-{scheme}-{algorithm}", head + b"\r\n\r\n")


def built() -> None:
    """Addresses, and parameter sets with start codes."""
    import rtpkit

    for name, text in {"plain": "rtsp://10.0.0.7/stream1", "port": "rtsp://10.0.0.7:8554/live?channel=1&subtype=0", "v6": "rtsp://[fd00::7]:554/a",
                       "user": "rtsp://viewer:hunter2secret@cam.example.org/h264", "odd": "rtsp://a:p@ss:w/rd?@10.0.0.7/s#1",
                       "base": "rtsp://rtsp://192.168.1.10:554/Streaming/Channels/101/"}.items():
        put("url", name, text.encode())
    for name, lines in {
        "describe": ["DESCRIBE rtsp://h:8554/yard RTSP/1.0", "CSeq: 2", "Accept: application/sdp", "User-Agent: LibVLC/3.0"],
        "setup-tcp": ["SETUP rtsp://h/yard/track-main RTSP/1.0", "CSeq: 3", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"],
        "setup-udp": ["SETUP rtsp://h/yard/sub/track-sub RTSP/1.0", "CSeq: 4", "Session: 1a2b",
                      "Transport: RTP/AVP;unicast;client_port=5000-5001"],
        "play": ["PLAY rtsp://h/replay/yard/ RTSP/1.0", "CSeq: 5", "Session: 1a2b;timeout=60", "Range: npt=0-", "Require: onvif-replay"],
        "digest": ["OPTIONS rtsp://token:word@h/yard RTSP/1.0", "CSeq: 6",
                   'Authorization: Digest username="token", realm="watchroom", nonce="5-ab", uri="rtsp://h/yard", response="0123", '
                   'algorithm=SHA-256, qop=auth, nc=00000001, cnonce="c"'],
        "body": ["SET_PARAMETER rtsp://h/yard RTSP/1.0", "CSeq: 7", "Content-Length: 4", "", "a: b"],
    }.items():
        put("rtsp-request", name, "\r\n".join([*lines, *([] if "" in lines else ["", ""])]).encode())
    start = b"\0\0\0\1"
    put("parameter-sets", "h264", start + start.join([rtpkit.sps264(), rtpkit.pps264(), rtpkit.slice264(5)]))
    put("parameter-sets", "h265", start + start.join([rtpkit.vps265(), rtpkit.sps265(), rtpkit.pps265(), rtpkit.slice265(19)]))


def units() -> None:
    """Access units for the packetisers."""
    from rtpkit import AUD264, noise, pps264, pps265, prefixed, slice264, slice265, sps264, sps265, vps265
    from test_jpeg import images

    from bench.camsim import jpeg

    for codec, found in {
        "avc1": [[AUD264, sps264(), pps264(), slice264(5, size=3000)], [slice264(1, size=100), slice264(1, first=False, size=90)]],
        "hvc1": [[vps265(), sps265(), pps265(), slice265(19, size=3000)], [slice265(1, size=100), slice265(1, first=False, size=90)]],
    }.items():
        for number, nals in enumerate(found):
            put(f"pack-{codec}", f"unit-{number}", prefixed(nals))
    put("pack-jpeg", "unit-0", images(1, 64, 48)[0])
    put("pack-jpeg", "unit-1", jpeg.rebuilt(jpeg.parse(images(1, 324, 50)[0])))
    for codec, size in {"mp4a": 300, "Opus": 120, "twos": 1600, "g726": 80, "metx": 2000}.items():
        put(f"pack-{codec}", "unit-0", noise(size))


def sets_of_corpus() -> None:
    """The parameter sets of every captured stream."""
    import mutation

    for codec, kinds, kind_of in (("h264", (7, 8), lambda p: p[12] & 31), ("h265", (32, 33, 34), lambda p: p[12] >> 1 & 63)):
        for path in (CORPUS / f"rtp-{codec}").iterdir():
            nals = [p[12:] for _, p in mutation.unpack(path.read_bytes()) if len(p) > 14 and kind_of(p) in kinds]
            put("parameter-sets", f"{codec}-{path.name}", b"".join(b"\0\0\0\1" + nal for nal in nals[:6]))


def main() -> int:
    """Captures all."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    built()
    units()
    camsim()
    for video, audio in (("h264", "aac"), ("h264-b", "pcma"), ("h265", "pcmu")):
        with gst(video, audio) as url:
            capture(f"gst-{video}-{audio}", url, (video.partition("-")[0], "aac" if audio == "aac" else "pcma"))
    for audio, codec in (("latm", "latm"), ("opus", "opus"), ("g726", "g726-24"), ("aal2-g726", "aal2-g726-40"), ("l16", "l16")):
        with gst("h264", audio) as url:
            capture(f"gst-h264-{audio}", url, ("h264", codec))
    with gst("mjpeg", "", "--metadata") as url:
        capture("gst-mjpeg-metadata", url, ("jpeg", "metadata"))
    with tempfile.TemporaryDirectory() as folder:
        for codec in ("h264", "h265"):
            with vlc(codec, Path(folder)) as url:
                capture(f"vlc-{codec}-aac", url, (codec, "aac"), udp=True)
    sets_of_corpus()
    for target in sorted(CORPUS.iterdir()):
        files = list(target.iterdir())
        print(f"{target.name}: {len(files)} files, {sum(path.stat().st_size for path in files)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
