"""Answers as bytes (RFC 2326 7)."""

from collections.abc import Iterable

from api.rtspout.fault import REASONS, Fault

PUBLIC = "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, GET_PARAMETER, SET_PARAMETER, TEARDOWN"


def answer(cseq: int, status: int = 200, headers: Iterable[tuple[str, str]] = (), body: bytes = b"", kind: str = "") -> bytes:
    """One answer; `kind` is the body's media type. What would end a line is left out of values."""
    lines = [f"RTSP/1.0 {status} {REASONS[status]}", f"CSeq: {cseq}", "Server: watchroom"]
    lines += [f"{name}: {''.join(c for c in value if c.isprintable())}" for name, value in headers]
    if body:
        lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def refusal(cseq: int, fault: Fault, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """The answer of a fault, with its words as text."""
    return answer(cseq, fault.status, [*fault.headers, *headers], fault.words.encode(), "text/plain;charset=utf-8")
