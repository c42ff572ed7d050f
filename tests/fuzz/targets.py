"""The fuzz targets: each takes any bytes, checks what must hold, and answers how it behaved, so that inputs that do something new are kept."""

import itertools
import random
import zlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import liveblock
import mutation
import volume
import webrtc
from mutation import Mutator, unpack
from rtpkit import MS, WALL
from watched import CLOCK, CODECS, Watched

from api.replay.ask import Rejected, read_ask
from api.rtspout.address import parse_address
from api.rtspout.answer import answer, refusal
from api.rtspout.fault import Fault
from api.rtspout.login import expected, parse_digest
from api.rtspout.request import BODY_MAX as REQUEST_BODY_MAX
from api.rtspout.request import HEAD_MAX as REQUEST_HEAD_MAX
from api.rtspout.request import URL_MAX as REQUEST_URL_MAX
from api.rtspout.request import Broken, Request, RequestReader
from api.rtspout.transport import choose
from recorder._ext import nal as nal_kernel
from recorder._ext.framing import Connection
from recorder._ext.rtp import EVENT_DAMAGED_STREAM
from recorder._ext.rtppack import Packer
from recorder.base.errors import SourceError
from recorder.base.media import GapCause, valid_id
from recorder.rtp import aac, h264, h265
from recorder.rtp.formats import rtp_format, sample_entry_for, split_start_codes, video_facts
from recorder.rtsp.auth import CHALLENGES_MAX, Authenticator, parse_challenges
from recorder.rtsp.message import BODY_MAX, HEADERS_MAX, NAME_MAX, VALUE_MAX, ServerRequest, build_answer, build_request, parse_message
from recorder.rtsp.sdp import FORMATS_MAX, LINES_MAX, MEDIAS_MAX, parse_sdp
from recorder.rtsp.transport import parse_transport
from recorder.rtsp.url import URL_MAX, RtspUrl, base_url, join_control, parse_url, strip_userinfo

CORPUS = Path(__file__).parent / "corpus"
SECRET = "hunter2secret"
MESSAGES_AT_ONCE = 64

Run = Callable[[bytes], Hashable]


@dataclass(frozen=True, slots=True)
class Target:
    """A parser under attack: `run` raises if something that must hold does not."""

    name: str
    run: Run
    mutate: Mutator
    tokens: Sequence[bytes] = ()

    def seeds(self) -> list[bytes]:
        """Its corpus, in the order of the names."""
        return [path.read_bytes() for path in sorted((CORPUS / self.name).iterdir())]


def dice(data: bytes) -> random.Random:
    """The choices that belong to an input (queue sizes, splits): the same input always runs alike."""
    return random.Random(zlib.crc32(data))


def rtp_target(codec: str) -> Run:
    """Packets of a pack into one track."""
    def run(data: bytes) -> Hashable:
        watched, now = Watched(codec, dice(data)), 10**9
        for wait_ms, packet in unpack(data):
            now += wait_ms * MS
            watched.track.packet(packet, now, WALL)
            watched.check()
        watched.finish()
        return watched.behaviour()

    return run


def packetiser(codec: str) -> Run:
    """Any bytes as a unit: packets are whole, bounded and in order, or it is refused and nothing has changed."""
    def run(data: bytes) -> Hashable:
        rng = dice(data)
        packet_max, lead = rng.choice([256, 1200, 1400, 65000]), rng.choice([0, 4])
        made = Packer(codec, 96, 7, sequence=65530, packet_max=packet_max, lead=lead, channel=0 if lead else -1, grain=rng.choice([1, 3, 4]))
        try:
            out, offsets = made.pack(data, 5, rng.choice([None, b"\xab\xac\0\1abcd"]))
        except ValueError:
            assert (made.sequence, made.packets, made.octets) == (65530, 0, 0)
            return "refused"
        packets = [out[a + lead:b] for a, b in itertools.pairwise(offsets)]
        assert offsets[-1] == len(out) == sum(map(len, packets)) + lead * len(packets)
        assert codec == "Opus" or all(12 < len(packet) <= packet_max for packet in packets)
        assert [int.from_bytes(packet[2:4]) for packet in packets] == [(65530 + i) & 0xFFFF for i in range(len(packets))]
        assert not lead or all(out[a:a + 4] == b"$\0" + (b - a - 4).to_bytes(2) for a, b in itertools.pairwise(offsets))
        return packet_max, len(packets).bit_length(), len({packet[12] for packet in packets}), made.octets.bit_length()

    return run


