"""Native masters: whole rows as they lie on the tapes, in an MP4 that shows exactly what the clip of the range shows."""

from contextlib import closing

import av
import pytest

from api.clipplan import ClipQuery, plan, shoot
from api.disks import Disks
from api.exports.job import Item
from api.exports.master import master
from api.exports.plan import file_of
from api.tapebytes import BLA_N_LP, CRA
from recorder.base.media import NS, TrackKind
from storage.store import TapeStore

FRAME_NS = NS // 25


async def whole(opened) -> bytes:
    try:
        return await opened.read()
    finally:
        opened.close()


@pytest.mark.parametrize("content", [{"bframes": 2}, {"codec": "hevc", "bframes": 2, "open_gop": True}])
async def test_a_master_plays_what_the_clip_plays_and_holds_the_rows_as_they_are(content, maker, volume, tmp_path, save):
    main = volume.track(1, "main", start_ns=maker.T0)
    sound = volume.track(1, "audio", TrackKind.AUDIO, clock_rate=48_000, start_ns=maker.T0)
    maker.write(main, maker.video(frames=150, **content))
    maker.write(sound, maker.audio(6.0))
    start_ns, end_ns = maker.T0 + 40 * FRAME_NS, maker.T0 + 117 * FRAME_NS
    store = TapeStore([volume.path], volume.live_dir)
    try:
        query = ClipQuery(1, "main", start_ns, end_ns)
        made = master(store, Item(1, "yard", "main", start_ns, end_ns), shoot(store, query, maker.T0 + 60 * NS))
        with closing(Disks()) as disks:
            body = await whole(made.open(store, disks))
            clip = await whole(plan(store, query, maker.T0 + 60 * NS).open(store, disks))
        assert len(body) == made.size
        shown, wanted = maker.decode(save(body, "master.mp4")), maker.decode(save(clip, "clip.mp4"))
        assert shown.messages == "" and shown.numbers == wanted.numbers and shown.times == wanted.times
        assert (shown.sound == wanted.sound).all() and len(shown.sound)
        lines = [line.split(",") for line in made.rows.decode().splitlines()[1:]]
        assert {line[2] for line in lines} == {"main", "audio"}
        for at, size, track, row, *_ in lines:
            assert body[int(at):int(at) + int(size)] == tape_bytes(store, track, int(row))
        assert sum(int(line[1]) for line in lines) == len(body) - int(lines[0][0])       # nothing else is in it
    finally:
        store.close()


async def test_exports_have_the_cameras_bytes_where_a_clip_renames_a_picture(maker, volume, save):
    """H.265 that goes on after a break with a CRA picture: a clip names it BLA. An export is that file with the camera's byte."""
    main, content = volume.track(1, "main", start_ns=maker.T0), maker.video(codec="hevc", frames=150, bframes=3, open_gop=True, gop=27)
    maker.write(main, content, stop=100)
    main.gap(1.0)
    main.session = 2
    maker.write(main, content, first=[n for n, au in enumerate(content.aus) if au.key][3])
    store = TapeStore([volume.path], volume.live_dir)
    try:
        query = ClipQuery(1, "main", maker.T0, maker.T0 + 20 * NS)
        clip = plan(store, query, maker.T0 + 60 * NS)
        item = Item(1, "yard", "main", query.start_ns, query.end_ns)
        with closing(Disks()) as disks:
            shown = await whole(clip.open(store, disks))
            exported = await whole(file_of(clip, {}).open(store, disks))
            proof = await whole(master(store, item, shoot(store, query, maker.T0 + 60 * NS)).open(store, disks))
        renamed = [(a >> 1 & 63, b >> 1 & 63) for a, b in zip(shown, exported, strict=True) if a != b]
        assert renamed == [(BLA_N_LP, CRA)]
        media = [content.aus[n].data for n in range(100)]
        assert b"".join(media) in proof
        with av.open(str(save(exported))) as file:
            sent = [bytes(packet) for packet in file.demux(video=0) if packet.size]
        assert set(sent) <= {au.data for au in content.aus}
    finally:
        store.close()


def tape_bytes(store: TapeStore, track: str, number: int) -> bytes:
    reader = store.track(1, track)
    row = reader.rows_from(number, 1).rows[0]
    data = bytearray(int(row["bytes"]))
    with reader.open_chunk(reader.chunk_of(int(row["offset"]))) as lease:
        assert lease.read(data, int(row["offset"])) == len(data)
    return bytes(data)
