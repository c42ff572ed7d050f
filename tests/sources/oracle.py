"""What was recorded against what was sent."""

from collections.abc import Sequence
from typing import Any

import av

from recorder.base.media import AuFlag
from recorder.sources.units import length_nals
from tests.session.tapes import MemoryTape


def nals(au: bytes) -> list[bytes]:
    """The NAL units of a stored picture."""
    return length_nals(au, 4)


def stretch(recorded: Sequence[Any], sent: Sequence[Any]) -> slice:
    """Where the recorded run lies in what was sent, without a hole; the test fails if it does not lie there."""
    start = sent.index(recorded[0])
    found = slice(start, start + len(recorded))
    wrong = [at for at, (one, other) in enumerate(zip(sent[found], recorded, strict=False)) if one != other]

    assert not wrong and len(sent[found]) == len(recorded), f"recorded frames {wrong[:10]} of {len(recorded)} are not those that were sent"
    return found


def decoded(tape: MemoryTape) -> list[Any]:
    """Every frame of a tape in the order of decoding; whatever the decoder does not like fails the test."""
    entry = next(iter(tape.entries.values()))
    context = av.CodecContext.create({"avc1": "h264", "hvc1": "hevc", "mp4a": "aac"}[entry.codec], "r")
    context.extradata = entry.config
    context.options = {"err_detect": "explode"}
    frames = [frame for _, data in tape.aus for frame in context.decode(av.Packet(data))]
    return [*frames, *context.decode(None)]


def flags(tape: MemoryTape) -> list[AuFlag]:
    """The flags of every AU."""
    return [AuFlag(au["flags"]) for au, _ in tape.aus]
