"""A clip: the looped content of one track as a recorder must store it, with its times; kept in a cache folder as .npz."""

import fcntl
import functools
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bench
from bench.camsim.spec import AudioSpec, ContentSpec, VideoSpec, content_key

ENCODE_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One loop of AUs in the order they are sent.

    `data[offsets[i]:offsets[i + 1]]` is AU i as it is stored (length-prefixed NALs with in-band sets, JPEG images, audio
    frames; G.726 in the order of files). `pts` are
    ticks of `clock_rate` from the loop's first picture; `due` the ticks at which the AU leaves the camera (with B-frames later
    than it is seen). `au_ticks` lie between two pictures or audio frames.
    `sets` are the parameter sets (VPS, SPS, PPS), `config` the AudioSpecificConfig.
    """

    path: Path
    codec: str
    clock_rate: int
    loop_ticks: int
    au_ticks: float
    data: bytes
    offsets: NDArray[np.int64]
    pts: NDArray[np.int64]
    due: NDArray[np.int64]
    key: NDArray[np.uint8]
    sets: tuple[bytes, ...] = ()
    config: bytes = b""
    width: int = 0
    height: int = 0
    fps: str = ""
    kbps: int = 0

    @property
    def aus(self) -> int:
        """AUs in the loop."""
        return len(self.pts)

    def au(self, index: int) -> bytes:
        """AU `index`, counted over all loops."""
        i = index % self.aus
        return self.data[self.offsets[i]:self.offsets[i + 1]]

    def nals(self, index: int) -> list[bytes]:
        """The NALs of an AU of video."""
        return split_nals(self.au(index))

    def pts_of(self, index: int) -> int:
        """Ticks from the first loop's first picture."""
        loop, i = divmod(index, self.aus)
        return loop * self.loop_ticks + int(self.pts[i])


def split_nals(au: bytes) -> list[bytes]:
    """The NALs of a length-prefixed AU. Raises ValueError if the lengths do not fit."""
    nals, at = [], 0
    while at < len(au):
        size = int.from_bytes(au[at:at + 4], "big")
        if at + 4 + size > len(au):
            raise ValueError(f"a NAL of {size} bytes at {at} does not fit into an AU of {len(au)}")
        nals.append(au[at + 4:at + 4 + size])
        at += 4 + size
    return nals


def save(clip: Clip) -> None:
    """Write the clip to its path, whole or not at all."""
    meta = {"codec": clip.codec, "clock_rate": clip.clock_rate, "loop_ticks": clip.loop_ticks, "au_ticks": clip.au_ticks,
            "sets": [s.hex() for s in clip.sets], "config": clip.config.hex(), "width": clip.width, "height": clip.height,
            "fps": clip.fps, "kbps": clip.kbps}
    part = clip.path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, data=np.frombuffer(clip.data, np.uint8), offsets=clip.offsets, pts=clip.pts, due=clip.due, key=clip.key,
                 meta=np.frombuffer(json.dumps(meta).encode(), np.uint8))
    part.replace(clip.path)


@functools.lru_cache(maxsize=64)
def load(path: Path) -> Clip:
    """The clip of a cache file; one object per path and process."""
    with np.load(path, allow_pickle=False) as file:
        meta: dict[str, Any] = json.loads(file["meta"].tobytes())
        arrays = {name: file[name] for name in ("offsets", "pts", "due", "key")}
        data = file["data"].tobytes()
    sets, config = tuple(bytes.fromhex(s) for s in meta.pop("sets")), bytes.fromhex(meta.pop("config"))
    return Clip(path=path, data=data, sets=sets, config=config, **arrays, **meta)


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/watchroom/camsim`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "watchroom" / "camsim"


def obtain(spec: ContentSpec, cache: Path | None = None) -> Clip:
    """The clip of a spec: from the cache, else encoded by a process of its own (a crash of a codec harms nobody).

    Blocks for seconds when it must encode. Raises RuntimeError with the encoder's last line if that fails.
    """
    folder = cache or default_cache()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{content_key(spec)}.npz"
    with (folder / f"{path.stem}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _encode(spec, path)
    return load(path)


def _encode(spec: ContentSpec, path: Path) -> None:
    kind = "video" if isinstance(spec, VideoSpec) else "audio"
    root = str(Path(bench.__file__).parent.parent)
    done = subprocess.run([sys.executable, "-m", "bench.camsim.encode", kind, json.dumps(asdict(spec)), str(path)], check=False,
                          capture_output=True, text=True, timeout=ENCODE_TIMEOUT_S, env={**os.environ, "PYTHONPATH": root})
    if done.returncode:
        raise RuntimeError(f"cannot encode {spec.codec} content: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


def spec_of(kind: str, text: str) -> ContentSpec:
    """The spec that `_encode` wrote as JSON."""
    return VideoSpec(**json.loads(text)) if kind == "video" else AudioSpec(**json.loads(text))
