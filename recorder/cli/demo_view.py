"""The demo's table and its verdict, from what the API says."""

import sys
import time
from collections.abc import Mapping
from typing import Any

from recorder.cli.show import size, table

Cameras = Mapping[str, Mapping[str, Any]]                       # by id, as the worker's status says
Timelines = Mapping[str, Mapping[str, Mapping[str, Any]]]       # by id and track, as the API answers

HEAD = ("camera", "codec", "state", "kbit/s", "frames", "gaps", "disk")
FULL = 0.9999           # rounding of ends; a missing picture at 25/s in an hour is 0.99999
NEWEST_S = 5.0          # footage must reach this close to the present


class Board:
    """The table, refreshed in place on a terminal, else one line now and then."""

    def __init__(self, *, in_place: bool) -> None:
        self.in_place = in_place
        self._lines = 0

    def show(self, cameras: Cameras, timelines: Timelines, free_bytes: int, seconds: float) -> None:
        """Prints the present state."""
        rows = [row(name, camera, timelines.get(name, {})) for name, camera in cameras.items()]
        if self.in_place:
            self._refresh([*table(HEAD, rows).splitlines(), f"{seconds:.0f} s, {size(free_bytes)} free"])
            return
        recording = sum(line[2] == "recording" for line in rows)
        print(f"demo: {seconds:4.0f} s, {recording} of {len(rows)} recording, {sum(line[3] for line in rows)} kbit/s, "
              f"{sum(line[4] for line in rows)} frames, {sum(line[5] for line in rows)} gaps, {size(free_bytes)} free", flush=True)

    def _refresh(self, lines: list[str]) -> None:
        sys.stdout.write((f"\x1b[{self._lines}F" if self._lines else "") + "".join(f"\x1b[2K{line}\n" for line in lines))
        sys.stdout.flush()
        self._lines = len(lines)


def row(name: str, camera: Mapping[str, Any], tracks: Mapping[str, Mapping[str, Any]]) -> tuple[Any, ...]:
    """One camera's line."""
    counted: Mapping[str, Mapping[str, Any]] = camera.get("tracks", {})
    return (name, "+".join(track["codec"] or "?" for track in counted.values()) or "-", camera.get("state", "-"),
            sum(track["kbps"] for track in counted.values()), sum(track["aus"] for which, track in counted.items() if which == "main"),
            sum(len(track["gaps"]) for track in tracks.values()), size(sum(track["bytes"] for track in tracks.values())))


def verdict(cameras: Cameras, timelines: Timelines) -> tuple[list[str], bool]:
    """The summary's lines, and whether every track of every camera was recorded in full from its first key frame on."""
    rows, bad = [], set()
    for name, tracks in timelines.items():
        for track, line in tracks.items():
            faults = faults_of(line, cameras.get(name, {}).get("tracks", {}).get(track, {}))
            bad |= {name} if faults else set()
            rows.append((name, track, f"{100 * (line['completeness'] or 0):.2f} %", len(line["gaps"]), f"{line['footage_s']:.1f} s",
                         size(line["bytes"]), ", ".join(faults) or "complete"))
    summary = f"demo: {len(timelines) - len(bad)} of {len(timelines)} cameras recorded in full"
    return [table(("camera", "track", "complete", "gaps", "footage", "disk", ""), rows), summary], bool(timelines) and not bad


def faults_of(line: Mapping[str, Any], counted: Mapping[str, Any]) -> list[str]:
    """Why a track was not recorded in full; empty if it was."""
    faults = [f"gap: {gap['cause']}" for gap in line["gaps"]]
    if not line["spans"]:
        return [*faults, "no footage"]
    if line["completeness"] < FULL:
        faults.append(f"only {100 * line['completeness']:.2f} %")
    if line["damaged_s"]:
        faults.append(f"{line['damaged_s']:.1f} s damaged")
    if time.time_ns() - line["spans"][-1]["end_ns"] > NEWEST_S * 1e9:
        faults.append("nothing new")
    return faults + [f"{counted[name]} {name}" for name in ("dropped_aus", "lost_packets", "damaged_aus") if counted.get(name)]
