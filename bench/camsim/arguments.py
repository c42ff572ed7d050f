"""The options of `watchroom camsim` and the spec that they mean."""

import argparse
from pathlib import Path
from typing import get_args

from bench.camsim.spec import AudioCodec, AudioSpec, AuthSpec, CameraSpec, SimSpec, VideoCodec, VideoSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options. Lists ("h264,h265") are dealt to the cameras in turn."""
    add = parser.add_argument
    add("--count", type=int, default=1, help="cameras: /cam0, /cam1, ... (default 1)")
    add("--codec", default="h264", help="h264, h265, jpeg or a list, dealt to the cameras in turn")
    add("--bitrate", type=int, default=4000, help="kbit/s of the main stream")
    add("--fps", default="25", help="pictures per second: 25, 12.5, 30000/1001")
    add("--gop", type=int, default=50, help="pictures from key frame to key frame")
    add("--size", default="1920x1080", help="WIDTHxHEIGHT, both even")
    add("--bframes", type=int, default=0, help="B-frames between reference pictures")
    add("--audio", default="none", help="none, aac, pcma, pcmu, opus, l16, g726 or a list")
    add("--sub", nargs="?", const="all", default="none", choices=["none", "all", "h265"],
        help="add /camN/sub in H.264: to all, or to H.265 cameras only")
    add("--sub-size", default="640x360")
    add("--sub-bitrate", type=int, default=512)
    add("--auth", default="none", choices=["none", "basic", "digest"])
    add("--digest-algorithm", default="md5", choices=["md5", "sha-256", "both"])
    add("--user", default="watchroom")
    add("--password", default="camsim")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8554, help="0 takes a free one")
    add("--transports", default="tcp,udp", help="what is not refused with 461 (default tcp,udp)")
    add("--no-segments", action="store_true", help="over UDP send each packet by itself (sendmmsg) instead of by UDP_SEGMENT")
    add("--start-key", action="store_true", help="a session starts with a key frame instead of whatever is due")
    add("--queue-kb", type=int, default=4096, help="what waits for a client that does not read; then AUs are dropped")
    add("--tick-ms", type=int, default=10)
    add("--timeout", type=float, default=60.0, help="seconds a session lives without a request")
    add("--cache", type=Path, help="folder of encoded clips (default: $XDG_CACHE_HOME/watchroom/camsim)")
    add("--seconds", type=float, default=0.0, help="end by itself")
    add("--report", type=Path, help="write what was sent as JSON at the end")
    add("--quiet", action="store_true", help="no status line each second")


def spec_of(args: argparse.Namespace) -> SimSpec:
    """The simulation that the options mean. Raises ValueError with the option that is wrong."""
    codecs = _choices("--codec", args.codec, get_args(VideoCodec))
    sounds = _choices("--audio", args.audio, (*get_args(AudioCodec), "none"))
    if not 1 <= args.count <= 4096:
        raise ValueError("--count must be between 1 and 4096")
    cameras = tuple(_camera(args, codecs[i % len(codecs)], sounds[i % len(sounds)]) for i in range(args.count))
    auth = AuthSpec(args.auth, args.digest_algorithm, args.user, args.password)
    return SimSpec(cameras, auth, args.host, args.port, args.cache, args.tick_ms, args.queue_kb << 10, args.timeout,
                   start_at_key=args.start_key, transports=tuple(_choices("--transports", args.transports, ("tcp", "udp"))),
                   segments=not args.no_segments)


def _camera(args: argparse.Namespace, codec: VideoCodec, sound: str) -> CameraSpec:
    width, height = _size("--size", args.size)
    video = VideoSpec(codec, width, height, args.fps, args.gop, args.bitrate, args.bframes)
    if not (1 <= video.rate <= 120 and 1 <= video.gop <= 2000 and 32 <= video.kbps <= 200_000 and 0 <= video.bframes <= 4):
        raise ValueError("--fps must be 1 to 120, --gop 1 to 2000, --bitrate 32 to 200000, --bframes 0 to 4")
    small = VideoSpec("h264", *_size("--sub-size", args.sub_size), args.fps, args.gop, args.sub_bitrate)
    return CameraSpec(video, None if sound == "none" else AudioSpec(sound),  # type: ignore[arg-type]
                      small if args.sub in {"all", codec} else None)


def _choices(option: str, text: str, allowed: tuple[str, ...]) -> list[VideoCodec]:
    names = text.split(",")
    for name in names:
        if name not in allowed:
            raise ValueError(f"{option} {name}: must be one of {', '.join(allowed)}")
    return names  # type: ignore[return-value]


def _size(option: str, text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and 160 <= int(width) <= 7680 and 96 <= int(height) <= 4320):
        raise ValueError(f"{option} {text}: must be WIDTHxHEIGHT, from 160x96 to 7680x4320")
    if int(width) % 2 or int(height) % 2:
        raise ValueError(f"{option} {text}: both numbers must be even")
    return int(width), int(height)
