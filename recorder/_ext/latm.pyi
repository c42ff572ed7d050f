from typing_extensions import Buffer

def stream_mux_config(config: Buffer) -> tuple[bytes, int] | None:
    """The AudioSpecificConfig in a StreamMuxConfig (ISO 14496-3 1.7.3) and its number of subframes; None if it is none that can be recorded."""
