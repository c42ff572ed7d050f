"""One client of the simulated cameras: RTSP 1.0 requests answered in order (RFC 2326 10), media handed to the sender."""

import secrets
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from bench.camsim import sdp
from bench.camsim.auth import Guard
from bench.camsim.camera import Camera, SessionRecord, Track
from bench.camsim.datagrams import Datagrams
from bench.camsim.request import REASONS, ClientPorts, Interleaved, Request, answer, parse_transport
from bench.camsim.rtcp import bye, sender_report
from bench.camsim.sender import Connection, Stream
from bench.camsim.spec import SimSpec

METHODS = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, SET_PARAMETER, TEARDOWN"
Answer = tuple[int, dict[str, str], bytes]


def plain(status: int) -> Answer:
    """An answer without anything."""
    assert status in REASONS
    return status, {}, b""


class Client:
    """The state of one connection: at most one session, for one stream. Not thread-safe; knows no event loop."""

    def __init__(self, spec: SimSpec, cameras: dict[str, Camera], connection: Connection, next_session: Callable[[], int],
                 address: str = "127.0.0.1") -> None:
        self._spec = spec
        self._cameras = cameras
        self.connection = connection
        self._next_session = next_session
        self._guard = Guard(spec.auth)
        self._session = ""
        self._path = ""
        self._address = address
        self._channels: dict[int, int] = {}
        self._datagrams: dict[int, Datagrams] = {}
        self.streams: dict[str, Stream] = {}
        self.record: SessionRecord | None = None
        self.seen_ns = time.monotonic_ns()
        self.finished = False

    def handle(self, request: Request) -> bool:
        """Answer one request. False: the client does not read its answers."""
        self.seen_ns = time.monotonic_ns()
        status, headers, body = self._answer(request)
        playing = self._begin if status == 200 and request.method == "PLAY" and not self.streams else None
        if playing:
            headers["RTP-Info"] = self._make_streams(request.url)
        cseq = {"CSeq": request.headers["cseq"]} if "cseq" in request.headers else {}
        sent = self.connection.inject(answer("RTSP/1.0", status, {**cseq, "Server": "camsim", **headers}, body))
        if playing:
            playing()
        return sent

    def _answer(self, request: Request) -> Answer:
        if request.version != "RTSP/1.0":
            return plain(505)
        if request.method == "OPTIONS":
            return 200, {"Public": METHODS}, b""
        if not self._guard.allows(request):
            return 401, {"WWW-Authenticate": self._guard.challenges(request)}, b""
        if request.method in {"GET_PARAMETER", "SET_PARAMETER", "PLAY", "TEARDOWN"} and self._wrong_session(request):
            return plain(454)
        act = {"DESCRIBE": self._describe, "SETUP": self._setup, "PLAY": self._play, "TEARDOWN": self._teardown,
               "GET_PARAMETER": self._alive, "SET_PARAMETER": self._alive}.get(request.method)
        return act(request) if act else plain(501)

    def _wrong_session(self, request: Request) -> bool:
        given = request.headers.get("session", "").partition(";")[0].strip()
        return given != self._session if request.method in {"PLAY", "TEARDOWN"} else given not in {"", self._session}

    def _alive(self, request: Request) -> Answer:
        return 200, self._session_header() if self._session else {}, b""

    def _session_header(self) -> dict[str, str]:
        """With the timeout each time, as many cameras do."""
        return {"Session": f"{self._session};timeout={self._spec.session_timeout_s:.0f}"}

    def _find(self, url: str) -> tuple[str, tuple[Track, ...], int | None]:
        """(path, tracks, track number) that a URL names."""
        path, _, control = urlsplit(url).path.strip("/").partition("/trackID=")
        camera = self._cameras.get(path.split("/")[0])
        tracks = camera.tracks(path) if camera else ()
        return path, tracks, int(control) if control.isdecimal() and len(control) < 3 else None

    def _describe(self, request: Request) -> Answer:
        path, tracks, _ = self._find(request.url)
        if not tracks:
            return plain(404)
        base = request.url.rstrip("/") + "/"
        body = sdp.describe(path, self._spec.host, [t.clip for t in tracks])
        return 200, {"Content-Type": "application/sdp", "Content-Base": base, "Cache-Control": "no-cache"}, body

    def _setup(self, request: Request) -> Answer:
        path, tracks, number = self._find(request.url)
        if number is None and len(tracks) == 1:
            number = 0
        if number is None or number >= len(tracks):
            return plain(459 if tracks and number is None else 404)
        if self.streams or self._path not in {"", path}:
            return plain(455)
        if self._session and request.headers.get("session", self._session).partition(";")[0].strip() != self._session:
            return plain(454)
        transport = parse_transport(request.headers.get("transport", ""), self._spec.transports)
        said = self._transport(transport, number) if transport else None
        if said is None:
            return plain(461)
        self._session = self._session or secrets.token_hex(8)
        self._path = path
        return 200, {"Transport": f"{said};ssrc={self._ssrc(number):08X};mode=\"PLAY\"", **self._session_header()}, b""

    def _transport(self, wanted: Interleaved | ClientPorts, number: int) -> str | None:
        """Make the track's way to the client and describe it; None where that cannot be."""
        if isinstance(wanted, Interleaved):
            channel = self._channel(wanted, number)
            if channel is None:
                return None
            self._channels[number] = channel
            return f"RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}"
        if number in self._datagrams:
            self._datagrams.pop(number).close()
        try:
            ours = self._datagrams[number] = Datagrams(self._spec.host, self._address, (wanted.rtp, wanted.rtcp))
        except OSError:
            return None
        self._channels[number] = -1
        return f"RTP/AVP;unicast;client_port={wanted.rtp}-{wanted.rtcp};server_port={ours.ports[0]}-{ours.ports[1]}"

    def _channel(self, transport: Interleaved, number: int) -> int | None:
        """The track's pair of channels; None where another track has it."""
        wanted = 2 * number if transport.channel is None else transport.channel
        taken = {c + i for n, c in self._channels.items() if n != number and c >= 0 for i in (-1, 0, 1)}
        return None if wanted in taken else wanted

    def _ssrc(self, number: int) -> int:
        return int(self._session[:8], 16) ^ number

    def _play(self, request: Request) -> Answer:
        if not self._channels or self._find(request.url)[0] != self._path:
            return plain(455 if not self._channels else 404)
        return 200, {**self._session_header(), "Range": "npt=now-"}, b""

    def _make_streams(self, url: str) -> str:
        """Create the streams, not yet sent; returns RTP-Info (RFC 2326 12.33)."""
        camera, now = self._cameras[self._path.split("/")[0]], time.monotonic_ns()
        base, info = url.rstrip("/"), []
        for number, channel in sorted(self._channels.items()):
            track = camera.tracks(self._path)[number]
            random = secrets.randbits(48)
            udp = self._datagrams[number].rtp.fileno() if number in self._datagrams else -1
            stream = Stream(track.media, camera.base_ns, now, max(channel, 0), self._ssrc(number), random & 0xFFFF, random >> 16,
                            self._spec.start_at_key, udp=udp, segments=self._spec.segments)
            self.streams[track.name] = stream
            if self._spec.start_at_key:
                now = max(now, stream.first_due_ns - 1)   # sound begins with the picture
            info.append(f"url={base}/trackID={number};seq={stream.sequence};rtptime={stream.timestamp}")
        return ",".join(info)

    def _begin(self) -> None:
        camera = self._cameras[self._path.split("/")[0]]
        streams = dict(self.streams)
        self.record = SessionRecord(self._next_session(), self._path, time.time_ns(),
                                    lambda: {name: stream.counters() for name, stream in streams.items()})
        camera.sessions.append(self.record)
        del camera.sessions[:-64]
        self.report()   # before the first packet, so that a player aligns sound and pictures from the start
        for stream in self.streams.values():
            self.connection.add(stream)

    def _teardown(self, request: Request) -> Answer:
        self.end("teardown")
        self.finished = True
        return 200, self._session_header(), b""

    def report(self) -> None:
        """Send a sender report for each stream (RFC 3550 6.4.1); one that finds no room is left out."""
        wall_ns, mono_ns = time.time_ns(), time.monotonic_ns()
        for (number, channel), stream in zip(sorted(self._channels.items()), self.streams.values(), strict=False):
            counters = stream.counters()
            rtcp = sender_report(self._ssrc(number), wall_ns, stream.timestamp_at(mono_ns), counters["packets"], counters["octets"])
            self._control(number, channel, rtcp)

    def _control(self, number: int, channel: int, rtcp: bytes) -> None:
        if number in self._datagrams:
            self._datagrams[number].control(rtcp)
        else:
            self.connection.inject(b"$" + bytes([channel + 1]) + len(rtcp).to_bytes(2, "big") + rtcp)

    def timed_out(self, now_ns: int) -> bool:
        """True if the session has seen no request for its timeout."""
        return bool(self._session) and now_ns - self.seen_ns > self._spec.session_timeout_s * 1e9

    def end(self, reason: str) -> None:
        """Send no more media; the first reason stays. A session that is torn down says goodbye to each stream (RFC 3550 6.6)."""
        self.connection.clear()
        if self.record and self.record.end_ns is None:
            self.record.end_ns, self.record.end_reason = time.time_ns(), reason
            for number, channel in self._channels.items():
                self._control(number, channel, bye(self._ssrc(number)))
        for datagrams in self._datagrams.values():
            datagrams.close()
        self._datagrams.clear()
