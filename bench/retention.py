"""`watchroom bench retention`: weeks of recording in minutes, and every promise of retention looked at all the time.

The clock is simulated; writer, keeper, journal, ledger and files are the real ones. Two runs: a site whose rules of days and bytes go by
cameras, partners and sites, with a camera that falls silent, one that is removed, and days switched off; then a full ring that is written over
again and again. What is on the disk is searched for in the volume's files (tests/crash/test_expired.py searches images of file systems).
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.chart import draw
from bench.disk_search import chunk_space, other_space
from bench.machine import describe, orderly
from bench.progress import Progress
from bench.promises import Promise, Witness
from bench.report import about_line, add_report_arguments, table, write_reports
from bench.simulated import SimSite, SimTrack
from recorder.base.config import GroupRule, RetentionRule, SiteConfig, TrackRule
from recorder.base.media import NS, TrackKind
from recorder.base.rulebook import Member, RuleBook, rule_book
from storage.layout import LARGE, SMALL

HOUR_S, DAY_S, WEEK_S = 3600, 86_400, 604_800
NORTH, WEST = GroupRule(days=1.0, name="north"), GroupRule(bytes_max=40 * SMALL.file_bytes, name="west")
MEMBERS = (Member(1, "gate", rule=RetentionRule(days=0.05, audio=TrackRule(days=0.04))),
           Member(2, "hall", "north"), Member(3, "yard", "north"),
           Member(4, "door", rule=RetentionRule(bytes_max=24 * SMALL.file_bytes)),
           Member(5, "east", site="west"), Member(6, "roof", site="west"), Member(7, "lift", rule=RetentionRule(days=0.75)))
SILENT_S = 12 * HOUR_S      # the yard's camera: so long it answers, so long it does not
SITE_BYTES = 1 << 30
RING_CHUNKS, RING_TRACKS = 24, 2
RING_TURN_S = 2.0
SETTLE_S = 2 * HOUR_S
EVER_S = 1e12


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one run. `space`: (hours, MB of chunk files, MB of all else) as time went by."""

    name: str
    simulated_s: float
    seconds: float
    aus: int
    chunks: int
    promises: list[Promise]
    events: dict[str, int]
    space: list[tuple[float, float, float]]

    @property
    def good(self) -> bool:
        """True if every promise was kept, and each was looked at."""
        return all(not promise.broken and promise.looks for promise in self.promises)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.description = __doc__
    add = parser.add_argument
    add("--weeks", type=float, default=2.0, help="of the site (2)")
    add("--off-days", type=float, default=2.0, help="days switched off after three quarters of them (2)")
    add("--laps", type=float, default=20.0, help="of the full ring (20)")
    add("--step", type=float, default=20.0, help="seconds of simulated time between looks (20; more than 30 sees less)")
    add("--search-hours", type=float, default=6.0, help="from search to search of the volume's files (6)")
    add("--folder", type=Path, help="where the volumes lie (default: the folder for temporary files)")
    add_report_arguments(parser)


def site_tracks() -> list[SimTrack]:
    """The tracks of the site."""
    sound = [SimTrack(member.number, "audio", TrackKind.AUDIO, 3000, 10.0) for member in MEMBERS]
    return [SimTrack(1, "main", TrackKind.VIDEO, 40_000, 10.0), *sound]


def site_book() -> RuleBook:
    """The rules of the site."""
    config = SiteConfig("bench", Path("state"), retention=RetentionRule(days=31.0), partners=(NORTH,), sites=(WEST,))
    return rule_book(config, MEMBERS)


class Run:
    """A simulated site with its witness; space is noted each `search_hours`."""

    def __init__(self, name: str, site: SimSite, book: RuleBook, search_s: float, *, full: bool = False) -> None:
        self.name, self.site, self.search_s = name, site, search_s
        site.rules.tell(book)
        self.witness = Witness(site, book, full=full)
        self.space: list[tuple[float, float, float]] = []
        self._began_s, self._begin_ns, self._searched_ns = time.monotonic(), site.clock.wall_ns(), site.clock.wall_ns()

    @property
    def gone_s(self) -> float:
        """Simulated seconds so far."""
        return (self.site.clock.wall_ns() - self._begin_ns) / NS

    def turn(self, seconds: float) -> None:
        """A turn and its looks."""
        self.site.turn(seconds)
        self.witness.after_turn()
        if self.site.clock.wall_ns() - self._searched_ns >= self.search_s * NS:
            self._searched_ns = self.site.clock.wall_ns()
            self.witness.search()
            self.space.append((self.gone_s / HOUR_S, chunk_space(self.site.path) / 1e6, other_space(self.site.path) / 1e6))

    def end(self, extra: Sequence[Promise] = ()) -> Outcome:
        """The looks at the end."""
        self.witness.search()
        self.witness.read_ledger()
        self.witness.read_all()
        self.site.stop()
        promises = [*self.witness.promises, *extra]
        return Outcome(self.name, round(self.gone_s), round(time.monotonic() - self._began_s, 1), sum(t.number for t in self.site.tracks),
                       self.site.events["Retired"], [p for p in promises if p.looks], dict(self.site.events), self.space)


