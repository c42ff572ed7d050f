"""`/metrics` in a form that Prometheus reads, with nothing that a camera or a client could inject."""

import re
import struct
from collections import Counter
from typing import Any

from api import keys
from api.metrics import Page
from api.side import SIDE
from storage.layout import LIVE_HEAD
from tests.storage_read.reference_writer import gop

SAMPLE = re.compile(r'([a-z_:][a-z0-9_:]*)(\{(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+\})? (-?[0-9.e+]+)')
STATUS = {
    "slot": 0,
    "volume_failed": False,
    "volumes": [{"failed": "Input/output error", "kbps": 4000, "drain": False, "slow": True, "proven": False}],
    "commit_ms": 31.5,
    "evil name{}": 1,
    "loop_lag_counts": [1, 2],
    "cameras": {
        "north": {
            "number": 1,
            "state": "recording",
            "tracks": {"main": {"codec": 'avc1"} 1\nevil 1', "kbps": 4000, "bytes": 10**15, "aus": 7, "lost_packets": 2}},
        },
        "yard": {"number": 2, "state": "offline", "cause": "auth"},
    },
}


def samples(text: str) -> dict[str, float]:
    """Every sample by name and labels; fails on a line that is none, a sample without TYPE, a family given twice."""
    found, types = {}, Counter()
    family = ""
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            family = line.split()[2]
            types[family] += 1
        elif not line.startswith("# HELP"):
            match = SAMPLE.fullmatch(line)
            assert match and match[1] == family, line
            assert match[1] + (match[2] or "") not in found
            found[match[1] + (match[2] or "")] = float(match[3])
    assert set(types.values()) == {1}
    return found


async def test_the_figures_are_the_slots(api: Any) -> None:
    api.served.app[keys.STATUS].record(0, STATUS)
    answer = await api.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = samples(answer.body.decode())
    assert found['watchroom_cameras{state="recording"}'] == found['watchroom_cameras{state="offline"}'] == 1
    assert found['watchroom_track_bytes_total{camera="north",track="main"}'] == 10**15
    assert found['watchroom_track_lost_packets_total{camera="north",track="main"}'] == 2
    assert found['watchroom_slot_commit_ms{slot="0"}'] == 31.5
    assert found['watchroom_slot_volume_failed{slot="0"}'] == 0
    assert found['watchroom_slot_up{slot="0"}'] == 1
    assert found['watchroom_volume_free_bytes{volume="0"}'] > 0
    assert found['watchroom_volume_failed{volume="0"}'] == found['watchroom_volume_slow{volume="0"}'] == 1
    assert found['watchroom_volume_proven{volume="0"}'] == 0
    assert found['watchroom_volume_kilobits_per_second{volume="0"}'] == 4000
    assert "watchroom_api_loop_lag_milliseconds" in found
    assert not [name for name in found if "evil" in name]


async def test_the_age_of_the_last_commit_needs_no_worker(api: Any, volume: Any) -> None:
    track = volume.track(1, "main")
    track.write_row(gop())
    track.commit()
    labels = f'{{slot="0",volume="{volume.uuid}"}}'
    struct.pack_into("<q", volume.map, LIVE_HEAD.fields["commit_ns"][1], api.clock.wall_ns() - 2_500_000_000)
    found = samples((await api.get("/metrics")).body.decode())
    assert found[f"watchroom_commit_age_seconds{labels}"] == 2.5
    assert f"watchroom_commits_total{labels}" in found


async def test_answers_are_counted_by_status(api: Any) -> None:
    await api.get("/nothing")
    await api.get("/healthz")
    found = samples((await api.get("/metrics")).body.decode())
    assert found['watchroom_api_answers_total{status="404"}'] == 1
    assert found['watchroom_api_answers_total{status="200"}'] >= 1


async def test_a_disk_that_hangs_costs_its_own_figures_only(api: Any) -> None:
    side = api.served.app[SIDE]
    side._waiting = 0  # as if all places were taken
    answer = await api.get("/metrics")
    names = [name for name in samples(answer.body.decode()) if name.startswith("watchroom_volume")]
    assert answer.status == 200 and all("read" in name for name in names), "only what readers met"
    assert (await api.get("system")).status == 503
    assert (await api.get("cameras")).status == 200


def test_a_label_cannot_break_out() -> None:
    page = Page()
    page.family("x", "gauge", "X.", [({"a": 'b"} 1\nevil{c="\\'}, 1)])
    assert samples(page.text()) == {'x{a="b\\"} 1\\nevil{c=\\"\\\\"}': 1.0}


async def test_signing_is_told_of_sites_that_sign(api: Any, supervisor: Any) -> None:
    token = await api.token("metrics")
    told = samples((await api.get("/metrics", token=token)).body.decode())
    assert not any(name.startswith("watchroom_signing") for name in told), "it signs nothing"
    now_ns = api.served.app[keys.CLOCK].wall_ns()
    one = {"volume": 0, "signed_ns": now_ns - 3_600_000_000_000, "failed": False, "overdue": True, "message": "signing.key /etc/x: is missing"}
    supervisor.more["signing"] = lambda args: {"volumes": [one, {**one, "volume": 1, "signed_ns": 0, "overdue": False}]}
    text = (await api.get("/metrics", token=token)).body.decode()
    told = samples(text)
    assert told['watchroom_signing_failed{volume="0"}'] == 1
    assert told['watchroom_signing_failed{volume="1"}'] == 0
    assert 3600 <= told['watchroom_signing_age_seconds{volume="0"}'] < 7200
    assert 'watchroom_signing_age_seconds{volume="1"}' not in told
    assert "/etc/x" not in text
