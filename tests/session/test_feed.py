"""What a track's feed tells its tape about gaps."""

import pytest

from recorder._ext.auqueue import AuQueue
from recorder.base.config import RetentionRule
from recorder.base.media import GapCause, TrackKind
from recorder.feed import TrackFeed
from tests.session.tapes import MemoryTapes


@pytest.mark.parametrize(("end_ns", "start_ns"), [(5_000, 9_000), (0, None)])
async def test_no_key_frame_after_a_crash_leaves_the_crash_its_time(end_ns: int, start_ns: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recovery has a gap open; the session that follows it has brought nothing yet: its cause counts from now on only."""
    tapes = MemoryTapes()
    feed = await TrackFeed.open(tapes, 1, "main", TrackKind.VIDEO, 90_000, RetentionRule(), AuQueue(1 << 20, 256))
    calls: list[tuple[GapCause, int | None]] = []
    tape = tapes.by_name[1, "main"]
    tape.end_ns = end_ns
    monkeypatch.setattr(tape, "open_gap", lambda cause, start_ns=None, detail="": calls.append((cause, start_ns)))
    feed.session = 4
    feed.open_gap(GapCause.NO_KEYFRAME, 9_000)
    assert calls == [(GapCause.NO_KEYFRAME, start_ns)]
