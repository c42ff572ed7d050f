"""Packets of libav and back: what is packaged comes out of the worker's kernels as it went in, and no packaging, however broken, does harm."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder._ext.auqueue import AuQueue
from recorder._ext.framing import Connection
from recorder._ext.rtp import RtpTrack
from recorder.base.media import AuFlag
from recorder.rtp import h264
from recorder.rtp.formats import rtp_format
from recorder.rtsp.sdp import parse_sdp
from recorder.sources.describe import Medium, describe
from recorder.sources.packetise import AAC_MAX, PAYLOAD_MAX, Packetiser
from recorder.sources.units import Adts, adts_header, annexb_nals, length_nals, packaging, without_adts

SETS = (bytes.fromhex("674d400deca0a0fd80880000030008000003019078a14cb0"), bytes.fromhex("68ce0fc8"))
SETS_265 = (bytes.fromhex("40010c01ffff01600000030090000003000003003c9598 09".replace(" ", "")),
            bytes.fromhex("420101016000000300900000030000030 03ca00a080f165959a4932bc05a020000030002000003003210".replace(" ", "")),
            bytes.fromhex("4401c172b46240"))


def slices(codec: str) -> st.SearchStrategy[bytes]:
    head = b"\x65\x88\x80" if codec == "h264" else b"\x26\x01\xaf"
    sizes = st.sampled_from([20, 1000, PAYLOAD_MAX - 2, PAYLOAD_MAX, PAYLOAD_MAX + 1, 3 * PAYLOAD_MAX, 200_000])
    return sizes.map(lambda size: head + b"\x5a" * size)


def through(codec: str, pictures: Sequence[bytes], *, damaged: int = -1) -> list[tuple[dict[str, int], bytes]]:
    """The AUs of pictures that went the whole way."""
    medium = Medium("video", codec, 90_000, sets=SETS if codec == "h264" else SETS_265)
    description = parse_sdp(describe([medium]))
    chosen = rtp_format(description.medias[0])
    track = RtpTrack(AuQueue(1 << 22, 64), codec, 90_000, chosen.payload_types, 1, parameter_sets=chosen.sets, provisional=False)
    connection, packets = Connection(), Packetiser(codec, 0, chosen.payload_types[0])
    connection.bind(0, 1, track)
    for at, nal in enumerate(pictures):
        data = b"".join(packets.video([nal], 3600 * at, damaged=at == damaged))
        connection.feed(data, len(data), 1 + at * 40_000_000, 0)
    track.flush()
    return [(dict(au), data) for au, data in track.queue.take()]  # type: ignore[arg-type]


@pytest.mark.parametrize("codec", ["h264", "h265"])
@given(data=st.data())
def test_pictures_of_any_size_come_out_as_they_went_in(codec: str, data: st.DataObject) -> None:
    pictures = data.draw(st.lists(slices(codec), min_size=1, max_size=5))
    found = through(codec, pictures)
    assert [au for _, au in found] == [len(nal).to_bytes(4, "big") + nal for nal in pictures]
    assert [(au["pts"], au["flags"]) for au, _ in found] == [(3600 * at, AuFlag.KEY) for at in range(len(pictures))]


@pytest.mark.parametrize("size", [1000, 2 * PAYLOAD_MAX])
def test_picture_that_libav_calls_corrupt_is_marked_and_kept_whole(size: int) -> None:
    key, other = b"\x65\x88\x80" + b"\x5a" * 1000, b"\x41\x9a" + b"\x5a" * size
    found = through("h264", [key, other, other, other, key, other], damaged=2)
    damaged = [bool(au["flags"] & AuFlag.DAMAGED) for au, _ in found]
    assert damaged == [False, False, True, True, False, False]
    assert found[2][1][4:] == other


def test_audio_comes_out_as_it_went_in() -> None:
    config = bytes.fromhex("1190")
    chosen = rtp_format(parse_sdp(describe([Medium("audio", "aac", 48_000, 2, config=config)])).medias[0])
    assert chosen.config is not None and (chosen.clock_rate, chosen.config.config) == (48_000, config)
    track = RtpTrack(AuQueue(1 << 16, 64), "aac", 48_000, chosen.payload_types, 1)
    packets = Packetiser("aac", 2, chosen.payload_types[0])
    connection = Connection()
    connection.bind(2, 3, track)
    units = [bytes([n]) * size for n, size in enumerate((1, 300, AAC_MAX, AAC_MAX + 1, 5))]
    data = b"".join(frame for at, unit in enumerate(units) for frame in packets.audio(unit, 1024 * at))
    connection.feed(data, len(data), 1, 0)
    assert [au for _, au in track.queue.take()] == [*units[:3], units[4]], "one that is too long is missing, and counted as lost"
    assert track.stats()["lost"] == 1


def test_reports_put_sound_and_picture_on_one_clock() -> None:
    made = []
    for codec, rate in (("pcma", 16_000), ("pcmu", 8000)):
        track = RtpTrack(AuQueue(1 << 16, 64), codec, rate, [96], 1)
        connection, packets = Connection(), Packetiser(codec, 0, 96)
        connection.bind(0, 1, track)
        data = packets.audio(b"x" * 160, 5 * rate)[0] + packets.report(5.0, 5 * rate)
        connection.feed(data, len(data), 1, 0)
        report = track.sender_report
        made.append(report and report["ntp"])
    assert made[0] is not None and made[0] == made[1]


def test_records_of_mp4_and_flv_give_their_sets() -> None:
    record = h264.configuration(SETS)
    found = packaging("h264", record)
    assert (found.length_bytes, found.sets) == (4, SETS)
    assert packaging("h264", b"".join(b"\0\0\0\1" + nal for nal in SETS)).sets == SETS


@given(st.binary(max_size=200), st.sampled_from(["h264", "h265"]), st.booleans())
def test_no_record_and_no_packet_does_harm(data: bytes, codec: str, record: bool) -> None:
    how = packaging(codec, b"\1" + data if record else data)
    for nals in (how.nals(data), annexb_nals(data), length_nals(data, 1), length_nals(data, 4)):
        assert all(nals) and sum(map(len, nals)) <= len(data)
    header = adts_header(data)
    if header is not None:
        assert len(without_adts(data)) <= len(data) - 7 and len(header.config) == 2


@given(st.lists(st.binary(min_size=1, max_size=40).map(lambda b: b.replace(b"\0", b"\1")), max_size=8), st.sampled_from([1, 2, 4]))
def test_both_packagings_hold_the_same_units(units: list[bytes], size: int) -> None:
    assert annexb_nals(b"".join(b"\0\0\0\1" + unit for unit in units)) == units
    assert length_nals(b"".join(len(unit).to_bytes(size, "big") + unit for unit in units), size) == units


@pytest.mark.parametrize(("head", "found"), [("fff150800000fc", Adts(2, 4, 2)), ("fff950400000fc", Adts(2, 4, 1)), ("fff1f4800000fc", None),
                                             ("00f150800000fc", None), ("fff15080", None), ("fff150000000fc", None)])
def test_adts_header(head: str, found: Adts | None) -> None:
    assert adts_header(bytes.fromhex(head)) == found