def framing(data: bytes) -> Hashable:
    """A connection's bytes, in splits, into tracks of all codecs; messages come out whole and bounded."""
    rng = dice(data)
    connection, tracks = Connection(), [Watched(codec, rng) for codec in CODECS]
    for i, watched in enumerate(tracks):
        connection.bind(2 * i, 2 * i + 1, watched.track)
    at, events, messages = 0, 0, 0
    while at < len(data):
        piece = data[at:at + rng.choice([1, 3, 17, 500, 5000, 70000])]
        got = connection.feed(piece, len(piece), 10**9 + at * 1000, WALL)
        at += len(piece)
        events |= got
        for watched in tracks:
            watched.check()
        taken = connection.take_messages()
        assert len(taken) <= MESSAGES_AT_ONCE
        for message in taken:
            rtsp_message(message)
        messages += len(taken)
        if got & EVENT_DAMAGED_STREAM:
            assert connection.error
            assert connection.feed(b"$\0\0\x01x", 5, 10**9, WALL) & ~EVENT_DAMAGED_STREAM == 0
            break
    stats = connection.stats()
    assert stats["skipped_bytes"] <= stats["bytes"]
    assert all(value >= 0 for value in stats.values())
    numbers = (messages, stats["resyncs"], stats["unbound_frames"], sum(watched.taken for watched in tracks))
    return (events, *(number.bit_length() for number in numbers))


def refused(error: SourceError, secret: str = SECRET) -> str:
    """What an error must be: one line of bounded length with a cause, and no secret."""
    text = str(error)
    assert "\n" not in text
    assert "\r" not in text
    assert len(text) < 500
    assert secret not in text
    assert error.cause in set(GapCause)
    assert error.retry_s > 0
    return f"refused {GapCause(error.cause).word}"


def rtsp_message(data: bytes) -> Hashable:
    """One message: limits hold; whatever it says, our answer and our next request are well formed."""
    try:
        found = parse_message(data)
    except SourceError as error:
        return refused(error)
    assert len(found.headers.fields) <= HEADERS_MAX
    assert all(len(name) <= NAME_MAX and len(value) <= VALUE_MAX and name == name.strip().lower() for name, value in found.headers.fields)
    assert len(found.body) <= BODY_MAX
    if isinstance(found, ServerRequest):
        well_formed(build_answer(found), 2)
        return "request", found.method[:12], len(found.headers.fields).bit_length(), bool(found.body)
    assert 0 <= found.status <= 9999
    assert found.cseq is None or found.cseq >= 0
    well_formed(build_request("PLAY", "rtsp://h/x", 1, [("Session", found.headers.get("session")), ("X", found.reason)]), 4)
    return "response", found.status // 100, found.cseq is None, len(found.headers.fields).bit_length(), bool(found.body)


def well_formed(raw: bytes, headers_max: int) -> None:
    """One head, no line smuggled in, no control characters but line ends."""
    head, end, body = raw.partition(b"\r\n\r\n")
    assert end
    assert not body
    lines = head.split(b"\r\n")
    assert len(lines) <= 1 + headers_max
    assert not any(byte < 32 or byte == 127 for line in lines for byte in line)


def rtsp_request(data: bytes) -> Hashable:
    """What a client of our RTSP server sends, in splits: limits hold, and whatever it says, our answer is well formed."""
    rng, reader, at, told = dice(data), RequestReader(), 0, []
    while at < len(data):
        piece = data[at:at + rng.choice([1, 3, 17, 500, 5000, 70000])]
        at += len(piece)
        reader.feed(piece)
        while (found := reader.take()) is not None:
            told.append(rtsp_answer(found))
        assert reader.waiting <= REQUEST_HEAD_MAX + REQUEST_BODY_MAX
    assert not told or not reader.broken or reader.take() is None
    return tuple(told[:6]), reader.packets.bit_length(), reader.idle