def run_site(folder: Path, total_s: float, off_s: float, step_s: float, search_s: float) -> Outcome:
    """The site for so long: a camera silent for half of the time, one removed in the middle, `off_s` switched off after three quarters."""
    tracks = site_tracks()
    site = SimSite(folder, tracks, SITE_BYTES)
    run = Run("a site with rules", site, site_book(), search_s)
    yard, lift = tracks[3], tracks[7]
    site.start()
    run.witness.switched_on()
    off_at_s, total_s = 0.75 * total_s if off_s else EVER_S, total_s + off_s
    with Progress("site", total_s) as progress:
        while run.gone_s < total_s:
            run.turn(step_s)
            silent = run.gone_s % (2 * SILENT_S) >= SILENT_S
            if silent != yard.silent:
                (site.stall if silent else site.begin)(yard)
            if run.gone_s > (total_s - off_s) / 2 and not lift.removed:
                site.remove(lift)
            if run.gone_s > off_at_s:
                off_at_s = EVER_S
                _off_and_on(run, off_s)
            progress.reach(run.gone_s, f"day {run.gone_s / DAY_S:.1f}, {site.events['Retired']} chunks retired")
        for _ in range(int(SETTLE_S / step_s)):
            run.turn(step_s)
    return run.end()


def _off_and_on(run: Run, off_s: float) -> None:
    run.site.stop()
    run.site.clock.advance(off_s)
    run.site.start()
    run.witness.switched_on()


def run_ring(folder: Path, laps: float) -> Outcome:
    """A full ring at full rate: nothing but room decides."""
    tracks = [SimTrack(number, "main", TrackKind.VIDEO, 20_000, 0.04) for number in range(1, RING_TRACKS + 1)]
    site = SimSite(folder, tracks, RING_CHUNKS * LARGE.file_bytes)
    book = rule_book(SiteConfig("bench", Path("state"), retention=RetentionRule(days=31.0)), [Member(1, "a"), Member(2, "b")])
    run = Run("a full ring", site, book, 120.0, full=True)
    space = Promise("once the ring is full its space on the disk never changes", 0, "bytes of change")
    order = Promise("the oldest of all tracks goes first", 2, "chunks apart")
    site.start()
    wanted, full = laps * RING_CHUNKS, 0
    with Progress("laps of a full ring", wanted) as progress:
        while site.events["Retired"] < wanted:
            run.turn(RING_TURN_S)
            if site.events["Retired"] >= RING_CHUNKS:
                full = full or chunk_space(site.path)
                space.look(abs(chunk_space(site.path) - full), "the space of chunk files has changed")
                firsts = [site.reader(track).edges() for track in tracks]
                chunk_s = LARGE.tape_bytes / (tracks[0].size / tracks[0].every_s)
                apart = abs(firsts[0].first_ns - firsts[1].first_ns) / NS / chunk_s
                order.look(apart, f"one track begins {apart:.1f} chunks before the other")
            progress.reach(site.events["Retired"], f"lap {site.events['Retired'] / RING_CHUNKS:.1f}")
    return run.end([space, order])


def text_of(outcomes: Sequence[Outcome], about: dict[str, str]) -> str:
    """The outcomes as Markdown."""
    lines = []
    for found in outcomes:
        lines += [f"**{found.name}**: {found.simulated_s / DAY_S:.2f} days in {found.seconds:.0f} s, {found.aus:,} AUs recorded, "
                  f"{found.chunks:,} chunks retired.", "", table(("promise", "looks", "worst", "verdict"), map(_row, found.promises)), ""]
        lines += [f"* {fault}" for promise in found.promises for fault in promise.faults]
        lines += [""] if any(promise.faults for promise in found.promises) else []
        if found.space:
            chunks, other = [mb for _, mb, _ in found.space], [mb for _, _, mb in found.space]
            lines += [f"Chunk files take {min(chunks):,.0f} to {max(chunks):,.0f} MB, all else {other[0]:,.1f} to {other[-1]:,.1f} MB.", ""]
    return "\n".join([*lines, about_line(about), ""])


def _row(promise: Promise) -> tuple[object, ...]:
    verdict = "kept" if not promise.broken else f"BROKEN {promise.broken} times"
    return promise.text, f"{promise.looks:,}", f"{promise.worst:.3g} {promise.unit}", verdict


def chart(outcomes: Sequence[Outcome]) -> str:
    """Space over time."""
    series = {f"{found.name}, {what}": [(point[0], point[column]) for point in found.space]
              for found in outcomes for column, what in ((1, "chunks"), (2, "all else"))}
    return draw(series, "MB on the disk", "hours of simulated time")


def run(args: argparse.Namespace) -> list[Outcome]:
    """Both runs, or the one that is wanted."""
    root = Path(tempfile.mkdtemp(prefix="retention-", dir=args.folder))
    try:
        outcomes = []
        if args.weeks:
            outcomes.append(run_site(root / "site", args.weeks * WEEK_S, args.off_days * DAY_S, args.step, args.search_hours * HOUR_S))
        if args.laps:
            outcomes.append(run_ring(root / "ring", args.laps))
        return outcomes
    finally:
        shutil.rmtree(root, ignore_errors=True)


def main(args: argparse.Namespace) -> int:
    """Run and print; 1 if a promise was broken."""
    if args.weeks < 0 or args.laps < 0 or not args.weeks + args.laps or min(args.step, args.search_hours) <= 0 or args.off_days < 0:
        print("bench retention: --weeks and --laps not both 0, they and --off-days not below 0, --step and --search-hours above 0",
              file=sys.stderr)
        return 2
    try:
        with orderly():
            outcomes = run(args)
    except (RuntimeError, OSError) as error:
        print(f"bench retention: {error}", file=sys.stderr)
        return 1
    about = describe(args.folder or Path(tempfile.gettempdir()))
    text = text_of(outcomes, about)
    write_reports(args, values={"about": about, "outcomes": [asdict(found) for found in outcomes]}, text=text, chart=chart(outcomes))
    print(text)
    return int(not all(found.good for found in outcomes))
