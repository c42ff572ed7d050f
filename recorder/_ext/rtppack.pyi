from array import array

class Packer:
    """RTP packets of one stream's access units. Not for two threads at once.

    `codec` is a sample entry's (recorder.base.media): avc1, hvc1, mp4a, Opus, alaw, ulaw, twos, g726, jpeg, metx. `packet_max` bytes (256 to 65,000) are the RTP
    header, its extension and the payload; only Opus is never cut. `lead` bytes of room, at most 16, stand before each packet; with a `channel` they are 4 and hold
    the frame of RFC 2326 10.12. `grain` bytes are never cut: of alaw, ulaw, twos the bytes of a sample of all channels, of g726 the bits of a code word.
    Raises ValueError for what cannot be.
    """

    packets: int                # sent so far, as a sender report counts them (RFC 3550 6.4.1)
    octets: int                 # of payload
    def __init__(self, codec: str, payload_type: int, ssrc: int, *, sequence: int = 0, packet_max: int = 1400, lead: int = 0, channel: int = -1,
                 grain: int = 1) -> None: ...
    @property
    def sequence(self) -> int: ...              # of the next packet, 16 bits
    @sequence.setter
    def sequence(self, value: int) -> None: ...
    def pack(self, unit: bytes | bytearray | memoryview, timestamp: int, extension: bytes | None = None) -> tuple[bytes, array[int]]:
        """The packets of a unit as it lies on the tape: packet i is data[offsets[i] + lead:offsets[i + 1]], offsets are uint32, one more than packets.

        The timestamp is of 32 bits. The marker stands on the last packet of pictures, AAC and documents. `extension` is the whole header extension of
        the first packet, profile and length included (4 to 128 bytes in words). Raises ValueError if the unit is not coded as the stream; the sequence is then as
        it was. A unit without a byte, or of NALs only that RTP has for itself, makes no packet.
        """

def readdressed(data: bytes, offsets: array[int], sequence: int, *, lead: int = 0, channel: int = -1) -> bytes:
    """A copy of what `pack` returned with sequence numbers from `sequence` on and, if it is not -1, another channel. Raises ValueError if offsets do not fit."""