def rtsp_answer(found: Request | Broken) -> Hashable:
    """One request through what is read of it before it is known who asks."""
    if isinstance(found, Broken):
        well_formed(refusal(found.cseq, found.fault).partition(b"\r\n\r\n")[0] + b"\r\n\r\n", 6)
        return found.fault.status
    assert len(found.url) <= REQUEST_URL_MAX
    assert len(found.headers) <= HEADERS_MAX
    told: list[Hashable] = [found.method[:12], bool(found.body)]
    try:
        named = parse_address(found.url, frozenset({"replay"}))
        assert valid_id(named.camera)
        assert "@" not in named.base
        told.append((named.kind, named.sub, named.track != ""))
    except Fault as fault:
        told.append(fault.status)
    try:
        offer = choose(found.headers.get("transport", ""), "10.0.0.9")
        assert offer.pair is None or all(0 <= number < 65536 for number in offer.pair)
        told.append((offer.udp, offer.pair is None))
    except Fault as fault:
        assert fault.status == 461
    answered = parse_digest(found.headers.get("authorization", "").removeprefix("Digest "))
    if answered is not None:
        assert len(expected(answered, found.method, bytes(32 if answered.sha256 else 16))) == (64 if answered.sha256 else 32)
        told.append((answered.sha256, answered.qop))
    headers = [("Session", found.headers.get("session", "")), ("RTP-Info", found.url)]
    well_formed(answer(found.cseq, 200, headers), 5)
    return tuple(told)


def sdp(data: bytes) -> Hashable:
    """A description: limits hold, every medium either has a format or says why not, formats fit the depacketisers."""
    try:
        found = parse_sdp(data)
    except SourceError as error:
        return refused(error)
    assert len(found.medias) <= MEDIAS_MAX
    assert len(found.lost) <= LINES_MAX
    kinds = []
    for media in found.medias:
        assert 1 <= len(media.formats) <= FORMATS_MAX
        assert all(0 <= f.payload_type < 128 and f.clock_rate >= 0 and len(f.fmtp) <= 64 for f in media.formats)
        join_control("rtsp://host/base", media.control)
        if media.kind not in {"video", "audio"}:
            continue
        try:
            made = rtp_format(media)
        except SourceError as error:
            kinds.append(refused(error))
            continue
        assert made.clock_rate > 0
        assert all(0 <= p < 128 for p in made.payload_types)
        sample_entry_for(made, made.sets)
        kinds.append(f"{made.codec} {len(made.sets)} {made.channels}")
    return tuple(kinds[:6]), len(found.lost).bit_length()


def url(data: bytes) -> Hashable:
    """An address: what was parsed is what is sent, and the password shows nowhere."""
    text = data.decode("utf-8", "replace")
    base = base_url(RtspUrl("10.0.0.7", 554, "10.0.0.7", "/a"), text)
    assert base.startswith("rtsp://10.0.0.7")
    assert len(text) > URL_MAX - 40 or any(c < " " or c == "\x7f" for c in base) or parse_url(base)[0].host == "10.0.0.7"
    join_control(base, text)
    strip_userinfo(text)
    try:
        found, user = parse_url(text)
    except SourceError as error:
        return refused(error, f"{SECRET}@")       # before the address it is a scheme, and may be named
    assert 0 < found.port < 65536
    assert found.host
    assert not any(c <= " " or c == "\x7f" for c in found.text)
    assert "@" not in found.authority
    assert "hunter2" not in repr(user)
    again, none = parse_url(found.text)
    assert (again.host, again.port) == (found.host, found.port)
    return found.port == 554, user is None, ":" in found.host, found.path[:1], none is None


def auth(data: bytes) -> Hashable:
    """Challenges, a header a line: the header that we answer is one line without our password."""
    values = data.decode("utf-8", "replace").split("\n")[:8]
    found = parse_challenges(values)
    assert len(found) <= CHALLENGES_MAX
    keeper = Authenticator("viewer", SECRET, basic_allowed=False, entropy=bytes)
    try:
        taken = keeper.accept(values)
    except SourceError as error:
        return refused(error), tuple(c.scheme for c in found[:4])
    header = keeper.header("DESCRIBE", "rtsp://h/x")
    assert header is not None
    assert header.startswith("Digest ")
    assert SECRET not in header
    well_formed(build_request("DESCRIBE", "rtsp://h/x", 2, [("Authorization", header)]), 3)
    return taken.algorithm, taken.qop, taken.opaque is None, taken.stale, len(found)


def transport(data: bytes) -> Hashable:
    """A Transport header: channels are two bytes, an ssrc 32 bits, or not there."""
    found = parse_transport(data.decode("utf-8", "replace"))
    channels, ssrc = found.channels, found.ssrc
    assert channels is None or all(0 <= channel <= 255 for channel in channels)
    assert ssrc is None or 0 <= ssrc < 1 << 32
    return channels is None, ssrc is None, found.udp


