"""A log line is one line and never holds a secret."""

import logging
import sys

import pytest

from recorder.base.logs import LineFormatter, redacted


@pytest.mark.parametrize(("text", "clean"), [
    ("open rtsp://admin:p@ss/w:rd@10.0.0.1/x failed", "open rtsp://***@10.0.0.1/x failed"),
    ("rtsp://10.0.0.1/a is 5 @ night", "rtsp://10.0.0.1/a is 5 @ night"),
    ('Authorization: Digest username="u", response="0123456789abcdef"', 'Authorization: Digest username="u", response="***"'),
    ("Authorization: Bearer wr_abcdefghijklmnop", "Authorization: Bearer ***"),
    ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "Authorization: Basic ***"),
    ('{"password": "hunter2", "id": 1}', '{"password": "***", "id": 1}'),
    ("GET /x?token=abc&y=1", "GET /x?token=***&y=1"),
    ("token: unknown scope", "token: unknown scope"),
])
def test_a_secret_does_not_reach_the_log(text: str, clean: str) -> None:
    assert redacted(text) == clean


def test_an_exception_is_one_line_with_its_place() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "it\nbroke %s", ("here",), sys.exc_info())
    line = LineFormatter("worker-0", journal=True).format(record)
    assert line.startswith("<3>worker-0: it broke here [ValueError: first second at test_logs.py:")
    assert "\n" not in line
