"""The shape of a camera in a request: what may be a login is no address."""

import pytest

from api.camera_body import read_change
from api.problems import Problem


@pytest.mark.parametrize("url", ["rtsp://admin:1/2@10.0.0.1/x", "rtsp://admin:se/cret@10.0.0.1/x", "rtsps://admin:1?se@cam.lan/x"])
@pytest.mark.parametrize("stream", ["main", "sub"])
def test_a_password_with_a_slash_is_not_taken_for_a_port(url: str, stream: str) -> None:
    with pytest.raises(Problem) as caught:
        read_change({stream: {"url": url}})
    assert caught.value.status == 400
    assert "user and a password" in caught.value.message or "user or password" in caught.value.message
    assert "cret" not in caught.value.message


def test_an_at_in_a_path_is_fine() -> None:
    assert read_change({"main": {"url": "rtsp://10.0.0.1:554/stream@2"}}) == {"main": {"url": "rtsp://10.0.0.1:554/stream@2"}}
