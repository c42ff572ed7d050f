"""A ring that lost rows, wherever: what has expired goes in time and not before, and what is held stays."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from held import NS, hold
from rig import Camera, Rig

from recorder.base.config import RetentionRule
from recorder.base.media import TrackKind
from storage import retention
from storage.events import NotSealed
from storage.layout import PAGE, SMALL, track_path
from storage.tape import TapeWriter

Make = Callable[..., Rig]
DAY = 86_400
ROWS = 300          # of a second each, in six chunks


def recorded(make_rig: Make, *, over: bool = False, size: int = 20_000) -> tuple[Rig, TapeWriter, Camera]:
    """Chunks of audio, the newest still open unless the track has fallen silent for good (`over`)."""
    rig = make_rig(quarantine_s=60.0)
    writer, audio = rig.track(name="audio", kind=TrackKind.AUDIO, size=size, gop=1, fps=1, rule=RetentionRule(days=1.0))
    for _ in range(ROWS // 10):
        audio.put(10)
        rig.turn()
        rig.clock.advance(10)
    if over:
        writer.end_session(audio.session, rig.clock.wall_ns(), "over")
        for _ in range(3):
            rig.turn()
            rig.clock.advance(1000)
    return rig, writer, audio


def lose(rig: Rig, rows: range) -> None:
    """These rows are garbage in the ring."""
    work = rig.slot._works[1, "audio"]
    for number in rows:
        os.pwrite(work.ring.fd, b"\xff" * 64, PAGE + number % work.ring.capacity * 64)


def spoil(rig: Rig, at: int) -> None:
    """Every sealed chunk of the track is damaged there."""
    for path in chunks(rig):
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"\xff" * 64)


def chunks(rig: Rig) -> list[Path]:
    return sorted((rig.path / track_path(1, "audio") / "c").iterdir(), key=lambda path: int(path.name))


def an_hour(rig: Rig) -> None:
    for _ in range(3600 // 20):
        rig.clock.advance(20)
        rig.turn()


@pytest.mark.parametrize("seed", range(8))
def test_rows_that_a_ring_lost_go_when_their_days_are_over_to_the_row(make_rig: Make, seed: int) -> None:
    rig, _, _ = recorded(make_rig)
    work = rig.slot._works[1, "audio"]
    limits = [work.core.end_ns - ROWS * NS + random.Random(seed).randrange(-5, ROWS + 5) * NS + n for n in range(-1, 2)]
    right = [retention.expired_row(work, limit) for limit in limits]
    rng = random.Random(seed)
    for _ in range(rng.randrange(1, 4)):
        first = rng.randrange(work.safe_row)
        lose(rig, range(first, min(first + rng.randrange(1, ROWS), work.safe_row)))
    assert [retention.expired_row(work, limit) for limit in limits] == right


@pytest.mark.parametrize("seed", range(8))
def test_rows_of_which_no_copy_is_left_never_go_early_and_go_with_their_chunk(make_rig: Make, seed: int) -> None:
    rig, _, _ = recorded(make_rig)
    work = rig.slot._works[1, "audio"]
    rng = random.Random(seed)
    limit_ns = work.core.end_ns - rng.randrange(ROWS) * NS
    right = retention.expired_row(work, limit_ns)
    heads = [head for number in range(6) if (head := retention.retirable(rig.volume, work, number)) is not None]
    whole = max((head.first_row + head.rows for head in heads if head.end_ns <= limit_ns), default=0)
    spoil(rig, SMALL.footer_start + 40)
    first = rng.randrange(work.safe_row)
    lose(rig, range(first, min(first + rng.randrange(1, ROWS), work.safe_row)))
    assert whole <= retention.expired_row(work, limit_ns) <= right


@pytest.mark.parametrize("damage", ["rows", "rows and footers", "rows and heads", "the newest chunk's rows before it was sealed"])
def test_a_silent_track_whose_ring_is_damaged_to_its_end_is_gone_an_hour_after_its_days(make_rig: Make, damage: str) -> None:
    if damage.startswith("the newest"):
        rig, writer, audio = recorded(make_rig, size=5_000)
        work = rig.slot._works[1, "audio"]
        assert work.chunk is not None and work.chunk.first_row < work.core.ring_rows
        lose(rig, range(work.chunk.first_row, work.core.ring_rows))
        writer.end_session(audio.session, rig.clock.wall_ns(), "over")
        rig.turn()
    else:
        rig, _, audio = recorded(make_rig, over=True)
        lose(rig, range(ROWS // 2, rig.core(name="audio").next_row))
        if damage != "rows":
            spoil(rig, SMALL.footer_start + 40 if "footers" in damage else 2048)
    rig.clock.advance(DAY + 60)
    for _ in range(3):
        rig.turn()
    assert any(isinstance(event, NotSealed) for event in rig.events) == damage.startswith("the newest")
    core = rig.core(name="audio")
    assert core.tail_row == core.next_row, "all of it is out of sight"
    an_hour(rig)
    written = rig.slot._works[1, "audio"].next_number
    assert [path.name for path in chunks(rig) if int(path.name) < written] == []
    data = [path.read_bytes() for path in rig.path.rglob("*") if path.is_file() and path.stat().st_size == SMALL.file_bytes]
    assert not any(au[:48] in file for au in audio.sent[::23] for file in data)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("footers", [True, False])
def test_what_is_held_stays_though_the_ring_has_lost_it(make_rig: Make, seed: int, footers: bool) -> None:
    rig, _, audio = recorded(make_rig, over=True)
    rng = random.Random(seed)
    low = rng.randrange(20, 200)
    high = low + rng.randrange(10, 60)
    rig.slot.hold(hold(1, audio.start_ns + low * NS, audio.start_ns + high * NS, track="audio"))
    first = max(0, rng.randrange(low - 20, high))
    lose(rig, range(first, min(first + rng.randrange(20, 120), rig.core(name="audio").next_row)))
    if not footers:
        spoil(rig, SMALL.footer_start + 40)
    rig.clock.advance(DAY + 60)
    an_hour(rig)
    kept = b"".join(path.read_bytes() for path in (rig.path / f"{track_path(1, 'audio')}.held/c").iterdir())
    assert all(au in kept for au in audio.sent[low:high])
    assert not any(au in kept for au in (audio.sent[0], audio.sent[-1])) or not footers


def test_a_long_stretch_of_damaged_chunks_does_not_stop_the_ring(make_rig: Make) -> None:
    """Behind 16 chunks without a head nothing of a track was ever retired again, and its volume was full for good."""
    rig = make_rig(quarantine_s=0.0)
    _, audio = rig.track(name="audio", kind=TrackKind.AUDIO, size=100_000, gop=1, fps=1, rule=RetentionRule(days=1.0))
    rig.run(audio, 240)
    work = rig.slot._works[1, "audio"]
    assert work.next_number > 22
    for path in chunks(rig)[:20]:
        with path.open("r+b") as file:
            file.seek(2048)
            file.write(bytes(64))
    head = retention.retirable(rig.volume, work, 0)
    good = retention.chunk_head(rig.volume, work, 20)
    assert head is not None and good is not None and (head.chunk, head.first_row) == (0, good.first_row)
    rig.clock.advance(2 * DAY)
    for _ in range(4):
        rig.turn()
    assert int(chunks(rig)[0].name) >= 20
