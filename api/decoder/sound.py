"""AUs of sound in, AAC-LC AUs out. Runs only in a decoder process."""

import struct
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from api.decoder.picture import UndecodableError
from api.decoder.wire import AAC_SAMPLES, SOUND_LEAD, SoundJob, bit_rate

SOUND_DECODERS = {"alaw": "pcm_alaw", "ulaw": "pcm_mulaw", "twos": "pcm_s16be", "g726": "g726", "Opus": "opus"}
LAYOUTS = {1: "mono", 2: "stereo"}
Pcm = NDArray[np.float32]


def sound(job: SoundJob) -> bytes:
    """The job's AAC AUs: u32 count, u32 bytes of each, then all of them. Raises UndecodableError."""
    if job.codec not in SOUND_DECODERS or len(job.sizes) != len(job.at) or sum(job.sizes) != len(job.body) or job.channels not in LAYOUTS:
        raise UndecodableError("the job does not add up")
    try:
        aus = _encode(job, _pcm(job))[SOUND_LEAD:SOUND_LEAD + job.count]
    except (av.error.FFmpegError, ValueError) as error:
        raise UndecodableError(f"the decoder refuses it ({type(error).__name__})") from None
    if len(aus) != job.count:
        raise UndecodableError("the encoder gave too little")
    return struct.pack(f"<{len(aus) + 1}I", len(aus), *map(len, aus)) + b"".join(aus)


def _pcm(job: SoundJob) -> Pcm:
    """(channels, samples) from `SOUND_LEAD` AUs before the first one wanted to one behind the last: silence where nothing was recorded."""
    first = (job.first - SOUND_LEAD) * AAC_SAMPLES
    out = np.zeros((job.channels, (job.count + SOUND_LEAD + 1) * AAC_SAMPLES), np.float32)
    decoder, byte = _decoder(job), 0
    convert = av.AudioResampler(format="fltp", layout=LAYOUTS[job.channels], rate=job.hz)
    for size, at in zip(job.sizes, job.at, strict=True):
        data, byte = job.body[byte:byte + size], byte + size
        found = [part.to_ndarray() for frame in _frames(decoder, data) for part in convert.resample(frame)]
        if found:
            _lay(out, np.concatenate(found, axis=1), at - first)
    return out


def _lay(out: Pcm, heard: Pcm, at: int) -> None:
    """Put what was heard at its place, as far as that is inside."""
    start, stop = max(at, 0), min(at + heard.shape[1], out.shape[1])
    if start < stop:
        out[:, start:stop] = heard[:, start - at:stop - at]


def _frames(decoder: Any, data: bytes) -> list[Any]:
    """What the AU gives; a damaged one gives nothing and does not end the work."""
    try:
        return list(decoder.decode(av.Packet(data)))
    except av.error.InvalidDataError:
        return []


def _decoder(job: SoundJob) -> Any:
    decoder: Any = av.CodecContext.create(SOUND_DECODERS[job.codec], "r")
    decoder.sample_rate, decoder.layout = job.hz, LAYOUTS[job.channels]
    if job.codec == "g726":
        decoder.options = {"bits_per_coded_sample": str(job.config[0] if job.config else 4)}
    return decoder


def _encode(job: SoundJob, pcm: Pcm) -> list[bytes]:
    """One AU per 1024 samples and one more: the first holds the first samples with silence before them."""
    encoder: Any = av.CodecContext.create("aac", "w")
    encoder.sample_rate, encoder.layout, encoder.format = job.hz, LAYOUTS[job.channels], "fltp"
    encoder.bit_rate = bit_rate(job.hz, job.channels)
    encoder.options = {"flags": "+bitexact", "aac_coder": "fast"}
    packets = []
    for at in range(0, pcm.shape[1], AAC_SAMPLES):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm[:, at:at + AAC_SAMPLES]), format="fltp", layout=LAYOUTS[job.channels])
        frame.sample_rate, frame.pts = job.hz, at
        packets += encoder.encode(frame)
    return [bytes(packet) for packet in [*packets, *encoder.encode(None)] if packet.size]


def warm_up_sound() -> None:
    """Load all that a job will need, while files may still be opened."""
    for name in set(SOUND_DECODERS.values()):
        av.CodecContext.create(name, "r")
    sound(SoundJob("alaw", b"", 8000, 1, (160,), (0,), 0, 2, bytes([0xD5]) * 160))
