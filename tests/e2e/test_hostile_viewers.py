"""Viewers that vanish, stall, flood and talk nonsense: recording beside them loses nothing, the API stays small, and others are served."""

import asyncio
import re
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.camsim.process import SimProcess
from bench.load import Load
from bench.site import Site, wait_until
from bench.subjects import Bench, recorded, site_of, tape_loss, tracks
from bench.window import Plan, playing
from tests.e2e.hostile import CREW, Attack, Target, attack, first_fragment_s
from tests.e2e.hostile_media import MEDIA_CREW

pytestmark = pytest.mark.live

LOAD = Load(16, 1000)
SECONDS = 25.0
REACHED = ({"watchroom_live_tracks": 16},
           {'watchroom_whep_sessions{state="playing"}': 3, "watchroom_whep_plis_total": 100, "watchroom_whep_nacked_total": 1000,
            'watchroom_webrtc_datagrams_refused_total{kind="stranger"}': 1000, 'watchroom_rtsp_viewers{transport="tcp"}': 10})
RSS_MORE_KB = 600 << 10       # 48 of the crew do not read: 4 MiB of what is live for each, and of the playback of 24 of them up to 16 MiB


@dataclass
class Beside:
    """A site that records, its simulation, and what was seen of its API."""

    bench: Bench
    site: Site
    peak_kb: int = 0
    lags_ms: list[float] = field(default_factory=list)
    firsts_s: list[float] = field(default_factory=list)
    seen: dict[str, float] = field(default_factory=dict)          # the most that each metric of viewers said

    @property
    def target(self) -> Target:
        return Target(self.site.port, tuple(f"cam-{n}" for n in range(LOAD.cameras)), self.site.rtsp_port, self.site.webrtc_port)

    def rss_kb(self) -> int:
        (pid,) = self.site.api_pids()
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        assert found
        return int(found[1])

    async def look(self) -> None:
        """Every half second: memory, the loop's lag, and how long a good viewer waits."""
        while True:
            self.peak_kb = max(self.peak_kb, self.rss_kb())
            self.lags_ms.append(await asyncio.to_thread(self._lag_ms))
            self.firsts_s.append(await first_fragment_s(self.target, "127.0.2.1"))
            await asyncio.sleep(0.5)

    def _lag_ms(self) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.site.port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        for line in re.findall(r"^watchroom_(?:whep|webrtc|rtsp|live)_.*", text, re.MULTILINE):
            name, value = line.rsplit(" ", 1)
            self.seen[name] = max(self.seen.get(name, 0.0), float(value))
        found = re.search(r"^watchroom_api_loop_lag_milliseconds ([\d.e+-]+)$", text, re.MULTILINE)
        assert found
        return float(found[1])

    async def under(self, crew: dict[Attack, int], seconds: float, seed: int) -> None:
        """An attack, looked at."""
        looking = asyncio.create_task(self.look())
        await attack(self.target, seconds, seed, crew)
        if looking.done():
            looking.result()
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Beside]:
    with (tempfile.TemporaryDirectory(prefix="wr-") as folder,
          SimProcess([*LOAD.sim_options(tmp_path / "clips"), "--size", "320x184", "--timeout", "120"]) as sim):
        bench = Bench(sim, LOAD, Plan(10.0, 60.0, 1, lambda _: None), Path(folder) / "site", whole=True, core=None)
        bench.folder.mkdir()
        site = site_of(bench)
        with site:
            wait_until(lambda: len(playing(sim, 0)) >= LOAD.cameras and recorded(site, LOAD) >= LOAD.cameras, 300, "all cameras recorded")
            yield Beside(bench, site)
        site.clean()


@pytest.mark.parametrize("crew", [CREW, MEDIA_CREW], ids=["http", "webrtc and rtsp"])
def test_recording_beside_hostile_viewers_loses_nothing_and_good_viewers_are_served(
        crew: dict[Attack, int], beside: Beside, seed: int, record_property: Callable[[str, object], None]) -> None:
    base_kb, pid = beside.rss_kb(), beside.site.api_pids()
    asyncio.run(beside.under(crew, SECONDS, seed))
    assert beside.site.api_pids() == pid, "the API has not ended"
    dropped = sum(track["dropped_aus"] for _, track in tracks(beside.site, LOAD))
    beside.site.stop()
    loss = tape_loss(beside.site, beside.bench, 0)
    record_property("API's memory before and at most, MB", (base_kb >> 10, beside.peak_kb >> 10))
    record_property("loop's lag at most, ms", round(max(beside.lags_ms)))
    record_property("a good viewer's first picture, at most, s", round(max(beside.firsts_s), 2))
    assert (dropped, loss["missing"], loss["wrong"]) == (0, 0, 0)
    assert loss["recorded"] > LOAD.cameras * SECONDS
    assert beside.peak_kb - base_kb < RSS_MORE_KB
    assert len(beside.firsts_s) > 3, "who means well is served"
    for name, least in REACHED[crew is MEDIA_CREW].items():
        assert beside.seen.get(name, 0) >= least, f"the crew has not come so far: {name} {beside.seen}"
