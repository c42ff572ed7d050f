"""What of a camera an offer can be answered with: pictures in H.264 without reordering, sound as it was recorded; else the reason."""

from dataclasses import dataclass

from recorder.base.media import SampleEntry
from recorder.webrtc.offer import Codec, Medium, Offer

# RFC 6184 8.1, table 5, as the profiles that WebRTC names (RFC 7742 6.2): which decoders take which streams, the narrowest first.
BASELINE, CONSTRAINED, MAIN, HIGH, CONSTRAINED_HIGH = "baseline", "constrained-baseline", "main", "high", "constrained-high"
DECODERS = {CONSTRAINED: (CONSTRAINED, BASELINE, MAIN, HIGH, CONSTRAINED_HIGH), BASELINE: (BASELINE, CONSTRAINED, MAIN, HIGH),
            MAIN: (MAIN, HIGH), CONSTRAINED_HIGH: (CONSTRAINED_HIGH, HIGH), HIGH: (HIGH,)}
BREADTH = (HIGH, CONSTRAINED_HIGH, MAIN, BASELINE, CONSTRAINED)     # where none says that it fits: browsers decode more than they offer
SOUND = {"Opus": ("opus", 48000, 2), "ulaw": ("pcmu", 8000, 1), "alaw": ("pcma", 8000, 1)}
FEEDBACK = ("nack", "nack pli", "ccm fir", "goog-remb")


@dataclass(frozen=True, slots=True)
class Taken:
    """A medium of the offer that is answered: its place, the codec, RTX for it if both want it."""

    place: int
    codec: Codec
    repair: Codec | None = None


def profile(idc: int, flags: int) -> str:
    """The profile of H.264 by profile_idc and the constraint flags behind it; "" for one that WebRTC does not name."""
    if idc == 66 or (idc in {77, 88} and flags & 0x80):
        return CONSTRAINED if flags & 0x40 or idc != 66 else BASELINE
    if idc == 77:
        return MAIN
    if idc == 100:
        return CONSTRAINED_HIGH if flags & 0x0C == 0x0C else HIGH
    return ""


def of_offer(codec: Codec) -> str:
    """The profile of an offered H.264 payload type; "" for others, and for those without FU-A (packetization-mode=1)."""
    text = codec.fmtp.get("profile-level-id", "42000a")     # RFC 6184 8.1: baseline, where it is not said
    if codec.encoding != "h264" or codec.fmtp.get("packetization-mode", "0") != "1" or len(text) != 6:
        return ""
    try:
        return profile(int(text[:2], 16), int(text[2:4], 16))
    except ValueError:
        return ""


def h264_for(medium: Medium, entry: SampleEntry) -> Codec | None:
    """The offered payload type for a stream with this configuration record (ISO 14496-15 5.3.3.1); None without any."""
    ours = profile(entry.config[1], entry.config[2]) if len(entry.config) >= 4 else ""
    offered = [(of_offer(codec), codec) for codec in medium.codecs.values()]
    for wanted in (*DECODERS.get(ours, ()), *BREADTH):
        for theirs, codec in offered:
            if theirs == wanted:
                return codec
    return None


def picture_place(offer: Offer) -> Taken | None:
    """The medium that pictures go to, not yet with its codec; None if the offer has none for H.264."""
    for place, medium in enumerate(offer.media):
        if medium.kind == "video" and _receives(medium) and any(of_offer(codec) for codec in medium.codecs.values()):
            return Taken(place, Codec(0))
    return None


def sound(offer: Offer, beside: int, entry: SampleEntry) -> Taken | None:
    """The medium and codec for the camera's sound, if it travels with the pictures at `beside` and takes what was recorded."""
    wanted = SOUND.get(entry.codec)
    if wanted is None or (entry.codec != "Opus" and entry.channels > 1):
        return None
    for place, medium in enumerate(offer.media):
        if medium.kind != "audio" or not _receives(medium) or not {medium.mid, offer.media[beside].mid} <= offer.bundle:
            continue
        for codec in medium.codecs.values():
            if (codec.encoding, codec.clock_rate, codec.channels) == wanted:
                return Taken(place, codec)
    return None


def _receives(medium: Medium) -> bool:
    return medium.direction in {"recvonly", "sendrecv"} and medium.rtcp_mux and medium.protocol == "UDP/TLS/RTP/SAVPF"


def why_not(entry: SampleEntry, reorders: bool) -> str:
    """Why pictures that are coded so are not sent over WebRTC, in words; "" if they are."""
    if entry.codec not in {"avc1", "avc3"}:
        return f"the camera's pictures are {NAMES.get(entry.codec, entry.codec)}, which is not sent over WebRTC here"
    return "the camera's H.264 has B-frames, which WebRTC cannot carry" if reorders else ""


NAMES = {"hvc1": "H.265", "hev1": "H.265", "jpeg": "JPEG", "av01": "AV1", "vp08": "VP8", "vp09": "VP9"}