def replay_play(data: bytes) -> Hashable:
    """The headers of a PLAY of a replay: refused with a status of RTSP, or values that nothing behind them can choke on."""
    lines = data.decode("utf-8", "replace").split("\n")[:16]
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    try:
        found = read_ask(headers.get)
    except Rejected as error:
        assert error.status in {400, 456, 457, 501}
        assert "\n" not in str(error)
        assert len(str(error)) < 300
        return error.status
    times = [time_ns for time_ns in (found.start_ns, found.end_ns) if time_ns is not None]
    assert all(0 <= time_ns < 1 << 63 for time_ns in times)
    assert 0.1 <= abs(found.scale) <= 64
    assert found.paced or abs(found.scale) == 1
    assert 0 <= found.interval_ns <= 86_400 * 10**9
    assert len(times) < 2 or (times[0] < times[1]) != found.backwards
    return len(times), found.npt, found.now, found.backwards, found.paced, found.frames, found.immediate


def parameter_sets(data: bytes) -> Hashable:
    """NALs with start codes between them: kernels and readers agree that nothing happens beyond what they could read."""
    nals = split_start_codes(data)
    told: list[Hashable] = []
    for nal in nals[:40]:
        for is_h265 in (False, True):
            told.append(len(nal_kernel.describe(nal, is_h265)))
        sizes = [h264.parse_sps(nal), h265.parse_sps(nal)]
        assert all(0 <= s.width <= 16384 and 0 <= s.height <= 16384 and -1 <= s.reorder_depth <= 16 and 0 <= s.fps < 1e6 for s in sizes)
        told.append(tuple((s.width.bit_length(), s.reorder_depth, s.fps > 0) for s in sizes))
        aac.parse_config(nal)
    for codec, module in (("h264", h264), ("h265", h265)):
        record = module.configuration(nals)
        assert len(record) <= len(data) + 3 * len(nals) + 64
        told.append((bool(record), video_facts(codec, nals).width.bit_length()))
    nal_kernel.start_code(data)
    return tuple(told[-12:])


WORDS = [
    b"\r\n", b"\r\n\r\n", b"RTSP/1.0 200 OK\r\n", b"Content-Length: 5\r\n", b"Content-Length: 99999999\r\n", b"CSeq: 1\r\n",
    b"Session: 1;timeout=5\r\n", b"$\0\0\x04abcd", b"OPTIONS rtsp://h/ RTSP/1.0\r\n", b"\0", b"\x80", b": ", b"\n"
]
REQUESTS = [
    b"\r\n", b"\r\n\r\n", b"PLAY rtsp://h/yard RTSP/1.0\r\nCSeq: 3\r\n\r\n", b"Content-Length: 5\r\n",
    b"Transport: RTP/AVP;client_port=5000-5001\r\n", b"$\1\0\x04abcd", b"/track-main", b"/sub", b"/replay/",
    b'Authorization: Digest username="token", realm="watchroom", nonce="1", uri="/", response="x"\r\n', b", qop=auth",
    b", algorithm=SHA-256", b"user:word@", b"RTSP/2.0", b"CSeq: 99999999999\r\n",
]
LINES = [
    b"m=video 0 RTP/AVP 96\n", b"a=rtpmap:96 H264/90000\n", b"a=rtpmap:97 mpeg4-generic/16000/1\n", b"a=fmtp:96 ", b"a=control:*\n",
    b"=", b";", b"/", b"a=fmtp:97 config=1408;sizelength=13\n", b"sprop-parameter-sets=Z0LAHtoCgPaEAAADAAQAAAMAyDxYuSA=,aM48gA==",
    b"96", b"4294967296", b"m=audio 0 RTP/AVP 8\n"
]
ADDRESS = [
    b"rtsp://", b"@", b":", b"/", b"?", b"#", b"[::1]", b"%40", b"hunter2secret", b"127.0.0.1", b":554",
    b"rtsp://viewer:hunter2secret@", b"..", b"\\"
]
CHALLENGE = [
    b"Digest ", b"Basic ", b'realm="', b'nonce="', b"qop=\"auth\"", b"algorithm=SHA-256", b"algorithm=MD5-sess", b",", b'"', b"\\",
    b"stale=true", b'opaque="",'
]
TRANSPORT = [b"RTP/AVP/TCP", b";interleaved=0-1", b";ssrc=", b",", b"=", b"-", b";unicast", b"255", b"256", b"deadbeef", b";server_port=1-2"]
PLAY = [b"Range: clock=", b"Range: npt=", b"20090615T114900.440Z", b"-", b"now", b"Scale: -1.0", b"Rate-Control: no", b"Frames: intra/",
        b"Immediate: yes", b"99999999T999999Z", b"1e9", b"=", b"\n", b";", b"9" * 30, "\u0665".encode()]
