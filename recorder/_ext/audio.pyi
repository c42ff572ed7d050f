from typing_extensions import Buffer

def opus_duration(packet: Buffer) -> int:
    """How long an Opus packet lasts at 48 kHz (RFC 6716 3.1, 3.2); 0 if it is none."""
