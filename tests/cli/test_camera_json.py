"""A camera survives the way through JSON, and a request cannot say what the TOML could not."""

import json

import pytest

from recorder.base.camera_json import camera_from_json, camera_to_json
from recorder.base.config import CameraConfig, RetentionRule, StreamConfig
from recorder.base.errors import ConfigError

CAMERA = CameraConfig("north-road", StreamConfig("rtsp://10.0.0.1/1", 8000), StreamConfig("rtsp://10.0.0.1/2"), name="North Road", user="u",
                      password="p@ss", latitude=51.5, rule=RetentionRule(days=2.0, bytes_max=5), audio=False)


@pytest.mark.parametrize("camera", [CAMERA, CameraConfig("a", StreamConfig("rtsp://10.0.0.1"))])
def test_json_keeps_every_field(camera: CameraConfig) -> None:
    assert camera_from_json(json.loads(json.dumps(camera_to_json(camera, secrets=True)))) == camera


def test_the_password_is_left_out_unless_asked_for() -> None:
    assert "p@ss" not in json.dumps(camera_to_json(CAMERA))


@pytest.mark.parametrize(("change", "says"), [
    ({"id": "../x"}, "request: id"),
    ({"id": 7}, "request: id"),
    ({"main": {"url": "file:///etc/passwd"}}, r"main\.url: must be file: and a path below import_dir"),
    ({"main": {"url": "rtsp://u:p@10.0.0.1/"}}, r"main\.url: holds a user or password"),
    ({"main": "rtsp://10.0.0.1"}, "main: must be a table"),
    ({"password_file": "/etc/shadow"}, "password_file: no such key"),
    ({"number": 3}, "number: no such key"),
    ({"stall_s": 1e9}, "stall_s: must be from"),
])
def test_a_request_is_read_as_strictly_as_the_file(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        camera_from_json(camera_to_json(CAMERA) | {"user": ""} | change)
