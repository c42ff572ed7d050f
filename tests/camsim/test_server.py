"""The RTSP server against clients that somebody else wrote, and against rude ones."""

import asyncio
import base64
import json
import re
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import av
import pytest

from bench.camsim import auth as auths
from bench.camsim.clip import obtain, split_nals
from bench.camsim.encode import prefixed
from bench.camsim.request import BadRequest, ClientPorts, Interleaved, Request, RequestReader, parse_transport
from bench.camsim.sdp import describe
from bench.camsim.server import CamSim
from bench.camsim.spec import AudioSpec, AuthSpec, CameraSpec, SimSpec, VideoSpec
from bench.camsim.truth import Truth, digest, fetch_status
from tests.ffmpeg import complaints

H264 = VideoSpec(width=320, height=180, kbps=300)
H265 = VideoSpec("h265", 320, 180, kbps=300)
PASSWORD = "p@ss:w/rd \"q\" ?&ü"


class Raw:
    """A client that says exactly what a test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: str) -> None:
        self.reader, self.writer, self.url = reader, writer, url
        self.packets: list[tuple[int, bytes]] = []

    @classmethod
    async def open(cls, sim: CamSim, path: str = "cam0") -> "Raw":
        reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
        return cls(reader, writer, f"rtsp://127.0.0.1:{sim.port}/{path}")

    async def ask(self, method: str, control: str = "", **headers: str) -> tuple[int, dict[str, str], bytes]:
        lines = [f"{method} {self.url}{control} RTSP/1.0", "CSeq: 7", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        return await self.answer()

    async def packet(self) -> tuple[int, bytes]:
        head = await asyncio.wait_for(self.reader.readexactly(4), 120)
        assert head[0] == 0x24, head
        return head[1], await self.reader.readexactly(int.from_bytes(head[2:], "big"))

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        while True:
            first = await asyncio.wait_for(self.reader.readexactly(1), 120)
            if first != b"$":
                break
            channel, *size = await self.reader.readexactly(3)
            self.packets.append((channel, await self.reader.readexactly(int.from_bytes(bytes(size), "big"))))
        head = first + await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        body = await self.reader.readexactly(int(headers.get("Content-Length", 0)))
        assert headers.get("CSeq") == "7"
        return int(lines[0].split()[1]), headers, body

    async def play(self, tracks: int = 1) -> dict[str, str]:
        session = ""
        for i in range(tracks):
            more = {"Session": session} if session else {}
            transport = f"RTP/AVP/TCP;unicast;interleaved={2 * i}-{2 * i + 1}"
            status, headers, _ = await self.ask("SETUP", f"/trackID={i}", Transport=transport, **more)
            assert status == 200
            session = headers["Session"].partition(";")[0]
        status, headers, _ = await self.ask("PLAY", Session=session, Range="npt=0-")
        assert status == 200
        return {**headers, "Session": session}

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


def simulate(cache: Path, *cameras: CameraSpec, **options: object) -> CamSim:
    return CamSim(replace(SimSpec(cameras=cameras or (CameraSpec(H264),), cache=cache), **options))  # type: ignore[arg-type]


async def run(*command: str) -> tuple[int, str]:
    """Its exit code and all that it says. What decodes (ffmpeg probes so) wants a camera that starts at a key frame, or it may complain."""
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out, _ = await asyncio.wait_for(process.communicate(), 300)
    return process.returncode or 0, out.decode(errors="replace")


def stored_aus(path: Path, kind: str) -> list[bytes]:
    with av.open(path) as file:
        stream = getattr(file.streams, kind)[0]
        aus = [bytes(packet) for packet in file.demux(stream) if packet.size]
    if kind == "audio":
        return aus
    # FFmpeg's HEVC parser leaves the first zero of the next start code on the NAL before it
    return [prefixed([nal.rstrip(b"\x00") for nal in split_nals(au)]) for au in aus]


@pytest.mark.live
@pytest.mark.parametrize(("video", "sound"), [(H264, "aac"), (H265, "pcma"), (replace(H264, bframes=2), "pcmu")], ids=str)
async def test_ffmpeg_records_exactly_what_was_sent(video: VideoSpec, sound: str, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mov"
    async with simulate(cache, CameraSpec(video, AudioSpec(sound)), start_at_key=True) as sim:  # type: ignore[arg-type]
        code, text = await run("ffmpeg", "-v", "error", "-rtsp_transport", "tcp", "-i", sim.url(0), "-t", "3", "-c", "copy", str(out))
        assert (code, text) == (0, "")
        status = sim.status()
    session = status["cameras"][0]["sessions"][0]["tracks"]
    for name, kind in (("main", "video"), ("audio", "audio")):
        truth = Truth.of(status, "cam0", name)
        counters = session[name]
        sent = [truth.au_bytes(i) for i in truth.sent(counters)]
        assert counters["digest"] == f"{digest(sent):016x}"
        assert (counters["aus"], counters["bytes"]) == (len(sent), sum(map(len, sent)))
        got = stored_aus(out, kind)
        if kind == "audio" and sound != "aac":
            assert b"".join(got) in b"".join(sent)
        else:
            assert len(got) > 40
            at = truth.find(got[0], counters["first"])
            assert at is not None
            assert at < counters["first"] + 10
            assert got == [truth.au_bytes(at + i) for i in range(len(got))]
    assert await asyncio.to_thread(complaints, out, "0:v") == ""


@pytest.mark.live
async def test_ffprobe_sees_the_sub_stream(cache: Path) -> None:
    sub = VideoSpec(width=160, height=96, kbps=100)
    async with simulate(cache, CameraSpec(H265, AudioSpec("pcma"), sub), start_at_key=True) as sim:
        shown = {}
        probe = ("ffprobe", "-v", "error", "-rtsp_transport", "tcp", "-show_entries", "stream=codec_name,width", "-of", "json")
        for url in (sim.url(0), sim.url(0, sub=True)):
            _, text = await run(*probe, url)
            shown[url] = [(s["codec_name"], s.get("width")) for s in json.loads(text)["streams"]]
        assert list(shown.values()) == [[("hevc", 320), ("pcm_alaw", None)], [("h264", 160)]]


@pytest.mark.live
@pytest.mark.parametrize(("scheme", "algorithm"), [("basic", "md5"), ("digest", "md5")])
async def test_ffprobe_needs_the_right_password(scheme: str, algorithm: str, cache: Path) -> None:
    auth = AuthSpec(scheme, algorithm, "viewer", "s3cret")  # type: ignore[arg-type]
    async with simulate(cache, auth=auth, start_at_key=True) as sim:
        probe = ("ffprobe", "-v", "error", "-rtsp_transport", "tcp", "-show_entries", "stream=codec_name", "-of", "csv=p=0")
        assert await run(*probe, sim.url(0, userinfo=True)) == (0, "h264\n")
        code, text = await run(*probe, sim.url(0, userinfo=True).replace("s3cret", "wrong"))
        assert code != 0
        assert "401" in text


@pytest.mark.parametrize(("offered", "used"), [("md5", "MD5"), ("sha-256", "SHA-256"), ("both", "SHA-256"), ("both", "MD5")])
@pytest.mark.parametrize("qop", ["", "auth"])
async def test_digest_accepts_only_the_right_answer(offered: str, used: str, qop: str, cache: Path) -> None:
    auth = AuthSpec("digest", offered, "vi ewer", PASSWORD)  # type: ignore[arg-type]
    async with simulate(cache, auth=auth) as sim:
        client = await Raw.open(sim)
        status, headers, _ = await client.ask("DESCRIBE")
        assert status == 401
        assert ("algorithm=SHA-256" in headers["WWW-Authenticate"]) == (offered != "md5")
        nonce = re.search('nonce="([^"]+)"', headers["WWW-Authenticate"])[1]  # type: ignore[index]
        fields = {"uri": client.url, "nonce": nonce, "qop": qop, "nc": "00000001", "cnonce": "abc"}

        def authorization(password: str, **changes: str) -> str:
            given = {**fields, **changes}
            response = auths.response_of(used, AuthSpec("digest", "md5", "vi ewer", password), "DESCRIBE", given)
            pairs = {"username": "vi ewer", "realm": "camsim", **{k: v for k, v in given.items() if v}, "response": response}
            return "Digest " + ", ".join(f'{k}="{v}"' for k, v in pairs.items()) + f", algorithm={used}"

        assert (await client.ask("DESCRIBE", Authorization=authorization(PASSWORD)))[0] == 200
        assert (await client.ask("DESCRIBE", Authorization=authorization(PASSWORD + "x")))[0] == 401
        assert (await client.ask("DESCRIBE", Authorization=authorization(PASSWORD, uri="/other")))[0] == 401
        status, headers, _ = await client.ask("DESCRIBE", Authorization=authorization(PASSWORD, nonce="0" * 32))
        assert status == 401
        assert "stale=true" in headers["WWW-Authenticate"]
        assert (await client.ask("SETUP", "/trackID=0", Transport="RTP/AVP/TCP"))[0] == 401
        await client.close()


async def test_basic_accepts_only_the_right_password(cache: Path) -> None:
    async with simulate(cache, auth=AuthSpec("basic", "md5", "viewer", PASSWORD)) as sim:
        client = await Raw.open(sim)
        for password, wanted in ((PASSWORD, 200), (PASSWORD[:-1], 401), ("", 401)):
            token = base64.b64encode(f"viewer:{password}".encode()).decode()
            assert (await client.ask("DESCRIBE", Authorization=f"Basic {token}"))[0] == wanted
        await client.close()


async def test_udp_is_refused_and_tcp_then_taken(cache: Path) -> None:
    async with simulate(cache, transports=("tcp",)) as sim:
        client = await Raw.open(sim)
        assert (await client.ask("SETUP", "/trackID=0", Transport="RTP/AVP;unicast;client_port=5000-5001"))[0] == 461
        assert (await client.ask("SETUP", "/trackID=0", Transport="RTP/AVP/UDP;multicast"))[0] == 461
        both = "RTP/AVP;unicast;client_port=1-2,RTP/AVP/TCP;interleaved=8-9"
        status, headers, _ = await client.ask("SETUP", "/trackID=0", Transport=both)
        assert status == 200
        assert "interleaved=8-9" in headers["Transport"]
        assert headers["Session"].endswith(";timeout=60")
        await client.close()


async def test_udp_carries_packets_and_reports_to_the_clients_ports(cache: Path) -> None:
    rtp, rtcp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for sock in (rtp, rtcp):
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
    loop = asyncio.get_running_loop()
    async with simulate(cache, report_s=0.1) as sim:
        client = await Raw.open(sim)
        wanted = f"RTP/AVP;unicast;client_port={rtp.getsockname()[1]}-{rtcp.getsockname()[1]}"
        status, headers, _ = await client.ask("SETUP", "/trackID=0", Transport=wanted)
        assert (status, headers["Transport"].startswith(f"{wanted};server_port=")) == (200, True)
        session = headers["Session"].partition(";")[0]
        _, headers, _ = await client.ask("PLAY", Session=session)
        async with asyncio.timeout(120):
            first, report = await loop.sock_recv(rtp, 65536), await loop.sock_recv(rtcp, 2048)
        info = dict(pair.split("=", 1) for pair in headers["RTP-Info"].split(";"))
        assert (int.from_bytes(first[2:4], "big"), report[1]) == (int(info["seq"]), 200)
        assert (await client.ask("TEARDOWN", Session=session))[0] == 200
        async with asyncio.timeout(120):
            while b"\x81\xcb" not in report:
                report = await loop.sock_recv(rtcp, 2048)
        await client.close()
    rtp.close()
    rtcp.close()


async def test_wrong_requests_get_their_status(cache: Path, small: CameraSpec) -> None:
    async with simulate(cache, small) as sim:
        client = await Raw.open(sim)
        assert (await client.ask("OPTIONS"))[1]["Public"].startswith("OPTIONS, DESCRIBE")
        assert (await client.ask("PLAY", Session="x"))[0] == 454
        assert (await client.ask("RECORD"))[0] == 501
        assert (await client.ask("SETUP", Transport="RTP/AVP/TCP"))[0] == 459
        assert (await client.ask("SETUP", "/trackID=2", Transport="RTP/AVP/TCP"))[0] == 404
        assert (await client.ask("SETUP", "/trackID=0", Transport="RTP/AVP/TCP;interleaved=4-5"))[0] == 200
        assert (await client.ask("SETUP", "/trackID=1", Transport="RTP/AVP/TCP;interleaved=5-6"))[0] == 461
        for path in ("cam1", "cam0/sub", "cam", "", "../cam0"):
            client.url = f"rtsp://127.0.0.1:{sim.port}/{path}"
            assert (await client.ask("DESCRIBE"))[0] == 404, path
        await client.close()


async def test_play_announces_the_first_packet_and_reports_follow(cache: Path, small: CameraSpec) -> None:
    async with simulate(cache, small, report_s=0.1) as sim:
        client = await Raw.open(sim)
        headers = await client.play(2)
        assert [(await client.packet())[1][1] for _ in range(2)] == [200, 200]
        info = [dict(pair.split("=", 1) for pair in part.split(";")) for part in headers["RTP-Info"].split(",")]
        first: dict[int, bytes] = {}
        reports: set[int] = set()
        while len(first) < 2 or len(reports) < 2:
            channel, data = await client.packet()
            if channel % 2:
                assert data[1] == 200
                reports.add(channel)
            else:
                first.setdefault(channel, data)
        for number, channel in enumerate((0, 2)):
            assert int.from_bytes(first[channel][2:4], "big") == int(info[number]["seq"])
            assert int.from_bytes(first[channel][4:8], "big") == int(info[number]["rtptime"])
        status, _, _ = await client.ask("TEARDOWN", Session=headers["Session"])
        assert status == 200
        assert await client.reader.read() == b""
        goodbyes = [channel for channel, data in client.packets if channel % 2 and data[1] == 201 and data[-8:-6] == b"\x81\xcb"]
        assert goodbyes == [1, 3]
        session = sim.status()["cameras"][0]["sessions"][0]
        assert session["end_reason"] == "teardown"
        await client.close()


async def test_session_without_requests_ends(cache: Path) -> None:
    async with simulate(cache, session_timeout_s=0.3, report_s=0.1) as sim:
        client = await Raw.open(sim)
        await client.play()
        data = await asyncio.wait_for(client.reader.read(-1), 120)
        assert data
        assert sim.status()["cameras"][0]["sessions"][0]["end_reason"] == "timeout"
        await client.close()


async def test_requests_and_receiver_reports_are_taken_while_media_flows(cache: Path) -> None:
    async with simulate(cache) as sim:
        client = await Raw.open(sim)
        session = (await client.play())["Session"]
        client.writer.write(b"$\x01\x00\x20" + bytes(32))
        assert (await client.ask("GET_PARAMETER", Session=session))[0] == 200
        assert (await client.ask("GET_PARAMETER", Session="other"))[0] == 454
        assert (await client.ask("OPTIONS"))[0] == 200
        await client.close()


async def test_disconnect_ends_the_session_without_goodbye(cache: Path) -> None:
    async with simulate(cache) as sim:
        client = await Raw.open(sim)
        await client.play()
        sim.disconnect(0)
        await asyncio.wait_for(client.reader.read(-1), 120)
        again = await Raw.open(sim)
        await again.play()
        await again.packet()
        sessions = sim.status()["cameras"][0]["sessions"]
        assert [s["end_ns"] is None for s in sessions] == [False, True]
        assert sessions[1]["tracks"]["main"]["first"] >= sessions[0]["tracks"]["main"]["next"]
        await client.close()
        await again.close()


async def test_status_is_served_to_other_processes(cache: Path) -> None:
    async with simulate(cache) as sim:
        status = await asyncio.to_thread(fetch_status, sim.port)
        assert status["cameras"] == sim.status()["cameras"]
        assert Truth.of(status, "cam0").au_bytes(400) == Truth.of(status, "cam0").au_bytes(0)


async def test_cameras_are_staggered(cache: Path) -> None:
    async with simulate(cache, *[CameraSpec(H264)] * 16) as sim:
        bases = [c["tracks"]["main"]["base_wall_ns"] for c in sim.status()["cameras"]]
        assert len({b // 20_000_000 % 100 for b in bases}) > 10


def test_truth_tells_number_and_time(cache: Path) -> None:
    truth = Truth(obtain(replace(H264, bframes=2), cache), 1_000_000_000_000)
    order = [truth.number_of(i) for i in range(5)]
    assert sorted(order[:4]) == [0, 1, 2, 3]
    assert order != sorted(order)
    for index in (0, 1, 2, 405, 400 * 90_000 + 7):
        assert truth.picture(truth.wall_ns(index)) == truth.number_of(index)
        assert truth.picture(truth.wall_ns(index) + 39_000_000) == truth.number_of(index)
    assert truth.next_key(1) == 50
    assert list(truth.sent({"first": 3, "next": 9, "drops": [[4, 7]]})) == [3, 7, 8]


def test_description_names_the_sets(cache: Path) -> None:
    text = describe("cam0", "127.0.0.1", [obtain(H265, cache), obtain(AudioSpec("aac"), cache)]).decode()
    sets = re.findall(r"sprop-(?:vps|sps|pps)=([^;\r]+)", text)
    assert tuple(base64.b64decode(s) for s in sets) == obtain(H265, cache).sets
    assert "config=1408" in text
    assert re.findall(r"a=control:(\S+)", text) == ["*", "trackID=0", "trackID=1"]
    assert len(split_nals(obtain(H265, cache).au(0))) >= 4


def test_requests_are_cut_at_any_byte() -> None:
    data = b"$\x01\x00\x03abcOPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n\r\nSET_PARAMETER a RTSP/1.0\r\nContent-Length: 4\r\n\r\nbody$\x00\x00\x00"
    for step in range(1, len(data)):
        reader = RequestReader()
        got = [r for at in range(0, len(data), step) for r in reader.feed(data[at:at + step])]
        assert got == [Request("OPTIONS", "*", "RTSP/1.0", {"cseq": "1"}),
                       Request("SET_PARAMETER", "a", "RTSP/1.0", {"content-length": "4"}, b"body")]
        assert reader.interleaved == 2


@pytest.mark.parametrize("data", [b"GET\r\n\r\n", b"A B C\r\n\r\n", b"x" * 20_000, b"OPTIONS * RTSP/1.0\r\nContent-Length: -1\r\n\r\n",
                                  b"OPTIONS * RTSP/1.0\r\nContent-Length: 99999999\r\n\r\n", b"OPTIONS * RTSP/1.0\r\nnonsense\r\n\r\n"])
def test_bytes_that_are_no_request_are_refused(data: bytes) -> None:
    with pytest.raises(BadRequest):
        list(RequestReader().feed(data))


@pytest.mark.parametrize(("value", "wanted"), [
    ("RTP/AVP/TCP;unicast;interleaved=0-1", Interleaved(0)), ("RTP/AVP/TCP", Interleaved(None)), ("RTP/AVP", None), ("", None),
    ("RTP/AVP;unicast;client_port=0-1", None), ("RTP/AVP;unicast;client_port=5-65536", None), ("RTP/AVP;multicast;client_port=5-6", None),
    ("RTP/AVP;unicast;client_port=5000-5001", ClientPorts(5000, 5001)),
    ("RTP/AVP/TCP;interleaved=255-256", None), ("RTP/AVP/UDP;unicast, RTP/AVP/TCP;interleaved=6-7", Interleaved(6))])
def test_transport_header(value: str, wanted: Interleaved | ClientPorts | None) -> None:
    assert parse_transport(value) == wanted


@pytest.mark.live
async def test_ffmpeg_keeps_a_short_session_alive(cache: Path) -> None:
    async with simulate(cache, session_timeout_s=3, start_at_key=True) as sim:
        code, text = await run("ffmpeg", "-v", "error", "-rtsp_transport", "tcp", "-i", sim.url(0), "-t", "5", "-c", "copy", "-f", "null", "-")
        assert (code, text) == (0, "")
        session = sim.status()["cameras"][0]["sessions"][-1]
        assert session["end_reason"] != "timeout"    # it may close the socket behind TEARDOWN before it is answered
        assert session["end_ns"] - session["start_ns"] > 4_000_000_000
