"""What accompanies an export: who asked and why, the site's clocks, and of each file where it is from, gaps, damage and its rows' digests."""

from typing import Any

import numpy as np

from api.clipplan import Missing, Shown
from api.exports.job import Item, Job
from api.exports.look import Look, between, described, look
from api.system import version
from api.times import rfc3339
from recorder.base.config import CameraConfig, SiteConfig
from recorder.base.errors import NotFound
from recorder.base.media import NS, SampleEntry
from storage.evidence import Evidence
from storage.footage import row_ends
from storage.rowseals import row_seals
from storage.store import TapeStore
from storage.track import Track

SCHEMA = "watchroom-export/1"
CLOCK = ("Times are UTC by the clock of the recorder when the pictures arrived there. The camera's own clock placed nothing; "
         "its reports, and the steps of the recorder's clock, are listed as evidence.")
MEDIA = ("Pictures and sound are the bytes that the camera sent, unchanged. Where H.265 goes on after a break with a CRA picture, clips "
         "outside of exports name it BLA, so that decoders do not place it by the pictures before; here it keeps its name.")
REPORTS_MAX = 100             # of an item: evenly thinned, first and last among them


def heading(site: SiteConfig, job: Job, made_ns: int) -> dict[str, Any]:
    """The manifest without its files."""
    wanted = job.wanted
    return {
        "schema": SCHEMA, "export": job.id, "site": site.name, "tool": f"watchroom {version()}", "made": rfc3339(made_ns),
        "asked": rfc3339(job.created_ns), "by": job.by, "reason": wanted.reason, "reference": wanted.reference, "format": wanted.format,
        "gaps_closed": wanted.close_gaps, "clock": CLOCK, "media": MEDIA, "files": [],
    }


def about_camera(item: Item, config: CameraConfig | None) -> dict[str, Any]:
    """Where the pictures are from, in the words of the time of the export."""
    known = {} if config is None else {
        "name": config.name, "partner": config.partner, "site": config.site, "purpose": config.purpose,
        "position": None if config.latitude is None else {"latitude": config.latitude, "longitude": config.longitude}}
    return {"id": item.camera, "number": item.number, **known}


def about_clip(store: TapeStore, item: Item, config: CameraConfig | None, looked: Look, shown: Shown) -> dict[str, Any]:
    """What a clip has of an item."""
    tracks = [store.whole(item.number, name) for name in shown.tracks]
    return {
        "camera": about_camera(item, config), "track": item.track, "asked": between(item.start_ns, item.end_ns),
        "first": rfc3339(shown.start_ns), "last": rfc3339(shown.end_ns), "frames": shown.frames, "complete": shown.complete,
        **lacks(looked),
        "clocks": clocks(tracks[0].evidence(item.start_ns, item.end_ns)),
        "tracks": [about_track(track, item) for track in tracks],
    }


def about_missing(store: TapeStore, item: Item, config: CameraConfig | None, lack: Missing) -> dict[str, Any]:
    """What is said of an item of which there is nothing."""
    try:
        found = lacks(look(store, item))
    except NotFound:
        found = {}
    return {"camera": about_camera(item, config), "track": item.track, "asked": between(item.start_ns, item.end_ns), "frames": 0,
            "complete": not lack.pending, "why": lack.reason, **found, "tracks": []}


def lacks(looked: Look) -> dict[str, Any]:
    """What there is, and what not and why."""
    names = ("gaps", "damage", "expired", "missing", "left_out", "unreadable", "footage_s", "expected_s", "damaged_s", "completeness")
    said = described(looked)
    return {name: said[name] for name in names}


def about_track(track: Track, item: Item) -> dict[str, Any]:
    """How the track is coded, and the rows that the file is cut from: [number, start, end, bytes, CRC-32C, BLAKE3 or null]."""
    entries: list[SampleEntry] = []
    rows: list[list[Any]] = []
    for piece in track.pieces(item.start_ns, item.end_ns, durable=True):
        table = piece.run.rows
        entries += [piece.tape.sample_entry(number) for number in np.unique(table["sample_entry"]).tolist()]
        ends = row_ends(table).tolist()
        rows += [[piece.run.first + at, start, end, nbytes, crc, None if seal is None else seal.leaf.hex()]
                 for at, (start, end, nbytes, crc, seal) in enumerate(zip(
                     table["t_ns"].tolist(), ends, table["bytes"].tolist(), table["data_crc"].tolist(), row_seals(piece.tape, piece.run),
                     strict=True))]
    return {"name": track.name, "codings": [coding(entry) for entry in dict.fromkeys(entries)], "rows": rows}


def coding(entry: SampleEntry) -> dict[str, Any]:
    """A sample entry."""
    return {"codec": entry.codec, "config": entry.config.hex(), "clock_rate": entry.clock_rate, "width": entry.width, "height": entry.height,
            "channels": entry.channels, "sample_rate": entry.sample_rate}


def clocks(found: Evidence) -> dict[str, Any]:
    """The camera's clock beside ours: extremes over all reports, some of the reports, all steps of ours."""
    ahead = [(report.ntp_ns - report.arrival_ns) / NS for report in found.reports]
    every = -(-len(ahead) // REPORTS_MAX) or 1
    return {
        "reports": len(ahead), "ahead_min_s": min(ahead, default=None), "ahead_max_s": max(ahead, default=None),
        "some": [[rfc3339(report.arrival_ns), value] for report, value in list(zip(found.reports, ahead, strict=True))[::every]],
        "steps": [{"time": rfc3339(epoch.wall_ns), "step_s": epoch.step_ns / NS} for epoch in found.epochs],
    }
