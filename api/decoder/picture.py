"""AUs in, a JPEG or a cell of a sheet out; cells in, a sheet out. Runs only in a decoder process."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from api.decoder.wire import Job, SheetJob

DECODERS = {"avc1": "h264", "avc3": "h264", "hvc1": "hevc", "hev1": "hevc", "jpeg": "mjpeg", "vp08": "vp8", "vp09": "vp9", "av01": "av1"}
PIXELS_MAX = 8192 * 8192
QUALITY = 4                   # mjpeg's quantiser: 2 is the finest, 31 the coarsest
FF_QP2LAMBDA = 118
Planes = NDArray[np.uint8]


class UndecodableError(Exception):
    """The AUs make no such picture; the message says why, without quoting them."""


def picture(job: Job) -> bytes:
    """The JPEG, or the cell. Raises UndecodableError."""
    if job.codec not in DECODERS or len(job.sizes) != len(job.pts) or sum(job.sizes) != len(job.body):
        raise UndecodableError("the job does not add up")
    try:
        frame = _find(job)
        return cell(frame, job.width, job.height) if job.height else jpeg(frame, job.width)
    except (av.error.FFmpegError, ValueError) as error:
        raise UndecodableError(f"the decoder refuses it ({type(error).__name__})") from None


def _find(job: Job) -> Any:
    """The picture with the target's PTS, else the newest before it."""
    best = None
    for frame in _frames(job):
        if frame.width * frame.height > PIXELS_MAX:
            raise UndecodableError("the picture is too large")
        if frame.pts is not None and frame.pts <= job.target_pts and (best is None or frame.pts > best.pts):
            best = frame
            if frame.pts == job.target_pts:
                break
    if best is None:
        raise UndecodableError("no picture comes out of it")
    return best


def _frames(job: Job) -> Iterator[Any]:
    decoder = av.CodecContext.create(DECODERS[job.codec], "r")
    decoder.thread_count = 1
    if job.config:
        decoder.extradata = job.config
    at = 0
    for size, pts in zip(job.sizes, job.pts, strict=True):
        packet = av.Packet(job.body[at:at + size])
        packet.pts, packet.time_base = pts, Fraction(1, 90_000)
        at += size
        yield from _decode(decoder, packet)
    yield from _decode(decoder, None)


def _decode(decoder: Any, packet: Any) -> list[Any]:
    """What the packet gives; a damaged one gives nothing and does not end the work."""
    try:
        return list(decoder.decode(packet))
    except av.error.InvalidDataError:
        return []


def jpeg(frame: Any, width: int) -> bytes:
    """The picture as a baseline JPEG, not wider than `width` (0: as it is), shape kept, sides even."""
    wide = min(width or frame.width, frame.width) & ~1 or 2
    high = max(2, round(frame.height * wide / frame.width) & ~1)
    return _encoded(frame.reformat(width=wide, height=high, format="yuvj420p", dst_color_range="JPEG"))


def cell(frame: Any, width: int, height: int) -> bytes:
    """The picture's planes, shape kept, in the middle of width x height."""
    shrink = min(width / frame.width, height / frame.height)
    wide, high = max(2, round(frame.width * shrink) & ~1), max(2, round(frame.height * shrink) & ~1)
    small = frame.reformat(width=wide, height=high, format="yuvj420p", dst_color_range="JPEG").to_ndarray(format="yuvj420p")
    out, left, top = _black(width, height), (width - wide) // 2 & ~1, (height - high) // 2 & ~1
    for into, plane, shift in zip(_planes(out, width, height), _planes(small, wide, high), (0, 1, 1), strict=True):
        into[top >> shift:(top + high) >> shift, left >> shift:(left + wide) >> shift] = plane
    return out.tobytes()


def sheet(job: SheetJob) -> bytes:
    """The JPEG of all cells. Raises UndecodableError."""
    rows, nbytes = -(-len(job.present) // job.columns), job.width * job.height * 3 // 2
    wide, high = job.columns * job.width, rows * job.height
    if sum(job.present) * nbytes != len(job.body) or wide * high > PIXELS_MAX:
        raise UndecodableError("the sheet does not add up")
    out, at = _black(wide, high), 0
    for number in np.flatnonzero(job.present).tolist():
        planes = np.frombuffer(job.body, np.uint8, nbytes, at).reshape(job.height * 3 // 2, job.width)
        top, left, at = number // job.columns * job.height, number % job.columns * job.width, at + nbytes
        for into, plane, shift in zip(_planes(out, wide, high), _planes(planes, job.width, job.height), (0, 1, 1), strict=True):
            into[top >> shift:(top + job.height) >> shift, left >> shift:(left + job.width) >> shift] = plane
    return _encoded(av.VideoFrame.from_ndarray(out, format="yuvj420p"))


def _black(width: int, height: int) -> Planes:
    out = np.zeros((height * 3 // 2, width), np.uint8)
    out[height:] = 128
    return out


def _planes(array: Planes, width: int, height: int) -> tuple[Planes, Planes, Planes]:
    """Views of Y, U and V in an array of (height * 3 / 2, width) that holds them one after the other."""
    flat, luma, chroma = array.reshape(-1), width * height, width * height // 4
    return (flat[:luma].reshape(height, width), flat[luma:luma + chroma].reshape(height // 2, width // 2),
            flat[luma + chroma:].reshape(height // 2, width // 2))


def _encoded(small: Any) -> bytes:
    """Of a yuvj420p frame."""
    wide, high = small.width, small.height
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = wide, high, "yuvj420p", Fraction(1, 25)
    encoder.thread_count = 1
    encoder.options = {"qmin": str(QUALITY), "qmax": str(QUALITY), "q": str(QUALITY * FF_QP2LAMBDA)}
    small.pts, small.time_base, small.pict_type = 0, Fraction(1, 25), 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(small), *encoder.encode(None)])


def warm_up(rgb: NDArray[np.uint8]) -> None:
    """Load all that a job will need, while files may still be opened. `rgb`: (height, width, 3)."""
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    jpeg(frame, 16)
    sheet(SheetJob(1, 16, 16, (True,), cell(frame, 16, 16)))
    for name in set(DECODERS.values()):
        av.CodecContext.create(name, "r")
    try:
        picture(Job("jpeg", b"", (2,), (0,), 0, 0, b"\xff\xd8"))
    except UndecodableError:
        pass
