"""The oracle of recorder/_ext/framing: a whole, well-formed byte stream at once (RFC 2326 4, 10.12)."""

import re

HEAD_END = re.compile(rb"\r?\n\r?\n")
LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d+)", re.I | re.M)


def parse(data: bytes) -> tuple[list[tuple[int, bytes]], list[bytes]]:
    """(frames as (channel, packet), messages)."""
    frames, messages, at = [], [], 0
    while at < len(data):
        if data[at] in b"\r\n":
            at += 1
        elif data[at] == 36:
            size = int.from_bytes(data[at + 2:at + 4], "big")
            frames.append((data[at + 1], data[at + 4:at + 4 + size]))
            at += 4 + size
        else:
            end = HEAD_END.search(data, at)
            assert end, "no end of a head"
            length = LENGTH.search(data[at:end.end()])
            size = end.end() - at + (int(length[1]) if length else 0)
            messages.append(data[at:at + size])
            at += size
    return frames, messages