NALS = [b"\0\0\1", b"\0\0\0\1", b"\0\0\3", b"\x67\x64\0\x1f", b"\x68", b"\x42\1", b"\x40\1", b"\x44\1", b"\xff\xff\xff", b"\0\0\0"]
PAYLOADS = [
    b"\x7c\x85", b"\x7c\x05", b"\x7c\x45", b"\x78\0\2", b"\x62\1\x93", b"\x62\1\x53", b"\x60\1\0\3", b"\0\x10", b"\0\0\1", b"\x67",
    b"\x68", b"\x65"
]
UNITS = [b"\0\0\0\1", b"\0\0\0\4\x67abc", b"\0\0\0\5\x40\1abc", b"\0\0\5\xdc", b"\xff\xff\xff\xff", bytes(4)]
SEGMENTS = [
    b"\xff\xdb\0\x43\0", b"\xff\xc0\0\x11\x08", b"\xff\xc4\0\x1f", b"\xff\xdd\0\4\0\1", b"\xff\xff", b"\xff\xe0\0\2", b"\xff\xd9",
    b"\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0\x3f\0",
]
STUN = [b"\x00\x06", b"\x00\x08\x00\x14", b"\x80\x28\x00\x04", b"\x21\x12\xa4\x42", b"\x00\x25\x00\x00", b"\x00\x20\x00\x08"]
OFFER = [
    b"m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n", b"a=rtpmap:96 H264/90000\r\n", b"a=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\n",
    b"a=mid:0\r\n", b"a=group:BUNDLE 0 1\r\n", b"a=ice-ufrag:abcd\r\n", b"a=setup:actpass\r\n", b"a=recvonly\r\n", b"\0", b"\r", b"128", b"=",
    b":", b";",
]
FEEDBACK = [b"\x81\xcd\0\3", b"\x81\xce\0\2", b"\x84\xce\0\4", b"\x8f\xce\0\5", b"REMB", b"\x81\xc9\0\7", b"\xff\xff\xff\xff", b"\x81\xcb\0\1"]
RECORDS = [b"\x16\xfe\xfd", b"\x14\xfe\xfd", b"\x15\xfe\xfd", b"\x17\xfe\xfd", b"\x16\xfe\xff", b"\0\0\0\0", b"\xff\xff"]
RTCP = [b"\x80\xc8\0\6", b"\x81\xc9\0\7", b"\x81\xcb\0\1", b"\x81\xca\0\2", b"\x80\xcc\0\2"]

TARGETS = {target.name: target for target in (
    *(Target(f"rtp-{codec}", rtp_target(codec), mutation.packets, PAYLOADS) for codec in CLOCK),
    *(Target(f"pack-{codec}", packetiser(codec), mutation.bytes_of, tokens) for codec, tokens in (
        ("avc1", UNITS), ("hvc1", UNITS), ("jpeg", SEGMENTS), ("mp4a", ()), ("Opus", ()), ("twos", ()), ("g726", ()), ("metx", ()))),
    Target("rtcp", rtp_target("h264"), mutation.packets, RTCP),
    Target("framing", framing, mutation.frames, WORDS),
    Target("rtsp-message", rtsp_message, mutation.lines, WORDS),
    Target("rtsp-request", rtsp_request, mutation.lines, REQUESTS),
    Target("sdp", sdp, mutation.lines, LINES),
    Target("url", url, mutation.bytes_of, ADDRESS),
    Target("auth", auth, mutation.lines, CHALLENGE),
    Target("transport", transport, mutation.bytes_of, TRANSPORT),
    Target("replay-play", replay_play, mutation.lines, PLAY),
    Target("parameter-sets", parameter_sets, mutation.bytes_of, NALS),
    Target("stun", webrtc.message, mutation.bytes_of, STUN),
    Target("webrtc-offer", webrtc.offer, mutation.lines, OFFER),
    Target("rtcp-feedback", webrtc.feedback, mutation.bytes_of, FEEDBACK),
    Target("webrtc-port", webrtc.port, mutation.packets, RECORDS),
    Target("chunk", volume.chunk, mutation.bytes_of),
    Target("journal", volume.journal, mutation.packets),
    Target("ring", volume.ring, mutation.bytes_of),
    Target("track-log", volume.log, mutation.bytes_of),
    Target("live-block", liveblock.block, mutation.bytes_of),
)}
