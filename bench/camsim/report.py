"""What the simulation has sent, as JSON values: read by tests over `GET /status` on the RTSP port, and written at the end.

`{"port", "wall_ns", "cameras": [{"name", "tracks": {name: track}, "sessions": [session]}]}`

track: `clip` (cache file), `codec`, `clock_rate`, `loop_aus`, `loop_ticks`, `base_wall_ns` (UTC of media time 0), `path`.
session: `number`, `path`, `start_ns`, `end_ns`, `end_reason`, `tracks`: {name: `first` and `next` (numbers of the first AU and
of the one after the last), `aus`, `bytes` (as stored), `packets`, `octets`, `digest`, `dropped_aus`, `drops`: [[from, to), ...]}.
The digest is `bench.camsim.truth.digest` over the AUs sent.
"""

import time
from collections.abc import Iterable
from typing import Any

from bench.camsim.camera import Camera, SessionRecord, Track


def report(port: int, cameras: Iterable[Camera], wall_offset_ns: int) -> dict[str, Any]:
    """The whole report; `wall_offset_ns` is UTC minus CLOCK_MONOTONIC."""
    return {"port": port, "wall_ns": time.time_ns(), "cameras": [_camera(c, wall_offset_ns) for c in cameras]}


def _camera(camera: Camera, wall_offset_ns: int) -> dict[str, Any]:
    tracks = {**{t.name: (t, camera.name) for t in camera.main}, **{t.name: (t, f"{camera.name}/sub") for t in camera.sub}}
    base_ns = camera.base_ns + wall_offset_ns
    return {"name": camera.name, "tracks": {name: _track(t, path, base_ns) for name, (t, path) in tracks.items()},
            "sessions": [_session(s) for s in camera.sessions]}


def _track(track: Track, path: str, base_wall_ns: int) -> dict[str, Any]:
    clip = track.clip
    return {"clip": str(clip.path), "codec": clip.codec, "clock_rate": clip.clock_rate, "loop_aus": clip.aus,
            "loop_ticks": clip.loop_ticks, "base_wall_ns": base_wall_ns, "path": path}


def _session(session: SessionRecord) -> dict[str, Any]:
    return {"number": session.number, "path": session.path, "start_ns": session.start_ns, "end_ns": session.end_ns,
            "end_reason": session.end_reason, "tracks": session.counters()}


def summary(status: dict[str, Any]) -> str:
    """One line for a person."""
    sessions = [s for c in status["cameras"] for s in c["sessions"]]
    tracks = [t for s in sessions for t in s["tracks"].values()]
    live = sum(s["end_ns"] is None for s in sessions)
    return (f"{len(status['cameras'])} cameras, {live} playing, {sum(t['aus'] for t in tracks)} AUs, "
            f"{sum(t['bytes'] for t in tracks) / 1e6:.1f} MB, {sum(t['dropped_aus'] for t in tracks)} AUs dropped")
