"""zarr.json as we write it is what zarr-python writes."""

import json
import os

import pytest
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

from recorder.base.errors import FormatError
from recorder.base.media import TrackKind
from storage import zarrmeta
from storage.layout import class_of, track_path
from tests.storage_read.reference_writer import RefVolume


@pytest.mark.parametrize("kind", list(TrackKind))
def test_zarr_itself_makes_the_same_array_and_group(volume: RefVolume, tmp_path, kind: TrackKind):
    zarrmeta.create_track(volume.fd, 12, "main", kind)
    size = class_of(kind)
    codec = ShardingCodec(chunk_shape=(size.inner_bytes,), codecs=[BytesCodec()], index_codecs=[BytesCodec(), Crc32cCodec()],
                          index_location="start")
    root = zarr.create_group(tmp_path / "theirs", zarr_format=3)
    root.create_array("a", shape=(zarrmeta.SHAPE_STEP * size.tape_bytes,), chunks=(size.tape_bytes,), dtype="u1", fill_value=0,
                      compressors=None, filters=None, serializer=codec,
                      attributes={"watchroom": {"camera": 12, "track": "main", "kind": kind.value}})
    for ours, theirs in ((volume.path / track_path(12, "main"), tmp_path / "theirs/a"), (volume.path / "tape.zarr", tmp_path / "theirs"),
                         (volume.path / "tape.zarr/cam-12", tmp_path / "theirs")):
        assert json.loads((ours / "zarr.json").read_bytes()) == json.loads((theirs / "zarr.json").read_bytes())


def test_zarr_walks_the_tree_without_a_warning(volume: RefVolume):
    for camera, track in ((1, "main"), (1, "audio"), (20, "main")):
        zarrmeta.create_track(volume.fd, camera, track, TrackKind.AUDIO)
    root = zarr.open_group(volume.path / "tape.zarr", mode="r")
    assert sorted(dict(root.members(max_depth=None))) == ["cam-1", "cam-1/audio", "cam-1/main", "cam-20", "cam-20/main"]


def test_shape_runs_ahead_in_whole_steps(volume: RefVolume):
    zarrmeta.create_track(volume.fd, 1, "main", TrackKind.AUDIO)
    assert zarrmeta.read_track(volume.fd, 1, "main").chunks == 1024
    assert not zarrmeta.extend_shape(volume.fd, 1, "main", 1024)
    assert zarrmeta.extend_shape(volume.fd, 1, "main", 1025)
    assert zarrmeta.read_track(volume.fd, 1, "main").chunks == 2048
    assert os.listdir(volume.path / track_path(1, "main")) in (["zarr.json", "c"], ["c", "zarr.json"])


def test_a_track_is_made_once_and_keeps_its_kind(volume: RefVolume):
    zarrmeta.create_track(volume.fd, 1, "main", TrackKind.AUDIO)
    zarrmeta.extend_shape(volume.fd, 1, "main", 5000)
    zarrmeta.create_track(volume.fd, 1, "main", TrackKind.AUDIO)
    assert zarrmeta.read_track(volume.fd, 1, "main").chunks == 5120
    with pytest.raises(FormatError, match="holds audio"):
        zarrmeta.create_track(volume.fd, 1, "main", TrackKind.VIDEO)


@pytest.mark.parametrize("change", [
    b"[]", b"{", b"{}", b'{"attributes": {"watchroom": {"kind": "video"}}, "shape": []}',
    b'{"attributes": {"watchroom": {"kind": "smell"}}, "shape": [1]}', b'{"attributes": 5}'])
def test_a_document_of_somebody_else_is_refused(volume: RefVolume, change: bytes):
    zarrmeta.create_track(volume.fd, 1, "main", TrackKind.AUDIO)
    (volume.path / track_path(1, "main") / "zarr.json").write_bytes(change)
    with pytest.raises(FormatError):
        zarrmeta.read_track(volume.fd, 1, "main")


def test_an_empty_document_is_one_that_a_power_cut_kept_from_being_written(volume: RefVolume):
    zarrmeta.create_track(volume.fd, 1, "main", TrackKind.AUDIO)
    document = volume.path / track_path(1, "main") / "zarr.json"
    whole = document.read_bytes()
    document.write_bytes(b"")
    with pytest.raises(FileNotFoundError):
        zarrmeta.read_track(volume.fd, 1, "main")
    zarrmeta.create_track(volume.fd, 1, "main", TrackKind.AUDIO)
    assert document.read_bytes() == whole


def test_a_changed_codec_is_noticed(volume: RefVolume):
    zarrmeta.create_track(volume.fd, 1, "main", TrackKind.AUDIO)
    path = volume.path / track_path(1, "main") / "zarr.json"
    path.write_text(path.read_text().replace('"start"', '"end"'))
    with pytest.raises(FormatError, match="changed"):
        zarrmeta.read_track(volume.fd, 1, "main")


def test_strange_folders_are_no_cameras(volume: RefVolume):
    for name in ("cam-0", "cam-x", "cam-01", "cam-12345678901", "x"):
        (volume.path / "tape.zarr" / name).mkdir()
    zarrmeta.create_track(volume.fd, 3, "main", TrackKind.AUDIO)
    (volume.path / "tape.zarr/cam-3/main.held").mkdir()
    (volume.path / "tape.zarr/cam-3/empty").mkdir()
    assert zarrmeta.list_cameras(volume.fd) == [3]
    assert zarrmeta.list_tracks(volume.fd, 3) == ["main"]
