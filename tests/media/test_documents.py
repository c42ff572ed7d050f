"""`/metadata`: the documents of a range come back as they were sent."""

import base64
import gzip

import pytest

from recorder.base.media import NS, SampleEntry, TrackKind

XML = '<?xml version="1.0" encoding="UTF-8"?><tt:MetadataStream>ü{}</tt:MetadataStream>'


def stream(maker, encoding: str, documents: list[bytes]):
    """Two documents a second."""
    aus = tuple(maker.Au(data, i * 45_000, i * 45_000, True) for i, data in enumerate(documents))
    return maker.Stream(SampleEntry("metx", encoding.encode(), 90_000), aus, 45_000)


@pytest.fixture
async def yard(maker, volume, tmp_path):
    """60 s of documents."""
    track = volume.track(1, "metadata", TrackKind.METADATA, start_ns=maker.T0)
    maker.write(track, stream(maker, "vnd.onvif.metadata", [XML.format(i).encode() for i in range(120)]))
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as api:
        api.track = track
        yield api


async def ask(api, maker, start: float, end: float, **more):
    answer, _ = await api.get("metadata", start=maker.T0 + round(start * NS), end=maker.T0 + round(end * NS), **more)
    assert answer.status == 200
    return await answer.json()


async def test_the_documents_of_a_range_come_in_order_with_their_times(yard, maker):
    found = await ask(yard, maker, 10, 12.5)
    assert [item["text"] for item in found["items"]] == [XML.format(i) for i in range(20, 25)]
    assert [item["time_ns"] for item in found["items"]] == [maker.T0 + i * NS // 2 for i in range(20, 25)]
    assert {(item["encoding"], item["base64"]) for item in found["items"]} == {("vnd.onvif.metadata", None)}
    assert found["next"] is None


async def test_a_long_range_is_read_in_parts_that_miss_nothing(yard, maker):
    texts, start = [], maker.T0
    while True:
        answer, _ = await yard.get("metadata", start=start, end=maker.T0 + 60 * NS, limit=50)
        found = await answer.json()
        texts += [item["text"] for item in found["items"]]
        if found["next"] is None:
            break
        start = found["next"]
    assert texts == [XML.format(i) for i in range(120)]


async def test_where_nothing_was_said_the_answer_is_empty(yard, maker):
    assert (await ask(yard, maker, 65, 69))["items"] == []
    assert (await ask(yard, maker, -9, -1))["items"] == []


async def test_a_camera_without_the_track_is_a_404(maker, volume, tmp_path):
    async with maker.Api(volume, tmp_path, maker.T0) as api:
        answer, _ = await api.get("metadata", start=0, end=NS)
        assert answer.status == 404


async def test_compressed_and_broken_documents_come_as_base64(maker, volume, tmp_path):
    track = volume.track(1, "metadata", TrackKind.METADATA, start_ns=maker.T0)
    packed = gzip.compress(b"<a/>")
    maker.write(track, stream(maker, "vnd.onvif.metadata.gzip", [packed] * 4))
    maker.write(track, stream(maker, "vnd.onvif.metadata", [b"<a>\xff</a>"] * 4))
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as api:
        items = (await ask(api, maker, 0, 9))["items"]
    assert [(item["encoding"], base64.b64decode(item["base64"]), item["text"]) for item in items] == [
        ("vnd.onvif.metadata.gzip", packed, None)] * 4 + [("vnd.onvif.metadata", b"<a>\xff</a>", None)] * 4


async def test_an_answer_holds_about_4_mib(maker, volume, tmp_path):
    track = volume.track(1, "metadata", TrackKind.METADATA, start_ns=maker.T0)
    maker.write(track, stream(maker, "vnd.onvif.metadata", [b"<a>" + b"x" * (50 << 10) + b"</a>"] * 100))
    async with maker.Api(volume, tmp_path, maker.T0 + 70 * NS) as api:
        found = await ask(api, maker, 0, 60)
        assert len(found["items"]) == 81 and found["next"] is not None
