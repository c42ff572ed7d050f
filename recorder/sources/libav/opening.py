"""An open libav container for a job, with every door but the one it needs shut."""

import encodings.idna  # noqa: F401 (see EARLY)
import importlib
import os
import ssl
from collections.abc import Callable
from ctypes import CDLL
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote

import av

from recorder.base.errors import SourceError
from recorder.base.media import GapCause
from recorder.sources.job import SourceJob
from recorder.sources.libav import srt
from recorder.sources.libav.readers import GATHER_S, HlsOpener, HttpReader, UdpReader

FILE_FORMATS = "mov,matroska,mpegts,flv"
PROBE_BYTES = 2_000_000
PROBE_US = 3_000_000
READ_BYTES = 256 << 10
WORDS = {"udp": "MPEG-TS", "srt": "MPEG-TS", "http": "MPEG-TS or FLV", "hls": "HLS", "rtmp": "RTMP", "file": "MP4, Matroska, MPEG-TS or FLV"}
# What libav's binding, or the library beneath a socket, would load at first use.
EARLY = ("av.audio.stream", "av.subtitles.stream", "av.video.stream", "av.video.codeccontext", "av.audio.codeccontext",
         "av.subtitles.codeccontext", "av.sidedata.sidedata")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What must be loaded from files before files are out of reach."""

    srt: CDLL | None = None
    tls: ssl.SSLContext | None = None


def prepare(job: SourceJob) -> Prepared:
    """Load it."""
    for name in EARLY:
        importlib.import_module(name)
    return Prepared(srt.load() if job.kind == "srt" else None, ssl.create_default_context() if job.tls else None)


def open_container(job: SourceJob, ready: Prepared, file: int, give_up: Callable[[SourceError], NoReturn]) -> Any:
    """The container, its streams known. Raises what libav, the reader or SourceError has to say; see HlsOpener for `give_up`."""
    options = {"probesize": str(PROBE_BYTES), "analyzeduration": str(PROBE_US), "fpsprobesize": "0", "protocol_whitelist": "none"}
    match job.kind:
        case "udp":
            return _mpegts(UdpReader(job), options)
        case "srt":
            return _mpegts(srt.SrtReader(job, ready.srt), options)
        case "http":
            form = "flv" if job.path.partition("?")[0].endswith(".flv") else "mpegts"
            return _open(HttpReader(job, job.path, ready.tls, GATHER_S), form, options)
        case "hls":
            return _hls(HlsOpener(job, ready.tls, give_up), options)
        case "rtmp":
            return _rtmp(job, options)
        case "file":
            return _open(os.fdopen(file, "rb", closefd=False), None, options | {"format_whitelist": FILE_FORMATS})
    raise SourceError("no such kind of source", cause=GapCause.REFUSED, retry_s=60.0)


def _mpegts(reader: object, options: dict[str, str]) -> Any:
    return _open(reader, "mpegts", options)


def _open(reader: object, form: str | None, options: dict[str, str]) -> Any:
    options = options | ({"format_whitelist": form} if form else {})
    return av.open(reader, format=form, container_options=options, buffer_size=READ_BYTES)


def _hls(opener: HlsOpener, options: dict[str, str]) -> Any:
    """The demuxer opens through `opener` alone; what it asks about protocols first is whether they are HTTP."""
    options = options | {"format_whitelist": "hls,mpegts,mov", "protocol_whitelist": "http,https", "http_persistent": "0",
                         "http_multiple": "0", "live_start_index": "-1", "max_reload": "20"}
    return av.open(opener.url, format="hls", container_options=options, io_open=opener, buffer_size=READ_BYTES)


def _rtmp(job: SourceJob, options: dict[str, str]) -> Any:
    """libav's own client, to the checked address; the server is told the name it goes by."""
    address = f"[{job.address}]" if ":" in job.address else job.address
    login = f"{quote(job.user, safe='')}:{quote(job.password, safe='')}@" if job.user else ""
    application = job.path.strip("/").partition("/")[0]
    options = options | {"format_whitelist": "flv", "protocol_whitelist": "rtmp,tcp", "rtmp_tcurl": f"rtmp://{job.host}:{job.port}/{application}"}
    return av.open(f"rtmp://{login}{address}:{job.port}{job.path}", format="flv", container_options=options, timeout=(10.0, job.silence_s))
