"""The windows of a benchmark as a table, as sentences of ratios, and as a chart."""

import statistics
from collections.abc import Sequence
from dataclasses import replace

from bench.chart import draw
from bench.load import Load
from bench.window import Window

HEADS = ("load", "subject", "us CPU / stream-s (recording)", "all processes", "CPU-s/GB", "private KB / stream", "PSS KB / stream",
         "undurable ms p50 / p99 / max", "commit ms p50 / p99 / max", "loop lag ms p50 / p99 / max", "steal %", "others %", "AUs dropped",
         "AUs lost")
NAMES = {"ffmpeg": "one ffmpeg per camera", "pyav": "PyAV threads", "native": "the C program"}

Groups = dict[tuple[Load, str], list[Window]]


def groups(windows: Sequence[Window]) -> Groups:
    """Windows by load and subject, in order."""
    found: Groups = {}
    for window in windows:
        found.setdefault((window.load, window.subject), []).append(window)
    return found


def median(group: Sequence[Window]) -> Window:
    """The window with the median cost among the clean ones, if there are any."""
    clean = [w for w in group if not w.dirty] or list(group)
    middle = statistics.median_low([w.us_per_stream_s for w in clean])
    return next(w for w in clean if w.us_per_stream_s == middle)


def table(windows: Sequence[Window], about: dict[str, str]) -> str:
    """The result as Markdown: the median window of each load and subject, the spread of its clean ones, and ratios."""
    lines = [f"| {' | '.join(HEADS)} |", "|" + "---|" * len(HEADS)]
    lines += [_row(group) for group in groups(windows).values()]
    lines += ["", *ratios(windows), "", "; ".join(f"{key}: {value}" for key, value in about.items())]
    return "\n".join([*lines, ""])


def _row(group: Sequence[Window]) -> str:
    w = median(group)
    clean = [v.us_per_stream_s for v in group if not v.dirty]
    spread = f" ({min(clean):.0f} to {max(clean):.0f}, {len(clean)} windows)" if len(clean) > 1 else ""
    losses = [v for v in group if v.loss]
    lost = f"{losses[-1].lost_aus} of {losses[-1].loss['expected']}" if losses else "not compared"
    if losses and w.load.transport == "udp":
        lost += f"; {losses[-1].loss.get('overrun', 0)} packets without room"
    cells = (w.load.label, w.subject, f"{w.us_per_stream_s:.0f}{' (dirty)' if w.dirty else spread}", f"{w.all_us:.0f}", f"{w.cpu_s_per_gb:.2f}",
             f"{w.private_kb_per_stream:.0f}", f"{w.pss_kb_per_stream:.0f}", *(_delay(w, name) for name in ("undurable", "commit", "lag")),
             w.steal_percent, w.foreign_percent, w.dropped_aus, lost)
    return f"| {' | '.join(map(str, cells))} |"


def _delay(window: Window, name: str) -> str:
    found = [window.delays[key] for key in (f"{name}_p50", f"{name}_p99", f"{name}_max") if key in window.delays]
    return " / ".join(f"{value:.0f}" for value in found) or "-"


def ratios(windows: Sequence[Window]) -> list[str]:
    """Sentences: Watchroom beside each other recorder under the same load, many cameras beside few, memory that a stream adds."""
    best = {key: median(group) for key, group in groups(windows).items()}
    lines = []
    for (load, subject), theirs in best.items():
        ours = best.get((load, "watchroom"))
        if subject == "watchroom" or ours is None or not ours.cpu_s_per_gb or not theirs.cpu_s_per_gb:
            continue
        dirty = " (a dirty window)" if ours.dirty or theirs.dirty else ""
        if subject == "native":
            times = ours.cpu_s_per_gb / theirs.cpu_s_per_gb
            lines.append(f"{load.label}: per byte, Watchroom costs {times:.2f} times the CPU of the C program{dirty}.")
        else:
            lines.append(f"{load.label}: per byte, {NAMES[subject]} cost{'s' if subject == 'ffmpeg' else ''} "
                         f"{theirs.cpu_s_per_gb / ours.cpu_s_per_gb:.1f} times the CPU of all of Watchroom's processes{dirty}.")
        if theirs.dropped_aus:
            lines.append(f"{load.label}: {subject} did not keep up, {theirs.dropped_aus} AUs were dropped by the cameras.")
    mine = [w for (_, subject), w in best.items() if subject == "watchroom"]
    return [*lines, *_scaling(mine), *_over_udp(mine)]


def _over_udp(ours: Sequence[Window]) -> list[str]:
    """UDP against TCP, where nothing else differs."""
    by_load = {w.load: w for w in ours}
    pairs = [(w, by_load.get(replace(w.load, transport="tcp"))) for w in ours if w.load.transport == "udp"]
    return [f"{udp.load.label}: UDP costs {udp.cpu_s_per_gb / max(tcp.cpu_s_per_gb, 1e-9):.2f} times as much as TCP per byte."
            for udp, tcp in pairs if tcp]


def _scaling(ours: Sequence[Window]) -> list[str]:
    """The fewest cameras against the most, where nothing else differs."""
    lines = []
    for few in ours:
        alike = [w for w in ours if w.load.cameras > few.load.cameras and _but_count(w.load) == _but_count(few.load)]
        smaller = [w for w in ours if w.load.cameras < few.load.cameras and _but_count(w.load) == _but_count(few.load)]
        if alike and not smaller:
            many = max(alike, key=lambda w: w.load.cameras)
            added = (many.private_kb_per_stream * many.load.cameras - few.private_kb_per_stream * few.load.cameras) / (
                many.load.cameras - few.load.cameras)
            lines.append(f"{many.load.cameras} cameras cost {many.all_us / max(few.all_us, 1e-9):.2f} times as much per stream-second as "
                         f"{few.load.cameras}; a stream adds {added:.0f} KB of private memory beside its buffer.")
    return lines


def _but_count(load: Load) -> tuple[int, str, str, int]:
    return load.kbps, load.codec, load.transport, load.slots


def chart(windows: Sequence[Window]) -> str:
    """An SVG of CPU microseconds per stream-second (all processes) over the number of cameras; both axes are logarithmic to base 2."""
    series: dict[str, list[tuple[float, float]]] = {}
    for (load, subject), group in groups(windows).items():
        series.setdefault(f"{subject} {load.label.partition(' x ')[2]}", []).append((load.cameras, max(1.0, median(group).all_us)))
    return draw(series, "CPU us per stream-second, all processes", "cameras", logarithmic=True)
