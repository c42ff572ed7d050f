"""The streams of a container that are recorded: one video, one audio; how they are packaged, and their packets as frames for the worker."""

from typing import Any

from recorder.base.errors import SourceError
from recorder.base.media import GapCause
from recorder.rtp import aac
from recorder.rtp.formats import VIDEO_CLOCK
from recorder.sources.describe import Medium, payload_type
from recorder.sources.packetise import Packetiser
from recorder.sources.units import Adts, adts_header, packaging, without_adts

CODECS = {"h264": "h264", "hevc": "h265", "aac": "aac", "pcm_alaw": "pcma", "pcm_mulaw": "pcmu"}
OFFSET_S = 10                # before the first tick of a file: edit lists begin below 0


class MediaStream:
    """One stream on its way to the worker: `frames` turns a packet of libav into interleaved frames."""

    def __init__(self, stream: Any, index: int, first: Any, base_s: float) -> None:
        self.stream = stream
        self.medium, self._adts = _medium(stream, first)
        self._packaging = packaging(self.medium.codec, bytes(stream.codec_context.extradata or b""))
        self._packets = Packetiser(self.medium.codec, 2 * index, payload_type(index))
        self._base = round(base_s / stream.time_base)
        self._next: int | None = None        # the tick behind the last packet, as far as one knows
        self._begun = False
        self._corrupt = False                # the packet before was called so

    def frames(self, packet: Any) -> list[bytes]:
        """The interleaved frames of a packet; none if nothing of it can be used.

        Raises SourceError when its audio is another than described.
        """
        stamp = packet.pts if packet.pts is not None else packet.dts
        ts = self._next if stamp is None else self._ticks(stamp)     # the first frames in a PES packet but one may bear none
        if ts is None or not self.medium.codec:
            return []
        if self.medium.kind == "video":
            return self._video(packet, ts)
        if packet.is_corrupt:
            self._packets.skip()
        return self._audio(bytes(packet), self._smooth(ts))

    def is_before(self, packet: Any, from_s: float) -> bool:
        """True for a packet of what a resumed import has recorded already: it goes on with an access point."""
        if not from_s or self._begun:
            return False
        self._begun = packet.pts is not None and packet.pts * self.stream.time_base >= from_s and (
            self.medium.kind == "audio" or packet.is_keyframe)
        return not self._begun

    def report(self, packet: Any) -> bytes:
        """A sender report that places the packet on the clock that all streams of the container share."""
        stamp = packet.pts if packet.pts is not None else packet.dts or 0
        return self._packets.report(float((stamp - self._base) * self.stream.time_base), self._ticks(stamp))

    def _ticks(self, stamp: int) -> int:
        base, clock = self.stream.time_base, self.medium.clock_rate
        scaled = (stamp - self._base) * base.numerator * clock
        return int((2 * scaled + base.denominator) // (2 * base.denominator))

    def _video(self, packet: Any, ts: int) -> list[bytes]:
        self._next = ts + 1
        nals = self._packaging.nals(bytes(packet))
        if packet.has_sidedata("new_extradata"):
            self._packaging = packaging(self.medium.codec, bytes(packet.get_sidedata("new_extradata")))
            nals = [*self._packaging.sets, *self._packaging.nals(bytes(packet))]
        damaged = self._is_damaged(packet)
        return self._packets.video(nals, ts, damaged=damaged) if nals else []

    def _is_damaged(self, packet: Any) -> bool:
        """libav's parser gives a picture out when the next one's bytes come, and says of it what is true of those: a picture early."""
        before, self._corrupt = self._corrupt, packet.is_corrupt
        parsed = self._packaging.length_bytes == 0
        return before if parsed else packet.is_corrupt

    def _audio(self, data: bytes, ts: int) -> list[bytes]:
        if self._adts is not None:
            if adts_header(data) != self._adts:
                raise SourceError("the audio's coding has changed", cause=GapCause.SENDER_RESTART)
            data = without_adts(data)
        return self._packets.audio(data, ts) if data else []

    def _smooth(self, ts: int) -> int:
        """The tick that the frame before leads to, unless the stamp says more than what the container's ticks cannot tell."""
        frame = self.stream.codec_context.frame_size if self.medium.codec == "aac" else 0
        coarse = float(self.stream.time_base) * self.medium.clock_rate + 1
        if frame and self._next is not None and abs(ts - self._next) <= coarse:
            ts = self._next
        self._next = ts + frame
        return ts


def _medium(stream: Any, first: Any) -> tuple[Medium, Adts | None]:
    """The medium, and its ADTS header where it has one."""
    context = stream.codec_context
    codec = CODECS.get(context.name, "")
    extradata = bytes(context.extradata or b"")
    if stream.type == "video":
        return Medium("video", codec, VIDEO_CLOCK, sets=packaging(codec, extradata).sets, unsupported=context.name.upper()), None
    rate = context.sample_rate or 8000
    if codec != "aac":
        return Medium("audio", codec, rate, context.channels or 1, unsupported=context.name.upper()), None
    adts = adts_header(bytes(first)) if first is not None and not extradata else None
    config = aac.parse_config(adts.config if adts else extradata)
    if config is None:
        return Medium("audio", "", rate, 1, unsupported="AAC-WITHOUT-CONFIG"), None
    return Medium("audio", "aac", config.output_rate, config.channels, config=config.config), adts
